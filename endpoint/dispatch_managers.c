/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. From the managers: results, states, capacity; what becomes of the tasks of one that is gone. */
#include "endpoint/dispatch_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "proto/link.h"

#include <stdio.h>
#include <string.h>

enum { STRANGE_MAX = 16384 };	/* of a manager; beyond it they are nobody's */

/* The link may still be sending from the old frame: what is changed is a copy. */
static void own_frame (struct queue_task *t)
{
	zmq_msg_t copy;
	size_t n = zmq_msg_size (&t->frame);

	if (zmq_msg_init_size (&copy, n) < 0)
		return;		/* no memory: the stamps of a frame in flight change, which harms nobody */
	memcpy (zmq_msg_data (&copy), zmq_msg_data (&t->frame), n);
	zmq_msg_close (&t->frame);
	zmq_msg_init (&t->frame);
	zmq_msg_move (&t->frame, &copy);
	zmq_msg_close (&copy);
}

/* To the front of the queue. */
static void put_back (struct dispatch *d, struct manager *m, struct queue_task *t)
{
	own_frame (t);
	dispatch_leave_manager (d, t);
	queue_put_back (d->queue, t, &m->tasks, true, clock_now_ms ());
	dispatch_work_later (d);
}

/* ---- tasks of sessions before ------------------------------------------------------------------------------------------
 *
 * A manager whose session ended runs on. In the next one it says what it has (TASK_STATE), and nothing of that may be nobody's:
 *
 *     waits here, lost with the session before    | is m's again, and is not sent
 *     another manager's, has ended, wants nodes   | CANCEL; what that one ends as does not count
 *     unknown, and the forwarder may send it yet (an agent before us had it) | noted as strange; when it comes it is m's;
 *                                                   cancelled, or does not come: CANCEL */

static void forget (struct dispatch *d, struct manager *m, const struct id *task)
{
	if (map_del (m->strange, task))
		d->strange--;
}

/* All that the forwarder has for us has come. */
static bool complete (const struct dispatch *d)
{
	return d->complete_ms && clock_now_ms () >= d->complete_ms;
}

static bool take_up (struct dispatch *d, struct manager *m, struct queue_task *t)
{
	bool waits = t->state == QUEUE_WAITING || t->state == QUEUE_HELD || t->state == QUEUE_LANE;

	if (!waits || t->nodes || t->lane != m->lane) {
		link_send_id (m->peer, WIRE_CANCEL, &t->id);
		return false;
	}
	dispatch_have (d, m, t);
	route_update (d->route, &m->node);
	return true;
}

/* m, which t (NULL: unknown) is not with, says that it has it. Is it with m now? */
static bool resumed (struct dispatch *d, struct manager *m, struct queue_task *t, const struct id *task)
{
	if (t)
		return take_up (d, m, t);
	if (complete (d) || spool_has (d->spool, task) || map_size (m->strange) >= STRANGE_MAX)
		link_send_id (m->peer, WIRE_CANCEL, task);
	else if (!map_put (m->strange, task, m))
		d->strange++;
	return false;
}

bool dispatch_known_again (struct dispatch *d, struct queue_task *t)
{
	bool known = false;

	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m && d->strange; m = m->next)
		if (map_del (m->strange, &t->id)) {
			d->strange--;
			known |= take_up (d, m, t);	/* of two one is cancelled */
		}
	return known;
}

void dispatch_strange_end (struct dispatch *d, const struct id *task)
{
	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m && d->strange; m = m->next)
		if (map_del (m->strange, task)) {
			d->strange--;
			link_send_id (m->peer, WIRE_CANCEL, task);
		}
}

static int end_strange (const struct id *task, void *v, void *arg)
{
	struct manager *m = v;
	struct dispatch *d = arg;

	link_send_id (m->peer, WIRE_CANCEL, task);
	forget (d, m, task);
	return 0;
}

void dispatch_strange_tick (struct dispatch *d)
{
	for (struct manager *m = d->managers && complete (d) ? managers_first (d->managers) : NULL; m && d->strange; m = m->next)
		map_each (m->strange, end_strange, d);
}

/* ---- from the managers ------------------------------------------------------------------------------------------------ */

static void on_result (struct manager *m, zmq_msg_t *record, const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct queue_task *t = queue_find (d->queue, task);

	m->done++;
	if (t && dispatch_gang_recalled (d, m, t, record)) {
		link_send_id (m->peer, WIRE_RESULT_ACK, task);
		return;
	}
	if (d->strange)
		forget (d, m, task);
	if (!(t && t->cancelled) && msg_result_status (zmq_msg_data (record), zmq_msg_size (record)) == STATUS_CANCELLED) {
		/* not by its user: what we cancelled was a copy that nobody waits for */
		link_send_id (m->peer, WIRE_RESULT_ACK, task);
		if (t && t->owner == m)
			put_back (d, m, t);	/* it was given to m once more meanwhile */
		return;
	}
	if (t) {
		struct manager *other = t->owner;
		/* it was given to another one since: the first result wins, the other copy need not run on */
		if (other && other != m)
			link_send_id (other->peer, WIRE_CANCEL, task);
		dispatch_memo_result (d, t, record);
		dispatch_drop_task (d, t);
	}
	dispatch_keep_result (d, task, record);
	link_send_id (m->peer, WIRE_RESULT_ACK, task);
}

