/* SPDX-License-Identifier: Apache-2.0 */
/* Running out of memory in a small allocation cannot be handled honestly: say so and stop. */
#include "common/xmem.h"
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__ ((noreturn)) static void die (size_t n, size_t size)
{
	log_error ("xmem", "out of memory", "count=%zu bytes=%zu", n, size);
	abort ();
}

void *xcalloc (size_t n, size_t size)
{
	void *p = calloc (n ? n : 1, size ? size : 1);

	if (!p)
		die (n, size);
	return p;
}

void *xrealloc (void *p, size_t bytes)
{
	void *q = realloc (p, bytes ? bytes : 1);

	if (!q)
		die (1, bytes);
	return q;
}

char *xstrdup (const char *s)
{
	char *p;

	if (!s)
		return NULL;
	if (!(p = strdup (s)))
		die (1, strlen (s));
	return p;
}

char *xasprintf (const char *fmt, ...)
{
	va_list ap;
	char *p = NULL;
	int n;

	va_start (ap, fmt);
	n = vasprintf (&p, fmt, ap);
	va_end (ap);
	if (n < 0)
		die (1, 0);
	return p;
}
