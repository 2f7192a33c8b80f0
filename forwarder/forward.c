/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/forward.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "forwarder/forward_internal.h"
#include "proto/msg_capacity.h"

#define MOD "forward"
#define SEEN_EVERY_MS 5000

/* ---- from the endpoint ------------------------------------------------------------------------------------------------ */

static int on_hello (struct link_peer *peer, const struct msg_hello *h, struct msg_welcome *w, void *arg, struct err *err)
{
	struct forward *f = arg;
	(void)w;
	if (h->role != ROLE_ENDPOINT || !id_eq (&h->id, &f->endpoint))
		return err_set (err, ERR_FORBIDDEN, FAULT_PEER, "this forwarder serves endpoint %s only", f->ep);
	if (f->deleted)
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "this endpoint was deleted");
	/* Over TCP it was sent to us. Here it comes to whoever is on its host; and another forwarder, elsewhere, may have its tasks by now. */
	if (link_peer_within (peer) && !presence_sure (f->presence))
		return err_set (err, ERR_BAD_STATE, FAULT_SITE, "this forwarder cannot renew its lease, and another one may serve the endpoint");
	return forward_locked (f, err) ? -1 : 0;
}

/* A forwarder drains no endpoint; one of an earlier version did, and the endpoint keeps that until it is told the opposite. */
static void end_drain (struct link_peer *peer)
{
	struct msg_drain d = { .start = false };
	struct buf b;
	buf_init (&b, 0);
	msg_drain_encode (&b, &d);
	link_send_bytes (peer, WIRE_DRAIN, b.data, b.len);
	buf_fini (&b);
}

static void on_up (struct link_peer *peer, const struct msg_hello *h, const struct msg_welcome *w, void *arg)
{
	struct forward *f = arg;
	(void)w;
	f->peer = peer;
	f->window_tasks = 0; /* until CAPACITY says otherwise */
	f->window_bytes = 0;
	log_info (MOD, "endpoint connected", "ep=%s name=%.*s slots=%u again=%zu", f->ep, (int)h->name.n, h->name.p, h->slots,
		  hand_count_in (f->hand, HAND_SENT));
	hand_make_ready (f->hand, HAND_RETURNED);
	hand_make_ready (f->hand, HAND_SENT); /* the endpoint drops what it has already */
	presence_connected (f->presence, h, link_epoch (peer));
	bodies_session_up (f->bodies);
	end_drain (peer);
}

static void on_down (struct link_peer *peer, const char *why, void *arg)
{
	struct forward *f = arg;
	if (f->peer != peer)
		return;
	f->peer = NULL;
	f->gone_ms = clock_real_ns () / 1000000;
	log_warn (MOD, "endpoint gone", "ep=%s why=%s in_hand=%zu", f->ep, why, hand_count (f->hand));
	if (!f->stopping)
		presence_disconnected (f->presence);
}

/* What is stored must be there: an end is told once and for ever. */
static bool result_is_there (const struct forward *f, const struct msg_result *m, struct err *err)
{
	if (f->bulk)
		return bulk_check (f->bulk, &m->bulk, err) == 0;
	err_set (err, ERR_NOT_FOUND, FAULT_SITE, "its data is in a bulk store that the forwarder does not have (bulk.dir)");
	return false;
}

static void refuse_result (struct forward *f, const struct id *task, struct err *why, zmq_msg_t *rec, bool verify)
{
	struct msg_result m;
	struct buf b;
	char id[ID_TEXT];
	err_prefix (why, "the task succeeded, but its result is lost");
	log_error (MOD, "result lost", "ep=%s task=%s err=%s", f->ep, id_text (task, id), why->text);
	msg_result_decode (&m, zmq_msg_data (rec), zmq_msg_size (rec), NULL); /* accepted before */
	bulk_result_lost (&m, why);
	m.stamps[STAMP_FORWARDER_RESULT] = clock_real_ns ();
	buf_init (&b, 0);
	msg_result_encode (&b, &m, WIRE_MAJOR);
	zmq_msg_close (rec);
	link_msg_from_buf (rec, &b);
	done_store (f->done, task, STATE_FAILED, rec, verify);
}

