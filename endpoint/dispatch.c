/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch.h. */
#include "endpoint/dispatch.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/adapt.h"
#include "endpoint/outcome.h"
#include "proto/link.h"
#include "proto/msg_result.h"

#include <stdlib.h>
#include <string.h>

enum {
	TICK_MS = 200,			/* TASK_STATE is gathered for so long (SPEC.md, 3.2) */
	WINDOW_MIN = 1024,
	WINDOW_PER_SLOT = 4,
	ASK_AGAIN_MS = 1000,		/* for a function that does not come */
};

struct dispatch {
	struct loop *loop;
	struct dispatch_opts o;
	char *node;
	struct queue *queue;
	struct route *route;
	struct functions *functions;
	struct spool *spool;
	struct upstream *up;
	struct managers *managers;
	struct map *allowed;			/* NULL = all */
	struct loop_defer *work;
	struct loop_timer *tick;
	size_t unreported;			/* tasks whose state the forwarder has not heard of yet */
	size_t wanted;				/* managers' wishes for functions that we lack too */
	int64_t tick_n, asked_ms;
	bool had_managers, draining;
	unsigned blocks, pending_blocks;
	struct dispatch_stats st;
	uint32_t last_window;
};

static void work_later (struct dispatch *d)
{
	loop_defer_schedule (d->work);
}

/* ---- results ------------------------------------------------------------------------------------------------ */

/* record: transferred. Spooled now in memory, written and sent at the end of the burst. */
static void keep_result (struct dispatch *d, const struct id *task, zmq_msg_t *record)
{
	msg_result_stamp (zmq_msg_data (record), STAMP_ENDPOINT_RESULT, clock_real_ns ());
	if (spool_add (d->spool, task, record))
		d->st.done++;
	zmq_msg_close (record);
	zmq_msg_init (record);
	work_later (d);
}

static void forget_report (struct dispatch *d, struct queue_task *t)
{
	if (!t->reported && d->unreported)
		d->unreported--;
	t->reported = STATE_RUNNING;
}

/* Take it from its manager (or the queue) and free it. */
static void drop_task (struct dispatch *d, struct queue_task *t)
{
	struct manager *m = t->owner;

	forget_report (d, t);
	if (m) {
		m->node.out--;
		m->node.out_bytes -= t->bytes;
		if (!m->node.out)
			m->idle_since_ms = clock_now_ms ();
		queue_drop (d->queue, t, &m->tasks);
		route_update (d->route, &m->node);
	} else {
		queue_drop (d->queue, t, NULL);
	}
	work_later (d);
}

static void end_task (struct dispatch *d, struct queue_task *t, int status, enum err_code code, enum err_fault fault, const char *text)
{
	struct id id = t->id;
	zmq_msg_t record;

	outcome_make (&record, t, d->node, status, code, fault, text);
	drop_task (d, t);
	keep_result (d, &id, &record);
	zmq_msg_close (&record);
}

static void on_result (struct manager *m, zmq_msg_t *record, const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct queue_task *t = queue_find (d->queue, task);

	m->done++;
	if (t) {
		struct manager *other = t->owner;
		/* it was given to another one since: the first result wins, the other copy need not run on */
		if (other && other != m)
			link_send_id (other->peer, WIRE_CANCEL, task);
		drop_task (d, t);
	}
	keep_result (d, task, record);
	link_send_id (m->peer, WIRE_RESULT_ACK, task);
}

static void send_results (struct dispatch *d)
{
	struct id task;
	zmq_msg_t m;

	if (!d->up || !upstream_up (d->up))
		return;
	zmq_msg_init (&m);
	while (!upstream_congested (d->up) && spool_next (d->spool, &task, &m)) {
		adapt_result (&m, upstream_major (d->up));
		upstream_send (d->up, WIRE_RESULT, &m);
		zmq_msg_close (&m);
		zmq_msg_init (&m);
	}
	zmq_msg_close (&m);
}

/* ---- routing ------------------------------------------------------------------------------------------------ */

