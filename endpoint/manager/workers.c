/* SPDX-License-Identifier: Apache-2.0 */
/* See workers.h. Killing is the answer to every doubt about a worker: a process whose session ended is stopped, and its slot
 * is filled with a new one. What a dead worker's calls left running is adopted by us (subreaper) and killed too. */
#include "endpoint/manager/workers_internal.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "endpoint/manager/rooms.h"
#include "proto/adapt.h"
#include "proto/bulk.h"
#include "proto/link.h"
#include "proto/msg_capacity.h"

#define HELLO_DEADLINE_MS 30000
#define LASTED_MS 10000		/* a worker that was up this long starts again without a pause */
#define BACKOFF_CAP_UP_MS 1000	/* of one that came up and died young: often its task's doing, and the others wait */
#define SETTLE_MS 20		/* what a dead worker had sent is read meanwhile */
#define LEAVE_GRACE_MS 1000
#define STUCK_MS 5000		/* a killed process that has not ended by then is given up */

static void start (struct worker *w);

/* ---- the end of a process ---- */

static void clear_sets (struct worker *w)
{
	map_empty (&w->functions, NULL);
	map_empty (&w->wanted, NULL);
}

static unsigned processes (const struct workers *ws)
{
	unsigned k, n = 0;

	for (k = 0; k < workers_all (ws); k++)
		n += ws->v[k].state != WORKER_DOWN && ws->v[k].state != WORKER_PREPARING;
	return n;
}

void workers_check_stopped (struct workers *ws)
{
	if (ws->stopping && processes (ws) == 0 && !ws->removing)
		loop_defer_schedule (ws->stopped);
}

static void run_stopped (void *arg)
{
	struct workers *ws = arg;

	ws->o.ops->stopped (ws->o.arg);
}

static void drop_session (struct worker *w, const char *why)
{
	struct link_peer *p = w->peer;

	if (!p)
		return;
	w->peer = NULL;
	link_peer_set_data (p, NULL);
	link_peer_close (p, ERR_NONE, why);
}

/* The first loss of a worker that had come up costs no time; after that a pause that doubles. */
static int64_t restart_pause_ms (const struct worker *w)
{
	if (w->failures == 0 || (w->failures == 1 && w->up_since_ms))
		return 0;
	return clock_backoff_ms (w->failures - 1, WORKERS_BACKOFF_MS, w->up_since_ms ? BACKOFF_CAP_UP_MS : WORKERS_BACKOFF_CAP_MS);
}

/* All that it sent has been read: now its tasks are lost. */
static void settle (struct worker *w)
{
	struct workers *ws = w->all;

	drop_session (w, "the process ended");
	map_del (ws->by_id, &w->id);
	w->state = WORKER_DOWN;
	clear_sets (w);
	rooms_clear (ws->o.rooms, w->index);
	ws->o.ops->lost (w, w->status, ws->o.arg);
	if (w->container)
		container_forget (w);
	if (ws->stopping)
		workers_check_stopped (ws);
	else if (!ws->draining && w->index < ws->o.n)
		loop_timer_start (w->timer, restart_pause_ms (w), false);
}

void workers_exited (struct spawn *s, pid_t pid, int status, const struct rusage *ru, void *arg)
{
	struct worker *w = arg;
	struct workers *ws = w->all;
	int64_t lasted = w->up_since_ms ? clock_now_ms () - w->up_since_ms : 0;
	char text[64], id[ID_TEXT];

	(void) s;
	(void) ru;
	w->process = NULL;
	w->status = status;
	w->failures = lasted >= LASTED_MS ? 0 : w->failures + 1;
	if (!ws->stopping && !(status == 0 && w->tasks.n == 0))
		log_warn ("workers", "worker ended", "worker=%s pid=%d how=%s tasks=%zu lasted_ms=%lld", id_text (&w->id, id), (int) pid,
			  spawn_status_text (status, text), w->tasks.n, (long long) lasted);
	if (w->container)
		container_ended (w);
	w->state = WORKER_EXITED;
	spawn_sweep_start (ws->sweep);
	loop_timer_stop (w->timer);
	if (w->peer)
		loop_timer_start (w->timer, SETTLE_MS, false);
	else
		settle (w);
}

