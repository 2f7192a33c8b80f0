/* SPDX-License-Identifier: Apache-2.0 */
/* A submission's way, each step from the loop:
 *
 *   CLAIM    Idempotency-Key given: is it new?
 *   GROUP    a given task group: does it exist, is it the caller's?
 *   PUBLISH  function records that this process has not yet put into Redis
 *   ROOM     many chunks: is there room for all of them in the endpoint's queue?
 *   PAYLOADS of a chunk, those that stand apart; then
 *   CHUNK    the chunk itself: all or nothing. The next one after its acknowledgement
 *   DOUBT    the connection broke while a chunk was under way: once it is back we look whether the tasks are there, and send the
 *            chunk again if not. An answer 5xx could make the client send again what was stored
 *   STORED   answer, or wait first
 *   UNDO     a failure before STORED takes back what earlier chunks stored, and frees the key. Redis's word for it comes before the answer
 *            that nothing was stored; when it does not come the answer says so. Not so where the claim was taken over from a process that died: its
 *            tasks may have run. All of it stays then, and who repeats the request goes on with the same ids; the other one, should it live and
 *            be refused, finds that the claim is not its own any more, and leaves all to us
 *
 * With waiting, results may come before Redis has acknowledged the submission itself; when all have come the request is answered, and the
 * acknowledgement only frees the memory. */
#include "service/submission_internal.h"
#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "service/group.h"
#include "service/stats.h"
#include "service/taskdoc.h"

#define RESULTS_MAX (256u << 20)

/* ---- the end ---------------------------------------------------------------------------------------------------- */

static void free_payloads (struct op *o)
{
	for (size_t i = 0; i < o->s.ntasks; i++)
		if (o->s.tasks[i].is_json)
			free ((char *) o->s.tasks[i].payload);
	for (size_t i = 0; i < o->s.ntasks; i++)
		o->s.tasks[i].is_json = false;
	jscan_fini (&o->s.body);
}

void submission_release (struct op *o)
{
	if (o->s.call || o->pending)
		return;
	waiter_destroy (&o->waiter);
	loop_timer_destroy (&o->look);
	loop_timer_destroy (&o->again);
	free_payloads (o);
	free (o->s.tasks);
	buf_fini (&o->s.head);
	buf_fini (&o->s.files);
	buf_fini (&o->s.resources);
	buf_fini (&o->results);
	free (o);
}

void submission_refuse (struct op *o)
{
	struct call *c = o->s.call;

	o->s.call = NULL;
	call_fail (c, o->why, "%s", o->err.text);
	submission_release (o);
}

void submission_fail (struct op *o)
{
	waiter_destroy (&o->waiter);
	if (o->taken_over)
		idem_leave (o->app, &o->idem);
	else if (o->has_idem || o->touched) {
		submission_undo (o);
		return;
	}
	submission_refuse (o);
}

const char *submission_kept (const struct op *o)
{
	return o->taken_over ? "a repetition goes on with what an earlier try has stored" : "nothing was stored";
}

void submission_fail_err (struct op *o, const struct err *err)
{
	if (o->err.code)
		return;
	o->err = *err;
	o->why = err->code == ERR_NOT_FOUND ? FAIL_FUNCTION_NOT_FOUND : err->code == ERR_LIMIT ? FAIL_STORAGE_FULL : FAIL_UNAVAILABLE;
	if (err->code == ERR_LIMIT)
		err_prefix (&o->err, "the task store is full, %s", submission_kept (o));
	else if (err->code != ERR_NOT_FOUND)
		err_prefix (&o->err, "the task store (Redis) cannot be used right now, %s", submission_kept (o));
}

void submission_fail_as (struct op *o, enum fail why, const char *fmt, ...)
{
	char text[sizeof (o->err.text)];
	va_list ap;

	if (o->err.code)
		return;
	va_start (ap, fmt);
	vsnprintf (text, sizeof (text), fmt, ap);
	va_end (ap);
	err_set (&o->err, ERR_INVALID, FAULT_USER, "%s", text);
	o->why = why;
}

/* Results may be large: the answer is made around them. */
static void begin_results (struct op *o)
{
	if (o->results.len)
		return;
	buf_add (&o->results, o->s.head.data, o->s.head.len);
	buf_str (&o->results, ",\"results\":{");
}

static void answer (struct op *o)
{
	struct call *c = o->s.call;
	struct buf *b = &o->s.head;

	if (!o->counted)
		stats_tasks (o->app->stats, (int64_t) o->s.ntasks, (int64_t) o->nresults);
	o->counted = true;
	waiter_destroy (&o->waiter);
	if (o->has_idem) {
		size_t n = b->len;
		if (o->s.results_allowed == SUBMISSION_OPEN)
			buf_char (b, '}');
		idem_finish (o->app, &o->idem, &o->s.tasks[o->s.ntasks - 1].task, (char *) b->data, b->len);
		if (o->s.results_allowed == SUBMISSION_OPEN)
			b->len = n;
	}
	if (o->s.results_allowed == SUBMISSION_OPEN) {
		if (o->s.wait_ms > 0) {
			begin_results (o);
			o->results.max = 0; /* there is always room for the end */
			o->results.failed = false;
			buf_char (b = &o->results, '}');
		}
		buf_char (b, '}');
	}
	o->s.call = NULL;
	call_ok (c, b);
	submission_release (o);
}

