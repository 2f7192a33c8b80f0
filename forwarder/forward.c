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
#include "common/map.h"
#include "common/xmem.h"
#include "forwarder/bodies.h"
#include "forwarder/done.h"
#include "forwarder/hand.h"
#include "forwarder/intake.h"
#include "forwarder/presence.h"
#include "proto/layout.h"
#include "proto/link.h"
#include "proto/msg_capacity.h"

#define MOD "forward"
#define EXPIRE_EVERY_MS 60000
#define CANCELLED_MAX 1000000	/* ids of cancelled tasks remembered until they are read */
#define SEEN_EVERY_MS 5000

struct forward {
	const struct config *conf;
	struct id endpoint;
	char ep[ID_TEXT], cancelled_key[LAYOUT_KEY_MAX], tasks_key[LAYOUT_KEY_MAX], hash_key[LAYOUT_KEY_MAX];
	struct loop *loop;
	void *zctx;
	char public_key[41], secret_key[41];
	char allowed_key[41];
	struct rds *r;
	struct intake *intake;
	struct hand *hand;
	struct bodies *bodies;
	struct done *done;
	struct presence *presence;
	struct link *link;
	struct link_peer *peer;		/* the endpoint's session, or NULL */
	struct map *cancelled;		/* ids to drop when they are read; value = any non-NULL */
	struct loop_timer *expire;
	struct loop_defer *pump;
	uint32_t window_tasks;
	uint64_t window_bytes;
	bool deleted, stopping, paused;
	int status;
};

/* ---- towards the endpoint ----------------------------------------------------------------------------------------- */

static bool window_open (const struct forward *f, size_t bytes)
{
	size_t sent = hand_count_in (f->hand, HAND_SENT);
	return f->peer && !link_congested (f->peer) && sent < f->window_tasks &&
	       (!sent || hand_sent_bytes (f->hand) + bytes <= f->window_bytes);
}

static void send_task (struct forward *f, struct hand_task *t)
{
	zmq_msg_t out;
	bodies_send (f->bodies, f->peer, &t->function, false);
	zmq_msg_init (&out);
	if (t->sent_before) { /* ZeroMQ may still hold the first copy: do not write into its bytes */
		zmq_msg_init_size (&out, zmq_msg_size (&t->frame));
		memcpy (zmq_msg_data (&out), zmq_msg_data (&t->frame), zmq_msg_size (&t->frame));
		msg_task_stamp (zmq_msg_data (&out), STAMP_FORWARDER_SENT, clock_real_ns ());
	} else {
		msg_task_stamp (zmq_msg_data (&t->frame), STAMP_FORWARDER_SENT, clock_real_ns ());
		zmq_msg_copy (&out, &t->frame);
		t->sent_before = true;
	}
	link_send (f->peer, WIRE_TASK, &out);
	hand_move (f->hand, t, HAND_SENT);
}

static void on_payload (struct rds *r, struct redisReply *reply, const struct err *err, void *arg);

struct payload_wait { struct forward *f; struct id task; };

static void fetch_payload (struct forward *f, struct hand_task *t)
{
	struct payload_wait *w = xcalloc (1, sizeof (*w));
	char key[LAYOUT_KEY_MAX];
	w->f = f;
	w->task = t->task;
	hand_move (f->hand, t, HAND_PAYLOAD);
	layout_key (key, "task", &t->task, "payload");
	rds_commandf (f->r, on_payload, w, "GET %s", key);
}

static void pump (void *arg)
{
	struct forward *f = arg;
	struct hand_task *t;
	while ((t = hand_first (f->hand, HAND_READY)) && window_open (f, t->bytes)) {
		if (t->origin) {
			/* large: fetched only when it can go at once; one at a time keeps the memory to one window */
			if (hand_count_in (f->hand, HAND_PAYLOAD) >= 8)
				break;
			fetch_payload (f, t);
			continue;
		}
		send_task (f, t);
	}
	intake_wake (f->intake);
}

