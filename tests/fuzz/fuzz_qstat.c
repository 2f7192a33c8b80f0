/* SPDX-License-Identifier: Apache-2.0 */
/* What qstat prints, as the PBS provider reads it: every row is whole, its texts have no control characters and are of bounded length.
 * fuzz-sources: endpoint/providers/pbs_qstat.c
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "endpoint/providers/pbs.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

static void check (const char *s, size_t max)
{
	if (!s || strlen (s) > max)
		abort ();
	for (; *s; s++)
		if (*s == '\n')
			abort ();
}

static void row (const struct batch_row *r, void *arg)
{
	size_t *rows = arg;

	++*rows;
	check (r->id, SIZE_MAX);
	check (r->name, SIZE_MAX);
	check (r->state, SIZE_MAX);
	check (r->nodes, 200);
	check (r->reason, 400);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	char *text = malloc (n + 1);
	size_t rows = 0;

	if (!text)
		return 0;
	memcpy (text, data, n);
	text[n] = 0;
	if (pbs_rows (text, row, &rows) == 0 && rows > n)
		abort ();
	free (text);
	return 0;
}
