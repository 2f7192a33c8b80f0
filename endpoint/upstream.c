/* SPDX-License-Identifier: Apache-2.0 */
/* See upstream.h. */
#include "endpoint/upstream.h"
#include "common/log.h"
#include "common/xmem.h"
#include "proto/link.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GATHER_MS = 5 };

struct upstream {
	struct loop *loop;
	void *zctx;
	struct id id;
	char *name, *runtime, *local;
	struct keys keys;
	struct id bulk;
	const struct upstream_ops *ops;
	void *arg;
	struct link *link;
	struct link_peer *peer;		/* while up */
	struct loop_timer *gather;
	char *address, *server_key;
	uint64_t instance;
	uint32_t slots;
};

static void send_capacity (struct upstream *u)
{
	struct msg_capacity c = { .time_left_s = MSG_TIME_UNLIMITED };
	struct buf b;

	if (!u->peer)
		return;
	u->ops->capacity (&c, u->arg);
	buf_init (&b, 256 + WIRE_MAX_TEXT);
	msg_capacity_encode (&b, &c);
	link_send_bytes (u->peer, WIRE_CAPACITY, b.data, b.len);
	buf_fini (&b);
}

static void on_gathered (void *arg)
{
	send_capacity (arg);
}

void upstream_capacity_changed (struct upstream *u)
{
	if (u->peer && !loop_timer_pending (u->gather))
		loop_timer_start (u->gather, GATHER_MS, false);
}

/* ---- the link's calls --------------------------------------------------------------------------------------- */

static void on_up (struct link_peer *peer, const struct msg_hello *hello, const struct msg_welcome *w, void *arg)
{
	struct upstream *u = arg;

	(void) hello;
	u->peer = peer;
	send_capacity (u);
	u->ops->up (w, u->arg);
}

static void on_down (struct link_peer *peer, const char *why, void *arg)
{
	struct upstream *u = arg;

	(void) peer;
	u->peer = NULL;
	loop_timer_stop (u->gather);
	u->ops->down (why, u->arg);
}

static void on_reject (struct link *l, int code, const char *text, void *arg)
{
	struct upstream *u = arg;

	(void) l;
	u->ops->refused (code, text, u->arg);
}

static int take_functions (struct upstream *u, zmq_msg_t *r, size_t n, struct err *err)
{
	struct msg_function m;
	struct id id;

	for (size_t i = 0; i < n; i++)
		if (msg_function_decode (&m, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), err) < 0)
			return -1;
	for (size_t i = 0; i < n; i++) {
		msg_function_decode (&m, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), NULL);
		id = m.id;
		u->ops->function (&r[i], &id, u->arg);
	}
	return 0;
}

static int take_tasks (struct upstream *u, zmq_msg_t *r, size_t n, struct err *err)
{
	struct msg_task m;

	for (size_t i = 0; i < n; i++) {
		if (msg_task_decode (&m, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), err) < 0)
			return -1;
		u->ops->coming (&m.task, u->arg);
	}
	for (size_t i = 0; i < n; i++) {
		msg_task_decode (&m, zmq_msg_data (&r[i]), zmq_msg_size (&r[i]), NULL);
		u->ops->task (&r[i], &m, u->arg);
	}
	return 0;
}

static int take_drain (struct upstream *u, zmq_msg_t *r, size_t n, struct err *err)
{
	struct msg_drain m;

	if (n != 1)
		return err_set (err, ERR_INVALID, FAULT_PEER, "DRAIN with %zu records", n);
	if (msg_drain_decode (&m, zmq_msg_data (r), zmq_msg_size (r), err) < 0)
		return -1;
	u->ops->drain (&m, u->arg);
	return 0;
}

static int on_message (struct link_peer *peer, const struct wire_header *h, zmq_msg_t *r, size_t n, void *arg, struct err *err)
{
	struct upstream *u = arg;

	(void) peer;
	switch (h->type) {
	case WIRE_FUNCTION:
		return take_functions (u, r, n, err);
	case WIRE_TASK:
		return take_tasks (u, r, n, err);
	case WIRE_RESULT_ACK:
		return msg_ids_each_ahead (r, n, u->ops->acked, u->ops->coming, u->arg, err);
	case WIRE_CANCEL:
		return msg_ids_each (r, n, u->ops->cancel, u->arg, err);
	case WIRE_FOLLOW:
		return msg_ids_each (r, n, u->ops->follow, u->arg, err);
	case WIRE_DRAIN:
		return take_drain (u, r, n, err);
	default:
		return err_set (err, ERR_INVALID, FAULT_PEER, "%s is not for an endpoint", wire_type_name (h->type));
	}
}

static void on_burst_end (void *arg)
{
	struct upstream *u = arg;

	u->ops->burst_end (u->arg);
}