static void ready (struct forward *f, struct hand_task *t)
{
	hand_move (f->hand, t, bodies_have (f->bodies, &t->function) ? HAND_READY : HAND_FUNCTION);
	loop_defer_schedule (f->pump);
}

/* Put the record on the wire's form; payload.p may be NULL with a length: bytes are then written by the caller. */
static void build_frame (struct hand_task *t, const struct layout_queued *q, const char *payload, size_t n, int64_t read_ns)
{
	struct msg_task m = { .task = q->task, .function = q->function, .time_limit_ms = q->time_limit_ms,
			      .memory_limit_bytes = q->memory_limit_bytes, .max_result_bytes = q->max_result_bytes,
			      .flags = q->payload_is_json ? 1 : 0 };
	struct buf b;
	m.stamps[STAMP_RECEIVED] = q->received_ns;
	m.stamps[STAMP_QUEUED] = q->queued_ns;
	m.stamps[STAMP_FORWARDER_READ] = read_ns;
	m.payload = wire_str (payload, n);
	buf_init (&b, WIRE_MAX_RECORD);
	msg_task_encode (&b, &m, WIRE_MAJOR);
	zmq_msg_close (&t->frame);
	link_msg_from_buf (&t->frame, &b);
}

/* A task that ends here, before the endpoint had it. */
static void fail_task (struct forward *f, struct hand_task *t, enum err_code code, enum err_fault fault, const char *why)
{
	done_fail (f->done, &t->task, code, fault, why);
}

static void on_payload (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct payload_wait w = *(struct payload_wait *)arg;
	struct forward *f = w.f;
	struct hand_task *t;
	struct layout_queued q;
	struct err e = { 0 };
	free (arg);
	(void)r;
	if (!(t = hand_get (f->hand, &w.task)) || t->state != HAND_PAYLOAD)
		return;
	if (err || rds_reply_error (reply, &e) < 0) {
		hand_move (f->hand, t, HAND_READY); /* asked again when Redis is back */
		return;
	}
	if (reply->type != REDIS_REPLY_STRING) {
		fail_task (f, t, ERR_NOT_FOUND, FAULT_SELF, "its payload is not in Redis any more");
		return;
	}
	layout_queued_decode (&q, t->origin, t->origin_bytes, &e); /* accepted before */
	build_frame (t, &q, reply->str, reply->len, clock_real_ns ());
	free (t->origin);
	t->origin = NULL;
	ready (f, t);
}

static void on_body (const struct id *function, bool found, const char *why, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t = hand_first (f->hand, HAND_FUNCTION), *next;
	for (; t; t = next) {
		next = TAILQ_NEXT (t, link);
		if (!id_eq (&t->function, function))
			continue;
		if (found)
			hand_move (f->hand, t, HAND_READY);
		else
			fail_task (f, t, ERR_NOT_FOUND, FAULT_USER, why);
	}
	loop_defer_schedule (f->pump);
}

/* ---- from Redis ------------------------------------------------------------------------------------------------------ */

static size_t room (void *arg)
{
	struct forward *f = arg;
	size_t have = hand_count (f->hand);
	if (f->deleted)
		return 1000;
	if (!f->peer || f->stopping || link_congested (f->peer) || have >= f->window_tasks ||
	    hand_sent_bytes (f->hand) >= f->window_bytes)
		return 0;
	return f->window_tasks - have;
}

/* The end of a task that must not run: nothing to store, its entry goes. */
static void drop_task (struct forward *f, struct hand_task *t)
{
	intake_finish (f->intake, t->entry);
	hand_remove (f->hand, t);
}

static void forget_cancelled (struct forward *f, const struct id *task)
{
	if (!map_del (f->cancelled, task))
		return;
	rds_commandf (f->r, NULL, NULL, "SREM %s %b", f->cancelled_key, task->b, (size_t)ID_BYTES);
}

