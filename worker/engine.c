/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's life and its session with the manager. See engine_internal.h for where a call can be. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "proto/bulk.h"
#include "proto/msg_capacity.h"
#include "worker/engine_internal.h"
#include "worker/proctree.h"
#include "worker/taskdir.h"
#include "worker/workdir.h"

/* ---- calls ---------------------------------------------------------------------------------------------------- */

void call_free (struct engine *e, struct call *c)
{
	map_del (e->calls, &c->t.task);
	if (c->fn)
		c->fn->users--;
	zmq_msg_close (&c->msg);
	free (c);
}

static void call_queue (struct engine *e, struct call *c, struct function *fn)
{
	c->fn = fn;
	fn->users++;
	limits_of (e, c);
	TAILQ_INSERT_TAIL (&e->queue, c, link);
}

static void give_back (struct engine *e, struct call *c, struct calls *list)
{
	TAILQ_REMOVE (list, c, link);
	if (e->peer)
		link_send_id (e->peer, WIRE_TASK_RETURN, &c->t.task);
	call_free (e, c);
}

static void give_back_all (struct engine *e)
{
	while (!TAILQ_EMPTY (&e->queue))
		give_back (e, TAILQ_FIRST (&e->queue), &e->queue);
	while (!TAILQ_EMPTY (&e->parked))
		give_back (e, TAILQ_FIRST (&e->parked), &e->parked);
}

static void on_park (void *arg)
{
	struct engine *e = arg;
	int64_t now = clock_now_ms ();
	struct call *c;

	while ((c = TAILQ_FIRST (&e->parked)) && c->parked_until_ms <= now) {
		log_warn ("engine", "function did not come: task given back", NULL);
		give_back (e, c, &e->parked);
	}
	if (c)
		loop_timer_start (e->park, c->parked_until_ms - now, false);
	engine_settled (e);
}

static void park (struct engine *e, struct call *c)
{
	c->parked_until_ms = clock_now_ms () + e->threshold_ms;
	TAILQ_INSERT_TAIL (&e->parked, c, link);
	link_send_id (e->peer, WIRE_FUNCTION_MISSING, &c->t.function);
	if (!loop_timer_pending (e->park))
		loop_timer_start (e->park, e->threshold_ms, false);
}

static void unpark (struct engine *e, struct function *fn)
{
	struct call *c, *next;

	for (c = TAILQ_FIRST (&e->parked); c; c = next) {
		next = TAILQ_NEXT (c, link);
		if (!id_eq (&c->t.function, &fn->fn.id))
			continue;
		TAILQ_REMOVE (&e->parked, c, link);
		call_queue (e, c, fn);
	}
}

static void take_task (struct engine *e, zmq_msg_t *record, int64_t now_ns)
{
	struct call *c = xcalloc (1, sizeof (*c));
	struct function *fn;

	zmq_msg_init (&c->msg);
	zmq_msg_move (&c->msg, record);
	/* again, because small messages stand in zmq_msg_t itself, which has moved */
	if (msg_task_decode (&c->t, zmq_msg_data (&c->msg), zmq_msg_size (&c->msg), NULL) < 0
	    || map_get (e->calls, &c->t.task) || results_resend (e->results, e->peer, &c->t.task)) {
		zmq_msg_close (&c->msg);	/* we have it, or have had it */
		free (c);
		return;
	}
	c->received_ns = now_ns;
	if (e->draining || map_size (e->calls) >= QUEUE_MAX) {
		link_send_id (e->peer, WIRE_TASK_RETURN, &c->t.task);
		zmq_msg_close (&c->msg);
		free (c);
		return;
	}
	map_put (e->calls, &c->t.task, c);
	if ((fn = functions_get (e->functions, &c->t.function)))
		call_queue (e, c, fn);
	else
		park (e, c);
}

static bool in_list (const struct calls *list, const struct call *c)
{
	const struct call *i;

	TAILQ_FOREACH (i, list, link)
		if (i == c)
			return true;
	return false;
}

