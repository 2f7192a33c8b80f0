/* SPDX-License-Identifier: Apache-2.0 */
/* PATCH of a function: its container may change (image, replicas, limits), nothing else. The members given are put over those that
 * stand; forwarders hear of it and hand the new record to their endpoints that have the function. The answer comes when that stands in the
 * control streams of all endpoints: a task submitted after it is called with the new container (SPEC.md, section 8). */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "common/xmem.h"
#include "service/api/api.h"
#include "service/api/shared.h"
#include "service/call.h"
#include "service/options.h"
#include "service/republish.h"

struct update { struct call *c; struct id id; struct options o; int rc; struct err err; size_t untold; bool failed; };

static void update_free (struct update *u)
{
	options_fini (&u->o);
	free (u);
}

static void finish (struct update *u)
{
	char t[ID_TEXT];

	if (u->failed)
		call_fail (u->c, FAIL_UNAVAILABLE, "function %s was changed, but not all endpoints could be told (Redis): send the same change again",
			   id_text (&u->id, t));
	else
		call_json (u->c, json_pack ("{s:s}", "function_uuid", id_text (&u->id, t)));
	update_free (u);
}

static void on_told (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct update *u = arg;

	(void) r;
	u->failed |= err || rds_reply_error (reply, NULL) < 0;
	if (!--u->untold)
		finish (u);
}

/* To all: a forwarder whose endpoint does not have the function ignores it. */
static void on_endpoints (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct update *u = arg;
	struct id endpoint;

	(void) r;
	u->failed = err || reply->type != REDIS_REPLY_ARRAY;
	u->untold = 1;		/* our own, to the end of the loop */
	for (size_t i = 0; !u->failed && i < reply->elements; i++) {
		const struct redisReply *m = reply->element[i];
		if (m->type != REDIS_REPLY_STRING || id_parse (&endpoint, m->str, m->len) < 0)
			continue;
		u->untold++;
		republish_control (u->c->app, &endpoint, "function", &u->id, on_told, u);
	}
	if (!--u->untold)
		finish (u);
}

static void on_published (const struct err *err, void *arg)
{
	struct update *u = arg;

	if (err) {
		log_warn ("functions", "a changed function could not be published", "err=%s", err->text);
		u->failed = true;
		finish (u);
	} else {
		rds_commandf (u->c->app->redis, on_endpoints, u, "SMEMBERS weft:eps");
	}
}

static void work (struct registry *r, void *arg)
{
	struct update *u = arg;

	u->rc = registry_function_container (r, &u->id, u->o.image, u->o.text, &u->err);
}

static void done (void *arg)
{
	struct update *u = arg;

	if (u->rc < 0) {
		call_fail_err (u->c, &u->err, FAIL_FUNCTION_NOT_FOUND);
		update_free (u);
		return;
	}
	catalog_forget (u->c->app->catalog, &u->id);
	catalog_publish (u->c->app->catalog, &u->id, on_published, u);
}

/* What stands, as a registration would say it, with the new members over it. */
static json_t *merged (const struct reg_function *f, json_t *given)
{
	json_t *doc = json_object (), *c;

	options_show (doc, f->container, f->options);
	c = json_object_get (doc, "container");
	if (json_is_string (c))
		json_object_set_new (doc, "container", json_pack ("{s:O}", "image", c));
	c = json_object_get (doc, "container");
	if (json_is_string (given))
		given = json_pack ("{s:O}", "image", given);
	else
		json_incref (given);
	if (json_is_object (c) && json_is_object (given))
		json_object_update (c, given);
	else
		json_object_set (doc, "container", given);
	json_decref (given);
	return doc;
}

void api_function_update (struct call *c)
{
	struct check k = { 0 };
	struct reg_function f;
	struct update *u;
	struct id id;
	struct err err;
	json_t *body, *doc, *v;
	const char *key;
	char t[ID_TEXT];

	if (call_id (c, 0, &id) < 0 || !(body = call_object (c)))
		return;
	json_object_foreach (body, key, v)
		if (strcmp (key, "container") != 0)
			check_problem (&k, "body", -1, "value_error.extra", "'%.60s' cannot be changed: register another function", key);
	if (!check_get (body, "container"))
		check_problem (&k, "container", -1, "value_error.missing", "'container' is needed: an image, or an object with what changes");
	if (registry_function_get (c->app->registry, &id, false, &f, &err) < 0) {
		call_fail_err (c, &err, FAIL_FUNCTION_NOT_FOUND);
		json_decref (body);
		check_fini (&k);
		return;
	}
	if (!id_eq (&f.owner, &c->who.user)) {
		call_fail (c, FAIL_FUNCTION_FORBIDDEN, "only its owner may change function %s", id_text (&id, t));
		reg_function_fini (&f);
		json_decref (body);
		check_fini (&k);
		return;
	}
	u = xcalloc (1, sizeof (*u));
	u->c = c;
	u->id = id;
	doc = merged (&f, check_get (body, "container"));
	options_read (&k, doc, f.kind, &u->o);
	options_keep_python (&u->o, f.options);
	json_decref (doc);
	json_decref (body);
	reg_function_fini (&f);
	if (!check_ok (&k)) {
		call_invalid (c, &k);
		update_free (u);
		return;
	}
	call_audit (c, "function.update", id_text (&id, t), 1);
	db_run (c->app->db, work, done, u);
}
