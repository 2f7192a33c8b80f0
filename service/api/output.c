/* SPDX-License-Identifier: Apache-2.0 */
/* What a task has printed: of an ended one as its result says; of one that runs, what its worker told last. Asking makes the worker tell
 * for some seconds (SPEC.md, 3.2, FOLLOW), so the first answers are behind. */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"
#include "proto/layout.h"
#include "proto/msg_result.h"
#include "service/api/api.h"
#include "service/call.h"
#include "service/republish.h"

#define FOLLOW_AGAIN_MS "2000"

struct look { struct call *c; struct id task, endpoint; int state; };

static void text_member (struct buf *b, const char *name, struct wire_str s)
{
	buf_printf (b, ",\"%s\":", name);
	buf_json_string (b, s.p, s.n);
}

static void head (struct buf *b, const struct look *k)
{
	char t[ID_TEXT];

	buf_init (b, 0);
	buf_printf (b, "{\"task_id\":\"%s\",\"status\":\"%s\",\"ended\":%s", id_text (&k->task, t), msg_state_name (k->state),
		    msg_state_ended (k->state) ? "true" : "false");
}

static void answer (struct look *k, struct buf *b)
{
	buf_char (b, '}');
	call_ok (k->c, b);
	free (k);
}

static void answer_ended (struct look *k, const struct redisReply *record)
{
	struct msg_result m = { 0 };
	struct buf b;

	if (record->type != REDIS_REPLY_STRING || msg_result_decode (&m, record->str, record->len, NULL) < 0)
		memset (&m, 0, sizeof (m));
	head (&b, k);
	text_member (&b, "stdout", m.out.p ? m.out : WIRE_STR (""));
	text_member (&b, "stderr", m.errout.p ? m.errout : WIRE_STR (""));
	answer (k, &b);
}

static void on_output (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct look *k = arg;
	struct msg_output m = { .text = { WIRE_STR (""), WIRE_STR ("") } };
	struct buf b;

	(void) r;
	if (!err && reply->type == REDIS_REPLY_STRING && (msg_output_decode (&m, reply->str, reply->len, NULL) < 0 || !id_eq (&m.task, &k->task)))
		m = (struct msg_output) { .text = { WIRE_STR (""), WIRE_STR ("") } };
	head (&b, k);
	text_member (&b, "stdout", m.text[0]);
	text_member (&b, "stderr", m.text[1]);
	buf_printf (&b, ",\"stdout_bytes\":%llu,\"stderr_bytes\":%llu", (unsigned long long) m.total[0], (unsigned long long) m.total[1]);
	answer (k, &b);
}

struct follow { struct app *app; struct id task, endpoint; };

static void on_marked (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct follow *f = arg;

	(void) r;
	if (!err && reply->type == REDIS_REPLY_STATUS) /* nobody has asked for a while */
		republish_control (f->app, &f->endpoint, "follow", &f->task, NULL, NULL);
	free (f);
}

static void read_output (struct look *k)
{
	struct rds *r = k->c->app->redis;
	struct follow *f = xcalloc (1, sizeof (*f));
	char key[LAYOUT_KEY_MAX];

	*f = (struct follow) { k->c->app, k->task, k->endpoint };
	layout_key (key, "task", &k->task, "followed");
	rds_commandf (r, on_marked, f, "SET %s 1 PX " FOLLOW_AGAIN_MS " NX", key);
	layout_key (key, "task", &k->task, "output");
	rds_commandf (r, on_output, k, "GET %s", key);
}

static void on_task (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct look *k = arg;
	struct layout_meta m;
	struct err e = { 0 };
	struct buf b;

	(void) r;
	err = rds_error (reply, err, &e);
	if (err) {
		call_fail_err (k->c, err, FAIL_TASK_NOT_FOUND);
		free (k);
		return;
	}
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 || reply->element[0]->type != REDIS_REPLY_STRING ||
	    layout_meta_decode (&m, reply->element[0]->str, reply->element[0]->len, &e) < 0 || !id_eq (&m.owner, &k->c->who.user)) {
		call_fail (k->c, FAIL_TASK_NOT_FOUND, "task not found");
		free (k);
		return;
	}
	k->endpoint = m.endpoint;
	k->state = reply->element[1]->type == REDIS_REPLY_STRING ? atoi (reply->element[1]->str) : 0;
	if (msg_state_ended (k->state))
		answer_ended (k, reply->element[2]);
	else if (k->state == STATE_RUNNING)
		read_output (k);
	else { /* nothing yet */
		head (&b, k);
		buf_str (&b, ",\"stdout\":\"\",\"stderr\":\"\",\"stdout_bytes\":0,\"stderr_bytes\":0");
		answer (k, &b);
	}
}

void api_task_output (struct call *c)
{
	struct look *k;
	struct id id;
	char key[LAYOUT_KEY_MAX];

	if (call_id (c, 0, &id) < 0 || call_need_redis (c) < 0)
		return;
	k = xcalloc (1, sizeof (*k));
	*k = (struct look) { .c = c, .task = id };
	layout_key (key, "task", &id, NULL);
	rds_commandf (c->app->redis, on_task, k, "HMGET %s m s r", key);
}
