/* SPDX-License-Identifier: Apache-2.0 */
/* What forwarders report of endpoints: status, lists with state, and where an endpoint finds its forwarder. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "service/api/api.h"
#include "service/call.h"

#define LIST_MAX 1000
#define POLL_MS 50

/* ---- status ----------------------------------------------------------------------------------------------------- */

struct status { struct call *c; struct id id; bool online; json_t *cap; int64_t seen_ms; };

static json_int_t number (const json_t *o, const char *key)
{
	return json_integer_value (json_object_get (o, key));
}

static void on_queue (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct status *s = arg;
	json_int_t in_hand = number (s->cap, "queued") + number (s->cap, "running");
	json_int_t all = !err && reply->type == REDIS_REPLY_INTEGER ? reply->integer : in_hand;
	json_t *o = json_pack ("{s:s}", "status", s->online ? "online" : "offline"), *d, *v;
	static const char *const shown[] = { "managers", "blocks", "pending_blocks", "tasks_done", "running", "slots", "free_slots", "version",
					     "waiting_reason" };
	char when[32];

	(void) r;
	d = json_pack ("{s:I, s:I, s:I, s:I}", "total_workers", number (s->cap, "slots"), "idle_workers", number (s->cap, "free_slots"), "pending_tasks",
		       all - number (s->cap, "running") > 0 ? all - number (s->cap, "running") : 0, "outstanding_tasks", all);
	for (size_t i = 0; i < sizeof (shown) / sizeof (shown[0]); i++)
		if ((v = json_object_get (s->cap, shown[i])))
			json_object_set (d, shown[i], v);
	if (!json_object_get (d, "managers"))
		json_object_set_new (d, "managers", json_integer (0));
	if (s->seen_ms)
		json_object_set_new (d, "last_seen", json_string (clock_iso (s->seen_ms * 1000000, when)));
	json_object_set_new (o, "details", d);
	call_json (s->c, o);
	json_decref (s->cap);
	free (s);
}

static void on_hash (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct status *s = arg;
	struct err e = { 0 };
	char key[LAYOUT_KEY_MAX];

	if (!err && rds_reply_error (reply, &e) < 0)
		err = &e;
	if (err || reply->type != REDIS_REPLY_ARRAY || reply->elements != 3) {
		call_fail_err (s->c, err ? err : &e, FAIL_ENDPOINT_NOT_FOUND);
		free (s);
		return;
	}
	s->online = epstate_judge (s->c->app->epstate, reply->element[0], reply->element[1]);
	if (reply->element[1]->type == REDIS_REPLY_STRING)
		s->seen_ms = strtoll (reply->element[1]->str, NULL, 10);
	if (s->online && reply->element[2]->type == REDIS_REPLY_STRING)
		s->cap = json_loadb (reply->element[2]->str, reply->element[2]->len, JSON_REJECT_DUPLICATES, NULL);
	layout_key (key, "ep", &s->id, "tasks");
	rds_commandf (r, on_queue, s, "XLEN %s", key);
}

void api_endpoint_status (struct call *c)
{
	struct status *s;
	struct id id;
	enum fail why;
	struct err err;
	char key[LAYOUT_KEY_MAX];

	if (call_id (c, 0, &id) < 0)
		return;
	if (catalog_endpoint (c->app->catalog, &id, &c->who.user, &why, &err) < 0) {
		call_fail (c, why, "%s", err.text);
		return;
	}
	if (call_need_redis (c) < 0)
		return;
	s = xcalloc (1, sizeof (*s));
	s->c = c;
	s->id = id;
	layout_key (key, "ep", &id, NULL);
	rds_commandf (c->app->redis, on_hash, s, "HMGET %s up seen cap", key);
}

/* ---- list with state -------------------------------------------------------------------------------------------- */

struct listing { struct call *c; struct reg_endpoint *rows; size_t n, limit; };

static void on_states (void *arg)
{
	struct listing *l = arg;
	json_t *list = json_array (), *cursor;
	char t[ID_TEXT], u[ID_TEXT], when[32];

	cursor = l->n == l->limit ? json_string (id_text (&l->rows[l->n - 1].id, t)) : json_null ();
	for (size_t i = 0; i < l->n; i++) {
		struct reg_endpoint *e = &l->rows[i];
		json_array_append_new (list, json_pack ("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:s}", "uuid", id_text (&e->id, t), "name", e->name,
							"display_name", e->display_name ? e->display_name : e->name, "owner", id_text (&e->owner, u),
							"status", epstate_online (l->c->app->epstate, &e->id) ? "online" : "offline", "public",
							(int) e->public, "restricted", (int) e->restricted, "created",
							clock_iso (e->created_ms * 1000000, when)));
		reg_endpoint_fini (e);
	}
	free (l->rows);
	call_json (l->c, json_pack ("{s:o, s:o}", "endpoints", list, "next_cursor", cursor));
	free (l);
}

