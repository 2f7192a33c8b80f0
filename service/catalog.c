/* SPDX-License-Identifier: Apache-2.0 */
#include "service/catalog.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/map.h"
#include "common/pythons.h"
#include "common/xmem.h"
#include "proto/layout.h"
#include "proto/msg_files.h"
#include "proto/msg_function.h"
#include "service/files.h"
#include "service/offers.h"
#include "service/options.h"

#define ENTRIES_MAX 20000	/* of each kind; over it the memory starts over */

struct function {
	struct id owner;
	bool public, files, keeps, batch;	/* files: it has some; keeps: of those that it makes one is kept; batch: a batch entry */
	uint8_t kind;
	struct options_python python;
	int64_t until_ms;
	char *container;
	json_t *options;		/* when there is a container, else NULL */
};
struct endpoint { struct reg_endpoint e; json_t *offers; int64_t until_ms; };

struct catalog {
	struct registry *registry;
	struct rds *redis;
	int64_t cache_ms;
	struct map *functions, *endpoints;
	struct map *published;		/* id -> epoch, as a pointer */
	uintptr_t epoch;
};

static void function_free (void *v)
{
	struct function *f = v;

	if (f) {
		free (f->container);
		json_decref (f->options);
	}
	free (f);
}

static void endpoint_free (void *v)
{
	struct endpoint *e = v;

	if (e) {
		reg_endpoint_fini (&e->e);
		json_decref (e->offers);
	}
	free (e);
}

static void bound (struct map **m, void (*drop) (void *))
{
	if (map_size (*m) >= ENTRIES_MAX)
		map_empty (m, drop);
}

struct catalog *catalog_create (struct registry *registry, struct rds *redis, int64_t cache_ms)
{
	struct catalog *c = xcalloc (1, sizeof (*c));

	c->registry = registry;
	c->redis = redis;
	c->cache_ms = cache_ms;
	c->epoch = 1;
	c->functions = map_create ();
	c->endpoints = map_create ();
	c->published = map_create ();
	return c;
}

void catalog_destroy (struct catalog **cp)
{
	struct catalog *c = *cp;

	if (!c)
		return;
	map_destroy_owned (&c->functions, function_free);
	map_destroy_owned (&c->endpoints, endpoint_free);
	map_destroy (&c->published);
	free (c);
	*cp = NULL;
}

void catalog_forget (struct catalog *c, const struct id *id)
{
	function_free (map_del (c->functions, id));
	endpoint_free (map_del (c->endpoints, id));
	map_del (c->published, id);
}

void catalog_redis_up (struct catalog *c)
{
	c->epoch++;
}

static int lookup_failed (enum fail *why, enum fail not_found, const struct err *err)
{
	*why = err->code == ERR_NOT_FOUND ? not_found : FAIL_UNAVAILABLE;
	return -1;
}

/* ---- functions -------------------------------------------------------------------------------------------------- */

static struct function *get_function (struct catalog *c, const struct id *id, struct err *err)
{
	struct function *f = map_get (c->functions, id);
	struct reg_function row;

	if (f && clock_now_ms () < f->until_ms)
		return f;
	if (registry_function_get (c->registry, id, false, &row, err) < 0) {
		function_free (map_del (c->functions, id));
		return NULL;
	}
	if (!f) {
		bound (&c->functions, function_free);
		f = xcalloc (1, sizeof (*f));
		map_put (c->functions, id, f);
	}
	f->owner = row.owner;
	f->public = row.public;
	f->kind = row.kind;
	json_decref (f->options);
	f->options = row.options ? json_loads (row.options, 0, NULL) : NULL;
	f->python = options_python (f->options);
	f->batch = json_object_get (f->options, "batch") != NULL;
	f->files = json_object_get (f->options, "files") || json_object_get (f->options, "outputs");
	f->keeps = outputs_keep (json_object_get (f->options, "outputs"));
	if (!row.container) {
		json_decref (f->options);
		f->options = NULL;
	}
	f->until_ms = clock_now_ms () + c->cache_ms;
	free (f->container);
	f->container = row.container;
	row.container = NULL;
	reg_function_fini (&row);
	return f;
}

