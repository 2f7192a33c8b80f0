/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in Redis: key names, the packed records, the scripts. SPEC.md, section 8.
 *
 * Meta and queue record have a version byte instead of fixed_bytes: they are read by programs of the same installation
 * only, and every task costs their bytes in Redis's memory. */
#include "proto/layout.h"
#include "common/decimal.h"
#include "common/xmem.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/wire_record.h"

#define META_VERSION 1
#define QUEUED_VERSION 2	/* 1 had all fields, whatever their values; it is still read */
#define QUEUED_VERSION_FILES 3
#define QUEUED_VERSION_RESOURCES 4
#define QUEUED_RESOURCES_MAX 4096	/* without an environment, which comes later */
#define FLAG_APART 1
#define FLAG_JSON 2
#define FLAG_BULK 4
#define FLAG_FRESH 8	/* of a queue record */
#define FLAG_WATCHED 8	/* of a meta */
#define FLAG_LIMITS 16	/* of a queue record, as what follows */
#define FLAG_AS_JSON 32
#define FLAG_AS_ALL 64
#define QUEUED_FIXED 52
#define QUEUED_LIMITS 16
#define QUEUED_MAX (QUEUED_FIXED + QUEUED_LIMITS + 4 + 2 + 2)
#define QUEUED_TASK_AT 4	/* in every version */
#define DONE_FIXED 17
#define ENDED_FIXED 19
#define GROUP_HEADER 24
#define NUMBER_TEXT 24
#define STORE_HEAD 24		/* of a RESULT record: what store.lua looks at */
#define SUBMIT_KEYS 5	/* before the task hashes */
#define SUBMIT_ARGS 8	/* before the pairs of the tasks */

static const char submit_body[] = {
#include "proto/lua/submit.lua.inc"
	, 0 };
static const char store_body[] = {
#include "proto/lua/store.lua.inc"
	, 0 };
static const char undo_body[] = {
#include "proto/lua/undo.lua.inc"
	, 0 };
static const char wait_body[] = {
#include "proto/lua/wait.lua.inc"
	, 0 };
static const char progress_body[] = {
#include "proto/lua/progress.lua.inc"
	, 0 };
static const char lease_body[] = {
#include "proto/lua/lease.lua.inc"
	, 0 };

static const char peek_body[] = {
#include "proto/lua/peek.lua.inc"
	, 0 };
static const char watch_body[] = {
#include "proto/lua/watch.lua.inc"
	, 0 };

static const char deleted_body[] = {
#include "proto/lua/deleted.lua.inc"
	, 0 };
static const char emptied_body[] = {
#include "proto/lua/emptied.lua.inc"
	, 0 };
static const char acked_body[] = {
#include "proto/lua/acked.lua.inc"
	, 0 };

struct rds_script layout_submit = { .name = "submit", .body = submit_body };
struct rds_script layout_store = { .name = "store", .body = store_body };
struct rds_script layout_undo = { .name = "undo", .body = undo_body };
struct rds_script layout_wait = { .name = "wait", .body = wait_body };
struct rds_script layout_progress = { .name = "progress", .body = progress_body };
struct rds_script layout_lease = { .name = "lease", .body = lease_body };
struct rds_script layout_peek = { .name = "peek", .body = peek_body };
struct rds_script layout_watch = { .name = "watch", .body = watch_body };
struct rds_script layout_deleted = { .name = "deleted", .body = deleted_body };
struct rds_script layout_emptied = { .name = "emptied", .body = emptied_body };
struct rds_script layout_acked = { .name = "acked", .body = acked_body };

/* ---- keys ---- */

size_t layout_key (char key[LAYOUT_KEY_MAX], const char *kind, const struct id *id, const char *suffix)
{
	char *p = key;
	assert (strlen (kind) + (suffix ? strlen (suffix) : 0) + ID_TEXT + 10 < LAYOUT_KEY_MAX);
	p = stpcpy (p, "weft:");
	p = stpcpy (p, kind);
	p = stpcpy (p, ":{");
	id_text (id, p);
	p += ID_TEXT - 1;
	p = stpcpy (p, "}");
	if (suffix) {
		*p++ = ':';
		p = stpcpy (p, suffix);
	}
	return (size_t) (p - key);
}

