/* SPDX-License-Identifier: Apache-2.0 */
/* How the tasks of a submission get into Redis: PAYLOADS, CHUNK and DOUBT of the states at the head of submission.c. */
#include "service/submission_internal.h"
#include <hiredis/hiredis.h>
#include <string.h>
#include "common/clock.h"
#include "common/decimal.h"
#include "common/log.h"
#include "proto/bulk.h"
#include "service/republish.h"

#define MOD "submission"
#define DOUBT_LOOK_MS 50

static void chunk_acked (struct op *o)
{
	o->acked = o->sent;
	o->told = false;
	o->touched = o->acked;
	o->queued = true;
	o->doubt_until_ms = 0;
	if (o->acked == o->s.ntasks)
		submission_stored (o);
	else
		submission_chunk_next (o);
}

static void look_again (void *arg);

static void on_look (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct op *o = arg;
	struct err e = { 0 };

	(void) r;
	o->pending--;
	if (!o->s.call) {
		submission_release (o);
		return;
	}
	if (rds_error (reply, err, &e)) {
		loop_timer_start (o->look, DOUBT_LOOK_MS, false);
		return;
	}
	if (reply->integer == 1)
		chunk_acked (o);
	else
		submission_chunk_next (o); /* nothing of it is there: once more, under the same ids */
}

static void look_again (void *arg)
{
	struct op *o = arg;
	char key[LAYOUT_KEY_MAX];

	if (!o->s.call) {
		submission_release (o);
		return;
	}
	if (rds_up (o->app->redis)) {
		o->pending++;
		layout_key (key, "task", &o->s.tasks[o->sent - 1].task, NULL);
		rds_commandf (o->app->redis, on_look, o, "EXISTS %s", key);
	} else if (clock_now_ms () < o->doubt_until_ms && !o->app->draining)
		loop_timer_start (o->look, DOUBT_LOOK_MS, false);
	else {
		submission_fail_as (o, FAIL_UNAVAILABLE, "the connection to the task store broke and did not come back; whether the tasks were stored "
							 "is not known");
		submission_fail (o);
	}
}

static void doubt (struct op *o)
{
	if (!o->look)
		o->look = loop_timer_create (o->app->loop, look_again, o);
	o->doubt_until_ms = clock_now_ms () + SUBMISSION_DOUBT_MS;
	o->touched = o->sent;
	o->queued = true;
	log_warn (MOD, "connection lost while tasks were being stored", "tasks=%zu", o->sent - o->acked);
	loop_timer_start (o->look, DOUBT_LOOK_MS, false);
}

static size_t chunk_start (const struct op *o)
{
	return o->acked;
}

bool submission_goes_bulk (const struct op *o, const struct submission_task *t)
{
	return o->app->bulk && t->payload_bytes > BULK_MIN;
}

static void send_chunk (struct op *o, size_t end);

/* Redis does not know the endpoint. If the registry does, Redis was emptied: it is told, and the chunk is to be sent again (true). */
static bool tell_endpoint (struct op *o)
{
	const struct id *endpoint = &o->s.tasks[chunk_start (o)].endpoint;
	struct reg_endpoint e;
	struct err err;
	char t[ID_TEXT];

	catalog_forget (o->app->catalog, endpoint);
	if (registry_endpoint_get (o->app->registry, endpoint, &e, &err) == 0) {
		bool again = !o->told;
		if (again)
			republish_endpoint (o->app, &e, NULL, NULL);
		else
			submission_fail_as (o, FAIL_UNAVAILABLE, "the task store (Redis) loses what it is told of the endpoint, %s",
					    submission_kept (o));
		reg_endpoint_fini (&e);
		o->told = true;
		return again;
	}
	if (err.code == ERR_NOT_FOUND)
		submission_fail_as (o, FAIL_ENDPOINT_NOT_FOUND, "Endpoint %s could not be resolved", id_text (endpoint, t));
	else
		submission_fail_err (o, &err);
	return false;
}

static void on_chunk (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct op *o = arg;
	struct err e = { 0 };

	(void) r;
	o->pending--;
	if (!o->s.call) { /* answered by the results themselves */
		submission_stored (o);
		return;
	}
	if (err && (err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT)) {
		doubt (o);
		return;
	}
	err = rds_error (reply, err, &e);
	if (!err) {
		chunk_acked (o);
		return;
	}
	if (err->code == ERR_NOT_FOUND) {
		if (tell_endpoint (o)) {
			send_chunk (o, o->sent);
			return;
		}
	} else if (reply && reply->str && strstr (reply->str, "LIMIT"))
		submission_fail_as (o, FAIL_QUEUE_FULL, "the endpoint's queue is full, %s; try again later", submission_kept (o));
	else
		submission_fail_err (o, err);
	submission_fail (o);
}

/* Tasks from `from` that go in one chunk: the same endpoint. */
size_t submission_chunk_end (const struct op *o, size_t from)
{
	size_t end = from;

	while (end < o->s.ntasks && end - from < LAYOUT_SUBMIT_CHUNK && id_eq (&o->s.tasks[end].endpoint, &o->s.tasks[from].endpoint))
		end++;
	return end;
}

