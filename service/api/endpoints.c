/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints: register, update, lock, delete, show, list, allowed functions. What the forwarder must know stands in Redis too
 * (weft:ep:{id}, weft:eps) and is put there again whenever Redis comes back, see republish.c. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "service/api/api.h"
#include "service/api/shared.h"
#include "service/call.h"
#include "service/republish.h"

#define METADATA_MAX (1u << 20)
#define ALLOWED_MAX 10000
#define KEY_CHARS 40

enum op { OP_ADD, OP_UPDATE, OP_LOCK, OP_DELETE, OP_ALLOW, OP_DISALLOW };

struct change {
	struct call *c;
	enum op op;
	struct reg_endpoint e;
	struct id *shared, *functions;
	size_t nshared, nfunctions;
	bool key_changed, v2;
	int64_t until_ms;
	int rc;
	struct err err;
};

static int64_t now_ms (void)
{
	return clock_real_ns () / 1000000;
}

static void change_free (struct change *x)
{
	reg_endpoint_fini (&x->e);
	free (x->shared);
	free (x->functions);
	free (x);
}

static struct change *change_new (struct call *c, enum op op)
{
	struct change *x = xcalloc (1, sizeof (*x));

	x->c = c;
	x->op = op;
	return x;
}

/* ---- the change itself, on the registry's thread ---------------------------------------------------------------- */

static void change_work (struct registry *r, void *arg)
{
	struct change *x = arg;

	switch (x->op) {
	case OP_ADD:
		x->rc = registry_endpoint_add (r, &x->e, x->shared, x->nshared, &x->err);
		break;
	case OP_UPDATE:
		x->rc = registry_endpoint_update (r, &x->e, x->shared, x->nshared, &x->err);
		break;
	case OP_LOCK:
		x->rc = registry_endpoint_lock (r, &x->e.id, x->until_ms, &x->err);
		break;
	case OP_DELETE:
		x->rc = registry_endpoint_remove (r, &x->e.id, &x->err);
		break;
	case OP_ALLOW:
		x->rc = registry_allowed_add (r, &x->e.id, x->functions, x->nfunctions, &x->err);
		break;
	case OP_DISALLOW:
		x->rc = registry_allowed_remove (r, &x->e.id, &x->functions[0], &x->err);
		break;
	}
}

static json_t *queue_info (const struct id *id, const char *kind)
{
	char t[ID_TEXT], queue[96];

	/* The Python endpoint's AMQP queues: asked for by its code, not offered by this service. */
	snprintf (queue, sizeof (queue), "%s.%s", id_text (id, t), kind);
	return json_pack ("{s:s, s:s, s:s, s:{s:s, s:s, s:b, s:{s:i}}}", "connection_url", "amqp://unavailable.invalid/", "exchange", "weft", "queue",
			  queue, "queue_publish_kwargs", "exchange", "weft", "routing_key", queue, "mandatory", 1, "properties", "delivery_mode", 2);
}

static json_t *registered_doc (const struct id *id)
{
	char t[ID_TEXT];

	return json_pack ("{s:s, s:o, s:o, s:o}", "endpoint_id", id_text (id, t), "task_queue_info", queue_info (id, "tasks"), "result_queue_info",
			  queue_info (id, "results"), "heartbeat_queue_info", queue_info (id, "heartbeats"));
}

static void on_announced (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct change *x = arg;
	struct err e = { 0 };
	json_t *doc;

	(void) r;
	err = rds_error (reply, err, &e);
	doc = registered_doc (&x->e.id);
	if (err) /* never an error after it was registered; republish.c tells Redis once it can */
		json_object_set_new (doc, "warnings", json_pack ("[s]", "registered, but the task store (Redis) is away: tasks will flow once it is back"));
	call_json (x->c, doc);
	change_free (x);
}

static void announce (struct change *x)
{
	struct app *a = x->c->app;

	if (x->key_changed)
		republish_control (a, &x->e.id, "key", NULL, NULL, NULL);
	republish_endpoint (a, &x->e, on_announced, x);
}

