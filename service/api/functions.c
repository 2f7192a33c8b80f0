/* SPDX-License-Identifier: Apache-2.0 */
/* Functions: register, list, show, delete. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/digest.h"
#include "common/xmem.h"
#include "proto/layout.h"
#include "proto/msg_function.h"
#include "service/api/api.h"
#include "service/api/shared.h"
#include "service/call.h"
#include "service/limits.h"
#include "service/options.h"

#define DESCRIPTION_MAX 65536
#define META_MAX 65536
#define LIST_MAX 1000

/* ---- register --------------------------------------------------------------------------------------------------- */

struct registration {
	struct call *c;
	struct reg_function f;
	struct id *shared;
	size_t nshared;
	bool found;		/* once: it was registered before */
	int rc;
	struct err err;
};

static void registration_free (struct registration *g)
{
	reg_function_fini (&g->f);
	free (g->shared);
	free (g);
}

static void on_published (const struct err *err, void *arg)
{
	/* Redis may be away: the record goes there with the first task instead. */
	struct registration *g = arg;
	char t[ID_TEXT];

	(void) err;
	call_json (g->c, json_pack ("{s:s}", "function_uuid", id_text (&g->f.id, t)));
	registration_free (g);
}

static void add_work (struct registry *r, void *arg)
{
	struct registration *g = arg;

	if (g->f.once && registry_function_once (r, &g->f.owner, g->f.digest, &g->f.id, &g->err) == 0) {
		g->found = true;
		return;
	}
	g->rc = registry_function_add (r, &g->f, g->shared, g->nshared, &g->err);
	if (g->rc < 0 && g->f.once && g->err.code == ERR_CONFLICT) { /* another process has, this very moment */
		g->rc = registry_function_once (r, &g->f.owner, g->f.digest, &g->f.id, &g->err);
		g->found = g->rc == 0;
	}
}

static void add_done (void *arg)
{
	struct registration *g = arg;

	if (g->rc < 0) {
		call_fail_err (g->c, &g->err, FAIL_FUNCTION_NOT_FOUND);
		registration_free (g);
		return;
	}
	if (!g->found) {
		char t[ID_TEXT];
		call_audit (g->c, "function.register", id_text (&g->f.id, t), 1);
	}
	catalog_publish (g->c->app->catalog, &g->f.id, on_published, g);
}

static char *text_or_null (const char *s)
{
	return s && *s ? xstrdup (s) : NULL;
}

