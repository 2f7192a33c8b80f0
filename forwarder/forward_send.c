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

#define MOD "forward"
#define PREFETCH 8		/* large payloads fetched at a time */

/* ---- towards the endpoint ----------------------------------------------------------------------------------------- */

static bool window_open (const struct forward *f, size_t bytes)
{
	size_t sent = hand_count_in (f->hand, HAND_SENT);
	return f->peer && !link_congested (f->peer) && sent < f->window_tasks &&
	       (!sent || hand_sent_bytes (f->hand) + bytes <= f->window_bytes);
}

/* For an endpoint that does not see the store. The frame keeps the reference: memory stays small. */
static int copy_inline (struct forward *f, struct hand_task *t, zmq_msg_t *out, struct err *err)
{
	zmq_msg_init (out);
	zmq_msg_copy (out, &t->frame);
	if (bulk_record_task (f->bulk, out, err) == 0)
		return 0;
	zmq_msg_close (out);
	return -1;
}

static void encode_older (struct forward *f, zmq_msg_t *frame, zmq_msg_t *out)
{
	struct msg_task m;
	struct buf b;
	msg_task_decode (&m, zmq_msg_data (frame), zmq_msg_size (frame), NULL); /* our own */
	m.stamps[STAMP_FORWARDER_SENT] = clock_real_ns ();
	buf_init (&b, WIRE_MAX_RECORD);
	msg_task_encode (&b, &m, link_peer_major (f->peer));
	link_msg_from_buf (out, &b);
}

/* The copy that leaves. The frame stays for another session; ZeroMQ shares its bytes, so only the first copy may be stamped in
 * place. A session of major 1 does not get the fields of major 2. */
static int copy_frame (struct forward *f, struct hand_task *t, zmq_msg_t *out, struct err *err)
{
	int64_t now = clock_real_ns ();
	bool older = link_peer_major (f->peer) < WIRE_MAJOR;
	if (t->bulk && !link_peer_bulk (f->peer)) {
		zmq_msg_t whole;
		if (copy_inline (f, t, &whole, err) < 0)
			return -1;
		if (older) {
			encode_older (f, &whole, out);
			zmq_msg_close (&whole);
			return 0;
		}
		msg_task_stamp (zmq_msg_data (&whole), STAMP_FORWARDER_SENT, now);
		*out = whole;
	} else if (older) {
		encode_older (f, &t->frame, out);
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
	return 0;
}

static void send_task (struct forward *f, struct hand_task *t)
{
	zmq_msg_t out;
	struct err err = { 0 };
	char text[500];
	if (copy_frame (f, t, &out, &err) < 0) {
		snprintf (text, sizeof (text), "the task cannot be sent: %s", err.text);
		forward_fail_task (f, t, err.code, err.fault, text);
		return;
	}
	link_send (f->peer, WIRE_TASK, &out);
	hand_move (f->hand, t, HAND_SENT);
}

static void on_payload (struct rds *r, struct redisReply *reply, const struct err *err, void *arg);

struct about { struct forward *f; struct id task; };

void *forward_about_task (struct forward *f, const struct hand_task *t)
{
	struct about *w = xcalloc (1, sizeof (*w));
	w->f = f;
	w->task = t->task;
	return w;
}

struct hand_task *forward_about_taken (void *arg, struct forward **f)
{
	struct about w = *(struct about *)arg;
	free (arg);
	*f = w.f;
	return hand_get (w.f->hand, &w.task);
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
		rds_commandf (f->r, on_payload, forward_about_task (f, t), "GET %s", key);
	}
}

