/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. From the forwarder: functions, tasks, acknowledgements; sessions. */
#include "endpoint/dispatch_internal.h"
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "proto/adapt.h"
#include "endpoint/gang.h"
#include "proto/functions.h"
#include "proto/link.h"
#include "proto/msg_result.h"

#include <stdio.h>

static void on_function (zmq_msg_t *record, const struct id *id, void *arg)
{
	struct dispatch *d = arg;

	struct function *f = functions_get (d->functions, id);
	bool changed = f && (zmq_msg_size (&f->record) != zmq_msg_size (record)
			     || memcmp (zmq_msg_data (&f->record), zmq_msg_data (record), zmq_msg_size (record)) != 0);

	if ((f = functions_put (d->functions, record, NULL)) && d->managers)
		dispatch_function_came (d, f, changed);
	if (d->wanted)
		for (struct manager *m = managers_first (d->managers); m; m = m->next)
			if (map_del (m->wanted, id)) {
				d->wanted--;
				dispatch_send_function (d, m, id);
			}
	if (queue_held (d->queue)->n)
		queue_release_held (d->queue, clock_now_ms ());
	dispatch_work_later (d);
}

static bool send_again (struct dispatch *d, const struct id *task)
{
	zmq_msg_t m;
	bool there = spool_has (d->spool, task);

	if (!there)
		return false;
	zmq_msg_init (&m);
	if (spool_get (d->spool, task, &m)) {
		dispatch_fit_result (d, &m);
		upstream_send (d->up, WIRE_RESULT, &m);
	} else {
		there = false;
	}
	zmq_msg_close (&m);
	return there;
}

static void refuse_function (struct dispatch *d, struct queue_task *t)
{
	char text[160], id[ID_TEXT];

	snprintf (text, sizeof (text), "function %s is not among the allowed_functions of this endpoint", id_text (&t->function, id));
	d->st.refused++;
	dispatch_end_task (d, t, STATUS_FAILED, ERR_FORBIDDEN, FAULT_USER, text);
}

static void refuse_length (struct dispatch *d, struct queue_task *t)
{
	char text[200];

	snprintf (text, sizeof (text), "the task is expected to take %u s, and no node of this endpoint takes tasks for longer than %lld s",
		  t->expected_ms / 1000, (long long) (d->o.longest_ms / 1000));
	d->st.refused++;
	dispatch_end_task (d, t, STATUS_FAILED, ERR_LIMIT, FAULT_USER, text);
}

static bool over_window (const struct dispatch *d, size_t bytes)
{
	/* a forwarder that sends twice what it may is broken; until then late changes of the window are tolerated */
	return queue_size (d->queue) >= 2 * (size_t) d->o.max_tasks
	       || (queue_bytes (d->queue) && queue_bytes (d->queue) + bytes > 2 * (size_t) d->o.max_bytes);
}

static void on_task (zmq_msg_t *record, const struct msg_task *m, void *arg)
{
	struct dispatch *d = arg;
	struct id task = m->task, function = m->function;
	size_t bytes = m->payload_bytes;
	uint32_t expected_ms = m->expected_ms;
	uint8_t attempt = m->attempt;
	bool asks = m->resources.n > 0, images = d->o.block_image != NULL;
	int64_t now = clock_now_ms ();
	struct queue_task *t;

	if (send_again (d, &task) || queue_find (d->queue, &task)) {
		d->st.duplicates++;
		return;
	}
	if (d->draining || over_window (d, bytes)) {
		d->st.returned++;
		upstream_id (d->up, WIRE_TASK_RETURN, &task);
		return;
	}
	msg_task_stamp (zmq_msg_data (record), STAMP_ENDPOINT_RECEIVED, clock_real_ns ());
	t = queue_add (d->queue, &task, &function, record, bytes, now);
	t->expected_ms = expected_ms;
	t->attempt = attempt;
	if (images)
		dispatch_lane_of (d, t);
	d->st.received++;
	if (!dispatch_allows (d, &function))
		refuse_function (d, t);
	else if (d->o.longest_ms && t->expected_ms > d->o.longest_ms)
		refuse_length (d, t);
	else if (!(asks && dispatch_gang_refused (d, t)) && !(d->strange && dispatch_known_again (d, t))
		 && !(images && dispatch_lane_take (d, t, now)))	/* not behind those of other images */
		dispatch_memo_ask (d, t);
	dispatch_work_later (d);
}

