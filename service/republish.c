/* SPDX-License-Identifier: Apache-2.0 */
#include "service/republish.h"
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
	rds_commandf (a->redis, NULL, NULL, "HSET %s key %s owner %s name %s", key, e->public_key ? e->public_key : "", id_text (&e->owner, owner),
		      e->name);
	rds_commandf (a->redis, NULL, NULL, "SADD weft:eps %s", id);
	rds_commandf (a->redis, cb, arg, "PUBLISH weft:eps:changed %s", id);
}

void republish_control (struct app *a, const struct id *endpoint, const char *what)
{
	char key[LAYOUT_KEY_MAX];

	layout_key (key, "ep", endpoint, "control");
	rds_commandf (a->redis, NULL, NULL, "XADD %s MAXLEN ~ " CONTROL_MAX " * c %s", key, what);
}

void republish_deleted (struct app *a, const struct id *endpoint)
{
	char key[LAYOUT_KEY_MAX], id[ID_TEXT];

	id_text (endpoint, id);
	republish_control (a, endpoint, "deleted");
	layout_key (key, "ep", endpoint, NULL);
	rds_commandf (a->redis, NULL, NULL, "SREM weft:eps %s", id);
	rds_commandf (a->redis, NULL, NULL, "HDEL %s key owner name", key);
	rds_commandf (a->redis, NULL, NULL, "PUBLISH weft:eps:changed %s", id);
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
}
