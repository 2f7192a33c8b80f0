/* SPDX-License-Identifier: Apache-2.0 */
/* The way back: results are stored in Redis, kept and tried again while it is away or full, and only then acknowledged. */
#ifndef FORWARDER_DONE_H
#define FORWARDER_DONE_H
#include <stdbool.h>
#include <zmq.h>
#include "common/rds.h"
#include "proto/msg_result.h"

struct done;
/* stored: 1 this result was stored, 0 the task had ended before, -1 the task is unknown (expired) or not this endpoint's. */
typedef void done_f (const struct id *task, int stored, void *arg);

struct done *done_create (struct loop *l, struct rds *r, const struct id *endpoint, int64_t retention_ms, done_f *cb, void *arg);
void done_destroy (struct done **d);
/* record: transferred; a valid RESULT of this task. verify: it is not known here that the task is this endpoint's (a result
 * of a session with an earlier forwarder, or a forged one): look first. */
void done_store (struct done *d, const struct id *task, int state, zmq_msg_t *record, bool verify);
/* A failure made here, for a task that never reached the endpoint. */
void done_fail (struct done *d, const struct id *task, enum err_code code, enum err_fault fault, const char *text);
size_t done_pending_bytes (const struct done *d);	/* 0: nothing is waiting to be stored */
void done_flush (struct done *d);		/* what was counted of the endpoint's use, now */
void done_redis_up (struct done *d);	/* Redis is back: try what is left */

#endif
