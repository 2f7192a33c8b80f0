/* SPDX-License-Identifier: Apache-2.0 */
/* Results that the agent makes itself: cancelled, lost, refused, equal to an earlier one. */
#ifndef ENDPOINT_OUTCOME_H
#define ENDPOINT_OUTCOME_H
#include <zmq.h>
#include "endpoint/queue.h"
#include "proto/msg_result.h"

/* out: an uninitialised message, becomes the record. The stamps that the task has are taken over. */
void outcome_make (zmq_msg_t *out, const struct queue_task *t, const char *node, int status, enum err_code code, enum err_fault fault,
		   const char *text);

/* An earlier result of an equal task, a RESULT record, as t's: marked as memoised, with t's own stamps. m: t's record. -1: it is more than t may
 * have, or no result. */
int outcome_again (zmq_msg_t *out, const struct queue_task *t, const struct msg_task *m, struct wire_str earlier);

#endif
