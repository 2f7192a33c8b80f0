/* SPDX-License-Identifier: Apache-2.0 */
/* One XRANGE, then the tasks of its entries, WINDOW at a time: replies come in the order of the commands, so ends are told in order. */
#include "service/ends.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "common/xmem.h"

#define MOD "ends"
#define WINDOW 64
#define WINDOW_LARGE 4		/* when records of any size are read */

struct entry { struct ends *e; struct ends_at at; struct id task; int state; };

struct ends {
	struct app *app;
	struct ends_at last, page_end;	/* told up to here; the last entry that was read */
	size_t limit, record_max;
	const struct ends_ops *ops;	/* NULL: cancelled */
	void *arg;
	struct entry *entries;
	size_t n, next, inflight;
	bool full, stopped;
	struct err err;
};

/* ---- places ----------------------------------------------------------------------------------------------------- */

static const char *number (const char *p, const char *end, uint64_t *out)
{
	const char *from = p;
	uint64_t v = 0;

	for (; p < end && *p >= '0' && *p <= '9'; p++) {
		if (v > (UINT64_MAX - (uint64_t) (*p - '0')) / 10)
			return NULL;
		v = v * 10 + (uint64_t) (*p - '0');
	}
	*out = v;
	return p == from ? NULL : p;
}

int ends_at_parse (struct ends_at *at, const char *p, size_t n)
{
	const char *end = p + n;
	struct ends_at v;

	if (!n || !(p = number (p, end, &v.ms)) || p == end || *p != '-' || !(p = number (p + 1, end, &v.seq)) || p != end)
		return -1;
	*at = v;
	return 0;
}

char *ends_at_text (const struct ends_at *at, char out[LAYOUT_POSITION_MAX + 1])
{
	snprintf (out, LAYOUT_POSITION_MAX + 1, "%" PRIu64 "-%" PRIu64, at->ms, at->seq);
	return out;
}

bool ends_at_after (const struct ends_at *a, const struct ends_at *b)
{
	return a->ms != b->ms ? a->ms > b->ms : a->seq > b->seq;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static void pump (struct ends *e);

static void finish (struct ends *e)
{
	if (!e->stopped && !e->err.code && ends_at_after (&e->page_end, &e->last))
		e->last = e->page_end;	/* also past entries that nobody can read */
	if (e->ops)
		e->ops->on_page (&e->last, e->full || e->stopped, e->err.code ? &e->err : NULL, e->arg);
	free (e->entries);
	free (e);
}

/* What stands in Redis of an ended task. A record that has expired is no end any more. */
static void tell (struct entry *it, const struct redisReply *reply)
{
	struct ends *e = it->e;
	struct layout_meta meta;
	struct msg_result m;
	struct err err = { 0 };
	struct doc_task t = { .task = it->task, .state = it->state, .meta = &meta, .bulk = e->app->bulk };
	const struct redisReply *record;

	e->last = it->at;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 4 || reply->element[0]->type != REDIS_REPLY_STRING)
		return;
	record = reply->element[2];
	if (layout_meta_decode (&meta, reply->element[0]->str, reply->element[0]->len, &err) < 0 ||
	    (record->type == REDIS_REPLY_STRING && msg_result_decode (&m, record->str, record->len, &err) < 0)) {
		log_err (LOG_ERROR, MOD, "damaged task in Redis", &err);
		return;
	}
	if (record->type == REDIS_REPLY_STRING)
		t.result = &m;
	else
		t.by_reference = (uint64_t) reply->element[3]->integer;
	if (t.result && m.flags & RESULT_BULK && m.bulk.bytes > e->record_max)
		t.by_reference = m.bulk.bytes;
	if (!e->ops->on_end (&it->at, &t, e->arg))
		e->stopped = true;
}

static void on_task (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct entry *it = arg;
	struct ends *e = it->e;
	struct err fault = { 0 };

	(void) r;
	e->inflight--;
	err = rds_error (reply, err, &fault);
	if (err && !e->err.code)
		e->err = *err;
	if (!e->err.code && !e->stopped && e->ops)
		tell (it, reply);
	pump (e);
}