static bool send_function (struct dispatch *d, struct manager *m, const struct id *function)
{
	zmq_msg_t record;

	if (map_get (m->functions, function))
		return true;
	zmq_msg_init (&record);
	if (!functions_get (d->functions, function, &record)) {
		zmq_msg_close (&record);
		return false;
	}
	map_put (m->functions, function, m);
	link_send (m->peer, WIRE_FUNCTION, &record);
	zmq_msg_close (&record);
	return true;
}

static void send_task (struct dispatch *d, struct manager *m, struct queue_task *t)
{
	int64_t now = clock_now_ms ();
	zmq_msg_t record;

	msg_task_stamp (zmq_msg_data (&t->frame), STAMP_ENDPOINT_SENT, clock_real_ns ());
	zmq_msg_init (&record);
	zmq_msg_copy (&record, &t->frame);
	queue_take (d->queue, t, m, &m->tasks, now);
	m->node.out++;
	m->node.out_bytes += t->bytes;
	m->idle_since_ms = 0;
	adapt_task (&record, link_peer_major (m->peer));
	link_send (m->peer, WIRE_TASK, &record);
	zmq_msg_close (&record);
	if (link_congested (m->peer))
		m->node.closed = true;
	route_update (d->route, &m->node);
}

static void ask_function (struct dispatch *d, const struct id *function)
{
	if (d->up)
		upstream_id (d->up, WIRE_FUNCTION_MISSING, function);
	d->asked_ms = clock_now_ms ();
}

static void hold_for_function (struct dispatch *d, struct queue_task *t)
{
	int64_t now = clock_now_ms ();
	struct id function = t->function;
	bool first = !t->deadline_ms;

	queue_hold (d->queue, t, now + d->o.hold_ms, now);
	if (first)
		ask_function (d, &function);
}

static void route_tasks (struct dispatch *d)
{
	struct queue_task *t;
	int64_t now = clock_now_ms ();

	if (d->draining)
		return;
	while ((t = queue_front (d->queue))) {
		bool time_short;
		struct route_node *n = route_pick (d->route, t->expected_ms, now, &time_short);
		struct manager *m = (struct manager *) n;
		if (!n && time_short) {
			/* nobody has the time left that it needs; others behind it may be shorter */
			queue_hold (d->queue, t, 0, now);
			continue;
		}
		if (!n)
			break;
		if (!send_function (d, m, &t->function)) {
			hold_for_function (d, t);
			continue;
		}
		send_task (d, m, t);
	}
	if (queue_front (d->queue) || queue_held (d->queue)->n)
		d->o.tasks_waiting (d->o.arg);
}

static uint32_t window_tasks (const struct dispatch *d)
{
	int64_t w = (int64_t) WINDOW_PER_SLOT * route_slots (d->route);
	struct spool_stats sp;

	spool_stats (d->spool, &sp);
	if (d->draining || sp.unspooled_bytes > (uint64_t) d->o.max_unspooled_bytes)
		return 0;
	if (w < WINDOW_MIN)
		w = WINDOW_MIN;
	return (uint32_t) (w < d->o.max_tasks ? w : d->o.max_tasks);
}

static void note_window (struct dispatch *d)
{
	uint32_t w = window_tasks (d);

	if (w == d->last_window)
		return;
	d->last_window = w;
	if (d->up)
		upstream_capacity_changed (d->up);
}

static void do_work (void *arg)
{
	struct dispatch *d = arg;

	spool_commit (d->spool);
	send_results (d);
	route_tasks (d);
	note_window (d);
	if (d->draining && !queue_size (d->queue) && d->o.empty)
		d->o.empty (d->o.arg);
}

/* ---- from the forwarder ------------------------------------------------------------------------------------- */

static void on_function (zmq_msg_t *record, const struct id *id, void *arg)
{
	struct dispatch *d = arg;

	functions_put (d->functions, id, record);
	if (d->wanted)
		for (struct manager *m = managers_first (d->managers); m; m = m->next)
			if (map_del (m->wanted, id)) {
				d->wanted--;
				send_function (d, m, id);
			}
	if (queue_held (d->queue)->n)
		queue_release_held (d->queue, clock_now_ms ());
	work_later (d);
}

