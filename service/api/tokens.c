/* SPDX-License-Identifier: Apache-2.0 */
/* Who one is, and the token routes that Globus' ClientApp calls: client id = a user's name or id, secret = one of that user's own
 * tokens; the answer is a token of two days with the same scopes. It is given back with the second route. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "service/api/api.h"
#include "service/api/grant.h"
#include "service/call.h"

#define LIFETIME_S 172800
#define SCOPE_DEFAULT "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
#define FIELD_MAX 1024

void api_authenticate (struct call *c)
{
	call_json (c, json_string ("OK"));
}

void api_whoami (struct call *c)
{
	char t[ID_TEXT], scopes[32];

	call_json (c, json_pack ("{s:s, s:s, s:s}", "user_id", id_text (&c->who.user, t), "name", c->who.name, "scopes",
				 auth_scopes_text (c->who.scopes, scopes)));
}

struct grant {
	struct call *c;
	struct id user, id;
	uint32_t scopes;
	int64_t expires_ms;
	uint8_t hash[REG_HASH_BYTES];
	char *token, label[REG_NAME_MAX + 1];
	json_t *doc;
	int rc;
	struct err err;
};

static void grant_work (struct registry *r, void *arg)
{
	struct grant *g = arg;

	registry_tokens_purge (r, NULL);
	g->rc = registry_token_add (r, &g->user, g->hash, g->scopes, g->label, g->expires_ms, &g->id, &g->err);
}

static void grant_done (void *arg)
{
	struct grant *g = arg;

	if (g->rc < 0)
		call_fail_err (g->c, &g->err, FAIL_INTERNAL);
	else
		call_json (g->c, json_incref (g->doc));
	json_decref (g->doc);
	explicit_bzero (g->token, strlen (g->token));
	free (g->token);
	free (g);
}

void grant_token (struct call *c, const struct id *user, uint32_t scopes, const char *label, int64_t expires_ms, json_t *doc)
{
	struct grant *g = xcalloc (1, sizeof (*g));

	g->c = c;
	g->user = *user;
	g->scopes = scopes;
	g->expires_ms = expires_ms;
	g->token = auth_new_token (g->hash);
	snprintf (g->label, sizeof (g->label), "%s", label);
	id_new (&g->id);
	g->doc = doc;
	json_object_set_new (doc, "access_token", json_string (g->token));
	db_run (c->app->db, grant_work, grant_done, g);
}

/* A field of a form body, decoded. 0, or -1: absent, too long or badly encoded. */
static int form_field (struct http_str body, const char *name, char *out, size_t cap)
{
	const char *p = body.p, *end = body.p + body.n;
	size_t n = strlen (name), at = 0;

	while (p < end) {
		const char *amp = memchr (p, '&', (size_t) (end - p)), *stop = amp ? amp : end;
		if ((size_t) (stop - p) > n && !memcmp (p, name, n) && p[n] == '=') {
			for (p += n + 1; p < stop; p++) {
				unsigned v;
				char ch = *p == '+' ? ' ' : *p;
				if (*p == '%') {
					if (stop - p < 3 || sscanf (p + 1, "%2x", &v) != 1 || !v)
						return -1;
					ch = (char) v;
					p += 2;
				}
				if (at + 1 >= cap)
					return -1;
				out[at++] = ch;
			}
			out[at] = 0;
			return 0;
		}
		p = amp ? amp + 1 : end;
	}
	return -1;
}

/* OAuth2 clients read `error`; ours read the envelope: the body has both. */
static void refuse (struct call *c, int status, const char *error, const char *text)
{
	struct buf b;

	buf_init (&b, 0);
	buf_printf (&b, "{\"error\":\"%s\",\"error_description\":\"%s\",", error, text);
	fail_body (&b, status == 401 ? FAIL_INVALID_TOKEN : FAIL_MALFORMED, text, strlen (text));
	/* the two objects become one */
	char *brace = strstr ((char *) b.data, ",{\"status\"");
	memmove (brace + 1, brace + 2, strlen (brace + 2) + 1);
	b.len--;
	call_reply (c, status, "application/json", status == 401 ? "WWW-Authenticate: Basic realm=\"weft\"\r\n" : NULL, &b);
}