void workers_leave (struct worker *w, int64_t grace_ms)
{
	w->state = WORKER_LEAVING;
	spawn_stop (w->process, grace_ms);
	loop_timer_start (w->timer, grace_ms + STUCK_MS, false);
}

/* Not even SIGKILL ends one in uninterruptible sleep (a dead file server): it is left alone, and its tasks are dealt with as if it had ended. */
static void give_up (struct worker *w)
{
	pid_t pid = spawn_pid (w->process);
	char id[ID_TEXT];

	log_warn ("workers", "killed worker does not end", "worker=%s pid=%d", id_text (&w->id, id), (int) pid);
	spawn_forget (&w->process);
	workers_exited (NULL, pid, SIGKILL, NULL, w);
}

static void timer_fired (void *arg)
{
	struct worker *w = arg;
	char id[ID_TEXT];

	switch (w->state) {
	case WORKER_DOWN:
		if (!w->all->stopping && !w->all->draining)
			start (w);
		break;
	case WORKER_STARTING:
		log_warn ("workers", "worker said no HELLO in time: killed", "worker=%s", id_text (&w->id, id));
		workers_leave (w, 0);
		break;
	case WORKER_LEAVING:
		give_up (w);
		break;
	case WORKER_EXITED:
		settle (w);
		break;
	case WORKER_UP:
	case WORKER_PREPARING:
		break;
	}
}

/* ---- starting ---- */

static int spawn_worker (struct worker *w, struct err *err)
{
	struct workers *ws = w->all;
	char id[ID_TEXT], pid[24];
	const char *argv[28];
	struct spawn_opts o = { .argv = argv };
	size_t n = 0;
	char *dir = rooms_work (ws->o.rooms, w->index, err);

	if (!dir)
		return -1;
	snprintf (pid, sizeof (pid), "%d", (int) getpid ());
	if (ws->o.loader) {
		argv[n++] = ws->o.loader;
		argv[n++] = "--library-path";
		argv[n++] = ws->o.lib;
	}
	argv[n++] = ws->o.bin;
	argv[n++] = "--connect";
	argv[n++] = link_address (ws->link);
	argv[n++] = "--worker-id";
	argv[n++] = id_text (&w->id, id);
	argv[n++] = "--node";
	argv[n++] = ws->o.node;
	argv[n++] = "--dir";
	argv[n++] = dir;
	argv[n++] = "--python";
	argv[n++] = ws->o.python;
	argv[n++] = "--parent-pid";
	argv[n++] = pid;
	argv[n++] = "--log-level";
	argv[n++] = ws->o.log_level;
	if (ws->o.retries_on_kill) {
		argv[n++] = "--retries-on-kill";
		argv[n++] = ws->o.retries_on_kill;
	}
	if (ws->o.bulk) {
		argv[n++] = "--bulk-dir";
		argv[n++] = bulk_dir (ws->o.bulk);
	}
	if (ws->o.files_dir) {
		argv[n++] = "--files-dir";
		argv[n++] = ws->o.files_dir;
	}
	argv[n] = NULL;
	w->process = spawn_start (ws->loop, &o, workers_exited, w, err);
	free (dir);
	return w->process ? 0 : -1;
}

static void start (struct worker *w)
{
	struct err err;

	id_new (&w->id);
	w->up_since_ms = 0;
	if (spawn_worker (w, &err) < 0) {
		log_err (LOG_ERROR, "workers", "worker could not be started", &err);
		w->failures++;
		loop_timer_start (w->timer, clock_backoff_ms (w->failures - 1, WORKERS_BACKOFF_MS, WORKERS_BACKOFF_CAP_MS), false);
		return;
	}
	map_put (w->all->by_id, &w->id, w);
	workers_hello_deadline (w, HELLO_DEADLINE_MS);
}

void workers_hello_deadline (struct worker *w, int64_t ms)
{
	w->state = WORKER_STARTING;
	loop_timer_start (w->timer, ms, false);
}

/* ---- sessions ---- */