static bool send_again (struct dispatch *d, const struct id *task)
{
	zmq_msg_t m;
	bool there = spool_has (d->spool, task);

	if (!there)
		return false;
	zmq_msg_init (&m);
	if (spool_get (d->spool, task, &m)) {
		adapt_result (&m, upstream_major (d->up));
		upstream_send (d->up, WIRE_RESULT, &m);
	} else {
		there = false;
	}
	zmq_msg_close (&m);
	return there;
}

static void refuse_function (struct dispatch *d, struct queue_task *t)
{
	char text[160], id[ID_TEXT];

	snprintf (text, sizeof (text), "function %s is not among the allowed_functions of this endpoint", id_text (&t->function, id));
	d->st.refused++;
	end_task (d, t, STATUS_FAILED, ERR_FORBIDDEN, FAULT_USER, text);
}

static bool over_window (const struct dispatch *d, size_t bytes)
{
	/* a forwarder that sends twice what it may is broken; until then late changes of the window are tolerated */
	return queue_size (d->queue) >= 2 * (size_t) d->o.max_tasks
	       || (queue_bytes (d->queue) && queue_bytes (d->queue) + bytes > 2 * (size_t) d->o.max_bytes);
}

static void on_task (zmq_msg_t *record, const struct msg_task *m, void *arg)
{
	struct dispatch *d = arg;
	struct id task = m->task, function = m->function;
	size_t bytes = m->payload.n;
	uint32_t expected_ms = m->expected_ms;
	uint8_t attempt = m->attempt;
	struct queue_task *t;

	if (send_again (d, &task) || queue_find (d->queue, &task)) {
		d->st.duplicates++;
		return;
	}
	if (d->draining || over_window (d, bytes)) {
		d->st.returned++;
		upstream_id (d->up, WIRE_TASK_RETURN, &task);
		return;
	}
	msg_task_stamp (zmq_msg_data (record), STAMP_ENDPOINT_RECEIVED, clock_real_ns ());
	t = queue_add (d->queue, &task, &function, record, bytes, clock_now_ms ());
	t->expected_ms = expected_ms;
	t->attempt = attempt;
	d->unreported++;
	d->st.received++;
	if (d->allowed && !map_get (d->allowed, &function))
		refuse_function (d, t);
	work_later (d);
}

static void on_acked (const struct id *task, void *arg)
{
	struct dispatch *d = arg;

	spool_ack (d->spool, task);
}

static void on_cancel (const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct queue_task *t = queue_find (d->queue, task);
	struct manager *m;

	if (!t)
		return;		/* it has ended; its result is on its way */
	if ((m = t->owner)) {
		link_send_id (m->peer, WIRE_CANCEL, task);
		return;
	}
	d->st.cancelled++;
	end_task (d, t, STATUS_CANCELLED, ERR_CANCELLED, FAULT_NONE, "cancelled before it was started");
}

static void on_drain (const struct msg_drain *m, void *arg)
{
	log_info ("dispatch", "drain asked for by the forwarder", "start=%d grace_ms=%u", m->start, m->grace_ms);
	dispatch_drain (arg, m->start);
}

static void on_burst_end (void *arg)
{
	work_later (arg);
}

static void on_capacity_due (struct msg_capacity *c, void *arg)
{
	struct dispatch *d = arg;

	c->window_tasks = d->last_window = window_tasks (d);
	c->window_bytes = (uint64_t) d->o.max_bytes;
	c->slots = route_slots (d->route);
	c->free_slots = route_free_slots (d->route);
	c->running = (uint32_t) queue_out (d->queue);
	c->queued = (uint32_t) (queue_size (d->queue) - queue_out (d->queue));
	c->managers = d->managers ? (uint32_t) managers_count (d->managers) : 0;
	c->blocks = d->blocks;
	c->pending_blocks = d->pending_blocks;
	c->tasks_done = d->st.done;
}

static void no_up (const struct msg_welcome *w, void *arg)
{
	(void) w;
	dispatch_session_up (arg);
}

static void no_down (const char *why, void *arg)
{
	(void) why;
	dispatch_session_down (arg);
}

static void no_refused (int code, const char *text, void *arg)
{
	(void) code;
	(void) text;
	(void) arg;
}

