/* SPDX-License-Identifier: Apache-2.0 */
/* TASK, TASK_STATE, OUTPUT and records of bare ids (TASK_RETURN, CANCEL, FOLLOW, RESULT_ACK, FUNCTION_MISSING): SPEC.md, 3 and 3.2. */
#ifndef PROTO_MSG_TASK_H
#define PROTO_MSG_TASK_H
#include <zmq.h>
#include "proto/msg_bulk.h"
#include "proto/msg_files.h"
#include "proto/msg_resources.h"

/* Stamps, SPEC.md section 4. A TASK has the first STAMP_TASK_SLOTS, a RESULT all. */
enum msg_stamp {
	STAMP_RECEIVED, STAMP_QUEUED, STAMP_FORWARDER_READ, STAMP_FORWARDER_SENT,
	STAMP_ENDPOINT_RECEIVED, STAMP_ENDPOINT_SENT, STAMP_MANAGER_RECEIVED, STAMP_MANAGER_SENT,
	STAMP_WORKER_RECEIVED, STAMP_EXECUTION_START, STAMP_EXECUTION_END, STAMP_WORKER_SENT,
	STAMP_MANAGER_RESULT, STAMP_ENDPOINT_RESULT, STAMP_FORWARDER_RESULT, STAMP_SERVICE_RESULT,
	STAMP_SLOTS,
};
#define STAMP_TASK_SLOTS 8
const char *msg_stamp_name (int slot);			/* "received", "forwarder_read", ... */

enum msg_state {
	STATE_RECEIVED = 0, STATE_WAITING_FOR_EP = 1, STATE_WAITING_FOR_NODES = 2, STATE_WAITING_FOR_LAUNCH = 3,
	STATE_RUNNING = 4, STATE_SUCCESS = 5, STATE_FAILED = 6, STATE_CANCELLED = 7,
};
const char *msg_state_name (int state);			/* "waiting-for-ep", ... */
static inline bool msg_state_ended (int state) { return state >= STATE_SUCCESS; }

enum {
	TASK_JSON = 1,			/* the payload is JSON text made by the service */
	TASK_BULK = 2,			/* it is a bulk reference */
	TASK_FRESH = 4,			/* no earlier result: run it */
	TASK_AS_JSON = 8,		/* of kind globus: its result as 11, if that can be */
	TASK_AS_ALL = 16,		/* likewise as 13, next; else as ever */
	TASK_MEANT = TASK_JSON | TASK_AS_JSON | TASK_AS_ALL,	/* what the bytes of payload and result mean */
};

struct msg_task {
	uint8_t flags, attempt;
	struct id task, function;
	uint32_t time_limit_ms;
	uint64_t memory_limit_bytes;
	uint32_t max_result_bytes, expected_ms;
	int64_t stamps[STAMP_TASK_SLOTS];
	struct wire_str payload;
	struct wire_str files;		/* a list of msg_files.h, not looked at here; empty = none */
	struct wire_str resources;	/* a record of msg_resources.h, likewise */
	uint32_t payload_bytes;		/* decoded: of the data itself, when the payload is a reference */
	struct bulk_ref bulk;		/* decoded: with TASK_BULK */
};
/* Append the record. With payload.p NULL and payload.n > 0 only the fixed part is written, for a payload that follows. */
void msg_task_encode (struct buf *b, const struct msg_task *m, int major);
int msg_task_decode (struct msg_task *m, const void *p, size_t n, struct err *err);
/* In place, on a frame that msg_task_decode accepted: set a stamp, the attempt. */
void msg_task_stamp (void *frame, enum msg_stamp slot, int64_t ns);
void msg_task_set_attempt (void *frame, uint8_t attempt);
/* The ids only, from a frame of at least the shortest fixed part (checked): for peeking. */
int msg_task_ids (const void *p, size_t n, struct id *task, struct id *function);

struct msg_task_state { uint8_t state; struct id task; int64_t time_ns; };
void msg_task_state_encode (struct buf *b, const struct msg_task_state *m);
int msg_task_state_decode (struct msg_task_state *m, const void *p, size_t n, struct err *err);

#define CANCEL_ANSWER_MINOR 4	/* an endpoint that does not have the task says so, with TASK_RETURN */

/* What a call has printed so far, [0] stdout, [1] stderr: all bytes, and the last of them. */
struct msg_output { struct id task; uint64_t total[2]; struct wire_str text[2]; };
void msg_output_encode (struct buf *b, const struct msg_output *m);
int msg_output_decode (struct msg_output *m, const void *p, size_t n, struct err *err);

/* Bare ids: count of ids in the frame, or -1. They are read with msg_ids_get. */
long msg_ids_count (size_t frame_bytes);
void msg_ids_get (const void *p, long i, struct id *out);
/* All ids of a message's records, in order. -1, and no call: a record is no list of ids. */
int msg_ids_each (zmq_msg_t *records, size_t n, void (*each) (const struct id *id, void *arg), void *arg, struct err *err);
/* The same; ahead is told each id some calls earlier, but for the first ones: time to fetch what is known of it. */
int msg_ids_each_ahead (zmq_msg_t *records, size_t n, void (*each) (const struct id *id, void *arg),
			void (*ahead) (const struct id *id, void *arg), void *arg, struct err *err);

#endif
