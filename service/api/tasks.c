/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks: status and result of one or many, trace, cancel. */
#include <errno.h>
#include <event2/http.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "service/api/api.h"
#include "service/call.h"
#include "service/cancel.h"
#include "service/gather.h"

#define ANSWER_MAX (256u << 20)		/* bytes of one answer of batch_status */

struct read {
	struct call *c;
	struct gather *g;
	enum doc_kind kind;
	bool stamps, many, until_any, any, trace, ended;
	char *file;			/* owned; its data is wanted; NULL = a document is */
	char *left;			/* owned; where that file was left instead */
	struct buf out;
};

static struct read *read_new (struct call *c, enum doc_kind kind)
{
	struct read *r = xcalloc (1, sizeof (*r));

	r->c = c;
	r->kind = kind;
	r->stamps = call_flag (c, "trace");
	buf_init (&r->out, ANSWER_MAX);
	return r;
}

static void name_member (struct read *r, const struct id *task)
{
	char t[ID_TEXT];

	buf_printf (&r->out, "%s\"%s\":", r->any ? "," : "", id_text (task, t));
	r->any = true;
}

static void take_file (struct read *r, const struct doc_task *t)
{
	struct wire_str files = t->result ? t->result->files : WIRE_STR (""), name, data;
	struct wire_str kept = t->result ? t->result->kept : WIRE_STR ("");
	struct msg_kept k;

	r->ended = msg_state_ended (t->state);
	while (t->result && !r->left && msg_files_kept_next (&kept, &k, NULL) > 0)
		if (k.name.n == strlen (r->file) && !memcmp (k.name.p, r->file, k.name.n))
			r->left = xasprintf ("node %.*s as %.*s", (int) t->result->node.n, t->result->node.p, (int) k.path.n, k.path.p);
	while (!r->any && msg_files_data_next (&files, &name, &data, NULL) > 0)
		if (name.n == strlen (r->file) && !memcmp (name.p, r->file, name.n)) {
			buf_add (&r->out, data.p, data.n);
			r->any = true;
		}
}

static void on_task (const struct doc_task *t, void *arg)
{
	struct read *r = arg;
	struct doc_task shown = *t;

	if (r->file) {
		take_file (r, t);
		return;
	}
	shown.stamps = r->stamps;
	if (r->many)
		name_member (r, &t->task);
	if (r->trace)
		doc_trace (&r->out, &shown);
	else
		doc_add (&r->out, r->kind, &shown);
}

static void on_unknown (const struct id *task, void *arg)
{
	struct read *r = arg;
	char t[ID_TEXT];

	if (!r->many)
		return;
	name_member (r, task);
	buf_printf (&r->out, "{\"task_id\":\"%s\",\"status\":\"Failed\",\"reason\":\"Unknown task id\"}", id_text (task, t));
}

static void on_end (const struct err *err, void *arg)
{
	struct read *r = arg;

	if (r->many)
		buf_str (&r->out, "}}");
	if (err)
		call_fail_err (r->c, err, FAIL_TASK_NOT_FOUND);
	else if (buf_failed (&r->out))
		call_fail (r->c, FAIL_RESULTS_TOO_LARGE, "the results together are over %u bytes; ask for fewer tasks at once", ANSWER_MAX);
	else if (r->file && r->any)
		call_reply (r->c, 200, "application/octet-stream", "X-Content-Type-Options: nosniff\r\nContent-Disposition: attachment\r\n", &r->out);
	else if (r->left)
		call_fail (r->c, FAIL_TASK_NOT_FOUND, "the file did not come with the task's result: it was left on %s", r->left);
	else if (r->file)
		call_fail (r->c, FAIL_TASK_NOT_FOUND, r->ended ? "no file of this name came with the task's result" : "no such task, or it has not ended");
	else if (!r->out.len)
		call_fail (r->c, FAIL_TASK_NOT_FOUND, "task not found");
	else
		call_ok (r->c, &r->out);
	buf_fini (&r->out);
	free (r->file);
	free (r->left);
	free (r);
}

static const struct gather_ops ops = { on_task, on_unknown, on_end };

static void on_client_gone (void *arg)
{
	struct read *r = arg;

	gather_hurry (r->g);
}