static void take_result (struct forward *f, const struct msg_result *m, zmq_msg_t *rec, int64_t now)
{
	struct id task = m->task;
	int state = msg_status_state (m->status);
	bool too_large = m->result_bytes > (size_t)f->conf->max_result_bytes;
	struct err lost = { 0 };
	struct hand_task *t = hand_get (f->hand, &task);
	if (t && t->state == HAND_ENDING)
		return; /* sent again; the first one is acknowledged when it is stored */
	if (t)
		hand_move (f->hand, t, HAND_ENDING);
	f->returned_ms = 0;
	if (too_large && t) {
		done_fail (f->done, &task, ERR_TOO_LARGE, FAULT_USER, "its result is larger than forwarders take");
		return;
	}
	if ((m->flags & RESULT_BULK) && !result_is_there (f, m, &lost)) {
		refuse_result (f, &task, &lost, rec, !t);
		return;
	}
	if (m->flags & RESULT_BULK)
		bulk_sync (f->bulk, &m->bulk);
	msg_result_stamp (zmq_msg_data (rec), STAMP_FORWARDER_RESULT, now);
	done_store (f->done, &task, state, rec, !t);
}

static int take_results (struct forward *f, zmq_msg_t *rec, size_t n, struct err *err)
{
	struct msg_result m;
	for (size_t i = 0; i < n; i++) /* all or nothing: see SPEC.md, section 1 */
		if (msg_result_decode (&m, zmq_msg_data (&rec[i]), zmq_msg_size (&rec[i]), err) < 0)
			return -1;
	int64_t now = clock_real_ns ();
	for (size_t i = 0; i < n; i++) {
		msg_result_decode (&m, zmq_msg_data (&rec[i]), zmq_msg_size (&rec[i]), err);
		take_result (f, &m, &rec[i], now);
	}
	if (done_pending_bytes (f->done) > (size_t)f->conf->max_unstored_bytes && !f->paused) {
		log_warn (MOD, "results cannot be stored; the endpoint keeps the rest", "ep=%s bytes=%zu", f->ep,
			  done_pending_bytes (f->done));
		f->paused = true;
		link_pause (f->link, true);
	}
	return 0;
}

static int take_states (struct forward *f, zmq_msg_t *rec, size_t n, struct err *err)
{
	struct msg_task_state s;
	for (size_t i = 0; i < n; i++)
		if (msg_task_state_decode (&s, zmq_msg_data (&rec[i]), zmq_msg_size (&rec[i]), err) < 0)
			return -1;
	for (size_t i = 0; i < n && rds_up (f->r); i++) {
		msg_task_state_decode (&s, zmq_msg_data (&rec[i]), zmq_msg_size (&rec[i]), err);
		if (!msg_state_ended (s.state) && hand_get (f->hand, &s.task))
			layout_progress_send (f->r, &s.task, s.state, NULL, NULL);
	}
	return 0;
}

/* For whoever follows them; a result makes it void, so nobody waits for this to be stored. */
static int take_outputs (struct forward *f, zmq_msg_t *rec, size_t n, struct err *err)
{
	struct msg_output o;
	for (size_t i = 0; i < n; i++)
		if (msg_output_decode (&o, zmq_msg_data (&rec[i]), zmq_msg_size (&rec[i]), err) < 0)
			return -1;
	for (size_t i = 0; i < n && rds_up (f->r); i++) {
		struct hand_task *t;
		msg_output_decode (&o, zmq_msg_data (&rec[i]), zmq_msg_size (&rec[i]), err);
		if ((t = hand_get (f->hand, &o.task)) && t->state == HAND_SENT)
			layout_output_send (f->r, &o.task, wire_str (zmq_msg_data (&rec[i]), zmq_msg_size (&rec[i])));
	}
	return 0;
}