static int on_hello (struct link_peer *peer, const struct msg_hello *hello, struct msg_welcome *welcome, void *arg, struct err *err)
{
	struct workers *ws = arg;
	struct worker *w = map_get (ws->by_id, &hello->id);

	(void) peer;
	if (hello->role != ROLE_WORKER)
		return err_set (err, ERR_FORBIDDEN, FAULT_PEER, "only workers connect here");
	if (!w || (w->state != WORKER_STARTING && w->state != WORKER_UP))
		return err_set (err, ERR_FORBIDDEN, FAULT_PEER, "not a worker that was started here");
	/* inside a container the worker has another pid */
	if (!w->container && hello->pid && hello->pid != (uint32_t) spawn_pid (w->process))
		return err_set (err, ERR_FORBIDDEN, FAULT_PEER, "the worker of this id has another pid");
	if (ws->o.max_payload_bytes)
		welcome->max_payload_bytes = ws->o.max_payload_bytes;
	if (ws->o.max_result_bytes)
		welcome->max_result_bytes = ws->o.max_result_bytes;
	return 0;
}

static void on_up (struct link_peer *peer, const struct msg_hello *hello, const struct msg_welcome *welcome, void *arg)
{
	struct workers *ws = arg;
	struct worker *w = map_get (ws->by_id, link_peer_id (peer));

	(void) hello;
	(void) welcome;
	if (!w || w->state != WORKER_STARTING) {
		link_peer_close (peer, ERR_BAD_STATE, "this worker is being stopped");
		return;
	}
	link_peer_set_data (peer, w);
	w->peer = peer;
	w->state = WORKER_UP;
	w->up_since_ms = clock_now_ms ();
	loop_timer_stop (w->timer);
	clear_sets (w);
	ws->o.ops->up (w, ws->o.arg);
}

static void on_down (struct link_peer *peer, const char *why, void *arg)
{
	struct worker *w = link_peer_data (peer);
	struct workers *ws = arg;
	char id[ID_TEXT];

	if (!w)
		return;
	w->peer = NULL;
	link_peer_set_data (peer, NULL);
	if (w->state != WORKER_UP)
		return;		/* the process ended already: its tasks are dealt with by settle */
	if (!ws->draining && !ws->stopping)
		log_warn ("workers", "session of a worker ended: stopping it", "worker=%s why=%s", id_text (&w->id, id), why);
	workers_leave (w, LEAVE_GRACE_MS);
}

/* ---- messages: checked whole before anything takes effect (SPEC.md, section 1) ---- */

static int take_results (struct worker *w, zmq_msg_t *records, size_t n, struct err *err)
{
	const struct workers *ws = w->all;
	struct msg_result m;
	size_t i;

	for (i = 0; i < n; i++)
		if (msg_result_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), err) < 0)
			return -1;
	for (i = 0; i < n; i++) {
		if (n > 1)
			msg_result_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), NULL);
		ws->o.ops->result (w, &records[i], &m, ws->o.arg);
	}
	return 0;
}

static int take_states (struct worker *w, zmq_msg_t *records, size_t n, struct err *err)
{
	const struct workers *ws = w->all;
	struct msg_task_state m;
	size_t i;

	for (i = 0; i < n; i++)
		if (msg_task_state_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), err) < 0)
			return -1;
	for (i = 0; i < n; i++) {
		msg_task_state_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), NULL);
		ws->o.ops->state (w, &records[i], &m, ws->o.arg);
	}
	return 0;
}

static int take_outputs (struct worker *w, zmq_msg_t *records, size_t n, struct err *err)
{
	const struct workers *ws = w->all;
	struct msg_output m;
	size_t i;

	for (i = 0; i < n; i++)
		if (msg_output_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), err) < 0)
			return -1;
	for (i = 0; i < n; i++) {
		msg_output_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), NULL);
		ws->o.ops->output (w, &records[i], &m, ws->o.arg);
	}
	return 0;
}

static void take_returned (const struct id *task, void *arg)
{
	struct worker *w = arg;

	w->all->o.ops->returned (w, task, w->all->o.arg);
}

static void take_missing (const struct id *function, void *arg)
{
	struct worker *w = arg;

	w->all->o.ops->missing (w, function, w->all->o.arg);
}