static void start (struct read *r, const struct id *ids, size_t n, int64_t wait_ms)
{
	struct call *c = r->c;

	/* on_end comes from the loop, unless there is nothing to read */
	if (n == 0) {
		on_end (NULL, r);
		return;
	}
	r->g = gather_start (c->app, &c->who.user, ids, n, wait_ms, &ops, r);
	if (r->until_any)
		gather_any (r->g);
	if (wait_ms > 0)
		call_watch (c, on_client_gone, r);
}

static void get_one (struct call *c, enum doc_kind kind, bool trace)
{
	struct id id;
	int64_t wait_ms;
	struct read *r;

	if (call_id (c, 0, &id) < 0 || call_wait_ms (c, &wait_ms) < 0 || call_need_redis (c) < 0)
		return;
	r = read_new (c, kind);
	r->trace = trace;
	start (r, &id, 1, wait_ms);
}

void api_task_get (struct call *c)
{
	get_one (c, DOC_V2, false);
}

void api_task_get_v3 (struct call *c)
{
	get_one (c, DOC_V3, false);
}

void api_task_trace (struct call *c)
{
	get_one (c, DOC_V3, true);
}

void api_task_file (struct call *c)
{
	struct http_str s = c->params[1];
	struct id id;
	int64_t wait_ms;
	struct read *r;
	char *text;

	if (call_id (c, 0, &id) < 0 || call_wait_ms (c, &wait_ms) < 0 || call_need_redis (c) < 0)
		return;
	r = read_new (c, DOC_V3);
	text = strndup (s.p, s.n);
	r->file = text ? evhttp_uridecode (text, 0, NULL) : NULL;
	free (text);
	if (!r->file)
		r->file = xstrdup ("");
	start (r, &id, 1, wait_ms);
}

static void batch_status (struct call *c, enum doc_kind kind)
{
	struct check k = { 0 };
	struct jscan body;
	struct id *ids;
	size_t n;
	int64_t wait_ms;
	struct read *r;
	char until[8] = "all";

	if (call_wait_ms (c, &wait_ms) < 0)
		return;
	if ((http_query_param (c->req, "until", until, sizeof (until)) < 0 && errno != ENOENT) || (strcmp (until, "all") && strcmp (until, "any"))) {
		call_fail (c, FAIL_MALFORMED, "until: expected all or any");
		return;
	}
	if (call_scan (c, &body) < 0)
		return;
	ids = body_ids (&k, &body, "task_ids", true, (size_t) c->app->config->batch_tasks, &n);
	jscan_fini (&body);
	if (!check_ok (&k))
		call_invalid (c, &k);
	else if (call_need_redis (c) == 0) {
		r = read_new (c, kind);
		r->many = true;
		r->until_any = !strcmp (until, "any");
		buf_str (&r->out, "{\"response\":\"batch\",\"results\":{");
		start (r, ids, n, wait_ms);
	}
	free (ids);
}

void api_batch_status (struct call *c)
{
	batch_status (c, DOC_V2);
}

void api_batch_status_v3 (struct call *c)
{
	batch_status (c, DOC_V3);
}

/* ---- cancel ----------------------------------------------------------------------------------------------------- */

struct cancel { struct call *c; enum doc_kind kind; struct id task; };

static void on_cancelled (int outcome, const struct err *err, void *arg)
{
	struct cancel *k = arg;
	struct read *r;

	if (err)
		call_fail_err (k->c, err, FAIL_TASK_NOT_FOUND);
	else if (outcome < 0)
		call_fail (k->c, FAIL_TASK_NOT_FOUND, "task not found");
	else { /* what it ended as, now or before */
		r = read_new (k->c, k->kind);
		start (r, &k->task, 1, 0);
	}
	free (k);
}

static void cancel_one (struct call *c, enum doc_kind kind)
{
	struct cancel *k;
	struct id id;
	char t[ID_TEXT];

	if (call_id (c, 0, &id) < 0 || call_need_redis (c) < 0)
		return;
	call_audit (c, "task.cancel", id_text (&id, t), 1);
	k = xcalloc (1, sizeof (*k));
	*k = (struct cancel) { c, kind, id };
	cancel_task (c->app, &c->who.user, &id, on_cancelled, k);
}

void api_task_cancel (struct call *c)
{
	cancel_one (c, DOC_V2);
}

void api_task_cancel_v3 (struct call *c)
{
	cancel_one (c, DOC_V3);
}