static void admit (struct forward *f, struct hand_task *t)
{
	struct layout_queued q;
	struct err e;
	if (f->deleted) {
		fail_task (f, t, ERR_NOT_FOUND, FAULT_USER, "its endpoint was deleted");
		return;
	}
	if (map_get (f->cancelled, &t->task)) {
		forget_cancelled (f, &t->task);
		drop_task (f, t);
		return;
	}
	layout_queued_decode (&q, t->origin, t->origin_bytes, &e);
	if (!q.payload_apart) {
		build_frame (t, &q, q.payload.p, q.payload.n, clock_real_ns ());
		free (t->origin);
		t->origin = NULL;
	}
	ready (f, t);
}

static void on_state_checked (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct payload_wait w = *(struct payload_wait *)arg;
	struct forward *f = w.f;
	struct hand_task *t = hand_get (f->hand, &w.task);
	struct err e = { 0 };
	free (arg);
	(void)r;
	if (!t || t->state != HAND_CHECK)
		return;
	if (err || rds_reply_error (reply, &e) < 0) {
		hand_remove (f->hand, t); /* it stays pending; the next claim takes it up */
		return;
	}
	if (reply->type != REDIS_REPLY_STRING) { /* expired: nobody waits for it */
		drop_task (f, t);
		return;
	}
	if (msg_state_ended (reply->str[0] - '0')) {
		if (reply->str[0] - '0' == STATE_CANCELLED && f->peer)
			link_send_id (f->peer, WIRE_CANCEL, &t->task);
		forget_cancelled (f, &t->task);
		drop_task (f, t);
		return;
	}
	admit (f, t);
}

static void on_task (const struct layout_queued *q, const char *entry, size_t entry_len, bool claimed, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t = hand_add (f->hand, &q->task, entry, entry_len);
	struct buf b;
	if (!t) {
		/* The same id in two entries: a submission repeated around a crash. The one in hand stands for both. */
		t = hand_get (f->hand, &q->task);
		if (t && strcmp (t->entry, entry))
			intake_finish (f->intake, entry);
		return;
	}
	t->function = q->function;
	t->bytes = q->payload_bytes;
	buf_init (&b, 0);
	layout_queued_encode (&b, q);
	t->origin = b.data;
	t->origin_bytes = b.len;
	if (claimed) { /* a dead forwarder had it: it may have ended */
		struct payload_wait *w = xcalloc (1, sizeof (*w));
		char key[LAYOUT_KEY_MAX];
		w->f = f;
		w->task = t->task;
		layout_key (key, "task", &t->task, NULL);
		rds_commandf (f->r, on_state_checked, w, "HGET %s s", key);
		return;
	}
	admit (f, t);
}

static bool in_hand (const char *entry, size_t n, void *arg)
{
	struct forward *f = arg;
	return hand_has_entry (f->hand, entry, n);
}

static void on_cancelled_set (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct forward *f = arg;
	(void)r;
	if (err || reply->type != REDIS_REPLY_ARRAY)
		return;
	for (size_t i = 0; i < reply->elements; i++) {
		struct id id;
		if (reply->element[i]->type != REDIS_REPLY_STRING || reply->element[i]->len != ID_BYTES)
			continue;
		memcpy (id.b, reply->element[i]->str, ID_BYTES);
		map_put (f->cancelled, &id, f);
	}
}

static void cancel_task (struct forward *f, const struct id *task)
{
	struct hand_task *t = hand_get (f->hand, task);
	if (!t) {
		if (map_size (f->cancelled) < CANCELLED_MAX)
			map_put (f->cancelled, task, f);
		return;
	}
	rds_commandf (f->r, NULL, NULL, "SREM %s %b", f->cancelled_key, task->b, (size_t)ID_BYTES);
	if (t->state == HAND_SENT) { /* its result, whatever it is, ends it */
		if (f->peer)
			link_send_id (f->peer, WIRE_CANCEL, task);
		t->cancelled = true;
		return;
	}
	drop_task (f, t);
}

static void on_key (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct forward *f = arg;
	struct err e = { 0 };
	const char *keys[1] = { f->allowed_key };
	(void)r;
	if (err || reply->type != REDIS_REPLY_STRING || reply->len != 40) {
		if (!err)
			log_warn (MOD, "the endpoint has no key registered; nobody can connect", "ep=%s", f->ep);
		return;
	}
	memcpy (f->allowed_key, reply->str, 40);
	if (link_allow_keys (f->link, keys, 1, &e) < 0)
		log_err (LOG_ERROR, MOD, "registered key not usable", &e);
}

