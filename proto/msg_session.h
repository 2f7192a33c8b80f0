/* SPDX-License-Identifier: Apache-2.0 */
/* HELLO, WELCOME, REJECT and BYE: SPEC.md, section 3.1. Encoders append one record; decoders give borrowed slices. */
#ifndef PROTO_MSG_SESSION_H
#define PROTO_MSG_SESSION_H
#include "proto/wire.h"

enum msg_role { ROLE_ENDPOINT = 1, ROLE_MANAGER = 2, ROLE_WORKER = 3 };
enum { MSG_CAP_BULK = 1, MSG_KEY_BYTES = 40 };

struct msg_hello {
	uint8_t role, min_major, max_major, minor;
	uint32_t capabilities;
	struct id id;
	uint64_t instance;
	uint32_t slots, pid;
	struct wire_str name, version, block, runtime;
	struct id bulk;			/* id of its bulk store, with MSG_CAP_BULK; zero = none */
	struct wire_str key;		/* its CURVE public key, Z85 of MSG_KEY_BYTES, where no handshake tells it; else empty */
};
struct msg_welcome {
	uint8_t major, minor;
	uint32_t capabilities;
	uint64_t epoch;
	uint32_t heartbeat_ms, threshold_ms, max_payload_bytes, max_result_bytes, pid;
	struct wire_str name;
};
struct msg_reason { uint16_t code; struct wire_str text; };	/* REJECT, BYE */

/* major: the session's version; what it lacks is not written. */
void msg_hello_encode (struct buf *b, const struct msg_hello *m, int major);
int msg_hello_decode (struct msg_hello *m, const void *p, size_t n, struct err *err);
void msg_welcome_encode (struct buf *b, const struct msg_welcome *m, int major);
int msg_welcome_decode (struct msg_welcome *m, const void *p, size_t n, struct err *err);
void msg_reason_encode (struct buf *b, const struct msg_reason *m);
int msg_reason_decode (struct msg_reason *m, const void *p, size_t n, struct err *err);

#endif
