/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's tasks, newest first. Ids come from weft:owner:{owner}:tasks, one entry a chunk of a submission; states and metas from
 * the tasks themselves. A cursor is "<stream id>.<n>": what is older than the n-th id of that entry. One request looks at
 * SCAN_MAX ids at most, so a page may be short, or empty, although there is more. */
#include <ctype.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"
#include "service/api/api.h"
#include "service/call.h"
#include "service/taskdoc.h"

#define LIMIT_MAX 1000
#define SCAN_MAX 20000
#define ENTRIES "16"
#define CURSOR_MAX 64

struct found { struct id task; struct layout_meta meta; int state; bool known; };

struct listing {
	struct call *c;
	size_t limit;
	struct { bool endpoint, function, group; } by;
	struct id endpoint, function, group;
	char status[24];
	char entry[CURSOR_MAX];		/* where to go on: this entry ... */
	size_t left;			/* ... its first `left` ids; SIZE_MAX: all */
	bool end;			/* no more entries */
	struct found *batch;		/* ids being looked at, in order, with their places */
	struct { char entry[CURSOR_MAX]; size_t at; } *places;
	size_t nbatch, inflight, scanned;
	struct id eps[LIMIT_MAX];
	struct found *shown;
	size_t nshown;
	char next[CURSOR_MAX + 24];
	struct err err;
};

static void read_entries (struct listing *l);

static void listing_free (struct listing *l)
{
	free (l->batch);
	free (l->places);
	free (l->shown);
	free (l);
}

/* ---- answer ----------------------------------------------------------------------------------------------------- */

static void on_states (void *arg)
{
	struct listing *l = arg;
	struct buf b;

	buf_init (&b, 0);
	buf_str (&b, "{\"tasks\":[");
	for (size_t i = 0; i < l->nshown; i++) {
		const struct found *f = &l->shown[i];
		struct doc_task d = { .task = f->task, .state = f->state, .meta = &f->meta,
				      .endpoint_offline = !epstate_online (l->c->app->epstate, &f->meta.endpoint),
				      .waiting_reason = epstate_waiting_reason (l->c->app->epstate, &f->meta.endpoint) };
		if (i)
			buf_char (&b, ',');
		doc_brief (&b, &d);
	}
	buf_str (&b, "],\"next_cursor\":");
	if (l->next[0])
		buf_json_string (&b, l->next, strlen (l->next));
	else
		buf_str (&b, "null");
	buf_char (&b, '}');
	call_ok (l->c, &b);
	listing_free (l);
}

static void finish (struct listing *l)
{
	if (l->err.code) {
		call_fail_err (l->c, &l->err, FAIL_TASK_NOT_FOUND);
		listing_free (l);
		return;
	}
	for (size_t i = 0; i < l->nshown; i++)
		l->eps[i] = l->shown[i].meta.endpoint;
	epstate_refresh (l->c->app->epstate, l->eps, l->nshown, on_states, l);
}

/* ---- tasks ------------------------------------------------------------------------------------------------------ */

static bool status_fits (const struct listing *l, int state)
{
	if (!l->status[0])
		return true;
	if (!strcmp (l->status, "pending"))
		return !msg_state_ended (state);
	if (!strcmp (l->status, "received") || !strcmp (l->status, "waiting-for-ep"))
		return state <= STATE_WAITING_FOR_EP;
	return !strcmp (l->status, msg_state_name (state));
}

static bool fits (const struct listing *l, const struct found *f)
{
	return f->known && id_eq (&f->meta.owner, &l->c->who.user) && (!l->by.endpoint || id_eq (&f->meta.endpoint, &l->endpoint)) &&
	       (!l->by.function || id_eq (&f->meta.function, &l->function)) && (!l->by.group || id_eq (&f->meta.group, &l->group)) &&
	       status_fits (l, f->state);
}

static void batch_read (struct listing *l)
{
	for (size_t i = 0; i < l->nbatch && !l->err.code; i++) {
		if (!fits (l, &l->batch[i]))
			continue;
		l->shown[l->nshown++] = l->batch[i];
		if (l->nshown == l->limit) {
			snprintf (l->next, sizeof (l->next), "%s.%zu", l->places[i].entry, l->places[i].at);
			finish (l);
			return;
		}
	}
	l->scanned += l->nbatch;
	l->nbatch = 0;
	if (l->err.code || l->end)
		finish (l);
	else if (l->scanned >= SCAN_MAX) {
		snprintf (l->next, sizeof (l->next), "%s.0", l->entry);
		finish (l);
	} else
		read_entries (l);
}

struct one { struct listing *l; size_t i; };

static void on_task (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct one *o = arg;
	struct listing *l = o->l;
	struct found *f = &l->batch[o->i];
	struct err e = { 0 };

	(void) r;
	free (o);
	err = rds_error (reply, err, &e);
	if (err && !l->err.code)
		l->err = *err;
	if (!err && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[0]->type == REDIS_REPLY_STRING &&
	    layout_meta_decode (&f->meta, reply->element[0]->str, reply->element[0]->len, &e) == 0) {
		f->known = true;
		f->state = reply->element[1]->type == REDIS_REPLY_STRING ? atoi (reply->element[1]->str) : 0;
	}
	if (--l->inflight == 0)
		batch_read (l);
}

static void read_batch (struct listing *l)
{
	char key[LAYOUT_KEY_MAX];

	l->inflight = l->nbatch;
	for (size_t i = 0; i < l->nbatch; i++) {
		struct one *o = xcalloc (1, sizeof (*o));
		*o = (struct one) { l, i };
		layout_key (key, "task", &l->batch[i].task, NULL);
		rds_commandf (l->c->app->redis, on_task, o, "HMGET %s m s", key);
	}
	if (!l->nbatch)
		batch_read (l);
}

