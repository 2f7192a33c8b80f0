/* SPDX-License-Identifier: Apache-2.0 */
/* RESULT: SPEC.md, section 3.2. The same record stands in Redis (field r of the task hash) and in the endpoint's spool. */
#ifndef PROTO_MSG_RESULT_H
#define PROTO_MSG_RESULT_H
#include "proto/msg_task.h"

enum msg_status { STATUS_SUCCESS = 1, STATUS_FAILED = 2, STATUS_CANCELLED = 3 };
enum { RESULT_MEMOISED = 1, RESULT_BASE64 = 2, RESULT_BULK = 4 };

struct msg_result {
	uint8_t status, fault, attempt, flags;
	uint16_t code;			/* enum err_code */
	struct id task;
	int32_t detail;			/* exit status or signal */
	int64_t stamps[STAMP_SLOTS];
	uint64_t cpu_ns, max_rss_bytes;
	struct id image;		/* of the container, see IMAGE; zero = none, or not known */
	struct wire_str result, error, out, errout, node, runtime;	/* out, errout: stdout and stderr tails */
	struct wire_str files;		/* read with msg_files_data_next; empty = none */
	struct wire_str kept;		/* read with msg_files_kept_next; empty = none */
	uint32_t result_bytes;		/* decoded: of the data itself, when the result is a reference */
	struct bulk_ref bulk;		/* decoded: with RESULT_BULK */
};
void msg_result_encode (struct buf *b, const struct msg_result *m, int major);
int msg_result_decode (struct msg_result *m, const void *p, size_t n, struct err *err);
void msg_result_stamp (void *frame, enum msg_stamp slot, int64_t ns);	/* in place, on an accepted frame */
int msg_result_id (const void *p, size_t n, struct id *task);		/* peek; checks the size */
int msg_result_status (const void *p, size_t n);				/* peek; -1: no record */
static inline int msg_status_state (int status)	/* the end state of a status */
{
	return status == STATUS_SUCCESS ? STATE_SUCCESS : status == STATUS_CANCELLED ? STATE_CANCELLED : STATE_FAILED;
}

#endif
