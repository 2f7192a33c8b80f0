/* SPDX-License-Identifier: Apache-2.0 */
/* Small fixed-size allocations that log and abort on failure. Sizes that come from a peer, a file or a user
 * are bounded first and allocated with plain malloc, which is checked. */
#ifndef COMMON_XMEM_H
#define COMMON_XMEM_H
#include <stddef.h>

void *xcalloc (size_t n, size_t size);
void *xrealloc (void *p, size_t bytes);
char *xstrdup (const char *s);				/* NULL stays NULL */
char *xasprintf (const char *fmt, ...) __attribute__ ((format (printf, 1, 2)));

#endif
