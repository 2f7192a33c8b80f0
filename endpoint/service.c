/* SPDX-License-Identifier: Apache-2.0 */
/* See service.h. */
#include "endpoint/service.h"
#include "common/clock.h"
#include "common/fetch.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/paths.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum {
	WAIT_S = 30,		/* long poll for the forwarder's address */
	BACKOFF_BASE_MS = 500,
	BACKOFF_CAP_MS = 30000,
	REPLY_MAX = 1 << 20,
};
enum step { STEP_IDLE, STEP_REGISTER, STEP_ASK };

struct service {
	struct loop *loop;
	struct fetch *fetch;
	struct fetch_req *req;
	struct loop_timer *again;
	struct service_ops ops;
	char *url, *token, *identity_path, *name, *public_key;
	const struct conf_list *allowed;
	json_t *more;
	struct identity who, saved;
	enum step step;
	bool changed;			/* the metadata, while it was being told */
	unsigned attempt;
};

/* ---- endpoint.json ------------------------------------------------------------------------------------------ */

static void copy_text (char *out, size_t cap, const json_t *v)
{
	snprintf (out, cap, "%s", json_is_string (v) ? json_string_value (v) : "");
}

int identity_load (struct identity *i, const char *path, struct err *err)
{
	json_error_t je;
	json_t *j;
	const char *text;

	memset (i, 0, sizeof (*i));
	if (access (path, F_OK) < 0 && errno == ENOENT)
		return 0;
	if (!(j = json_load_file (path, JSON_REJECT_DUPLICATES, &je)))
		return err_set (err, ERR_INVALID, FAULT_SITE, "%s: %s", path, je.text);
	text = json_string_value (json_object_get (j, "endpoint_id"));
	if (text && id_parse (&i->id, text, strlen (text)) == 0)
		i->known = true;
	copy_text (i->service_url, sizeof (i->service_url), json_object_get (j, "service_url"));
	copy_text (i->address, sizeof (i->address), json_object_get (j, "forwarder_address"));
	copy_text (i->server_key, sizeof (i->server_key), json_object_get (j, "forwarder_key"));
	json_decref (j);
	return i->known ? 0 : err_set (err, ERR_INVALID, FAULT_SITE, "%s has no endpoint_id", path);
}

int identity_save (const struct identity *i, const char *path, struct err *err)
{
	char id[ID_TEXT];
	json_t *j = json_pack ("{s:s, s:s, s:s, s:s}", "endpoint_id", id_text (&i->id, id), "service_url", i->service_url,
			       "forwarder_address", i->address, "forwarder_key", i->server_key);
	char *text = j ? json_dumps (j, JSON_INDENT (2)) : NULL;
	int rc = text ? paths_write_durable (path, text, strlen (text), 0600, err)
		      : err_set (err, ERR_INTERNAL, FAULT_SELF, "writing %s: not UTF-8 or no memory", path);

	free (text);
	json_decref (j);
	return rc;
}

/* ---- replies ------------------------------------------------------------------------------------------------ */

int service_error (int status, const char *body, size_t n, const char *url, const struct err *cause, struct err *err)
{
	json_t *j = body && n ? json_loadb (body, n, 0, NULL) : NULL;
	const char *reason = json_string_value (json_object_get (j, "reason")), *kind = json_string_value (json_object_get (j, "code"));
	enum err_code code = ERR_UNAVAILABLE;

	if (!status) {
		err_set (err, ERR_UNAVAILABLE, FAULT_PEER, "the service at %s cannot be reached: %.200s", url,
			 cause ? cause->text : "no answer");
	} else if (status == 401 && kind && strcmp (kind, "USER_UNAUTHENTICATED") == 0) {
		err_set (err, ERR_UNAUTHENTICATED, FAULT_USER, "the service at %s wants a token, and there is no token here (HTTP 401): set "
			 "service.token_file in config.yaml, or WEFT_TOKEN", url);
	} else {
		if (status == 401)
			code = ERR_UNAUTHENTICATED;
		else if (status == 403)
			code = ERR_FORBIDDEN;
		else if (status == 404)
			code = ERR_NOT_FOUND;
		else if (status >= 400 && status < 500 && status != 429 && status != 408 && status != 423)
			code = ERR_INVALID;
		err_set (err, code, FAULT_PEER, "the service at %s %s (HTTP %d)%s%.200s", url,
			 status == 401 ? "refused the token" : status == 403 ? "does not permit it"
			 : status >= 500 || status == 429 ? "cannot do it now" : "refused", status,
			 reason ? ": " : "", reason ? reason : "");
	}
	json_decref (j);
	return -1;
}