const struct upstream_ops dispatch_upstream = {
	.up = no_up, .down = no_down, .refused = no_refused, .function = on_function, .task = on_task, .acked = on_acked,
	.cancel = on_cancel, .drain = on_drain, .burst_end = on_burst_end, .relief = on_burst_end, .capacity = on_capacity_due,
};

void dispatch_session_up (struct dispatch *d)
{
	spool_rewind (d->spool);
	/* the forwarder knows nothing of what we asked for in the session before */
	if (queue_held (d->queue)->n)
		queue_release_held (d->queue, clock_now_ms ());
	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m && d->wanted; m = m->next) {
		d->wanted -= map_size (m->wanted);
		map_destroy (&m->wanted);
		m->wanted = map_create ();
	}
	work_later (d);
}

void dispatch_session_down (struct dispatch *d)
{
	work_later (d);
}

/* ---- from the managers -------------------------------------------------------------------------------------- */

static void figures_changed (struct dispatch *d)
{
	if (d->up) {
		upstream_slots (d->up, route_slots (d->route));
		upstream_capacity_changed (d->up);
	}
	work_later (d);
}

static void on_manager_up (struct manager *m, void *arg)
{
	struct dispatch *d = arg;

	log_info ("dispatch", "manager up", "node=%s block=%s slots=%u pid=%u", m->name, m->block, m->node.slots, m->pid);
	m->node.closed = d->draining;
	route_add (d->route, &m->node);
	if (queue_held (d->queue)->n)
		queue_release_held (d->queue, clock_now_ms ());
	d->o.manager_up (m->block, d->o.arg);
	figures_changed (d);
}

/* The link may still be sending from the old frame: what is changed is a copy. */
static void own_frame (struct queue_task *t)
{
	zmq_msg_t copy;
	size_t n = zmq_msg_size (&t->frame);

	if (zmq_msg_init_size (&copy, n) < 0)
		return;		/* no memory: the stamps of a frame in flight change, which harms nobody */
	memcpy (zmq_msg_data (&copy), zmq_msg_data (&t->frame), n);
	zmq_msg_close (&t->frame);
	zmq_msg_init (&t->frame);
	zmq_msg_move (&t->frame, &copy);
	zmq_msg_close (&copy);
}

static void lose_task (struct dispatch *d, struct manager *m, struct queue_task *t, const char *why)
{
	char text[640];

	t->losses++;
	if (t->losses <= d->o.retries_on_loss) {
		own_frame (t);
		if (t->attempt < 255)
			t->attempt++;
		msg_task_set_attempt (zmq_msg_data (&t->frame), t->attempt);
		m->node.out--;
		m->node.out_bytes -= t->bytes;
		queue_put_back (d->queue, t, &m->tasks, true, clock_now_ms ());
		return;
	}
	snprintf (text, sizeof (text), "the task was lost %d times with the manager that had it; the last one: node %s, block %s: %.300s",
		  t->losses, m->name, *m->block ? m->block : "unknown", why);
	d->st.lost++;
	end_task (d, t, STATUS_FAILED, ERR_TASK_LOST, FAULT_SITE, text);
}

static void on_manager_down (struct manager *m, const char *why, void *arg)
{
	struct dispatch *d = arg;
	size_t n = m->tasks.n;

	log_line (n ? LOG_WARN : LOG_INFO, "dispatch", "manager down", "node=%s block=%s why=%s tasks=%zu", m->name, m->block, why, n);
	d->wanted -= map_size (m->wanted);
	route_remove (d->route, &m->node);
	while (m->tasks.tail)	/* from the end: they keep their order at the front of the queue */
		lose_task (d, m, m->tasks.tail, why);
	figures_changed (d);
}

static void on_state (struct manager *m, const struct msg_task_state *s, const void *p, size_t n, void *arg)
{
	struct dispatch *d = arg;
	struct queue_task *t = queue_find (d->queue, &s->task);

	if (!t || t->owner != m)
		return;
	if (s->state > t->reported) {
		if (!t->reported && d->unreported)
			d->unreported--;
		t->reported = s->state;
	}
	if (d->up)
		upstream_bytes (d->up, WIRE_TASK_STATE, p, n);
}