/* Not at once: an endpoint that gives back all it gets would keep both sides busy with it. */
static void on_returned (const struct id *id, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t = hand_get (f->hand, id);
	if (!t || t->state != HAND_SENT)
		return;
	if (t->cancelled) {
		forward_drop_task (f, t);
		return;
	}
	hand_move (f->hand, t, HAND_RETURNED);
	if (loop_timer_pending (f->later))
		return;
	f->returned_ms = f->returned_ms ? f->returned_ms * 2 : RETURNED_MIN_MS;
	if (f->returned_ms > RETURNED_MAX_MS)
		f->returned_ms = RETURNED_MAX_MS;
	forward_try_later (f, f->returned_ms);
}

static void on_later (void *arg)
{
	struct forward *f = arg;
	hand_make_ready (f->hand, HAND_RETURNED);
	forward_load_cancels (f);
	loop_defer_schedule (f->pump);
}

static void on_function_missing (const struct id *id, void *arg)
{
	struct forward *f = arg;
	bodies_missed (f->bodies, f->peer, id);
}

/* In a session that the endpoint knows of: it has said something in it. */
static void tell_cancelled (struct forward *f)
{
	struct hand_task *t;
	while ((t = hand_first (f->hand, HAND_CANCELLED)))
		forward_say_cancel (f, t);
}

static int take_capacity (struct forward *f, zmq_msg_t *rec, size_t n, struct err *err)
{
	struct msg_capacity c;
	if (n != 1 || msg_capacity_decode (&c, zmq_msg_data (rec), zmq_msg_size (rec), err) < 0)
		return -1;
	f->window_tasks = c.window_tasks;
	f->window_bytes = c.window_bytes;
	tell_cancelled (f);
	presence_capacity (f->presence, &c);
	return 0;
}

static int take_metrics (struct forward *f, zmq_msg_t *rec, size_t n, struct err *err)
{
	struct msg_metrics m;
	if (n != 1 || msg_metrics_decode (&m, zmq_msg_data (rec), zmq_msg_size (rec), err) < 0)
		return -1;
	presence_metrics (f->presence, m.json);
	return 0;
}

static int take_drain (struct forward *f, zmq_msg_t *rec, size_t n, struct err *err)
{
	struct msg_drain d;
	if (n != 1 || msg_drain_decode (&d, zmq_msg_data (rec), zmq_msg_size (rec), err) < 0)
		return -1;
	presence_draining (f->presence, d.start);
	return 0;
}

static int on_message (struct link_peer *peer, const struct wire_header *h, zmq_msg_t *rec, size_t n, void *arg, struct err *err)
{
	struct forward *f = arg;
	int rc = 0;
	if (peer != f->peer && h->type != WIRE_RESULT)
		return 0;
	switch (h->type) {
	case WIRE_RESULT: rc = take_results (f, rec, n, err); break;
	case WIRE_TASK_STATE: rc = take_states (f, rec, n, err); break;
	case WIRE_OUTPUT: rc = take_outputs (f, rec, n, err); break;
	case WIRE_TASK_RETURN: rc = msg_ids_each (rec, n, on_returned, f, err); break;
	case WIRE_FUNCTION_MISSING: rc = msg_ids_each (rec, n, on_function_missing, f, err); break;
	case WIRE_CAPACITY: rc = take_capacity (f, rec, n, err); break;
	case WIRE_METRICS: rc = take_metrics (f, rec, n, err); break;
	case WIRE_DRAIN: rc = take_drain (f, rec, n, err); break; /* for people: its window says what may be sent */
	default: break;
	}
	loop_defer_schedule (f->pump);
	return rc;
}

static void on_relief (struct link_peer *peer, void *arg)
{
	struct forward *f = arg;
	(void)peer;
	loop_defer_schedule (f->pump);
}

static const struct link_ops link_ops = {
	.on_hello = on_hello, .on_up = on_up, .on_down = on_down, .on_message = on_message, .on_relief = on_relief,
};

static void on_done (const struct id *task, int stored, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t = hand_get (f->hand, task);
	(void)stored; /* 0: it had ended, -1: it has expired; both are over */
	if (t)
		forward_drop_task (f, t);
	if (f->peer)
		link_send_id (f->peer, WIRE_RESULT_ACK, task);
	if (f->paused && done_pending_bytes (f->done) < (size_t)f->conf->max_unstored_bytes / 2) {
		f->paused = false;
		link_pause (f->link, false);
	}
	loop_defer_schedule (f->pump);
}

