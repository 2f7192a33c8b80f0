/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. By time. */
#include "endpoint/dispatch_internal.h"
#include "common/clock.h"
#include "proto/msg_task.h"

enum { ASK_AGAIN_MS = 1000 };	/* for a function that does not come */

static void report_list (struct dispatch *d, const struct queue_list *l, uint8_t state)
{
	int64_t now = clock_now_ms ();
	struct buf b;

	buf_init (&b, 256);
	for (struct queue_task *t = l->head; t; t = t->next) {
		struct msg_task_state s = { .state = state, .task = t->id, .time_ns = clock_real_ns () };
		if (t->reported >= state || now - t->since_ms < DISPATCH_TICK_MS)
			continue;
		if (!t->reported && d->unreported)
			d->unreported--;
		t->reported = state;
		buf_clear (&b);
		msg_task_state_encode (&b, &s);
		upstream_bytes (d->up, WIRE_TASK_STATE, b.data, b.len);
	}
	buf_fini (&b);
}

static void report_states (struct dispatch *d)
{
	bool have = d->managers && managers_count (d->managers) > 0;
	uint8_t state = have ? STATE_WAITING_FOR_LAUNCH : STATE_WAITING_FOR_NODES;

	if (!d->up || !upstream_up (d->up) || (!d->unreported && have == d->had_managers))
		return;
	d->had_managers = have;
	report_list (d, queue_waiting (d->queue), state);
	report_list (d, queue_held (d->queue), state);
	report_list (d, queue_joined (d->queue), state);
	for (struct manager *m = have ? managers_first (d->managers) : NULL; m; m = m->next)
		report_list (d, &m->tasks, STATE_WAITING_FOR_LAUNCH);
}

/* Held tasks: try them again; those whose function never came go back, which makes the forwarder send it anew. */
static void look_at_held (struct dispatch *d)
{
	int64_t now = clock_now_ms ();
	bool up = d->up && upstream_up (d->up), ask = now - d->asked_ms >= ASK_AGAIN_MS;

	for (struct queue_task *t = queue_held (d->queue)->head, *next; t && up; t = next) {
		next = t->next;
		if (t->deadline_ms && now >= t->deadline_ms)
			dispatch_give_back_task (d, t);
		else if (t->deadline_ms && ask)
			dispatch_ask_function (d, &t->function);
	}
	d->need_ms = 0;	/* tried again now, and held again if it must be */
	if (queue_held (d->queue)->n) {
		queue_release_held (d->queue, now);
		dispatch_work_later (d);
	}
}

void dispatch_tick (void *arg)
{
	struct dispatch *d = arg;

	report_states (d);
	if (++d->tick_n % (1000 / DISPATCH_TICK_MS))
		return;
	spool_tick (d->spool);
	if (queue_held (d->queue)->n)
		look_at_held (d);
	dispatch_note_window (d);
	dispatch_send_results (d);
}
