/* SPDX-License-Identifier: Apache-2.0 */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/hex.h"
#include "common/xmem.h"
#include "service/amqp/credentials.h"
#include "service/app.h"
#include "service/auth.h"

#define SECRET_BYTES 24
#define TOKEN_BYTES 32
#define SECRET_TEXT_MAX 64
#define KEY_MAX (sizeof ("weft:amqp:") + 2 * REG_HASH_BYTES)

/* weft:amqp:<hash of the password> */
static void key_of (const char *password, size_t n, char key[KEY_MAX])
{
	uint8_t hash[REG_HASH_BYTES];

	auth_hash (password, n, hash);
	hex_text (stpcpy (key, "weft:amqp:"), hash, sizeof (hash));
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
	key_of (k->password, strlen (k->password), key);
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
	if (password.n > SECRET_TEXT_MAX || id_parse (&k->user, user.p, user.n) < 0)
		strcpy (key, "weft:amqp:none");
	else
		key_of (password.p, password.n, key);
	rds_commandf (a->redis, on_checked, k, "GET %s", key);
}
