/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch.h. Everything that changes what could be sent where only schedules `run`, which assigns at the end of the burst. */
#include "endpoint/manager/dispatch.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "endpoint/manager/functions.h"
#include "endpoint/manager/prefetch.h"
#include "endpoint/manager/results.h"
#include "endpoint/manager/tasks.h"
#include "endpoint/manager/window.h"

#define TICK_MS 50
#define STUCK_MS 100		/* calls and waits longer than this make us give back */
#define NO_WORKER_MS 5000	/* without any worker for this long, all is given back */
#define CAPACITY_PAUSE_MS 5
#define MISSING_MS 10000
#define IDLE_LOOK 8		/* idle workers looked at for one that has the function */

struct dispatch {
	struct dispatch_opts o;		/* node borrowed */
	struct upstream *up;		/* borrowed */
	struct workers *workers;	/* borrowed */
	struct tasks *tasks;
	struct results *results;
	struct prefetch *prefetch;
	struct functions *functions;
	struct map *asked;		/* functions that FUNCTION_MISSING went up for in this session */
	struct loop_defer *run;
	struct loop_timer *tick, *capacity;
	int64_t ends_at_ms;		/* monotonic; 0 = unlimited */
	int64_t no_worker_since_ms;	/* 0 = there are some */
	int64_t capacity_at_ms;
	struct msg_capacity told;	/* what the agent knows */
	uint64_t done;
	bool stuck, draining, own_drain, stopping, empty_told;
};

/* ---- ends of tasks ---- */

/* frame: borrowed; it is kept by reference until the agent has acknowledged it. */
static void deliver (struct dispatch *d, const struct id *task, zmq_msg_t *frame)
{
	if (results_keep (d->results, task, frame) < 0)
		return;
	d->done++;
	upstream_result (d->up, frame);
}

static void leave_worker (struct task *t)
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
		deliver (d, &t->id, &frame);
		zmq_msg_close (&frame);
	}
	leave_worker (t);
	tasks_drop (d->tasks, &t);
	loop_defer_schedule (d->run);
}

static void end_cancelled (struct dispatch *d, struct task *t)
{
	const struct results_made made = { .status = STATUS_CANCELLED, .fault = FAULT_USER, .code = ERR_CANCELLED, .node = d->o.node,
					   .text = "the task was cancelled before it began" };
	end_here (d, t, &made);
}

static void end_failed (struct dispatch *d, struct task *t, enum err_code code, enum err_fault fault, int detail, const char *text)
{
	const struct results_made made = { .status = STATUS_FAILED, .fault = (uint8_t) fault, .code = (uint16_t) code, .detail = detail,
					   .node = d->o.node, .text = text };
	end_here (d, t, &made);
}

static void give_back (struct dispatch *d, struct task *t)
{
	upstream_id (d->up, WIRE_TASK_RETURN, &t->id);
	leave_worker (t);
	tasks_drop (d->tasks, &t);
}

/* What no worker has. all: those too whose count of attempts the agent would not learn. */
static void give_back_queue (struct dispatch *d, bool all)
{
	struct task *t, *next;
	size_t n = 0;

	for (t = tasks_queue_head (d->tasks); t; t = next) {
		next = t->next;
		if (all || !t->counted) {
			give_back (d, t);
			n++;
		}
	}
	for (t = all ? tasks_waiting_head (d->tasks) : NULL; t; t = next) {
		next = t->next;
		give_back (d, t);
		n++;
	}
	if (n)
		log_debug ("dispatch", "tasks given back", "n=%zu", n);
}

/* ---- capacity ---- */

static uint32_t time_left_s (const struct dispatch *d)
{
	int64_t left = d->ends_at_ms - clock_now_ms ();

	if (!d->ends_at_ms)
		return MSG_TIME_UNLIMITED;
	return left > 0 ? (uint32_t) (left / 1000) : 0;
}

static void measure (const struct dispatch *d, struct msg_capacity *m)
{
	struct window_in in = { .depth = prefetch_depth_all (d->prefetch), .queue = prefetch_queue (d->prefetch),
				.draining = d->draining, .stuck = d->stuck };
	unsigned k, n = d->workers ? workers_count (d->workers) : 0;

	memset (m, 0, sizeof (*m));
	for (k = 0; k < n; k++) {
		const struct worker *w = workers_get (d->workers, k);

		if (w->state == WORKER_UP) {
			in.up++;
			m->free_slots += w->tasks.n == 0;
		}
		m->slots += w->state == WORKER_UP || w->failures < 2;	/* a start that keeps failing is no slot */
		m->running += w->tasks.n > 0;
	}
	m->queued = (uint32_t) (tasks_count (d->tasks) - m->running);
	m->window_tasks = window_tasks (&in);
	m->window_bytes = WINDOW_BYTES;
	m->managers = 1;
	m->time_left_s = time_left_s (d);
	m->tasks_done = d->done;
}