static void load_key (struct forward *f)
{
	rds_commandf (f->r, on_key, f, "HGET %s key", f->hash_key);
}

static void send_drain (struct forward *f, bool start)
{
	struct msg_drain d = { .start = start, .grace_ms = 60000 };
	struct buf b;
	if (!f->peer)
		return;
	buf_init (&b, 0);
	msg_drain_encode (&b, &d);
	link_send_bytes (f->peer, WIRE_DRAIN, b.data, b.len);
	buf_fini (&b);
}

static void endpoint_deleted (struct forward *f)
{
	log_info (MOD, "endpoint deleted; failing its tasks", "ep=%s in_hand=%zu", f->ep, hand_count (f->hand));
	f->deleted = true;
	if (f->peer)
		link_peer_close (f->peer, ERR_NOT_FOUND, "this endpoint was deleted");
	for (enum hand_state s = HAND_PAYLOAD; s <= HAND_SENT; s++)
		for (struct hand_task *t = hand_first (f->hand, s); t; t = TAILQ_NEXT (t, link))
			fail_task (f, t, ERR_NOT_FOUND, FAULT_USER, "its endpoint was deleted");
	intake_wake (f->intake);
	loop_timer_start (f->expire, 1000, false);
}

static void on_control (const char *op, const struct id *task, void *arg)
{
	struct forward *f = arg;
	if (!strcmp (op, "cancel"))
		cancel_task (f, task);
	else if (!strcmp (op, "key"))
		load_key (f);
	else if (!strcmp (op, "drain") || !strcmp (op, "undrain"))
		send_drain (f, op[0] == 'd');
	else if (!strcmp (op, "deleted"))
		endpoint_deleted (f);
	else
		log_warn (MOD, "unknown control ignored", "op=%s", op);
}

static void on_caught_up (void *arg)
{
	struct forward *f = arg;
	log_info (MOD, "caught up", "ep=%s taken_over=%zu", f->ep, hand_count (f->hand));
	rds_commandf (f->r, on_cancelled_set, f, "SMEMBERS %s", f->cancelled_key);
}

static const struct intake_ops intake_ops = {
	.room = room, .on_task = on_task, .in_hand = in_hand, .on_control = on_control, .on_caught_up = on_caught_up,
};

/* ---- tasks that nobody fetches ------------------------------------------------------------------------------------------ */

static void on_oldest (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct forward *f = arg;
	(void)r;
	if (err || reply->type != REDIS_REPLY_ARRAY)
		return;
	for (size_t i = 0; i < reply->elements; i++) {
		const struct redisReply *e = reply->element[i], *kv;
		struct layout_queued q;
		struct err er;
		if (e->type != REDIS_REPLY_ARRAY || e->elements != 2 || (kv = e->element[1])->type != REDIS_REPLY_ARRAY ||
		    kv->elements < 2 || layout_queued_decode (&q, kv->element[1]->str, kv->element[1]->len, &er) < 0)
			continue;
		if (hand_get (f->hand, &q.task))
			continue;
		done_fail (f->done, &q.task, f->deleted ? ERR_NOT_FOUND : ERR_TASK_EXPIRED, FAULT_SITE,
			   f->deleted ? "its endpoint was deleted" : "it waited for its endpoint longer than tasks are kept");
		rds_commandf (f->r, NULL, NULL, "XDEL %s %s", f->tasks_key, e->element[0]->str);
	}
}

static void on_expire (void *arg)
{
	struct forward *f = arg;
	int64_t before = clock_real_ns () / 1000000 - f->conf->retention_ms;
	loop_timer_start (f->expire, f->deleted ? 1000 : EXPIRE_EVERY_MS, false);
	if (!rds_up (f->r))
		return;
	if (f->deleted) {
		if (!hand_count (f->hand) && !done_pending_bytes (f->done))
			forward_stop (f);
		return;
	}
	rds_commandf (f->r, on_oldest, f, "XRANGE %s - %" PRId64 " COUNT 100", f->tasks_key, before);
}

