/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the wire: the header frame, and readers and writers that cannot run over. SPEC.md, sections 1 and 6.
 * Only wire.c touches bytes; the msg_*.c files use what is here. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"
#include "common/ids.h"

#define WIRE_MAJOR 2		/* what we speak at best */
#define WIRE_MAJOR_MIN 1	/* and at least */
#define WIRE_MINOR 5
#define WIRE_HEADER_BYTES 24
#define WIRE_MAX_RECORDS 4096
#define WIRE_MAX_TEXT 4096
#define WIRE_MAX_TAIL 65536	/* stdout, stderr, error */
#define WIRE_MAX_CODE (16u << 20)
#define WIRE_MAX_PAYLOAD (128u << 20)
#define WIRE_MAX_RECORD (192u << 20)
#define WIRE_MAX_MESSAGE (64u << 20)
#define WIRE_MAX_IDS 65536	/* ids in one record frame */

enum wire_type {
	WIRE_HELLO = 1, WIRE_WELCOME = 2, WIRE_REJECT = 3, WIRE_HEARTBEAT = 4, WIRE_BYE = 5,
	WIRE_FUNCTION = 10, WIRE_FUNCTION_MISSING = 11,
	WIRE_TASK = 20, WIRE_TASK_RETURN = 21, WIRE_TASK_STATE = 22, WIRE_OUTPUT = 23,
	WIRE_RESULT = 30, WIRE_RESULT_ACK = 31,
	WIRE_CANCEL = 40, WIRE_FOLLOW = 41,
	WIRE_CAPACITY = 50, WIRE_DRAIN = 51,
	WIRE_CONTAINER_STATE = 60, WIRE_IMAGE = 61, WIRE_METRICS = 70,
};
const char *wire_type_name (int type);	/* "TASK"; "?" for unknown ones */
bool wire_type_known (int type);

struct wire_header {
	uint8_t major, minor, type, flags;
	uint32_t count, seq;
	uint64_t epoch;
};
void wire_header_encode (const struct wire_header *h, uint8_t out[WIRE_HEADER_BYTES]);
/* ERR_INVALID: size, magic, count over the limit. The version and type are for the caller to judge. */
int wire_header_decode (struct wire_header *h, const void *p, size_t n, struct err *err);

/* A slice of a frame: borrowed, valid as long as the frame. */
struct wire_str { const char *p; size_t n; };
#define WIRE_STR(lit) ((struct wire_str){ (lit), sizeof (lit) - 1 })
static inline struct wire_str wire_str (const char *s, size_t n) { return (struct wire_str){ s, n }; }

struct wire_reader { const uint8_t *p; size_t left; bool bad; };
uint8_t wire_get_u8 (struct wire_reader *r);
uint16_t wire_get_u16 (struct wire_reader *r);
uint32_t wire_get_u32 (struct wire_reader *r);
uint64_t wire_get_u64 (struct wire_reader *r);
int64_t wire_get_i64 (struct wire_reader *r);
void wire_get_id (struct wire_reader *r, struct id *out);
struct wire_str wire_get_bytes (struct wire_reader *r, size_t n);	/* n > left: bad, empty */

void wire_put_u8 (struct buf *b, uint8_t v);
void wire_put_u16 (struct buf *b, uint16_t v);
void wire_put_u32 (struct buf *b, uint32_t v);
void wire_put_u64 (struct buf *b, uint64_t v);
void wire_put_i64 (struct buf *b, int64_t v);
void wire_put_id (struct buf *b, const struct id *id);

#endif
