/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. Which manager gets the next task, and what is held back for want of a function or of time. */
#include "endpoint/dispatch_internal.h"
#include "common/clock.h"
#include "proto/adapt.h"
#include "proto/bulk_record.h"
#include "proto/functions.h"
#include "proto/link.h"

bool dispatch_send_function (struct dispatch *d, struct manager *m, const struct id *function)
{
	struct function *f;
	zmq_msg_t record;

	if (map_get (m->functions, function))
		return true;
	if (!(f = functions_get (d->functions, function)))
		return false;
	zmq_msg_init (&record);
	dispatch_function_for (d, m, f, &record);
	map_put (m->functions, function, m);
	link_send (m->peer, WIRE_FUNCTION, &record);
	zmq_msg_close (&record);
	return true;
}

void dispatch_have (struct dispatch *d, struct manager *m, struct queue_task *t)
{
	queue_take (d->queue, t, m, &m->tasks, clock_now_ms ());
	m->node.out++;
	m->node.out_bytes += t->bytes;
	m->idle_since_ms = 0;
}

void dispatch_send_task (struct dispatch *d, struct manager *m, struct queue_task *t)
{
	zmq_msg_t record;
	struct err err;

	msg_task_stamp (zmq_msg_data (&t->frame), STAMP_ENDPOINT_SENT, clock_real_ns ());
	zmq_msg_init (&record);
	zmq_msg_copy (&record, &t->frame);
	if (!link_peer_bulk (m->peer) && bulk_record_task (d->o.bulk, &record, &err) < 0) {
		zmq_msg_close (&record);
		err_prefix (&err, "the task cannot be sent to a manager");
		dispatch_end_task (d, t, STATUS_FAILED, err.code, err.fault, err.text);
		return;
	}
	if (t->gang && dispatch_gang_frame (d, t, &record, &err) < 0) {
		zmq_msg_close (&record);
		dispatch_end_task (d, t, STATUS_FAILED, err.code, err.fault, err.text);
		return;
	}
	dispatch_have (d, m, t);
	adapt_task (&record, link_peer_major (m->peer));
	link_send (m->peer, WIRE_TASK, &record);
	zmq_msg_close (&record);
	if (link_congested (m->peer))
		m->node.closed = true;
	route_update (d->route, &m->node);
}

void dispatch_ask_function (struct dispatch *d, const struct id *function)
{
	if (d->up)
		upstream_id (d->up, WIRE_FUNCTION_MISSING, function);
	d->asked_ms = clock_now_ms ();
}

void dispatch_hold_for_function (struct dispatch *d, struct queue_task *t)
{
	int64_t now = clock_now_ms ();
	struct id function = t->function;
	bool first = !t->deadline_ms;

	queue_hold (d->queue, t, now + d->o.hold_ms, now);
	if (first)
		dispatch_ask_function (d, &function);
}

bool dispatch_give (struct dispatch *d, struct queue_task *t, const struct route_lane *lane, int64_t now_ms)
{
	struct manager *m = lane ? NULL : dispatch_warm_manager (d, t, now_ms);
	bool time_short = false;

	if (!m)
		m = (struct manager *) route_pick (d->route, lane, t->expected_ms, now_ms, &time_short);
	if (m && !dispatch_send_function (d, m, &t->function)) {
		dispatch_hold_for_function (d, t);
	} else if (m) {
		dispatch_send_task (d, m, t);
	} else if (time_short) {
		/* nobody has the time left that it needs; others behind it may be shorter */
		queue_hold (d->queue, t, 0, now_ms);
		if (!d->need_ms || t->expected_ms < d->need_ms)
			d->need_ms = t->expected_ms;
	}
	return m || time_short;
}

void dispatch_route (struct dispatch *d)
{
	struct queue_task *t;
	int64_t now = clock_now_ms ();

	if (d->draining)
		return;
	while ((t = queue_front (d->queue))) {
		if (d->o.block_image && dispatch_lane_take (d, t, now))
			continue;
		if (t->nodes) {
			queue_wait_nodes (d->queue, t, now);
			d->gang_look = true;
			continue;
		}
		if (!dispatch_memo_ask (d, t) && !dispatch_give (d, t, NULL, now))
			break;
	}
	dispatch_lanes_route (d, now);
	if (d->gang || queue_gangs (d->queue)->n)
		dispatch_gang_place (d);
	if (queue_front (d->queue) || queue_held (d->queue)->n || queue_gangs (d->queue)->n || queue_in_lanes (d->queue))
		d->o.tasks_waiting (d->o.arg);
}
