/* SPDX-License-Identifier: Apache-2.0 */
/* TASK, TASK_STATE, OUTPUT, bare ids, and the names of stamps and states: SPEC.md, sections 3.2, 4 and 5. */
#include "proto/msg_task.h"
#include "proto/wire_record.h"

#define TASK_FIXED_1 108
#define TASK_PLAIN 124		/* without files and resources: what is sent for nearly all tasks */
#define TASK_FILES 126
#define TASK_FIXED 130
#define TASK_ATTEMPT_AT 3
#define TASK_STAMPS_AT 44
#define TASK_STATE_FIXED 28
#define OUTPUT_FIXED 44
#define AHEAD 16

static const char *const stamp_names[STAMP_SLOTS] = {
	"received", "queued", "forwarder_read", "forwarder_sent",
	"endpoint_received", "endpoint_sent", "manager_received", "manager_sent",
	"worker_received", "execution_start", "execution_end", "worker_sent",
	"manager_result", "endpoint_result", "forwarder_result", "service_result",
};
static const char *const state_names[] = {
	"received", "waiting-for-ep", "waiting-for-nodes", "waiting-for-launch",
	"running", "success", "failed", "cancelled",
};

const char *msg_stamp_name (int slot) { return slot >= 0 && slot < STAMP_SLOTS ? stamp_names[slot] : "?"; }

const char *msg_state_name (int state)
{
	return state >= STATE_RECEIVED && state <= STATE_CANCELLED ? state_names[state] : "?";
}

void msg_task_encode (struct buf *b, const struct msg_task *m, int major)
{
	uint8_t fixed[TASK_FIXED];
	struct wire_writer w = { fixed };
	struct wire_str parts[] = { m->payload, major < 2 ? WIRE_STR ("") : m->files, major < 2 ? WIRE_STR ("") : m->resources };
	size_t n = major < 2 ? TASK_FIXED_1 : m->resources.n ? TASK_FIXED : m->files.n ? TASK_FILES : TASK_PLAIN;
	if (m->payload.n > WIRE_MAX_PAYLOAD || m->files.n > FILES_MAX_BYTES || m->resources.n > RESOURCES_MAX_BYTES) {
		wire_refuse (b);
		return;
	}
	wire_w16 (&w, (uint16_t) n);
	wire_w8 (&w, m->flags);
	wire_w8 (&w, m->attempt);
	wire_wid (&w, &m->task);
	wire_wid (&w, &m->function);
	wire_w32 (&w, (uint32_t) m->payload.n);
	wire_w32 (&w, m->time_limit_ms);
	for (int i = 0; i < STAMP_TASK_SLOTS; i++)
		wire_w64 (&w, (uint64_t) m->stamps[i]);
	wire_w64 (&w, m->memory_limit_bytes);
	wire_w32 (&w, m->max_result_bytes);
	wire_w32 (&w, m->expected_ms);
	wire_w16 (&w, (uint16_t) m->files.n);
	wire_w32 (&w, (uint32_t) m->resources.n);
	wire_record_add (b, fixed, n, parts, m->payload.p || !m->payload.n ? 3 : 0);
}

int msg_task_decode (struct msg_task *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, TASK_FIXED_1, TASK_FIXED, "TASK", err) < 0)
		return -1;
	m->flags = wire_get_u8 (&r.fixed);
	m->attempt = wire_get_u8 (&r.fixed);
	wire_get_id (&r.fixed, &m->task);
	wire_get_id (&r.fixed, &m->function);
	size_t payload = wire_get_u32 (&r.fixed);
	m->time_limit_ms = wire_get_u32 (&r.fixed);
	for (int i = 0; i < STAMP_TASK_SLOTS; i++)
		m->stamps[i] = wire_get_i64 (&r.fixed);
	m->memory_limit_bytes = wire_get_u64 (&r.fixed);
	m->max_result_bytes = wire_get_u32 (&r.fixed);
	m->expected_ms = wire_get_u32 (&r.fixed);
	size_t files = wire_get_u16 (&r.fixed), resources = wire_get_u32 (&r.fixed);
	if (wire_record_take (&r, &m->payload, payload, WIRE_MAX_PAYLOAD, "payload", err) < 0 ||
	    wire_record_take (&r, &m->files, files, FILES_MAX_BYTES, "files", err) < 0 ||
	    wire_record_take (&r, &m->resources, resources, RESOURCES_MAX_BYTES, "resources", err) < 0 || wire_record_close (&r, err) < 0)
		return -1;
	m->payload_bytes = (uint32_t) payload;
	if (!(m->flags & TASK_BULK))
		return 0;
	if (bulk_ref_decode (&m->bulk, m->payload.p, m->payload.n, &m->task, BULK_PAYLOAD, err) < 0)
		return -1;
	m->payload_bytes = m->bulk.bytes;
	return 0;
}

void msg_task_stamp (void *frame, enum msg_stamp slot, int64_t ns)
{
	if ((unsigned) slot >= STAMP_TASK_SLOTS)
		return;
	struct wire_writer w = { (uint8_t *) frame + TASK_STAMPS_AT + 8 * slot };
	wire_w64 (&w, (uint64_t) ns);
}