/* From here on Redis has been told, or is away and will be set right when it returns. */
static void on_told_deleted (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct change *x = arg;

	(void) r;
	(void) reply;
	(void) err;
	call_json (x->c, json_pack ("{s:i}", "result", 302));
	change_free (x);
}

static void on_told_lock (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct change *x = arg;
	char t[ID_TEXT], when[32];

	(void) r;
	(void) reply;
	(void) err;
	if (x->v2)
		call_json (x->c, json_pack ("{s:s, s:s}", "endpoint_id", id_text (&x->e.id, t), "lock_expiration_timestamp",
					    clock_iso (x->until_ms * 1000000, when)));
	else
		call_json (x->c, json_pack ("{s:s, s:f}", "endpoint_id", id_text (&x->e.id, t), "lock_expiration_timestamp",
					    (double) x->until_ms / 1000));
	change_free (x);
}

static void change_done (void *arg)
{
	struct change *x = arg;
	struct call *c = x->c;

	if (x->rc < 0) {
		if (x->op == OP_ADD && x->err.code == ERR_CONFLICT)
			call_fail (c, FAIL_ALREADY_REGISTERED, "the endpoint is registered already");
		else
			call_fail_err (c, &x->err, FAIL_ENDPOINT_NOT_FOUND);
		change_free (x);
		return;
	}
	catalog_forget (c->app->catalog, &x->e.id);
	switch (x->op) {
	case OP_ADD:
	case OP_UPDATE:
		announce (x);
		return;
	case OP_LOCK:
		republish_lock (c->app, &x->e.id, x->until_ms, on_told_lock, x);
		return;
	case OP_DELETE:
		republish_deleted (c->app, &x->e.id, on_told_deleted, x);
		return;
	case OP_ALLOW:
	case OP_DISALLOW:
		call_json (c, json_pack ("{s:s}", "status", "Success"));
		break;
	}
	change_free (x);
}

static void run (struct change *x, const char *action)
{
	char t[ID_TEXT];

	call_audit (x->c, action, id_text (&x->e.id, t), 1);
	db_run (x->c->app->db, change_work, change_done, x);
}

/* ---- reading registrations -------------------------------------------------------------------------------------- */

static char *text_or_null (const char *s)
{
	return s && *s ? xstrdup (s) : NULL;
}

