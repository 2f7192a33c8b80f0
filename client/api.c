/* SPDX-License-Identifier: Apache-2.0 */
#include "client/api.h"
#include "client/fabric.h"
#include "client/target.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/fetch.h"
#include "common/ids.h"
#include "common/xmem.h"

#define TRIES 5
#define UNDECIDED_TRIES 40	/* of a POST that was cut off: what became of it is decided within a minute */

/* The sentence in an error body, or the body's beginning. */
static int service_error (int status, const char *body, struct err *err)
{
	json_t *j = json_loads (body, 0, NULL), *d = json_object_get (j, "detail");
	/* detail may be a list of problems; message is all of them as one text */
	const char *text = json_string_value (json_is_string (d) ? d : json_object_get (j, "message"));
	const char *code = json_string_value (json_object_get (j, "code"));
	enum err_code c = status == 401 ? ERR_UNAUTHENTICATED : status == 403 ? ERR_FORBIDDEN : status == 404 ? ERR_NOT_FOUND : status == 409 ? ERR_CONFLICT :
			  status == 413 ? ERR_TOO_LARGE : status == 429 ? ERR_LIMIT : status >= 500 ? ERR_UNAVAILABLE : ERR_INVALID;
	if (d && text)
		err_set (err, c, FAULT_USER, "%s (HTTP %d%s%s)", text, status, code ? ", " : "", code ? code : "");
	else
		err_set (err, c, FAULT_PEER, "HTTP %d: %.150s", status, body);
	json_decref (j);
	return -1;
}

static void pause_before (int attempt)
{
	int64_t ms = clock_backoff_ms ((unsigned)attempt - 1, 200, 3000);
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep (&pause, NULL);
}

json_t *api_send (const struct api_opts *o, const struct api_req *r, struct err *err)
{
	struct target *t = target_find (o, err);
	char *idem = NULL, *url, key[ID_TEXT], *text = NULL;
	json_t *answer = NULL;
	struct id id;
	size_t n = 0;
	bool renewed = false;
	int status = -1;
	if (!t)
		return NULL;
	id_new (&id);
	/* a repeated POST makes no second task */
	idem = xasprintf ("Idempotency-Key: %s", r->key ? r->key : id_text (&id, key));
	url = xasprintf ("%s%s", t->p.url, r->path);
	for (int attempt = 0, tries = r->tries ? r->tries : TRIES; attempt < tries; attempt++) {
		const char *headers[] = { strcmp (r->method, "POST") ? NULL : idem, NULL };
		struct fetch_args a = { .method = r->method, .url = url, .bearer = t->p.token, .headers = headers, .body = r->body,
					.body_bytes = r->body ? strlen (r->body) : 0, .timeout_ms = 60000 + (int64_t)(r->wait_s * 1000),
					.max_reply_bytes = (size_t)1 << 30 };
		if (attempt)
			pause_before (attempt);
		free (text);
		text = NULL;
		status = fetch_sync (&a, t->p.ca_file, &text, &n, err);
		if (status >= 200 && status < 300) {
			answer = r->raw ? json_stringn_nocheck (text ? text : "", n) : json_loadb (text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
			if (!answer)
				err_set (err, ERR_INVALID, FAULT_PEER, "%s did not answer with JSON: is it a Weft service?", url);
			break;
		}
		if (status)
			service_error (status, text ? text : "", err);
		else
			err_prefix (err, "%s cannot be reached", t->p.url);
		if (status == 401 && t->stored && !renewed && target_renew (t, NULL) == 0) {
			renewed = true;
			continue;
		}
		if (status == 401)
			err_prefix (err, "the token of %s", t->from);
		if (status == 409 && !r->tries)
			tries = UNDECIDED_TRIES;
		if (status && status != 503 && status != 429 && status != 502 && status != 409)
			break;
	}
	if (!status && t->state)
		fabric_absent (t->state, err);
	free (idem);
	free (url);
	free (text);
	return answer;
}

json_t *api_call (const struct api_opts *o, const char *method, const char *path, json_t *body, double wait_s, struct err *err)
{
	char *text = body ? json_dumps (body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	struct api_req r = { .method = method, .path = path, .body = text, .wait_s = wait_s };
	json_t *answer;
	json_decref (body);
	answer = api_send (o, &r, err);
	free (text);
	return answer;
}

int api_endpoint (const struct api_opts *o, const char *given, char out[37], struct err *err)
{
	struct id id;
	struct target *t = given ? NULL : target_find (o, err);
	char *v = given ? xstrdup (given) : t ? xstrdup (t->p.endpoint) : NULL;
	json_t *list, *e;
	const char *found = NULL;
	size_t i;
	int rc = -1;
	if (!given && !t)
		return -1;
	if (v && id_parse (&id, v, strlen (v)) == 0) {
		id_text (&id, out);
		free (v);
		return 0;
	}
	if (!(list = api_call (o, "GET", "/v2/endpoints", NULL, 0, err))) {
		free (v);
		return -1;
	}
	json_array_foreach (list, i, e)
		if (!v || !strcmp (api_str (e, "name"), v) || !strcmp (api_str (e, "display_name"), v))
			found = api_str (e, "uuid");
	if (!found)
		err_set (err, ERR_NOT_FOUND, FAULT_USER, v ? "no endpoint of yours is called %.60s; see `weft endpoint list`"
						     : "you have no endpoint%s: start one with weft-endpoint", v ? v : "");
	else if (!v && json_array_size (list) > 1)
		err_set (err, ERR_INVALID, FAULT_USER, "you have %zu endpoints: choose with --endpoint or WEFT_ENDPOINT",
			 json_array_size (list));
	else {
		snprintf (out, 37, "%s", found);
		rc = 0;
	}
	json_decref (list);
	free (v);
	return rc;
}

int api_function (const struct api_opts *o, const char *given, char out[37], struct err *err)
{
	struct id id;
	json_t *answer, *list, *f;
	size_t i;
	int rc = -1;
	if (id_parse (&id, given, strlen (given)) == 0) {
		id_text (&id, out);
		return 0;
	}
	if (!(answer = api_call (o, "GET", "/v2/functions?limit=1000", NULL, 0, err)))
		return -1;
	list = json_is_array (answer) ? answer : json_object_get (answer, "functions");
	json_array_foreach (list, i, f)
		if (rc < 0 && !strcmp (api_str (f, "function_name"), given)) { /* newest first */
			snprintf (out, 37, "%s", api_str (f, "function_uuid"));
			rc = 0;
		}
	if (rc < 0)
		err_set (err, ERR_NOT_FOUND, FAULT_USER, "no function of yours is called %.60s; see `weft function list`", given);
	json_decref (answer);
	return rc;
}

int api_fail (const char *what, const struct err *err)
{
	fprintf (stderr, "weft: %s: %s\n", what, err->text);
	return 1;
}

void api_print_json (const json_t *j)
{
	json_dumpf (j, stdout, JSON_INDENT (2) | JSON_ENCODE_ANY);
	putchar ('\n');
}

char *api_time (double unix_s, char out[32])
{
	time_t s = (time_t)unix_s;
	struct tm tm;
	localtime_r (&s, &tm);
	if (unix_s <= 0 || !strftime (out, 32, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf (out, 32, "-");
	return out;
}

const char *api_str (const json_t *obj, const char *key)
{
	const char *s = json_string_value (json_object_get (obj, key));
	return s ? s : "";
}