static void encode (struct op *o, const struct submission_task *t, int64_t now, struct buf *b, struct layout_submit_task *out)
{
	bool apart = t->payload_bytes > QUEUE_INLINE_MAX;
	struct layout_meta m = { .owner = o->owner, .function = t->function, .endpoint = t->endpoint, .group = o->s.group,
				 .submitted_ns = o->received_ns, .payload_bytes = t->payload_bytes,
				 .payload_apart = apart, .payload_bulk = submission_goes_bulk (o, t) };
	struct layout_queued q = { .task = t->task, .function = t->function, .received_ns = o->received_ns, .queued_ns = now,
				   .time_limit_ms = o->s.limits.time_limit_ms, .max_result_bytes = o->s.limits.max_result_bytes,
				   .payload_bytes = t->payload_bytes, .memory_limit_bytes = o->s.limits.memory_limit_bytes,
				   .expected_s = o->s.limits.expected_s, .payload_apart = apart, .payload_bulk = submission_goes_bulk (o, t),
				   .payload_is_json = t->is_json, .fresh = o->s.fresh, .as_json = o->s.as_json, .as_all = o->s.as_all,
				   .files = wire_str ((char *) o->s.files.data, o->s.files.len),
				   .resources = wire_str ((char *) o->s.resources.data, o->s.resources.len) };
	size_t at = b->len;

	if (!apart)
		q.payload = wire_str (t->payload, t->payload_bytes);
	out->task = t->task;
	layout_meta_encode (b, &m);
	out->meta = wire_str (NULL, b->len - at); /* the buffer may move yet: pointers are set at the end */
	at = b->len;
	layout_queued_encode (b, &q);
	out->queued = wire_str (NULL, b->len - at);
}

static void send_chunk (struct op *o, size_t end)
{
	struct layout_submit_task tasks[LAYOUT_SUBMIT_CHUNK];
	size_t from = chunk_start (o), n = end - from;
	int64_t now = clock_real_ns ();
	struct layout_submission s = { .owner = o->owner, .endpoint = o->s.tasks[from].endpoint, .group = o->s.group, .group_key = o->group_key,
				       .group_given = o->s.group_given, .watch = o->s.watch,
				       .now_ns = o->received_ns, .max_queued = (uint64_t) o->app->config->queue_tasks,
				       .retention_ms = o->app->config->retention_ms, .tasks = tasks, .ntasks = n };
	struct buf b;
	char *p;

	buf_init (&b, 0);
	for (size_t i = 0; i < n; i++)
		encode (o, &o->s.tasks[from + i], now, &b, &tasks[i]);
	p = (char *) b.data;
	for (size_t i = 0; i < n; i++) {
		tasks[i].meta.p = p;
		p += tasks[i].meta.n;
		tasks[i].queued.p = p;
		p += tasks[i].queued.n;
	}
	if (o->waiter)
		s.waiter = waiters_instance (o->app->waiters);
	o->sent = end;
	o->pending++;
	layout_submit_send (o->app->redis, &s, on_chunk, o);
	buf_fini (&b);
	if (end == o->s.ntasks && o->waiter && !o->waiting) {
		o->waiting = true;
		waiter_start (o->waiter, o->s.wait_ms);
	}
}

/* The chunk follows when all payloads of it stand; else nothing of it stays that was not there before. */
static void payloads_done (struct op *o, size_t end)
{
	if (o->pending)
		return;
	if (!o->err.code) {
		send_chunk (o, end);
		return;
	}
	submission_fail (o);
}

static void on_payload (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct op *o = arg;
	struct err e = { 0 };
	size_t end = submission_chunk_end (o, chunk_start (o));

	(void) r;
	o->pending--;
	err = rds_error (reply, err, &e);
	if (err)
		submission_fail_err (o, err);
	payloads_done (o, end);
}

/* A large payload's file; false: it cannot be written. */
static bool put_bulk (struct op *o, const struct submission_task *t)
{
	struct bulk_ref ref;
	struct err err;

	bulk_ref_payload (&ref, &t->task, t->payload_bytes);
	if (bulk_put (o->app->bulk, &ref, t->payload, &err) == 0)
		return true;
	log_err (LOG_ERROR, MOD, "a payload cannot be stored", &err);
	if (!o->err.code) {
		o->err = err;
		o->why = err.code == ERR_LIMIT ? FAIL_STORAGE_FULL : FAIL_UNAVAILABLE;
		err_prefix (&o->err, err.code == ERR_LIMIT ? "the task store is full, %s" : "the task store cannot be written to right now, %s",
			    submission_kept (o));
	}
	return false;
}

void submission_chunk_next (struct op *o)
{
	size_t from = chunk_start (o), end = submission_chunk_end (o, from);
	char key[LAYOUT_KEY_MAX], ms[DECIMAL_MAX];
	const char *argv[5] = { "SET", key, NULL, "PX", ms };
	size_t len[5] = { 3, 0, 0, 2, decimal_put (ms, o->app->config->retention_ms) };

	for (size_t i = from; i < end; i++) {
		const struct submission_task *t = &o->s.tasks[i];
		if (t->payload_bytes <= QUEUE_INLINE_MAX)
			continue;
		o->touched = end;
		if (submission_goes_bulk (o, t)) {
			if (!put_bulk (o, t))
				break;
			continue;
		}
		o->pending++;
		len[1] = layout_key (key, "task", &t->task, "payload");
		argv[2] = t->payload;
		len[2] = t->payload_bytes;
		rds_command (o->app->redis, on_payload, o, 5, argv, len);
	}
	payloads_done (o, end);
}