static void on_manager_up (struct manager *m, void *arg)
{
	struct dispatch *d = arg;

	log_info ("dispatch", "manager up", "node=%s block=%s slots=%u pid=%u", m->name, m->block, m->node.slots, m->pid);
	dispatch_lane_up (d, m);
	m->node.closed = d->draining || m->draining;
	route_add (d->route, &m->node);
	if (!d->draining)	/* it may not have heard that a drain ended; one that comes while we drain just gets nothing */
		dispatch_tell_drain (d, m);
	if (queue_held (d->queue)->n)
		queue_release_held (d->queue, clock_now_ms ());
	dispatch_replicas_spread (d);
	dispatch_gang_look (d);
	d->o.manager_up (m->block, d->o.arg);
	dispatch_figures_changed (d);
}

static void end_cancelled (struct dispatch *d, struct queue_task *t, const char *text)
{
	d->st.cancelled++;
	dispatch_end_task (d, t, STATUS_CANCELLED, ERR_CANCELLED, FAULT_NONE, text);
}

void dispatch_lose_task (struct dispatch *d, struct manager *m, struct queue_task *t, const char *why)
{
	struct buf block;
	char text[900];

	if (t->cancelled) {
		end_cancelled (d, t, "cancelled; the manager that had it was lost");
		return;
	}
	t->losses++;
	if (t->losses <= d->o.retries_on_loss) {
		own_frame (t);
		if (t->attempt < 255)
			t->attempt++;
		msg_task_set_attempt (zmq_msg_data (&t->frame), t->attempt);
		dispatch_leave_manager (d, t);
		queue_put_back (d->queue, t, &m->tasks, true, clock_now_ms ());
		return;
	}
	buf_init (&block, 4096);
	if (d->o.block_words)
		d->o.block_words (m->block, &block, d->o.arg);
	snprintf (text, sizeof (text), "the task was lost %d times with the manager that had it; the last one: node %s, block %.300s: %.300s",
		  t->losses, m->name, block.len ? (const char *) block.data : *m->block ? m->block : "unknown", why);
	buf_fini (&block);
	d->st.lost++;
	dispatch_end_task (d, t, STATUS_FAILED, ERR_TASK_LOST, FAULT_SITE, text);
}

static void on_manager_down (struct manager *m, const char *why, void *arg)
{
	struct dispatch *d = arg;
	size_t n = m->tasks.n;

	log_line (n ? LOG_WARN : LOG_INFO, "dispatch", "manager down", "node=%s block=%s why=%s tasks=%zu", m->name, m->block, why, n);
	d->wanted -= map_size (m->wanted);
	d->strange -= map_size (m->strange);
	route_remove (d->route, &m->node);
	dispatch_gang_lost (d, m, why);
	while (m->tasks.tail)	/* from the end: they keep their order at the front of the queue */
		dispatch_lose_task (d, m, m->tasks.tail, why);
	dispatch_lane_down (d, m);
	dispatch_replicas_spread (d);
	dispatch_figures_changed (d);
}

static void on_state (struct manager *m, const struct msg_task_state *s, const void *p, size_t n, void *arg)
{
	struct dispatch *d = arg;
	struct queue_task *t = queue_find (d->queue, &s->task);

	if ((!t || t->owner != m) && !resumed (d, m, t, &s->task))
		return;
	queue_reported (d->queue, t, s->state);
	if (d->up)
		upstream_bytes (d->up, WIRE_TASK_STATE, p, n);
}

static void on_output (struct manager *m, const struct msg_output *o, const void *p, size_t n, void *arg)
{
	struct dispatch *d = arg;
	struct queue_task *t = queue_find (d->queue, &o->task);

	/* best effort: what is printed faster than the forwarder reads is not kept in memory for it */
	if (t && t->owner == m && d->up && !upstream_congested (d->up))
		upstream_bytes (d->up, WIRE_OUTPUT, p, n);
}

static void on_returned (struct manager *m, const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct queue_task *t = queue_find (d->queue, task);

	if (d->strange)
		forget (d, m, task);
	if (!t || t->owner != m)
		return;
	d->st.returned++;
	if (t->cancelled) {
		end_cancelled (d, t, "cancelled before it was started");
		return;
	}
	put_back (d, m, t);
}

static void on_missing (struct manager *m, const struct id *function, void *arg)
{
	struct dispatch *d = arg;

	map_del (m->functions, function);
	if (dispatch_send_function (d, m, function))
		return;
	if (!map_put (m->wanted, function, m)) {
		d->wanted++;
		dispatch_ask_function (d, function);
	}
}

static void on_capacity (struct manager *m, const struct msg_capacity *c, void *arg)
{
	struct dispatch *d = arg;
	uint32_t slots = route_slots (d->route);

	m->node.window = c->window_tasks;
	m->node.window_bytes = c->window_bytes;
	m->node.slots = c->slots;
	m->node.ends_ms = c->time_left_s == MSG_TIME_UNLIMITED ? 0 : clock_now_ms () + (int64_t) c->time_left_s * 1000;
	route_update (d->route, &m->node);
	if (slots != route_slots (d->route))
		dispatch_figures_changed (d);
	dispatch_work_later (d);
}

static void on_manager_drain (struct manager *m, bool start, void *arg)
{
	struct dispatch *d = arg;

	log_info ("dispatch", "manager drains", "node=%s block=%s start=%d", m->name, m->block, start);
	m->draining = start;
	dispatch_set_closed (d, m);
	dispatch_figures_changed (d);
}

static void on_manager_relief (struct manager *m, void *arg)
{
	struct dispatch *d = arg;

	dispatch_set_closed (d, m);
	dispatch_work_later (d);
}

const struct managers_ops dispatch_managers = {
	.up = on_manager_up, .down = on_manager_down, .coming = dispatch_coming, .result = on_result, .state = on_state,
	.output = on_output, .returned = on_returned, .missing = on_missing, .capacity = on_capacity,
	.container = dispatch_on_container, .image = dispatch_on_image,
	.drain = on_manager_drain, .relief = on_manager_relief, .burst_end = dispatch_work_later,
};
