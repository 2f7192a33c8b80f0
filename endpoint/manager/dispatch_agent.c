/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. From the agent: tasks, functions, cancel, drain; sessions. */
#include "endpoint/manager/dispatch_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "endpoint/manager/results.h"
#include "endpoint/manager/tasks.h"
#include "proto/functions.h"

static void agent_task (zmq_msg_t *record, const struct msg_task *m, void *arg)
{
	struct dispatch *d = arg;
	zmq_msg_t *had = results_find (d->results, &m->task);
	struct task *t;

	if (had) {
		dispatch_send_result (d, had);	/* it ended here before; the agent has not heard of it */
		return;
	}
	if (d->draining && !tasks_find (d->tasks, &m->task)) {
		upstream_id (d->up, WIRE_TASK_RETURN, &m->task);
		return;
	}
	t = tasks_add (d->tasks, record, m, clock_now_ms ());
	if (t)
		dispatch_place (d, t);
	loop_defer_schedule (d->run);
}

static void agent_function (zmq_msg_t *record, const struct msg_function *m, void *arg)
{
	struct dispatch *d = arg;
	struct id id = m->id;
	struct function *f;
	struct task *t, *next;
	unsigned k;

	if (!(f = functions_put (d->functions, record, NULL)))
		return;
	map_del (d->asked, &id);
	for (k = 0; d->workers && k < workers_all (d->workers); k++)
		if (workers_wants_function (workers_get (d->workers, k), &id))
			workers_send_function (workers_get (d->workers, k), &id, &f->record);
	for (t = tasks_waiting_head (d->tasks); t; t = next) {
		next = t->next;
		if (id_eq (&t->function, &id))
			dispatch_place (d, t);
	}
	if (f->fn.container.n)
		dispatch_replicas (d, f);
	loop_defer_schedule (d->run);
}

static void agent_cancel (const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = tasks_find (d->tasks, task);

	if (!t)
		return;
	if (t->place != TASK_ASSIGNED) {
		dispatch_end_cancelled (d, t);
		return;
	}
	t->cancelled = true;
	workers_send_id (t->worker, WIRE_CANCEL, task);
}

static void agent_follow (const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = tasks_find (d->tasks, task);

	if (t && t->place == TASK_ASSIGNED)
		workers_send_id (t->worker, WIRE_FOLLOW, task);
}

static void agent_acked (const struct id *task, void *arg)
{
	struct dispatch *d = arg;

	results_ack (d->results, task);
	if (d->draining)
		loop_defer_schedule (d->run);
}

static void agent_drain (const struct msg_drain *m, void *arg)
{
	struct dispatch *d = arg;

	if (m->start) {
		dispatch_begin_drain (d, m->grace_ms);
	} else if (d->draining && !d->own_drain && !d->stopping && !d->empty_told) {
		log_info ("dispatch", "draining ended", NULL);
		d->draining = false;
		if (d->workers)
			workers_drain (d->workers, false, 0);
		loop_defer_schedule (d->run);
	}
}

static void resend (zmq_msg_t *frame, void *arg)
{
	struct dispatch *d = arg;

	dispatch_send_result (d, frame);
}

/* The agent has taken all that we had for lost: it hears of what is here still, and says CANCEL where that is nobody's any more. */
static int tell (struct task *t, void *arg)
{
	struct dispatch *d = arg;
	const struct msg_task_state s = { .state = t->started ? STATE_RUNNING : STATE_WAITING_FOR_LAUNCH, .task = t->id, .time_ns = clock_real_ns () };

	upstream_state (d->up, &s);
	return 0;
}

static void agent_up (const struct msg_welcome *welcome, void *arg)
{
	struct dispatch *d = arg;
	int64_t now_ms = clock_now_ms ();
	struct task *t;

	d->o.session (true, welcome, d->o.arg);
	dispatch_tell_capacity (d);
	if (d->own_drain)
		upstream_drain (d->up, true, 0);
	results_each (d->results, resend, d);
	tasks_each (d->tasks, tell, d);
	dispatch_containers_tell (d);
	dispatch_images_untold (d);
	/* what was asked for in the session before is not answered in this one */
	map_empty (&d->asked, NULL);
	for (t = tasks_waiting_head (d->tasks); t; t = t->next) {
		t->since_ms = now_ms;
		dispatch_ask_for_function (d, &t->function);
	}
	loop_defer_schedule (d->run);
}

/* It was lost with its worker: without a session it is the agent's to say whether it begins once more. */
static int drop_begun (struct task *t, void *arg)
{
	struct dispatch *d = arg;

	if (t->counted && t->place != TASK_ASSIGNED)
		tasks_drop (d->tasks, &t);
	return 0;
}

static void agent_down (const char *why, void *arg)
{
	struct dispatch *d = arg;

	(void) why;
	tasks_each (d->tasks, drop_begun, d);
	d->o.session (false, NULL, d->o.arg);
}

const struct upstream_ops dispatch_upstream_ops = {
	.up = agent_up, .down = agent_down, .function = agent_function, .task = agent_task, .cancel = agent_cancel,
	.follow = agent_follow, .acked = agent_acked, .image = dispatch_image_asked, .drain = agent_drain, .capacity_due = dispatch_capacity_due,
};
