/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/forward_internal.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "forwarder/forward.h"
#include "proto/usage.h"

#define MOD "forward"
#define DELETED_IN_HAND 10000	/* tasks of a deleted endpoint being failed at a time */
#define COMES_BACK_MS 30000	/* within it an endpoint finds a new forwarder: its threshold, and its longest pause between two tries */

/* ---- from Redis ------------------------------------------------------------------------------------------------------ */

static size_t room (void *arg)
{
	struct forward *f = arg;
	size_t have = hand_count_open (f->hand);
	if (f->stopping || f->paused)
		return 0;
	if (f->deleted || (f->voids && cancels_known (f->cancels)))
		return hand_count (f->hand) < DELETED_IN_HAND ? DELETED_IN_HAND - hand_count (f->hand) : 0;
	if (!f->peer || !cancels_known (f->cancels) || link_congested (f->peer) || have >= f->window_tasks ||
	    hand_sent_bytes (f->hand) >= f->window_bytes)
		return 0;
	return f->window_tasks - have;
}

/* The end of a task that must not run: nothing to store, its entry goes. */
void forward_drop_task (struct forward *f, struct hand_task *t)
{
	if (t->bulk && f->bulk) {
		struct bulk_ref ref;
		bulk_ref_payload (&ref, &t->task, 0);
		bulk_delete (f->bulk, ref.name);
	}
	intake_finish (f->intake, t->entry);
	hand_remove (f->hand, t);
}

static int make_frame (struct hand_task *t, const struct layout_queued *q)
{
	if (q->payload_bulk)
		return forward_build_bulk (t, q);
	return q->payload_apart ? forward_keep_origin (t, q) : forward_build_frame (t, q, q->payload.p, q->payload.n);
}

static bool entry_after (const char *a, const char *b)
{
	char *sa, *sb;
	unsigned long long ma = strtoull (a, &sa, 10), mb = strtoull (b, &sb, 10);
	if (ma != mb)
		return ma > mb;
	return (*sa ? strtoull (sa + 1, NULL, 10) : 0) > (*sb ? strtoull (sb + 1, NULL, 10) : 0);
}

/* Was it queued for an endpoint that has been deleted since? Without a cut there is nothing newer. */
static bool is_void (const struct forward *f, const char *entry)
{
	return f->cut[0] ? !entry_after (entry, f->cut) : f->deleted;
}

static void admit (struct forward *f, struct hand_task *t, const struct layout_queued *q)
{
	if (is_void (f, t->entry)) {
		forward_fail_task (f, t, ERR_NOT_FOUND, FAULT_USER, "its endpoint was deleted");
		return;
	}
	f->voids = false;
	if (cancels_take (f->cancels, &t->task)) {
		forward_drop_task (f, t);
		return;
	}
	if (q->payload_bytes > (uint64_t)f->conf->max_payload_bytes) {
		forward_fail_task (f, t, ERR_TOO_LARGE, FAULT_USER, "its payload is larger than forwarders send");
		return;
	}
	if (q->payload_bulk && !f->bulk) {
		forward_fail_task (f, t, ERR_NOT_FOUND, FAULT_SITE,
				   "its payload is in the service's bulk store, which its forwarder does not have (bulk.dir)");
		return;
	}
	if (make_frame (t, q) < 0) {
		forward_put_back (f, t);
		return;
	}
	bodies_have (f->bodies, &t->function); /* so that it is here by the time the task is sent */
	hand_move (f->hand, t, HAND_READY);
	loop_defer_schedule (f->pump);
}

/* Its result ends it, whatever that is, or the word that the endpoint does not have it; in the next session it is said again. An older endpoint
 * says nothing of a task that it may not have. */
void forward_say_cancel (struct forward *f, struct hand_task *t)
{
	link_send_id (f->peer, WIRE_CANCEL, &t->task);
	t->cancelled = true;
	if (t->state == HAND_SENT)
		return;
	if (link_peer_major (f->peer) >= 2 && link_peer_minor (f->peer) >= CANCEL_ANSWER_MINOR)
		hand_move (f->hand, t, HAND_SENT);
	else
		forward_drop_task (f, t);
}

/* It has ended. The endpoint may have it whatever its state here is: of an earlier session, or of a dead forwarder. */
static void cancel_in_hand (struct forward *f, struct hand_task *t)
{
	if (f->peer)
		forward_say_cancel (f, t);
	else if (f->deleted)
		forward_drop_task (f, t);
	else
		hand_move (f->hand, t, HAND_CANCELLED);
}

