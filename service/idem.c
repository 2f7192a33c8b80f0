/* SPDX-License-Identifier: Apache-2.0 */
#include "service/idem.h"
#include <endian.h>
#include <hiredis/hiredis.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/hex.h"
#include "common/clock.h"
#include "common/decimal.h"
#include "common/xmem.h"

#define CLAIM_MS 60000		/* far longer than storing takes: who has not done it then has given it up, and could not say so */
#define SILENT_MS 1000		/* who does not listen has died, unless his connection is just being made again */
#define NOBODY "----------------"	/* as long as an instance; none is called so */

/* A claim gets another holder, if it still has the one that we know. It may when memory is short: nothing grows.
 *
 * KEYS  1 the claim
 * ARGV  1 IDEM_HEAD   2 its holder   3 the next one
 * Reply 1, or 0 when it has another holder, was answered, or has gone. */
static struct rds_script hand_on_script = { .name = "hand_on", .body =
	"#!lua flags=allow-oom\n"
	"local at, mark = tonumber(ARGV[1]), redis.call('GETRANGE', KEYS[1], 0, 0)\n"
	"if (mark ~= 'C' and mark ~= 'T') or redis.call('GETRANGE', KEYS[1], at, at + #ARGV[2] - 1) ~= ARGV[2] then\n"
	"	return 0\n"
	"end\n"
	"redis.call('SETRANGE', KEYS[1], 0, 'T')\n"
	"redis.call('SETRANGE', KEYS[1], at, ARGV[3])\n"
	"return 1\n" };

struct claim {
	struct app *app;
	struct idem idem;
	idem_f *cb;
	void *arg;
	char holder[LAYOUT_INSTANCE];
	char *answer;		/* of the one in progress */
	size_t n;
	struct id *ids;		/* its group and tasks */
	size_t nids;
};

void idem_init (struct idem *i, const struct id *owner, struct http_str header, struct http_str path, struct http_str body)
{
	uint8_t hash[32];
	char id[ID_TEXT];
	uint8_t both[64];

	SHA256 ((const unsigned char *) header.p, header.n, hash);
	hex_text (i->key + snprintf (i->key, sizeof (i->key), "weft:idem:{%s}:", id_text (owner, id)), hash, sizeof (hash));
	/* path and body: each hashed, then both hashes, so that no boundary can be moved */
	SHA256 ((const unsigned char *) path.p, path.n, both);
	SHA256 ((const unsigned char *) body.p, body.n, both + 32);
	SHA256 (both, sizeof (both), i->request);
}

static void value (struct buf *b, char mark, const struct idem *i, const struct id *last, const char *rest, size_t n)
{
	buf_init (b, 0);
	buf_char (b, mark);
	buf_add (b, i->request, 32);
	buf_add (b, last->b, ID_BYTES);
	buf_add (b, rest, n);
}

void idem_head (const struct idem *i, const struct id *last_task, uint8_t head[IDEM_HEAD])
{
	struct buf b;

	value (&b, 'C', i, last_task, NULL, 0);
	memcpy (head, b.data, IDEM_HEAD);
	buf_fini (&b);
}

static void end (struct claim *k, enum idem_outcome o, const char *answer, size_t n, const struct err *err)
{
	k->cb (o, answer, n, k->ids, k->nids, err, k->arg);
	free (k->answer);
	free (k->ids);
	free (k);
}

static int64_t age_ms (const struct claim *k)
{
	return clock_real_ns () / 1000000 - id_time_ms (&k->ids[k->nids - 1]);
}

static void hand_on (struct app *a, const struct idem *i, const char from[LAYOUT_INSTANCE], const char *to, rds_f *cb, void *arg)
{
	char head[DECIMAL_MAX];
	const char *argv[4] = { i->key, head, from, to };
	size_t len[4] = { strlen (i->key), decimal_put (head, IDEM_HEAD), LAYOUT_INSTANCE, strlen (to) };

	rds_script (a->redis, &hand_on_script, cb, arg, 1, 4, argv, len);
}

static void on_taken (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct claim *k = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (!err && reply->integer == 1)
		end (k, IDEM_LEFT, k->answer, k->n, NULL);
	else
		end (k, IDEM_IN_PROGRESS, NULL, 0, err); /* another was faster */
}

/* The tasks are to be stored by us, and this says so. */
static void take (struct claim *k)
{
	hand_on (k->app, &k->idem, k->holder, waiters_instance (k->app->waiters), on_taken, k);
}

