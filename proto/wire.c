/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the wire. SPEC.md, sections 1 and 6. Readers never run over: a short read gives 0 and marks the reader. */
#include "proto/wire.h"
#include "proto/wire_record.h"

#define MAGIC_0 0x57
#define MAGIC_1 0x66

static const struct { uint8_t type; const char *name; } types[] = {
	{ WIRE_HELLO, "HELLO" }, { WIRE_WELCOME, "WELCOME" }, { WIRE_REJECT, "REJECT" },
	{ WIRE_HEARTBEAT, "HEARTBEAT" }, { WIRE_BYE, "BYE" }, { WIRE_FUNCTION, "FUNCTION" },
	{ WIRE_FUNCTION_MISSING, "FUNCTION_MISSING" }, { WIRE_TASK, "TASK" }, { WIRE_TASK_RETURN, "TASK_RETURN" },
	{ WIRE_TASK_STATE, "TASK_STATE" }, { WIRE_OUTPUT, "OUTPUT" }, { WIRE_RESULT, "RESULT" }, { WIRE_RESULT_ACK, "RESULT_ACK" },
	{ WIRE_CANCEL, "CANCEL" }, { WIRE_FOLLOW, "FOLLOW" }, { WIRE_CAPACITY, "CAPACITY" }, { WIRE_DRAIN, "DRAIN" },
	{ WIRE_CONTAINER_STATE, "CONTAINER_STATE" }, { WIRE_IMAGE, "IMAGE" }, { WIRE_METRICS, "METRICS" },
};

const char *wire_type_name (int type)
{
	for (size_t i = 0; i < sizeof (types) / sizeof (types[0]); i++)
		if (types[i].type == type)
			return types[i].name;
	return "?";
}

bool wire_type_known (int type) { return wire_type_name (type)[0] != '?'; }

/* ---- header ---- */

void wire_header_encode (const struct wire_header *h, uint8_t out[WIRE_HEADER_BYTES])
{
	struct wire_writer w = { out };
	wire_w8 (&w, MAGIC_0);
	wire_w8 (&w, MAGIC_1);
	wire_w8 (&w, h->major);
	wire_w8 (&w, h->minor);
	wire_w8 (&w, h->type);
	wire_w8 (&w, h->flags);
	wire_w16 (&w, 0);
	wire_w32 (&w, h->count);
	wire_w32 (&w, h->seq);
	wire_w64 (&w, h->epoch);
}

int wire_header_decode (struct wire_header *h, const void *p, size_t n, struct err *err)
{
	if (n != WIRE_HEADER_BYTES)
		return err_set (err, ERR_INVALID, FAULT_PEER, "header frame of %zu bytes, not %d", n, WIRE_HEADER_BYTES);
	struct wire_reader r = { p, n, false };
	uint8_t m0 = wire_get_u8 (&r), m1 = wire_get_u8 (&r);
	if (m0 != MAGIC_0 || m1 != MAGIC_1)
		return err_set (err, ERR_INVALID, FAULT_PEER, "header frame begins with %02x%02x, not with the magic", m0, m1);
	h->major = wire_get_u8 (&r);
	h->minor = wire_get_u8 (&r);
	h->type = wire_get_u8 (&r);
	h->flags = wire_get_u8 (&r);
	wire_get_u16 (&r);
	h->count = wire_get_u32 (&r);
	h->seq = wire_get_u32 (&r);
	h->epoch = wire_get_u64 (&r);
	if (h->count > WIRE_MAX_RECORDS)
		return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "message of %u records, at most %d", h->count, WIRE_MAX_RECORDS);
	return 0;
}

/* ---- readers ---- */

static const uint8_t *take (struct wire_reader *r, size_t n)
{
	if (n > r->left) {
		/* nothing after a missing field may be read as if it stood in its place */
		r->bad = true;
		r->left = 0;
		return NULL;
	}
	const uint8_t *p = r->p;
	r->p += n;
	r->left -= n;
	return p;
}

uint8_t wire_get_u8 (struct wire_reader *r)
{
	const uint8_t *p = take (r, 1);
	return p ? *p : 0;
}

uint16_t wire_get_u16 (struct wire_reader *r)
{
	const uint8_t *p = take (r, 2);
	uint16_t v = 0;
	if (p)
		memcpy (&v, p, sizeof (v));
	return le16toh (v);
}

uint32_t wire_get_u32 (struct wire_reader *r)
{
	const uint8_t *p = take (r, 4);
	uint32_t v = 0;
	if (p)
		memcpy (&v, p, sizeof (v));
	return le32toh (v);
}

