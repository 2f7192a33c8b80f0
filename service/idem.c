/* SPDX-License-Identifier: Apache-2.0 */
#include "service/idem.h"
#include <hiredis/hiredis.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"

#define CLAIM_MS 60000		/* far longer than storing takes */
#define HEAD (1 + 32 + ID_BYTES)

struct claim {
	struct app *app;
	struct idem idem;
	idem_f *cb;
	void *arg;
	char *answer;		/* of the one in progress */
	size_t n;
};

void idem_init (struct idem *i, const struct id *owner, struct http_str header, struct http_str path, struct http_str body)
{
	uint8_t hash[32];
	char id[ID_TEXT];
	size_t at;
	uint8_t both[64];

	SHA256 ((const unsigned char *) header.p, header.n, hash);
	at = (size_t) snprintf (i->key, sizeof (i->key), "weft:idem:{%s}:", id_text (owner, id));
	for (int k = 0; k < 32; k++)
		at += (size_t) snprintf (i->key + at, sizeof (i->key) - at, "%02x", hash[k]);
	/* path and body: each hashed, then both hashes, so that no boundary can be moved */
	SHA256 ((const unsigned char *) path.p, path.n, both);
	SHA256 ((const unsigned char *) body.p, body.n, both + 32);
	SHA256 (both, sizeof (both), i->request);
}

static void value (struct buf *b, char mark, const struct idem *i, const struct id *last, const char *answer, size_t n)
{
	buf_init (b, 0);
	buf_char (b, mark);
	buf_add (b, i->request, 32);
	buf_add (b, last->b, ID_BYTES);
	buf_add (b, answer, n);
}

static void end (struct claim *k, enum idem_outcome o, const char *answer, size_t n, const struct err *err)
{
	k->cb (o, answer, n, err, k->arg);
	free (k->answer);
	free (k);
}

static void on_exists (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct claim *k = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (!err && reply->integer == 1)
		end (k, IDEM_ANSWERED, k->answer, k->n, NULL);
	else
		end (k, IDEM_IN_PROGRESS, NULL, 0, err);
}

static void on_found (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct claim *k = arg;
	struct err e = { 0 };
	struct id last;
	char key[LAYOUT_KEY_MAX];

	(void) r;
	err = rds_error (reply, err, &e);
	if (err || reply->type != REDIS_REPLY_STRING || reply->len < HEAD) {
		end (k, IDEM_IN_PROGRESS, NULL, 0, err); /* released this very moment */
		return;
	}
	if (memcmp (reply->str + 1, k->idem.request, 32)) {
		end (k, IDEM_OTHER_REQUEST, NULL, 0, NULL);
		return;
	}
	if (reply->str[0] == 'R') {
		end (k, IDEM_ANSWERED, reply->str + HEAD, reply->len - HEAD, NULL);
		return;
	}
	memcpy (last.b, reply->str + 33, ID_BYTES);
	k->n = reply->len - HEAD;
	k->answer = malloc (k->n + 1);
	if (!k->answer) {
		end (k, IDEM_IN_PROGRESS, NULL, 0, NULL);
		return;
	}
	memcpy (k->answer, reply->str + HEAD, k->n);
	layout_key (key, "task", &last, NULL);
	rds_commandf (k->app->redis, on_exists, k, "EXISTS %s", key);
}

static void on_claim (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct claim *k = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (err || reply->type != REDIS_REPLY_NIL)
		end (k, IDEM_OURS, NULL, 0, err);
	else
		rds_commandf (k->app->redis, on_found, k, "GET %s", k->idem.key);
}

void idem_claim (struct app *a, const struct idem *i, const struct id *last_task, const char *answer, size_t n, idem_f *cb, void *arg)
{
	struct claim *k = xcalloc (1, sizeof (*k));
	struct buf b;

	*k = (struct claim) { .app = a, .idem = *i, .cb = cb, .arg = arg };
	value (&b, 'P', i, last_task, answer, n);
	rds_commandf (a->redis, on_claim, k, "SET %s %b PX %d NX", i->key, b.data, b.len, CLAIM_MS);
	buf_fini (&b);
}

void idem_finish (struct app *a, const struct idem *i, const struct id *last_task, const char *answer, size_t n)
{
	struct buf b;
	char ms[24];

	value (&b, 'R', i, last_task, answer, n);
	snprintf (ms, sizeof (ms), "%lld", (long long) a->config->idempotency_ms);
	rds_commandf (a->redis, NULL, NULL, "SET %s %b PX %s", i->key, b.data, b.len, ms);
	buf_fini (&b);
}

void idem_release (struct app *a, const struct idem *i)
{
	rds_commandf (a->redis, NULL, NULL, "DEL %s", i->key);
}