char *service_registration (const char *name, const char *public_key, const struct conf_list *allowed, json_t *more)
{
	struct utsname u;
	char host[256] = "";
	const char *user = getenv ("USER");
	json_t *j, *list;
	char *text;

	gethostname (host, sizeof (host) - 1);
	if (uname (&u) < 0)
		memset (&u, 0, sizeof (u));
	j = json_pack ("{s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s, s:i}, s:{s:s}}", "endpoint_name", name, "display_name", name,
		       "version", WEFT_VERSION, "metadata", "hostname", host, "os", u.sysname, "os_release", u.release, "machine",
		       u.machine, "local_user", user ? user : "", "cores", (int) sysconf (_SC_NPROCESSORS_ONLN), "weft", "public_key",
		       public_key);
	if (j && more)
		json_object_update (json_object_get (j, "metadata"), more);
	if (j && allowed && allowed->n) {
		list = json_array ();
		for (size_t i = 0; i < allowed->n; i++)
			json_array_append_new (list, json_string (allowed->v[i]));
		json_object_set_new (j, "allowed_functions", list);
	}
	text = j ? json_dumps (j, JSON_COMPACT) : NULL;
	json_decref (j);
	return text ? text : xstrdup ("{}");
}

/* ---- steps -------------------------------------------------------------------------------------------------- */

static void run_step (struct service *s);

static void try_again (struct service *s, const struct err *err, bool refused)
{
	int64_t wait = clock_backoff_ms (s->attempt, BACKOFF_BASE_MS, BACKOFF_CAP_MS);

	if (s->attempt < 20)
		s->attempt++;
	log_warn ("service", "request failed", "err=%s again_ms=%lld", err->text, (long long) wait);
	loop_timer_start (s->again, wait, false);
	s->ops.failed (err, refused, s->ops.arg);
}

static void save (struct service *s)
{
	struct err err;

	if (memcmp (&s->who, &s->saved, sizeof (s->who)) == 0)
		return;		/* it is on disk, which takes a moment each time */
	if (identity_save (&s->who, s->identity_path, &err) < 0)
		log_err (LOG_ERROR, "service", "cannot keep the endpoint's id", &err);
	else
		s->saved = s->who;
}

static void on_registered (int status, const char *body, size_t n, const struct err *cause, void *arg)
{
	struct service *s = arg;
	json_t *j = NULL;
	const char *id;
	struct err err;

	s->req = NULL;
	if (status == 404 && s->who.known) {
		log_warn ("service", "the service does not know this endpoint any more, registering anew", NULL);
		s->who.known = false;
		run_step (s);
		return;
	}
	if (status / 100 != 2) {
		service_error (status, body, n, s->url, cause, &err);
		try_again (s, &err, status >= 400 && status < 500 && err.code != ERR_UNAVAILABLE);
		return;
	}
	j = json_loadb (body, n, JSON_REJECT_DUPLICATES, NULL);
	id = json_string_value (json_object_get (j, "endpoint_id"));
	if (!id || id_parse (&s->who.id, id, strlen (id)) < 0) {
		err_set (&err, ERR_INVALID, FAULT_PEER, "what answers at %s is not a Weft service: no endpoint_id in its reply", s->url);
		try_again (s, &err, true);
		json_decref (j);
		return;
	}
	json_decref (j);
	s->who.known = true;
	snprintf (s->who.service_url, sizeof (s->who.service_url), "%s", s->url);
	save (s);
	s->attempt = 0;
	if (s->changed) {
		s->changed = false;
		run_step (s);
		return;
	}
	s->step = STEP_ASK;
	s->ops.registered (&s->who.id, s->ops.arg);
	run_step (s);
}

static void on_forwarder (int status, const char *body, size_t n, const struct err *cause, void *arg)
{
	struct service *s = arg;
	json_t *j;
	const char *address, *key;
	json_int_t heartbeat;
	struct err err;

	s->req = NULL;
	if (status == 404) {
		s->step = STEP_REGISTER;
		service_error (status, body, n, s->url, cause, &err);
		try_again (s, &err, false);
		return;
	}
	if (status / 100 != 2) {
		service_error (status, body, n, s->url, cause, &err);
		try_again (s, &err, status == 401 || status == 403);
		return;
	}
	j = json_loadb (body, n, JSON_REJECT_DUPLICATES, NULL);
	address = json_string_value (json_object_get (j, "address"));
	key = json_string_value (json_object_get (j, "server_key"));
	heartbeat = json_integer_value (json_object_get (j, "heartbeat_ms"));
	if (!address || !key || strncmp (address, "tcp://", 6) != 0 || strlen (address) >= sizeof (s->who.address) || strlen (key) != 40) {
		err_set (&err, ERR_UNAVAILABLE, FAULT_PEER, "no forwarder serves this endpoint: is weft-forwarder supervise running?");
		try_again (s, &err, false);
	} else {
		s->attempt = 0;
		s->step = STEP_IDLE;
		snprintf (s->who.address, sizeof (s->who.address), "%s", address);
		snprintf (s->who.server_key, sizeof (s->who.server_key), "%s", key);
		save (s);
		s->ops.forwarder (s->who.address, s->who.server_key, heartbeat, s->ops.arg);
	}
	json_decref (j);
}

