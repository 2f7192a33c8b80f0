/* SPDX-License-Identifier: Apache-2.0 */
/* How much work a worker is given ahead. Per function a moving average of the execution time is kept; short functions are put
 * behind one another at a worker, so that its runner never waits for the way here and back, long ones never wait behind another. */
#ifndef MANAGER_PREFETCH_H
#define MANAGER_PREFETCH_H
#include <stdint.h>
#include "common/ids.h"

#define PREFETCH_LONG_NS 5000000	/* a function that takes this long is never put behind another call */
#define PREFETCH_AHEAD_NS 2000000	/* what stands ahead at a worker takes at most this long */
#define PREFETCH_SAMPLES 4		/* calls that must have been seen before an average is trusted */
#define PREFETCH_MAX 16			/* and is at most so many tasks */
#define PREFETCH_QUEUE_NS 20000000	/* the manager's queue holds about this much work per worker */
#define PREFETCH_QUEUE_MIN 2		/* tasks per worker */
#define PREFETCH_QUEUE_MAX 64
#define PREFETCH_FUNCTIONS 4096		/* averages kept; over it all start anew */

struct prefetch;
struct prefetch *prefetch_create (void);
void prefetch_destroy (struct prefetch **p);
void prefetch_note (struct prefetch *p, const struct id *function, int64_t execution_ns);	/* negative ones are ignored */
/* How many tasks of this function may stand at a worker behind the one that runs: 0 while long or not known well. */
unsigned prefetch_depth (const struct prefetch *p, const struct id *function);
int64_t prefetch_average_ns (const struct prefetch *p, const struct id *function);	/* -1 = unknown */
/* The same over all functions, rounded down to a power of two so that the window does not change with each result. */
unsigned prefetch_depth_all (const struct prefetch *p);
unsigned prefetch_queue (const struct prefetch *p);	/* tasks per worker that the manager's own queue should hold */

#endif
