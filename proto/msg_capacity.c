/* SPDX-License-Identifier: Apache-2.0 */
/* CAPACITY, DRAIN, CONTAINER_STATE, IMAGE, METRICS: SPEC.md, section 3.3. */
#include "proto/msg_capacity.h"
#include "proto/wire_record.h"

#define CAPACITY_FIXED 56
#define CAPACITY_SHORTEST 54
#define DRAIN_FIXED 8
#define DRAIN_START 1
#define CONTAINER_FIXED 28
#define CONTAINER_SHORTEST 26
#define CONTAINER_STATES 6
#define IMAGE_FIXED 40
#define METRICS_FIXED 6

void msg_capacity_encode (struct buf *b, const struct msg_capacity *m)
{
	uint8_t fixed[CAPACITY_FIXED];
	struct wire_writer w = { fixed };
	struct wire_str text = wire_clip_head (m->text, WIRE_MAX_TEXT);
	wire_w16 (&w, CAPACITY_FIXED);
	wire_w32 (&w, m->window_tasks);
	wire_w64 (&w, m->window_bytes);
	wire_w32 (&w, m->slots);
	wire_w32 (&w, m->free_slots);
	wire_w32 (&w, m->queued);
	wire_w32 (&w, m->running);
	wire_w32 (&w, m->managers);
	wire_w32 (&w, m->blocks);
	wire_w32 (&w, m->pending_blocks);
	wire_w32 (&w, m->time_left_s);
	wire_w64 (&w, m->tasks_done);
	wire_w16 (&w, (uint16_t) text.n);
	wire_record_add (b, fixed, sizeof (fixed), &text, 1);
}

int msg_capacity_decode (struct msg_capacity *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, CAPACITY_SHORTEST, CAPACITY_FIXED, "CAPACITY", err) < 0)
		return -1;
	m->window_tasks = wire_get_u32 (&r.fixed);
	m->window_bytes = wire_get_u64 (&r.fixed);
	m->slots = wire_get_u32 (&r.fixed);
	m->free_slots = wire_get_u32 (&r.fixed);
	m->queued = wire_get_u32 (&r.fixed);
	m->running = wire_get_u32 (&r.fixed);
	m->managers = wire_get_u32 (&r.fixed);
	m->blocks = wire_get_u32 (&r.fixed);
	m->pending_blocks = wire_get_u32 (&r.fixed);
	m->time_left_s = wire_get_u32 (&r.fixed);
	m->tasks_done = wire_get_u64 (&r.fixed);
	if (wire_record_take (&r, &m->text, wire_get_u16 (&r.fixed), WIRE_MAX_TEXT, "text", err) < 0)
		return -1;
	return wire_record_close (&r, err);
}

void msg_drain_encode (struct buf *b, const struct msg_drain *m)
{
	uint8_t fixed[DRAIN_FIXED];
	struct wire_writer w = { fixed };
	wire_w16 (&w, DRAIN_FIXED);
	wire_w16 (&w, m->start ? DRAIN_START : 0);
	wire_w32 (&w, m->grace_ms);
	wire_record_add (b, fixed, sizeof (fixed), NULL, 0);
}

int msg_drain_decode (struct msg_drain *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, DRAIN_FIXED, DRAIN_FIXED, "DRAIN", err) < 0)
		return -1;
	m->start = (wire_get_u16 (&r.fixed) & DRAIN_START) != 0;
	m->grace_ms = wire_get_u32 (&r.fixed);
	return wire_record_close (&r, err);
}

void msg_container_state_encode (struct buf *b, const struct msg_container_state *m)
{
	uint8_t fixed[CONTAINER_FIXED];
	struct wire_writer w = { fixed };
	struct wire_str parts[] = { m->image, wire_clip_head (m->text, WIRE_MAX_TEXT), m->digest };
	if (m->image.n > WIRE_MAX_TEXT || m->digest.n > WIRE_MAX_TEXT) {
		wire_refuse (b);
		return;
	}
	wire_w16 (&w, CONTAINER_FIXED);
	wire_w8 (&w, m->state);
	wire_w8 (&w, 0);
	wire_wid (&w, &m->id);
	wire_w16 (&w, m->code);
	wire_w16 (&w, (uint16_t) parts[0].n);
	wire_w16 (&w, (uint16_t) parts[1].n);
	wire_w16 (&w, (uint16_t) parts[2].n);
	wire_record_add (b, fixed, sizeof (fixed), parts, 3);
}

int msg_container_state_decode (struct msg_container_state *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, CONTAINER_SHORTEST, CONTAINER_FIXED, "CONTAINER_STATE", err) < 0)
		return -1;
	m->state = wire_get_u8 (&r.fixed);
	wire_get_u8 (&r.fixed);
	wire_get_id (&r.fixed, &m->id);
	m->code = wire_get_u16 (&r.fixed);
	size_t image = wire_get_u16 (&r.fixed), text = wire_get_u16 (&r.fixed), digest = wire_get_u16 (&r.fixed);
	if (wire_record_take (&r, &m->image, image, WIRE_MAX_TEXT, "image", err) < 0 ||
	    wire_record_take (&r, &m->text, text, WIRE_MAX_TEXT, "text", err) < 0 ||
	    wire_record_take (&r, &m->digest, digest, WIRE_MAX_TEXT, "digest", err) < 0 || wire_record_close (&r, err) < 0)
		return -1;
	if (m->state == 0 || m->state > CONTAINER_STATES)
		return wire_bad_value ("CONTAINER_STATE", "state", m->state, err);
	return 0;
}

void msg_image_encode (struct buf *b, const struct msg_image *m)
{
	uint8_t fixed[IMAGE_FIXED];
	struct wire_writer w = { fixed };
	if (m->digest.n > WIRE_MAX_TEXT) {
		wire_refuse (b);
		return;
	}
	wire_w16 (&w, IMAGE_FIXED);
	wire_wid (&w, &m->function);
	wire_wid (&w, &m->image);
	wire_w32 (&w, m->valid_ms);
	wire_w16 (&w, (uint16_t) m->digest.n);
	wire_record_add (b, fixed, sizeof (fixed), &m->digest, 1);
}

int msg_image_decode (struct msg_image *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, IMAGE_FIXED, IMAGE_FIXED, "IMAGE", err) < 0)
		return -1;
	wire_get_id (&r.fixed, &m->function);
	wire_get_id (&r.fixed, &m->image);
	m->valid_ms = wire_get_u32 (&r.fixed);
	size_t digest = wire_get_u16 (&r.fixed);
	if (wire_record_take (&r, &m->digest, digest, WIRE_MAX_TEXT, "digest", err) < 0)
		return -1;
	return wire_record_close (&r, err);
}

void msg_metrics_encode (struct buf *b, const struct msg_metrics *m)
{
	uint8_t fixed[METRICS_FIXED];
	struct wire_writer w = { fixed };
	if (m->json.n > WIRE_MAX_TAIL) {
		wire_refuse (b);
		return;
	}
	wire_w16 (&w, METRICS_FIXED);
	wire_w32 (&w, (uint32_t) m->json.n);
	wire_record_add (b, fixed, sizeof (fixed), &m->json, 1);
}

int msg_metrics_decode (struct msg_metrics *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, METRICS_FIXED, METRICS_FIXED, "METRICS", err) < 0)
		return -1;
	size_t json = wire_get_u32 (&r.fixed);
	if (wire_record_take (&r, &m->json, json, WIRE_MAX_TAIL, "json", err) < 0)
		return -1;
	return wire_record_close (&r, err);
}
