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

/* ---- state of one endpoint ---------------------------------------------------------------------------------------- */

/* doc: {status, details}, transferred; NULL with *err. */
typedef void state_f (json_t *doc, const struct err *err, void *arg);
struct look { struct app *app; struct id id; bool online; json_t *cap, *metrics; int64_t seen_ms, locked_ms; state_f *done; void *arg; };

static json_int_t number (const json_t *o, const char *key)
{
	return json_integer_value (json_object_get (o, key));
}

static json_t *state_doc (const struct look *k, json_int_t all)
{
	json_t *d, *v;
	static const char *const shown[] = { "managers", "blocks", "pending_blocks", "tasks_done", "running", "slots", "free_slots", "version", "draining",
					     "waiting_reason" };
	char when[32];

	d = json_pack ("{s:I, s:I, s:I, s:I}", "total_workers", number (k->cap, "slots"), "idle_workers", number (k->cap, "free_slots"), "pending_tasks",
		       all - number (k->cap, "running") > 0 ? all - number (k->cap, "running") : 0, "outstanding_tasks", all);
	for (size_t i = 0; i < sizeof (shown) / sizeof (shown[0]); i++)
		if ((v = json_object_get (k->cap, shown[i])))
			json_object_set (d, shown[i], v);
	if (!json_object_get (d, "managers"))
		json_object_set_new (d, "managers", json_integer (0));
	if (k->metrics)
		json_object_set (d, "metrics", k->metrics);
	if (k->seen_ms)
		json_object_set_new (d, "last_seen", json_string (clock_iso (k->seen_ms * 1000000, when)));
	if (k->locked_ms > clock_real_ns () / 1000000)
		json_object_set_new (d, "locked_until", json_string (clock_iso (k->locked_ms * 1000000, when)));
	return json_pack ("{s:s, s:o}", "status", k->online ? "online" : "offline", "details", d);
}

static void looked (struct look *k, json_t *doc, const struct err *err)
{
	k->done (doc, err, k->arg);
	json_decref (k->cap);
	json_decref (k->metrics);
	free (k);
}

static void on_queue (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct look *k = arg;

	(void) r;
	looked (k, state_doc (k, !err && reply->type == REDIS_REPLY_INTEGER ? reply->integer : number (k->cap, "queued") + number (k->cap, "running")), NULL);
}

/* The endpoint's own words: what is no number in an object is left out. NULL: nothing is left. */
static json_t *numbers_of (const struct redisReply *text)
{
	json_t *all = json_loadb (text->str, text->len, JSON_REJECT_DUPLICATES, NULL), *out = json_object (), *v;
	const char *name;

	json_object_foreach (all, name, v)
		if (json_is_number (v))
			json_object_set (out, name, v);
	json_decref (all);
	if (json_object_size (out))
		return out;
	json_decref (out);
	return NULL;
}

static void on_hash (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct look *k = arg;
	struct err e = { 0 };
	char key[LAYOUT_KEY_MAX];

	err = rds_error (reply, err, &e);
	if (err || reply->type != REDIS_REPLY_ARRAY || reply->elements != 5) {
		looked (k, NULL, err ? err : &e);
		return;
	}
	k->online = epstate_judge (k->app->epstate, reply->element[0], reply->element[1], reply->element[2]);
	if (reply->element[1]->type == REDIS_REPLY_STRING)
		k->seen_ms = strtoll (reply->element[1]->str, NULL, 10);
	if (reply->element[2]->type == REDIS_REPLY_STRING)
		k->locked_ms = strtoll (reply->element[2]->str, NULL, 10);
	if (k->online && reply->element[3]->type == REDIS_REPLY_STRING)
		k->cap = json_loadb (reply->element[3]->str, reply->element[3]->len, JSON_REJECT_DUPLICATES, NULL);
	if (k->online && reply->element[4]->type == REDIS_REPLY_STRING)
		k->metrics = numbers_of (reply->element[4]);
	layout_key (key, "ep", &k->id, "tasks");
	rds_commandf (r, on_queue, k, "XLEN %s", key);
}

static void look_at (struct app *a, const struct id *id, state_f *done, void *arg)
{
	struct look *k = xcalloc (1, sizeof (*k));
	char key[LAYOUT_KEY_MAX];

	*k = (struct look) { .app = a, .id = *id, .done = done, .arg = arg };
	layout_key (key, "ep", id, NULL);
	rds_commandf (a->redis, on_hash, k, "HMGET %s up seen locked cap metrics", key);
}

