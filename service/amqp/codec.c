/* SPDX-License-Identifier: Apache-2.0 */
#include "service/amqp/codec.h"
#include <string.h>

#define FRAME_END 0xce
#define TEXT_MAX 255

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* Sticky: after a failure all reads give zeros. */
struct reader { const uint8_t *p; size_t left; bool bad; };

static const uint8_t *take (struct reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->bad || n > r->left) {
		r->bad = true;
		return NULL;
	}
	r->p += n;
	r->left -= n;
	return p;
}

static uint64_t number (struct reader *r, size_t bytes)
{
	const uint8_t *p = take (r, bytes);
	uint64_t v = 0;

	for (size_t i = 0; p && i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}

static struct amqp_str bytes_of (struct reader *r, size_t n)
{
	const uint8_t *p = take (r, n);

	return (struct amqp_str) { (const char *) p, p ? n : 0 };
}

static struct amqp_str short_str (struct reader *r)
{
	return bytes_of (r, (size_t) number (r, 1));
}

static struct amqp_str long_str (struct reader *r)
{
	return bytes_of (r, (size_t) number (r, 4));
}

long amqp_frame_parse (const uint8_t *p, size_t n, size_t max_payload, struct amqp_frame *out, size_t *need, struct err *err)
{
	struct reader r = { p, n, false };
	uint64_t size;

	*need = AMQP_FRAME_HEAD;
	if (n < AMQP_FRAME_HEAD)
		return 0;
	out->type = (uint8_t) number (&r, 1);
	out->channel = (uint16_t) number (&r, 2);
	size = number (&r, 4);
	if (out->type != AMQP_METHOD && out->type != AMQP_HEADER && out->type != AMQP_BODY && out->type != AMQP_HEARTBEAT)
		return err_set (err, ERR_INVALID, FAULT_PEER, "a frame of type %u", out->type);
	if (size > max_payload)
		return err_set (err, ERR_LIMIT, FAULT_PEER, "a frame of %llu bytes, at most %zu are taken", (unsigned long long) size, max_payload);
	*need = AMQP_FRAME_HEAD + (size_t) size + 1;
	if (n < *need)
		return 0;
	out->p = r.p;
	out->n = (size_t) size;
	if (r.p[size] != FRAME_END)
		return err_set (err, ERR_INVALID, FAULT_PEER, "a frame that does not end where its size says");
	return (long) *need;
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */

/* Bytes of a value of fixed size, -1 for others. The letters as RabbitMQ and its clients use them. */
static int fixed_size (uint64_t kind)
{
	switch (kind) {
	case 'V': return 0;
	case 't': case 'b': case 'B': return 1;
	case 's': case 'u': case 'U': return 2;
	case 'I': case 'i': case 'f': return 4;
	case 'D': return 5;
	case 'l': case 'L': case 'd': case 'T': return 8;
	default: return -1;
	}
}

static bool walk (struct reader r, bool named, unsigned depth, unsigned *fields);

static void skip_value (struct reader *r, unsigned depth, unsigned *fields)
{
	uint64_t kind = number (r, 1);
	int size = fixed_size (kind);
	struct amqp_str inner;

	if (size >= 0) {
		take (r, (size_t) size);
		return;
	}
	inner = long_str (r);
	if (kind == 'S' || kind == 'x')
		return;
	if ((kind != 'F' && kind != 'A') || r->bad || !walk ((struct reader) { (const uint8_t *) inner.p, inner.n, false }, kind == 'F', depth + 1, fields))
		r->bad = true;
}

/* A table (named), or an array. */
static bool walk (struct reader r, bool named, unsigned depth, unsigned *fields)
{
	if (depth > AMQP_TABLE_DEPTH)
		return false;
	while (r.left && !r.bad) {
		if (++*fields > AMQP_TABLE_FIELDS)
			return false;
		if (named)
			short_str (&r);
		skip_value (&r, depth, fields);
	}
	return !r.bad;
}

bool amqp_table_valid (const uint8_t *p, size_t n)
{
	unsigned fields = 0;

	return walk ((struct reader) { p, n, false }, true, 1, &fields);
}

static struct amqp_str table (struct reader *r)
{
	struct amqp_str t = long_str (r);

	if (!r->bad && !amqp_table_valid ((const uint8_t *) t.p, t.n))
		r->bad = true;
	return t;
}

/* The value of a field of the outermost level, after its kind; an empty one when there is none. t: valid. */
static struct amqp_str field (struct amqp_str t, const char *name, char kind)
{
	struct reader r = { (const uint8_t *) t.p, t.n, false };
	unsigned fields = 0;

	while (r.left) {
		struct amqp_str key = short_str (&r);
		bool found = key.n == strlen (name) && !memcmp (key.p, name, key.n) && r.left && *r.p == (uint8_t) kind;
		const uint8_t *value;
		if (found) {
			number (&r, 1);
			return kind == 't' ? bytes_of (&r, 1) : long_str (&r);
		}
		value = r.p;
		skip_value (&r, 1, &fields);
		if (r.bad || r.p == value)
			break;
	}
	return (struct amqp_str) { NULL, 0 };
}

/* ---- methods ---------------------------------------------------------------------------------------------------- */

static void get_start_ok (struct reader *r, struct amqp_method *m)
{
	struct amqp_str t = table (r), on;

	m->start_ok.mechanism = short_str (r);
	m->start_ok.response = long_str (r);
	m->start_ok.locale = short_str (r);
	if (r->bad)
		return;
	m->start_ok.product = field (t, "product", 'S');
	m->start_ok.version = field (t, "version", 'S');
	t = field (t, "capabilities", 'F');
	on = field (t, "authentication_failure_close", 't');
	m->start_ok.wants_close = on.n && *on.p;
}

static void get_tune_ok (struct reader *r, struct amqp_method *m)
{
	m->tune_ok.channel_max = (uint16_t) number (r, 2);
	m->tune_ok.frame_max = (uint32_t) number (r, 4);
	m->tune_ok.heartbeat_s = (uint16_t) number (r, 2);
}

static void get_open (struct reader *r, struct amqp_method *m)
{
	m->open.vhost = short_str (r);
	short_str (r);
	number (r, 1);
}

static void get_close (struct reader *r, struct amqp_method *m)
{
	m->close.code = (uint16_t) number (r, 2);
	m->close.text = short_str (r);
	number (r, 4);
}

static void get_channel_open (struct reader *r, struct amqp_method *m)
{
	(void) m;
	short_str (r);
}

static void get_flow (struct reader *r, struct amqp_method *m)
{
	m->flow.active = number (r, 1) & 1;
}

static void get_qos (struct reader *r, struct amqp_method *m)
{
	m->qos.bytes = (uint32_t) number (r, 4);
	m->qos.count = (uint16_t) number (r, 2);
	m->qos.global = number (r, 1) & 1;
}

static void get_consume (struct reader *r, struct amqp_method *m)
{
	unsigned bits;

	number (r, 2);
	m->consume.queue = short_str (r);
	m->consume.tag = short_str (r);
	bits = (unsigned) number (r, 1);
	table (r);
	m->consume.no_ack = bits & 2;
	m->consume.exclusive = bits & 4;
	m->consume.nowait = bits & 8;
}

static void get_cancel (struct reader *r, struct amqp_method *m)
{
	m->cancel.tag = short_str (r);
	m->cancel.nowait = number (r, 1) & 1;
}

static void get_ack (struct reader *r, struct amqp_method *m)
{
	unsigned bits;

	m->ack.tag = number (r, 8);
	bits = (unsigned) number (r, 1);
	m->ack.multiple = m->id != AMQP_BASIC_REJECT && bits & 1;
	m->ack.requeue = m->id == AMQP_BASIC_REJECT ? bits & 1 : m->id == AMQP_BASIC_NACK && bits & 2;
}

static void get_nothing (struct reader *r, struct amqp_method *m)
{
	(void) r;
	(void) m;
}

/* What clients may send. */
static const struct { uint32_t id; void (*get) (struct reader *r, struct amqp_method *m); } methods[] = {
	{ AMQP_BASIC_ACK, get_ack },
	{ AMQP_BASIC_NACK, get_ack },
	{ AMQP_BASIC_REJECT, get_ack },
	{ AMQP_BASIC_CONSUME, get_consume },
	{ AMQP_BASIC_CANCEL, get_cancel },
	{ AMQP_BASIC_CANCEL_OK, get_cancel },
	{ AMQP_BASIC_QOS, get_qos },
	{ AMQP_CHANNEL_OPEN, get_channel_open },
	{ AMQP_CHANNEL_FLOW, get_flow },
	{ AMQP_CHANNEL_FLOW_OK, get_flow },
	{ AMQP_CHANNEL_CLOSE, get_close },
	{ AMQP_CHANNEL_CLOSE_OK, get_nothing },
	{ AMQP_CONNECTION_START_OK, get_start_ok },
	{ AMQP_CONNECTION_TUNE_OK, get_tune_ok },
	{ AMQP_CONNECTION_OPEN, get_open },
	{ AMQP_CONNECTION_CLOSE, get_close },
	{ AMQP_CONNECTION_CLOSE_OK, get_nothing },
};

int amqp_method_decode (struct amqp_method *m, const uint8_t *p, size_t n, struct err *err)
{
	struct reader r = { p, n, false };

	memset (m, 0, sizeof (*m));
	m->id = (uint32_t) number (&r, 4);
	if (r.bad)
		return err_set (err, ERR_INVALID, FAULT_PEER, "a method frame of %zu bytes", n);
	for (size_t i = 0; i < sizeof (methods) / sizeof (methods[0]); i++) {
		if (methods[i].id != m->id)
			continue;
		methods[i].get (&r, m);
		if (!r.bad && (!r.left || m->id == AMQP_BASIC_CANCEL_OK))
			return 0;
		return err_set (err, ERR_INVALID, FAULT_PEER, "arguments of method %u.%u: %s", m->id >> 16, m->id & 0xffff,
				r.bad ? "they do not fit into the frame, or a table is malformed" : "bytes are left over");
	}
	return err_set (err, ERR_NOT_FOUND, FAULT_PEER, "method %u.%u is not served: results can be consumed here, nothing else", m->id >> 16,
			m->id & 0xffff);
}

bool amqp_plain (struct amqp_str s, struct amqp_str *user, struct amqp_str *password)
{
	const char *end = s.p + s.n, *a = s.n ? memchr (s.p, 0, s.n) : NULL, *b = a ? memchr (a + 1, 0, (size_t) (end - a - 1)) : NULL;

	if (!b || memchr (b + 1, 0, (size_t) (end - b - 1)))
		return false;
	*user = (struct amqp_str) { a + 1, (size_t) (b - a - 1) };
	*password = (struct amqp_str) { b + 1, (size_t) (end - b - 1) };
	return true;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static void put (struct buf *b, uint64_t v, int bytes)
{
	uint8_t p[8];

	for (int i = 0; i < bytes; i++)
		p[i] = (uint8_t) (v >> 8 * (bytes - 1 - i));
	buf_add (b, p, (size_t) bytes);
}

static void put_short (struct buf *b, const char *s, size_t n)
{
	if (n > TEXT_MAX)
		n = TEXT_MAX;
	put (b, n, 1);
	buf_add (b, s, n);
}

static void put_long (struct buf *b, const char *s)
{
	put (b, strlen (s), 4);
	buf_str (b, s);
}

/* What put_size fills in when all is there. */
static size_t begin_size (struct buf *b)
{
	put (b, 0, 4);
	return b->len;
}

static void end_size (struct buf *b, size_t at)
{
	size_t n = b->len - at;

	for (int i = 0; i < 4 && !b->failed; i++)
		b->data[at - 4 + (size_t) i] = (uint8_t) (n >> 8 * (3 - i));
}

static size_t begin_frame (struct buf *b, enum amqp_frame_type type, uint16_t channel)
{
	put (b, type, 1);
	put (b, channel, 2);
	return begin_size (b);
}

static size_t begin_method (struct buf *b, uint16_t channel, enum amqp_method_id id)
{
	size_t at = begin_frame (b, AMQP_METHOD, channel);

	put (b, id, 4);
	return at;
}

static void end_frame (struct buf *b, size_t at)
{
	end_size (b, at);
	put (b, FRAME_END, 1);
}

static void put_text_field (struct buf *b, const char *name, const char *value)
{
	put_short (b, name, strlen (name));
	buf_char (b, 'S');
	put_long (b, value);
}

static void put_flag_field (struct buf *b, const char *name)
{
	put_short (b, name, strlen (name));
	buf_add (b, "t\1", 2);
}

void amqp_put_start (struct buf *b, const char *version)
{
	size_t at = begin_method (b, 0, AMQP_CONNECTION_START), table_at, inner;

	put (b, 0, 1);	/* 0-9 */
	put (b, 9, 1);
	table_at = begin_size (b);
	put_text_field (b, "product", "Weft");
	put_text_field (b, "version", version);
	put_text_field (b, "information", "results of tasks, for the Executor of globus-compute-sdk");
	put_short (b, "capabilities", 12);
	buf_char (b, 'F');
	inner = begin_size (b);
	put_flag_field (b, "basic.nack");
	put_flag_field (b, "authentication_failure_close");
	put_flag_field (b, "consumer_cancel_notify");
	end_size (b, inner);
	end_size (b, table_at);
	put_long (b, "PLAIN");
	put_long (b, "en_US");
	end_frame (b, at);
}

void amqp_put_tune (struct buf *b, uint16_t channel_max, uint32_t frame_max, uint16_t heartbeat_s)
{
	size_t at = begin_method (b, 0, AMQP_CONNECTION_TUNE);

	put (b, channel_max, 2);
	put (b, frame_max, 4);
	put (b, heartbeat_s, 2);
	end_frame (b, at);
}

void amqp_put_open_ok (struct buf *b)
{
	size_t at = begin_method (b, 0, AMQP_CONNECTION_OPEN_OK);

	put (b, 0, 1);
	end_frame (b, at);
}

void amqp_put_close (struct buf *b, uint16_t channel, enum amqp_code code, const char *text, uint32_t method)
{
	size_t at = begin_method (b, channel, channel ? AMQP_CHANNEL_CLOSE : AMQP_CONNECTION_CLOSE);

	put (b, code, 2);
	put_short (b, text, strlen (text));
	put (b, method, 4);
	end_frame (b, at);
}

void amqp_put_plain (struct buf *b, uint16_t channel, enum amqp_method_id id)
{
	size_t at = begin_method (b, channel, id);

	if (id == AMQP_CHANNEL_OPEN_OK)
		put (b, 0, 4);
	end_frame (b, at);
}

void amqp_put_flow_ok (struct buf *b, uint16_t channel, bool active)
{
	size_t at = begin_method (b, channel, AMQP_CHANNEL_FLOW_OK);

	put (b, active, 1);
	end_frame (b, at);
}

void amqp_put_tag (struct buf *b, uint16_t channel, enum amqp_method_id id, struct amqp_str tag)
{
	size_t at = begin_method (b, channel, id);

	put_short (b, tag.p, tag.n);
	end_frame (b, at);
}

void amqp_put_heartbeat (struct buf *b)
{
	end_frame (b, begin_frame (b, AMQP_HEARTBEAT, 0));
}

static void put_header (struct buf *b, uint16_t channel, const struct amqp_delivery *d, size_t n)
{
	size_t at = begin_frame (b, AMQP_HEADER, channel);

	put (b, 60, 2);		/* class basic, weight 0 */
	put (b, 0, 2);
	put (b, n, 8);
	put (b, 1u << 15 | 1u << 12 | 1u << 6, 2);
	put_short (b, "application/json", 16);
	put (b, 2, 1);		/* persistent */
	put (b, d->timestamp_s, 8);
	end_frame (b, at);
}

void amqp_put_delivery (struct buf *b, uint16_t channel, const struct amqp_delivery *d, const void *body, size_t n, size_t frame_max)
{
	size_t piece = frame_max - AMQP_FRAME_HEAD - 1, at = begin_method (b, channel, AMQP_BASIC_DELIVER);

	put_short (b, d->consumer.p, d->consumer.n);
	put (b, d->tag, 8);
	put (b, d->redelivered, 1);
	put_short (b, "", 0);	/* the default exchange */
	put_short (b, d->queue.p, d->queue.n);
	end_frame (b, at);
	put_header (b, channel, d, n);
	buf_reserve (b, n + (n / piece + 1) * (AMQP_FRAME_HEAD + 1));
	for (size_t from = 0; from < n; from += piece) {
		at = begin_frame (b, AMQP_BODY, channel);
		buf_add (b, (const uint8_t *) body + from, n - from < piece ? n - from : piece);
		end_frame (b, at);
	}
}