/* ---- entries ---------------------------------------------------------------------------------------------------- */

static void take_entry (struct listing *l, const char *entry, const struct redisReply *ids, size_t left)
{
	size_t n = ids->len / ID_BYTES;

	if (left < n)
		n = left;
	l->batch = xrealloc (l->batch, (l->nbatch + n + 1) * sizeof (*l->batch));
	l->places = xrealloc (l->places, (l->nbatch + n + 1) * sizeof (*l->places));
	for (size_t i = n; i-- > 0;) {
		struct found *f = &l->batch[l->nbatch];
		memset (f, 0, sizeof (*f));
		memcpy (f->task.b, ids->str + i * ID_BYTES, ID_BYTES);
		snprintf (l->places[l->nbatch].entry, CURSOR_MAX, "%s", entry);
		l->places[l->nbatch++].at = i;
	}
}

static void on_entries (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct listing *l = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (err || reply->type != REDIS_REPLY_ARRAY) {
		l->err = err ? *err : e;
		finish (l);
		return;
	}
	for (size_t i = 0; i < reply->elements; i++) {
		const struct redisReply *x = reply->element[i], *t, *ep;
		struct id id;
		if (x->type != REDIS_REPLY_ARRAY || x->elements != 2 || x->element[0]->type != REDIS_REPLY_STRING)
			continue;
		t = rds_member (x->element[1], "t");
		ep = rds_member (x->element[1], "e");
		/* the endpoint of a whole entry is known: no need to look at its tasks */
		if (t && !(l->by.endpoint && ep && id_parse (&id, ep->str, ep->len) == 0 && !id_eq (&id, &l->endpoint)))
			take_entry (l, x->element[0]->str, t, i == 0 && !strcmp (x->element[0]->str, l->entry) ? l->left : SIZE_MAX);
		snprintf (l->entry, sizeof (l->entry), "%s", x->element[0]->str);
	}
	l->end = reply->elements < (size_t) atoi (ENTRIES);
	l->left = 0;
	read_batch (l);
}

static void read_entries (struct listing *l)
{
	char key[LAYOUT_KEY_MAX], from[CURSOR_MAX + 2];

	layout_key (key, "owner", &l->c->who.user, "tasks");
	/* with ids left in the entry it is read again, else what is before it */
	snprintf (from, sizeof (from), "%s%s", l->entry[0] && !l->left ? "(" : "", l->entry[0] ? l->entry : "+");
	rds_commandf (l->c->app->redis, on_entries, l, "XREVRANGE %s %s - COUNT " ENTRIES, key, from);
}

/* ---- request ---------------------------------------------------------------------------------------------------- */

/* digits "-" digits "." digits */
static int parse_cursor (struct listing *l, const char *s)
{
	const char *dot = strrchr (s, '.'), *p;
	bool dash = false;

	if (!dot || dot == s || (size_t) (dot - s) >= CURSOR_MAX || !isdigit ((unsigned char) dot[1]) || strlen (dot) > 10)
		return -1;
	for (p = s; p < dot; p++) {
		if (*p == '-' && !dash && p != s && p + 1 != dot)
			dash = true;
		else if (!isdigit ((unsigned char) *p))
			return -1;
	}
	for (p = dot + 1; *p; p++)
		if (!isdigit ((unsigned char) *p))
			return -1;
	snprintf (l->entry, sizeof (l->entry), "%.*s", (int) (dot - s), s);
	l->left = strtoul (dot + 1, NULL, 10);
	return dash ? 0 : -1;
}

static int read_status (struct listing *l)
{
	if (http_query_param (l->c->req, "status", l->status, sizeof (l->status)) < 0) {
		l->status[0] = 0;
		return errno == ENOENT ? 0 : -1;
	}
	if (!strcmp (l->status, "pending"))
		return 0;
	for (int s = STATE_RECEIVED; s <= STATE_CANCELLED; s++)
		if (!strcmp (l->status, msg_state_name (s)))
			return 0;
	return -1;
}

static int read_query (struct listing *l)
{
	struct call *c = l->c;
	char cursor[CURSOR_MAX + 16];
	int64_t limit;

	if (call_query_int (c, "limit", 1, LIMIT_MAX, 100, &limit) < 0 || call_query_id (c, "endpoint", &l->endpoint, &l->by.endpoint) < 0 ||
	    call_query_id (c, "function", &l->function, &l->by.function) < 0 || call_query_id (c, "group", &l->group, &l->by.group) < 0)
		return -1;
	l->limit = (size_t) limit;
	if (http_query_param (c->req, "cursor", cursor, sizeof (cursor)) == 0 ? parse_cursor (l, cursor) < 0 : errno != ENOENT) {
		call_fail (c, FAIL_MALFORMED, "query parameter 'cursor' is not one that this service gave");
		return -1;
	}
	if (read_status (l) < 0) {
		call_fail (c, FAIL_MALFORMED, "query parameter 'status': a task status or 'pending' is expected");
		return -1;
	}
	return call_need_redis (c);
}

void api_task_list (struct call *c)
{
	struct listing *l = xcalloc (1, sizeof (*l));

	l->c = c;
	if (read_query (l) < 0) {
		listing_free (l);
		return;
	}
	l->shown = xcalloc (l->limit, sizeof (*l->shown));
	read_entries (l);
}
