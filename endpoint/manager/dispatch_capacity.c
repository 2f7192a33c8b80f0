/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. What the agent is told of us. */
#include "endpoint/manager/dispatch_internal.h"
#include <string.h>
#include "common/clock.h"
#include "endpoint/manager/prefetch.h"
#include "endpoint/manager/tasks.h"
#include "endpoint/manager/window.h"

#define CAPACITY_PAUSE_MS 5
#define FETCHING_MAX 1024	/* tasks that wait for files, beyond the window */

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
				.batch = d->batch_inputs, .draining = d->draining, .stuck = d->stuck };
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
	for (; d->workers && k < workers_all (d->workers); k++)
		m->running += workers_get (d->workers, k)->tasks.n > 0;
	if (m->free_slots > n - (m->running < n ? m->running : n))
		m->free_slots = n - (m->running < n ? m->running : n);	/* calls in containers hold slots too */
	m->queued = (uint32_t) (tasks_count (d->tasks) - m->running);
	/* those that wait for files hold no slot, and do not keep others out */
	m->window_tasks = window_tasks (&in);
	if (m->window_tasks)
		m->window_tasks += (uint32_t) (d->fetching.n < FETCHING_MAX ? d->fetching.n : FETCHING_MAX);
	m->window_bytes = WINDOW_BYTES;
	m->managers = 1;
	m->time_left_s = time_left_s (d);
	m->tasks_done = d->done;
}

void dispatch_tell_capacity (struct dispatch *d)
{
	if (!d->up || !upstream_up (d->up))
		return;
	measure (d, &d->told);
	d->capacity_at_ms = clock_now_ms ();
	upstream_capacity (d->up, &d->told);
}

void dispatch_capacity_due (void *arg)
{
	dispatch_tell_capacity (arg);
}

/* The agent acts on the window and the slots; the other figures may wait for the heartbeat. */
void dispatch_check_capacity (struct dispatch *d)
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
		dispatch_tell_capacity (d);
}