static void on_returned (struct manager *m, const struct id *task, void *arg)
{
	struct dispatch *d = arg;
	struct queue_task *t = queue_find (d->queue, task);

	if (!t || t->owner != m)
		return;
	m->node.out--;
	m->node.out_bytes -= t->bytes;
	if (!m->node.out)
		m->idle_since_ms = clock_now_ms ();
	own_frame (t);
	queue_put_back (d->queue, t, &m->tasks, true, clock_now_ms ());
	route_update (d->route, &m->node);
	d->st.returned++;
	if (d->draining)
		dispatch_give_back (d);
	work_later (d);
}

static void on_missing (struct manager *m, const struct id *function, void *arg)
{
	struct dispatch *d = arg;

	map_del (m->functions, function);
	if (send_function (d, m, function))
		return;
	if (!map_put (m->wanted, function, m)) {
		d->wanted++;
		ask_function (d, function);
	}
}

static void on_capacity (struct manager *m, const struct msg_capacity *c, void *arg)
{
	struct dispatch *d = arg;
	uint32_t slots = route_slots (d->route);

	m->node.window = c->window_tasks;
	m->node.window_bytes = c->window_bytes;
	m->node.slots = c->slots;
	m->node.ends_ms = c->time_left_s == MSG_TIME_UNLIMITED ? 0 : clock_now_ms () + (int64_t) c->time_left_s * 1000;
	route_update (d->route, &m->node);
	if (slots != route_slots (d->route))
		figures_changed (d);
	work_later (d);
}

static void set_closed (struct dispatch *d, struct manager *m)
{
	m->node.closed = m->draining || d->draining || link_congested (m->peer);
	route_update (d->route, &m->node);
}

static void on_manager_drain (struct manager *m, bool start, void *arg)
{
	struct dispatch *d = arg;

	log_info ("dispatch", "manager drains", "node=%s block=%s start=%d", m->name, m->block, start);
	m->draining = start;
	set_closed (d, m);
	figures_changed (d);
}

static void on_manager_relief (struct manager *m, void *arg)
{
	struct dispatch *d = arg;

	set_closed (d, m);
	work_later (d);
}

const struct managers_ops dispatch_managers = {
	.up = on_manager_up, .down = on_manager_down, .result = on_result, .state = on_state, .returned = on_returned,
	.missing = on_missing, .capacity = on_capacity, .drain = on_manager_drain, .relief = on_manager_relief, .burst_end = on_burst_end,
};

/* ---- states and other things by time ------------------------------------------------------------------------ */

