/* SPDX-License-Identifier: Apache-2.0 */
/* See managers.h. */
#include "endpoint/managers.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/utf8.h"
#include "common/xmem.h"
#include "proto/link.h"
#include "proto/msg_resources.h"

#include <stdlib.h>
#include <string.h>

struct managers {
	struct link *link;
	const struct managers_ops *ops;
	void *arg;
	struct manager *first;
	size_t n;
};

static void text_copy (char *out, size_t cap, struct wire_str s)
{
	size_t n = s.n < cap - 1 ? s.n : cap - 1;

	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char) s.p[i] < ' ' || s.p[i] == 0x7f ? '?' : s.p[i];
	out[n] = 0;
	utf8_mend (out, n);	/* it may have been cut */
}

static int on_hello (struct link_peer *peer, const struct msg_hello *h, struct msg_welcome *w, void *arg, struct err *err)
{
	(void) peer;
	(void) w;
	(void) arg;
	if (h->role != ROLE_MANAGER)
		return err_set (err, ERR_FORBIDDEN, FAULT_PEER, "only managers may connect here");
	if (h->slots == 0 || h->slots > 65536)
		return err_set (err, ERR_INVALID, FAULT_PEER, "a manager with %u slots", h->slots);
	return 0;
}

static void on_up (struct link_peer *peer, const struct msg_hello *h, const struct msg_welcome *w, void *arg)
{
	struct managers *ms = arg;
	struct manager *m = xcalloc (1, sizeof (*m));

	(void) w;
	m->all = ms;
	m->peer = peer;
	m->id = *link_peer_id (peer);
	m->pid = h->pid;
	m->knows_nodes = link_peer_major (peer) >= 2 && link_peer_minor (peer) >= RESOURCES_MINOR;
	text_copy (m->name, sizeof (m->name), h->name);
	text_copy (m->block, sizeof (m->block), h->block);
	text_copy (m->version, sizeof (m->version), h->version);
	m->functions = map_create ();
	m->wanted = map_create ();
	m->strange = map_create ();
	m->warm = warm_create ();
	m->images = images_create ();
	m->node.slots = h->slots;
	m->node.window = h->slots;	/* until its first CAPACITY */
	m->idle_since_ms = clock_now_ms ();
	m->next = ms->first;
	if (ms->first)
		ms->first->prev = m;
	ms->first = m;
	ms->n++;
	link_peer_set_data (peer, m);
	ms->ops->up (m, ms->arg);
}

static void manager_free (struct manager *m)
{
	map_destroy (&m->functions);
	map_destroy (&m->wanted);
	map_destroy (&m->strange);
	warm_destroy (&m->warm);
	images_destroy (&m->images);
	free (m);
}

static void on_down (struct link_peer *peer, const char *why, void *arg)
{
	struct managers *ms = arg;
	struct manager *m = link_peer_data (peer);

	if (!m)
		return;
	if (m->prev)
		m->prev->next = m->next;
	else
		ms->first = m->next;
	if (m->next)
		m->next->prev = m->prev;
	ms->n--;
	m->prev = m->next = NULL;
	link_peer_set_data (peer, NULL);
	m->peer = NULL;
	ms->ops->down (m, *m->why ? m->why : why, ms->arg);
	manager_free (m);
}

/* ---- messages ----------------------------------------------------------------------------------------------- */

static int take_results (struct managers *ms, struct manager *m, zmq_msg_t *r, size_t n, struct err *err)
{
	struct msg_result d;
	struct id id;

	for (size_t i = 0; i < n; i++) {
		if (msg_result_decode (&d, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), err) < 0)
			return -1;
		ms->ops->coming (&d.task, ms->arg);
	}
	for (size_t i = 0; i < n; i++) {
		msg_result_id (zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), &id);
		ms->ops->result (m, &r[i], &id, ms->arg);
	}
	return 0;
}

static int take_states (struct managers *ms, struct manager *m, zmq_msg_t *r, size_t n, struct err *err)
{
	struct msg_task_state s;

	for (size_t i = 0; i < n; i++)
		if (msg_task_state_decode (&s, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), err) < 0)
			return -1;
	for (size_t i = 0; i < n; i++) {
		msg_task_state_decode (&s, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), NULL);
		ms->ops->state (m, &s, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), ms->arg);
	}
	return 0;
}

static int take_outputs (struct managers *ms, struct manager *m, zmq_msg_t *r, size_t n, struct err *err)
{
	struct msg_output o;

	for (size_t i = 0; i < n; i++)
		if (msg_output_decode (&o, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), err) < 0)
			return -1;
	for (size_t i = 0; i < n; i++) {
		msg_output_decode (&o, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), NULL);
		ms->ops->output (m, &o, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), ms->arg);
	}
	return 0;
}

static void take_returned (const struct id *task, void *arg)
{
	struct manager *m = arg;

	m->all->ops->returned (m, task, m->all->arg);
}

static void take_missing (const struct id *function, void *arg)
{
	struct manager *m = arg;

	m->all->ops->missing (m, function, m->all->arg);
}