static void pump (struct ends *e)
{
	size_t window = e->record_max > DONE_INLINE_MAX ? WINDOW_LARGE : WINDOW;

	while (e->inflight < window && e->next < e->n && !e->stopped && !e->err.code && e->ops) {
		struct entry *it = &e->entries[e->next++];
		e->inflight++;
		layout_peek_send (e->app->redis, &it->task, e->record_max, on_task, it);
	}
	if (!e->inflight)
		finish (e);
}

/* {id, {t, task, s, state}} */
static bool read_entry (const struct redisReply *r, struct entry *out)
{
	const struct redisReply *kv;

	if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[0]->type != REDIS_REPLY_STRING ||
	    ends_at_parse (&out->at, r->element[0]->str, r->element[0]->len) < 0)
		return false;
	kv = r->element[1];
	if (kv->type != REDIS_REPLY_ARRAY || kv->elements != 4 || kv->element[1]->len != ID_BYTES || kv->element[3]->len != 1)
		return false;
	memcpy (out->task.b, kv->element[1]->str, ID_BYTES);
	out->state = kv->element[3]->str[0] - '0';
	return out->state >= STATE_SUCCESS && out->state <= STATE_CANCELLED;
}

static void on_range (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct ends *e = arg;
	struct err fault = { 0 };

	(void) r;
	if ((err = rds_error (reply, err, &fault))) {
		e->err = *err;
		return; /* the other answer is still to come */
	}
	e->entries = xcalloc (reply->elements + 1, sizeof (*e->entries));
	for (size_t i = 0; i < reply->elements; i++) {
		bool good = read_entry (reply->element[i], &e->entries[e->n]);
		e->page_end = e->entries[e->n].at;
		if (good)
			e->entries[e->n++].e = e;
	}
	e->full = reply->elements == e->limit;
}

bool ends_info_read (struct ends_info *out, const struct redisReply *reply)
{
	const struct redisReply *length, *added, *first, *last;
	struct ends_info v;

	if (reply->type != REDIS_REPLY_ARRAY || !(length = rds_member (reply, "length")) || !(added = rds_member (reply, "entries-added")) ||
	    !(first = rds_member (reply, "first-entry")) || !(last = rds_member (reply, "last-generated-id")) || last->type != REDIS_REPLY_STRING ||
	    ends_at_parse (&v.last, last->str, last->len) < 0)
		return false;
	v.first = v.last;
	if (first->type == REDIS_REPLY_ARRAY && ends_at_parse (&v.first, first->element[0]->str, first->element[0]->len) < 0)
		return false;
	v.added = (uint64_t) added->integer;
	v.cut = (uint64_t) (added->integer - length->integer);
	*out = v;
	return true;
}

/* The stream begins behind the place that the reader comes from: what was cut off may have been for it. */
static void on_info (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct ends *e = arg;
	struct ends_info info;

	(void) r;
	if (err && !e->err.code)
		e->err = *err;
	if (!e->err.code && e->ops && ends_info_read (&info, reply) && info.cut && ends_at_after (&info.first, &e->last)) {
		if (info.cut == info.added)
			e->page_end = info.last; /* nothing is left: it is told once */
		e->ops->on_gap (info.cut, e->arg);
	}
	pump (e);
}

struct ends *ends_read (struct app *a, const struct id *group, const struct ends_at *after, size_t limit, size_t record_max,
			const struct ends_ops *ops, void *arg)
{
	struct ends *e = xcalloc (1, sizeof (*e));
	char key[LAYOUT_KEY_MAX], at[LAYOUT_POSITION_MAX + 1];

	*e = (struct ends) { .app = a, .last = *after, .limit = limit, .record_max = record_max, .ops = ops, .arg = arg };
	layout_key (key, "group", group, "done");
	rds_commandf (a->redis, on_range, e, "XRANGE %s (%s + COUNT %d", key, ends_at_text (after, at), (int) limit);
	rds_commandf (a->redis, on_info, e, "XINFO STREAM %s", key); /* behind it: what was cut off before the page was read, it sees */
	return e;
}

void ends_cancel (struct ends **ep)
{
	if (*ep)
		(*ep)->ops = NULL;
	*ep = NULL;
}