void msg_task_set_attempt (void *frame, uint8_t attempt) { ((uint8_t *) frame)[TASK_ATTEMPT_AT] = attempt; }

int msg_task_ids (const void *p, size_t n, struct id *task, struct id *function)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, TASK_FIXED_1, TASK_FIXED, "TASK", NULL) < 0)
		return -1;
	wire_get_u16 (&r.fixed);
	wire_get_id (&r.fixed, task);
	wire_get_id (&r.fixed, function);
	return 0;
}

void msg_task_state_encode (struct buf *b, const struct msg_task_state *m)
{
	uint8_t fixed[TASK_STATE_FIXED];
	struct wire_writer w = { fixed };
	wire_w16 (&w, TASK_STATE_FIXED);
	wire_w8 (&w, m->state);
	wire_w8 (&w, 0);
	wire_wid (&w, &m->task);
	wire_w64 (&w, (uint64_t) m->time_ns);
	wire_record_add (b, fixed, sizeof (fixed), NULL, 0);
}

int msg_task_state_decode (struct msg_task_state *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, TASK_STATE_FIXED, TASK_STATE_FIXED, "TASK_STATE", err) < 0)
		return -1;
	m->state = wire_get_u8 (&r.fixed);
	wire_get_u8 (&r.fixed);
	wire_get_id (&r.fixed, &m->task);
	m->time_ns = wire_get_i64 (&r.fixed);
	if (wire_record_close (&r, err) < 0)
		return -1;
	if (m->state > STATE_CANCELLED)
		return wire_bad_value ("TASK_STATE", "state", m->state, err);
	return 0;
}

void msg_output_encode (struct buf *b, const struct msg_output *m)
{
	uint8_t fixed[OUTPUT_FIXED];
	struct wire_writer w = { fixed };
	struct wire_str parts[] = { wire_clip_tail (m->text[0], WIRE_MAX_TAIL), wire_clip_tail (m->text[1], WIRE_MAX_TAIL) };
	wire_w16 (&w, OUTPUT_FIXED);
	wire_w16 (&w, 0);
	wire_wid (&w, &m->task);
	wire_w64 (&w, m->total[0]);
	wire_w64 (&w, m->total[1]);
	wire_w32 (&w, (uint32_t) parts[0].n);
	wire_w32 (&w, (uint32_t) parts[1].n);
	wire_record_add (b, fixed, sizeof (fixed), parts, 2);
}

int msg_output_decode (struct msg_output *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, OUTPUT_FIXED, OUTPUT_FIXED, "OUTPUT", err) < 0)
		return -1;
	wire_get_u16 (&r.fixed);
	wire_get_id (&r.fixed, &m->task);
	m->total[0] = wire_get_u64 (&r.fixed);
	m->total[1] = wire_get_u64 (&r.fixed);
	size_t out = wire_get_u32 (&r.fixed), errout = wire_get_u32 (&r.fixed);
	if (wire_record_take (&r, &m->text[0], out, WIRE_MAX_TAIL, "stdout", err) < 0 ||
	    wire_record_take (&r, &m->text[1], errout, WIRE_MAX_TAIL, "stderr", err) < 0 || wire_record_close (&r, err) < 0)
		return -1;
	if (out > m->total[0] || errout > m->total[1])
		return err_set (err, ERR_INVALID, FAULT_PEER, "OUTPUT: more text than was printed");
	return 0;
}

long msg_ids_count (size_t frame_bytes)
{
	if (frame_bytes == 0 || frame_bytes % ID_BYTES != 0 || frame_bytes / ID_BYTES > WIRE_MAX_IDS)
		return -1;
	return (long) (frame_bytes / ID_BYTES);
}

void msg_ids_get (const void *p, long i, struct id *out)
{
	memcpy (out->b, (const uint8_t *) p + i * ID_BYTES, ID_BYTES);
}

int msg_ids_each (zmq_msg_t *records, size_t n, void (*each) (const struct id *id, void *arg), void *arg, struct err *err)
{
	return msg_ids_each_ahead (records, n, each, NULL, arg, err);
}

int msg_ids_each_ahead (zmq_msg_t *records, size_t n, void (*each) (const struct id *id, void *arg),
			void (*ahead) (const struct id *id, void *arg), void *arg, struct err *err)
{
	struct id id;

	for (size_t i = 0; i < n; i++)
		if (msg_ids_count (zmq_msg_size (&records[i])) < 0)
			return err_set (err, ERR_INVALID, FAULT_PEER, "%zu bytes are no list of ids", zmq_msg_size (&records[i]));
	for (size_t i = 0; i < n; i++)
		for (long k = 0, count = msg_ids_count (zmq_msg_size (&records[i])); k < count; k++) {
			if (ahead && k + AHEAD < count) {
				msg_ids_get (zmq_msg_data (&records[i]), k + AHEAD, &id);
				ahead (&id, arg);
			}
			msg_ids_get (zmq_msg_data (&records[i]), k, &id);
			each (&id, arg);
		}
	return 0;
}