static void report_list (struct dispatch *d, const struct queue_list *l, uint8_t state)
{
	int64_t now = clock_now_ms ();
	struct buf b;

	buf_init (&b, 256);
	for (struct queue_task *t = l->head; t; t = t->next) {
		struct msg_task_state s = { .state = state, .task = t->id, .time_ns = clock_real_ns () };
		if (t->reported >= state || now - t->since_ms < TICK_MS)
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
	for (struct manager *m = have ? managers_first (d->managers) : NULL; m; m = m->next)
		report_list (d, &m->tasks, STATE_WAITING_FOR_LAUNCH);
}

static void give_back (struct dispatch *d, struct queue_task *t)
{
	struct id id = t->id;

	d->st.returned++;
	drop_task (d, t);
	upstream_id (d->up, WIRE_TASK_RETURN, &id);
}

/* Held tasks: try them again; those whose function never came go back, which makes the forwarder send it anew. */
static void look_at_held (struct dispatch *d)
{
	int64_t now = clock_now_ms ();
	bool up = d->up && upstream_up (d->up), ask = now - d->asked_ms >= ASK_AGAIN_MS;

	for (struct queue_task *t = queue_held (d->queue)->head, *next; t && up; t = next) {
		next = t->next;
		if (t->deadline_ms && now >= t->deadline_ms)
			give_back (d, t);
		else if (t->deadline_ms && ask)
			ask_function (d, &t->function);
	}
	if (queue_held (d->queue)->n) {
		queue_release_held (d->queue, now);
		work_later (d);
	}
}

static void on_tick (void *arg)
{
	struct dispatch *d = arg;

	report_states (d);
	if (++d->tick_n % (1000 / TICK_MS))
		return;
	spool_tick (d->spool);
	if (queue_held (d->queue)->n)
		look_at_held (d);
	note_window (d);
	send_results (d);
}

/* ---- drain and blocks --------------------------------------------------------------------------------------- */

void dispatch_give_back (struct dispatch *d)
{
	struct queue_task *t;

	if (!d->up || !upstream_up (d->up))
		return;
	queue_release_held (d->queue, clock_now_ms ());
	while ((t = queue_front (d->queue)))
		give_back (d, t);
}

static void tell_managers (struct dispatch *d, bool start)
{
	struct msg_drain drain = { .start = start };
	struct buf b;

	buf_init (&b, 64);
	msg_drain_encode (&b, &drain);
	for (struct manager *m = managers_first (d->managers); m; m = m->next) {
		link_send_bytes (m->peer, WIRE_DRAIN, b.data, b.len);
		set_closed (d, m);
	}
	buf_fini (&b);
}

void dispatch_drain (struct dispatch *d, bool on)
{
	if (d->draining == on)
		return;
	d->draining = on;
	log_info ("dispatch", on ? "draining" : "taking tasks again", NULL);
	if (d->managers)
		tell_managers (d, on);
	if (on)
		dispatch_give_back (d);
	figures_changed (d);
}

bool dispatch_draining (const struct dispatch *d)
{
	return d->draining;
}

void dispatch_flush (struct dispatch *d)
{
	spool_commit (d->spool);
	send_results (d);
}

void dispatch_block_releasing (struct dispatch *d, const char *block)
{
	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m; m = m->next)
		if (strcmp (m->block, block) == 0) {
			m->draining = true;
			set_closed (d, m);
		}
}

void dispatch_block_lost (struct dispatch *d, const char *block, const char *why)
{
	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m; m = m->next)
		if (strcmp (m->block, block) == 0) {
			m->draining = true;	/* its end comes from the loop: nothing more until then */
			set_closed (d, m);
			managers_close (m, why);
		}
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

void dispatch_figures (struct dispatch *d, unsigned blocks, unsigned pending_blocks)
{
	if (d->blocks == blocks && d->pending_blocks == pending_blocks)
		return;
	d->blocks = blocks;
	d->pending_blocks = pending_blocks;
	if (d->up)
		upstream_capacity_changed (d->up);
}

/* ---- life --------------------------------------------------------------------------------------------------- */

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

struct dispatch *dispatch_create (struct loop *l, const struct dispatch_opts *o, struct err *err)
{
	struct dispatch *d = xcalloc (1, sizeof (*d));

	d->loop = l;
	d->o = *o;
	d->spool = o->spool;
	d->node = xstrdup (o->node);
	d->queue = queue_create ();
	d->route = route_create (o->routing);
	d->functions = functions_create (o->function_cache_bytes);
	d->work = loop_defer_create (l, do_work, d);
	d->tick = loop_timer_create (l, on_tick, d);
	loop_timer_start (d->tick, TICK_MS, true);
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
	queue_destroy (&d->queue);
	route_destroy (&d->route);
	functions_destroy (&d->functions);
	map_destroy (&d->allowed);
	free (d->node);
	free (d);
	*dp = NULL;
}

void dispatch_connect (struct dispatch *d, struct upstream *u, struct managers *ms)
{
	d->up = u;
	d->managers = ms;
}

void dispatch_stats (const struct dispatch *d, struct dispatch_stats *out)
{
	*out = d->st;
	out->held = queue_held (d->queue)->n;
	out->waiting = queue_waiting (d->queue)->n;
	out->out = queue_out (d->queue);
	out->bytes = queue_bytes (d->queue);
	out->managers = d->managers ? managers_count (d->managers) : 0;
	out->slots = route_slots (d->route);
	out->free_slots = route_free_slots (d->route);
	out->window_tasks = d->last_window;
	out->functions = functions_count (d->functions);
	out->function_bytes = functions_bytes (d->functions);
}