/* Flags that cannot change once registered, and what we only keep to show. */
static char *options_text (struct check *k, const json_t *body)
{
	static const char *const flags[] = { "multi_user", "high_assurance" };
	static const char *const kept[] = { "authentication_policy", "subscription_uuid" };
	json_t *o = json_object (), *v;
	char *text;

	for (int i = 0; i < 2; i++)
		json_object_set_new (o, flags[i], json_boolean (check_bool (k, body, flags[i], false)));
	for (int i = 0; i < 2; i++)
		if ((v = check_get (body, kept[i])))
			json_object_set (o, kept[i], v);
	text = json_dumps (o, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref (o);
	return text;
}

static void read_weft (struct check *k, const json_t *body, struct reg_endpoint *e)
{
	json_t *w = check_object (k, body, "weft", false);
	const char *key = w ? check_string (k, w, "public_key", false, KEY_CHARS, NULL) : NULL;

	if (w)
		check_int (k, w, "slots", 0, 10000000, 0);
	if (!key)
		return;
	if (strlen (key) != KEY_CHARS)
		check_problem (k, "weft", -1, "value_error.str", "public_key: %d characters of Z85 are expected", KEY_CHARS);
	free (e->public_key);
	e->public_key = xstrdup (key);
}

/* e may hold what was registered before: what the body does not name stays. */
static void read_endpoint (struct check *k, struct change *x, json_t *body)
{
	struct reg_endpoint *e = &x->e;
	const char *s = check_string (k, body, "endpoint_name", e->name == NULL, 256, NULL);
	json_t *meta = check_object (k, body, "metadata", false), *version = check_get (body, "version");

	if (s || !e->name) {
		free (e->name);
		e->name = xstrdup (s ? s : "");
	}
	if (json_object_get (body, "display_name")) {
		free (e->display_name);
		e->display_name = text_or_null (check_string (k, body, "display_name", false, 256, NULL));
	}
	e->public = check_bool (k, body, "public", e->public);
	if (meta && version && json_is_string (version) && !json_object_get (meta, "endpoint_version"))
		json_object_set (meta, "endpoint_version", version);
	if (meta || !e->metadata) {
		free (e->metadata);
		e->metadata = json_text (meta);
	}
	if (e->metadata && strlen (e->metadata) > METADATA_MAX)
		check_problem (k, "metadata", -1, "value_error.dict", "at most %u bytes are allowed", METADATA_MAX);
	if (json_object_get (body, "allowed_functions")) { /* null lifts the restriction, silence keeps it */
		free (e->allowed);
		e->allowed = check_ids (k, body, "allowed_functions", false, ALLOWED_MAX, &e->nallowed);
		e->restricted = e->allowed != NULL;
	}
	read_weft (k, body, e);
	x->shared = shared_users (k, body, x->c->app->registry, &x->nshared);
}

static void add (struct call *c, json_t *body, const struct id *wanted)
{
	struct change *x = change_new (c, OP_ADD);
	struct check k = { 0 };

	read_endpoint (&k, x, body);
	x->e.options = options_text (&k, body);
	if (!check_ok (&k)) {
		call_invalid (c, &k);
		change_free (x);
		return;
	}
	if (wanted)
		x->e.id = *wanted;
	else
		id_new (&x->e.id);
	x->e.owner = c->who.user;
	x->e.created_ms = now_ms ();
	run (x, "endpoint.register");
}

static void update (struct call *c, json_t *body, struct reg_endpoint *old)
{
	struct change *x = change_new (c, OP_UPDATE);
	struct check k = { 0 };
	char *options, *key = old->public_key ? xstrdup (old->public_key) : NULL;

	x->e = *old; /* its contents are the change's now */
	read_endpoint (&k, x, body);
	options = options_text (&k, body);
	x->key_changed = x->e.public_key && (!key || strcmp (key, x->e.public_key));
	free (key);
	if (!check_ok (&k))
		call_invalid (c, &k);
	else if (x->e.locked_until_ms > now_ms ())
		call_fail (c, FAIL_LOCKED, "the endpoint was stopped a moment ago and is locked for another %.1f s",
			   (double) (x->e.locked_until_ms - now_ms ()) / 1000);
	else if (options && x->e.options && strcmp (options, x->e.options))
		call_fail (c, FAIL_CONFLICT, "multi_user, high_assurance, authentication_policy and subscription_uuid cannot change once registered");
	else {
		free (options);
		x->e.locked_until_ms = 0;
		run (x, "endpoint.update");
		return;
	}
	free (options);
	change_free (x);
}

void api_endpoint_register (struct call *c)
{
	json_t *body;

	if (call_need_redis (c) < 0 || !(body = call_object (c)))
		return;
	add (c, body, NULL);
	json_decref (body);
}

/* The endpoint, when it is there and the caller's own; else the call is answered. */
static int own_endpoint (struct call *c, const struct id *id, struct reg_endpoint *out)
{
	struct err err;
	char t[ID_TEXT];

	if (registry_endpoint_get (c->app->registry, id, out, &err) < 0) {
		if (err.code == ERR_NOT_FOUND)
			err_set (&err, ERR_NOT_FOUND, FAULT_USER, "Endpoint %s could not be resolved", id_text (id, t));
		call_fail_err (c, &err, FAIL_ENDPOINT_NOT_FOUND);
		return -1;
	}
	if (id_eq (&out->owner, &c->who.user))
		return 0;
	reg_endpoint_fini (out);
	call_fail (c, FAIL_ENDPOINT_FORBIDDEN, "endpoint %s belongs to someone else", id_text (id, t));
	return -1;
}

void api_endpoint_update (struct call *c)
{
	struct reg_endpoint old;
	struct id id;
	json_t *body;

	if (call_id (c, 0, &id) < 0 || call_need_redis (c) < 0 || !(body = call_object (c)))
		return;
	if (own_endpoint (c, &id, &old) == 0)
		update (c, body, &old);
	json_decref (body);
}

/* Old SDKs: the id, if they have one, stands in the body; new or known does not matter. */
void api_endpoint_register_v2 (struct call *c)
{
	struct check k = { 0 };
	struct reg_endpoint old;
	struct id id;
	json_t *body;
	bool given;

	if (call_need_redis (c) < 0 || !(body = call_object (c)))
		return;
	given = check_id (&k, body, "endpoint_uuid", false, &id);
	if (!check_ok (&k))
		call_invalid (c, &k);
	else if (!given)
		add (c, body, NULL);
	else if (registry_endpoint_get (c->app->registry, &id, &old, NULL) < 0)
		add (c, body, &id);
	else if (id_eq (&old.owner, &c->who.user))
		update (c, body, &old);
	else {
		reg_endpoint_fini (&old);
		call_fail (c, FAIL_ALREADY_REGISTERED, "the endpoint is registered by someone else");
	}
	json_decref (body);
}

/* ---- lock, delete, allowed functions ---------------------------------------------------------------------------- */

static struct change *own_change (struct call *c, enum op op)
{
	struct reg_endpoint e;
	struct change *x;
	struct id id;

	if (call_id (c, 0, &id) < 0 || own_endpoint (c, &id, &e) < 0)
		return NULL;
	x = change_new (c, op);
	x->e = e;
	return x;
}

static void lock (struct call *c, bool v2)
{
	struct change *x;

	if (call_need_redis (c) < 0 || !(x = own_change (c, OP_LOCK)))
		return;
	x->v2 = v2;
	x->until_ms = now_ms () + c->app->config->endpoint_lock_ms;
	run (x, "endpoint.lock");
}

void api_endpoint_lock (struct call *c)
{
	lock (c, false);
}

void api_endpoint_lock_v2 (struct call *c)
{
	lock (c, true);
}

void api_endpoint_delete (struct call *c)
{
	struct change *x;

	if (call_need_redis (c) < 0 || !(x = own_change (c, OP_DELETE)))
		return;
	run (x, "endpoint.delete");
}

void api_allowed_add (struct call *c)
{
	struct check k = { 0 };
	struct change *x;
	json_t *body = call_object (c);

	if (!body)
		return;
	if ((x = own_change (c, OP_ALLOW))) {
		x->functions = check_ids (&k, body, "func", true, ALLOWED_MAX, &x->nfunctions);
		if (check_ok (&k) && x->nfunctions)
			run (x, "endpoint.allow");
		else {
			if (check_ok (&k))
				check_problem (&k, "func", -1, "value_error.list.min_items", "at least one function is expected");
			call_invalid (c, &k);
			change_free (x);
		}
	}
	json_decref (body);
}

void api_allowed_remove (struct call *c)
{
	struct change *x;
	struct id function;

	if (call_id (c, 1, &function) < 0 || !(x = own_change (c, OP_DISALLOW)))
		return;
	x->functions = xcalloc (1, sizeof (*x->functions));
	x->functions[0] = function;
	x->nfunctions = 1;
	run (x, "endpoint.disallow");
}

/* ---- show ------------------------------------------------------------------------------------------------------- */

/* One the caller may use. */
static int usable_endpoint (struct call *c, struct reg_endpoint *out)
{
	struct id id;
	enum fail why;
	struct err err;

	if (call_id (c, 0, &id) < 0)
		return -1;
	if (catalog_endpoint (c->app->catalog, &id, &c->who.user, &why, &err) < 0) {
		call_fail (c, why, "%s", err.text);
		return -1;
	}
	if (registry_endpoint_get (c->app->registry, &id, out, &err) == 0)
		return 0;
	call_fail_err (c, &err, FAIL_ENDPOINT_NOT_FOUND);
	return -1;
}

void api_allowed_get (struct call *c)
{
	struct reg_endpoint e;
	json_t *list;
	char t[ID_TEXT];

	if (usable_endpoint (c, &e) < 0)
		return;
	list = json_array ();
	for (size_t i = 0; i < e.nallowed; i++)
		json_array_append_new (list, json_string (id_text (&e.allowed[i], t)));
	call_json (c, json_pack ("{s:s, s:b, s:O, s:o}", "endpoint_id", id_text (&e.id, t), "restricted", (int) e.restricted, "functions", list, "result",
				 list));
	reg_endpoint_fini (&e);
}

static void set_text (json_t *o, const char *key, const char *s)
{
	json_object_set_new (o, key, s ? json_string (s) : json_null ());
}

void api_endpoint_get (struct call *c)
{
	static const char *const members[] = { "endpoint_config", "user_config_template", "user_config_schema", "description", "hostname", "local_user",
					       "ip_address", "endpoint_version", "sdk_version", "python_version", "pythons" };
	struct reg_endpoint e;
	json_t *o, *meta, *options, *v;
	char t[ID_TEXT], when[32];

	if (usable_endpoint (c, &e) < 0)
		return;
	meta = e.metadata ? json_loads (e.metadata, JSON_ALLOW_NUL, NULL) : NULL;
	options = e.options ? json_loads (e.options, 0, NULL) : NULL;
	o = json_object ();
	set_text (o, "uuid", id_text (&e.id, t));
	set_text (o, "name", e.name);
	set_text (o, "display_name", e.display_name ? e.display_name : e.name);
	json_object_set_new (o, "multi_user", json_boolean (json_is_true (json_object_get (options, "multi_user"))));
	json_object_set_new (o, "high_assurance", json_boolean (json_is_true (json_object_get (options, "high_assurance"))));
	json_object_set_new (o, "public", json_boolean (e.public));
	for (size_t i = 0; i < sizeof (members) / sizeof (members[0]); i++)
		json_object_set_new (o, members[i], (v = json_object_get (meta, members[i])) ? json_incref (v) : json_null ());
	v = json_object_get (options, "subscription_uuid");
	json_object_set_new (o, "subscription_uuid", v ? json_incref (v) : json_null ());
	json_object_set_new (o, "subscription_admin_verified", json_false ());
	set_text (o, "owner", id_text (&e.owner, t));
	set_text (o, "created", clock_iso (e.created_ms * 1000000, when));
	json_object_set_new (o, "weft", json_pack ("{s:s?}", "public_key", e.public_key));
	json_decref (meta);
	json_decref (options);
	reg_endpoint_fini (&e);
	call_json (c, o);
}

void api_endpoint_list_v2 (struct call *c)
{
	struct reg_endpoint *rows;
	enum reg_role role = REG_OWNER;
	struct err err;
	json_t *list;
	char word[16], t[ID_TEXT], u[ID_TEXT];
	size_t n;

	if (http_query_param (c->req, "role", word, sizeof (word)) == 0) {
		if (strcmp (word, "owner") && strcmp (word, "any")) {
			call_fail (c, FAIL_MALFORMED, "query parameter 'role': owner or any is expected");
			return;
		}
		role = strcmp (word, "any") ? REG_OWNER : REG_ANY;
	}
	if (registry_endpoints (c->app->registry, &c->who.user, role, NULL, 10000, &rows, &n, &err) < 0) {
		call_fail_err (c, &err, FAIL_ENDPOINT_NOT_FOUND);
		return;
	}
	list = json_array ();
	for (size_t i = 0; i < n; i++) {
		json_array_append_new (list, json_pack ("{s:s, s:s, s:s, s:s}", "uuid", id_text (&rows[i].id, t), "name", rows[i].name, "display_name",
							rows[i].display_name ? rows[i].display_name : rows[i].name, "owner",
							id_text (&rows[i].owner, u)));
		reg_endpoint_fini (&rows[i]);
	}
	free (rows);
	call_json (c, list);
}