/* ---- life ---------------------------------------------------------------------------------------------------------------- */

static void on_lease (void *arg)
{
	struct forward *f = arg;
	log_info (MOD, "serving", "ep=%s addr=%s", f->ep, link_address (f->link));
	forward_load_endpoint (f);	/* once more: now it may listen in the store */
	forward_load_gone (f);
	forward_load_cancels (f);
	intake_start (f->intake);
	expire_start (f->expire);
}

static void on_lease_lost (const char *why, void *arg)
{
	struct forward *f = arg;
	log_warn (MOD, "lease lost", "ep=%s why=%s", f->ep, why);
	f->status = FORWARD_EXIT_LEASE;
	f->stopping = true;
	intake_stop (f->intake);
	loop_stop (f->loop);
}

static const struct presence_ops presence_ops = { .on_lease = on_lease, .on_lease_lost = on_lease_lost };

static void on_redis (struct rds *r, bool up, const char *why, void *arg)
{
	struct forward *f = arg;
	(void)r;
	if (!up) {
		log_warn (MOD, "Redis is away", "ep=%s why=%s", f->ep, why ? why : "");
		return;
	}
	if (f->stopping || !f->presence || !f->intake)
		return;
	presence_redis_up (f->presence);
	intake_redis_up (f->intake);
	forward_load_endpoint (f);
	forward_load_gone (f);
	forward_load_cancels (f);
	bodies_redis_up (f->bodies);
	done_redis_up (f->done);
	loop_defer_schedule (f->pump);
}

static int listen_on (struct forward *f, struct err *err)
{
	const struct config *c = f->conf;
	struct link_opts o = { .name = "endpoint", .ops = &link_ops, .arg = f, .heartbeat_ms = c->heartbeat_ms,
			       .threshold_ms = c->threshold_ms, .max_payload_bytes = (uint32_t)c->max_payload_bytes,
			       .max_result_bytes = (uint32_t)c->max_result_bytes, .max_peers = 64,
			       .public_key = f->public_key, .secret_key = f->secret_key,
			       .bulk = f->bulk ? bulk_id (f->bulk) : NULL };
	bool v6 = strchr (c->listen_host, ':') && c->listen_host[0] != '[';
	for (int64_t port = c->port_min; ; port++) {
		char *address = c->port_min ? xasprintf (v6 ? "tcp://[%s]:%" PRId64 : "tcp://%s:%" PRId64, c->listen_host, port)
					    : xasprintf (v6 ? "tcp://[%s]:*" : "tcp://%s:*", c->listen_host);
		const char *addresses[] = { address, NULL };
		f->link = link_listen (f->loop, f->zctx, addresses, &o, err);
		free (address);
		if (f->link || !c->port_min || port >= c->port_max)
			return f->link ? 0 : -1;
	}
}

/* The name is the same for each forwarder of the endpoint: only who has the lease, and knows whom to let in, may take it. */
void forward_listen_within (struct forward *f)
{
	struct err err;
	char *address;
	if (f->within || !f->bulk || !presence_sure (f->presence))
		return;
	if (!(address = bulk_link (f->bulk, &f->endpoint)))
		log_warn (MOD, "bulk.dir has too long a name for sockets: an endpoint on this host connects over TCP", "ep=%s", f->ep);
	else if (link_listen_within (f->link, address, &err) < 0)
		log_err (LOG_WARN, MOD, "an endpoint on this host connects over TCP", &err);
	else
		f->within = true;
	free (address);
}

/* What endpoints dial: the configured name, with the port that was bound. */
static char *dial_address (const struct forward *f)
{
	const char *port = strrchr (link_address (f->link), ':');
	const char *host = f->conf->advertise_host ? f->conf->advertise_host : f->conf->listen_host;
	bool v6 = strchr (host, ':') && host[0] != '[';
	return xasprintf (v6 ? "tcp://[%s]%s" : "tcp://%s%s", host, port ? port : "");
}

