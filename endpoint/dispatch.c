/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch.h, and dispatch_internal.h for the other files of it. */
#include "endpoint/dispatch_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "proto/adapt.h"
#include "endpoint/gang.h"
#include "endpoint/memo.h"
#include "endpoint/outcome.h"
#include "proto/bulk_record.h"
#include "proto/functions.h"
#include "proto/link.h"
#include "proto/msg_result.h"

#include <stdlib.h>
#include <string.h>

enum {
	WINDOW_MIN = 1024,
	WINDOW_PER_SLOT = 4,
};

void dispatch_work_later (void *dispatch)
{
	struct dispatch *d = dispatch;

	loop_defer_schedule (d->work);
}

void dispatch_coming (const struct id *task, void *dispatch)
{
	struct dispatch *d = dispatch;

	queue_prefetch (d->queue, task);
	spool_prefetch (d->spool, task);
}

/* ---- results -------------------------------------------------------------------------------------------------------- */

/* What a spooled record refers to shall be on disk when the record is. */
static void sync_data (struct dispatch *d, zmq_msg_t *record)
{
	struct msg_result m;

	if (msg_result_decode (&m, zmq_msg_data (record), zmq_msg_size (record), NULL) == 0 && (m.flags & RESULT_BULK))
		bulk_sync (d->o.bulk, &m.bulk);
}

/* record: transferred. Spooled now in memory, written and sent at the end of the burst. */
void dispatch_keep_result (struct dispatch *d, const struct id *task, zmq_msg_t *record)
{
	msg_result_stamp (zmq_msg_data (record), STAMP_ENDPOINT_RESULT, clock_real_ns ());
	if (bulk_syncs (d->o.bulk))
		sync_data (d, record);
	if (spool_add (d->spool, task, record))
		d->st.done++;
	zmq_msg_close (record);
	zmq_msg_init (record);
	dispatch_work_later (d);
}

void dispatch_leave_manager (struct dispatch *d, struct queue_task *t)
{
	struct manager *m = t->owner;

	if (m) {
		m->node.out--;
		m->node.out_bytes -= t->bytes;
		if (!m->node.out)
			m->idle_since_ms = clock_now_ms ();
	}
	if (t->gang)
		dispatch_gang_let_go (d, t);
	if (m)
		route_update (d->route, &m->node);
}

/* Take it from its manager (or the queue) and free it. */
void dispatch_drop_task (struct dispatch *d, struct queue_task *t)
{
	struct manager *m = t->owner;

	dispatch_memo_left (d, t);
	dispatch_leave_manager (d, t);
	dispatch_lane_left (d, t);
	if (t->nodes) {
		d->gang_tasks--;
		d->gang_nodes -= t->nodes;
	}
	queue_drop (d->queue, t, m ? &m->tasks : NULL);
	dispatch_work_later (d);
}

void dispatch_end_task (struct dispatch *d, struct queue_task *t, int status, enum err_code code, enum err_fault fault, const char *text)
{
	struct id id = t->id;
	zmq_msg_t record;

	outcome_make (&record, t, d->node, status, code, fault, text);
	dispatch_drop_task (d, t);
	dispatch_keep_result (d, &id, &record);
	zmq_msg_close (&record);
}

/* What the session with the forwarder cannot carry is changed. */
void dispatch_fit_result (struct dispatch *d, zmq_msg_t *m)
{
	if (!upstream_bulk (d->up))
		bulk_record_result (d->o.bulk, m);
	adapt_result (m, upstream_major (d->up));
}

void dispatch_send_results (struct dispatch *d)
{
	struct id task;
	zmq_msg_t m;

	if (!d->up || !upstream_up (d->up))
		return;
	zmq_msg_init (&m);
	while (!upstream_congested (d->up) && spool_next (d->spool, &task, &m)) {
		dispatch_fit_result (d, &m);
		upstream_send (d->up, WIRE_RESULT, &m);
		zmq_msg_close (&m);
		zmq_msg_init (&m);
	}
	zmq_msg_close (&m);
}

/* ---- what the forwarder may send ------------------------------------------------------------------------------------ */

uint32_t dispatch_window (const struct dispatch *d)
{
	int64_t w = (int64_t) WINDOW_PER_SLOT * route_slots (d->route);
	struct spool_stats sp;

	spool_stats (d->spool, &sp);
	if (d->draining || sp.unspooled_bytes > (uint64_t) d->o.max_unspooled_bytes)
		return 0;
	if (w < (int64_t) route_window (d->route))
		w = (int64_t) route_window (d->route);	/* of functions that take batches it is more */
	if (w < WINDOW_MIN)
		w = WINDOW_MIN;
	return (uint32_t) (w < d->o.max_tasks ? w : d->o.max_tasks);
}

