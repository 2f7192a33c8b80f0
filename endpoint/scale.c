/* SPDX-License-Identifier: Apache-2.0 */
/* See scale.h. */
#include "endpoint/scale.h"

#include <math.h>

static int64_t at_most (int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t wanted_by_tasks (const struct scale_limits *l, const struct scale_input *in)
{
	double slots = ceil ((double) in->tasks * l->parallelism);
	int64_t blocks;

	if (in->tasks <= 0)
		return 0;
	blocks = (int64_t) ceil (slots / (double) (l->slots_per_block > 0 ? l->slots_per_block : 1));
	/* parallelism 0: one block serves any number of tasks */
	return blocks < 1 ? 1 : blocks;
}

int64_t scale_decide (const struct scale_limits *l, const struct scale_input *in)
{
	int64_t floor_blocks = in->started ? l->min_blocks : l->init_blocks > l->min_blocks ? l->init_blocks : l->min_blocks;
	int64_t want = wanted_by_tasks (l, in);
	int64_t spare;

	if (want < floor_blocks)
		want = floor_blocks;
	want = at_most (want, l->max_blocks);
	/* what is near its end is replaced before it ends, as far as there may be more */
	if (in->tasks > 0 && want > in->blocks - in->ending && in->blocks < l->max_blocks)
		return at_most (want - (in->blocks - in->ending), l->max_blocks - in->blocks);
	if (want > in->blocks)
		return want - in->blocks;
	/* released one by one: those that have work are not idle, and what is idle waited long enough */
	if (want < l->min_blocks)
		want = l->min_blocks;
	spare = in->blocks - want;
	return -at_most (spare, in->idle_blocks);
}
