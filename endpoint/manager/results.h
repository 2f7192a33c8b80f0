/* SPDX-License-Identifier: Apache-2.0 */
/* Results that the agent has not acknowledged yet, in the order in which they were made: they are sent again in a new session. */
#ifndef MANAGER_RESULTS_H
#define MANAGER_RESULTS_H
#include <zmq.h>
#include "common/ids.h"
#include "proto/msg_result.h"

struct results;
struct task;
struct results *results_create (void);
void results_destroy (struct results **rs);
/* Keep a second reference to the frame (its bytes are shared). A result of this id that is kept already wins: -1. */
int results_keep (struct results *rs, const struct id *task, zmq_msg_t *frame);
zmq_msg_t *results_find (struct results *rs, const struct id *task);	/* borrowed; NULL: not kept */
void results_ack (struct results *rs, const struct id *task);
size_t results_count (const struct results *rs);
void results_each (struct results *rs, void (*cb) (zmq_msg_t *frame, void *arg), void *arg);	/* oldest first; frame: borrowed */

/* A RESULT made here, for a task whose call did not bring one. The stamps of the task's frame are copied. */
struct results_made {
	uint8_t status, fault;		/* enum msg_status, enum err_fault */
	uint16_t code;			/* enum err_code */
	int32_t detail;
	const char *node, *text;	/* borrowed */
};
/* out: made, to be closed by the caller; left alone on failure (no memory). */
int results_make (zmq_msg_t *out, const struct task *t, const struct results_made *r, int major);

#endif
