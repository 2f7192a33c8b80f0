/* SPDX-License-Identifier: Apache-2.0 */
#include "service/republish.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include "common/log.h"

#define MOD "republish"
#define CONTROL_MAX "100000"
#define PAGE 500

/* HSET leaves what the forwarder wrote; SADD and the message are harmless when nothing is new. */
void republish_endpoint (struct app *a, const struct reg_endpoint *e, rds_f *cb, void *arg)
{
	char key[LAYOUT_KEY_MAX], id[ID_TEXT], owner[ID_TEXT];

	layout_key (key, "ep", &e->id, NULL);
	id_text (&e->id, id);
	rds_commandf (a->redis, NULL, NULL, "HSET %s key %s owner %s name %s locked %lld", key, e->public_key ? e->public_key : "",
		      id_text (&e->owner, owner), e->name, (long long) e->locked_until_ms);
	rds_commandf (a->redis, NULL, NULL, "SADD weft:eps %s", id);
	rds_commandf (a->redis, NULL, NULL, "SREM weft:eps:deleted %s", id);
	rds_commandf (a->redis, cb, arg, "PUBLISH weft:eps:changed %s", id);
}

void republish_control (struct app *a, const struct id *endpoint, const char *what, const struct id *of, rds_f *cb, void *arg)
{
	char key[LAYOUT_KEY_MAX];

	layout_key (key, "ep", endpoint, "control");
	if (of)
		rds_commandf (a->redis, cb, arg, "XADD %s MAXLEN ~ " CONTROL_MAX " * c %s t %b", key, what, of->b, (size_t) ID_BYTES);
	else
		rds_commandf (a->redis, cb, arg, "XADD %s MAXLEN ~ " CONTROL_MAX " * c %s", key, what);
}

void republish_lock (struct app *a, const struct id *endpoint, int64_t until_ms, rds_f *cb, void *arg)
{
	char key[LAYOUT_KEY_MAX];

	layout_key (key, "ep", endpoint, NULL);
	rds_commandf (a->redis, NULL, NULL, "HSET %s locked %lld", key, (long long) until_ms);
	republish_control (a, endpoint, "lock", NULL, cb, arg);
}

void republish_deleted (struct app *a, const struct id *endpoint, rds_f *cb, void *arg)
{
	char id[ID_TEXT];

	layout_deleted_send (a->redis, endpoint, NULL, NULL);
	rds_commandf (a->redis, cb, arg, "PUBLISH weft:eps:changed %s", id_text (endpoint, id));
}

static void on_members (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct app *a = arg;
	struct reg_endpoint e;
	struct id id;
	struct err why;

	(void) r;
	if (err || reply->type != REDIS_REPLY_ARRAY)
		return;
	for (size_t i = 0; i < reply->elements; i++) {
		const struct redisReply *m = reply->element[i];
		if (m->type != REDIS_REPLY_STRING || id_parse (&id, m->str, m->len) < 0)
			continue;
		if (registry_endpoint_get (a->registry, &id, &e, &why) == 0)
			reg_endpoint_fini (&e);
		else if (why.code == ERR_NOT_FOUND) {
			log_info (MOD, "a deleted endpoint is taken from Redis", "ep=%s", m->str);
			republish_deleted (a, &id, NULL, NULL);
		}
	}
}

void republish_all (struct app *a)
{
	struct reg_endpoint *rows;
	struct id before;
	size_t n, total = 0;
	struct err err;

	do {
		if (registry_endpoints (a->registry, NULL, REG_OWNER, total ? &before : NULL, PAGE, &rows, &n, &err) < 0) {
			log_err (LOG_WARN, MOD, "endpoints not read", &err);
			return;
		}
		for (size_t i = 0; i < n; i++) {
			republish_endpoint (a, &rows[i], NULL, NULL);
			before = rows[i].id;
			reg_endpoint_fini (&rows[i]);
		}
		free (rows);
		total += n;
	} while (n == PAGE);
	rds_commandf (a->redis, on_members, a, "SMEMBERS weft:eps");
}
