/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. By time. */
#include "endpoint/dispatch_internal.h"
#include "common/clock.h"
#include "proto/msg_task.h"

enum { ASK_AGAIN_MS = 1000 };	/* for a function that does not come */

static void report (struct dispatch *d, struct queue_task *t, uint8_t state, struct buf *b)
{
	struct msg_task_state s = { .state = state, .task = t->id, .time_ns = clock_real_ns () };

	queue_reported (d->queue, t, state);
	buf_clear (b);
	msg_task_state_encode (b, &s);
	upstream_bytes (d->up, WIRE_TASK_STATE, b->data, b->len);
}

/* Those that were told a lower state before. */
static void report_list (struct dispatch *d, const struct queue_list *l, uint8_t state, struct buf *b)
{
	for (struct queue_task *t = l->head; t; t = t->next)
		if (!t->unreported && t->reported < state)
			report (d, t, state, b);
}

static void report_states (struct dispatch *d)
{
	bool have = d->managers && managers_count (d->managers) > 0;
	uint8_t state = have ? STATE_WAITING_FOR_LAUNCH : STATE_WAITING_FOR_NODES;
	int64_t now = clock_now_ms ();
	struct queue_task *t;
	struct buf b;

	if (!d->up || !upstream_up (d->up))
		return;
	buf_init (&b, 256);
	if (have && !d->had_managers) {		/* all who wait for nodes: now they wait for a slot */
		report_list (d, queue_waiting (d->queue), state, &b);
		report_list (d, queue_held (d->queue), state, &b);
		report_list (d, queue_joined (d->queue), state, &b);
		report_list (d, queue_gangs (d->queue), state, &b);
		report_list (d, &d->plain, state, &b);
		for (struct lane *l = d->lanes; l; l = l->next)
			report_list (d, &l->waiting, state, &b);
		for (struct manager *m = managers_first (d->managers); m; m = m->next)
			report_list (d, &m->tasks, state, &b);
	}
	d->had_managers = have;
	while ((t = queue_unreported (d->queue)) && now - t->came_ms >= DISPATCH_TICK_MS)
		report (d, t, state, &b);
	buf_fini (&b);
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
	dispatch_gang_look (d);
}

/* For people who look: the forwarder acts on none of these. */
static void tell_figures (struct dispatch *d)
{
	uint32_t running = (uint32_t) queue_out (d->queue), queued = (uint32_t) (queue_size (d->queue) - queue_out (d->queue));

	if (d->up && (d->told.done != d->st.done || d->told.running != running || d->told.queued != queued ||
		      d->told.free_slots != (uint32_t) route_free_slots (d->route)))
		upstream_capacity_changed (d->up);
}

void dispatch_tick (void *arg)
{
	struct dispatch *d = arg;

	report_states (d);
	if (++d->tick_n % (1000 / DISPATCH_TICK_MS))
		return;
	spool_tick (d->spool);
	if (queue_held (d->queue)->n || queue_gangs (d->queue)->n)
		look_at_held (d);
	if (d->strange)
		dispatch_strange_tick (d);
	dispatch_note_window (d);
	tell_figures (d);
	dispatch_send_results (d);
}