/* ---- records ---- */

void layout_meta_encode (struct buf *b, const struct layout_meta *m)
{
	uint8_t fixed[LAYOUT_META_BYTES];
	struct wire_writer w = { fixed };
	wire_w8 (&w, META_VERSION);
	wire_w8 (&w, (uint8_t) ((m->payload_apart ? FLAG_APART : 0) | (m->payload_bulk ? FLAG_BULK : 0) | (m->watched ? FLAG_WATCHED : 0)));
	wire_wid (&w, &m->owner);
	wire_wid (&w, &m->function);
	wire_wid (&w, &m->endpoint);
	wire_wid (&w, &m->group);
	wire_w64 (&w, (uint64_t) m->submitted_ns);
	wire_w32 (&w, m->payload_bytes);
	wire_record_add (b, fixed, sizeof (fixed), NULL, 0);
}

int layout_meta_decode (struct layout_meta *m, const void *p, size_t n, struct err *err)
{
	if (n != LAYOUT_META_BYTES)
		return err_set (err, ERR_INVALID, FAULT_SITE, "meta of %zu bytes, not %d", n, LAYOUT_META_BYTES);
	struct wire_reader r = { p, n, false };
	uint8_t version = wire_get_u8 (&r);
	if (version != META_VERSION)
		return err_set (err, ERR_INVALID, FAULT_SITE, "meta of version %u, not %d", version, META_VERSION);
	uint8_t flags = wire_get_u8 (&r);
	m->payload_apart = (flags & FLAG_APART) != 0;
	m->payload_bulk = (flags & FLAG_BULK) != 0;
	m->watched = (flags & FLAG_WATCHED) != 0;
	if (m->payload_bulk && !m->payload_apart)
		return wire_bad_value ("meta", "flags", flags, err);
	wire_get_id (&r, &m->owner);
	wire_get_id (&r, &m->function);
	wire_get_id (&r, &m->endpoint);
	wire_get_id (&r, &m->group);
	m->submitted_ns = wire_get_i64 (&r);
	m->payload_bytes = wire_get_u32 (&r);
	if (m->payload_bytes > WIRE_MAX_PAYLOAD)
		return err_set (err, ERR_TOO_LARGE, FAULT_SITE, "meta: payload of %u bytes, at most %u", m->payload_bytes,
				WIRE_MAX_PAYLOAD);
	return 0;
}

void layout_queued_encode (struct buf *b, const struct layout_queued *q)
{
	uint8_t fixed[QUEUED_MAX];
	struct wire_writer w = { fixed };
	bool limits = q->time_limit_ms || q->memory_limit_bytes || q->max_result_bytes;
	struct wire_str payload = q->payload_apart ? WIRE_STR ("") : q->payload, parts[] = { q->files, q->resources, payload };
	uint32_t payload_bytes = q->payload_apart ? q->payload_bytes : (uint32_t) payload.n;
	if (payload.n > WIRE_MAX_PAYLOAD || payload_bytes > WIRE_MAX_PAYLOAD || q->files.n > FILES_MAX_BYTES ||
	    q->resources.n > QUEUED_RESOURCES_MAX) {
		wire_refuse (b);
		return;
	}
	wire_w8 (&w, q->resources.n ? QUEUED_VERSION_RESOURCES : q->files.n ? QUEUED_VERSION_FILES : QUEUED_VERSION);
	wire_w8 (&w, (uint8_t) ((q->payload_apart ? FLAG_APART : 0) | (q->payload_is_json ? FLAG_JSON : 0) |
				(q->payload_bulk ? FLAG_BULK : 0) |
				(q->fresh ? FLAG_FRESH : 0) | (limits ? FLAG_LIMITS : 0) |
				(q->as_json ? FLAG_AS_JSON : 0) | (q->as_all ? FLAG_AS_ALL : 0)));
	wire_w16 (&w, q->expected_s);
	wire_wid (&w, &q->task);
	wire_wid (&w, &q->function);
	wire_w64 (&w, (uint64_t) q->received_ns);
	wire_w64 (&w, (uint64_t) q->queued_ns);
	if (limits) {
		wire_w32 (&w, q->time_limit_ms);
		wire_w64 (&w, q->memory_limit_bytes);
		wire_w32 (&w, q->max_result_bytes);
	}
	if (q->payload_apart)
		wire_w32 (&w, payload_bytes);
	if (q->files.n || q->resources.n)
		wire_w16 (&w, (uint16_t) q->files.n);
	if (q->resources.n)
		wire_w16 (&w, (uint16_t) q->resources.n);
	wire_record_add (b, fixed, (size_t) (w.p - fixed), parts, 3);
}