void dispatch_note_window (struct dispatch *d)
{
	uint32_t w = dispatch_window (d);

	if (w == d->last_window)
		return;
	d->last_window = w;
	if (d->up)
		upstream_capacity_changed (d->up);
}

void dispatch_figures_changed (struct dispatch *d)
{
	if (d->up) {
		upstream_slots (d->up, route_slots (d->route));
		upstream_capacity_changed (d->up);
	}
	dispatch_work_later (d);
}

void dispatch_set_closed (struct dispatch *d, struct manager *m)
{
	m->node.closed = m->draining || d->draining || link_congested (m->peer);
	route_update (d->route, &m->node);
	if (m->reserved && m->draining)
		dispatch_gang_let_go (d, d->gang->task);
	dispatch_gang_look (d);
}

/* ---- work at the end of a burst ------------------------------------------------------------------------------------- */

static void do_work (void *arg)
{
	struct dispatch *d = arg;

	if (d->o.memo)
		memo_commit (d->o.memo);
	spool_commit (d->spool);
	dispatch_send_results (d);
	if (d->draining)
		dispatch_give_back (d);		/* what came back from managers, or could not be told without a session */
	dispatch_route (d);
	dispatch_note_window (d);
	if (d->draining && !queue_size (d->queue) && d->o.empty)
		d->o.empty (d->o.arg);
}

/* ---- drain and blocks ----------------------------------------------------------------------------------------------- */

void dispatch_give_back_task (struct dispatch *d, struct queue_task *t)
{
	struct id id = t->id;

	d->st.returned++;
	dispatch_drop_task (d, t);
	upstream_id (d->up, WIRE_TASK_RETURN, &id);
}

void dispatch_give_back (struct dispatch *d)
{
	struct queue_task *t;

	if (!d->up || !upstream_up (d->up))
		return;
	queue_release_held (d->queue, clock_now_ms ());
	dispatch_memo_release (d);
	dispatch_gang_released (d);
	dispatch_lanes_release (d);
	while ((t = queue_front (d->queue)))
		dispatch_give_back_task (d, t);
}

void dispatch_tell_drain (struct dispatch *d, struct manager *m)
{
	struct msg_drain drain = { .start = d->draining };
	struct buf b;

	buf_init (&b, 64);
	msg_drain_encode (&b, &drain);
	link_send_bytes (m->peer, WIRE_DRAIN, b.data, b.len);
	buf_fini (&b);
	dispatch_set_closed (d, m);
}

void dispatch_say_drain (struct dispatch *d)
{
	struct msg_drain drain = { .start = d->draining };
	struct buf b;

	if (!d->up)
		return;
	buf_init (&b, 64);
	msg_drain_encode (&b, &drain);
	upstream_bytes (d->up, WIRE_DRAIN, b.data, b.len);
	buf_fini (&b);
}

void dispatch_drain_for (struct dispatch *d, enum dispatch_drain_for who, bool start)
{
	bool on;

	d->drained_for = start ? d->drained_for | who : d->drained_for & ~(unsigned) who;
	on = d->drained_for != 0;
	if (d->draining == on)
		return;
	d->draining = on;
	log_info ("dispatch", on ? "draining" : "taking tasks again", NULL);
	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m; m = m->next)
		dispatch_tell_drain (d, m);
	dispatch_say_drain (d);
	if (on)
		dispatch_give_back (d);
	dispatch_figures_changed (d);
}

void dispatch_drain (struct dispatch *d, bool on)
{
	dispatch_drain_for (d, DRAIN_OURS, on);
}

bool dispatch_draining (const struct dispatch *d)
{
	return d->draining;
}

void dispatch_flush (struct dispatch *d)
{
	spool_commit (d->spool);
	dispatch_send_results (d);
}

void dispatch_block_releasing (struct dispatch *d, const char *block)
{
	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m; m = m->next)
		if (strcmp (m->block, block) == 0) {
			m->draining = true;
			dispatch_set_closed (d, m);
		}
}

void dispatch_block_lost (struct dispatch *d, const char *block, const char *why)
{
	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m; m = m->next)
		if (strcmp (m->block, block) == 0) {
			m->draining = true;	/* its end comes from the loop: nothing more until then */
			dispatch_set_closed (d, m);
			managers_close (m, why);
		}
}

unsigned dispatch_block_connected (const struct dispatch *d, const char *block)
{
	unsigned n = 0;

	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m; m = m->next)
		n += strcmp (m->block, block) == 0;
	return n;
}