static void tell_capacity (struct dispatch *d)
{
	if (!d->up || !upstream_up (d->up))
		return;
	measure (d, &d->told);
	d->capacity_at_ms = clock_now_ms ();
	upstream_capacity (d->up, &d->told);
}

static void capacity_due (void *arg)
{
	tell_capacity (arg);
}

/* The agent acts on the window and the slots; the other figures may wait for the heartbeat. */
static void check_capacity (struct dispatch *d)
{
	struct msg_capacity now;
	int64_t wait;

	if (!d->up || !upstream_up (d->up) || loop_timer_pending (d->capacity))
		return;
	measure (d, &now);
	if (now.window_tasks == d->told.window_tasks && now.slots == d->told.slots)
		return;
	wait = d->capacity_at_ms + CAPACITY_PAUSE_MS - clock_now_ms ();
	if (wait > 0)
		loop_timer_start (d->capacity, wait, false);
	else
		tell_capacity (d);
}

/* ---- routing ---- */

/* An idle worker, at best one that has the function. */
static struct worker *pick_idle (struct dispatch *d, const struct id *function)
{
	struct worker *first = NULL;
	unsigned k, seen = 0;

	for (k = 0; k < workers_count (d->workers) && seen < IDLE_LOOK; k++) {
		struct worker *w = workers_get (d->workers, k);

		if (w->state != WORKER_UP || w->tasks.n)
			continue;
		if (workers_has_function (w, function))
			return w;
		seen++;
		if (!first)
			first = w;
	}
	return first;
}

/* The least loaded worker behind whose short calls there is room for another one. */
static struct worker *pick_behind (struct dispatch *d, unsigned depth, int64_t now_ns)
{
	struct worker *best = NULL;
	unsigned k;

	for (k = 0; k < workers_count (d->workers); k++) {
		struct worker *w = workers_get (d->workers, k);

		if (w->state != WORKER_UP || w->blocking || w->tasks.n > depth || now_ns - w->head_since_ns > PREFETCH_LONG_NS)
			continue;
		if (!best || w->tasks.n < best->tasks.n)
			best = w;
	}
	return best;
}

static void send_to (struct dispatch *d, struct task *t, struct worker *w, struct function *f, bool blocks, int64_t now_ns)
{
	zmq_msg_t frame;

	if (tasks_assign (d->tasks, t, w, &w->tasks, now_ns / 1000000, &frame) < 0) {
		end_failed (d, t, ERR_INTERNAL, FAULT_SITE, 0, "no memory on the node to hand the task to a worker");
		return;
	}
	t->blocks = blocks;
	w->blocking += blocks;
	if (w->tasks.n == 1) {
		w->head_since_ns = now_ns;
		w->recalled = false;
	}
	if (!workers_has_function (w, &t->function))
		workers_send_function (w, &t->function, &f->record);
	workers_send_task (w, &frame);
}

static void ask_for_function (struct dispatch *d, const struct id *function)
{
	if (map_put (d->asked, function, d))
		return;
	upstream_id (d->up, WIRE_FUNCTION_MISSING, function);
}

static void await_function (struct dispatch *d, struct task *t)
{
	tasks_wait (d->tasks, t, clock_now_ms ());
	ask_for_function (d, &t->function);
}

/* Returns false when the head of the queue has to wait for a worker. */
static bool assign_head (struct dispatch *d, int64_t now_ns)
{
	struct task *t = tasks_queue_head (d->tasks);
	struct function *f = functions_get (d->functions, &t->function);
	unsigned depth = t->solo ? 0 : prefetch_depth (d->prefetch, &t->function);
	struct worker *w;
	char text[300];

	if (!f) {
		await_function (d, t);
		return true;
	}
	if (f->container) {
		snprintf (text, sizeof (text), "the function wants the container %.200s, and this endpoint runs no containers", f->container);
		end_failed (d, t, ERR_TASK_RUNNER, FAULT_SITE, 0, text);
		return true;
	}
	w = pick_idle (d, &t->function);
	if (!w && depth)
		w = pick_behind (d, depth, now_ns);
	if (!w)
		return false;
	send_to (d, t, w, f, depth == 0, now_ns);
	return true;
}