static void on_client_gone (void *arg)
{
	struct op *o = arg;

	if (o->waiter)
		waiter_start (o->waiter, 0);
}

/* Everything is in Redis. */
void submission_stored (struct op *o)
{
	char id[ID_TEXT];

	o->stored = true;
	free_payloads (o);
	for (size_t i = 0; i < o->s.ntasks; i++) { /* one entry an endpoint */
		size_t n = i;
		while (n < o->s.ntasks && id_eq (&o->s.tasks[n].endpoint, &o->s.tasks[i].endpoint))
			n++;
		db_audit (o->app->db, &o->owner, "task.submit", id_text (&o->s.tasks[i].endpoint, id), o->peer, strlen (o->peer),
			  (int64_t) (n - i));
		i = n - 1;
	}
	if (!o->s.call)
		submission_release (o); /* the results were faster */
	else if (!o->waiter || o->time_over)
		answer (o);
	else {
		waiter_release (o->waiter);
		call_watch (o->s.call, on_client_gone, o); /* not earlier: the payloads were in the request */
	}
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

static int compare_task (const void *a, const void *b)
{
	return memcmp (((const struct submission_task *) a)->task.b, ((const struct submission_task *) b)->task.b, ID_BYTES);
}

static void on_result (struct waiter *w, const struct id *task, int state, const struct msg_result *m, bool pushed, void *arg)
{
	struct op *o = arg;
	struct submission_task want = { .task = *task }, *t = &o->s.tasks[0];
	struct layout_meta meta = { .owner = o->owner, .group = o->s.group, .submitted_ns = o->received_ns };
	struct msg_result stamped = *m;
	struct doc_task d = { .task = *task, .state = state, .meta = &meta, .result = &stamped, .stamps = o->s.stamps, .bulk = o->app->bulk };
	size_t before;
	char id[ID_TEXT];

	(void) w;
	if (o->s.ntasks > 1)
		t = bsearch (&want, o->s.tasks, o->s.ntasks, sizeof (*t), compare_task);
	if (!t || o->results_full)
		return;
	meta.function = t->function;
	meta.endpoint = t->endpoint;
	meta.payload_bytes = t->payload_bytes;
	if (pushed)
		stamped.stamps[STAMP_SERVICE_RESULT] = clock_real_ns ();
	begin_results (o);
	before = o->results.len;
	buf_str (&o->results, o->nresults ? ",\"" : "\"");
	buf_str (&o->results, id_text (task, id));
	buf_str (&o->results, "\":");
	doc_add (&o->results, DOC_V3, &d);
	if (buf_failed (&o->results)) { /* more than one answer can carry: the rest is there to be fetched */
		o->results.len = before;
		o->results_full = true;
		return;
	}
	o->nresults++;
}

static void on_gone (struct waiter *w, const struct id *task, void *arg)
{
	(void) w;
	(void) task;
	(void) arg;
}

static void on_wait_end (struct waiter *w, bool time_over, void *arg)
{
	struct op *o = arg;

	(void) w;
	if (o->stored || (!time_over && o->sent == o->s.ntasks && o->nresults == o->s.ntasks))
		answer (o);
	else
		o->time_over = true; /* the acknowledgement decides */
}

static const struct waiter_ops waiter_ops = { on_result, on_gone, on_wait_end };

static void start_waiting (struct op *o)
{
	o->waiter = waiter_create (o->app->waiters, &waiter_ops, o, true);
	for (size_t i = 0; i < o->s.ntasks; i++)
		waiter_add (o->waiter, &o->s.tasks[i].task);
}

/* ---- before storing --------------------------------------------------------------------------------------------- */

static void store (struct op *o)
{
	if (o->s.wait_ms > 0)
		start_waiting (o);
	submission_chunk_next (o);
}

static void on_room (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct op *o = arg;
	struct err e = { 0 };

	(void) r;
	o->pending--;
	err = rds_error (reply, err, &e);
	if (err)
		submission_fail_err (o, err);
	else if (reply->integer + (long long) o->s.ntasks > o->app->config->queue_tasks)
		submission_fail_as (o, FAIL_QUEUE_FULL, "the endpoint's queue has no room for so many tasks, nothing was stored; try again later");
	if (o->err.code)
		submission_fail (o);
	else
		store (o);
}

static void check_room (struct op *o)
{
	char key[LAYOUT_KEY_MAX];

	if (o->s.ntasks <= LAYOUT_SUBMIT_CHUNK || !o->app->config->queue_tasks || submission_chunk_end (o, 0) < LAYOUT_SUBMIT_CHUNK ||
	    o->taken_over) {
		store (o); /* the script itself checks, and knows which tasks wait there already */
		return;
	}
	o->pending++;
	layout_key (key, "ep", &o->s.tasks[0].endpoint, "tasks");
	rds_commandf (o->app->redis, on_room, o, "XLEN %s", key);
}

static void on_published (const struct err *err, void *arg)
{
	struct op *o = arg;

	o->pending--;
	if (err)
		submission_fail_err (o, err);
	if (o->pending)
		return;
	if (o->err.code)
		submission_fail (o);
	else
		check_room (o);
}

static void publish (struct op *o)
{
	const struct id *last = NULL;

	for (size_t i = 0; i < o->s.ntasks; i++) {
		const struct id *f = &o->s.tasks[i].function;
		if ((last && id_eq (f, last)) || catalog_published (o->app->catalog, f))
			continue;
		last = f;
		o->pending++;
		catalog_publish (o->app->catalog, f, on_published, o);
	}
	if (!o->pending)
		check_room (o);
}

static void on_group (enum group_state state, int64_t created_ns, const struct err *err, void *arg)
{
	struct op *o = arg;

	(void) created_ns;
	o->pending--;
	if (err)
		submission_fail_err (o, err);
	if (err || group_allowed (state, &o->s.group, &o->why, &o->err) < 0)
		submission_fail (o);
	else
		publish (o);
}

static void check_group (struct op *o)
{
	if (!o->s.group_given) {
		publish (o);
		return;
	}
	o->pending++;
	group_check (o->app, &o->owner, &o->s.group, on_group, o);
}

static void replay (struct op *o, const char *text, size_t n)
{
	struct call *c = o->s.call;
	struct buf b;

	buf_init (&b, 0);
	buf_add (&b, text, n);
	o->s.call = NULL;
	call_reply (c, 200, "application/json", "Idempotent-Replayed: true\r\n", &b);
	submission_release (o);
}

/* Goes on where another process died: with the ids and the answer that it had. */
static bool go_on (struct op *o, const char *text, size_t n, const struct id *ids, size_t nids)
{
	if (nids != 1 + o->s.ntasks || !n)
		return false;
	o->s.group = ids[0];
	for (size_t i = 0; i < o->s.ntasks; i++)
		o->s.tasks[i].task = ids[1 + i];
	buf_clear (&o->s.head);
	buf_add (&o->s.head, text, o->s.results_allowed == SUBMISSION_OPEN ? n - 1 : n);
	return true;
}

static void on_claimed (enum idem_outcome outcome, const char *text, size_t n, const struct id *ids, size_t nids, const struct err *err, void *arg)
{
	struct op *o = arg;

	o->pending--;
	if (!err && (outcome == IDEM_OURS || (outcome == IDEM_LEFT && go_on (o, text, n, ids, nids)))) {
		o->has_idem = true;
		o->taken_over = outcome == IDEM_LEFT;
		check_group (o);
		return;
	}
	if (!err && outcome == IDEM_ANSWERED) {
		replay (o, text, n);
		return;
	}
	if (err)
		submission_fail_err (o, err);
	else if (outcome == IDEM_IN_PROGRESS || outcome == IDEM_LEFT)
		submission_fail_as (o, FAIL_CONFLICT, SUBMISSION_IN_PROGRESS);
	else
		submission_fail_as (o, FAIL_SEMANTICS, "this Idempotency-Key was used with another request");
	submission_fail (o);
}

static void claim (struct op *o, struct http_str key)
{
	struct call *c = o->s.call;
	struct buf text;
	struct id *ids = xcalloc (1 + o->s.ntasks, sizeof (*ids));

	ids[0] = o->s.group;
	for (size_t i = 0; i < o->s.ntasks; i++)
		ids[1 + i] = o->s.tasks[i].task;
	idem_init (&o->idem, &o->owner, key, http_path (c->req), http_body (c->req));
	buf_init (&text, 0);
	buf_add (&text, o->s.head.data, o->s.head.len);
	if (o->s.results_allowed == SUBMISSION_OPEN)
		buf_char (&text, '}');
	o->pending++;
	idem_claim (o->app, &o->idem, ids, 1 + o->s.ntasks, (char *) text.data, text.len, on_claimed, o);
	buf_fini (&text);
	free (ids);
}

void submission_start (const struct submission *s)
{
	struct op *o = xcalloc (1, sizeof (*o));
	struct call *c = s->call;
	struct http_str key = http_header (c->req, "Idempotency-Key"), peer = http_peer (c->req);

	o->s = *s;
	o->app = c->app;
	o->owner = c->who.user;
	o->received_ns = http_started_real_ns (c->req);
	o->group_key = s->ntasks > 1 || s->group_given;
	if (peer.n && peer.n < sizeof (o->peer))
		memcpy (o->peer, peer.p, peer.n);
	buf_init (&o->results, RESULTS_MAX);
	if (!rds_up (o->app->redis)) {
		struct err e = { .code = ERR_UNAVAILABLE, .fault = FAULT_SITE, .text = "not connected" };
		submission_fail_err (o, &e);
		submission_fail (o);
	} else if (key.p && (!key.n || key.n > IDEM_KEY_MAX)) {
		submission_fail_as (o, FAIL_MALFORMED, "Idempotency-Key: 1 to 128 characters are expected");
		submission_fail (o);
	} else if (key.p)
		claim (o, key);
	else
		check_group (o);
}