static bool is_base64 (const char *p, size_t n)
{
	size_t digits = 0;

	for (size_t i = 0; i < n; i++) {
		if (strchr ("\r\n", p[i]) && p[i])
			continue;
		if (!p[i] || !strchr ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=", p[i]))
			return false;
		digits++;
	}
	return digits && digits % 4 == 0;
}

static void check_code (struct check *k, struct registration *g)
{
	if (g->f.kind == KIND_PYTHON && !g->f.entry)
		check_problem (k, "entry", -1, "value_error.missing", "kind python needs the name of the function in the code");
	if (g->f.kind == KIND_SHARED_OBJECT && !g->f.entry)
		check_problem (k, "entry", -1, "value_error.missing", "kind shared_object needs the name of a symbol");
	if (g->f.kind == KIND_SHARED_OBJECT && !is_base64 (g->f.code, g->f.code_bytes))
		check_problem (k, "function_code", -1, "value_error.str", "kind shared_object: the file in base64 is expected");
	if (g->f.kind == KIND_COMMAND) {
		json_t *o = json_loadb (g->f.code, g->f.code_bytes, JSON_REJECT_DUPLICATES, NULL), *argv = json_object_get (o, "argv");
		if (!json_is_array (argv) || !json_array_size (argv) || !json_is_string (json_array_get (argv, 0)))
			check_problem (k, "function_code", -1, "value_error.str",
				       "kind command: JSON text {\"argv\": [program, ...], \"env\": {...}} is expected");
		json_decref (o);
	}
}

/* container_uuid, as old SDKs have it: the image that was registered under it. */
static void read_container_id (struct check *k, struct registry *r, json_t *body)
{
	struct reg_container row;
	struct id id;
	struct err err;

	if (!check_id (k, body, "container_uuid", false, &id) || check_get (body, "container"))
		return;
	if (registry_container_get (r, &id, &row, &err) < 0) {
		check_problem (k, "container_uuid", -1, "value_error", "%s", err.text);
		return;
	}
	json_object_set_new (body, "container", json_pack ("{s:s, s:s}", "image", row.location, "type", row.type));
	reg_container_fini (&row);
}

/* Source text that nobody serialised ("serialized": false, register_source_code of newer SDKs) as those who can would have sent it:
 * a packed buffer, whose length counts characters, of id "st" and name:source. */
static void pack_source (struct reg_function *f, const char *source, size_t n)
{
	size_t name = strlen (f->name), characters = 0;
	char head[32];

	for (size_t i = 0; i < name; i++)
		characters += (f->name[i] & 0xc0) != 0x80;
	for (size_t i = 0; i < n; i++)
		characters += (source[i] & 0xc0) != 0x80;
	f->code_bytes = (size_t) snprintf (head, sizeof (head), "%zu\nst\n", characters + 4) + name + 1 + n;
	if (!(f->code = malloc (f->code_bytes + 1)))
		return;
	snprintf (f->code, f->code_bytes - n + 1, "%s%s:", head, f->name);
	memcpy (f->code + f->code_bytes - n, source, n);
	f->code[f->code_bytes] = 0;
}

static void keep_code (struct reg_function *f, const char *code, size_t n)
{
	f->code_bytes = n;
	if (!(f->code = malloc (n + 1)))
		return;
	memcpy (f->code, code, n);
	f->code[n] = 0;
}

static void read_code (struct check *k, struct registration *g, const json_t *body)
{
	size_t n = 0;
	const char *s = check_string (k, body, "function_code", true, SIZE_MAX, &n);
	bool source = !check_bool (k, body, "serialized", true);

	if (source && g->f.kind != KIND_GLOBUS)
		check_problem (k, "serialized", -1, "value_error", "only kind globus has a serialised form");
	if (source && g->f.kind == KIND_GLOBUS)
		pack_source (&g->f, s ? s : "", n);
	else
		keep_code (&g->f, s ? s : "", s ? n : 0);
	if (s && g->f.code)
		check_code (k, g);
}

static void read_registration (struct check *k, struct registration *g, json_t *body)
{
	struct reg_function *f = &g->f;
	struct limits limits;
	struct options options;
	const char *s;
	json_t *meta;

	s = check_string (k, body, "function_name", true, 1024, NULL);
	f->name = xstrdup (s ? s : "");
	f->description = text_or_null (check_string (k, body, "description", false, DESCRIPTION_MAX, NULL));
	s = check_string (k, body, "kind", false, 32, NULL);
	f->kind = (uint8_t) (s ? msg_kind_parse (s) : KIND_GLOBUS);
	if (f->kind == KIND_NONE)
		check_problem (k, "kind", -1, "value_error.const", "globus, python, command or shared_object is expected");
	if (!(s = check_string (k, body, "entry", false, WIRE_MAX_TEXT, NULL)))
		s = check_string (k, body, "entry_point", false, WIRE_MAX_TEXT, NULL); /* as old SDKs call it */
	f->entry = text_or_null (s);
	read_container_id (k, g->c->app->registry, body);
	options_read (k, body, f->kind, &options);
	f->container = options.image;
	f->options = options.text;
	f->public = check_bool (k, body, "public", false);
	limits_read (k, body, 0, &limits);
	f->time_limit_ms = limits.time_limit_ms;
	f->memory_limit_bytes = limits.memory_limit_bytes;
	if (check_get (body, "ha_endpoint_id"))
		check_problem (k, "ha_endpoint_id", -1, "value_error.unsupported", "high assurance is not offered: leave it out");
	if (check_get (body, "group"))
		check_problem (k, "group", -1, "value_error.unsupported", "sharing with groups is not offered; name users in 'shared_with'");
	if (!(meta = check_object (k, body, "meta", false)))
		meta = check_object (k, body, "metadata", false);
	f->meta = json_text (meta);
	if (f->meta && strlen (f->meta) > META_MAX)
		check_problem (k, "meta", -1, "value_error.dict", "at most %d bytes are allowed", META_MAX);
	read_code (k, g, body);
	g->shared = shared_users (k, body, g->c->app->registry, &g->nshared);
}

/* All that the registration says but who made it with what: equal ones are the same function. */
static bool content_digest (const json_t *body, uint8_t digest[REG_HASH_BYTES])
{
	json_t *content = json_copy ((json_t *) body);
	char *text;
	struct digest_part part;
	bool ok;

	json_object_del (content, "meta");
	json_object_del (content, "metadata");
	json_object_del (content, "once");
	text = json_dumps (content, JSON_SORT_KEYS | JSON_COMPACT);
	json_decref (content);
	part = (struct digest_part) { text, text ? strlen (text) : 0 };
	ok = text && digest_sha256 (&part, 1, digest) == 0;
	free (text);
	return ok;
}

void api_function_register (struct call *c)
{
	struct registration *g;
	struct check k = { 0 };
	json_t *body = call_object (c), *code;

	if (!body)
		return;
	code = json_object_get (body, "function_code");
	if (json_string_length (code) > (size_t) c->app->config->function_bytes) {
		call_fail (c, FAIL_FUNCTION_TOO_LARGE, "the function's code has %zu bytes, at most %lld are allowed", json_string_length (code),
			   (long long) c->app->config->function_bytes);
		json_decref (body);
		return;
	}
	g = xcalloc (1, sizeof (*g));
	g->c = c;
	read_registration (&k, g, body);
	if (check_bool (&k, body, "once", false))
		g->f.once = content_digest (body, g->f.digest);
	json_decref (body);
	if (!check_ok (&k) || !g->f.code) {
		if (check_ok (&k))
			check_problem (&k, "function_code", -1, "value_error", "memory is short right now");
		call_invalid (c, &k);
		registration_free (g);
		return;
	}
	id_new (&g->f.id);
	g->f.owner = c->who.user;
	g->f.created_ms = clock_real_ns () / 1000000;
	db_run (c->app->db, add_work, add_done, g);
}

/* ---- show ------------------------------------------------------------------------------------------------------- */

static void set_text (json_t *o, const char *key, const char *s)
{
	json_object_set_new (o, key, s ? json_string (s) : json_null ());
}

static json_t *function_doc (const struct reg_function *f)
{
	json_t *o = json_object (), *meta = f->meta ? json_loads (f->meta, JSON_ALLOW_NUL, NULL) : NULL, *limits = json_object ();
	char t[ID_TEXT], when[32];

	set_text (o, "function_uuid", id_text (&f->id, t));
	set_text (o, "function_name", f->name);
	set_text (o, "description", f->description);
	json_object_set_new (o, "metadata", meta ? meta : json_null ());
	set_text (o, "kind", msg_kind_name (f->kind));
	set_text (o, "entry", f->entry);
	options_show (o, f->container, f->options);
	json_object_set_new (o, "public", json_boolean (f->public));
	set_text (o, "owner", id_text (&f->owner, t));
	json_object_set_new (limits, "time_limit_s", json_real ((double) f->time_limit_ms / 1000));
	json_object_set_new (limits, "memory_limit_bytes", json_integer ((json_int_t) f->memory_limit_bytes));
	json_object_set_new (o, "limits", limits);
	set_text (o, "created", clock_iso (f->created_ms * 1000000, when));
	return o;
}

void api_function_get (struct call *c)
{
	struct reg_function f;
	struct id id;
	enum fail why;
	struct err err;
	json_t *o;

	if (call_id (c, 0, &id) < 0)
		return;
	if (catalog_function (c->app->catalog, &id, &c->who.user, &why, &err) < 0) {
		call_fail (c, why, "%s", err.text);
		return;
	}
	if (registry_function_get (c->app->registry, &id, true, &f, &err) < 0) {
		call_fail_err (c, &err, FAIL_FUNCTION_NOT_FOUND);
		return;
	}
	o = function_doc (&f);
	json_object_set_new (o, "function_code", json_stringn (f.code, f.code_bytes));
	reg_function_fini (&f);
	call_json (c, o);
}

void api_function_list (struct call *c)
{
	struct reg_function *rows;
	struct id before;
	bool paged;
	int64_t limit;
	size_t n;
	struct err err;
	json_t *list;
	char t[ID_TEXT];

	if (call_query_int (c, "limit", 1, LIST_MAX, 100, &limit) < 0 || call_query_id (c, "cursor", &before, &paged) < 0)
		return;
	if (registry_functions (c->app->registry, &c->who.user, paged ? &before : NULL, (size_t) limit, &rows, &n, &err) < 0) {
		call_fail_err (c, &err, FAIL_FUNCTION_NOT_FOUND);
		return;
	}
	list = json_array ();
	for (size_t i = 0; i < n; i++)
		json_array_append_new (list, function_doc (&rows[i]));
	call_json (c, json_pack ("{s:o, s:o}", "functions", list, "next_cursor",
				 n == (size_t) limit ? json_string (id_text (&rows[n - 1].id, t)) : json_null ()));
	for (size_t i = 0; i < n; i++)
		reg_function_fini (&rows[i]);
	free (rows);
}

/* ---- delete ----------------------------------------------------------------------------------------------------- */

struct removal { struct call *c; struct id id; int rc; struct err err; };

static void remove_work (struct registry *r, void *arg)
{
	struct removal *m = arg;

	m->rc = registry_function_remove (r, &m->id, &m->err);
}

static void remove_done (void *arg)
{
	struct removal *m = arg;
	struct app *a = m->c->app;
	char key[LAYOUT_KEY_MAX], ms[24];

	if (m->rc < 0)
		call_fail_err (m->c, &m->err, FAIL_FUNCTION_NOT_FOUND);
	else {
		/* Tasks that were accepted still run it. */
		catalog_forget (a->catalog, &m->id);
		layout_key (key, "fn", &m->id, NULL);
		snprintf (ms, sizeof (ms), "%lld", (long long) a->config->retention_ms);
		if (rds_up (a->redis))
			rds_commandf (a->redis, NULL, NULL, "PEXPIRE %s %s", key, ms);
		call_json (m->c, json_pack ("{s:i}", "result", 302));
	}
	free (m);
}

void api_function_delete (struct call *c)
{
	struct removal *m;
	struct reg_function f;
	struct id id;
	struct err err;
	bool own;
	char t[ID_TEXT];

	if (call_id (c, 0, &id) < 0)
		return;
	if (registry_function_get (c->app->registry, &id, false, &f, &err) < 0) {
		if (err.code == ERR_NOT_FOUND)
			err_set (&err, ERR_NOT_FOUND, FAULT_USER, "Function %s could not be resolved", id_text (&id, t));
		call_fail_err (c, &err, FAIL_FUNCTION_NOT_FOUND);
		return;
	}
	own = id_eq (&f.owner, &c->who.user);
	reg_function_fini (&f);
	if (!own) {
		call_fail (c, FAIL_FUNCTION_FORBIDDEN, "only its owner may delete function %s", id_text (&id, t));
		return;
	}
	call_audit (c, "function.delete", id_text (&id, t), 1);
	m = xcalloc (1, sizeof (*m));
	m->c = c;
	m->id = id;
	db_run (c->app->db, remove_work, remove_done, m);
}