int layout_queued_decode (struct layout_queued *q, const void *p, size_t n, struct err *err)
{
	struct wire_reader r = { p, n, false };
	uint8_t version = wire_get_u8 (&r), flags = wire_get_u8 (&r);
	bool all = version == 1, limits = all || (flags & FLAG_LIMITS);
	bool resources = version == QUEUED_VERSION_RESOURCES, files = resources || version == QUEUED_VERSION_FILES;
	size_t file_bytes, resource_bytes;
	if (n && version != QUEUED_VERSION && !all && !files)
		return err_set (err, ERR_VERSION, FAULT_SITE, "queue record of version %u, at most %d", version, QUEUED_VERSION_RESOURCES);
	q->expected_s = wire_get_u16 (&r);
	wire_get_id (&r, &q->task);
	wire_get_id (&r, &q->function);
	q->received_ns = wire_get_i64 (&r);
	q->queued_ns = wire_get_i64 (&r);
	q->time_limit_ms = limits ? wire_get_u32 (&r) : 0;
	q->memory_limit_bytes = limits ? wire_get_u64 (&r) : 0;
	q->max_result_bytes = limits ? wire_get_u32 (&r) : 0;
	q->payload_apart = (flags & FLAG_APART) != 0;
	q->payload_bytes = all || q->payload_apart ? wire_get_u32 (&r) : 0;
	file_bytes = files ? wire_get_u16 (&r) : 0;
	if (file_bytes > FILES_MAX_BYTES)
		return err_set (err, ERR_TOO_LARGE, FAULT_SITE, "queue record: files of %zu bytes, at most %d", file_bytes, FILES_MAX_BYTES);
	resource_bytes = resources ? wire_get_u16 (&r) : 0;
	if (resource_bytes > QUEUED_RESOURCES_MAX)
		return err_set (err, ERR_TOO_LARGE, FAULT_SITE, "queue record: resources of %zu bytes, at most %d", resource_bytes, QUEUED_RESOURCES_MAX);
	q->files = wire_get_bytes (&r, file_bytes);
	q->resources = wire_get_bytes (&r, resource_bytes);
	if (!all && !q->payload_apart)
		q->payload_bytes = (uint32_t) (r.left > WIRE_MAX_PAYLOAD ? WIRE_MAX_PAYLOAD + 1u : r.left);
	if (r.bad || (files && !resources && !file_bytes) || (resources && !resource_bytes))
		return err_set (err, ERR_INVALID, FAULT_SITE, "queue record of %zu bytes is too short%s", n,
				r.bad ? "" : resources ? " for its resources" : " for its files");
	q->payload_is_json = (flags & FLAG_JSON) != 0;
	q->fresh = (flags & FLAG_FRESH) != 0;
	q->as_json = (flags & FLAG_AS_JSON) != 0;
	q->as_all = (flags & FLAG_AS_ALL) != 0;
	q->payload_bulk = (flags & FLAG_BULK) != 0;
	if (q->payload_bulk && !q->payload_apart)
		return wire_bad_value ("queue record", "flags", flags, err);
	if (q->payload_bytes > WIRE_MAX_PAYLOAD)
		return err_set (err, ERR_TOO_LARGE, FAULT_SITE, "queue record: payload of %u bytes, at most %u",
				q->payload_bytes, WIRE_MAX_PAYLOAD);
	if (r.left != (q->payload_apart ? 0 : q->payload_bytes))
		return err_set (err, ERR_INVALID, FAULT_SITE, "queue record has %zu bytes of payload, says %u", r.left,
				q->payload_bytes);
	q->payload = wire_get_bytes (&r, r.left);
	return 0;
}