static int on_message (struct link_peer *peer, const struct wire_header *h, zmq_msg_t *records, size_t n, void *arg, struct err *err)
{
	struct worker *w = link_peer_data (peer);

	(void) arg;
	if (!w)
		return 0;	/* on its way out */
	switch (h->type) {
	case WIRE_RESULT:
		return take_results (w, records, n, err);
	case WIRE_TASK_STATE:
		return take_states (w, records, n, err);
	case WIRE_OUTPUT:
		return take_outputs (w, records, n, err);
	case WIRE_TASK_RETURN:
		return msg_ids_each (records, n, take_returned, w, err);
	case WIRE_FUNCTION_MISSING:
		return msg_ids_each (records, n, take_missing, w, err);
	case WIRE_CAPACITY:
	case WIRE_METRICS:
	case WIRE_DRAIN:
		return 0;	/* slots are known, and a worker that drains gives its tasks back */
	default:
		return err_set (err, ERR_INVALID, FAULT_PEER, "a worker sent a message of type %s", wire_type_name (h->type));
	}
}

static const struct link_ops link_ops = {
	.on_hello = on_hello, .on_up = on_up, .on_down = on_down, .on_message = on_message,
};

/* ---- sending ---- */

char *workers_dir (const struct worker *w, const char **inner)
{
	*inner = w->container ? container_inner (w) : "";
	return rooms_path (w->all->o.rooms, w->index);
}

bool workers_bulk (const struct worker *w)
{
	return w->peer && link_peer_bulk (w->peer);
}

bool workers_has_function (const struct worker *w, const struct id *function)
{
	return map_get (w->functions, function) != NULL;
}

void workers_send_function (struct worker *w, const struct id *function, zmq_msg_t *record)
{
	zmq_msg_t copy;

	map_put (w->functions, function, w);
	map_del (w->wanted, function);
	zmq_msg_init (&copy);
	if (w->peer && zmq_msg_copy (&copy, record) == 0)
		link_send (w->peer, WIRE_FUNCTION, &copy);
	zmq_msg_close (&copy);
}

void workers_forget_function (struct worker *w, const struct id *function, bool wanted)
{
	map_del (w->functions, function);
	if (wanted)
		map_put (w->wanted, function, w);
}

bool workers_wants_function (const struct worker *w, const struct id *function)
{
	return map_get (w->wanted, function) != NULL;
}

void workers_send_task (struct worker *w, zmq_msg_t *record)
{
	if (w->peer) {
		adapt_task (record, link_peer_major (w->peer));
		link_send (w->peer, WIRE_TASK, record);
	}
	zmq_msg_close (record);
}

void workers_send_id (struct worker *w, int type, const struct id *id)
{
	if (w->peer)
		link_send_id (w->peer, (enum wire_type) type, id);
}

static void send_drain (struct worker *w, bool begin, uint32_t grace_ms)
{
	const struct msg_drain m = { .start = begin, .grace_ms = grace_ms };
	struct buf b;

	if (!w->peer)
		return;
	buf_init (&b, 64);
	msg_drain_encode (&b, &m);
	link_send_bytes (w->peer, WIRE_DRAIN, b.data, b.len);
	buf_fini (&b);
}

void workers_recall (struct worker *w)
{
	send_drain (w, true, 0);
	link_flush (w->all->link);	/* DRAIN has one record: the two may not share a message */
	send_drain (w, false, 0);
}

void workers_drain (struct workers *ws, bool begin, uint32_t grace_ms)
{
	unsigned k;

	ws->draining = begin;
	for (k = 0; k < workers_all (ws); k++) {
		struct worker *w = &ws->v[k];

		if (w->peer)
			send_drain (w, begin, grace_ms);
		else if (!begin && w->state == WORKER_DOWN && !ws->stopping && k < ws->o.n)
			loop_timer_start (w->timer, 0, false);
	}
}

/* ---- life ---- */

