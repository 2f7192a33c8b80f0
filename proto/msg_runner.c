/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between worker and runner: SPEC.md, section 7. A runner runs code of users: nothing it sends is trusted. */
#include "proto/msg_runner.h"
#include "proto/msg_resources.h"
#include "proto/wire_record.h"

#define FRAME_HEAD 5		/* length and type */
#define CALL_FIXED 40
#define ENVIRON_FIXED 4		/* its length, in calls that have one */
#define BATCH_FIXED 28
#define INPUT_FIXED 20
#define RESULT_FIXED 72
#define START_FIXED 24
#define READY_MAX 65536
#define RUNNER_STATUS_MAX STATUS_FAILED

/* Length and type stand before the body's fixed part, in one array of the caller. */
static void frame_head (struct wire_writer *w, size_t body_bytes, char type)
{
	wire_w32 (w, (uint32_t) (body_bytes + 1));
	wire_w8 (w, (uint8_t) type);
}

static bool frame_fits (struct buf *b, size_t body_bytes)
{
	if (body_bytes + 1 <= WIRE_MAX_RECORD)
		return true;
	wire_refuse (b);
	return false;
}

static void add_plain (struct buf *b, char type, const void *body, size_t n)
{
	uint8_t head[FRAME_HEAD];
	struct wire_writer w = { head };
	struct wire_str part = wire_str (body, n);
	if (!frame_fits (b, n))
		return;
	frame_head (&w, n, type);
	wire_record_add (b, head, sizeof (head), &part, 1);
}

void msg_runner_function_encode (struct buf *b, const void *function_record, size_t n)
{
	add_plain (b, 'F', function_record, n);
}

void msg_runner_ready_encode (struct buf *b, const char *json) { add_plain (b, 'I', json, strlen (json)); }

void msg_runner_call_encode (struct buf *b, const struct msg_runner_call *m)
{
	uint8_t fixed[FRAME_HEAD + CALL_FIXED + ENVIRON_FIXED];
	struct wire_writer w = { fixed };
	bool environ = m->flags & RUNNER_ENVIRON;
	struct wire_str parts[] = { environ ? m->environ : WIRE_STR (""), m->payload };
	size_t n = CALL_FIXED + (environ ? ENVIRON_FIXED : 0);
	if (m->payload.n > WIRE_MAX_PAYLOAD || parts[0].n > RESOURCES_ENVIRON_MAX) {
		wire_refuse (b);
		return;
	}
	frame_head (&w, n + parts[0].n + m->payload.n, 'C');
	wire_wid (&w, &m->task);
	wire_wid (&w, &m->function);
	wire_w32 (&w, m->flags);
	wire_w32 (&w, m->max_result_bytes);
	if (environ)
		wire_w32 (&w, (uint32_t) parts[0].n);
	wire_record_add (b, fixed, FRAME_HEAD + n, parts, m->payload.p || !m->payload.n ? 2 : 1);
}

static long frame_length (struct wire_reader *r, struct err *err)
{
	size_t len = wire_get_u32 (r);
	if (len == 0)
		return err_set (err, ERR_INVALID, FAULT_PEER, "runner frame without a type");
	if (len > WIRE_MAX_RECORD)
		return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "runner frame of %zu bytes, at most %u", len, WIRE_MAX_RECORD);
	return (long) len;
}

long msg_runner_frame (const void *p, size_t n, uint8_t *type, struct wire_str *body, struct err *err)
{
	if (n < 4)
		return 0;
	struct wire_reader r = { p, n, false };
	long len = frame_length (&r, err);
	if (len < 0 || (size_t) len > r.left)
		return len < 0 ? -1 : 0;
	*type = wire_get_u8 (&r);
	*body = wire_get_bytes (&r, (size_t) len - 1);
	return 4 + len;
}

/* What a result has to have by the lengths in its head. */
static uint64_t result_total (struct wire_reader r)
{
	uint64_t total = RESULT_FIXED;
	wire_get_bytes (&r, RESULT_FIXED - 16);
	for (int i = 0; i < 4; i++)
		total += wire_get_u32 (&r);
	return total;
}

long msg_runner_head (const void *p, size_t n, bool ready, struct err *err)
{
	if (n < FRAME_HEAD)
		return 0;
	struct wire_reader r = { p, n, false };
	long len = frame_length (&r, err);
	if (len < 0)
		return -1;
	uint8_t type = wire_get_u8 (&r);
	size_t body = (size_t) len - 1;
	bool good = false;
	if (type == 'R' && body >= RESULT_FIXED) {
		if (r.left < RESULT_FIXED)
			return 0;
		good = result_total (r) == body;
	} else if (type == 'S') {
		good = body == START_FIXED;
	} else if (type == 'I') {
		good = !ready && body <= READY_MAX;
	}
	if (!good)
		return err_set (err, ERR_INVALID, FAULT_PEER, "a frame of type %u with %zu bytes, which is none of a runner's", type, body);
	return 4 + len;
}