int layout_queued_task (const void *p, size_t n, struct id *task)
{
	struct wire_reader r = { p, n, false };

	if (n < QUEUED_TASK_AT + ID_BYTES)
		return -1;
	wire_get_bytes (&r, QUEUED_TASK_AT);
	wire_get_id (&r, task);
	return 0;
}

int layout_done_decode (struct layout_done *d, const void *p, size_t n, struct err *err)
{
	if (n < DONE_FIXED)
		return err_set (err, ERR_INVALID, FAULT_SITE, "done message of %zu bytes, at least %d", n, DONE_FIXED);
	if (n - DONE_FIXED > WIRE_MAX_RECORD)
		return err_set (err, ERR_TOO_LARGE, FAULT_SITE, "done message of %zu bytes", n);
	struct wire_reader r = { p, n, false };
	wire_get_id (&r, &d->task);
	d->state = wire_get_u8 (&r);
	if (d->state < STATE_SUCCESS || d->state > STATE_CANCELLED)
		return wire_bad_value ("done message", "state", d->state, err);
	d->record = wire_get_bytes (&r, r.left);
	return 0;
}

int layout_ended_decode (struct layout_ended *d, const void *p, size_t n, struct err *err)
{
	struct wire_reader r = { p, n, false };
	uint8_t len, meta;

	if (n < ENDED_FIXED)
		return err_set (err, ERR_INVALID, FAULT_SITE, "ended message of %zu bytes, at least %d", n, ENDED_FIXED);
	wire_get_id (&r, &d->task);
	d->state = wire_get_u8 (&r);
	len = wire_get_u8 (&r);
	meta = wire_get_u8 (&r);
	if (d->state < STATE_SUCCESS || d->state > STATE_CANCELLED)
		return wire_bad_value ("ended message", "state", d->state, err);
	if (!len || len > LAYOUT_POSITION_MAX || len > r.left)
		return wire_bad_value ("ended message", "position length", len, err);
	d->position = wire_get_bytes (&r, len);
	if (meta > r.left)
		return wire_bad_value ("ended message", "meta length", meta, err);
	d->meta = wire_get_bytes (&r, meta);
	if (r.left > WIRE_MAX_RECORD)
		return err_set (err, ERR_TOO_LARGE, FAULT_SITE, "ended message of %zu bytes", n);
	d->record = wire_get_bytes (&r, r.left);
	return 0;
}

/* ---- scripts ---- */

/* Arguments of one call: slices that live until rds_script returns. */
struct args {
	const char **argv;
	size_t *len;
	int n;
};

static void arg_bytes (struct args *a, const char *p, size_t n)
{
	a->argv[a->n] = p;
	a->len[a->n++] = n;
}

static void arg_text (struct args *a, const char *s) { arg_bytes (a, s, strlen (s)); }

static void arg_number (struct args *a, char text[NUMBER_TEXT], int64_t v)
{
	arg_bytes (a, text, decimal_put (text, v));
}

static void arg_digit (struct args *a, char digit[1], int v)
{
	digit[0] = (char) ('0' + v);
	arg_bytes (a, digit, 1);
}

