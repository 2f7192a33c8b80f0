/* SPDX-License-Identifier: Apache-2.0 */
/* The way into the web console from a terminal. `weft console` gets a ticket and prints an address with it; the page gives the ticket back
 * and gets a token that may only read, for half a day. A ticket works once, within two minutes, so the address is worth nothing afterwards,
 * wherever it was copied to. Redis keeps the ticket's hash: weft:ticket:{id}, SPEC.md section 8. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "service/api/api.h"
#include "service/api/grant.h"
#include "service/call.h"

#define TICKET_S 120
#define TOKEN_S (12 * 3600)
#define TICKET_MAX 128

static void ticket_key (char key[LAYOUT_KEY_MAX], const char *ticket)
{
	uint8_t hash[REG_HASH_BYTES];
	struct id id;

	auth_hash (ticket, strlen (ticket), hash);
	memcpy (id.b, hash, ID_BYTES);
	layout_key (key, "ticket", &id, NULL);
}

/* ---- made ------------------------------------------------------------------------------------------------------- */

struct made { struct call *c; char *ticket; };

static void on_set (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct made *m = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (err)
		call_fail_err (m->c, err, FAIL_NO_ROUTE);
	else
		call_json (m->c, json_pack ("{s:s, s:i}", "ticket", m->ticket, "expires_in", TICKET_S));
	explicit_bzero (m->ticket, strlen (m->ticket));
	free (m->ticket);
	free (m);
}

void api_ticket_make (struct call *c)
{
	char key[LAYOUT_KEY_MAX], user[ID_TEXT];
	struct reg_token t;
	struct err err;
	struct made *m;

	if (call_need_redis (c) < 0)
		return;
	/* the token that comes of it ends with the one that it was asked with */
	if (registry_token_find (c->app->registry, c->who.token, &t, &err) < 0) {
		call_fail_err (c, &err, FAIL_INVALID_TOKEN);
		return;
	}
	m = xcalloc (1, sizeof (*m));
	*m = (struct made) { c, ids_secret (32) };
	ticket_key (key, m->ticket);
	rds_commandf (c->app->redis, on_set, m, "SET %s %s/%lld EX %d", key, id_text (&c->who.user, user), (long long) t.expires_ms, TICKET_S);
}

/* ---- taken ------------------------------------------------------------------------------------------------------ */

static void on_taken (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct call *c = arg;
	struct err e = { 0 };
	struct id user;
	int64_t until = clock_real_ns () / 1000000 + TOKEN_S * 1000LL, ends;
	char t[ID_TEXT];

	(void) r;
	err = rds_error (reply, err, &e);
	if (err) {
		call_fail_err (c, err, FAIL_NO_ROUTE);
		return;
	}
	if (reply->type != REDIS_REPLY_STRING || reply->len < ID_TEXT || reply->str[ID_TEXT - 1] != '/' || id_parse (&user, reply->str, ID_TEXT - 1) < 0) {
		call_fail (c, FAIL_INVALID_TOKEN, "the address was used before, or is older than %d minutes: run `weft console` for a new one", TICKET_S / 60);
		return;
	}
	ends = strtoll (reply->str + ID_TEXT, NULL, 10);
	if (ends && ends < until)
		until = ends;
	c->who.user = user;
	call_audit (c, "token.grant", id_text (&user, t), 1);
	grant_token (c, &user, SCOPE_READ, "console", until, json_pack ("{s:s, s:s, s:I}", "token_type", "Bearer", "scope", "read", "expires_in",
									(json_int_t) (until / 1000 - clock_real_ns () / 1000000000)));
}

void api_ticket_take (struct call *c)
{
	json_t *body = call_object (c);
	const char *ticket;
	char key[LAYOUT_KEY_MAX];
	struct check k = { 0 };
	size_t n;

	if (!body)
		return;
	ticket = check_string (&k, body, "ticket", true, TICKET_MAX, &n);
	if (!check_ok (&k))
		call_invalid (c, &k);
	else if (call_need_redis (c) == 0) {
		ticket_key (key, ticket);
		rds_commandf (c->app->redis, on_taken, c, "GETDEL %s", key);
	}
	json_decref (body);
}
