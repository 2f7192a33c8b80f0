/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch.h, and dispatch_internal.h for the other files of it. */
#include "endpoint/manager/dispatch_internal.h"
#include <stdlib.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"
#include "endpoint/manager/batch.h"
#include "endpoint/manager/files.h"
#include "endpoint/manager/keep.h"
#include "endpoint/manager/pools.h"
#include "endpoint/manager/prefetch.h"
#include "endpoint/manager/results.h"
#include "endpoint/manager/tasks.h"
#include "proto/bulk_record.h"
#include "proto/functions.h"

/* ---- ends of tasks ---- */

/* A second reference is sent; what the session cannot carry is changed in it. */
void dispatch_send_result (struct dispatch *d, zmq_msg_t *frame)
{
	zmq_msg_t whole;

	if (!upstream_up (d->up) || upstream_bulk (d->up)) {
		upstream_result (d->up, frame);
		return;
	}
	zmq_msg_init (&whole);
	zmq_msg_copy (&whole, frame);
	bulk_record_result (d->o.bulk, &whole);
	upstream_result (d->up, &whole);
	zmq_msg_close (&whole);
}

/* frame: borrowed; it is kept by reference until the agent has acknowledged it. */
void dispatch_deliver (struct dispatch *d, const struct id *task, zmq_msg_t *frame)
{
	if (results_keep (d->results, task, frame) < 0)
		return;
	d->done++;
	dispatch_send_result (d, frame);
}

void dispatch_leave_worker (struct task *t)
{
	struct worker *w = t->worker;

	if (t->place != TASK_ASSIGNED)
		return;
	w->blocking -= t->blocks;
	t->blocks = false;
	if (w->tasks.head == t) {
		w->head_since_ns = clock_now_ns ();
		w->recalled = false;
	}
}

static void end_here (struct dispatch *d, struct task *t, const struct results_made *made)
{
	zmq_msg_t frame;

	if (results_make (&frame, t, made, upstream_major (d->up)) < 0) {
		/* no memory for some hundred bytes: given back it ends elsewhere */
		upstream_id (d->up, WIRE_TASK_RETURN, &t->id);
	} else {
		dispatch_deliver (d, &t->id, &frame);
		zmq_msg_close (&frame);
	}
	dispatch_leave_worker (t);
	tasks_drop (d->tasks, &t);
	loop_defer_schedule (d->run);
}

void dispatch_end_cancelled (struct dispatch *d, struct task *t)
{
	const struct results_made made = { .status = STATUS_CANCELLED, .fault = FAULT_USER, .code = ERR_CANCELLED, .node = d->o.node,
					   .text = "the task was cancelled before it began" };
	end_here (d, t, &made);
}

void dispatch_end_failed (struct dispatch *d, struct task *t, enum err_code code, enum err_fault fault, int detail, const char *text)
{
	const struct results_made made = { .status = STATUS_FAILED, .fault = (uint8_t) fault, .code = (uint16_t) code, .detail = detail,
					   .node = d->o.node, .text = text };
	end_here (d, t, &made);
}

void dispatch_give_back (struct dispatch *d, struct task *t)
{
	upstream_id (d->up, WIRE_TASK_RETURN, &t->id);
	dispatch_leave_worker (t);
	tasks_drop (d->tasks, &t);
}

/* What no worker has. all: those too whose count of attempts the agent would not learn. */
void dispatch_give_back_queue (struct dispatch *d, bool all)
{
	struct task *t, *next;
	struct pool *p;
	size_t n = 0;

	for (t = tasks_queue_head (d->tasks); t; t = next) {
		next = t->next;
		if (all || !t->counted) {
			dispatch_give_back (d, t);
			n++;
		}
	}
	for (p = pools_first (d->pools); all && p; p = p->next)
		for (; p->waiting.head; n++)
			dispatch_give_back (d, p->waiting.head);
	for (; all && d->fetching.head; n++)
		dispatch_give_back (d, d->fetching.head);
	for (; all && d->later.head; n++)
		dispatch_give_back (d, d->later.head);
	for (t = all ? tasks_waiting_head (d->tasks) : NULL; t; t = next) {
		next = t->next;
		dispatch_give_back (d, t);
		n++;
	}
	if (n)
		log_debug ("dispatch", "tasks given back", "n=%zu", n);
}

/* ---- life ---- */

struct dispatch *dispatch_create (struct loop *l, const struct dispatch_opts *o)
{
	struct dispatch *d = xcalloc (1, sizeof (*d));

	d->o = *o;
	d->tasks = tasks_create ();
	d->results = results_create ();
	d->prefetch = prefetch_create ();
	d->batch = batch_create ();
	d->functions = functions_create (FUNCTIONS_MAX_COUNT, FUNCTIONS_MAX_BYTES);
	d->asked = map_create ();
	d->pools = pools_create ();
	d->cool = loop_timer_create (l, dispatch_containers_cool, d);
	d->run = loop_defer_create (l, dispatch_run, d);
	if (o->files)
		files_connect (o->files, dispatch_files_came, d);
	if (o->keep)
		keep_connect (o->keep, dispatch_files_kept, d);
	d->tick = loop_timer_create (l, dispatch_tick, d);
	d->capacity = loop_timer_create (l, dispatch_capacity_due, d);
	if (o->time_left_ms > 0)
		d->ends_at_ms = clock_now_ms () + o->time_left_ms;
	return d;
}

void dispatch_destroy (struct dispatch **dp)
{
	struct dispatch *d = *dp;

	if (!d)
		return;
	loop_timer_destroy (&d->tick);
	loop_timer_destroy (&d->capacity);
	loop_timer_destroy (&d->cool);
	loop_defer_destroy (&d->run);
	map_destroy (&d->asked);
	functions_destroy (&d->functions);
	prefetch_destroy (&d->prefetch);
	batch_destroy (&d->batch);
	results_destroy (&d->results);
	tasks_destroy (&d->tasks);
	pools_destroy (&d->pools);
	free (d);
	*dp = NULL;
}

void dispatch_connect (struct dispatch *d, struct upstream *u, struct workers *ws)
{
	d->up = u;
	d->workers = ws;
}

void dispatch_begin_drain (struct dispatch *d, uint32_t grace_ms)
{
	log_info ("dispatch", "draining", "in_hand=%zu grace_ms=%u", tasks_count (d->tasks), grace_ms);
	d->draining = true;
	dispatch_give_back_queue (d, true);
	if (d->workers)
		workers_drain (d->workers, true, grace_ms);
	loop_defer_schedule (d->run);
}

void dispatch_drain (struct dispatch *d, uint32_t grace_ms)
{
	if (d->own_drain)
		return;
	d->own_drain = true;
	upstream_drain (d->up, true, grace_ms);
	dispatch_begin_drain (d, grace_ms);
}

void dispatch_stop (struct dispatch *d)
{
	d->stopping = d->draining = d->empty_told = true;
	dispatch_give_back_queue (d, true);
	dispatch_check_capacity (d);
}