int catalog_function (struct catalog *c, const struct id *function, const struct id *user, enum fail *why, struct err *err)
{
	struct function *f = get_function (c, function, err);
	char t[ID_TEXT];

	if (!f) {
		if (err->code == ERR_NOT_FOUND)
			err_set (err, ERR_NOT_FOUND, FAULT_USER, "Function %s could not be resolved", id_text (function, t));
		return lookup_failed (why, FAIL_FUNCTION_NOT_FOUND, err);
	}
	if (f->public || id_eq (&f->owner, user) || registry_shared (c->registry, function, user))
		return 0;
	*why = FAIL_FUNCTION_FORBIDDEN;
	return err_set (err, ERR_FORBIDDEN, FAULT_USER, "Unauthorized access to function %s", id_text (function, t));
}

/* ---- endpoints -------------------------------------------------------------------------------------------------- */

static struct endpoint *get_endpoint (struct catalog *c, const struct id *id, struct err *err)
{
	struct endpoint *e = map_get (c->endpoints, id);
	struct reg_endpoint row;

	if (e && clock_now_ms () < e->until_ms)
		return e;
	if (registry_endpoint_get (c->registry, id, &row, err) < 0) {
		endpoint_free (map_del (c->endpoints, id));
		return NULL;
	}
	if (!e) {
		bound (&c->endpoints, endpoint_free);
		e = xcalloc (1, sizeof (*e));
		map_put (c->endpoints, id, e);
	} else {
		reg_endpoint_fini (&e->e);
		json_decref (e->offers);
	}
	e->e = row;
	e->offers = offers_read (row.metadata);
	e->until_ms = clock_now_ms () + c->cache_ms;
	return e;
}

int catalog_endpoint (struct catalog *c, const struct id *endpoint, const struct id *user, enum fail *why, struct err *err)
{
	struct endpoint *e = get_endpoint (c, endpoint, err);
	char t[ID_TEXT];

	if (!e) {
		if (err->code == ERR_NOT_FOUND)
			err_set (err, ERR_NOT_FOUND, FAULT_USER, "Endpoint %s could not be resolved", id_text (endpoint, t));
		return lookup_failed (why, FAIL_ENDPOINT_NOT_FOUND, err);
	}
	if (e->e.public || id_eq (&e->e.owner, user) || registry_shared (c->registry, endpoint, user))
		return 0;
	*why = FAIL_ENDPOINT_FORBIDDEN;
	return err_set (err, ERR_FORBIDDEN, FAULT_USER, "Unauthorized access to endpoint %s", id_text (endpoint, t));
}

static bool in_allowed (const struct endpoint *e, const struct id *function)
{
	bool in = !e->e.restricted;

	for (size_t i = 0; !in && i < e->e.nallowed; i++)
		in = id_eq (&e->e.allowed[i], function);
	return in;
}

/* Bytecode runs on the Python that made it, and on no other. In a container that is the image's business. */
static int check_python (const struct endpoint *e, const struct function *f, const struct id *function, uint16_t python, struct err *err)
{
	char t[ID_TEXT], v[8], list[128];

	if (f->python.version)
		python = f->python.version;
	if (!f->python.bytecode || f->container || offers_has_python (e->offers, python))
		return 0;
	return err_set (err, ERR_INVALID, FAULT_USER, "function %s is bytecode of Python %s, and the endpoint has Python %s: "
			"send it as source (PureSourceTextInspect), or choose an endpoint with Python %s", id_text (function, t),
			python_version_text (python, v), offers_pythons (e->offers, list, 40), v);
}

