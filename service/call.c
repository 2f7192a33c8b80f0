/* SPDX-License-Identifier: Apache-2.0 */
#include "service/call.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "service/stats.h"

#define MOD "http"
#define JSON_TYPE "application/json"

/* ---- answers ---------------------------------------------------------------------------------------------------- */

void call_reply (struct call *c, int status, const char *type, const char *headers, struct buf *body)
{
	stats_request (c->app->stats, c->route, status, clock_now_ns () - c->started_ns);
	if (c->req)
		http_reply (c->req, status, type, headers, body);
	else if (body)
		buf_fini (body);
	free (c);
}

struct http_stream *call_stream (struct call *c, const char *type, const char *headers, const struct http_stream_ops *ops, void *arg)
{
	struct http_stream *s;

	stats_request (c->app->stats, c->route, 200, clock_now_ns () - c->started_ns);
	s = http_stream_begin (c->req, 200, type, headers, ops, arg);
	free (c);
	return s;
}

void call_ok (struct call *c, struct buf *body)
{
	if (buf_failed (body)) {
		buf_fini (body);
		call_fail (c, FAIL_INTERNAL, "the answer is too large or memory is short");
		return;
	}
	call_reply (c, 200, JSON_TYPE, NULL, body);
}

void call_json (struct call *c, json_t *v)
{
	char *text = v ? json_dumps (v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	struct buf b;

	json_decref (v);
	if (!text) {
		call_fail (c, FAIL_INTERNAL, "the answer could not be made");
		return;
	}
	buf_init (&b, 0);
	buf_str (&b, text);
	free (text);
	call_ok (c, &b);
}

static void fail_text (struct call *c, enum fail f, const char *text, const char *more_headers)
{
	char headers[256];
	int retry = fail_retry_after (f);
	struct buf b;

	headers[0] = 0;
	if (retry)
		snprintf (headers, sizeof (headers), "Retry-After: %d\r\n", retry);
	if (f == FAIL_UNAUTHENTICATED || f == FAIL_INVALID_TOKEN)
		snprintf (headers, sizeof (headers), "WWW-Authenticate: Bearer\r\n");
	if (more_headers)
		snprintf (headers, sizeof (headers), "%s", more_headers);
	buf_init (&b, 0);
	fail_body (&b, f, text, strlen (text));
	call_reply (c, fail_status (f), JSON_TYPE, headers[0] ? headers : NULL, &b);
}

void call_fail (struct call *c, enum fail f, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start (ap, fmt);
	vsnprintf (text, sizeof (text), fmt, ap);
	va_end (ap);
	fail_text (c, f, text, NULL);
}

void call_fail_err (struct call *c, const struct err *err, enum fail not_found)
{
	switch (err->code) {
	case ERR_NOT_FOUND:
		fail_text (c, not_found, err->text, NULL);
		break;
	case ERR_UNAVAILABLE:
	case ERR_TIMEOUT:
		log_err (LOG_WARN, MOD, "request failed for now", err);
		call_fail (c, FAIL_UNAVAILABLE, "the service cannot do this right now: %s", err->text);
		break;
	case ERR_LIMIT:
		log_err (LOG_WARN, MOD, "storage is full", err);
		call_fail (c, FAIL_STORAGE_FULL, "the service's storage is full, nothing was stored: %s", err->text);
		break;
	case ERR_CONFLICT:
		fail_text (c, FAIL_CONFLICT, err->text, NULL);
		break;
	case ERR_INVALID:
		fail_text (c, FAIL_MALFORMED, err->text, NULL);
		break;
	default:
		log_err (LOG_ERROR, MOD, "request failed", err);
		fail_text (c, FAIL_INTERNAL, err->text, NULL);
	}
}

void call_invalid (struct call *c, struct check *k)
{
	struct buf b;

	buf_init (&b, 0);
	check_body (k, &b);
	check_fini (k);
	call_reply (c, fail_status (FAIL_SEMANTICS), JSON_TYPE, NULL, &b);
}

/* ---- inputs ----------------------------------------------------------------------------------------------------- */

int call_id (struct call *c, int param, struct id *out)
{
	struct http_str s = c->params[param];

	if (id_parse (out, s.p, s.n) == 0)
		return 0;
	call_fail (c, FAIL_INVALID_UUID, "'%.*s' is not a UUID", (int) (s.n < 100 ? s.n : 100), s.p);
	return -1;
}

json_t *call_object (struct call *c)
{
	struct http_str s = http_body (c->req);
	char text[300];
	json_t *v = json_parse (s.p, s.n, text, sizeof (text));

	if (!v) {
		call_fail (c, FAIL_MALFORMED, "%s", text);
		return NULL;
	}
	if (json_is_object (v))
		return v;
	json_decref (v);
	call_fail (c, FAIL_MALFORMED, "the body must be a JSON object");
	return NULL;
}

int call_scan (struct call *c, struct jscan *j)
{
	struct http_str s = http_body (c->req);
	char text[300];

	if (jscan_parse (j, s.p, s.n, text, sizeof (text)) < 0) {
		call_fail (c, FAIL_MALFORMED, "%s", text);
		return -1;
	}
	if (jscan_type (j, 0) == JSCAN_OBJECT)
		return 0;
	jscan_fini (j);
	call_fail (c, FAIL_MALFORMED, "the body must be a JSON object");
	return -1;
}

/* 1 present, 0 absent, -1 answered. */
static int query_text (struct call *c, const char *name, char *out, size_t cap)
{
	if (http_query_param (c->req, name, out, cap) == 0)
		return 1;
	if (errno == ENOENT)
		return 0;
	call_fail (c, FAIL_MALFORMED, "query parameter '%s' is too long or badly encoded", name);
	return -1;
}

int call_query_int (struct call *c, const char *name, int64_t min, int64_t max, int64_t def, int64_t *out)
{
	char text[32], *end;
	int rc = query_text (c, name, text, sizeof (text));

	*out = def;
	if (rc <= 0)
		return rc;
	errno = 0;
	*out = strtoll (text, &end, 10);
	if (!errno && end != text && !*end && *out >= min && *out <= max)
		return 0;
	call_fail (c, FAIL_MALFORMED, "query parameter '%s': a whole number of %lld..%lld is expected", name, (long long) min, (long long) max);
	return -1;
}

int call_query_id (struct call *c, const char *name, struct id *out, bool *present)
{
	char text[64];
	int rc = query_text (c, name, text, sizeof (text));

	*present = rc > 0;
	if (rc <= 0)
		return rc;
	if (id_parse (out, text, strlen (text)) == 0)
		return 0;
	call_fail (c, FAIL_INVALID_UUID, "query parameter '%s' is not a UUID", name);
	return -1;
}

int call_wait_ms (struct call *c, int64_t *out)
{
	char text[32], *end;
	int rc = query_text (c, "wait", text, sizeof (text));
	double s, max = (double) c->app->config->wait_ms / 1000;

	*out = 0;
	if (rc <= 0)
		return rc;
	s = strtod (text, &end);
	if (end != text && !*end && s >= 0 && s <= max) {
		*out = (int64_t) (s * 1000);
		return 0;
	}
	call_fail (c, FAIL_MALFORMED, "query parameter 'wait': seconds of 0..%g are expected", max);
	return -1;
}

bool call_flag (struct call *c, const char *name)
{
	char text[8];

	return http_query_param (c->req, name, text, sizeof (text)) == 0 && (!text[0] || !strcmp (text, "1") || !strcmp (text, "true"));
}

int call_need_redis (struct call *c)
{
	if (rds_up (c->app->redis))
		return 0;
	call_fail (c, FAIL_UNAVAILABLE, "the task store (Redis) cannot be reached right now, nothing was stored; try again");
	return -1;
}

static void on_abort (struct http_req *r, void *arg)
{
	struct call *c = arg;

	(void) r;
	c->req = NULL;
	c->on_gone (c->gone_arg);
}

void call_watch (struct call *c, loop_f *on_gone, void *arg)
{
	c->on_gone = on_gone;
	c->gone_arg = arg;
	if (http_gone (c->req)) {
		on_gone (arg);
		return;
	}
	http_on_abort (c->req, on_abort, c);
}

void call_audit (struct call *c, const char *action, const char *object, int64_t items)
{
	struct http_str peer = http_peer (c->req);

	db_audit (c->app->db, &c->who.user, action, object, peer.p, peer.n, items);
}

/* ---- entry ------------------------------------------------------------------------------------------------------ */

static void no_route (struct call *c, const struct route_match *m)
{
	struct http_str p = http_path (c->req);
	char methods[64], headers[96], text[300];

	if (!m->other_methods) {
		call_fail (c, FAIL_NO_ROUTE, "there is nothing at %.*s", (int) (p.n < 200 ? p.n : 200), p.p);
		return;
	}
	route_methods (m->other_methods, methods);
	snprintf (headers, sizeof (headers), "Allow: %s\r\n", methods);
	snprintf (text, sizeof (text), "%.*s takes %s only", (int) (p.n < 200 ? p.n : 200), p.p, methods);
	fail_text (c, FAIL_METHOD, text, headers);
}

static bool admitted (struct call *c)
{
	enum fail why;
	struct err err;
	char have[32];

	if (c->route->scope == SCOPE_NONE)
		return true;
	if (auth_check (c->app->auth, http_header (c->req, "Authorization"), &c->who, &why, &err) < 0) {
		fail_text (c, why, err.text, NULL);
		return false;
	}
	if (!(c->who.scopes & c->route->scope)) {
		call_fail (c, FAIL_SCOPE, "the token does not allow this; its scopes are: %s", auth_scopes_text (c->who.scopes, have));
		return false;
	}
	if (!auth_rate (c->app->auth, &c->who.user)) {
		call_fail (c, FAIL_RATE, "more than %g requests a second", c->app->config->requests_per_s);
		return false;
	}
	return true;
}

void call_dispatch (struct app *app, struct http_req *req)
{
	struct call *c = xcalloc (1, sizeof (*c));
	struct http_str path = http_path (req);
	struct route_match m = route_find (route_table, http_method (req), path);

	c->app = app;
	c->req = req;
	c->started_ns = clock_now_ns ();
	c->v3 = path.n > 3 && !memcmp (path.p, "/v3", 3);
	if (!m.route) {
		no_route (c, &m);
		return;
	}
	c->route = m.route;
	memcpy (c->params, m.params, sizeof (m.params));
	if (admitted (c))
		m.route->handler (c);
}