uint64_t wire_get_u64 (struct wire_reader *r)
{
	const uint8_t *p = take (r, 8);
	uint64_t v = 0;
	if (p)
		memcpy (&v, p, sizeof (v));
	return le64toh (v);
}

int64_t wire_get_i64 (struct wire_reader *r) { return (int64_t) wire_get_u64 (r); }

void wire_get_id (struct wire_reader *r, struct id *out)
{
	const uint8_t *p = take (r, ID_BYTES);
	if (p)
		memcpy (out->b, p, ID_BYTES);
	else
		memset (out->b, 0, ID_BYTES);
}

struct wire_str wire_get_bytes (struct wire_reader *r, size_t n)
{
	const uint8_t *p = take (r, n);
	return p ? wire_str ((const char *) p, n) : wire_str ("", 0);
}

/* ---- writers ---- */

void wire_put_u8 (struct buf *b, uint8_t v) { buf_add (b, &v, sizeof (v)); }

void wire_put_u16 (struct buf *b, uint16_t v)
{
	v = htole16 (v);
	buf_add (b, &v, sizeof (v));
}

void wire_put_u32 (struct buf *b, uint32_t v)
{
	v = htole32 (v);
	buf_add (b, &v, sizeof (v));
}

void wire_put_u64 (struct buf *b, uint64_t v)
{
	v = htole64 (v);
	buf_add (b, &v, sizeof (v));
}

void wire_put_i64 (struct buf *b, int64_t v) { wire_put_u64 (b, (uint64_t) v); }
void wire_put_id (struct buf *b, const struct id *id) { buf_add (b, id->b, ID_BYTES); }

/* ---- records ---- */

int wire_record_open (struct wire_record *r, const void *p, size_t n, size_t shortest, size_t known, const char *what,
		      struct err *err)
{
	if (n > WIRE_MAX_RECORD)
		return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "%s of %zu bytes, at most %u", what, n, WIRE_MAX_RECORD);
	struct wire_reader all = { p, n, false };
	size_t fixed = wire_get_u16 (&all);
	if (fixed < shortest || fixed > n)
		return err_set (err, ERR_INVALID, FAULT_PEER, "%s of %zu bytes with a fixed part of %zu, at least %zu", what, n,
				fixed, shortest);
	r->what = what;
	r->newer = fixed > known;
	r->fixed = (struct wire_reader){ all.p, (r->newer ? known : fixed) - 2, false };
	r->var = (struct wire_reader){ (const uint8_t *) p + fixed, n - fixed, false };
	return 0;
}

int wire_record_take (struct wire_record *r, struct wire_str *out, size_t n, size_t max, const char *field,
		      struct err *err)
{
	if (n > max)
		return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "%s: %s of %zu bytes, at most %zu", r->what, field, n, max);
	*out = wire_get_bytes (&r->var, n);
	return 0;
}

int wire_record_close (const struct wire_record *r, struct err *err)
{
	if (r->var.bad)
		return err_set (err, ERR_INVALID, FAULT_PEER, "%s is shorter than the lengths in it", r->what);
	if (r->var.left > 0 && !r->newer)
		return err_set (err, ERR_INVALID, FAULT_PEER, "%s is %zu bytes longer than the lengths in it", r->what,
				r->var.left);
	return 0;
}

int wire_bad_value (const char *what, const char *field, unsigned value, struct err *err)
{
	return err_set (err, ERR_INVALID, FAULT_PEER, "%s: %s %u is not one of its values", what, field, value);
}

static bool continues (char c) { return ((uint8_t) c & 0xc0) == 0x80; }

struct wire_str wire_clip_head (struct wire_str s, size_t max)
{
	if (s.n <= max)
		return s;
	size_t n = max;
	for (int i = 0; i < 3 && n > 0 && continues (s.p[n]); i++)
		n--;
	return wire_str (s.p, n);
}

struct wire_str wire_clip_tail (struct wire_str s, size_t max)
{
	if (s.n <= max)
		return s;
	size_t at = s.n - max;
	for (int i = 0; i < 3 && at < s.n && continues (s.p[at]); i++)
		at++;
	return wire_str (s.p + at, s.n - at);
}

void wire_record_add (struct buf *b, const void *fixed, size_t fixed_bytes, const struct wire_str *parts, size_t nparts)
{
	size_t total = fixed_bytes;
	for (size_t i = 0; i < nparts; i++)
		total += parts[i].n;
	if (b->failed || buf_reserve (b, total) < 0)
		return;
	buf_add (b, fixed, fixed_bytes);
	for (size_t i = 0; i < nparts; i++)
		if (parts[i].n > 0)
			buf_add (b, parts[i].p, parts[i].n);
}