int msg_runner_call_decode (struct msg_runner_call *m, const void *body, size_t n, struct err *err)
{
	if (n < CALL_FIXED)
		return err_set (err, ERR_INVALID, FAULT_PEER, "runner call of %zu bytes, at least %d", n, CALL_FIXED);
	struct wire_reader r = { body, n, false };
	wire_get_id (&r, &m->task);
	wire_get_id (&r, &m->function);
	m->flags = wire_get_u32 (&r);
	m->max_result_bytes = wire_get_u32 (&r);
	size_t environ = m->flags & RUNNER_ENVIRON ? wire_get_u32 (&r) : 0;
	if (environ > RESOURCES_ENVIRON_MAX)
		return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "runner call: environ of %zu bytes, at most %u", environ, RESOURCES_ENVIRON_MAX);
	m->environ = wire_get_bytes (&r, environ);
	if (r.bad || !msg_resources_environ_ok (m->environ))
		return err_set (err, ERR_INVALID, FAULT_PEER, "runner call: its environ is no list of texts, or not all there");
	if (r.left > WIRE_MAX_PAYLOAD)
		return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "runner call: payload of %zu bytes, at most %u", r.left, WIRE_MAX_PAYLOAD);
	m->payload = wire_get_bytes (&r, r.left);
	if (m->flags & TASK_BULK)
		return bulk_ref_decode (&m->bulk, m->payload.p, m->payload.n, &m->task, BULK_PAYLOAD, err);
	return 0;
}

void msg_runner_batch_encode (struct buf *b, const struct msg_runner_batch *m, const struct msg_runner_input *inputs)
{
	uint8_t fixed[FRAME_HEAD + BATCH_FIXED], row[INPUT_FIXED];
	struct wire_writer w = { fixed };
	size_t body = BATCH_FIXED + (size_t) m->n * INPUT_FIXED;
	for (uint32_t i = 0; i < m->n; i++)
		body += inputs[i].payload.n;
	if (m->n < 1 || m->n > RUNNER_BATCH_MAX || !frame_fits (b, body)) {
		wire_refuse (b);
		return;
	}
	if (buf_reserve (b, FRAME_HEAD + body) < 0)
		return;
	frame_head (&w, body, 'B');
	wire_wid (&w, &m->function);
	wire_w32 (&w, m->flags);
	wire_w32 (&w, m->max_result_bytes);
	wire_w32 (&w, m->n);
	buf_add (b, fixed, sizeof (fixed));
	for (uint32_t i = 0; i < m->n; i++) {
		w.p = row;
		wire_wid (&w, &inputs[i].task);
		wire_w32 (&w, (uint32_t) inputs[i].payload.n);
		buf_add (b, row, sizeof (row));
	}
	for (uint32_t i = 0; i < m->n; i++)
		buf_add (b, inputs[i].payload.p, inputs[i].payload.n);
}

void msg_runner_batch_next (struct msg_runner_batch *m, struct msg_runner_input *out)
{
	struct wire_reader row = { (const uint8_t *) m->table.p, INPUT_FIXED, false };
	wire_get_id (&row, &out->task);
	out->payload = wire_str (m->payloads.p, wire_get_u32 (&row));
	m->table = wire_str (m->table.p + INPUT_FIXED, m->table.n - INPUT_FIXED);
	m->payloads = wire_str (m->payloads.p + out->payload.n, m->payloads.n - out->payload.n);
	m->n--;
}

int msg_runner_batch_decode (struct msg_runner_batch *m, const void *body, size_t n, struct err *err)
{
	struct wire_reader r = { body, n, false };
	uint64_t total = 0;
	wire_get_id (&r, &m->function);
	m->flags = wire_get_u32 (&r);
	m->max_result_bytes = wire_get_u32 (&r);
	m->n = wire_get_u32 (&r);
	if (r.bad)
		return err_set (err, ERR_INVALID, FAULT_PEER, "runner batch of %zu bytes, at least %d", n, BATCH_FIXED);
	if (m->n > RUNNER_BATCH_MAX)
		return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "runner batch of %u inputs, at most %d", m->n, RUNNER_BATCH_MAX);
	if (m->n == 0 || r.left / INPUT_FIXED < m->n)
		return err_set (err, ERR_INVALID, FAULT_PEER, "runner batch of %u inputs in %zu bytes", m->n, n);
	m->table = wire_get_bytes (&r, (size_t) m->n * INPUT_FIXED);
	m->payloads = wire_str ((const char *) r.p, r.left);
	for (uint32_t i = 0; i < m->n; i++) {
		struct wire_reader row = { (const uint8_t *) m->table.p + i * INPUT_FIXED, INPUT_FIXED, false };
		struct id task;
		wire_get_id (&row, &task);
		uint32_t bytes = wire_get_u32 (&row);
		if (bytes > WIRE_MAX_PAYLOAD)
			return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "runner batch: payload of %u bytes, at most %u", bytes, WIRE_MAX_PAYLOAD);
		total += bytes;
	}
	if (total != m->payloads.n)
		return err_set (err, ERR_INVALID, FAULT_PEER, "runner batch with %zu bytes of payloads, its lengths say %llu", m->payloads.n,
				(unsigned long long) total);
	return 0;
}