/* The client that the request names, with its token as the secret. -1: answered. */
static int client_of (struct call *c, struct reg_token *t)
{
	char name[FIELD_MAX], secret[FIELD_MAX];
	struct http_str body = http_body (c->req);
	uint8_t hash[REG_HASH_BYTES];
	struct reg_user u;
	struct err err;

	if (auth_basic (http_header (c->req, "Authorization"), name, secret, FIELD_MAX) < 0 &&
	    (form_field (body, "client_id", name, sizeof (name)) < 0 || form_field (body, "client_secret", secret, sizeof (secret)) < 0)) {
		refuse (c, 401, "invalid_client", "client id and secret are expected, as HTTP Basic authentication");
		return -1;
	}
	auth_hash (secret, strlen (secret), hash);
	if (registry_token_find (c->app->registry, hash, t, &err) < 0) {
		if (err.code == ERR_NOT_FOUND)
			refuse (c, 401, "invalid_client", "unknown client id or secret");
		else
			call_fail_err (c, &err, FAIL_INTERNAL);
		return -1;
	}
	if (registry_user_find (c->app->registry, name, &u, &err) < 0 || !id_eq (&u.id, &t->user.id)) {
		refuse (c, 401, "invalid_client", "unknown client id or secret");
		return -1;
	}
	c->who.user = u.id;
	return 0;
}

void api_oauth_token (struct call *c)
{
	char scope[FIELD_MAX], grant[64];
	struct http_str body = http_body (c->req);
	struct reg_token t;

	if (form_field (body, "grant_type", grant, sizeof (grant)) < 0 || strcmp (grant, "client_credentials")) {
		refuse (c, 400, "unsupported_grant_type", "grant_type=client_credentials is expected, as a form");
		return;
	}
	if (client_of (c, &t) < 0)
		return;
	if (form_field (body, "scope", scope, sizeof (scope)) < 0)
		strcpy (scope, SCOPE_DEFAULT);
	call_audit (c, "token.grant", t.user.name, 1);
	grant_token (c, &t.user.id, t.scopes, "oauth2", clock_real_ns () / 1000000 + LIFETIME_S * 1000LL,
		     json_pack ("{s:s, s:i, s:s, s:s, s:[]}", "scope", scope, "expires_in", LIFETIME_S, "token_type", "Bearer", "resource_server",
				"funcx_service", "other_tokens"));
}

/* ---- giving one back (RFC 7009) --------------------------------------------------------------------------------- */

struct revocation { struct call *c; struct id id; int rc; struct err err; };

static void revoke_work (struct registry *r, void *arg)
{
	struct revocation *v = arg;

	v->rc = registry_token_revoke (r, &v->id, &v->err);
}

static void revoke_done (void *arg)
{
	struct revocation *v = arg;

	if (v->rc < 0 && v->err.code != ERR_NOT_FOUND)
		call_fail_err (v->c, &v->err, FAIL_INTERNAL);
	else {
		auth_forget_all (v->c->app->auth);
		call_json (v->c, json_pack ("{s:b}", "active", 0));
	}
	free (v);
}

void api_oauth_revoke (struct call *c)
{
	char token[FIELD_MAX], t[ID_TEXT];
	uint8_t hash[REG_HASH_BYTES];
	struct reg_token client, found;
	struct revocation *v;
	struct err err;
	bool known;

	if (form_field (http_body (c->req), "token", token, sizeof (token)) < 0) {
		refuse (c, 400, "invalid_request", "token=... is expected, as a form");
		return;
	}
	if (client_of (c, &client) < 0)
		return;
	auth_hash (token, strlen (token), hash);
	known = registry_token_find (c->app->registry, hash, &found, &err) == 0;
	if (!known && err.code != ERR_NOT_FOUND) {
		call_fail_err (c, &err, FAIL_INTERNAL);
		return;
	}
	if (!known || !id_eq (&found.user.id, &client.user.id)) { /* nothing to revoke: the same answer, says the RFC */
		call_json (c, json_pack ("{s:b}", "active", 0));
		return;
	}
	call_audit (c, "token.revoke", id_text (&found.id, t), 1);
	v = xcalloc (1, sizeof (*v));
	v->c = c;
	v->id = found.id;
	db_run (c->app->db, revoke_work, revoke_done, v);
}