static void check_empty (struct dispatch *d)
{
	if (!d->draining || d->empty_told || tasks_count (d->tasks) || results_count (d->results))
		return;
	d->empty_told = true;
	d->o.empty (d->o.arg);
}

/* Is any task behind another one at a worker? */
static bool any_behind (const struct dispatch *d)
{
	unsigned k;

	for (k = 0; d->workers && k < workers_count (d->workers); k++)
		if (workers_get (d->workers, k)->tasks.n > 1)
			return true;
	return false;
}

static void run (void *arg)
{
	struct dispatch *d = arg;
	int64_t now_ns = clock_now_ns ();

	while (d->workers && !d->draining && tasks_queue_head (d->tasks))
		if (!assign_head (d, now_ns))
			break;
	if ((tasks_queued (d->tasks) || tasks_waiting (d->tasks) || d->stuck || any_behind (d)) && !loop_timer_pending (d->tick))
		loop_timer_start (d->tick, TICK_MS, false);
	check_capacity (d);
	check_empty (d);
}

/* ---- what stands too long ---- */

static void expire_waiting (struct dispatch *d, int64_t now_ms)
{
	int64_t patience = d->o.missing_ms ? d->o.missing_ms : MISSING_MS;
	struct task *t, *next;

	for (t = tasks_waiting_head (d->tasks); t; t = next) {
		next = t->next;
		if (now_ms - t->since_ms < patience)
			break;	/* in order of since_ms */
		map_del (d->asked, &t->function);
		end_failed (d, t, ERR_NOT_FOUND, FAULT_PEER, 0, "the code of the function did not come to the node in time");
	}
}

struct load { unsigned up, idle, fresh; };	/* fresh: busy with a call that began lately */

static struct load look (const struct dispatch *d)
{
	struct load l = { 0, 0, 0 };
	int64_t now_ns = clock_now_ns ();
	unsigned k;

	for (k = 0; d->workers && k < workers_count (d->workers); k++) {
		const struct worker *w = workers_get (d->workers, k);

		if (w->state != WORKER_UP)
			continue;
		l.up++;
		if (!w->tasks.n)
			l.idle++;
		else if (now_ns - w->head_since_ns < STUCK_MS * INT64_C (1000000))
			l.fresh++;
	}
	return l;
}

/* A call that took longer than its function's average promised: what was put behind it is taken back. */
static void recall_behind (struct dispatch *d)
{
	int64_t now_ns = clock_now_ns ();
	unsigned k;

	for (k = 0; d->workers && !d->draining && k < workers_count (d->workers); k++) {
		struct worker *w = workers_get (d->workers, k);

		if (w->state != WORKER_UP || w->tasks.n < 2 || w->recalled || now_ns - w->head_since_ns < STUCK_MS * INT64_C (1000000))
			continue;
		w->recalled = true;
		workers_recall (w);
	}
}

static void check_stuck (struct dispatch *d, const struct load *l, int64_t now_ms)
{
	const struct task *head = tasks_queue_head (d->tasks);

	if (d->stuck && l->idle)
		d->stuck = false;
	if (head && l->up && !l->idle && !l->fresh && now_ms - head->since_ms > STUCK_MS) {
		d->stuck = true;
		give_back_queue (d, false);
	}
}

static void check_no_worker (struct dispatch *d, const struct load *l, int64_t now_ms)
{
	if (l->up)
		d->no_worker_since_ms = 0;
	else if (!d->no_worker_since_ms)
		d->no_worker_since_ms = now_ms;
	else if (now_ms - d->no_worker_since_ms > NO_WORKER_MS)
		give_back_queue (d, true);
}

static void tick (void *arg)
{
	struct dispatch *d = arg;
	int64_t now_ms = clock_now_ms ();
	struct load l = look (d);

	expire_waiting (d, now_ms);
	recall_behind (d);
	if (upstream_up (d->up)) {	/* without a session nobody would hear of what is given back */
		check_stuck (d, &l, now_ms);
		check_no_worker (d, &l, now_ms);
	}
	loop_defer_schedule (d->run);
}

/* ---- from the agent ---- */