static void on_acked (const struct id *task, void *arg)
{
	struct dispatch *d = arg;

	spool_ack (d->spool, task);
}

static void on_cancel (const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct queue_task *t = queue_find (d->queue, task);
	struct manager *m;

	if (!t) {		/* it has ended, its result is on its way; or an agent before us had it */
		if (d->strange)
			dispatch_strange_end (d, task);
		if (!spool_has (d->spool, task))
			upstream_id (d->up, WIRE_TASK_RETURN, task);
		return;
	}
	if ((m = t->owner)) {
		t->cancelled = true;
		if (t->gang)
			t->gang->cancelled = !(t->gang->recalled = false);
		dispatch_memo_left (d, t);	/* whatever it ends as, it is not remembered, and nobody waits for it */
		link_send_id (m->peer, WIRE_CANCEL, task);
		return;
	}
	d->st.cancelled++;
	dispatch_end_task (d, t, STATUS_CANCELLED, ERR_CANCELLED, FAULT_NONE, "cancelled before it was started");
}

static void on_follow (const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct queue_task *t = queue_find (d->queue, task);

	if (t && t->owner)
		link_send_id (((struct manager *) t->owner)->peer, WIRE_FOLLOW, task);
}

static void on_drain (const struct msg_drain *m, void *arg)
{
	struct dispatch *d = arg;
	bool now = (d->drained_for & DRAIN_FORWARDER) != 0;

	if (m->start != now)	/* it is repeated in each session */
		log_info ("dispatch", m->start ? "drain asked for by the service" : "the service ends the drain", "grace_ms=%u", m->grace_ms);
	dispatch_drain_for (d, DRAIN_FORWARDER, m->start);
}

static void on_capacity_due (struct msg_capacity *c, void *arg)
{
	struct dispatch *d = arg;

	c->window_tasks = d->last_window = dispatch_window (d);
	c->window_bytes = (uint64_t) d->o.max_bytes;
	c->slots = route_slots (d->route);
	c->free_slots = route_free_slots (d->route);
	c->running = (uint32_t) queue_out (d->queue);
	c->queued = (uint32_t) (queue_size (d->queue) - queue_out (d->queue));
	c->managers = d->managers ? (uint32_t) managers_count (d->managers) : 0;
	c->blocks = d->blocks;
	c->pending_blocks = d->pending_blocks;
	c->text = d->draining ? WIRE_STR ("the endpoint is drained: it takes no tasks") : wire_str (d->why_waiting, strlen (d->why_waiting));
	c->tasks_done = d->st.done;
	d->told.done = c->tasks_done;
	d->told.running = c->running;
	d->told.queued = c->queued;
	d->told.free_slots = c->free_slots;
}

static void no_up (const struct msg_welcome *w, void *arg)
{
	(void) w;
	dispatch_session_up (arg);
}

static void no_down (const char *why, void *arg)
{
	(void) why;
	dispatch_session_down (arg);
}

static void no_refused (int code, const char *text, void *arg)
{
	(void) code;
	(void) text;
	(void) arg;
}

const struct upstream_ops dispatch_upstream = {
	.up = no_up, .down = no_down, .refused = no_refused, .function = on_function, .coming = dispatch_coming, .task = on_task, .acked = on_acked,
	.cancel = on_cancel, .follow = on_follow,
	.drain = on_drain, .burst_end = dispatch_work_later, .relief = dispatch_work_later, .capacity = on_capacity_due,
};

static int ask_again (const struct id *function, void *manager, void *arg)
{
	(void) manager;
	dispatch_ask_function (arg, function);
	return 0;
}

void dispatch_session_up (struct dispatch *d)
{
	d->complete_ms = clock_now_ms () + d->o.hold_ms;	/* it sends all that has not ended, at once */
	if (d->draining)
		dispatch_say_drain (d);
	spool_rewind (d->spool);
	/* the forwarder knows nothing of what we asked for in the session before */
	if (queue_held (d->queue)->n)
		queue_release_held (d->queue, clock_now_ms ());
	for (struct manager *m = d->managers && d->wanted ? managers_first (d->managers) : NULL; m; m = m->next)
		map_each (m->wanted, ask_again, d);
	dispatch_work_later (d);
}

void dispatch_session_down (struct dispatch *d)
{
	d->complete_ms = 0;
	dispatch_work_later (d);
}
