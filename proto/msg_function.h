/* SPDX-License-Identifier: Apache-2.0 */
/* FUNCTION: SPEC.md, section 3.2. The same record stands in Redis (weft:fn) and goes to the runner. */
#ifndef PROTO_MSG_FUNCTION_H
#define PROTO_MSG_FUNCTION_H
#include "proto/msg_files.h"

enum msg_kind { KIND_NONE = 0, KIND_GLOBUS = 1, KIND_PYTHON = 2, KIND_COMMAND = 3, KIND_SHARED_OBJECT = 4, KIND_END };
const char *msg_kind_name (int kind);			/* "globus", ...; "?" */
int msg_kind_parse (const char *s);			/* KIND_NONE when unknown */

enum function_flag {
	FUNCTION_MEMOISE = 1,		/* equal calls may be answered from an earlier one */
	FUNCTION_BATCH = 2,		/* the entry takes up to max_batch inputs in a call */
	FUNCTION_NETWORK = 4,		/* its container wants a network */
	FUNCTION_BYTECODE = 8,		/* its code can be read by Python `python` only */
};

struct msg_function {
	uint8_t kind, flags;
	struct id id;
	uint32_t time_limit_ms;		/* 0 = none */
	uint64_t memory_limit_bytes;	/* 0 = none */
	uint16_t max_batch;		/* 0 = no batches */
	uint32_t latency_ms;		/* objective of a batch; 0 = none */
	uint32_t cpu_millis, max_pids, warm_ms, replicas;	/* of its container; 0 = the endpoint's choice */
	uint16_t python;		/* the Python that it was made with, as in common/pythons.h; 0 = unknown */
	struct wire_str code, entry, container, container_type;
	struct wire_str files;		/* a list of msg_files.h; empty = none */
};
void msg_function_encode (struct buf *b, const struct msg_function *m);
int msg_function_decode (struct msg_function *m, const void *p, size_t n, struct err *err);

#endif
