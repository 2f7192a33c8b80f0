/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. From the workers: results, states; what becomes of the tasks of one that is gone. */
#include "endpoint/manager/dispatch_internal.h"
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/spawn.h"
#include "endpoint/manager/batch.h"
#include "endpoint/manager/keep.h"
#include "endpoint/manager/prefetch.h"
#include "endpoint/manager/results.h"
#include "endpoint/manager/tasks.h"
#include "proto/functions.h"

static void worker_up (struct worker *w, void *arg)
{
	struct dispatch *d = arg;

	w->blocking = 0;
	d->no_worker_since_ms = 0;
	if (w->container)
		dispatch_container_up (d, w);
	loop_defer_schedule (d->run);
}

static void end_batch (struct dispatch *d, struct worker *w)
{
	struct function *f = w->batch_seen ? functions_get (d->functions, &w->batch_function) : NULL;

	if (f)
		batch_note (d->batch, &f->fn, w->batch_seen, w->batch_size, w->batch_took_ns);
	w->batch_seen = 0;
}

/* The results of one call have the same times; a batch that failed comes as several calls. */
static void note_batch (struct dispatch *d, struct worker *w, int64_t start_ns, int64_t end_ns)
{
	if (w->batch_seen && w->batch_start_ns != start_ns)
		end_batch (d, w);
	w->batch_start_ns = start_ns;
	w->batch_took_ns = end_ns - start_ns;
	w->batch_seen++;
}

static void take_result (struct dispatch *d, struct worker *w, struct task *t, zmq_msg_t *record, const struct msg_result *m)
{
	int64_t start = m->stamps[STAMP_EXECUTION_START], end = m->stamps[STAMP_EXECUTION_END];

	workers_send_id (w, WIRE_RESULT_ACK, &m->task);
	if (start > 0 && end >= start) {
		if (w->batch_size && id_eq (&t->function, &w->batch_function))
			note_batch (d, w, start, end);
		prefetch_note (d->prefetch, &t->function, end - start);
		if (end - start < DISPATCH_STUCK_MS * INT64_C (1000000))
			d->stuck = false;
	}
	if (t->need || (t->cold && w->container))
		dispatch_note_waits (t->cold && w->container ? w : NULL, t, record);
	msg_result_stamp (zmq_msg_data (record), STAMP_MANAGER_RESULT, clock_real_ns ());
	dispatch_deliver (d, &t->id, record);
	if (t->worker && t->worker != w)
		workers_send_id (t->worker, WIRE_CANCEL, &t->id);	/* it was given to another one meanwhile */
	dispatch_leave_worker (t);
	tasks_drop (d->tasks, &t);
	if (w->batch_size && !w->tasks.n) {
		end_batch (d, w);
		w->batch_size = 0;
	}
	if (w->container && !w->tasks.n)
		dispatch_container_idle (w);
	loop_defer_schedule (d->run);
}

void dispatch_take_result (struct dispatch *d, struct task *t, zmq_msg_t *record, const struct msg_result *m)
{
	take_result (d, t->worker, t, record, m);
}

static void worker_result (struct worker *w, zmq_msg_t *record, const struct msg_result *m, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = tasks_find (d->tasks, &m->task);

	if (t && m->kept.n && t->worker == w)
		dispatch_keep_files (d, t, record);
	else if (t && !m->kept.n)
		take_result (d, w, t, record, m);
	else
		workers_send_id (w, WIRE_RESULT_ACK, &m->task);	/* it ended otherwise before: the first wins */
}

static void worker_returned (struct worker *w, const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = tasks_find (d->tasks, task);

	if (!t || t->worker != w)
		return;
	if (t->cancelled) {
		dispatch_end_cancelled (d, t);
	} else if (d->draining) {
		dispatch_give_back (d, t);
	} else {
		dispatch_leave_worker (t);
		dispatch_place (d, t);
	}
	loop_defer_schedule (d->run);
}

static void worker_state (struct worker *w, zmq_msg_t *record, const struct msg_task_state *m, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = tasks_find (d->tasks, &m->task);

	if (!t || t->worker != w || m->state != STATE_RUNNING || t->started)
		return;
	t->started = true;
	upstream_record (d->up, WIRE_TASK_STATE, record);
}

static void worker_output (struct worker *w, zmq_msg_t *record, const struct msg_output *m, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = tasks_find (d->tasks, &m->task);

	/* best effort: what is printed faster than the agent reads is not kept in memory for it */
	if (t && t->worker == w && !upstream_congested (d->up))
		upstream_record (d->up, WIRE_OUTPUT, record);
}

static void worker_missing (struct worker *w, const struct id *function, void *arg)
{
	struct dispatch *d = arg;
	struct function *f = functions_get (d->functions, function);

	workers_forget_function (w, function, !f);
	if (f)
		workers_send_function (w, function, &f->record);
	else
		dispatch_ask_for_function (d, function);
}

/* The one at the head may have begun, as may one reported as running: that counts as an attempt. */
static void rescue (struct dispatch *d, struct worker *w, struct task *t, bool begun, int status)
{
	char id[ID_TEXT], how[64], text[600];
	int detail = WIFSIGNALED (status) ? WTERMSIG (status) : WIFEXITED (status) ? WEXITSTATUS (status) : 0;

	save_drop (&t->save);		/* what it copies from goes */
	if (t->cancelled) {
		dispatch_end_cancelled (d, t);
	} else if (begun && (d->stopping || !upstream_up (d->up))) {
		dispatch_leave_worker (t);
		tasks_drop (d->tasks, &t);	/* our BYE tells the agent; without a session it has taken it for lost by itself */
	} else if (d->draining) {
		dispatch_give_back (d, t);
	} else if (begun && tasks_count_loss (t, d->o.retries_on_loss) < 0) {
		snprintf (text, sizeof (text), "the worker that ran the task was lost (attempt %u): worker %s on node %.200s, %s", t->attempt + 1u,
			  id_text (&w->id, id), d->o.node, spawn_status_text (status, how));
		dispatch_end_failed (d, t, ERR_TASK_LOST, FAULT_SITE, detail, text);
	} else {
		t->solo = true;
		dispatch_leave_worker (t);
		dispatch_place (d, t);
	}
}

static void worker_lost (struct worker *w, int status, void *arg)
{
	struct dispatch *d = arg;
	bool head = true;
	size_t n = w->tasks.n;

	while (w->tasks.head) {
		struct task *t = w->tasks.head;

		rescue (d, w, t, head || t->started, status);
		head = false;
	}
	w->blocking = 0;
	if (w->container)
		dispatch_container_lost (d, w);
	if (n)
		log_info ("dispatch", "tasks of a lost worker dealt with", "n=%zu", n);
	if (!loop_timer_pending (d->tick))
		loop_timer_start (d->tick, DISPATCH_TICK_MS, false);
	loop_defer_schedule (d->run);
}

static void workers_stopped (void *arg)
{
	struct dispatch *d = arg;

	d->o.stopped (d->o.arg);
}

const struct workers_ops dispatch_workers_ops = {
	.up = worker_up, .lost = worker_lost, .result = worker_result, .returned = worker_returned, .state = worker_state,
	.output = worker_output,
	.missing = worker_missing, .container = dispatch_container_state, .stopped = workers_stopped,
};
