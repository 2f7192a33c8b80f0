/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between worker and runner: SPEC.md, section 7. */
#ifndef PROTO_MSG_RUNNER_H
#define PROTO_MSG_RUNNER_H
#include "proto/msg_result.h"

enum { RUNNER_FD_IN = 3, RUNNER_FD_OUT = 4 };
/* flags: as in TASK, and these. */
enum {
	RUNNER_OWN_DIR = 256,		/* the call runs in ../task, seen from its runner's directory */
	RUNNER_ENVIRON = 512,		/* it has an environment of its own, on top of its runner's */
};
struct msg_runner_call {
	struct id task, function;
	uint32_t flags, max_result_bytes;
	struct wire_str environ;	/* with RUNNER_ENVIRON, as in msg_resources.h */
	struct wire_str payload;
	struct bulk_ref bulk;		/* decoded: with TASK_BULK */
};
#define RUNNER_BATCH_MAX 4096	/* inputs */
struct msg_runner_input { struct id task; struct wire_str payload; };
struct msg_runner_batch { struct id function; uint32_t flags, max_result_bytes, n; struct wire_str table, payloads; /* read with _next */ };
struct msg_runner_result {
	struct id task;
	uint8_t status, fault, flags;
	uint16_t code;
	int64_t start_ns, end_ns;
	uint64_t cpu_ns, max_rss_bytes;
	struct wire_str result, error, out, errout;
	uint32_t result_bytes;		/* decoded: of the data itself, when the result is a reference */
	struct bulk_ref bulk;		/* decoded: with RESULT_BULK in flags */
};
/* Whole frames, length first. */
void msg_runner_function_encode (struct buf *b, const void *function_record, size_t n);
void msg_runner_call_encode (struct buf *b, const struct msg_runner_call *m);	/* payload.p NULL: its bytes follow */
/* 0 = incomplete, -1 = malformed (over the limit), else the bytes of the frame; type and body are set. */
long msg_runner_frame (const void *p, size_t n, uint8_t *type, struct wire_str *body, struct err *err);
/* Of what a runner writes, by as much of it as is here: the bytes of the whole frame; 0 = too few are here to tell; -1 = it is none that a runner
 * writes, so the rest of it may never come. ready: it has said `I`, and does not again. */
long msg_runner_head (const void *p, size_t n, bool ready, struct err *err);
int msg_runner_call_decode (struct msg_runner_call *m, const void *body, size_t n, struct err *err);	/* for C runners */
/* inputs: m->n of them; its slices are not read. */
void msg_runner_batch_encode (struct buf *b, const struct msg_runner_batch *m, const struct msg_runner_input *inputs);
int msg_runner_batch_decode (struct msg_runner_batch *m, const void *body, size_t n, struct err *err);	/* for C runners */
/* Take the first input off; n times on what was decoded. */
void msg_runner_batch_next (struct msg_runner_batch *m, struct msg_runner_input *out);
void msg_runner_result_encode (struct buf *b, const struct msg_runner_result *m);			/* for C runners */
int msg_runner_result_decode (struct msg_runner_result *m, const void *body, size_t n, struct err *err);
void msg_runner_ready_encode (struct buf *b, const char *json);
int msg_runner_start_decode (struct id *task, int64_t *ns, const void *body, size_t n, struct err *err);
void msg_runner_start_encode (struct buf *b, const struct id *task, int64_t ns);

#endif