static int listen_for_workers (struct workers *ws, void *zctx, struct err *err)
{
	const char *address[3] = { rooms_socket (ws->o.rooms) };
	char *open_path = NULL, *open_address = NULL;
	const struct link_opts lo = {
		.name = "workers", .ops = &link_ops, .arg = ws,
		.heartbeat_ms = ws->o.heartbeat_ms, .threshold_ms = ws->o.threshold_ms,
		.max_payload_bytes = ws->o.max_payload_bytes, .max_result_bytes = ws->o.max_result_bytes,
		.max_peers = workers_all (ws) * 2 + 16, .bulk = ws->o.bulk ? bulk_id (ws->o.bulk) : NULL,
	};

	if (ws->o.containers) {
		if (!(ws->run_dir = rooms_open (ws->o.rooms, err)))
			return -1;
		open_path = xasprintf ("%s/w.sock", ws->run_dir);
		open_address = xasprintf ("ipc://%s", open_path);
		address[1] = address[0];	/* the last one is link_address */
		address[0] = open_address;
	}
	ws->link = link_listen (ws->loop, zctx, address, &lo, err);
	if (ws->link && open_path && chmod (open_path, 0666) < 0) {
		err_errno (err, "opening the socket %s to containers", open_path);
		link_destroy (&ws->link, 0);
	}
	free (open_path);
	free (open_address);
	return ws->link ? 0 : -1;
}

struct workers *workers_create (struct loop *l, void *zctx, const struct workers_opts *o, struct err *err)
{
	struct workers *ws = xcalloc (1, sizeof (*ws));
	unsigned k;

	ws->loop = l;
	ws->o = *o;
	ws->by_id = map_create ();
	ws->stopped = loop_defer_create (l, run_stopped, ws);
	ws->sweep = spawn_sweep_create (l);
	ws->v = xcalloc (workers_all (ws), sizeof (*ws->v));
	for (k = 0; k < workers_all (ws); k++) {
		ws->v[k].index = k;
		ws->v[k].all = ws;
		ws->v[k].functions = map_create ();
		ws->v[k].wanted = map_create ();
		ws->v[k].timer = loop_timer_create (l, timer_fired, &ws->v[k]);
	}
	if (listen_for_workers (ws, zctx, err) < 0) {
		workers_destroy (&ws, 0);
		return NULL;
	}
	for (k = 0; k < o->n; k++)
		start (&ws->v[k]);
	if (o->containers)
		container_sweep (ws);
	return ws;
}

void workers_destroy (struct workers **wsp, int64_t linger_ms)
{
	struct workers *ws = *wsp;
	unsigned k;

	if (!ws)
		return;
	for (k = 0; k < workers_all (ws); k++) {
		struct worker *w = &ws->v[k];

		if (w->peer)
			link_peer_set_data (w->peer, NULL);
		if (w->process) {
			spawn_stop (w->process, 0);
			spawn_forget (&w->process);
			container_abandon (w);
		}
		loop_timer_destroy (&w->timer);
		map_destroy (&w->functions);
		map_destroy (&w->wanted);
		container_forget (w);
	}
	if (ws->link)
		link_destroy (&ws->link, linger_ms);
	loop_defer_destroy (&ws->stopped);
	spawn_sweep_destroy (&ws->sweep);
	map_destroy (&ws->by_id);
	free (ws->v);
	free (ws);
	*wsp = NULL;
}

void workers_set_limits (struct workers *ws, uint32_t max_payload_bytes, uint32_t max_result_bytes)
{
	ws->o.max_payload_bytes = max_payload_bytes;
	ws->o.max_result_bytes = max_result_bytes;
}

unsigned workers_count (const struct workers *ws)
{
	return ws->o.n;
}

unsigned workers_all (const struct workers *ws)
{
	return ws->o.n + ws->o.containers;
}

struct worker *workers_get (struct workers *ws, unsigned k)
{
	return &ws->v[k];
}

unsigned workers_up (const struct workers *ws)
{
	unsigned k, n = 0;

	for (k = 0; k < ws->o.n; k++)
		n += ws->v[k].state == WORKER_UP;
	return n;
}

void workers_stop (struct workers *ws, int64_t grace_ms)
{
	unsigned k;

	ws->stopping = true;
	for (k = 0; k < workers_all (ws); k++) {
		struct worker *w = &ws->v[k];

		if (w->state == WORKER_PREPARING) {
			map_del (ws->by_id, &w->id);
			w->state = WORKER_DOWN;		/* what the runtime answers finds nobody */
		}
		if (w->state == WORKER_DOWN)
			loop_timer_stop (w->timer);
		else if (w->process)
			spawn_stop (w->process, grace_ms);
	}
	workers_check_stopped (ws);
}
