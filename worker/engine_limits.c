/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of the running call, and telling the manager of calls that run long.
 *
 * Short calls cost no timers but for their own time limit: `report` is armed once and looks, when it fires, what is running then. */
#include <string.h>
#include <sys/resource.h>
#include "common/clock.h"
#include "common/log.h"
#include "worker/engine_internal.h"
#include "worker/proctree.h"

void limits_of (const struct engine *e, struct call *c)
{
	uint32_t most = e->max_result_bytes;

	c->time_limit_ms = c->t.time_limit_ms ? c->t.time_limit_ms : c->fn->fn.time_limit_ms;
	c->memory_limit = c->t.memory_limit_bytes ? c->t.memory_limit_bytes : c->fn->fn.memory_limit_bytes;
	if (c->t.max_result_bytes && c->t.max_result_bytes < most)
		most = c->t.max_result_bytes;
	c->max_result_bytes = most < WIRE_MAX_PAYLOAD ? most : WIRE_MAX_PAYLOAD;
}

/* Resident memory is what counts, and is looked at each 100 ms; this stops a single huge allocation at once. It is wider than the
 * limit because reserved but unused memory (stacks of threads, buffers of libraries) counts here. */
void limits_apply_memory (struct slot *s, uint64_t limit)
{
	struct rlimit r;
	uint64_t data = limit ? limit * 2 + (64 << 20) : 0;
	pid_t pid = s->ops->pid (s->self);

	if (data == s->rlimit_data || pid <= 0)
		return;
	if (prlimit (pid, RLIMIT_DATA, NULL, &r) < 0)
		return;
	r.rlim_cur = data && (r.rlim_max == RLIM_INFINITY || data < r.rlim_max) ? data : r.rlim_max;
	if (prlimit (pid, RLIMIT_DATA, &r, NULL) == 0)
		s->rlimit_data = data;
}

void engine_kill_running (struct engine *e)
{
	if (!e->active || e->active->killing)
		return;
	e->active->killing = true;
	limits_stop (e);
	e->active->ops->kill (e->active->self);
}

static void on_limit (void *arg)
{
	struct engine *e = arg;
	struct call *c = e->inflight[0];

	if (!c)
		return;
	batch_took_too_much (e);
	if ((c = batch_first_open (e)))
		verdict_time_limit (&c->verdict, c->time_limit_ms, e->o.node);
	engine_kill_running (e);
}

static void on_memory (void *arg)
{
	struct engine *e = arg;
	struct call *c = e->inflight[0];
	uint64_t used;

	if (!c || !c->memory_limit || !c->started_ns || e->active->killing)
		return;
	used = proctree_rss (e->active->ops->pid (e->active->self));
	if (used <= c->memory_limit) {
		loop_timer_start (e->memory, MEMORY_POLL_MS, false);
		return;
	}
	batch_took_too_much (e);
	if ((c = batch_first_open (e)))
		verdict_memory_limit (&c->verdict, c->memory_limit, used, e->o.node);
	engine_kill_running (e);
}

static void report_running (struct engine *e, struct call *c, int64_t since_ns)
{
	struct msg_task_state m = { .state = STATE_RUNNING, .task = c->t.task, .time_ns = since_ns };
	struct buf b;

	c->reported = true;
	if (!e->peer)
		return;
	buf_init (&b, 0);
	msg_task_state_encode (&b, &m);
	link_send_bytes (e->peer, WIRE_TASK_STATE, b.data, b.len);
	buf_fini (&b);
}

static void on_report (void *arg)
{
	struct engine *e = arg;
	struct call *c = e->inflight[0];
	struct call *other;
	int64_t age;

	if (!c || !c->started_ns || c->reported || c->settled)
		return;
	age = clock_now_ms () - c->begun_ms;
	if (age < RUNNING_REPORT_MS) {
		loop_timer_start (e->report, RUNNING_REPORT_MS - age, false);
		return;
	}
	report_running (e, c, c->started_ns);
	TAILQ_FOREACH (other, &e->group, link)
		if (!other->settled)
			report_running (e, other, c->started_ns);
}

void call_begins (struct engine *e, int64_t real_ns)
{
	struct call *c = e->inflight[0];

	c->started_ns = real_ns;
	c->begun_ms = clock_now_ms ();
	if (!batch_first_open (e))
		loop_timer_start (e->limit, SETTLED_GRACE_MS, false);
	else if (c->time_limit_ms)
		loop_timer_start (e->limit, c->time_limit_ms, false);
	if (c->memory_limit)
		loop_timer_start (e->memory, MEMORY_FIRST_MS, false);
	if (!loop_timer_pending (e->report))
		loop_timer_start (e->report, RUNNING_REPORT_MS, false);
}

void limits_stop (struct engine *e)
{
	if (loop_timer_pending (e->limit))
		loop_timer_stop (e->limit);
	if (loop_timer_pending (e->memory))
		loop_timer_stop (e->memory);
}

void limits_create (struct engine *e)
{
	e->limit = loop_timer_create (e->loop, on_limit, e);
	e->memory = loop_timer_create (e->loop, on_memory, e);
	e->report = loop_timer_create (e->loop, on_report, e);
}

void limits_destroy (struct engine *e)
{
	loop_timer_destroy (&e->limit);
	loop_timer_destroy (&e->memory);
	loop_timer_destroy (&e->report);
}