void layout_submit_send (struct rds *r, const struct layout_submission *s, rds_f *cb, void *arg)
{
	enum { MAX_ARGS = SUBMIT_KEYS + SUBMIT_ARGS + 3 * LAYOUT_SUBMIT_CHUNK };
	const char *argv[MAX_ARGS];
	size_t len[MAX_ARGS];
	char keys[SUBMIT_KEYS + LAYOUT_SUBMIT_CHUNK][LAYOUT_KEY_MAX], packed[LAYOUT_SUBMIT_CHUNK * ID_BYTES];
	char endpoint[ID_TEXT], max_queued[NUMBER_TEXT], retention[NUMBER_TEXT], now[NUMBER_TEXT];
	uint8_t header[GROUP_HEADER];
	struct wire_writer w = { header };
	struct args a = { argv, len, 0 };

	assert (s->ntasks > 0 && s->ntasks <= LAYOUT_SUBMIT_CHUNK);
	arg_bytes (&a, keys[0], layout_key (keys[0], "ep", &s->endpoint, "tasks"));
	arg_bytes (&a, keys[1], layout_key (keys[1], "owner", &s->owner, "tasks"));
	arg_bytes (&a, keys[2], s->group_key ? layout_key (keys[2], "group", &s->group, NULL) : 0);
	arg_bytes (&a, keys[3], s->group_given || s->watch ? layout_key (keys[3], "group", &s->group, "watch") : 0);
	arg_bytes (&a, keys[4], layout_key (keys[4], "ep", &s->endpoint, NULL));
	for (size_t i = 0; i < s->ntasks; i++) {
		char *key = keys[SUBMIT_KEYS + i];
		arg_bytes (&a, key, layout_key (key, "task", &s->tasks[i].task, NULL));
		memcpy (packed + i * ID_BYTES, s->tasks[i].task.b, ID_BYTES);
	}
	arg_number (&a, max_queued, (int64_t) s->max_queued);
	arg_number (&a, retention, s->retention_ms);
	arg_number (&a, now, s->now_ns / 1000000);
	arg_bytes (&a, packed, s->ntasks * ID_BYTES);
	arg_text (&a, id_text (&s->endpoint, endpoint));
	wire_wid (&w, &s->owner);
	wire_w64 (&w, (uint64_t) s->now_ns);
	arg_bytes (&a, (char *) header, s->group_key ? sizeof (header) : 0);
	arg_text (&a, s->waiter ? s->waiter : "");
	arg_text (&a, !s->watch ? "" : s->group_given ? LAYOUT_WATCH_NEW : LAYOUT_WATCH_ALL);
	for (size_t i = 0; i < s->ntasks; i++) {
		arg_bytes (&a, s->tasks[i].meta.p, s->tasks[i].meta.n);
		arg_bytes (&a, s->tasks[i].queued.p, s->tasks[i].queued.n);
	}
	rds_script (r, &layout_submit, cb, arg, (int) (SUBMIT_KEYS + s->ntasks), a.n, argv, len);
}

/* One of the scripts that see all that there is of an endpoint. */
static void endpoint_script (struct rds *r, struct rds_script *script, const struct id *endpoint, rds_f *cb, void *arg)
{
	static const char *const parts[] = { NULL, "tasks", "control", "cancelled", "functions" };
	enum { PARTS = sizeof (parts) / sizeof (parts[0]), SETS = 2 };
	const char *argv[PARTS + SETS + 1];
	size_t len[PARTS + SETS + 1];
	char keys[PARTS][LAYOUT_KEY_MAX], id[ID_TEXT];
	struct args a = { argv, len, 0 };

	for (int i = 0; i < PARTS; i++)
		arg_bytes (&a, keys[i], layout_key (keys[i], "ep", endpoint, parts[i]));
	arg_text (&a, "weft:eps");
	arg_text (&a, "weft:eps:deleted");
	arg_text (&a, id_text (endpoint, id));
	rds_script (r, script, cb, arg, PARTS + SETS, a.n, argv, len);
}

void layout_deleted_send (struct rds *r, const struct id *endpoint, rds_f *cb, void *arg)
{
	endpoint_script (r, &layout_deleted, endpoint, cb, arg);
}

void layout_emptied_send (struct rds *r, const struct id *endpoint, rds_f *cb, void *arg)
{
	endpoint_script (r, &layout_emptied, endpoint, cb, arg);
}

static void on_placed (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	(void) r;
	(void) reply;
	(void) err;
	(void) arg;
}

