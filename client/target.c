/* SPDX-License-Identifier: Apache-2.0 */
#include "client/target.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "client/api.h"
#include "common/base64.h"
#include "common/buf.h"
#include "common/conf.h"
#include "common/fetch.h"
#include "common/xmem.h"

#define DEFAULT_URL "http://127.0.0.1:5000"
#define RENEW_BEFORE_S 300
#define TOKEN_MAX 8192

char *target_state_dir (const char *given)
{
	char cwd[4096], *home, *dir;
	if (given && given[0] == '/')
		return xstrdup (given);
	if (given)
		return getcwd (cwd, sizeof (cwd)) ? xasprintf ("%s/%s", cwd, given) : xstrdup (given);
	home = profile_home ();
	dir = xasprintf ("%s/up", home);
	free (home);
	return dir;
}

static const char *env (const char *key)
{
	const char *v = getenv (key);
	return v && *v ? v : NULL;
}

/* ---- sources ------------------------------------------------------------------------------------------------------------- */

static int from_profile (struct target *t, const char *name, struct err *err)
{
	if (profile_read (&t->p, name, err) < 0)
		return -1;
	t->from = xasprintf ("profile %s", name);
	if (t->p.client_id && t->p.client_secret)
		t->stored = xstrdup (name);
	return 0;
}

static int from_state (struct target *t, const char *given, struct err *err)
{
	char *dir = target_state_dir (given), *path = xasprintf ("%s/env", dir);
	struct err cause = { 0 };
	int rc = profile_read_file (&t->p, path, &cause);
	if (rc == 0) {
		t->from = xasprintf ("the fabric in %s", dir);
		profile_set (&t->state, dir);
	} else if (cause.code == ERR_NOT_FOUND)
		err_set (err, ERR_NOT_FOUND, FAULT_USER, "no fabric has been started in %s: run weft up --detach --state %s", dir, dir);
	else if (err)
		*err = cause;
	free (path);
	free (dir);
	return rc;
}

/* What nobody asked for by name: the last login, else the fabric of this user. -1 with *err when something is there but unusable. */
static int from_default (struct target *t, struct err *err)
{
	char *now = profile_current ();
	struct err cause = { 0 };
	int rc;
	if (now) {
		rc = from_profile (t, now, err);
		free (now);
		return rc;
	}
	rc = from_state (t, NULL, &cause);
	if (rc < 0 && cause.code == ERR_NOT_FOUND)
		return 0;
	if (rc < 0 && err)
		*err = cause;
	return rc;
}

static void forget_secrets (struct target *t)
{
	profile_set (&t->p.token, NULL);
	profile_set (&t->p.client_id, NULL);
	profile_set (&t->p.client_secret, NULL);
	profile_set (&t->p.endpoint, NULL);
	profile_set (&t->stored, NULL);
	t->p.expires_s = 0;
}

void target_trim_url (char *url)
{
	size_t n = url ? strlen (url) : 0;
	while (n && url[n - 1] == '/')
		url[--n] = '\0';
}

/* The URL is this one: secrets that were stored with another stay here. */
static void set_url (struct target *t, const char *given)
{
	char *url = xstrdup (given);
	target_trim_url (url);
	target_trim_url (t->p.url);
	if (!t->p.url || strcmp (t->p.url, url)) {
		forget_secrets (t);
		profile_set (&t->state, NULL);
	}
	profile_set (&t->p.url, url);
	free (url);
}

static int from_environment (struct target *t, struct err *err)
{
	const char *url = env ("WEFT_URL"), *token = env ("WEFT_TOKEN"), *ca = env ("WEFT_CA_FILE"), *endpoint = env ("WEFT_ENDPOINT");
	if (!(url && token) && from_default (t, err) < 0)
		return -1;
	if (url)
		set_url (t, url);
	if (token) {
		forget_secrets (t);
		profile_set (&t->p.token, token);
	}
	if (url || token)
		profile_set (&t->from, "the environment");
	if (ca)
		profile_set (&t->p.ca_file, ca);
	if (endpoint)
		profile_set (&t->p.endpoint, endpoint);
	return 0;
}

/* ---- tokens that expire ---------------------------------------------------------------------------------------------------- */

