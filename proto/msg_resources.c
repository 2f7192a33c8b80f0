/* SPDX-License-Identifier: Apache-2.0 */
/* See msg_resources.h; SPEC.md, section 3.8. */
#include "proto/msg_resources.h"
#include "proto/wire_record.h"

#define RESOURCES_FIXED 14

void msg_resources_encode (struct buf *b, const struct msg_resources *m)
{
	uint8_t fixed[RESOURCES_FIXED];
	struct wire_writer w = { fixed };
	struct wire_str parts[] = { m->options, m->environ };
	if (m->options.n > RESOURCES_OPTIONS_MAX || m->environ.n > RESOURCES_ENVIRON_MAX) {
		wire_refuse (b);
		return;
	}
	wire_w16 (&w, RESOURCES_FIXED);
	wire_w16 (&w, m->nodes);
	wire_w32 (&w, m->ranks_per_node);
	wire_w16 (&w, (uint16_t) m->options.n);
	wire_w32 (&w, (uint32_t) m->environ.n);
	wire_record_add (b, fixed, sizeof (fixed), parts, 2);
}

bool msg_resources_environ_next (struct wire_str *environ, struct wire_str *entry)
{
	const char *end = environ->n ? memchr (environ->p, 0, environ->n) : NULL;

	if (!end)
		return false;
	*entry = wire_str (environ->p, (size_t) (end - environ->p));
	*environ = wire_str (end + 1, environ->n - entry->n - 1);
	return true;
}

bool msg_resources_environ_ok (struct wire_str environ)
{
	struct wire_str entry;

	while (msg_resources_environ_next (&environ, &entry)) {
		const char *is = memchr (entry.p, '=', entry.n);
		if (!is || is == entry.p)
			return false;
	}
	return !environ.n;
}

int msg_resources_decode (struct msg_resources *m, const void *p, size_t n, struct err *err)
{
	struct wire_record r;
	if (wire_record_open (&r, p, n, RESOURCES_FIXED, RESOURCES_FIXED, "resources", err) < 0)
		return -1;
	m->nodes = wire_get_u16 (&r.fixed);
	m->ranks_per_node = wire_get_u32 (&r.fixed);
	size_t options = wire_get_u16 (&r.fixed), environ = wire_get_u32 (&r.fixed);
	if (wire_record_take (&r, &m->options, options, RESOURCES_OPTIONS_MAX, "options", err) < 0 ||
	    wire_record_take (&r, &m->environ, environ, RESOURCES_ENVIRON_MAX, "environ", err) < 0 || wire_record_close (&r, err) < 0)
		return -1;
	if (m->nodes < 1 || m->nodes > RESOURCES_NODES_MAX)
		return wire_bad_value ("resources", "nodes", m->nodes, err);
	if (m->ranks_per_node < 1 || m->ranks_per_node > RESOURCES_RANKS_MAX)
		return wire_bad_value ("resources", "ranks_per_node", m->ranks_per_node, err);
	if ((m->options.n && memchr (m->options.p, 0, m->options.n)) || !msg_resources_environ_ok (m->environ))
		return err_set (err, ERR_INVALID, FAULT_PEER, "resources: options or environ are no such texts");
	return 0;
}