static void run_step (struct service *s)
{
	char id[ID_TEXT];
	char *url = NULL, *body = NULL;
	struct fetch_args a = { .bearer = s->token, .max_reply_bytes = REPLY_MAX };
	struct err err;

	if (s->req || s->step == STEP_IDLE)
		return;
	loop_timer_stop (s->again);
	if (s->step == STEP_REGISTER) {
		body = service_registration (s->name, s->public_key, s->allowed, s->more);
		url = s->who.known ? xasprintf ("%s/v3/endpoints/%s", s->url, id_text (&s->who.id, id))
				   : xasprintf ("%s/v3/endpoints", s->url);
		a.method = s->who.known ? "PUT" : "POST";
		a.body = body;
		a.body_bytes = strlen (body);
		a.timeout_ms = 15000;
	} else {
		url = xasprintf ("%s/v3/endpoints/%s/forwarder?wait=%d", s->url, id_text (&s->who.id, id), WAIT_S);
		a.method = "GET";
		a.timeout_ms = (WAIT_S + 10) * 1000;
	}
	a.url = url;
	s->req = fetch_start (s->fetch, &a, s->step == STEP_REGISTER ? on_registered : on_forwarder, s, &err);
	if (!s->req)
		try_again (s, &err, false);
	free (body);
	free (url);
}

static void on_again (void *arg)
{
	run_step (arg);
}

void service_register (struct service *s)
{
	if (s->step == STEP_ASK)
		fetch_cancel (&s->req);
	if (s->step != STEP_REGISTER)
		s->step = STEP_REGISTER;
	if (!loop_timer_pending (s->again))
		run_step (s);
}

void service_changed (struct service *s)
{
	if (s->step == STEP_REGISTER && s->req)
		s->changed = true;
	else
		service_register (s);
}

void service_ask (struct service *s)
{
	if (s->step == STEP_IDLE) {
		s->step = STEP_ASK;
		run_step (s);
	}
}

const struct identity *service_identity (const struct service *s)
{
	return &s->who;
}

struct service *service_create (struct loop *l, const struct service_opts *o, struct err *err)
{
	struct service *s = xcalloc (1, sizeof (*s));
	struct fetch_opts fo = { .ca_file = o->ca_file, .max_connections = 2 };
	size_t n;

	s->loop = l;
	s->ops = o->ops;
	s->url = xstrdup (o->url);
	for (n = strlen (s->url); n && s->url[n - 1] == '/'; n--)
		s->url[n - 1] = 0;
	s->token = xstrdup (o->token);
	s->identity_path = xstrdup (o->identity_path);
	s->name = xstrdup (o->name);
	s->public_key = xstrdup (o->public_key);
	s->allowed = o->allowed_functions;
	s->more = json_incref (o->more);
	s->again = loop_timer_create (l, on_again, s);
	if (!(s->fetch = fetch_create (l, &fo, err)) || identity_load (&s->who, s->identity_path, err) < 0) {
		service_destroy (&s);
		return NULL;
	}
	s->saved = s->who;
	/* Another address may be another service, or the same one that has moved, with our queue: it knows our id or not (404). */
	if (s->who.known && *s->who.service_url && strcmp (s->who.service_url, s->url) != 0) {
		log_warn ("service", "another address of the service than before", "before=%s now=%s", s->who.service_url, s->url);
		*s->who.address = *s->who.server_key = 0;
	}
	return s;
}

void service_destroy (struct service **sp)
{
	struct service *s = *sp;

	if (!s)
		return;
	if (s->req)
		fetch_cancel (&s->req);
	fetch_destroy (&s->fetch);
	loop_timer_destroy (&s->again);
	if (s->token)
		explicit_bzero (s->token, strlen (s->token));
	free (s->token);
	free (s->url);
	free (s->identity_path);
	free (s->name);
	free (s->public_key);
	json_decref (s->more);
	free (s);
	*sp = NULL;
}