/* ---- from the endpoint ------------------------------------------------------------------------------------------------ */

static int on_hello (struct link_peer *peer, const struct msg_hello *h, struct msg_welcome *w, void *arg, struct err *err)
{
	struct forward *f = arg;
	(void)peer;
	(void)w;
	if (h->role != ROLE_ENDPOINT || !id_eq (&h->id, &f->endpoint))
		return err_set (err, ERR_FORBIDDEN, FAULT_PEER, "this forwarder serves endpoint %s only", f->ep);
	if (f->deleted)
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "this endpoint was deleted");
	return 0;
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
	hand_resend_all (f->hand); /* the endpoint drops what it has already */
	presence_connected (f->presence, h, link_epoch (peer));
}

static void on_down (struct link_peer *peer, const char *why, void *arg)
{
	struct forward *f = arg;
	if (f->peer != peer)
		return;
	f->peer = NULL;
	log_warn (MOD, "endpoint gone", "ep=%s why=%s in_hand=%zu", f->ep, why, hand_count (f->hand));
	if (!f->stopping)
		presence_disconnected (f->presence);
}

static int take_results (struct forward *f, zmq_msg_t *rec, size_t n, struct err *err)
{
	struct msg_result m;
	for (size_t i = 0; i < n; i++) /* all or nothing: see SPEC.md, section 1 */
		if (msg_result_decode (&m, zmq_msg_data (&rec[i]), zmq_msg_size (&rec[i]), err) < 0)
			return -1;
	int64_t now = clock_real_ns ();
	for (size_t i = 0; i < n; i++) {
		struct id task;
		msg_result_decode (&m, zmq_msg_data (&rec[i]), zmq_msg_size (&rec[i]), err);
		task = m.task;
		msg_result_stamp (zmq_msg_data (&rec[i]), STAMP_FORWARDER_RESULT, now);
		done_store (f->done, &task, msg_status_state (m.status), &rec[i]);
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
	for (size_t i = 0; i < n; i++) {
		struct msg_task_state s;
		if (msg_task_state_decode (&s, zmq_msg_data (&rec[i]), zmq_msg_size (&rec[i]), err) < 0)
			return -1;
		if (!msg_state_ended (s.state) && rds_up (f->r))
			layout_progress_send (f->r, &s.task, s.state, NULL, NULL);
	}
	return 0;
}

static void on_returned (struct forward *f, const struct id *id)
{
	struct hand_task *t = hand_get (f->hand, id);
	if (t && t->state == HAND_SENT)
		hand_move (f->hand, t, HAND_READY);
}

static void on_function_missing (struct forward *f, const struct id *id)
{
	bodies_have (f->bodies, id);
	bodies_send (f->bodies, f->peer, id, true);
}

static int each_id (struct forward *f, zmq_msg_t *rec, size_t n, void (*cb) (struct forward *, const struct id *), struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		long k = msg_ids_count (zmq_msg_size (&rec[i]));
		if (k < 0)
			return err_set (err, ERR_INVALID, FAULT_PEER, "a list of ids has %zu bytes", zmq_msg_size (&rec[i]));
		for (long j = 0; j < k; j++) {
			struct id id;
			msg_ids_get (zmq_msg_data (&rec[i]), j, &id);
			cb (f, &id);
		}
	}
	return 0;
}

static int take_capacity (struct forward *f, zmq_msg_t *rec, size_t n, struct err *err)
{
	struct msg_capacity c;
	if (n != 1 || msg_capacity_decode (&c, zmq_msg_data (rec), zmq_msg_size (rec), err) < 0)
		return -1;
	f->window_tasks = c.window_tasks;
	f->window_bytes = c.window_bytes;
	presence_capacity (f->presence, &c);
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
	case WIRE_TASK_RETURN: rc = each_id (f, rec, n, on_returned, err); break;
	case WIRE_FUNCTION_MISSING: rc = each_id (f, rec, n, on_function_missing, err); break;
	case WIRE_CAPACITY: rc = take_capacity (f, rec, n, err); break;
	default: break; /* CONTAINER_STATE, METRICS, DRAIN: the endpoint's window says what matters here */
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
		drop_task (f, t);
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
	load_key (f);
	intake_start (f->intake);
}