static void on_state_checked (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct forward *f;
	struct hand_task *t = forward_about_taken (arg, &f);
	struct layout_queued q;
	struct err e = { 0 };
	(void)r;
	if (!t || t->state != HAND_CHECK)
		return;
	if (rds_error (reply, err, &e)) {
		hand_remove (f->hand, t); /* it stays pending; the next claim takes it up */
		return;
	}
	if (reply->type != REDIS_REPLY_STRING) { /* expired: nobody waits for it */
		forward_drop_task (f, t);
		return;
	}
	if (msg_state_ended (reply->str[0] - '0')) {
		cancels_take (f->cancels, &t->task);
		if (reply->str[0] - '0' == STATE_CANCELLED)
			cancel_in_hand (f, t);
		else
			forward_drop_task (f, t);
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
	t->bulk = q->payload_bulk;
	if (!claimed) {
		admit (f, t, q);
		return;
	}
	/* a dead forwarder had it: it may have ended */
	if (forward_keep_origin (t, q) < 0) {
		forward_put_back (f, t);
		return;
	}
	layout_key (key, "task", &t->task, NULL);
	rds_commandf (f->r, on_state_checked, forward_about_task (f, t), "HGET %s s", key);
}

/* Nothing accepted is lost: the task ends, with the reason. Without an id all that is left is to say so. */
static void on_unreadable (const struct id *task, const char *entry, size_t entry_len, const struct err *why, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t;
	char id[ID_TEXT], text[sizeof (why->text) + 150];
	if (!task) {
		log_error (MOD, "queue entry without a task id dropped", "ep=%s entry=%s err=%s", f->ep, entry, why->text);
		rds_commandf (f->r, NULL, NULL, "HINCRBY %s unreadable 1", f->hash_key);
		intake_finish (f->intake, entry);
		return;
	}
	if (!(t = hand_add (f->hand, task, entry, entry_len))) {
		t = hand_get (f->hand, task);
		if (t && strcmp (t->entry, entry)) /* that one decides */
			intake_finish (f->intake, entry);
		return;
	}
	log_error (MOD, "unreadable queue entry; its task is failed", "ep=%s task=%s entry=%s err=%s", f->ep, id_text (task, id), entry, why->text);
	snprintf (text, sizeof (text), "this forwarder (%s) cannot read its queue entry: %s%s", WEFT_VERSION, why->text,
		  why->code == ERR_VERSION ? "; service and forwarder must be of the same release" : "");
	forward_fail_task (f, t, why->code, FAULT_SITE, text);
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
	if (t->state != HAND_ENDING && t->state != HAND_CANCELLED)
		cancel_in_hand (f, t);
}

static void on_cancels_known (void *arg)
{
	struct forward *f = arg;
	loop_defer_schedule (f->pump);
}

void forward_load_cancels (struct forward *f)
{
	if (!cancels_known (f->cancels) && rds_up (f->r))
		cancels_load (f->cancels, cancel_task, on_cancels_known, f);
}

bool forward_locked (const struct forward *f, struct err *why)
{
	int64_t left_ms = f->locked_until_ms - clock_real_ns () / 1000000;
	if (left_ms > 0)
		err_set (why, ERR_UNAVAILABLE, FAULT_USER, "this endpoint was stopped through the service, and may connect again in %.1f s",
			 (double)left_ms / 1000);
	return left_ms > 0;
}

/* The endpoint tries again by itself, and is let in when the time is over. */
static void take_lock (struct forward *f, const struct redisReply *until)
{
	struct err why;
	f->locked_until_ms = until->type == REDIS_REPLY_STRING ? strtoll (until->str, NULL, 10) : 0;
	if (f->peer && forward_locked (f, &why))
		link_peer_close (f->peer, why.code, why.text);
}

static void allow_key (struct forward *f, const struct redisReply *key)
{
	struct err e = { 0 };
	const char *keys[1] = { f->allowed_key };
	if (f->deleted)
		return;
	if (key->type != REDIS_REPLY_STRING || key->len != 40) {
		log_warn (MOD, "the endpoint has no key registered; nobody can connect", "ep=%s", f->ep);
		if (key->type == REDIS_REPLY_STRING) /* registered without one: that of an earlier registration is void */
			link_allow_keys (f->link, NULL, 0, NULL);
		return;
	}
	memcpy (f->allowed_key, key->str, 40);
	if (link_allow_keys (f->link, keys, 1, &e) < 0)
		log_err (LOG_ERROR, MOD, "registered key not usable", &e);
	else
		forward_listen_within (f);
}

static void fail_void (struct forward *f, enum hand_state s)
{
	struct hand_task *t = hand_first (f->hand, s), *next;
	for (; t; t = next) {
		next = TAILQ_NEXT (t, link);
		if (is_void (f, t->entry))
			forward_fail_task (f, t, ERR_NOT_FOUND, FAULT_USER, "its endpoint was deleted");
	}
}

/* Who is connected may be another one than is registered now. */
static void take_cut (struct forward *f, const struct redisReply *cut)
{
	if (cut->type == REDIS_REPLY_STRING && cut->len < sizeof (f->cut) && strcmp (cut->str, f->cut)) {
		memcpy (f->cut, cut->str, cut->len + 1);
		f->voids = true;
		if (f->peer && !f->deleted)
			link_peer_close (f->peer, ERR_UNAVAILABLE, "this endpoint was deleted and registered again");
	}
	if (!f->cut[0] && !f->deleted)
		return;
	fail_void (f, HAND_READY); /* those in HAND_CHECK follow when they are checked */
	fail_void (f, HAND_RETURNED);
	fail_void (f, HAND_CANCELLED);
	fail_void (f, HAND_SENT);
	loop_defer_schedule (f->pump);
}

static void on_endpoint (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct forward *f = arg;
	(void)r;
	if (err || reply->type != REDIS_REPLY_ARRAY || reply->elements != 3)
		return;
	take_lock (f, reply->element[1]);
	take_cut (f, reply->element[2]);
	allow_key (f, reply->element[0]);
}

void forward_load_endpoint (struct forward *f)
{
	rds_commandf (f->r, on_endpoint, f, "HMGET %s key locked cut", f->hash_key);
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
	forward_load_endpoint (f); /* which of them are void */
	expire_deleted (f->expire);
	loop_defer_schedule (f->pump);
}

static void follow_task (const struct id *task, struct forward *f)
{
	struct hand_task *t = hand_get (f->hand, task);
	if (t && t->state == HAND_SENT && f->peer)
		link_send_id (f->peer, WIRE_FOLLOW, task);
}

static void on_control (const char *op, const struct id *task, void *arg)
{
	struct forward *f = arg;
	if (!strcmp (op, "cancel"))
		cancel_task (task, f);
	else if (!strcmp (op, "follow"))
		follow_task (task, f);
	else if (!strcmp (op, "function"))
		bodies_changed (f->bodies, task);
	else if (!strcmp (op, "deleted")) { /* and perhaps registered again since: what stands in Redis decides */
		expire_look (f->expire);
		forward_load_endpoint (f);
	} else if (!strcmp (op, "key") || !strcmp (op, "lock"))
		forward_load_endpoint (f);
	else
		log_warn (MOD, "unknown control ignored", "op=%s", op);
}

static void on_caught_up (void *arg)
{
	struct forward *f = arg;
	log_info (MOD, "caught up", "ep=%s taken_over=%zu", f->ep, hand_count (f->hand));
}

static void on_settled (void *arg)
{
	struct forward *f = arg;
	loop_defer_schedule (f->pump);
}

static void on_empty (void *arg)
{
	struct forward *f = arg;
	f->voids = false;
	if (cancels_known (f->cancels))
		cancels_forget_all (f->cancels);
}

const struct intake_ops forward_intake_ops = {
	.room = room, .on_task = on_task, .on_unreadable = on_unreadable, .in_hand = in_hand, .on_control = on_control, .on_empty = on_empty,
	.on_settled = on_settled, .on_caught_up = on_caught_up,
};

/* ---- tasks that nobody fetches ------------------------------------------------------------------------------------------ */

static void on_seen (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct forward *f = arg;
	struct err e = { 0 };
	int64_t in_time = clock_real_ns () / 1000000 - f->conf->retention_ms + COMES_BACK_MS, seen;
	(void)r;
	if (f->gone_ms || rds_error (reply, err, &e))
		return;
	seen = reply->type == REDIS_REPLY_STRING ? strtoll (reply->str, NULL, 10) : 0;
	f->gone_ms = seen > in_time ? seen : in_time;
}

void forward_load_gone (struct forward *f)
{
	if (!f->gone_ms)
		rds_commandf (f->r, on_seen, f, "HGET %s seen", f->hash_key);
}

/* Of a task in hand nobody knows whether the endpoint has it, or its result already: so it gets as long to come back as a task may wait. */
static bool given_up (const struct forward *f)
{
	return !f->peer && f->gone_ms && clock_real_ns () / 1000000 - f->gone_ms >= f->conf->retention_ms;
}

static void on_expired (const struct layout_queued *q, const char *entry, size_t entry_len, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t = hand_add (f->hand, &q->task, entry, entry_len);
	if (t) {
		t->function = q->function;
		t->bulk = q->payload_bulk;
	} else { /* with the endpoint, or on its way */
		t = hand_get (f->hand, &q->task);
		if (!t || !given_up (f) || t->state == HAND_CHECK || t->state == HAND_ENDING)
			return;
	}
	forward_fail_task (f, t, ERR_TASK_EXPIRED, FAULT_SITE, "it waited for its endpoint longer than tasks are kept");
}

static bool idle (void *arg)
{
	struct forward *f = arg;
	return !hand_count (f->hand) && !done_pending_bytes (f->done);
}

static void on_drained (void *arg)
{
	struct forward *f = arg;
	log_info (MOD, "no task of the deleted endpoint is left", "ep=%s", f->ep);
	forward_stop (f);
	usage_forget (f->r, &f->endpoint, clock_real_ns () / 1000000);
	layout_emptied_send (f->r, &f->endpoint, NULL, NULL); /* last: until then, or if it does nothing, a supervisor starts another one */
}

static void on_back (void *arg)
{
	struct forward *f = arg;
	log_info (MOD, "the deleted endpoint is registered again", "ep=%s", f->ep);
	forward_stop (f);
}

const struct expire_ops forward_expire_ops = {
	.on_expired = on_expired, .on_unreadable = on_unreadable, .on_gone = endpoint_deleted, .idle = idle, .on_drained = on_drained,
	.on_back = on_back,
};
