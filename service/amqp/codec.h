/* SPDX-License-Identifier: Apache-2.0 */
/* AMQP 0-9-1 on the wire: the part that a consumer of results needs. Bytes only, no state: what may come when is session.c's matter.
 *
 * Decoding reads what a client sends, borrows everything from the frame and allocates nothing; each length is compared with what is left
 * before it is used. Encoding appends whole frames to a buffer. service/amqp/vectors.json has both as golden bytes. */
#ifndef SERVICE_AMQP_CODEC_H
#define SERVICE_AMQP_CODEC_H
#include <stdbool.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"

#define AMQP_PROTOCOL "AMQP\0\0\x09\x01"
#define AMQP_PROTOCOL_BYTES 8
#define AMQP_FRAME_HEAD 7	/* type, channel, size; the payload and a byte of end follow */
#define AMQP_FRAME_MIN 4096	/* every peer takes frames of that size */
#define AMQP_TABLE_DEPTH 8
#define AMQP_TABLE_FIELDS 256	/* of a whole table, nested ones counted */

enum amqp_frame_type { AMQP_METHOD = 1, AMQP_HEADER = 2, AMQP_BODY = 3, AMQP_HEARTBEAT = 8 };

/* class << 16 | method */
#define AMQP_ID(c, m) ((uint32_t) (c) << 16 | (m))
enum amqp_method_id {
	AMQP_CONNECTION_START = AMQP_ID (10, 10), AMQP_CONNECTION_START_OK = AMQP_ID (10, 11),
	AMQP_CONNECTION_TUNE = AMQP_ID (10, 30), AMQP_CONNECTION_TUNE_OK = AMQP_ID (10, 31),
	AMQP_CONNECTION_OPEN = AMQP_ID (10, 40), AMQP_CONNECTION_OPEN_OK = AMQP_ID (10, 41),
	AMQP_CONNECTION_CLOSE = AMQP_ID (10, 50), AMQP_CONNECTION_CLOSE_OK = AMQP_ID (10, 51),
	AMQP_CHANNEL_OPEN = AMQP_ID (20, 10), AMQP_CHANNEL_OPEN_OK = AMQP_ID (20, 11),
	AMQP_CHANNEL_FLOW = AMQP_ID (20, 20), AMQP_CHANNEL_FLOW_OK = AMQP_ID (20, 21),
	AMQP_CHANNEL_CLOSE = AMQP_ID (20, 40), AMQP_CHANNEL_CLOSE_OK = AMQP_ID (20, 41),
	AMQP_BASIC_QOS = AMQP_ID (60, 10), AMQP_BASIC_QOS_OK = AMQP_ID (60, 11),
	AMQP_BASIC_CONSUME = AMQP_ID (60, 20), AMQP_BASIC_CONSUME_OK = AMQP_ID (60, 21),
	AMQP_BASIC_CANCEL = AMQP_ID (60, 30), AMQP_BASIC_CANCEL_OK = AMQP_ID (60, 31),
	AMQP_BASIC_DELIVER = AMQP_ID (60, 60), AMQP_BASIC_ACK = AMQP_ID (60, 80),
	AMQP_BASIC_REJECT = AMQP_ID (60, 90), AMQP_BASIC_NACK = AMQP_ID (60, 120),
};

/* Why a channel or a connection is closed: the specification's codes. */
enum amqp_code {
	AMQP_OK = 200, AMQP_CONNECTION_FORCED = 320, AMQP_INVALID_PATH = 402, AMQP_ACCESS_REFUSED = 403, AMQP_NOT_FOUND = 404,
	AMQP_PRECONDITION_FAILED = 406, AMQP_FRAME_ERROR = 501, AMQP_SYNTAX_ERROR = 502, AMQP_COMMAND_INVALID = 503,
	AMQP_CHANNEL_ERROR = 504, AMQP_UNEXPECTED_FRAME = 505, AMQP_RESOURCE_ERROR = 506, AMQP_NOT_ALLOWED = 530,
	AMQP_NOT_IMPLEMENTED = 540, AMQP_INTERNAL_ERROR = 541,
};

struct amqp_str { const char *p; size_t n; };	/* borrowed */
struct amqp_frame { uint8_t type; uint16_t channel; const uint8_t *p; size_t n; };	/* p: borrowed */

/* The frame at the front of n bytes. Returns its length on the wire; 0 when bytes are missing, *need is then how many it takes at least;
 * -1 with *err (no frame, or a payload over max_payload), which the connection does not survive. */
long amqp_frame_parse (const uint8_t *p, size_t n, size_t max_payload, struct amqp_frame *out, size_t *need, struct err *err);

struct amqp_method {
	uint32_t id;
	union {
		struct { struct amqp_str mechanism, response, locale, product, version; bool wants_close; } start_ok;
		struct { uint16_t channel_max, heartbeat_s; uint32_t frame_max; } tune_ok;
		struct { struct amqp_str vhost; } open;
		struct { uint16_t code; struct amqp_str text; } close;	/* of connection and channel */
		struct { bool active; } flow;
		struct { uint32_t bytes; uint16_t count; bool global; } qos;
		struct { struct amqp_str queue, tag; bool no_ack, exclusive, nowait; } consume;
		struct { struct amqp_str tag; bool nowait; } cancel;
		struct { uint64_t tag; bool multiple, requeue; } ack;	/* of ack, nack, reject */
	};
};
/* The payload of a METHOD frame. 0, or -1 with *err: ERR_NOT_FOUND a method that is not served (out->id is set), ERR_INVALID arguments
 * that do not fit. */
int amqp_method_decode (struct amqp_method *out, const uint8_t *p, size_t n, struct err *err);
/* A table that is well formed and within the limits? n: exactly its bytes, the length in front left out. */
bool amqp_table_valid (const uint8_t *p, size_t n);
/* SASL PLAIN: [authzid] NUL user NUL password. false: it is not of that form. */
bool amqp_plain (struct amqp_str response, struct amqp_str *user, struct amqp_str *password);

/* Frames for the client. */
void amqp_put_start (struct buf *b, const char *version);
void amqp_put_tune (struct buf *b, uint16_t channel_max, uint32_t frame_max, uint16_t heartbeat_s);
void amqp_put_open_ok (struct buf *b);
void amqp_put_close (struct buf *b, uint16_t channel, enum amqp_code code, const char *text, uint32_t method);	/* channel 0: the connection */
void amqp_put_plain (struct buf *b, uint16_t channel, enum amqp_method_id id);	/* methods without arguments, and CHANNEL_OPEN_OK */
void amqp_put_flow_ok (struct buf *b, uint16_t channel, bool active);
void amqp_put_tag (struct buf *b, uint16_t channel, enum amqp_method_id id, struct amqp_str tag);	/* CONSUME_OK, CANCEL_OK */
void amqp_put_heartbeat (struct buf *b);

struct amqp_delivery {
	struct amqp_str consumer, queue;
	uint64_t tag, timestamp_s;
	bool redelivered;
};
/* Deliver, header and body frames, none longer than frame_max. */
void amqp_put_delivery (struct buf *b, uint16_t channel, const struct amqp_delivery *d, const void *body, size_t n, size_t frame_max);

#endif
