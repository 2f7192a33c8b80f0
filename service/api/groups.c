/* SPDX-License-Identifier: Apache-2.0 */
/* Task groups. */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "service/api/api.h"
#include "service/call.h"
#include "service/group.h"
#include "service/watch.h"

struct reading { struct call *c; struct id id; enum group_state state; int64_t created_ns; bool any; struct buf out; };

static void add_task (struct reading *g, const struct id *task)
{
	char t[ID_TEXT], when[32];

	buf_printf (&g->out, "%s{\"id\":\"%s\",\"created_at\":\"%s\"}", g->any ? "," : "", id_text (task, t),
		    clock_iso (id_time_ms (task) * 1000000, when));
	g->any = true;
}

static void end (struct reading *g)
{
	buf_str (&g->out, "]}");
	call_ok (g->c, &g->out);
	buf_fini (&g->out);
	free (g);
}

static void end_err (struct reading *g, const struct err *err)
{
	call_fail_err (g->c, err, FAIL_GROUP_NOT_FOUND);
	buf_fini (&g->out);
	free (g);
}

/* A lone task that others joined later names its own group, but stands in no list. */
static void on_lone (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct reading *g = arg;
	struct layout_meta m;

	(void) r;
	if (!err && reply->type == REDIS_REPLY_STRING && layout_meta_decode (&m, reply->str, reply->len, NULL) == 0 && id_eq (&m.group, &g->id))
		add_task (g, &g->id);
	end (g);
}

static void on_list (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct reading *g = arg;
	struct err e = { 0 };
	struct id task;
	char key[LAYOUT_KEY_MAX];

	err = rds_error (reply, err, &e);
	if (err || reply->type != REDIS_REPLY_ARRAY) {
		end_err (g, err ? err : &e);
		return;
	}
	for (size_t i = 1; i < reply->elements; i++) /* 0: owner and time */
		for (size_t at = 0; at + ID_BYTES <= reply->element[i]->len; at += ID_BYTES) {
			memcpy (task.b, reply->element[i]->str + at, ID_BYTES);
			add_task (g, &task);
		}
	layout_key (key, "task", &g->id, NULL);
	rds_commandf (r, on_lone, g, "HGET %s m", key);
}

static void on_asked (bool watched, const struct err *err, void *arg)
{
	struct reading *g = arg;
	char t[ID_TEXT], key[LAYOUT_KEY_MAX], when[32];

	if (err) {
		end_err (g, err);
		return;
	}
	buf_printf (&g->out, "{\"taskgroup_id\":\"%s\",\"create_websockets_queue\":%s,\"created_at\":\"%s\",\"tasks\":[", id_text (&g->id, t),
		    watched ? "true" : "false", clock_iso (g->created_ns, when));
	if (g->state == GROUP_LONE) {
		add_task (g, &g->id);
		end (g);
		return;
	}
	layout_key (key, "group", &g->id, NULL);
	rds_commandf (g->c->app->redis, on_list, g, "LRANGE %s 0 -1", key);
}

static void on_checked (enum group_state state, int64_t created_ns, const struct err *err, void *arg)
{
	struct reading *g = arg;
	struct err e;
	enum fail why;

	if (err) {
		end_err (g, err);
		return;
	}
	if (group_allowed (state, &g->id, &why, &e) < 0) {
		call_fail (g->c, why, "%s", e.text);
		buf_fini (&g->out);
		free (g);
		return;
	}
	g->state = state;
	g->created_ns = created_ns;
	watch_ask (g->c->app, &g->id, on_asked, g);
}

/* ---- a new one -------------------------------------------------------------------------------------------------- */

struct making { struct call *c; struct id id; int64_t now_ns; unsigned pending; struct err err; };

static void on_made (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct making *m = arg;
	struct err e = { 0 };
	struct buf b;
	char t[ID_TEXT], when[32];

	(void) r;
	err = rds_error (reply, err, &e);
	if (err && !m->err.code)
		m->err = *err;
	if (--m->pending)
		return;
	if (m->err.code)
		call_fail_err (m->c, &m->err, FAIL_GROUP_NOT_FOUND);
	else {
		buf_init (&b, 0);
		buf_printf (&b, "{\"taskgroup_id\":\"%s\",\"create_websockets_queue\":true,\"created_at\":\"%s\"}",
			    id_text (&m->id, t), clock_iso (m->now_ns, when));
		call_ok (m->c, &b);
	}
	free (m);
}

/* An empty group whose ends are noted from the start: a client listens before it submits the first task. */
void api_group_create (struct call *c)
{
	struct making *m;
	char t[ID_TEXT];

	if (call_need_redis (c) < 0)
		return;
	m = xcalloc (1, sizeof (*m));
	m->c = c;
	m->now_ns = clock_real_ns ();
	id_new (&m->id);
	call_audit (c, "taskgroup.create", id_text (&m->id, t), 1);
	m->pending = 2;
	layout_group_create_send (c->app->redis, &m->id, &c->who.user, m->now_ns, c->app->config->retention_ms, on_made, m);
}

void api_group_get (struct call *c)
{
	struct reading *g;
	struct id id;

	if (call_id (c, 0, &id) < 0 || call_need_redis (c) < 0)
		return;
	g = xcalloc (1, sizeof (*g));
	g->c = c;
	g->id = id;
	buf_init (&g->out, 0);
	group_check (c->app, &c->who.user, &id, on_checked, g);
}
