/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. Which task goes to which worker, and what is done about what stands too long. */
#include "endpoint/manager/dispatch_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "endpoint/manager/batch.h"
#include "endpoint/manager/pools.h"
#include "endpoint/manager/prefetch.h"
#include "endpoint/manager/results.h"
#include "endpoint/manager/tasks.h"
#include "proto/bulk_record.h"
#include "proto/functions.h"

#define NO_WORKER_MS 5000	/* without any worker for this long, all is given back */
#define MISSING_MS 10000
#define BATCH_LOOK 1024		/* tasks of other functions looked past for a batch */
#define IDLE_LOOK 8		/* idle workers looked at for one that has the function */

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

void dispatch_send (struct dispatch *d, struct task *t, struct worker *w, struct function *f, bool blocks, int64_t now_ns)
{
	zmq_msg_t frame;
	struct err err;

	if (tasks_assign (d->tasks, t, w, &w->tasks, now_ns / 1000000, &frame) < 0) {
		dispatch_end_failed (d, t, ERR_INTERNAL, FAULT_SITE, 0, "no memory on the node to hand the task to a worker");
		return;
	}
	if (!workers_bulk (w) && bulk_record_task (d->o.bulk, &frame, &err) < 0) {
		zmq_msg_close (&frame);
		err_prefix (&err, "the task cannot be sent to a worker");
		dispatch_end_failed (d, t, err.code, err.fault, 0, err.text);
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

void dispatch_ask_for_function (struct dispatch *d, const struct id *function)
{
	if (map_put (d->asked, function, d))
		return;
	upstream_id (d->up, WIRE_FUNCTION_MISSING, function);
}

void dispatch_await_function (struct dispatch *d, struct task *t)
{
	tasks_wait (d->tasks, t, clock_now_ms ());
	dispatch_ask_for_function (d, &t->function);
}

/* How many of the function's tasks the worker gets: idle workers share what waits. */
static unsigned share (struct dispatch *d, const struct id *function, unsigned size)
{
	unsigned idle = 0, waiting = 0, seen = 0;

	for (unsigned k = 0; k < workers_count (d->workers); k++) {
		const struct worker *w = workers_get (d->workers, k);
		idle += w->state == WORKER_UP && !w->tasks.n;
	}
	for (const struct task *t = tasks_queue_head (d->tasks); t && waiting < size * idle && seen < size * idle + BATCH_LOOK; t = t->next, seen++)
		waiting += !t->solo && id_eq (&t->function, function);
	waiting = (waiting + idle - 1) / idle;
	return waiting < size ? waiting : size;
}

/* Several tasks of one function to an idle worker, which makes one call of them. t: the first, at the queue's head. */
void dispatch_send_batch (struct dispatch *d, struct task *t, struct worker *w, struct function *f, unsigned size, unsigned n, int64_t now_ns)
{
	struct id function = t->function;
	unsigned sent = 1, seen = 0;
	struct task *next = t->next;

	dispatch_send (d, t, w, f, true, now_ns);
	for (t = next; t && sent < n && seen < size + BATCH_LOOK; t = next, seen++) {
		next = t->next;
		if (t->solo || !id_eq (&t->function, &function))
			continue;
		dispatch_send (d, t, w, f, true, now_ns);
		sent++;
	}
	w->batch_function = function;
	w->batch_size = size;
	w->batch_seen = 0;
}

/* It stood behind others: by now the node's time may be too short for it. */
static bool too_late (const struct dispatch *d, const struct task *t, int64_t now_ns)
{
	return d->ends_at_ms && t->expected_ms && d->ends_at_ms - now_ns / 1000000 <= (int64_t) t->expected_ms;
}

/* Returns false when the head of the queue has to wait for a worker. */
static bool assign_head (struct dispatch *d, int64_t now_ns)
{
	struct task *t = tasks_queue_head (d->tasks);
	struct function *f = functions_get (d->functions, &t->function);
	unsigned size, depth = t->solo ? 0 : prefetch_depth (d->prefetch, &t->function);
	struct worker *w = NULL;

	if (too_late (d, t, now_ns) && !t->counted) {
		dispatch_give_back (d, t);
		return true;
	}
	if (!f) {
		dispatch_await_function (d, t);
		return true;
	}
	if (f->fn.container.n) {
		dispatch_place (d, t);
		return true;
	}
	/* calls in containers hold slots too */
	if (!pools_first (d->pools) || dispatch_busy (d) < workers_count (d->workers))
		w = pick_idle (d, &t->function);
	if ((size = batch_size (d->batch, &f->fn))) {
		if (size > d->batch_inputs)
			d->batch_inputs = size;
		if (w)
			dispatch_send_batch (d, t, w, f, size, t->solo ? 1 : share (d, &t->function, size), now_ns);
		return w != NULL;
	}
	if (!w && depth)
		w = pick_behind (d, depth, now_ns);
	if (!w)
		return false;
	dispatch_send (d, t, w, f, depth == 0, now_ns);
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

	for (k = 0; d->workers && k < workers_all (d->workers); k++)
		if (workers_get (d->workers, k)->tasks.n > 1)
			return true;
	return false;
}

void dispatch_run (void *arg)
{
	struct dispatch *d = arg;
	int64_t now_ns = clock_now_ns ();

	if (!d->draining)
		dispatch_files_run (d);
	if (d->workers && !d->draining && pools_first (d->pools))
		dispatch_containers_run (d);
	while (d->workers && !d->draining && tasks_queue_head (d->tasks))
		if (!assign_head (d, now_ns))
			break;
	if ((tasks_queued (d->tasks) || tasks_waiting (d->tasks) || d->stuck || any_behind (d)) && !loop_timer_pending (d->tick))
		loop_timer_start (d->tick, DISPATCH_TICK_MS, false);
	if (!tasks_count (d->tasks))
		d->batch_inputs = 0;
	dispatch_check_capacity (d);
	check_empty (d);
}

/* ---- what stands too long ---- */

/* Only the forwarder finds out whether there is such a function: here nobody can tell a late answer from none. */
static void expire_waiting (struct dispatch *d, int64_t now_ms)
{
	int64_t patience = d->o.missing_ms ? d->o.missing_ms : MISSING_MS;
	struct task *t;
	size_t n = 0;

	for (; (t = tasks_waiting_head (d->tasks)) && now_ms - t->since_ms >= patience; n++) {	/* in order of since_ms */
		map_del (d->asked, &t->function);
		dispatch_give_back (d, t);
	}
	if (n)
		log_warn ("dispatch", "functions did not come: tasks given back", "n=%zu", n);
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
		else if (now_ns - w->head_since_ns < DISPATCH_STUCK_MS * INT64_C (1000000))
			l.fresh++;
	}
	return l;
}

/* A call that took longer than its function's average promised: what was put behind it is taken back. */
static void recall_behind (struct dispatch *d)
{
	int64_t now_ns = clock_now_ns ();
	unsigned k;

	for (k = 0; d->workers && !d->draining && k < workers_all (d->workers); k++) {
		struct worker *w = workers_get (d->workers, k);

		if (w->state != WORKER_UP || w->tasks.n < 2 || w->recalled || now_ns - w->head_since_ns < DISPATCH_STUCK_MS * INT64_C (1000000))
			continue;
		w->recalled = true;
		workers_recall (w);
	}
}

/* What waits to go with others in the next call is not stuck. */
static bool takes_batches (struct dispatch *d, const struct task *t)
{
	const struct function *f = functions_get (d->functions, &t->function);

	return f && (f->fn.flags & FUNCTION_BATCH);
}

static void check_stuck (struct dispatch *d, const struct load *l, int64_t now_ms)
{
	const struct task *head = tasks_queue_head (d->tasks);

	if (d->stuck && l->idle)
		d->stuck = false;
	if (head && !takes_batches (d, head) && l->up && !l->idle && !l->fresh && now_ms - head->since_ms > DISPATCH_STUCK_MS) {
		d->stuck = true;
		dispatch_give_back_queue (d, false);
	}
}

static void check_no_worker (struct dispatch *d, const struct load *l, int64_t now_ms)
{
	if (l->up)
		d->no_worker_since_ms = 0;
	else if (!d->no_worker_since_ms)
		d->no_worker_since_ms = now_ms;
	else if (now_ms - d->no_worker_since_ms > NO_WORKER_MS)
		dispatch_give_back_queue (d, true);
}

void dispatch_tick (void *arg)
{
	struct dispatch *d = arg;
	int64_t now_ms = clock_now_ms ();
	struct load l = look (d);

	recall_behind (d);
	if (upstream_up (d->up)) {	/* without a session nobody would hear of what is given back */
		expire_waiting (d, now_ms);
		check_stuck (d, &l, now_ms);
		check_no_worker (d, &l, now_ms);
	}
	loop_defer_schedule (d->run);
}