void msg_runner_result_encode (struct buf *b, const struct msg_runner_result *m)
{
	uint8_t fixed[FRAME_HEAD + RESULT_FIXED];
	struct wire_writer w = { fixed };
	struct wire_str parts[] = { m->result, wire_clip_tail (m->error, WIRE_MAX_TAIL), wire_clip_tail (m->out, WIRE_MAX_TAIL),
				    wire_clip_tail (m->errout, WIRE_MAX_TAIL) };
	if (m->result.n > WIRE_MAX_PAYLOAD) {
		wire_refuse (b);
		return;
	}
	frame_head (&w, RESULT_FIXED + parts[0].n + parts[1].n + parts[2].n + parts[3].n, 'R');
	wire_wid (&w, &m->task);
	wire_w8 (&w, m->status);
	wire_w8 (&w, m->fault);
	wire_w16 (&w, m->code);
	wire_w64 (&w, (uint64_t) m->start_ns);
	wire_w64 (&w, (uint64_t) m->end_ns);
	wire_w64 (&w, m->cpu_ns);
	wire_w64 (&w, m->max_rss_bytes);
	wire_w32 (&w, m->flags); /* u8 and three bytes 0 */
	for (int i = 0; i < 4; i++)
		wire_w32 (&w, (uint32_t) parts[i].n);
	wire_record_add (b, fixed, sizeof (fixed), parts, 4);
}

int msg_runner_result_decode (struct msg_runner_result *m, const void *body, size_t n, struct err *err)
{
	size_t len[4], total = RESULT_FIXED;
	if (n < RESULT_FIXED)
		return err_set (err, ERR_INVALID, FAULT_PEER, "runner result of %zu bytes, at least %d", n, RESULT_FIXED);
	struct wire_reader r = { body, n, false };
	wire_get_id (&r, &m->task);
	m->status = wire_get_u8 (&r);
	m->fault = wire_get_u8 (&r);
	m->code = wire_get_u16 (&r);
	m->start_ns = wire_get_i64 (&r);
	m->end_ns = wire_get_i64 (&r);
	m->cpu_ns = wire_get_u64 (&r);
	m->max_rss_bytes = wire_get_u64 (&r);
	m->flags = (uint8_t) wire_get_u32 (&r);
	for (int i = 0; i < 4; i++)
		total += len[i] = wire_get_u32 (&r);
	if (len[0] > WIRE_MAX_PAYLOAD)
		return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "runner result: result of %zu bytes, at most %u", len[0],
				WIRE_MAX_PAYLOAD);
	if (total != n)
		return err_set (err, ERR_INVALID, FAULT_PEER, "runner result of %zu bytes, its lengths say %zu", n, total);
	if (m->status < STATUS_SUCCESS || m->status > RUNNER_STATUS_MAX)
		return wire_bad_value ("runner result", "status", m->status, err);
	if (m->fault > FAULT_SELF)
		return wire_bad_value ("runner result", "fault", m->fault, err);
	m->result = wire_get_bytes (&r, len[0]);
	m->result_bytes = (uint32_t) len[0];
	if (m->flags & RESULT_BULK) {
		if (bulk_ref_decode (&m->bulk, m->result.p, m->result.n, &m->task, BULK_RESULT, err) < 0)
			return -1;
		m->result_bytes = m->bulk.bytes;
	}
	/* How much a function prints is not a reason to lose its result: of long texts the end is kept. */
	m->error = wire_clip_tail (wire_get_bytes (&r, len[1]), WIRE_MAX_TAIL);
	m->out = wire_clip_tail (wire_get_bytes (&r, len[2]), WIRE_MAX_TAIL);
	m->errout = wire_clip_tail (wire_get_bytes (&r, len[3]), WIRE_MAX_TAIL);
	return 0;
}

int msg_runner_start_decode (struct id *task, int64_t *ns, const void *body, size_t n, struct err *err)
{
	if (n != START_FIXED)
		return err_set (err, ERR_INVALID, FAULT_PEER, "runner start of %zu bytes, not %d", n, START_FIXED);
	struct wire_reader r = { body, n, false };
	wire_get_id (&r, task);
	*ns = wire_get_i64 (&r);
	return 0;
}

void msg_runner_start_encode (struct buf *b, const struct id *task, int64_t ns)
{
	uint8_t fixed[FRAME_HEAD + START_FIXED];
	struct wire_writer w = { fixed };
	frame_head (&w, START_FIXED, 'S');
	wire_wid (&w, task);
	wire_w64 (&w, (uint64_t) ns);
	wire_record_add (b, fixed, sizeof (fixed), NULL, 0);
}
