/* SPDX-License-Identifier: Apache-2.0 */
/* HELLO, WELCOME, REJECT and BYE: SPEC.md, section 3.1. */
#include "proto/msg_session.h"
#include "proto/wire_record.h"

#define HELLO_FIXED_1 46
#define HELLO_FIXED 68
#define HELLO_FIXED_NO_KEY 66
#define WELCOME_FIXED_1 38
#define WELCOME_FIXED 42
#define REASON_FIXED 6

void msg_hello_encode (struct buf *b, const struct msg_hello *m, int major)
{
	uint8_t fixed[HELLO_FIXED];
	struct wire_writer w = { fixed };
	size_t n = major < 2 ? HELLO_FIXED_1 : m->key.n ? HELLO_FIXED : HELLO_FIXED_NO_KEY;
	struct wire_str parts[] = { wire_clip_head (m->name, WIRE_MAX_TEXT), wire_clip_head (m->version, WIRE_MAX_TEXT),
				    m->block, m->runtime, m->key };
	if (m->block.n > WIRE_MAX_TEXT || m->runtime.n > WIRE_MAX_TEXT || m->key.n > MSG_KEY_BYTES) {
		wire_refuse (b);
		return;
	}
	wire_w16 (&w, (uint16_t) n);
	wire_w8 (&w, m->role);
	wire_w8 (&w, m->min_major);
	wire_w8 (&w, m->max_major);
	wire_w8 (&w, m->minor);
	wire_w32 (&w, m->capabilities);
	wire_wid (&w, &m->id);
	wire_w64 (&w, m->instance);
	wire_w32 (&w, m->slots);
	for (int i = 0; i < 4; i++)
		wire_w16 (&w, (uint16_t) parts[i].n);
	wire_w32 (&w, m->pid);
	wire_wid (&w, &m->bulk);
	wire_w16 (&w, (uint16_t) m->key.n);
	wire_record_add (b, fixed, n, parts, n == HELLO_FIXED ? 5 : 4);
}

int msg_hello_decode (struct msg_hello *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, HELLO_FIXED_1, HELLO_FIXED, "HELLO", err) < 0)
		return -1;
	m->role = wire_get_u8 (&r.fixed);
	m->min_major = wire_get_u8 (&r.fixed);
	m->max_major = wire_get_u8 (&r.fixed);
	m->minor = wire_get_u8 (&r.fixed);
	m->capabilities = wire_get_u32 (&r.fixed);
	wire_get_id (&r.fixed, &m->id);
	m->instance = wire_get_u64 (&r.fixed);
	m->slots = wire_get_u32 (&r.fixed);
	size_t name = wire_get_u16 (&r.fixed), version = wire_get_u16 (&r.fixed);
	size_t block = wire_get_u16 (&r.fixed), runtime = wire_get_u16 (&r.fixed);
	m->pid = wire_get_u32 (&r.fixed);
	wire_get_id (&r.fixed, &m->bulk);
	size_t key = wire_get_u16 (&r.fixed);
	if (wire_record_take (&r, &m->name, name, WIRE_MAX_TEXT, "name", err) < 0 ||
	    wire_record_take (&r, &m->version, version, WIRE_MAX_TEXT, "version", err) < 0 ||
	    wire_record_take (&r, &m->block, block, WIRE_MAX_TEXT, "block", err) < 0 ||
	    wire_record_take (&r, &m->runtime, runtime, WIRE_MAX_TEXT, "runtime", err) < 0 ||
	    wire_record_take (&r, &m->key, key, MSG_KEY_BYTES, "key", err) < 0 ||
	    wire_record_close (&r, err) < 0)
		return -1;
	if (m->role < ROLE_ENDPOINT || m->role > ROLE_WORKER)
		return wire_bad_value ("HELLO", "role", m->role, err);
	if (m->min_major == 0 || m->min_major > m->max_major)
		return wire_bad_value ("HELLO", "lowest major", m->min_major, err);
	return 0;
}

void msg_welcome_encode (struct buf *b, const struct msg_welcome *m, int major)
{
	uint8_t fixed[WELCOME_FIXED];
	struct wire_writer w = { fixed };
	size_t n = major < 2 ? WELCOME_FIXED_1 : WELCOME_FIXED;
	struct wire_str name = wire_clip_head (m->name, WIRE_MAX_TEXT);
	wire_w16 (&w, (uint16_t) n);
	wire_w8 (&w, m->major);
	wire_w8 (&w, m->minor);
	wire_w32 (&w, m->capabilities);
	wire_w64 (&w, m->epoch);
	wire_w32 (&w, m->heartbeat_ms);
	wire_w32 (&w, m->threshold_ms);
	wire_w32 (&w, m->max_payload_bytes);
	wire_w32 (&w, m->max_result_bytes);
	wire_w32 (&w, 0);
	wire_w16 (&w, (uint16_t) name.n);
	wire_w32 (&w, m->pid);
	wire_record_add (b, fixed, n, &name, 1);
}

int msg_welcome_decode (struct msg_welcome *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, WELCOME_FIXED_1, WELCOME_FIXED, "WELCOME", err) < 0)
		return -1;
	m->major = wire_get_u8 (&r.fixed);
	m->minor = wire_get_u8 (&r.fixed);
	m->capabilities = wire_get_u32 (&r.fixed);
	m->epoch = wire_get_u64 (&r.fixed);
	m->heartbeat_ms = wire_get_u32 (&r.fixed);
	m->threshold_ms = wire_get_u32 (&r.fixed);
	m->max_payload_bytes = wire_get_u32 (&r.fixed);
	m->max_result_bytes = wire_get_u32 (&r.fixed);
	wire_get_u32 (&r.fixed);
	size_t name = wire_get_u16 (&r.fixed);
	m->pid = wire_get_u32 (&r.fixed);
	if (wire_record_take (&r, &m->name, name, WIRE_MAX_TEXT, "name", err) < 0 || wire_record_close (&r, err) < 0)
		return -1;
	if (m->major == 0)
		return wire_bad_value ("WELCOME", "major", m->major, err);
	if (m->epoch == 0)
		return wire_bad_value ("WELCOME", "epoch", 0, err);
	return 0;
}

void msg_reason_encode (struct buf *b, const struct msg_reason *m)
{
	uint8_t fixed[REASON_FIXED];
	struct wire_writer w = { fixed };
	struct wire_str text = wire_clip_head (m->text, WIRE_MAX_TEXT);
	wire_w16 (&w, REASON_FIXED);
	wire_w16 (&w, m->code);
	wire_w16 (&w, (uint16_t) text.n);
	wire_record_add (b, fixed, sizeof (fixed), &text, 1);
}

int msg_reason_decode (struct msg_reason *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, REASON_FIXED, REASON_FIXED, "REJECT or BYE", err) < 0)
		return -1;
	m->code = wire_get_u16 (&r.fixed);
	size_t text = wire_get_u16 (&r.fixed);
	if (wire_record_take (&r, &m->text, text, WIRE_MAX_TEXT, "text", err) < 0)
		return -1;
	return wire_record_close (&r, err);
}