static void on_status (json_t *doc, const struct err *err, void *arg)
{
	struct call *c = arg;

	if (err)
		call_fail_err (c, err, FAIL_ENDPOINT_NOT_FOUND);
	else
		call_json (c, doc);
}

void api_endpoint_status (struct call *c)
{
	struct id id;
	enum fail why;
	struct err err;

	if (call_id (c, 0, &id) < 0)
		return;
	if (catalog_endpoint (c->app->catalog, &id, &c->who.user, &why, &err) < 0) {
		call_fail (c, why, "%s", err.text);
		return;
	}
	if (call_need_redis (c) < 0)
		return;
	look_at (c->app, &id, on_status, c);
}

/* ---- list with state -------------------------------------------------------------------------------------------- */

struct listing { struct call *c; struct id *ids; size_t n, left; json_t *docs, *cursor; struct err err; };
struct row { struct listing *l; json_t *doc; };		/* borrowed from docs */

static void answer_list (struct listing *l)
{
	if (l->err.code) {
		json_decref (l->docs);
		json_decref (l->cursor);
		call_fail_err (l->c, &l->err, FAIL_ENDPOINT_NOT_FOUND);
	} else
		call_json (l->c, json_pack ("{s:o, s:o}", "endpoints", l->docs, "next_cursor", l->cursor));
	free (l->ids);
	free (l);
}

static void row_done (struct listing *l)
{
	if (--l->left == 0)
		answer_list (l);
}

static void on_row (json_t *doc, const struct err *err, void *arg)
{
	struct row *w = arg;
	struct listing *l = w->l;

	if (doc)
		json_object_update (w->doc, doc);
	else
		l->err = *err;
	json_decref (doc);
	free (w);
	row_done (l);
}

static void on_states (void *arg)
{
	struct listing *l = arg;

	for (size_t i = 0; i < l->n; i++)
		json_object_set_new (json_array_get (l->docs, i), "status",
				     json_string (epstate_online (l->c->app->epstate, &l->ids[i]) ? "online" : "offline"));
	answer_list (l);
}

/* Two commands an endpoint, all on the way at once. */
static void add_details (struct listing *l)
{
	l->left = 1;
	for (size_t i = 0; i < l->n; i++) {
		struct row *w = xcalloc (1, sizeof (*w));
		*w = (struct row) { l, json_array_get (l->docs, i) };
		l->left++;
		look_at (l->c->app, &l->ids[i], on_row, w);
	}
	row_done (l);
}

static json_t *row_doc (const struct reg_endpoint *e)
{
	char t[ID_TEXT], u[ID_TEXT], when[32];

	return json_pack ("{s:s, s:s, s:s, s:s, s:b, s:b, s:s}", "uuid", id_text (&e->id, t), "name", e->name, "display_name",
			  e->display_name ? e->display_name : e->name, "owner", id_text (&e->owner, u), "public", (int) e->public, "restricted",
			  (int) e->restricted, "created", clock_iso (e->created_ms * 1000000, when));
}

void api_endpoint_list (struct call *c)
{
	struct listing *l;
	struct reg_endpoint *rows;
	struct id before;
	enum reg_role role = REG_OWNER;
	char word[16], t[ID_TEXT];
	bool paged, details = call_flag (c, "details");
	int64_t limit;
	size_t n;
	struct err err;

	if (call_query_int (c, "limit", 1, LIST_MAX, 100, &limit) < 0 || call_query_id (c, "cursor", &before, &paged) < 0 ||
	    (details && call_need_redis (c) < 0))
		return;
	if (http_query_param (c->req, "role", word, sizeof (word)) == 0 && !strcmp (word, "any"))
		role = REG_ANY;
	if (registry_endpoints (c->app->registry, &c->who.user, role, paged ? &before : NULL, (size_t) limit, &rows, &n, &err) < 0) {
		call_fail_err (c, &err, FAIL_ENDPOINT_NOT_FOUND);
		return;
	}
	l = xcalloc (1, sizeof (*l));
	*l = (struct listing) { .c = c, .n = n, .ids = xcalloc (n + 1, sizeof (*l->ids)), .docs = json_array () };
	l->cursor = n == (size_t) limit ? json_string (id_text (&rows[n - 1].id, t)) : json_null ();
	for (size_t i = 0; i < n; i++) {
		l->ids[i] = rows[i].id;
		json_array_append_new (l->docs, row_doc (&rows[i]));
		reg_endpoint_fini (&rows[i]);
	}
	free (rows);
	if (details)
		add_details (l);
	else
		epstate_refresh (c->app->epstate, l->ids, n, on_states, l);
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
	err = rds_error (reply, err, &e);
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
