/* SPDX-License-Identifier: Apache-2.0 */
/* The wire of ZeroMQ: ZMTP 3.0 with the NULL mechanism (https://rfc.zeromq.org/spec/23), as far as a DEALER and a ROUTER need it. Bytes only:
 * who reads and writes them is ipc.c. SPEC.md, section 1.2.
 *
 *   greeting (64 bytes) both ways, then a READY command both ways, then messages: frames whose head says whether another one follows */
#ifndef PROTO_ZMTP_H
#define PROTO_ZMTP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>
#include "common/err.h"

enum {
	ZMTP_GREETING_BYTES = 64,
	ZMTP_READY_MAX = 64,		/* what zmtp_ready writes */
	ZMTP_HEAD_MAX = 9,
	ZMTP_COMMAND_MAX = 4096,	/* bytes of a command that we read */
};

/* Of a frame's head; the other bits must be zero. */
enum { ZMTP_MORE = 1, ZMTP_LONG = 2, ZMTP_COMMAND = 4 };

enum zmtp_type { ZMTP_DEALER, ZMTP_ROUTER };

void zmtp_greeting (uint8_t out[ZMTP_GREETING_BYTES]);
/* The first n bytes of a peer's greeting: -1 with *err as soon as they cannot become one that we understand. */
int zmtp_greeting_check (const uint8_t *g, size_t n, struct err *err);

/* A whole READY frame of a socket of that type, without an identity; its length. */
size_t zmtp_ready (uint8_t out[ZMTP_READY_MAX], enum zmtp_type own);
/* The body of a peer's first command: a READY of a socket that a socket of type `own` talks to, or -1 with *err. */
int zmtp_ready_check (const uint8_t *body, size_t n, enum zmtp_type own, struct err *err);

/* The head of a frame of n bytes; its length, 2 or 9. */
size_t zmtp_head (uint8_t out[ZMTP_HEAD_MAX], uint64_t n, int flags);

/* Takes frames out of bytes that come in pieces. The memory of a frame is reserved when its head is there, after the check of its size. */
struct zmtp_reader {
	size_t max_frame;	/* bytes */
	uint8_t head[ZMTP_HEAD_MAX];
	uint8_t nhead;		/* of them are there */
	bool in_body;
	uint8_t flags;		/* of the frame that is read, or was read last */
	size_t got;		/* bytes of its body */
	zmq_msg_t frame;	/* always initialised */
};

void zmtp_reader_init (struct zmtp_reader *r, size_t max_frame);
void zmtp_reader_fini (struct zmtp_reader *r);
/* Take bytes from *at on. 1: r->frame is whole, with r->flags; move it away before the next call. 0: all were taken. -1 with *err: no frames. */
int zmtp_read (struct zmtp_reader *r, const uint8_t **at, const uint8_t *end, struct err *err);
/* What the frame that is being read still lacks, and where it belongs: bytes may be put there instead of through zmtp_read. 0 outside of a body. */
size_t zmtp_room (struct zmtp_reader *r, uint8_t **to);
bool zmtp_put (struct zmtp_reader *r, size_t n);	/* n bytes were put there; true: r->frame is whole */

#endif