static void on_listeners (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct claim *k = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (!err && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[1]->integer == 0)
		take (k);
	else
		end (k, IDEM_IN_PROGRESS, NULL, 0, err);
}

static void on_exists (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct claim *k = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (!err && reply->integer == 1)
		end (k, IDEM_ANSWERED, k->answer, k->n, NULL);
	else if (!err && (age_ms (k) > CLAIM_MS || !memcmp (k->holder, NOBODY, sizeof (k->holder))))
		take (k);
	else if (!err && age_ms (k) > SILENT_MS)
		rds_commandf (k->app->redis, on_listeners, k, "PUBSUB NUMSUB weft:done:%b", k->holder, sizeof (k->holder));
	else
		end (k, IDEM_IN_PROGRESS, NULL, 0, err);
}

/* What follows the head of a 'C'. */
static int read_claim (struct claim *k, const char *p, size_t n)
{
	uint32_t nids;

	if (n < sizeof (k->holder) + sizeof (nids))
		return -1;
	memcpy (k->holder, p, sizeof (k->holder));
	p += sizeof (k->holder);
	n -= sizeof (k->holder);
	memcpy (&nids, p, sizeof (nids));
	nids = le32toh (nids);
	p += sizeof (nids);
	n -= sizeof (nids);
	if (nids < 2 || nids > n / ID_BYTES || !(k->ids = malloc (nids * sizeof (struct id))) || !(k->answer = malloc (n - nids * ID_BYTES + 1)))
		return -1;
	memcpy (k->ids, p, nids * ID_BYTES);
	k->nids = nids;
	k->n = n - nids * ID_BYTES;
	memcpy (k->answer, p + nids * ID_BYTES, k->n);
	return 0;
}

static void on_found (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct claim *k = arg;
	struct err e = { 0 };
	struct id last;
	char key[LAYOUT_KEY_MAX];

	(void) r;
	err = rds_error (reply, err, &e);
	if (err || reply->type != REDIS_REPLY_STRING || reply->len < IDEM_HEAD) {
		end (k, IDEM_IN_PROGRESS, NULL, 0, err); /* released this very moment */
		return;
	}
	if (memcmp (reply->str + 1, k->idem.request, 32)) {
		end (k, IDEM_OTHER_REQUEST, NULL, 0, NULL);
		return;
	}
	if (reply->str[0] == 'R') {
		end (k, IDEM_ANSWERED, reply->str + IDEM_HEAD, reply->len - IDEM_HEAD, NULL);
		return;
	}
	memcpy (last.b, reply->str + 33, ID_BYTES);
	if ((reply->str[0] != 'C' && reply->str[0] != 'T') || read_claim (k, reply->str + IDEM_HEAD, reply->len - IDEM_HEAD) < 0) {
		end (k, IDEM_IN_PROGRESS, NULL, 0, NULL);
		return;
	}
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

/* It stays as long as an answer would: who comes back late must not store the tasks once more. */
void idem_claim (struct app *a, const struct idem *i, const struct id *ids, size_t nids, const char *answer, size_t n, idem_f *cb, void *arg)
{
	struct claim *k = xcalloc (1, sizeof (*k));
	uint32_t count = htole32 ((uint32_t) nids);
	struct buf b;

	*k = (struct claim) { .app = a, .idem = *i, .cb = cb, .arg = arg };
	value (&b, 'C', i, &ids[nids - 1], waiters_instance (a->waiters), LAYOUT_INSTANCE);
	buf_add (&b, &count, sizeof (count));
	buf_add (&b, ids, nids * ID_BYTES);
	buf_add (&b, answer, n);
	rds_commandf (a->redis, on_claim, k, "SET %s %b PX %lld NX", i->key, b.data, b.len, (long long) a->config->idempotency_ms);
	buf_fini (&b);
}

void idem_finish (struct app *a, const struct idem *i, const struct id *last_task, const char *answer, size_t n)
{
	struct buf b;

	value (&b, 'R', i, last_task, answer, n);
	rds_commandf (a->redis, NULL, NULL, "SET %s %b PX %lld", i->key, b.data, b.len, (long long) a->config->idempotency_ms);
	buf_fini (&b);
}

void idem_leave (struct app *a, const struct idem *i)
{
	hand_on (a, i, waiters_instance (a->waiters), NOBODY, NULL, NULL);
}
