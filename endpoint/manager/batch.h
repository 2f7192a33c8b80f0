/* SPDX-License-Identifier: Apache-2.0 */
/* How many inputs a call of a function with a batch entry gets. Per function, by additive increase and multiplicative decrease:
 *
 *     a call within the objective that was full    | the size grows by a step, up to max_batch
 *     a call over the objective                    | the size is half of what the call had, at least 1; the step is a sixteenth of that
 *     a call within it that was not full           | tells nothing: the size stays
 *
 * The objective is the registration's latency_ms, the time that a call may take; without it half of the function's time limit, which holds
 * for the whole call; without both there is none, and the size is max_batch. With an objective it starts at 1, and
 * doubles until the first call that is over it. */
#ifndef MANAGER_BATCH_H
#define MANAGER_BATCH_H
#include "proto/msg_function.h"

#define BATCH_FUNCTIONS 4096		/* sizes kept; over it all start anew */

struct batch;
struct batch *batch_create (void);
void batch_destroy (struct batch **b);
/* 0: the function takes no batches. */
unsigned batch_size (struct batch *b, const struct msg_function *f);
/* A call with n inputs took so long; size: what batch_size said when it was made. */
void batch_note (struct batch *b, const struct msg_function *f, unsigned n, unsigned size, int64_t took_ns);

#endif