static void cancel (const struct id *task, void *arg)
{
	struct engine *e = arg;
	struct call *c = map_get (e->calls, task);
	struct verdict v;

	if (!c || c->settled)
		return;
	verdict_cancelled (&v);
	if (c->grouped || (c == e->inflight[0] && batch_others_open (e, c))) {
		if (batch_others_open (e, c)) {		/* their call goes on; this one's result will be dropped */
			settle_verdict (e, c, &v, NULL, NULL, NULL);
			c->settled = true;
		} else {
			c->verdict = v;
			engine_kill_running (e);
		}
		return;
	}
	if (c == e->inflight[0]) {
		if (!c->verdict.status)
			c->verdict = v;
		engine_kill_running (e);
		return;
	}
	settle_verdict (e, c, &v, NULL, NULL, NULL);
	if (c == e->inflight[1]) {
		c->settled = true;
		return;
	}
	if (in_list (&e->parked, c))
		TAILQ_REMOVE (&e->parked, c, link);
	else
		TAILQ_REMOVE (&e->queue, c, link);
	call_free (e, c);
}

/* ---- draining and stopping ------------------------------------------------------------------------------------ */

void engine_settled (struct engine *e)
{
	if (!e->draining || e->stopping || map_size (e->calls) || results_count (e->results))
		return;
	log_info ("engine", "drained", NULL);
	e->stopping = true;
	if (e->peer)
		link_peer_close (e->peer, ERR_NONE, "drained");
	loop_stop (e->loop);
}

static void drain (struct engine *e, bool start)
{
	e->draining = start;
	if (start)
		give_back_all (e);
	engine_settled (e);
}

void engine_stop (struct engine *e)
{
	if (e->stopping)
		return;
	give_back_all (e);
	e->stopping = true;
	engine_kill_running (e);	/* before the BYE: the manager may hand its task out at once */
	if (e->peer)
		link_peer_close (e->peer, ERR_NONE, "worker is stopping");
	loop_stop (e->loop);
}

/* ---- messages ------------------------------------------------------------------------------------------------- */

static int take_functions (struct engine *e, zmq_msg_t *records, size_t n, struct err *err)
{
	struct msg_function probe;
	struct function *fn;
	size_t i;

	for (i = 0; i < n; i++)
		if (msg_function_decode (&probe, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), err) < 0)
			return -1;
	for (i = 0; i < n; i++) {
		fn = functions_put (e->functions, &records[i], err);
		if (fn)
			unpark (e, fn);
	}
	return 0;
}

static int take_tasks (struct engine *e, zmq_msg_t *records, size_t n, struct err *err)
{
	int64_t now = clock_real_ns ();
	struct msg_task probe;
	size_t i;

	for (i = 0; i < n; i++)
		if (msg_task_decode (&probe, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), err) < 0)
			return -1;
	for (i = 0; i < n; i++)
		take_task (e, &records[i], now);
	return 0;
}

static void take_ack (const struct id *task, void *arg)
{
	struct engine *e = arg;

	results_ack (e->results, task);
	if (e->nkept)
		taskdir_drop (e->o.dir, task);	/* most have none */
	if (!results_count (e->results))
		e->nkept = 0;
}

static int on_message (struct link_peer *peer, const struct wire_header *h, zmq_msg_t *records, size_t n, void *arg, struct err *err)
{
	struct engine *e = arg;
	struct msg_drain d;

	(void) peer;
	switch (h->type) {
	case WIRE_FUNCTION:
		return take_functions (e, records, n, err);
	case WIRE_TASK:
		return take_tasks (e, records, n, err);
	case WIRE_RESULT_ACK:
		return msg_ids_each (records, n, take_ack, e, err);
	case WIRE_CANCEL:
		return msg_ids_each (records, n, cancel, e, err);
	case WIRE_FOLLOW:
		return msg_ids_each (records, n, follow_asked, e, err);
	case WIRE_DRAIN:
		if (n != 1)
			return err_set (err, ERR_INVALID, FAULT_PEER, "DRAIN with %zu records", n);
		if (msg_drain_decode (&d, zmq_msg_data (&records[0]), zmq_msg_size (&records[0]), err) < 0)
			return -1;
		drain (e, d.start);
		return 0;
	default:
		return 0;
	}
}