/* cancelled_at: NULL, or the endpoint that is told. */
static void store (struct rds *r, const struct id *task, const struct id *cancelled_at, int state, struct wire_str record, int64_t retention_ms,
		   rds_f *cb, void *arg)
{
	const char *argv[9];
	size_t len[9];
	int nkeys = cancelled_at ? 4 : 2;
	char keys[4][LAYOUT_KEY_MAX], digit[1], retention[NUMBER_TEXT], inline_max[NUMBER_TEXT], size[NUMBER_TEXT];
	bool apart = record.n > DONE_INLINE_MAX;
	struct args a = { argv, len, 0 };

	arg_bytes (&a, keys[0], layout_key (keys[0], "task", task, NULL));
	arg_bytes (&a, keys[1], layout_key (keys[1], "task", task, "payload"));
	if (cancelled_at) {
		arg_bytes (&a, keys[2], layout_key (keys[2], "ep", cancelled_at, "cancelled"));
		arg_bytes (&a, keys[3], layout_key (keys[3], "ep", cancelled_at, "control"));
	}
	arg_digit (&a, digit, state);
	arg_bytes (&a, record.p, apart ? STORE_HEAD : record.n);
	arg_number (&a, retention, retention_ms);
	arg_number (&a, inline_max, DONE_INLINE_MAX);
	if (apart) {
		/* Around the script: see its head. When this one fails, the script says so. */
		rds_commandf (r, on_placed, NULL, "HSETNX %b r %b", keys[0], len[0], record.p, record.n);
		arg_number (&a, size, (int64_t) record.n);
	}
	rds_script (r, &layout_store, cb, arg, nkeys, a.n, argv, len);
}

void layout_store_send (struct rds *r, const struct id *task, int state, struct wire_str record, int64_t retention_ms,
			rds_f *cb, void *arg)
{
	store (r, task, NULL, state, record, retention_ms, cb, arg);
}

void layout_cancel_send (struct rds *r, const struct id *task, const struct id *endpoint, struct wire_str record, int64_t retention_ms,
			 rds_f *cb, void *arg)
{
	store (r, task, endpoint, STATE_CANCELLED, record, retention_ms, cb, arg);
}

void layout_undo_send (struct rds *r, const char *claim, struct wire_str ours, const struct layout_undo_part *parts, size_t nparts, rds_f *cb, void *arg)
{
	const char **argv = xcalloc (2 + 3 * nparts, sizeof (*argv));
	size_t *len = xcalloc (2 + 3 * nparts, sizeof (*len));
	char (*keys)[2][LAYOUT_KEY_MAX] = xcalloc (nparts + 1, sizeof (*keys));
	struct args a = { argv, len, 0 };

	arg_text (&a, claim ? claim : "");
	for (size_t i = 0; i < nparts; i++) {
		arg_bytes (&a, keys[i][0], layout_key (keys[i][0], "ep", &parts[i].endpoint, "cancelled"));
		arg_bytes (&a, keys[i][1], layout_key (keys[i][1], "ep", &parts[i].endpoint, "control"));
	}
	arg_bytes (&a, ours.p, ours.n);
	for (size_t i = 0; i < nparts; i++)
		arg_bytes (&a, parts[i].tasks.p, parts[i].tasks.n);
	rds_script (r, &layout_undo, cb, arg, (int) (1 + 2 * nparts), a.n, argv, len);
	free (keys);
	free (len);
	free (argv);
}

void layout_wait_send (struct rds *r, const struct id *task, const char *instance, rds_f *cb, void *arg)
{
	const char *argv[2];
	size_t len[2];
	char key[LAYOUT_KEY_MAX];
	struct args a = { argv, len, 0 };

	arg_bytes (&a, key, layout_key (key, "task", task, NULL));
	arg_text (&a, instance);
	rds_script (r, &layout_wait, cb, arg, 1, a.n, argv, len);
}

void layout_progress_send (struct rds *r, const struct id *task, int state, rds_f *cb, void *arg)
{
	const char *argv[2];
	size_t len[2];
	char key[LAYOUT_KEY_MAX], digit[1];
	struct args a = { argv, len, 0 };

	arg_bytes (&a, key, layout_key (key, "task", task, NULL));
	arg_digit (&a, digit, state);
	rds_script (r, &layout_progress, cb, arg, 1, a.n, argv, len);
}

void layout_output_send (struct rds *r, const struct id *task, struct wire_str record)
{
	char key[LAYOUT_KEY_MAX];

	layout_key (key, "task", task, "output");
	rds_commandf (r, NULL, NULL, "SET %s %b PX " LAYOUT_OUTPUT_MS, key, record.p, record.n);
}

