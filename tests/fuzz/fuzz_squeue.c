/* SPDX-License-Identifier: Apache-2.0 */
/* What Slurm's commands print: squeue, sacct, sbatch; the first byte says which. Rows are text that points into what was given.
 * fuzz-sources: endpoint/providers/slurm_squeue.c
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "endpoint/providers/slurm.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

struct bounds { const char *from, *to; };

static void inside (const struct bounds *b, const char *s)
{
	/* an empty text may stand elsewhere */
	if (*s && (s < b->from || s + strlen (s) > b->to) && strncmp (s, "exit code ", 10) != 0)
		abort ();
}

static void row (const struct batch_row *r, void *arg)
{
	inside (arg, r->id);
	inside (arg, r->name);
	inside (arg, r->state);
	inside (arg, r->nodes);
	inside (arg, r->reason);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	char id[BATCH_ID_MAX], *text;
	struct bounds b;

	if (n < 1)
		return 0;
	text = malloc (n);
	memcpy (text, data + 1, n - 1);
	text[n - 1] = 0;
	b = (struct bounds) { text, text + n };
	switch (data[0] % 3) {
	case 0: slurm_rows (text, row, &b); break;
	case 1: slurm_history_rows (text, row, &b); break;
	default:
		if (slurm_submitted (text, id) == 0 && id[strspn (id, "0123456789")])
			abort ();
	}
	free (text);
	return 0;
}