static void name_keys (struct forward *f)
{
	id_text (&f->endpoint, f->ep);
	layout_key (f->hash_key, "ep", &f->endpoint, NULL);
}

struct forward *forward_create (struct loop *l, const struct config *c, const struct id *endpoint, const char *lease_owner,
				struct err *err)
{
	struct forward *f = xcalloc (1, sizeof (*f));
	struct rds_opts ro = { .url = c->redis_url, .password_file = c->redis_password_file, .on_state = on_redis, .arg = f };
	struct presence_opts po = { .endpoint = *endpoint, .lease_owner = lease_owner, .lease_ms = config_lease_ttl_ms (c),
				    .refresh_ms = SEEN_EVERY_MS, .ops = &presence_ops, .arg = f };
	struct intake_opts io = { .redis_url = c->redis_url, .redis_password_file = c->redis_password_file, .endpoint = *endpoint,
				  .read_count = (size_t)c->read_count, .ops = &forward_intake_ops, .arg = f };
	struct id me;
	char consumer[ID_TEXT], *address;
	f->conf = c;
	f->endpoint = *endpoint;
	f->loop = l;
	name_keys (f);
	id_new (&me);
	io.consumer = id_text (&me, consumer);
	f->hand = hand_create ();
	f->pump = loop_defer_create (l, forward_pump, f);
	f->later = loop_timer_create (l, on_later, f);
	f->zctx = zmq_ctx_new ();
	if (!f->zctx || zmq_curve_keypair (f->public_key, f->secret_key) < 0) {
		err_errno (err, "making a CURVE key pair");
		goto fail;
	}
	if (c->bulk_dir && *c->bulk_dir && !(f->bulk = bulk_open (c->bulk_dir, true, err)))
		goto fail;
	if (f->bulk && c->bulk_fsync)
		bulk_sync_start (f->bulk, false);
	if (listen_on (f, err) < 0 || !(f->r = rds_create (l, &ro, err)))
		goto fail;
	f->bodies = bodies_create (f->r, endpoint, (size_t)c->function_cache_bytes, forward_on_body, f);
	f->cancels = cancels_create (f->r, endpoint);
	f->expire = expire_create (l, f->r, endpoint, c->retention_ms, &forward_expire_ops, f);
	f->done = done_create (l, f->r, endpoint, c->retention_ms, on_done, f);
	if (!(f->intake = intake_create (l, f->r, &io, err)))
		goto fail;
	f->presence = presence_create (l, f->r, &po);
	address = dial_address (f);
	presence_listening (f->presence, address, f->public_key);
	free (address);
	return f;
fail:
	forward_destroy (&f);
	return NULL;
}

static void on_left (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct forward *f = arg;
	(void)r;
	(void)reply;
	(void)err;
	loop_stop (f->loop);
}

void forward_stop (struct forward *f)
{
	if (f->stopping)
		return;
	f->stopping = true;
	intake_stop (f->intake);
	if (f->peer)
		link_peer_close (f->peer, ERR_UNAVAILABLE, "the forwarder is stopping");
	done_flush (f->done);
	presence_leave (f->presence, on_left, f);
}

int forward_exit_status (const struct forward *f)
{
	return f->status;
}

void forward_destroy (struct forward **fp)
{
	struct forward *f = *fp;
	if (!f)
		return;
	f->stopping = true;
	link_destroy (&f->link, 200);
	f->peer = NULL;
	intake_stop (f->intake);
	rds_destroy (&f->r); /* answers what is in flight: the others must still be there */
	intake_destroy (&f->intake);
	presence_destroy (&f->presence);
	done_destroy (&f->done);
	bodies_destroy (&f->bodies);
	hand_destroy (&f->hand);
	cancels_destroy (&f->cancels);
	expire_destroy (&f->expire);
	bulk_close (&f->bulk);
	loop_timer_destroy (&f->later);
	loop_defer_destroy (&f->pump);
	if (f->zctx)
		zmq_ctx_term (f->zctx);
	free (f);
	*fp = NULL;
}