void api_endpoint_list (struct call *c)
{
	struct listing *l;
	struct id before, *ids;
	enum reg_role role = REG_OWNER;
	char word[16];
	bool paged;
	int64_t limit;
	struct err err;

	if (call_query_int (c, "limit", 1, LIST_MAX, 100, &limit) < 0 || call_query_id (c, "cursor", &before, &paged) < 0)
		return;
	if (http_query_param (c->req, "role", word, sizeof (word)) == 0 && !strcmp (word, "any"))
		role = REG_ANY;
	l = xcalloc (1, sizeof (*l));
	l->c = c;
	l->limit = (size_t) limit;
	if (registry_endpoints (c->app->registry, &c->who.user, role, paged ? &before : NULL, l->limit, &l->rows, &l->n, &err) < 0) {
		call_fail_err (c, &err, FAIL_ENDPOINT_NOT_FOUND);
		free (l);
		return;
	}
	ids = xcalloc (l->n + 1, sizeof (*ids));
	for (size_t i = 0; i < l->n; i++)
		ids[i] = l->rows[i].id;
	epstate_refresh (c->app->epstate, ids, l->n, on_states, l);
	free (ids);
}

/* ---- the way to the forwarder ----------------------------------------------------------------------------------- */

/* The forwarder sets its address when it listens; until then its hash is looked at again and again, in the name of an endpoint
 * that has nothing else to do. */
struct finder { struct call *c; struct id id; int64_t until_ms; struct loop_timer *timer; bool gone; };

static void finder_free (struct finder *f)
{
	loop_timer_destroy (&f->timer);
	free (f);
}

static void on_address (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct finder *f = arg;
	struct err e = { 0 };

	(void) r;
	if (!err && rds_reply_error (reply, &e) < 0)
		err = &e;
	if (!err && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[0]->type == REDIS_REPLY_STRING && reply->element[0]->len &&
	    reply->element[1]->type == REDIS_REPLY_STRING) {
		call_json (f->c, json_pack ("{s:s, s:s, s:I}", "address", reply->element[0]->str, "server_key", reply->element[1]->str, "heartbeat_ms",
					    (json_int_t) f->c->app->config->endpoint_heartbeat_ms));
		finder_free (f);
	} else if (!f->gone && !f->c->app->draining && clock_now_ms () < f->until_ms)
		loop_timer_start (f->timer, POLL_MS, false);
	else {
		call_fail (f->c, FAIL_UNAVAILABLE, "%s", err ? "the task store (Redis) cannot be reached right now" : "no forwarder serves the endpoint yet");
		finder_free (f);
	}
}

static void look (void *arg)
{
	struct finder *f = arg;
	char key[LAYOUT_KEY_MAX];

	layout_key (key, "ep", &f->id, NULL);
	rds_commandf (f->c->app->redis, on_address, f, "HMGET %s addr fwd_key", key);
}

static void on_client_gone (void *arg)
{
	struct finder *f = arg;

	f->gone = true;
}

void api_endpoint_forwarder (struct call *c)
{
	struct reg_endpoint e;
	struct finder *f;
	struct id id;
	int64_t wait_ms;
	struct err err;
	bool own;

	if (call_id (c, 0, &id) < 0 || call_wait_ms (c, &wait_ms) < 0)
		return;
	if (registry_endpoint_get (c->app->registry, &id, &e, &err) < 0) {
		call_fail_err (c, &err, FAIL_ENDPOINT_NOT_FOUND);
		return;
	}
	own = id_eq (&e.owner, &c->who.user);
	reg_endpoint_fini (&e);
	if (!own) {
		call_fail (c, FAIL_ENDPOINT_FORBIDDEN, "only its owner may run this endpoint");
		return;
	}
	f = xcalloc (1, sizeof (*f));
	f->c = c;
	f->id = id;
	f->until_ms = clock_now_ms () + wait_ms;
	f->timer = loop_timer_create (c->app->loop, look, f);
	call_watch (c, on_client_gone, f);
	look (f);
}
