/* SPDX-License-Identifier: Apache-2.0 */
/* How many tasks the agent may leave in our hands (CAPACITY.window_tasks). Pure arithmetic. */
#ifndef MANAGER_WINDOW_H
#define MANAGER_WINDOW_H
#include <stdbool.h>
#include <stdint.h>

#define WINDOW_BYTES ((uint64_t) 256 << 20)	/* of payloads */

struct window_in {
	unsigned up;		/* workers with a session */
	unsigned depth, queue;	/* prefetch_depth_all, prefetch_queue */
	unsigned batch;		/* inputs of the largest batch that is made now; 0 = none */
	bool draining;		/* take nothing */
	bool stuck;		/* all workers are in long calls: what waits here would be better off elsewhere */
};
static inline uint32_t window_tasks (const struct window_in *w)
{
	if (w->draining)
		return 0;
	unsigned each = w->stuck ? 1 : 1 + w->depth + w->queue;
	return w->up * (each > 2 * w->batch ? each : 2 * w->batch);	/* a batch in its call, one that waits */
}

#endif