static int take_containers (struct managers *ms, struct manager *m, zmq_msg_t *r, size_t n, struct err *err)
{
	struct msg_container_state s;

	for (size_t i = 0; i < n; i++)
		if (msg_container_state_decode (&s, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), err) < 0)
			return -1;
	for (size_t i = 0; i < n; i++) {
		msg_container_state_decode (&s, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), NULL);
		ms->ops->container (m, &s, ms->arg);
	}
	return 0;
}

static int take_images (struct managers *ms, struct manager *m, zmq_msg_t *r, size_t n, struct err *err)
{
	struct msg_image i;

	for (size_t k = 0; k < n; k++)
		if (msg_image_decode (&i, zmq_msg_data (&r[k]), zmq_msg_size (&r[k]), err) < 0)
			return -1;
	for (size_t k = 0; k < n; k++) {
		msg_image_decode (&i, zmq_msg_data (&r[k]), zmq_msg_size (&r[k]), NULL);
		ms->ops->image (m, &i, ms->arg);
	}
	return 0;
}

static int take_one (struct managers *ms, struct manager *m, int type, zmq_msg_t *r, size_t n, struct err *err)
{
	struct msg_capacity c;
	struct msg_drain d;

	if (n != 1)
		return err_set (err, ERR_INVALID, FAULT_PEER, "%s with %zu records", wire_type_name (type), n);
	if (type == WIRE_CAPACITY) {
		if (msg_capacity_decode (&c, zmq_msg_data (r), zmq_msg_size (r), err) < 0)
			return -1;
		ms->ops->capacity (m, &c, ms->arg);
	} else {
		if (msg_drain_decode (&d, zmq_msg_data (r), zmq_msg_size (r), err) < 0)
			return -1;
		ms->ops->drain (m, d.start, ms->arg);
	}
	return 0;
}

static int on_message (struct link_peer *peer, const struct wire_header *h, zmq_msg_t *r, size_t n, void *arg, struct err *err)
{
	struct managers *ms = arg;
	struct manager *m = link_peer_data (peer);

	if (!m)
		return 0;
	switch (h->type) {
	case WIRE_RESULT:
		return take_results (ms, m, r, n, err);
	case WIRE_TASK_STATE:
		return take_states (ms, m, r, n, err);
	case WIRE_OUTPUT:
		return take_outputs (ms, m, r, n, err);
	case WIRE_TASK_RETURN:
		return msg_ids_each (r, n, take_returned, m, err);
	case WIRE_FUNCTION_MISSING:
		return msg_ids_each (r, n, take_missing, m, err);
	case WIRE_CAPACITY:
	case WIRE_DRAIN:
		return take_one (ms, m, h->type, r, n, err);
	case WIRE_CONTAINER_STATE:
		return take_containers (ms, m, r, n, err);
	case WIRE_IMAGE:
		return take_images (ms, m, r, n, err);
	case WIRE_METRICS:
		return 0;	/* for later versions of the agent */
	default:
		return err_set (err, ERR_INVALID, FAULT_PEER, "%s is not for an agent", wire_type_name (h->type));
	}
}

static void on_burst_end (void *arg)
{
	struct managers *ms = arg;

	ms->ops->burst_end (ms->arg);
}

static void on_relief (struct link_peer *peer, void *arg)
{
	struct managers *ms = arg;
	struct manager *m = link_peer_data (peer);

	if (m)
		ms->ops->relief (m, ms->arg);
}

static const struct link_ops link_calls = {
	.on_hello = on_hello, .on_up = on_up, .on_down = on_down, .on_message = on_message, .on_burst_end = on_burst_end,
	.on_relief = on_relief,
};

struct managers *managers_create (struct loop *l, void *zctx, const struct managers_opts *o, struct err *err)
{
	struct managers *ms = xcalloc (1, sizeof (*ms));
	const char *addresses[] = { o->address, NULL };
	struct link_opts lo = {
		.name = "managers", .ops = &link_calls, .arg = ms, .heartbeat_ms = o->heartbeat_ms, .threshold_ms = o->threshold_ms,
		.max_payload_bytes = o->max_payload_bytes, .max_result_bytes = o->max_result_bytes, .bulk = o->bulk,
		.public_key = o->keys ? o->keys->public_key : NULL, .secret_key = o->keys ? o->keys->secret_key : NULL,
	};

	ms->ops = o->ops;
	ms->arg = o->arg;
	ms->link = link_listen (l, zctx, addresses, &lo, err);
	if (!ms->link || (o->keys && link_allow_keys (ms->link, &o->manager_key, 1, err) < 0))
		managers_destroy (&ms, 0);
	return ms;
}

void managers_destroy (struct managers **msp, int64_t linger_ms)
{
	struct managers *ms = *msp;

	if (!ms)
		return;
	link_destroy (&ms->link, linger_ms);
	while (ms->first) {
		struct manager *m = ms->first;
		ms->first = m->next;
		manager_free (m);
	}
	free (ms);
	*msp = NULL;
}

const char *managers_address (const struct managers *ms)
{
	return link_address (ms->link);
}

struct manager *managers_first (const struct managers *ms)
{
	return ms->first;
}

size_t managers_count (const struct managers *ms)
{
	return ms->n;
}

void managers_close (struct manager *m, const char *why)
{
	snprintf (m->why, sizeof (m->why), "%s", why);
	if (m->peer)
		link_peer_close (m->peer, ERR_BAD_STATE, why);
}