static void agent_task (zmq_msg_t *record, const struct msg_task *m, void *arg)
{
	struct dispatch *d = arg;
	zmq_msg_t *had = results_find (d->results, &m->task);
	struct task *t;

	if (had) {
		upstream_result (d->up, had);	/* it ended here before; the agent has not heard of it */
		return;
	}
	if (d->draining && !tasks_find (d->tasks, &m->task)) {
		upstream_id (d->up, WIRE_TASK_RETURN, &m->task);
		return;
	}
	t = tasks_add (d->tasks, record, m, clock_now_ms ());
	if (t && !functions_get (d->functions, &t->function))
		await_function (d, t);
	loop_defer_schedule (d->run);
}

static void agent_function (zmq_msg_t *record, const struct msg_function *m, void *arg)
{
	struct dispatch *d = arg;
	struct id id = m->id;
	struct function *f;
	struct task *t, *next;
	unsigned k;

	functions_put (d->functions, record, m);
	map_del (d->asked, &id);
	f = functions_get (d->functions, &id);
	for (k = 0; d->workers && k < workers_count (d->workers); k++)
		if (workers_wants_function (workers_get (d->workers, k), &id))
			workers_send_function (workers_get (d->workers, k), &id, &f->record);
	for (t = tasks_waiting_head (d->tasks); t; t = next) {
		next = t->next;
		if (id_eq (&t->function, &id))
			tasks_requeue (d->tasks, t, clock_now_ms ());
	}
	loop_defer_schedule (d->run);
}

static void agent_cancel (const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = tasks_find (d->tasks, task);

	if (!t)
		return;
	if (t->place != TASK_ASSIGNED) {
		end_cancelled (d, t);
		return;
	}
	t->cancelled = true;
	workers_send_id (t->worker, WIRE_CANCEL, task);
}

static void agent_acked (const struct id *task, void *arg)
{
	struct dispatch *d = arg;

	results_ack (d->results, task);
	if (d->draining)
		loop_defer_schedule (d->run);
}

static void begin_drain (struct dispatch *d, uint32_t grace_ms)
{
	log_info ("dispatch", "draining", "in_hand=%zu grace_ms=%u", tasks_count (d->tasks), grace_ms);
	d->draining = true;
	give_back_queue (d, true);
	if (d->workers)
		workers_drain (d->workers, true, grace_ms);
	loop_defer_schedule (d->run);
}

