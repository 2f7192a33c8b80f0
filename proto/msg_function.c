/* SPDX-License-Identifier: Apache-2.0 */
/* FUNCTION: SPEC.md, section 3.2. Kinds are not judged here: an endpoint says itself which it cannot run. */
#include "proto/msg_function.h"
#include "proto/wire_record.h"

#define FUNCTION_SHORTEST 40	/* up to minor version 0 */
#define FUNCTION_PLAIN 66	/* without files: the record of such a function, and with it what is remembered of its calls, stays as it was */
#define FUNCTION_FIXED 68

static const char *const kinds[KIND_END] = { NULL, "globus", "python", "command", "shared_object" };

const char *msg_kind_name (int kind) { return kind > 0 && kind < KIND_END ? kinds[kind] : "?"; }

int msg_kind_parse (const char *s)
{
	for (int i = 1; s && i < KIND_END; i++)
		if (strcmp (s, kinds[i]) == 0)
			return i;
	return KIND_NONE;
}

void msg_function_encode (struct buf *b, const struct msg_function *m)
{
	uint8_t fixed[FUNCTION_FIXED];
	struct wire_writer w = { fixed };
	struct wire_str parts[] = { m->code, m->entry, m->container, m->container_type, m->files };
	size_t n = m->files.n ? FUNCTION_FIXED : FUNCTION_PLAIN;
	if (m->code.n > WIRE_MAX_CODE || m->entry.n > WIRE_MAX_TEXT || m->container.n > WIRE_MAX_TEXT ||
	    m->container_type.n > WIRE_MAX_TEXT || m->files.n > FILES_MAX_BYTES) {
		wire_refuse (b);
		return;
	}
	wire_w16 (&w, (uint16_t) n);
	wire_w8 (&w, m->kind);
	wire_w8 (&w, m->flags);
	wire_wid (&w, &m->id);
	wire_w32 (&w, (uint32_t) m->code.n);
	wire_w32 (&w, m->time_limit_ms);
	wire_w64 (&w, m->memory_limit_bytes);
	wire_w16 (&w, (uint16_t) m->entry.n);
	wire_w16 (&w, (uint16_t) m->container.n);
	wire_w16 (&w, m->max_batch);
	wire_w16 (&w, (uint16_t) m->container_type.n);
	wire_w32 (&w, m->latency_ms);
	wire_w32 (&w, m->cpu_millis);
	wire_w32 (&w, m->max_pids);
	wire_w32 (&w, m->warm_ms);
	wire_w32 (&w, m->replicas);
	wire_w16 (&w, m->python);
	wire_w16 (&w, (uint16_t) m->files.n);
	wire_record_add (b, fixed, n, parts, 5);
}

int msg_function_decode (struct msg_function *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, FUNCTION_SHORTEST, FUNCTION_FIXED, "FUNCTION", err) < 0)
		return -1;
	m->kind = wire_get_u8 (&r.fixed);
	m->flags = wire_get_u8 (&r.fixed);
	wire_get_id (&r.fixed, &m->id);
	size_t code = wire_get_u32 (&r.fixed);
	m->time_limit_ms = wire_get_u32 (&r.fixed);
	m->memory_limit_bytes = wire_get_u64 (&r.fixed);
	size_t entry = wire_get_u16 (&r.fixed), container = wire_get_u16 (&r.fixed);
	m->max_batch = wire_get_u16 (&r.fixed);
	size_t type = wire_get_u16 (&r.fixed);
	m->latency_ms = wire_get_u32 (&r.fixed);
	m->cpu_millis = wire_get_u32 (&r.fixed);
	m->max_pids = wire_get_u32 (&r.fixed);
	m->warm_ms = wire_get_u32 (&r.fixed);
	m->replicas = wire_get_u32 (&r.fixed);
	m->python = wire_get_u16 (&r.fixed);
	size_t files = wire_get_u16 (&r.fixed);
	if (wire_record_take (&r, &m->code, code, WIRE_MAX_CODE, "code", err) < 0 ||
	    wire_record_take (&r, &m->entry, entry, WIRE_MAX_TEXT, "entry", err) < 0 ||
	    wire_record_take (&r, &m->container, container, WIRE_MAX_TEXT, "container", err) < 0 ||
	    wire_record_take (&r, &m->container_type, type, WIRE_MAX_TEXT, "container type", err) < 0 ||
	    wire_record_take (&r, &m->files, files, FILES_MAX_BYTES, "files", err) < 0)
		return -1;
	return wire_record_close (&r, err);
}