int target_grant (struct profile *p, struct err *err)
{
	static const char form[] = "grant_type=client_credentials";
	char *pair = xasprintf ("%s:%s", p->client_id, p->client_secret), *url = xasprintf ("%s/v2/oauth2/token", p->url), *text = NULL, *line;
	struct buf b;
	size_t n = 0;
	int status, rc = -1;
	json_t *j = NULL;
	buf_init (&b, 0);
	base64_encode (&b, (const uint8_t *)pair, strlen (pair));
	line = xasprintf ("Authorization: Basic %.*s", (int)b.len, (const char *)b.data);
	const char *headers[] = { line, NULL };
	struct fetch_args a = { .method = "POST", .url = url, .headers = headers, .content_type = "application/x-www-form-urlencoded", .body = form,
				.body_bytes = sizeof (form) - 1 };
	status = fetch_sync (&a, p->ca_file, &text, &n, err);
	if (!status)
		err_prefix (err, "%s cannot be reached", p->url);
	else if (status == 401)
		err_set (err, ERR_UNAUTHENTICATED, FAULT_USER, "%s does not know client id '%.60s' with this secret: log in again with "
			 "`weft login --client-id ID URL`", p->url, p->client_id);
	else if (status != 200 || !(j = json_loadb (text, n, 0, NULL)) || !*api_str (j, "access_token"))
		err_set (err, ERR_UNAVAILABLE, FAULT_PEER, "%s gave no token: HTTP %d: %.150s", url, status, text ? text : "");
	else {
		json_int_t life = json_integer_value (json_object_get (j, "expires_in"));
		profile_set (&p->token, api_str (j, "access_token"));
		p->expires_s = life > 0 ? (int64_t)time (NULL) + life : 0;
		rc = 0;
	}
	json_decref (j);
	explicit_bzero (pair, strlen (pair));
	explicit_bzero (line, strlen (line));
	if (b.data)
		explicit_bzero (b.data, b.len);
	buf_fini (&b);
	free (pair);
	free (line);
	free (url);
	free (text);
	return rc;
}

int target_renew (struct target *t, struct err *err)
{
	if (!t->p.client_id || !t->p.client_secret)
		return err_set (err, ERR_UNAUTHENTICATED, FAULT_USER, "the token is not accepted, and there is no client id and secret to get another");
	if (target_grant (&t->p, err) < 0)
		return -1;
	if (t->stored)
		profile_write (&t->p, t->stored, NULL);	/* a read-only home: got anew next time */
	return 0;
}

/* ---- all together ---------------------------------------------------------------------------------------------------------- */

static int find (struct target *t, const struct api_opts *o, struct err *err)
{
	int rc;
	if (o->profile && o->state)
		return err_set (err, ERR_INVALID, FAULT_USER, "--profile and --state name two different services: give one of them");
	rc = o->profile ? from_profile (t, o->profile, err) : o->state ? from_state (t, o->state, err) :
	     env ("WEFT_PROFILE") ? from_profile (t, env ("WEFT_PROFILE"), err) : from_environment (t, err);
	if (rc < 0)
		return -1;
	if (o->url) {
		char *token = !o->profile && !o->state && !env ("WEFT_PROFILE") && env ("WEFT_TOKEN") ? xstrdup (env ("WEFT_TOKEN")) : NULL;
		set_url (t, o->url);
		if (token)
			profile_set (&t->p.token, token);
		free (token);
		profile_set (&t->from, "the command line");
	}
	if (o->ca_file)
		profile_set (&t->p.ca_file, o->ca_file);
	if (o->token_file) {
		char *token = conf_read_secret (o->token_file, TOKEN_MAX, err);
		if (!token)
			return -1;
		profile_set (&t->p.client_id, NULL);
		profile_set (&t->p.client_secret, NULL);
		t->p.expires_s = 0;
		profile_set (&t->p.token, token);
		explicit_bzero (token, strlen (token));
		free (token);
	}
	if (!t->p.url && !t->p.token && !o->token_file)
		return err_set (err, ERR_UNAUTHENTICATED, FAULT_USER, "no service is known: `weft login https://HOST` stores one that runs elsewhere, "
				"`weft up --detach` starts one here; or set WEFT_URL and WEFT_TOKEN");
	if (!t->p.url)
		t->p.url = xstrdup (DEFAULT_URL);
	target_trim_url (t->p.url);
	if (t->p.client_id && t->p.client_secret && (!t->p.token || (t->p.expires_s && t->p.expires_s < (int64_t)time (NULL) + RENEW_BEFORE_S)))
		return target_renew (t, err);
	if (!t->p.token)
		return err_set (err, ERR_UNAUTHENTICATED, FAULT_USER, "there is no token for %s: log in with `weft login %s`, set WEFT_TOKEN, give "
				"--token-file, or start a fabric of your own with `weft up --detach`", t->p.url, t->p.url);
	return 0;
}

struct target *target_find (const struct api_opts *o, struct err *err)
{
	static struct target found;
	static bool done;
	if (!done && find (&found, o, err) < 0) {
		profile_fini (&found.p);
		profile_set (&found.from, NULL);
		profile_set (&found.stored, NULL);
		profile_set (&found.state, NULL);
		return NULL;
	}
	done = true;
	return &found;
}