/* In parts: time in which we stood still ourselves, on a node that is too busy or was suspended, is one of them at most; what came meanwhile
 * is read before the next. */
static void orphan_begins (struct engine *e)
{
	if (!e->o.orphan_ms)
		return;
	e->orphan_parts = ORPHAN_PARTS;
	loop_timer_start (e->orphan, e->o.orphan_ms / ORPHAN_PARTS, false);
}

static void on_up (struct link_peer *peer, const struct msg_hello *hello, const struct msg_welcome *w, void *arg)
{
	struct engine *e = arg;

	(void) hello;
	loop_timer_stop (e->orphan);
	e->peer = peer;
	e->threshold_ms = w->threshold_ms ? w->threshold_ms : 10000;
	e->max_result_bytes = w->max_result_bytes ? w->max_result_bytes : 10 << 20;
	/* The manager has counted the tasks of the old session as lost, or will hear here that it may hand them out again. */
	if (e->had_session)
		give_back_all (e);
	e->had_session = true;
	results_resend_all (e->results, peer);
	log_info ("engine", "session is up", "unacknowledged=%zu", results_count (e->results));
}

static void on_down (struct link_peer *peer, const char *why, void *arg)
{
	struct engine *e = arg;

	(void) peer;
	e->peer = NULL;
	if (e->stopping)
		return;
	log_warn ("engine", "session is down", "why=%s", why);
	orphan_begins (e);
}

static void on_reject (struct link *l, int code, const char *text, void *arg)
{
	(void) l;
	(void) arg;
	log_warn ("engine", "manager refused us", "code=%s why=%s", err_name ((enum err_code) code), text);
}

static void on_burst_end (void *arg)
{
	engine_feed (arg);
}

static const struct link_ops link_ops = {
	.on_up = on_up, .on_down = on_down, .on_reject = on_reject, .on_message = on_message, .on_burst_end = on_burst_end,
};

/* Nobody ends a container when its manager is gone: it does so itself. */
static void on_orphan (void *arg)
{
	struct engine *e = arg;

	if (--e->orphan_parts > 0) {
		loop_timer_start (e->orphan, e->o.orphan_ms / ORPHAN_PARTS, false);
		return;
	}
	log_error ("engine", "no manager for too long: ending", "ms=%lld", (long long) e->o.orphan_ms);
	engine_stop (e);
}

/* ---- life ----------------------------------------------------------------------------------------------------- */

/* What the Python runner said of itself, with the kinds that the other runners serve. Owned by the caller. */
static char *describe (const struct engine *e)
{
	const char *python = slot_of_python (e)->runtime;
	json_t *root = python ? json_loads (python, JSON_REJECT_DUPLICATES, NULL) : NULL, *kinds = json_array ();
	char *text;
	int k;

	if (!json_is_object (root)) {
		json_decref (root);
		root = json_object ();
	}
	for (k = KIND_GLOBUS; k < KIND_END; k++)
		if (python || (k != KIND_GLOBUS && k != KIND_PYTHON))
			json_array_append_new (kinds, json_string (msg_kind_name (k)));
	json_object_set_new (root, "kinds", kinds);
	text = json_dumps (root, JSON_COMPACT);
	json_decref (root);
	return text;
}