static void agent_drain (const struct msg_drain *m, void *arg)
{
	struct dispatch *d = arg;

	if (m->start) {
		begin_drain (d, m->grace_ms);
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

	upstream_result (d->up, frame);
}

static void agent_up (const struct msg_welcome *welcome, void *arg)
{
	struct dispatch *d = arg;
	struct task *t;

	d->o.session (true, welcome, d->o.arg);
	tell_capacity (d);
	if (d->own_drain)
		upstream_drain (d->up, true, 0);
	results_each (d->results, resend, d);
	/* what was asked for in the session before is not answered in this one */
	map_destroy (&d->asked);
	d->asked = map_create ();
	for (t = tasks_waiting_head (d->tasks); t; t = t->next)
		ask_for_function (d, &t->function);
	loop_defer_schedule (d->run);
}

static void agent_down (const char *why, void *arg)
{
	struct dispatch *d = arg;

	(void) why;
	d->o.session (false, NULL, d->o.arg);
}

const struct upstream_ops dispatch_upstream_ops = {
	.up = agent_up, .down = agent_down, .function = agent_function, .task = agent_task, .cancel = agent_cancel,
	.acked = agent_acked, .drain = agent_drain, .capacity_due = capacity_due,
};

/* ---- from the workers ---- */

static void worker_up (struct worker *w, void *arg)
{
	struct dispatch *d = arg;

	w->blocking = 0;
	d->no_worker_since_ms = 0;
	loop_defer_schedule (d->run);
}

static void worker_result (struct worker *w, zmq_msg_t *record, const struct msg_result *m, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = tasks_find (d->tasks, &m->task);
	int64_t start = m->stamps[STAMP_EXECUTION_START], end = m->stamps[STAMP_EXECUTION_END];

	workers_send_id (w, WIRE_RESULT_ACK, &m->task);
	if (!t)
		return;		/* it ended otherwise before: the first wins */
	if (start > 0 && end >= start) {
		prefetch_note (d->prefetch, &t->function, end - start);
		if (end - start < STUCK_MS * INT64_C (1000000))
			d->stuck = false;
	}
	msg_result_stamp (zmq_msg_data (record), STAMP_MANAGER_RESULT, clock_real_ns ());
	deliver (d, &t->id, record);
	if (t->worker && t->worker != w)
		workers_send_id (t->worker, WIRE_CANCEL, &t->id);	/* it was given to another one meanwhile */
	leave_worker (t);
	tasks_drop (d->tasks, &t);
	loop_defer_schedule (d->run);
}

static void worker_returned (struct worker *w, const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = tasks_find (d->tasks, task);

	if (!t || t->worker != w)
		return;
	if (t->cancelled) {
		end_cancelled (d, t);
	} else if (d->draining) {
		give_back (d, t);
	} else {
		leave_worker (t);
		tasks_requeue (d->tasks, t, clock_now_ms ());
	}
	loop_defer_schedule (d->run);
}

static void worker_state (struct worker *w, zmq_msg_t *record, const struct msg_task_state *m, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = tasks_find (d->tasks, &m->task);

	if (!t || t->worker != w)
		return;
	if (m->state >= STATE_RUNNING)
		t->started = true;
	upstream_state (d->up, record);
}

static void worker_missing (struct worker *w, const struct id *function, void *arg)
{
	struct dispatch *d = arg;
	struct function *f = functions_get (d->functions, function);

	workers_forget_function (w, function, !f);
	if (f)
		workers_send_function (w, function, &f->record);
	else
		ask_for_function (d, function);
}

/* The one at the head may have begun, as may one reported as running: that counts as an attempt. */
static void rescue (struct dispatch *d, struct worker *w, struct task *t, bool begun, int status)
{
	char id[ID_TEXT], how[64], text[600];
	int detail = WIFSIGNALED (status) ? WTERMSIG (status) : WIFEXITED (status) ? WEXITSTATUS (status) : 0;

	if (t->cancelled) {
		end_cancelled (d, t);
	} else if (d->stopping && begun) {
		leave_worker (t);
		tasks_drop (d->tasks, &t);	/* our BYE tells the agent */
	} else if (d->draining) {
		give_back (d, t);
	} else if (begun && tasks_count_loss (t, d->o.retries_on_loss) < 0) {
		snprintf (text, sizeof (text), "the worker that ran the task was lost (attempt %u): worker %s on node %.200s, %s", t->attempt + 1u,
			  id_text (&w->id, id), d->o.node, spawn_status_text (status, how));
		end_failed (d, t, ERR_TASK_LOST, FAULT_SITE, detail, text);
	} else {
		t->solo = true;
		leave_worker (t);
		tasks_requeue (d->tasks, t, clock_now_ms ());
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
	if (n)
		log_info ("dispatch", "tasks of a lost worker dealt with", "n=%zu", n);
	if (!loop_timer_pending (d->tick))
		loop_timer_start (d->tick, TICK_MS, false);
	loop_defer_schedule (d->run);
}

static void workers_stopped (void *arg)
{
	struct dispatch *d = arg;

	d->o.stopped (d->o.arg);
}

const struct workers_ops dispatch_workers_ops = {
	.up = worker_up, .lost = worker_lost, .result = worker_result, .returned = worker_returned, .state = worker_state,
	.missing = worker_missing, .stopped = workers_stopped,
};

/* ---- life ---- */

struct dispatch *dispatch_create (struct loop *l, const struct dispatch_opts *o)
{
	struct dispatch *d = xcalloc (1, sizeof (*d));

	d->o = *o;
	d->tasks = tasks_create ();
	d->results = results_create ();
	d->prefetch = prefetch_create ();
	d->functions = functions_create (FUNCTIONS_MAX_BYTES);
	d->asked = map_create ();
	d->run = loop_defer_create (l, run, d);
	d->tick = loop_timer_create (l, tick, d);
	d->capacity = loop_timer_create (l, capacity_due, d);
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
	loop_defer_destroy (&d->run);
	map_destroy (&d->asked);
	functions_destroy (&d->functions);
	prefetch_destroy (&d->prefetch);
	results_destroy (&d->results);
	tasks_destroy (&d->tasks);
	free (d);
	*dp = NULL;
}

void dispatch_connect (struct dispatch *d, struct upstream *u, struct workers *ws)
{
	d->up = u;
	d->workers = ws;
}

void dispatch_drain (struct dispatch *d, uint32_t grace_ms)
{
	if (d->own_drain)
		return;
	d->own_drain = true;
	upstream_drain (d->up, true, grace_ms);
	begin_drain (d, grace_ms);
}

void dispatch_stop (struct dispatch *d)
{
	d->stopping = d->draining = d->empty_told = true;
	give_back_queue (d, true);
	check_capacity (d);
}