static void on_lease_lost (const char *why, void *arg)
{
	struct forward *f = arg;
	log_warn (MOD, "lease lost", "ep=%s why=%s", f->ep, why);
	f->status = FORWARD_EXIT_LEASE;
	f->stopping = true;
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
	load_key (f);
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
			       .public_key = f->public_key, .secret_key = f->secret_key };
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

/* What endpoints dial: our host name in place of the address that we listen on. */
static char *dial_address (const struct forward *f)
{
	const char *port = strrchr (link_address (f->link), ':');
	if (!f->conf->advertise_host)
		return xstrdup (link_address (f->link));
	return xasprintf ("tcp://%s%s", f->conf->advertise_host, port ? port : "");
}

static void name_keys (struct forward *f)
{
	id_text (&f->endpoint, f->ep);
	layout_key (f->cancelled_key, "ep", &f->endpoint, "cancelled");
	layout_key (f->tasks_key, "ep", &f->endpoint, "tasks");
	layout_key (f->hash_key, "ep", &f->endpoint, NULL);
}

struct forward *forward_create (struct loop *l, const struct config *c, const struct id *endpoint, const char *lease_owner,
				struct err *err)
{
	struct forward *f = xcalloc (1, sizeof (*f));
	struct rds_opts ro = { .url = c->redis_url, .password_file = c->redis_password_file, .on_state = on_redis, .arg = f };
	struct presence_opts po = { .endpoint = *endpoint, .lease_owner = lease_owner, .lease_ms = c->lease_ms,
				    .refresh_ms = SEEN_EVERY_MS, .ops = &presence_ops, .arg = f };
	struct intake_opts io = { .redis_url = c->redis_url, .redis_password_file = c->redis_password_file, .endpoint = *endpoint,
				  .read_count = (size_t)c->read_count, .ops = &intake_ops, .arg = f };
	struct id me;
	char consumer[ID_TEXT], *address;
	f->conf = c;
	f->endpoint = *endpoint;
	f->loop = l;
	name_keys (f);
	id_new (&me);
	io.consumer = id_text (&me, consumer);
	f->hand = hand_create ();
	f->cancelled = map_create ();
	f->pump = loop_defer_create (l, pump, f);
	f->expire = loop_timer_create (l, on_expire, f);
	f->zctx = zmq_ctx_new ();
	if (!f->zctx || zmq_curve_keypair (f->public_key, f->secret_key) < 0) {
		err_errno (err, "making a CURVE key pair");
		goto fail;
	}
	if (listen_on (f, err) < 0 || !(f->r = rds_create (l, &ro, err)))
		goto fail;
	f->bodies = bodies_create (f->r, (size_t)c->function_cache_bytes, on_body, f);
	f->done = done_create (l, f->r, c->retention_ms, on_done, f);
	if (!(f->intake = intake_create (l, f->r, &io, err)))
		goto fail;
	f->presence = presence_create (l, f->r, &po);
	address = dial_address (f);
	presence_listening (f->presence, address, f->public_key);
	free (address);
	loop_timer_start (f->expire, EXPIRE_EVERY_MS, false);
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
	if (f->peer)
		link_peer_close (f->peer, ERR_UNAVAILABLE, "the forwarder is stopping");
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
	intake_destroy (&f->intake);
	rds_destroy (&f->r); /* answers what is in flight: the others must still be there */
	presence_destroy (&f->presence);
	done_destroy (&f->done);
	bodies_destroy (&f->bodies);
	hand_destroy (&f->hand);
	map_destroy (&f->cancelled);
	loop_timer_destroy (&f->expire);
	loop_defer_destroy (&f->pump);
	if (f->zctx)
		zmq_ctx_term (f->zctx);
	free (f);
	*fp = NULL;
}