bool catalog_python_warning (struct catalog *c, const struct id *endpoint, const struct id *function, uint16_t python, char *text, size_t room)
{
	const struct endpoint *e = map_get (c->endpoints, endpoint);
	const struct function *f = map_get (c->functions, function);
	char v[8], list[128];

	if (!e || !f || f->kind != KIND_GLOBUS || f->container || offers_has_python (e->offers, python))
		return false;
	snprintf (text, room, "You use Python %s, and the endpoint has Python %s: arguments and results that hold classes or functions of yours "
		  "may not be readable there or here.", python_version_text (python, v), offers_pythons (e->offers, list, sizeof (list)));
	return true;
}

int catalog_allowed (struct catalog *c, const struct id *endpoint, const struct id *function, const struct catalog_wants *wants, enum fail *why,
		     struct err *err)
{
	struct endpoint *e = get_endpoint (c, endpoint, err);
	char t[ID_TEXT], u[ID_TEXT];

	if (!e)
		return lookup_failed (why, FAIL_ENDPOINT_NOT_FOUND, err);
	if (in_allowed (e, function)) {
		struct function *f = map_get (c->functions, function);

		*why = FAIL_SEMANTICS;
		if ((wants->files.n || (f && f->files)) && offers_files (e->offers, msg_files_has_kept (wants->files) || (f && f->keeps), err) < 0)
			return -1;
		if (wants->nodes && f && f->batch)
			return err_set (err, ERR_INVALID, FAULT_USER, "resource_specification: a function with a batch entry cannot be given nodes of its own");
		if (wants->nodes && offers_nodes (e->offers, wants->nodes, err) < 0)
			return -1;
		return !f ? 0 : offers_check (e->offers, f->container, f->options, err) < 0 ? -1 : check_python (e, f, function, wants->python, err);
	}
	*why = FAIL_FUNCTION_NOT_PERMITTED;
	return err_set (err, ERR_FORBIDDEN, FAULT_USER, "Function %s not permitted on endpoint %s", id_text (function, t),
			id_text (endpoint, u));
}

/* ---- records in Redis ------------------------------------------------------------------------------------------- */

struct publication { struct catalog *c; struct id id; uintptr_t epoch; catalog_f *done; void *arg; };

bool catalog_published (struct catalog *c, const struct id *function)
{
	return (uintptr_t) map_get (c->published, function) == c->epoch;
}

static void on_set (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct publication *p = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (!err) {
		bound (&p->c->published, NULL);
		map_put (p->c->published, &p->id, (void *) p->epoch);
	}
	p->done (err, p->arg);
	free (p);
}

static void on_no_row (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct publication *p = arg;
	struct err e = { .code = ERR_NOT_FOUND, .fault = FAULT_USER, .text = "the function has been removed" };

	(void) r;
	(void) reply;
	p->done (err ? err : &e, p->arg);
	free (p);
}

void catalog_publish (struct catalog *c, const struct id *function, catalog_f *done, void *arg)
{
	struct publication *p = xcalloc (1, sizeof (*p));
	struct reg_function f;
	struct msg_function m;
	char key[LAYOUT_KEY_MAX];
	struct buf b, files;
	json_t *options;

	*p = (struct publication) { c, *function, c->epoch, done, arg };
	if (registry_function_get (c->registry, function, true, &f, NULL) < 0) {
		rds_commandf (c->redis, on_no_row, p, "PING"); /* the answer comes from the loop, as promised */
		return;
	}
	m = (struct msg_function) { .kind = f.kind, .id = *function, .time_limit_ms = f.time_limit_ms, .memory_limit_bytes = f.memory_limit_bytes,
				    .code = wire_str (f.code, f.code_bytes), .entry = wire_str (f.entry, f.entry ? strlen (f.entry) : 0),
				    .container = wire_str (f.container, f.container ? strlen (f.container) : 0) };
	buf_init (&b, 0);
	buf_init (&files, 0);
	options_apply (&m, f.options, &options, &files);
	msg_function_encode (&b, &m);
	json_decref (options);
	buf_fini (&files);
	layout_key (key, "fn", function, NULL);
	rds_commandf (c->redis, on_set, p, "SET %s %b", key, b.data, b.len);
	buf_fini (&b);
	reg_function_fini (&f);
}
