/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/cancels.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"
#include "proto/layout.h"

#define MOD "cancels"
#define REMEMBERED_MAX 1000000	/* beyond it a cancelled task is run all the same; its result is not stored */
#define FORGET_BATCH 500

struct cancels {
	struct rds *r;
	char key[LAYOUT_KEY_MAX];
	struct map *ids;		/* value: any */
	bool known, loading;
	cancels_f *each;
	void (*ready) (void *arg);
	void *arg;
};

struct cancels *cancels_create (struct rds *r, const struct id *endpoint)
{
	struct cancels *c = xcalloc (1, sizeof (*c));
	c->r = r;
	c->ids = map_create ();
	layout_key (c->key, "ep", endpoint, "cancelled");
	return c;
}

/* Called after rds_destroy, which answered what was in flight. */
void cancels_destroy (struct cancels **cp)
{
	struct cancels *c = *cp;
	if (!c)
		return;
	map_destroy (&c->ids);
	free (c);
	*cp = NULL;
}

static void on_set (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct cancels *c = arg;
	struct err e = { 0 };
	(void)r;
	c->loading = false;
	err = rds_error (reply, err, &e);
	if (err || reply->type != REDIS_REPLY_ARRAY) {
		log_warn (MOD, "reading the cancelled tasks failed", "err=%s", err ? err->text : "unexpected reply");
		return;
	}
	for (size_t i = 0; i < reply->elements; i++) {
		const struct redisReply *v = reply->element[i];
		struct id id;
		if (v->type != REDIS_REPLY_STRING || v->len != ID_BYTES)
			continue;
		memcpy (id.b, v->str, ID_BYTES);
		c->each (&id, c->arg);
	}
	c->known = true;
	c->ready (c->arg);
}

void cancels_load (struct cancels *c, cancels_f *each, void (*ready) (void *arg), void *arg)
{
	if (c->loading)
		return;
	c->loading = true;
	c->each = each;
	c->ready = ready;
	c->arg = arg;
	rds_commandf (c->r, on_set, c, "SMEMBERS %s", c->key);
}

bool cancels_known (const struct cancels *c)
{
	return c->known;
}

void cancels_remember (struct cancels *c, const struct id *task)
{
	if (map_size (c->ids) < REMEMBERED_MAX)
		map_put (c->ids, task, c);
}

bool cancels_take (struct cancels *c, const struct id *task)
{
	if (map_size (c->ids) == 0 || !map_get (c->ids, task))
		return false;
	cancels_forget (c, task);
	return true;
}

void cancels_forget (struct cancels *c, const struct id *task)
{
	map_del (c->ids, task);
	rds_commandf (c->r, NULL, NULL, "SREM %s %b", c->key, task->b, (size_t)ID_BYTES);
}

struct batch { struct cancels *c; int n; struct id ids[FORGET_BATCH]; };

static void send_batch (struct batch *b)
{
	const char *argv[FORGET_BATCH + 2] = { "SREM", b->c->key };
	size_t len[FORGET_BATCH + 2] = { 4, strlen (b->c->key) };
	for (int i = 0; i < b->n; i++) {
		argv[2 + i] = (const char *)b->ids[i].b;
		len[2 + i] = ID_BYTES;
	}
	if (b->n)
		rds_command (b->c->r, NULL, NULL, b->n + 2, argv, len);
	b->n = 0;
}

static int forget_one (const struct id *k, void *v, void *arg)
{
	struct batch *b = arg;
	(void)v;
	if (b->n == FORGET_BATCH)
		send_batch (b);
	b->ids[b->n] = *k;
	map_del (b->c->ids, &b->ids[b->n++]);
	return 0;
}

void cancels_forget_all (struct cancels *c)
{
	struct batch b = { .c = c, .n = 0 };
	if (!rds_up (c->r) || map_size (c->ids) == 0)
		return;
	map_each (c->ids, forget_one, &b);
	send_batch (&b);
}