void forward_pump (void *arg)
{
	struct forward *f = arg;
	struct hand_task *t;
	while (intake_settled (f->intake) && (t = hand_first (f->hand, HAND_READY)) && window_open (f, t->bytes)) {
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

void forward_try_later (struct forward *f, int64_t ms)
{
	if (!loop_timer_pending (f->later))
		loop_timer_start (f->later, ms, false);
}

static int build (struct hand_task *t, const struct layout_queued *q, struct wire_str payload, uint8_t flags)
{
	struct msg_task m = { .task = q->task, .function = q->function, .time_limit_ms = q->time_limit_ms,
			      .expected_ms = q->expected_s * 1000u, .memory_limit_bytes = q->memory_limit_bytes, .max_result_bytes = q->max_result_bytes,
			      .flags = (uint8_t)(flags | (q->payload_is_json ? TASK_JSON : 0) | (q->fresh ? TASK_FRESH : 0) |
					 (q->as_json ? TASK_AS_JSON : 0) | (q->as_all ? TASK_AS_ALL : 0)) };
	struct buf b;
	m.stamps[STAMP_RECEIVED] = q->received_ns;
	m.stamps[STAMP_QUEUED] = q->queued_ns;
	m.stamps[STAMP_FORWARDER_READ] = clock_real_ns ();
	m.payload = payload;
	m.files = q->files;
	m.resources = q->resources;
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

int forward_build_frame (struct hand_task *t, const struct layout_queued *q, const char *payload, size_t n)
{
	return build (t, q, wire_str (payload, n), 0);
}

int forward_build_bulk (struct hand_task *t, const struct layout_queued *q)
{
	struct bulk_ref ref;
	uint8_t text[BULK_REF_MAX];
	bulk_ref_payload (&ref, &q->task, q->payload_bytes);
	return build (t, q, wire_str ((char *)text, bulk_ref_encode (&ref, text)), TASK_BULK);
}

/* For when the frame cannot be made yet. */
int forward_keep_origin (struct hand_task *t, const struct layout_queued *q)
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
void forward_put_back (struct forward *f, struct hand_task *t)
{
	log_error (MOD, "no memory for a task", "ep=%s bytes=%zu", f->ep, t->bytes);
	hand_remove (f->hand, t);
}

/* A task that ends here, before the endpoint had it. */
void forward_fail_task (struct forward *f, struct hand_task *t, enum err_code code, enum err_fault fault, const char *why)
{
	hand_move (f->hand, t, HAND_ENDING);
	done_fail (f->done, &t->task, code, fault, why);
}

static void on_payload (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct forward *f;
	struct hand_task *t = forward_about_taken (arg, &f);
	struct layout_queued q;
	struct err e = { 0 };
	(void)r;
	if (!t || !t->fetching || t->state != HAND_READY)
		return;
	t->fetching = false;
	if (rds_error (reply, err, &e)) {
		forward_try_later (f, RETURNED_MIN_MS);
		return;
	}
	layout_queued_decode (&q, t->origin, t->origin_bytes, &e); /* accepted before */
	if (reply->type != REDIS_REPLY_STRING)
		forward_fail_task (f, t, ERR_NOT_FOUND, FAULT_SELF, "its payload is not in Redis any more");
	else if (reply->len > WIRE_MAX_PAYLOAD)
		forward_fail_task (f, t, ERR_TOO_LARGE, FAULT_SELF, "its payload in Redis is over the protocol's limit");
	else if (forward_build_frame (t, &q, reply->str, reply->len) < 0)
		forward_put_back (f, t);
	loop_defer_schedule (f->pump);
}

void forward_on_body (const struct id *function, bool found, const char *why, void *arg)
{
	struct forward *f = arg;
	struct hand_task *t = hand_first (f->hand, HAND_READY), *next;
	for (; t && !found; t = next) {
		next = TAILQ_NEXT (t, link);
		if (id_eq (&t->function, function))
			forward_fail_task (f, t, ERR_NOT_FOUND, FAULT_USER, why);
	}
	if (found && f->peer && bodies_was_changed (f->bodies, function))
		bodies_send (f->bodies, f->peer, function);	/* not only with its next task: it may want replicas */
	loop_defer_schedule (f->pump);
}