void layout_watch_send (struct rds *r, const struct id *group, const struct id *tasks, size_t ntasks, int64_t retention_ms, rds_f *cb, void *arg)
{
	const char *argv[2 + 2 * LAYOUT_WATCH_CHUNK];
	size_t len[2 + 2 * LAYOUT_WATCH_CHUNK];
	char keys[1 + LAYOUT_WATCH_CHUNK][LAYOUT_KEY_MAX], retention[NUMBER_TEXT];
	struct args a = { argv, len, 0 };

	assert (ntasks > 0 && ntasks <= LAYOUT_WATCH_CHUNK);
	arg_bytes (&a, keys[0], layout_key (keys[0], "group", group, "done"));
	for (size_t i = 0; i < ntasks; i++)
		arg_bytes (&a, keys[1 + i], layout_key (keys[1 + i], "task", &tasks[i], NULL));
	arg_number (&a, retention, retention_ms);
	for (size_t i = 0; i < ntasks; i++)
		arg_bytes (&a, (const char *) tasks[i].b, ID_BYTES);
	rds_script (r, &layout_watch, cb, arg, (int) (1 + ntasks), a.n, argv, len);
}

void layout_peek_send (struct rds *r, const struct id *task, size_t record_max, rds_f *cb, void *arg)
{
	const char *argv[2];
	size_t len[2];
	char key[LAYOUT_KEY_MAX], max[NUMBER_TEXT];
	struct args a = { argv, len, 0 };

	arg_bytes (&a, key, layout_key (key, "task", task, NULL));
	arg_number (&a, max, (int64_t) record_max);
	rds_script (r, &layout_peek, cb, arg, 1, a.n, argv, len);
}

void layout_group_create_send (struct rds *r, const struct id *group, const struct id *owner, int64_t now_ns, int64_t retention_ms,
			       rds_f *cb, void *arg)
{
	char list[LAYOUT_KEY_MAX], watch[LAYOUT_KEY_MAX];
	uint8_t header[GROUP_HEADER];
	struct wire_writer w = { header };

	layout_key (list, "group", group, NULL);
	layout_key (watch, "group", group, "watch");
	wire_wid (&w, owner);
	wire_w64 (&w, (uint64_t) now_ns);
	rds_commandf (r, cb, arg, "SET %s " LAYOUT_WATCH_ALL " PX %" PRId64, watch, retention_ms);
	rds_commandf (r, cb, arg, "RPUSH %s %b", list, header, sizeof (header));
	rds_commandf (r, NULL, NULL, "PEXPIRE %s %" PRId64, list, retention_ms);
}

void layout_acked_send (struct rds *r, const struct id *group, uint64_t ms, uint64_t seq, uint64_t count, int64_t retention_ms, rds_f *cb, void *arg)
{
	const char *argv[5];
	size_t len[5];
	char key[LAYOUT_KEY_MAX], numbers[4][NUMBER_TEXT];
	struct args a = { argv, len, 0 };

	arg_bytes (&a, key, layout_key (key, "group", group, "acked"));
	arg_number (&a, numbers[0], (int64_t) ms);
	arg_number (&a, numbers[1], (int64_t) seq);
	arg_number (&a, numbers[2], (int64_t) count);
	arg_number (&a, numbers[3], retention_ms);
	rds_script (r, &layout_acked, cb, arg, 1, a.n, argv, len);
}

void layout_lease_send (struct rds *r, const struct id *endpoint, const char *op, const char *owner, int64_t ttl_ms,
			rds_f *cb, void *arg)
{
	const char *argv[4];
	size_t len[4];
	char key[LAYOUT_KEY_MAX], ttl[NUMBER_TEXT];
	struct args a = { argv, len, 0 };

	arg_bytes (&a, key, layout_key (key, "ep", endpoint, "lease"));
	arg_text (&a, op);
	arg_text (&a, owner);
	arg_number (&a, ttl, ttl_ms);
	rds_script (r, &layout_lease, cb, arg, 1, a.n, argv, len);
}
