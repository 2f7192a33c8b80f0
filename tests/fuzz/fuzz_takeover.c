/* SPDX-License-Identifier: Apache-2.0 */
/* The notes that an agent leaves about its jobs: what is accepted is within its limits, names only blocks that were, and is written and read again
 * as it is.
 * fuzz-sources: endpoint/takeover.c endpoint/paths.c
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "endpoint/takeover.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

static void demand (int good)
{
	if (!good)
		abort ();
}

static void check (const struct takeover *t)
{
	demand (*t->usable && t->port >= 1 && t->port <= 65535 && t->number <= INT64_MAX && t->n <= TAKEOVER_BLOCKS_MAX);
	for (size_t i = 0; i < t->n; i++) {
		const struct takeover_block *b = &t->v[i];

		demand (b->id[0] == 'b' && b->id[1] && strspn (b->id + 1, "0123456789") == strlen (b->id + 1));
		demand (strtoull (b->id + 1, NULL, 10) <= t->number && *b->job && *b->name && b->nodes >= 1);
	}
}

static void same (const struct takeover *a, const struct takeover *b)
{
	demand (!strcmp (a->usable, b->usable) && a->port == b->port && a->number == b->number && a->n == b->n);
	for (size_t i = 0; i < a->n; i++)
		demand (!strcmp (a->v[i].id, b->v[i].id) && !strcmp (a->v[i].job, b->v[i].job) && !strcmp (a->v[i].name, b->v[i].name)
			&& a->v[i].nodes == b->v[i].nodes);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct takeover t, again;
	char *text = malloc (n + 1), *written;

	memcpy (text, data, n);
	text[n] = 0;
	if (takeover_parse (text, &t) == 0) {
		check (&t);
		written = takeover_text (&t);
		demand (written && takeover_parse (written, &again) == 0);
		same (&t, &again);
		takeover_fini (&again);
		free (written);
	} else {
		demand (!t.v && !t.n);
	}
	takeover_fini (&t);
	free (text);
	return 0;
}
