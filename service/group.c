/* SPDX-License-Identifier: Apache-2.0 */
#include "service/group.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"
#include "proto/wire.h"

#define HEAD_BYTES (ID_BYTES + 8)

struct group { struct app *app; struct id owner, id; group_f *cb; void *arg; };

static void end (struct group *g, enum group_state state, int64_t created_ns, const struct err *err)
{
	g->cb (state, created_ns, err, g->arg);
	free (g);
}

static void on_task (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct group *g = arg;
	struct layout_meta m;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (err)
		end (g, GROUP_UNKNOWN, 0, err);
	else if (reply->type != REDIS_REPLY_STRING || layout_meta_decode (&m, reply->str, reply->len, &e) < 0 || !id_eq (&m.group, &g->id))
		end (g, GROUP_UNKNOWN, 0, NULL);
	else
		end (g, id_eq (&m.owner, &g->owner) ? GROUP_LONE : GROUP_FORBIDDEN, m.submitted_ns, NULL);
}

static void on_head (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct group *g = arg;
	struct wire_reader w;
	struct err e = { 0 };
	struct id owner;
	char key[LAYOUT_KEY_MAX];

	(void) r;
	err = rds_error (reply, err, &e);
	if (err) {
		end (g, GROUP_UNKNOWN, 0, err);
		return;
	}
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 1 || reply->element[0]->len != HEAD_BYTES) {
		layout_key (key, "task", &g->id, NULL);
		rds_commandf (g->app->redis, on_task, g, "HGET %s m", key);
		return;
	}
	w = (struct wire_reader) { (const uint8_t *) reply->element[0]->str, HEAD_BYTES, false };
	wire_get_id (&w, &owner);
	end (g, id_eq (&owner, &g->owner) ? GROUP_LISTED : GROUP_FORBIDDEN, wire_get_i64 (&w), NULL);
}

void group_check (struct app *a, const struct id *owner, const struct id *group, group_f *cb, void *arg)
{
	struct group *g = xcalloc (1, sizeof (*g));
	char key[LAYOUT_KEY_MAX];

	*g = (struct group) { a, *owner, *group, cb, arg };
	layout_key (key, "group", group, NULL);
	rds_commandf (a->redis, on_head, g, "LRANGE %s 0 0", key);
}

int group_allowed (enum group_state state, const struct id *group, enum fail *why, struct err *err)
{
	char t[ID_TEXT];

	if (state == GROUP_LONE || state == GROUP_LISTED)
		return 0;
	*why = state == GROUP_UNKNOWN ? FAIL_GROUP_NOT_FOUND : FAIL_GROUP_FORBIDDEN;
	return err_set (err, ERR_NOT_FOUND, FAULT_USER, "task group %s %s", id_text (group, t),
			state == GROUP_UNKNOWN ? "not found" : "belongs to someone else");
}
