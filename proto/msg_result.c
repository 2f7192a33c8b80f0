/* SPDX-License-Identifier: Apache-2.0 */
/* RESULT: SPEC.md, section 3.2. */
#include "proto/msg_result.h"
#include "proto/wire_record.h"

#define RESULT_FIXED_1 176
#define RESULT_PLAIN 208	/* without files */
#define RESULT_FILES 212	/* with files, none of them kept */
#define RESULT_FIXED 216
#define RESULT_STAMPS_AT 48

void msg_result_encode (struct buf *b, const struct msg_result *m, int major)
{
	uint8_t fixed[RESULT_FIXED];
	struct wire_writer w = { fixed };
	size_t n = major < 2 ? RESULT_FIXED_1 : m->kept.n ? RESULT_FIXED : m->files.n ? RESULT_FILES : RESULT_PLAIN;
	/* of long texts the end is kept: a traceback says at its end what happened */
	struct wire_str parts[] = { m->result, wire_clip_tail (m->error, WIRE_MAX_TAIL), wire_clip_tail (m->out, WIRE_MAX_TAIL),
				    wire_clip_tail (m->errout, WIRE_MAX_TAIL), wire_clip_head (m->node, WIRE_MAX_TEXT),
				    m->runtime, m->files, m->kept };
	if (m->files.n > FILES_DATA_MAX || m->kept.n > FILES_KEPT_MAX || m->result.n > WIRE_MAX_PAYLOAD || m->runtime.n > WIRE_MAX_TEXT) {
		wire_refuse (b);
		return;
	}
	wire_w16 (&w, (uint16_t) n);
	wire_w8 (&w, m->status);
	wire_w8 (&w, m->fault);
	wire_w16 (&w, m->code);
	wire_w8 (&w, m->attempt);
	wire_w8 (&w, m->flags);
	wire_wid (&w, &m->task);
	for (int i = 0; i < 4; i++)
		wire_w32 (&w, (uint32_t) parts[i].n);
	wire_w32 (&w, (uint32_t) m->detail);
	wire_w16 (&w, (uint16_t) parts[4].n);
	wire_w16 (&w, (uint16_t) parts[5].n);
	for (int i = 0; i < STAMP_SLOTS; i++)
		wire_w64 (&w, (uint64_t) m->stamps[i]);
	wire_w64 (&w, m->cpu_ns);
	wire_w64 (&w, m->max_rss_bytes);
	wire_wid (&w, &m->image);
	wire_w32 (&w, (uint32_t) m->files.n);
	wire_w32 (&w, (uint32_t) m->kept.n);
	wire_record_add (b, fixed, n, parts, n == RESULT_FIXED ? 8 : n == RESULT_FILES ? 7 : 6);
}

int msg_result_decode (struct msg_result *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	size_t len[4];
	if (wire_record_open (&r, p, n, RESULT_FIXED_1, RESULT_FIXED, "RESULT", err) < 0)
		return -1;
	m->status = wire_get_u8 (&r.fixed);
	m->fault = wire_get_u8 (&r.fixed);
	m->code = wire_get_u16 (&r.fixed);
	m->attempt = wire_get_u8 (&r.fixed);
	m->flags = wire_get_u8 (&r.fixed);
	wire_get_id (&r.fixed, &m->task);
	for (int i = 0; i < 4; i++)
		len[i] = wire_get_u32 (&r.fixed);
	m->detail = (int32_t) wire_get_u32 (&r.fixed);
	size_t node = wire_get_u16 (&r.fixed), runtime = wire_get_u16 (&r.fixed);
	for (int i = 0; i < STAMP_SLOTS; i++)
		m->stamps[i] = wire_get_i64 (&r.fixed);
	m->cpu_ns = wire_get_u64 (&r.fixed);
	m->max_rss_bytes = wire_get_u64 (&r.fixed);
	wire_get_id (&r.fixed, &m->image);
	size_t files = wire_get_u32 (&r.fixed), kept = wire_get_u32 (&r.fixed);
	if (wire_record_take (&r, &m->result, len[0], WIRE_MAX_PAYLOAD, "result", err) < 0 ||
	    wire_record_take (&r, &m->error, len[1], WIRE_MAX_TAIL, "error", err) < 0 ||
	    wire_record_take (&r, &m->out, len[2], WIRE_MAX_TAIL, "stdout", err) < 0 ||
	    wire_record_take (&r, &m->errout, len[3], WIRE_MAX_TAIL, "stderr", err) < 0 ||
	    wire_record_take (&r, &m->node, node, WIRE_MAX_TEXT, "node", err) < 0 ||
	    wire_record_take (&r, &m->runtime, runtime, WIRE_MAX_TEXT, "runtime", err) < 0 ||
	    wire_record_take (&r, &m->files, files, FILES_DATA_MAX, "files", err) < 0 ||
	    wire_record_take (&r, &m->kept, kept, FILES_KEPT_MAX, "kept", err) < 0 ||
	    wire_record_close (&r, err) < 0)
		return -1;
	if (m->status < STATUS_SUCCESS || m->status > STATUS_CANCELLED)
		return wire_bad_value ("RESULT", "status", m->status, err);
	if (m->fault > FAULT_SELF)
		return wire_bad_value ("RESULT", "fault", m->fault, err);
	m->result_bytes = (uint32_t) m->result.n;
	if (!(m->flags & RESULT_BULK))
		return 0;
	if (bulk_ref_decode (&m->bulk, m->result.p, m->result.n, &m->task, BULK_RESULT, err) < 0)
		return -1;
	m->result_bytes = m->bulk.bytes;
	return 0;
}

void msg_result_stamp (void *frame, enum msg_stamp slot, int64_t ns)
{
	if ((unsigned) slot >= STAMP_SLOTS)
		return;
	struct wire_writer w = { (uint8_t *) frame + RESULT_STAMPS_AT + 8 * slot };
	wire_w64 (&w, (uint64_t) ns);
}

int msg_result_id (const void *p, size_t n, struct id *task)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, RESULT_FIXED_1, RESULT_FIXED, "RESULT", NULL) < 0)
		return -1;
	wire_get_u16 (&r.fixed);
	wire_get_u32 (&r.fixed);
	wire_get_id (&r.fixed, task);
	return 0;
}

int msg_result_status (const void *p, size_t n)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, RESULT_FIXED_1, RESULT_FIXED, "RESULT", NULL) < 0)
		return -1;
	return wire_get_u8 (&r.fixed);
}