void engine_dial (struct engine *e)
{
	char *runtime;
	struct link_opts o = { .name = "manager", .ops = &link_ops, .arg = e, .bulk = e->o.bulk ? bulk_id (e->o.bulk) : NULL };
	struct err err;

	loop_timer_stop (e->ready_wait);
	if (e->link || !e->o.connect)
		return;
	runtime = describe (e);
	o.hello = (struct msg_hello){
		.role = ROLE_WORKER, .min_major = WIRE_MAJOR_MIN, .max_major = WIRE_MAJOR, .minor = WIRE_MINOR, .id = e->o.id, .slots = 1,
		.pid = (uint32_t) getpid (), .name = wire_str (e->o.node, strlen (e->o.node)), .version = WIRE_STR (WEFT_VERSION),
	};
	ids_random (&o.hello.instance, sizeof (o.hello.instance));
	if (runtime && strlen (runtime) <= WIRE_MAX_TEXT)
		o.hello.runtime = wire_str (runtime, strlen (runtime));
	if (!(e->link = link_dial (e->loop, e->zctx, e->o.connect, &o, &err))) {
		log_err (LOG_ERROR, "engine", "cannot connect to the manager", &err);
		e->stopping = true;
		loop_stop (e->loop);
	}
	free (runtime);
}

static void on_ready_wait (void *arg)
{
	engine_dial (arg);
}

static void warm_up (struct engine *e)
{
	struct err err;
	size_t i;

	for (i = 0; i < runner_count (); i++) { /* other interpreters start when a function wants them */
		struct slot *s = &e->slots[i];

		if (s->ops->start && s->ops->start (s->self, &err) < 0)
			log_err (LOG_WARN, "engine", "runner does not start", &err);
	}
	loop_timer_start (e->ready_wait, READY_WAIT_MS, false);
}

struct engine *engine_create (struct loop *l, void *zctx, const struct engine_opts *o, struct err *err)
{
	struct engine *e = xcalloc (1, sizeof (*e));

	e->loop = l;
	e->zctx = zctx;
	e->o = *o;
	e->threshold_ms = 10000;
	e->max_result_bytes = 10 << 20;
	e->oom_seen = proctree_oom_kills ();
	e->task_dir = xasprintf ("%s/" TASKDIR_NAME, o->dir);
	e->functions = functions_create (FUNCTIONS_COUNT, FUNCTIONS_MAX_BYTES);
	e->results = results_create (e->o.bulk);
	e->calls = map_create ();
	TAILQ_INIT (&e->queue);
	TAILQ_INIT (&e->parked);
	TAILQ_INIT (&e->group);
	buf_init (&e->group_out, 0);
	buf_init (&e->group_errout, 0);
	e->park = loop_timer_create (l, on_park, e);
	e->ready_wait = loop_timer_create (l, on_ready_wait, e);
	e->orphan = loop_timer_create (l, on_orphan, e);
	orphan_begins (e);
	limits_create (e);
	follow_create (e);
	if (slots_create (e, err) < 0) {
		engine_destroy (&e);
		return NULL;
	}
	warm_up (e);
	return e;
}

void engine_destroy (struct engine **ep)
{
	struct engine *e = *ep;

	if (!e)
		return;
	e->stopping = true;
	link_destroy (&e->link, 500);
	e->peer = NULL;
	slots_destroy (e);		/* before the calls: runners borrow their payloads */
	while (e->ninflight)
		call_free (e, e->inflight[--e->ninflight]);
	batch_requeue (e, &e->group);
	give_back_all (e);
	limits_destroy (e);
	follow_destroy (e);
	loop_timer_destroy (&e->park);
	loop_timer_destroy (&e->ready_wait);
	loop_timer_destroy (&e->orphan);
	functions_destroy (&e->functions);
	results_destroy (&e->results);
	map_destroy (&e->calls);
	buf_fini (&e->group_out);
	buf_fini (&e->group_errout);
	if (e->in_task_dir)
		workdir_empty (e->task_dir, NULL);
	rmdir (e->task_dir);
	free (e->task_dir);
	free (e);
	*ep = NULL;
}
