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
#include "forwarder/bodies.h"
#include "forwarder/cancels.h"
#include "forwarder/done.h"
#include "forwarder/expire.h"
#include "forwarder/hand.h"
#include "forwarder/intake.h"
#include "forwarder/presence.h"
#include "proto/layout.h"
#include "proto/link.h"
#include "proto/msg_capacity.h"

#define MOD "forward"
#define SEEN_EVERY_MS 5000
#define PREFETCH 8		/* large payloads fetched at a time */
#define RETURNED_MIN_MS 100	/* pause before a task that was given back is sent again; doubles until something ends */
#define RETURNED_MAX_MS 5000
#define DELETED_IN_HAND 10000	/* tasks of a deleted endpoint being failed at a time */

struct forward {
	const struct config *conf;
	struct id endpoint;
	char ep[ID_TEXT], hash_key[LAYOUT_KEY_MAX];
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
	struct cancels *cancels;
	struct expire *expire;
	struct loop_timer *later;	/* what waits a little: tasks that were given back, what Redis refused */
	int64_t returned_ms;
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

/* The copy that leaves. The frame stays for another session; ZeroMQ shares its bytes, so only the first copy may be stamped in
 * place. A session of major 1 does not get the fields of major 2. */
static void copy_frame (struct forward *f, struct hand_task *t, zmq_msg_t *out)
{
	int64_t now = clock_real_ns ();
	if (link_peer_major (f->peer) < WIRE_MAJOR) {
		struct msg_task m;
		struct err err;
		struct buf b;
		msg_task_decode (&m, zmq_msg_data (&t->frame), zmq_msg_size (&t->frame), &err); /* our own */
		m.stamps[STAMP_FORWARDER_SENT] = now;
		buf_init (&b, WIRE_MAX_RECORD);
		msg_task_encode (&b, &m, link_peer_major (f->peer));
		link_msg_from_buf (out, &b);
	} else if (t->sent_before) {
		if (zmq_msg_init_size (out, zmq_msg_size (&t->frame)) < 0)
			abort ();
		memcpy (zmq_msg_data (out), zmq_msg_data (&t->frame), zmq_msg_size (&t->frame));
		msg_task_stamp (zmq_msg_data (out), STAMP_FORWARDER_SENT, now);
	} else {
		msg_task_stamp (zmq_msg_data (&t->frame), STAMP_FORWARDER_SENT, now);
		zmq_msg_init (out);
		zmq_msg_copy (out, &t->frame);
		t->sent_before = true;
	}
}

static void send_task (struct forward *f, struct hand_task *t)
{
	zmq_msg_t out;
	copy_frame (f, t, &out);
	link_send (f->peer, WIRE_TASK, &out);
	hand_move (f->hand, t, HAND_SENT);
}

static void on_payload (struct rds *r, struct redisReply *reply, const struct err *err, void *arg);

/* A command about a task: it may be gone when the reply comes. */
struct about { struct forward *f; struct id task; };

static struct about *about_task (struct forward *f, const struct hand_task *t)
{
	struct about *w = xcalloc (1, sizeof (*w));
	w->f = f;
	w->task = t->task;
	return w;
}

/* The payloads of the next tasks to go, as far as the window lets them: memory stays within one window. Tasks behind them wait, so
 * that the order is kept. */
static void fetch_payloads (struct forward *f)
{
	size_t bytes = hand_sent_bytes (f->hand), n = 0;
	struct hand_task *t = hand_first (f->hand, HAND_READY);
	char key[LAYOUT_KEY_MAX];
	for (; t && n < PREFETCH; t = TAILQ_NEXT (t, link), n++) {
		bytes += t->bytes;
		if (n && (bytes > f->window_bytes || hand_count_in (f->hand, HAND_SENT) + n >= f->window_tasks))
			break;
		if (!t->origin || t->fetching)
			continue;
		t->fetching = true;
		layout_key (key, "task", &t->task, "payload");
		rds_commandf (f->r, on_payload, about_task (f, t), "GET %s", key);
	}
}

static void pump (void *arg)
{
	struct forward *f = arg;
	struct hand_task *t;
	while ((t = hand_first (f->hand, HAND_READY)) && window_open (f, t->bytes)) {
		if (t->origin) {
			fetch_payloads (f); /* on_payload goes on */
			break;
		}
		if (!bodies_send (f->bodies, f->peer, &t->function))
			break; /* on_body goes on */
		send_task (f, t);
	}
	intake_wake (f->intake);
}

static void try_later (struct forward *f, int64_t ms)
{
	if (!loop_timer_pending (f->later))
		loop_timer_start (f->later, ms, false);
}

/* 0, or -1: no memory. */
static int build_frame (struct hand_task *t, const struct layout_queued *q, const char *payload, size_t n)
{
	struct msg_task m = { .task = q->task, .function = q->function, .time_limit_ms = q->time_limit_ms,
			      .memory_limit_bytes = q->memory_limit_bytes, .max_result_bytes = q->max_result_bytes,
			      .flags = q->payload_is_json ? 1 : 0 };
	struct buf b;
	m.stamps[STAMP_RECEIVED] = q->received_ns;
	m.stamps[STAMP_QUEUED] = q->queued_ns;
	m.stamps[STAMP_FORWARDER_READ] = clock_real_ns ();
	m.payload = wire_str (payload, n);
	buf_init (&b, WIRE_MAX_RECORD);
	msg_task_encode (&b, &m, WIRE_MAJOR);
	if (buf_failed (&b) || b.len == 0) {
		buf_fini (&b);
		return -1;
	}
	link_msg_from_buf (&t->frame, &b);
	free (t->origin);
	t->origin = NULL;
	return 0;
}

/* For when the frame cannot be made yet. */
static int keep_origin (struct hand_task *t, const struct layout_queued *q)
{
	struct buf b;
	if (t->origin)
		return 0;
	buf_init (&b, 0);
	layout_queued_encode (&b, q);
	if (buf_failed (&b)) {
		buf_fini (&b);
		return -1;
	}
	t->origin = b.data;
	t->origin_bytes = b.len;
	return 0;
}

/* No memory for it: it stays pending in the queue, a later claim takes it up. */
static void put_back (struct forward *f, struct hand_task *t)
{
	log_error (MOD, "no memory for a task", "ep=%s bytes=%zu", f->ep, t->bytes);
	hand_remove (f->hand, t);
}

/* A task that ends here, before the endpoint had it. */
static void fail_task (struct forward *f, struct hand_task *t, enum err_code code, enum err_fault fault, const char *why)
{
	hand_move (f->hand, t, HAND_ENDING);
	done_fail (f->done, &t->task, code, fault, why);
}

static void on_payload (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct about w = *(struct about *)arg;
	struct forward *f = w.f;
	struct hand_task *t = hand_get (f->hand, &w.task);
	struct layout_queued q;
	struct err e = { 0 };
	free (arg);
	(void)r;
	if (!t || !t->fetching || t->state != HAND_READY)
		return;
	t->fetching = false;
	if (err || rds_reply_error (reply, &e) < 0) {
		try_later (f, RETURNED_MIN_MS);
		return;
	}
	layout_queued_decode (&q, t->origin, t->origin_bytes, &e); /* accepted before */
	if (reply->type != REDIS_REPLY_STRING)
		fail_task (f, t, ERR_NOT_FOUND, FAULT_SELF, "its payload is not in Redis any more");
	else if (reply->len > WIRE_MAX_PAYLOAD)
		fail_task (f, t, ERR_TOO_LARGE, FAULT_SELF, "its payload in Redis is over the protocol's limit");
	else if (build_frame (t, &q, reply->str, reply->len) < 0)
		put_back (f, t);
	loop_defer_schedule (f->pump);
}

static void on_body (const struct id *function, bool found, const char *why, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t = hand_first (f->hand, HAND_READY), *next;
	for (; t && !found; t = next) {
		next = TAILQ_NEXT (t, link);
		if (id_eq (&t->function, function))
			fail_task (f, t, ERR_NOT_FOUND, FAULT_USER, why);
	}
	loop_defer_schedule (f->pump);
}

/* ---- from Redis ------------------------------------------------------------------------------------------------------ */

static size_t room (void *arg)
{
	struct forward *f = arg;
	size_t have = hand_count_open (f->hand);
	if (f->stopping || f->paused)
		return 0;
	if (f->deleted)
		return hand_count (f->hand) < DELETED_IN_HAND ? DELETED_IN_HAND - hand_count (f->hand) : 0;
	if (!f->peer || !cancels_known (f->cancels) || link_congested (f->peer) || have >= f->window_tasks ||
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

static void admit (struct forward *f, struct hand_task *t, const struct layout_queued *q)
{
	if (f->deleted) {
		fail_task (f, t, ERR_NOT_FOUND, FAULT_USER, "its endpoint was deleted");
		return;
	}
	if (cancels_take (f->cancels, &t->task)) {
		drop_task (f, t);
		return;
	}
	if (q->payload_bytes > (uint64_t)f->conf->max_payload_bytes) {
		fail_task (f, t, ERR_TOO_LARGE, FAULT_USER, "its payload is larger than forwarders send");
		return;
	}
	if ((q->payload_apart ? keep_origin (t, q) : build_frame (t, q, q->payload.p, q->payload.n)) < 0) {
		put_back (f, t);
		return;
	}
	bodies_have (f->bodies, &t->function); /* so that it is here by the time the task is sent */
	hand_move (f->hand, t, HAND_READY);
	loop_defer_schedule (f->pump);
}

static void on_state_checked (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct about w = *(struct about *)arg;
	struct forward *f = w.f;
	struct hand_task *t = hand_get (f->hand, &w.task);
	struct layout_queued q;
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
		cancels_take (f->cancels, &t->task);
		drop_task (f, t);
		return;
	}
	layout_queued_decode (&q, t->origin, t->origin_bytes, &e); /* accepted before */
	admit (f, t, &q);
}

static void on_task (const struct layout_queued *q, const char *entry, size_t entry_len, bool claimed, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t = hand_add (f->hand, &q->task, entry, entry_len);
	char key[LAYOUT_KEY_MAX];
	if (!t) {
		/* The same id in two entries: a submission repeated around a crash. The one in hand stands for both. */
		t = hand_get (f->hand, &q->task);
		if (t && strcmp (t->entry, entry))
			intake_finish (f->intake, entry);
		return;
	}
	t->function = q->function;
	t->bytes = q->payload_bytes;
	if (!claimed) {
		admit (f, t, q);
		return;
	}
	/* a dead forwarder had it: it may have ended */
	if (keep_origin (t, q) < 0) {
		put_back (f, t);
		return;
	}
	layout_key (key, "task", &t->task, NULL);
	rds_commandf (f->r, on_state_checked, about_task (f, t), "HGET %s s", key);
}

static bool in_hand (const char *entry, size_t n, void *arg)
{
	struct forward *f = arg;
	return hand_has_entry (f->hand, entry, n);
}

static void cancel_task (const struct id *task, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t = hand_get (f->hand, task);
	if (!t) {
		cancels_remember (f->cancels, task);
		return;
	}
	cancels_forget (f->cancels, task);
	if (t->state == HAND_SENT) { /* its result, whatever it is, ends it */
		if (f->peer)
			link_send_id (f->peer, WIRE_CANCEL, task);
	} else if (t->state != HAND_ENDING) {
		drop_task (f, t);
	}
}

static void on_cancels_known (void *arg)
{
	struct forward *f = arg;
	loop_defer_schedule (f->pump);
}

static void load_cancels (struct forward *f)
{
	if (!cancels_known (f->cancels) && rds_up (f->r))
		cancels_load (f->cancels, cancel_task, on_cancels_known, f);
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

static void fail_all (struct forward *f, enum hand_state s)
{
	struct hand_task *t;
	while ((t = hand_first (f->hand, s)))
		fail_task (f, t, ERR_NOT_FOUND, FAULT_USER, "its endpoint was deleted");
}

static void endpoint_deleted (void *arg)
{
	struct forward *f = arg;
	if (f->deleted)
		return;
	log_info (MOD, "endpoint deleted; failing its tasks", "ep=%s in_hand=%zu", f->ep, hand_count (f->hand));
	f->deleted = true;
	if (f->peer)
		link_peer_close (f->peer, ERR_NOT_FOUND, "this endpoint was deleted");
	fail_all (f, HAND_READY); /* those in HAND_CHECK follow when they are checked */
	fail_all (f, HAND_RETURNED);
	fail_all (f, HAND_SENT);
	expire_deleted (f->expire);
	loop_defer_schedule (f->pump);
}

static void on_control (const char *op, const struct id *task, void *arg)
{
	struct forward *f = arg;
	if (!strcmp (op, "cancel"))
		cancel_task (task, f);
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
}

static void on_empty (void *arg)
{
	struct forward *f = arg;
	if (cancels_known (f->cancels))
		cancels_forget_all (f->cancels);
}

static const struct intake_ops intake_ops = {
	.room = room, .on_task = on_task, .in_hand = in_hand, .on_control = on_control, .on_empty = on_empty,
	.on_caught_up = on_caught_up,
};

/* ---- tasks that nobody fetches ------------------------------------------------------------------------------------------ */

static void on_expired (const struct layout_queued *q, const char *entry, size_t entry_len, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t = hand_add (f->hand, &q->task, entry, entry_len);
	if (!t)
		return; /* with the endpoint, or on its way */
	t->function = q->function;
	fail_task (f, t, ERR_TASK_EXPIRED, FAULT_SITE, "it waited for its endpoint longer than tasks are kept");
}

static bool idle (void *arg)
{
	struct forward *f = arg;
	return !hand_count (f->hand) && !done_pending_bytes (f->done);
}

static void on_drained (void *arg)
{
	struct forward *f = arg;
	char keys[4][LAYOUT_KEY_MAX];
	log_info (MOD, "no task of the deleted endpoint is left", "ep=%s", f->ep);
	layout_key (keys[0], "ep", &f->endpoint, "tasks");
	layout_key (keys[1], "ep", &f->endpoint, "control");
	layout_key (keys[2], "ep", &f->endpoint, "cancelled");
	layout_key (keys[3], "ep", &f->endpoint, NULL);
	forward_stop (f);
	rds_commandf (f->r, NULL, NULL, "UNLINK %s %s %s %s", keys[0], keys[1], keys[2], keys[3]);
}

static const struct expire_ops expire_ops = {
	.on_expired = on_expired, .on_gone = endpoint_deleted, .idle = idle, .on_drained = on_drained,
};

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
	hand_make_ready (f->hand, HAND_RETURNED);
	hand_make_ready (f->hand, HAND_SENT); /* the endpoint drops what it has already */
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

static void take_result (struct forward *f, const struct msg_result *m, zmq_msg_t *rec, int64_t now)
{
	struct id task = m->task;
	int state = msg_status_state (m->status);
	bool too_large = m->result.n > (size_t)f->conf->max_result_bytes;
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

/* Not at once: an endpoint that gives back all it gets would keep both sides busy with it. */
static void on_returned (struct forward *f, const struct id *id)
{
	struct hand_task *t = hand_get (f->hand, id);
	if (!t || t->state != HAND_SENT)
		return;
	hand_move (f->hand, t, HAND_RETURNED);
	if (loop_timer_pending (f->later))
		return;
	f->returned_ms = f->returned_ms ? f->returned_ms * 2 : RETURNED_MIN_MS;
	if (f->returned_ms > RETURNED_MAX_MS)
		f->returned_ms = RETURNED_MAX_MS;
	try_later (f, f->returned_ms);
}

static void on_later (void *arg)
{
	struct forward *f = arg;
	hand_make_ready (f->hand, HAND_RETURNED);
	load_cancels (f);
	loop_defer_schedule (f->pump);
}

static void on_function_missing (struct forward *f, const struct id *id)
{
	bodies_missed (f->bodies, f->peer, id);
}

static int each_id (struct forward *f, zmq_msg_t *rec, size_t n, void (*cb) (struct forward *, const struct id *), struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (msg_ids_count (zmq_msg_size (&rec[i])) < 0)
			return err_set (err, ERR_INVALID, FAULT_PEER, "a list of ids has %zu bytes", zmq_msg_size (&rec[i]));
	for (size_t i = 0; i < n; i++) {
		long k = msg_ids_count (zmq_msg_size (&rec[i]));
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
	load_cancels (f);
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
	load_key (f);
	load_cancels (f);
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
	f->pump = loop_defer_create (l, pump, f);
	f->later = loop_timer_create (l, on_later, f);
	f->zctx = zmq_ctx_new ();
	if (!f->zctx || zmq_curve_keypair (f->public_key, f->secret_key) < 0) {
		err_errno (err, "making a CURVE key pair");
		goto fail;
	}
	if (listen_on (f, err) < 0 || !(f->r = rds_create (l, &ro, err)))
		goto fail;
	f->bodies = bodies_create (f->r, (size_t)c->function_cache_bytes, on_body, f);
	f->cancels = cancels_create (f->r, endpoint);
	f->expire = expire_create (l, f->r, endpoint, c->retention_ms, &expire_ops, f);
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
	loop_timer_destroy (&f->later);
	loop_defer_destroy (&f->pump);
	if (f->zctx)
		zmq_ctx_term (f->zctx);
	free (f);
	*fp = NULL;
}