bool dispatch_block_ending (const struct dispatch *d, const char *block)
{
	int64_t now = clock_now_ms ();
	bool any = false;

	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m; m = m->next) {
		if (strcmp (m->block, block) != 0)
			continue;
		any = true;
		if (!m->draining && !(d->need_ms && m->node.ends_ms && m->node.ends_ms - now <= (int64_t) d->need_ms))
			return false;
	}
	return any;
}

int64_t dispatch_block_idle_ms (const struct dispatch *d, const char *block)
{
	int64_t now = clock_now_ms (), idle = -1;

	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m; m = m->next) {
		if (strcmp (m->block, block) != 0)
			continue;
		if (!m->idle_since_ms)
			return -1;
		if (idle < 0 || now - m->idle_since_ms < idle)
			idle = now - m->idle_since_ms;
	}
	return idle;
}

void dispatch_figures (struct dispatch *d, unsigned blocks, unsigned pending_blocks, const char *why_waiting)
{
	if (d->blocks == blocks && d->pending_blocks == pending_blocks && strcmp (d->why_waiting, why_waiting) == 0)
		return;
	d->blocks = blocks;
	d->pending_blocks = pending_blocks;
	snprintf (d->why_waiting, sizeof (d->why_waiting), "%s", why_waiting);
	if (d->up)
		upstream_capacity_changed (d->up);
}

/* ---- life ----------------------------------------------------------------------------------------------------------- */

static int fill_allowed (struct dispatch *d, const struct conf_list *l, struct err *err)
{
	struct id id;

	if (!l || !l->n)
		return 0;
	d->allowed = map_create ();
	for (size_t i = 0; i < l->n; i++) {
		if (id_parse (&id, l->v[i], strlen (l->v[i])) < 0)
			return err_set (err, ERR_INVALID, FAULT_USER, "allowed_functions: '%.60s' is not a UUID", l->v[i]);
		map_put (d->allowed, &id, d);
	}
	return 0;
}

bool dispatch_allows (const struct dispatch *d, const struct id *function)
{
	return !d->allowed || map_get (d->allowed, function);
}

struct dispatch *dispatch_create (struct loop *l, const struct dispatch_opts *o, struct err *err)
{
	struct dispatch *d = xcalloc (1, sizeof (*d));

	d->loop = l;
	d->o = *o;
	d->spool = o->spool;
	d->node = xstrdup (o->node);
	d->queue = queue_create ();
	d->route = route_create (o->routing);
	d->functions = functions_create (FUNCTIONS_MAX_COUNT, o->function_cache_bytes);
	d->flights = map_create ();
	d->replicated = map_create ();
	d->servables = map_create ();
	d->work = loop_defer_create (l, do_work, d);
	d->tick = loop_timer_create (l, dispatch_tick, d);
	loop_timer_start (d->tick, DISPATCH_TICK_MS, true);
	if (fill_allowed (d, o->allowed_functions, err) < 0)
		dispatch_destroy (&d);
	return d;
}

void dispatch_destroy (struct dispatch **dp)
{
	struct dispatch *d = *dp;

	if (!d)
		return;
	loop_timer_destroy (&d->tick);
	loop_defer_destroy (&d->work);
	map_destroy_owned (&d->flights, free);
	queue_destroy (&d->queue);
	route_destroy (&d->route);
	functions_destroy (&d->functions);
	map_destroy (&d->allowed);
	map_destroy (&d->replicated);
	dispatch_lanes_end (d);
	free (d->node);
	free (d);
	*dp = NULL;
}

void dispatch_connect (struct dispatch *d, struct upstream *u, struct managers *ms)
{
	d->up = u;
	if (d->managers && !ms)
		dispatch_gang_end (d);
	d->managers = ms;
}

void dispatch_stats (const struct dispatch *d, struct dispatch_stats *out)
{
	*out = d->st;
	out->held = queue_held (d->queue)->n + queue_joined (d->queue)->n;
	out->waiting = queue_waiting (d->queue)->n + queue_gangs (d->queue)->n + queue_in_lanes (d->queue);
	out->gang_tasks = d->gang_tasks;
	out->gang_nodes = d->gang_nodes;
	out->out = queue_out (d->queue);
	out->bytes = queue_bytes (d->queue);
	out->managers = d->managers ? managers_count (d->managers) : 0;
	out->slots = route_slots (d->route);
	out->free_slots = route_free_slots (d->route);
	out->window_tasks = d->last_window;
	out->functions = functions_count (d->functions);
	out->function_bytes = functions_bytes (d->functions);
}