static void on_relief (struct link_peer *peer, void *arg)
{
	struct upstream *u = arg;

	(void) peer;
	u->ops->relief (u->arg);
}

static void on_heartbeat (struct link_peer *peer, void *arg)
{
	(void) peer;
	send_capacity (arg);
}

static const struct link_ops link_calls = {
	.on_up = on_up, .on_down = on_down, .on_reject = on_reject, .on_message = on_message, .on_burst_end = on_burst_end,
	.on_relief = on_relief, .on_heartbeat = on_heartbeat,
};

/* ---- life --------------------------------------------------------------------------------------------------- */

struct upstream *upstream_create (struct loop *l, void *zctx, const struct upstream_opts *o, struct err *err)
{
	struct upstream *u = xcalloc (1, sizeof (*u));

	(void) err;
	u->loop = l;
	u->zctx = zctx;
	u->id = o->id;
	u->name = xstrdup (o->name);
	u->runtime = xstrdup (o->runtime);
	u->local = o->local ? xstrdup (o->local) : NULL;
	u->keys = *o->keys;
	u->ops = o->ops;
	if (o->bulk)
		u->bulk = *o->bulk;
	u->arg = o->arg;
	u->gather = loop_timer_create (l, on_gathered, u);
	ids_random (&u->instance, sizeof (u->instance));
	return u;
}

void upstream_destroy (struct upstream **up, int64_t linger_ms)
{
	struct upstream *u = *up;

	if (!u)
		return;
	link_destroy (&u->link, linger_ms);
	loop_timer_destroy (&u->gather);
	explicit_bzero (&u->keys, sizeof (u->keys));
	free (u->name);
	free (u->runtime);
	free (u->local);
	free (u->address);
	free (u->server_key);
	free (u);
	*up = NULL;
}

static int dial (struct upstream *u, const char *address, const char *server_key, int64_t heartbeat_ms, struct err *err)
{
	struct link_opts o = {
		.name = "forwarder", .ops = &link_calls, .arg = u, .heartbeat_ms = heartbeat_ms,
		.public_key = u->keys.public_key, .secret_key = u->keys.secret_key, .server_key = server_key,
		.bulk = &u->bulk, .local = u->local,
		.hello = {
			.role = ROLE_ENDPOINT, .min_major = WIRE_MAJOR_MIN, .max_major = WIRE_MAJOR, .minor = WIRE_MINOR,
			.id = u->id, .instance = u->instance, .slots = u->slots, .pid = (uint32_t) getpid (),
			.name = wire_str (u->name, strlen (u->name)), .version = WIRE_STR (WEFT_VERSION),
			.runtime = wire_str (u->runtime, strlen (u->runtime)),
		},
	};

	u->link = link_dial (u->loop, u->zctx, address, &o, err);
	return u->link ? 0 : -1;
}

int upstream_address (struct upstream *u, const char *address, const char *server_key, int64_t heartbeat_ms, struct err *err)
{
	int rc;

	if (strlen (server_key) != 40)
		return err_set (err, ERR_INVALID, FAULT_PEER, "the service named no valid key of the forwarder");
	if (u->link && u->address && strcmp (u->address, address) == 0 && strcmp (u->server_key, server_key) == 0)
		return 0;
	rc = u->link ? link_redial (u->link, address, server_key, err) : dial (u, address, server_key, heartbeat_ms, err);
	if (rc < 0)
		return -1;
	free (u->address);
	free (u->server_key);
	u->address = xstrdup (address);
	u->server_key = xstrdup (server_key);
	log_info ("upstream", "forwarder", "address=%s", address);
	return 0;
}

bool upstream_up (const struct upstream *u)
{
	return u->peer != NULL;
}

int upstream_major (const struct upstream *u)
{
	return u->peer ? link_peer_major (u->peer) : WIRE_MAJOR;
}

bool upstream_bulk (const struct upstream *u)
{
	return u->peer && link_peer_bulk (u->peer);
}

bool upstream_congested (const struct upstream *u)
{
	return u->peer && link_congested (u->peer);
}

void upstream_slots (struct upstream *u, uint32_t slots)
{
	if (u->slots != slots && u->link)
		link_set_slots (u->link, slots);
	u->slots = slots;
}

void upstream_send (struct upstream *u, enum wire_type type, zmq_msg_t *record)
{
	if (u->peer) {
		link_send (u->peer, type, record);
		return;
	}
	zmq_msg_close (record);
	zmq_msg_init (record);
}

void upstream_bytes (struct upstream *u, enum wire_type type, const void *p, size_t n)
{
	if (u->peer)
		link_send_bytes (u->peer, type, p, n);
}

void upstream_id (struct upstream *u, enum wire_type type, const struct id *id)
{
	if (u->peer)
		link_send_id (u->peer, type, id);
}
