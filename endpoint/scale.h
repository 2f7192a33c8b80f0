/* SPDX-License-Identifier: Apache-2.0 */
/* How many blocks there should be: a decision from figures, without side effects. The rules and their names are Parsl's. */
#ifndef ENDPOINT_SCALE_H
#define ENDPOINT_SCALE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scale_limits {
	int64_t init_blocks, min_blocks, max_blocks;
	int64_t slots_per_block;
	double parallelism;
	int64_t idle_timeout_ms;
};
struct scale_input {
	int64_t tasks;			/* in hand: waiting and with managers */
	int64_t blocks;			/* active: pending, starting and running, not those that are being released */
	int64_t idle_blocks;		/* of them idle for idle_timeout_ms or longer */
	int64_t ending;			/* of them near their end: no capacity for what waits, but blocks all the same */
	bool started;			/* init_blocks were up, and none was lost since */
};
/* What an image that functions name wants: blocks of its own. */
struct scale_wish {
	const char *image;
	int64_t tasks;			/* in hand */
	int64_t nodes;			/* kept whatever the load */
	bool leaving;			/* another image takes its place: idle blocks go at once */
};
/* > 0: start so many; < 0: release so many idle ones; 0: leave it. */
int64_t scale_decide (const struct scale_limits *l, const struct scale_input *in);

#endif
