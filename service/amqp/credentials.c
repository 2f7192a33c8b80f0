/* SPDX-License-Identifier: Apache-2.0 */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/digest.h"
#include "common/xmem.h"
#include "service/amqp/credentials.h"
#include "service/app.h"

#define SECRET_BYTES 24
#define TOKEN_BYTES 32
#define SECRET_TEXT_MAX 64
#define KEY_MAX (sizeof ("weft:amqp:") + 2 * DIGEST_SHA256_BYTES)

/* weft:amqp:<hash of the password> */
static int key_of (const char *password, size_t n, char key[KEY_MAX])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t hash[DIGEST_SHA256_BYTES];
	struct digest_part part = { password, n };
	char *out = stpcpy (key, "weft:amqp:");

	if (digest_sha256 (&part, 1, hash) < 0)
		return -1;
	for (size_t i = 0; i < sizeof (hash); i++) {
		*out++ = hex[hash[i] >> 4];
		*out++ = hex[hash[i] & 15];
	}
	*out = 0;
	return 0;
}

struct making { char *password; credentials_made_f *cb; void *arg; };

static void on_made (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct making *k = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	k->cb (err ? NULL : k->password, err, k->arg);
	free (k->password);
	free (k);
}

void credentials_make (struct app *a, const struct id *user, const uint8_t token[TOKEN_BYTES], credentials_made_f *cb, void *arg)
{
	struct making *k = xcalloc (1, sizeof (*k));
	uint8_t value[ID_BYTES + TOKEN_BYTES];
	char key[KEY_MAX];

	*k = (struct making) { ids_secret (SECRET_BYTES), cb, arg };
	memcpy (value, user->b, ID_BYTES);
	memcpy (value + ID_BYTES, token, TOKEN_BYTES);
	if (key_of (k->password, strlen (k->password), key) < 0) {
		struct err e;
		err_set (&e, ERR_UNAVAILABLE, FAULT_SELF, "no digest");
		cb (NULL, &e, arg);
		free (k->password);
		free (k);
		return;
	}
	rds_commandf (a->redis, on_made, k, "SET %s %b PX %lld", key, value, sizeof (value), (long long) a->config->amqp_credentials_ms);
}

struct checking { struct id user; credentials_f *cb; void *arg; };

static void on_checked (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct checking *k = arg;
	struct err e = { 0 };
	const uint8_t *v;

	(void) r;
	err = rds_error (reply, err, &e);
	if (err)
		k->cb (NULL, NULL, err, k->arg);
	else {
		v = (const uint8_t *) reply->str;
		if (reply->type == REDIS_REPLY_STRING && reply->len == ID_BYTES + TOKEN_BYTES && !memcmp (v, k->user.b, ID_BYTES))
			k->cb (&k->user, v + ID_BYTES, NULL, k->arg);
		else
			k->cb (NULL, NULL, NULL, k->arg);
	}
	free (k);
}

void credentials_check (struct app *a, struct amqp_str user, struct amqp_str password, credentials_f *cb, void *arg)
{
	struct checking *k = xcalloc (1, sizeof (*k));
	char key[KEY_MAX];

	*k = (struct checking) { .cb = cb, .arg = arg };
	/* Redis is asked for anything that could be one, so that the answer always comes from the loop */
	if (password.n > SECRET_TEXT_MAX || id_parse (&k->user, user.p, user.n) < 0 || key_of (password.p, password.n, key) < 0)
		strcpy (key, "weft:amqp:none");
	rds_commandf (a->redis, on_checked, k, "GET %s", key);
}
