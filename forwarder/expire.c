/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/expire.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"

#define MOD "expire"
#define LOOK_EVERY_MS 30000
#define NEXT_PAGE_MS 100
#define PAGE 250
#define GONE_AGAIN_MS 10000	/* a second look: the service may just be putting its endpoints into an emptied Redis */
#define DRAIN_EVERY_MS 100

struct expire {
	struct rds *r;
	const struct expire_ops *ops;
	void *arg;
	int64_t retention_ms;
	struct id endpoint;
	char ep[ID_TEXT], tasks_key[LAYOUT_KEY_MAX], hash_key[LAYOUT_KEY_MAX];
	char after[64];			/* XRANGE goes on here: "-" or "(id" */
	bool deleted, drained, missing, asked;
	struct loop_timer *look, *member, *drain;
};

static void on_page (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct expire *x = arg;
	const struct redisReply *last = NULL;
	(void)r;
	if (err || x->deleted || reply->type != REDIS_REPLY_ARRAY)
		return;
	for (size_t i = 0; i < reply->elements; i++) {
		const struct redisReply *e = reply->element[i], *kv;
		struct layout_queued q;
		struct err er;
		if (e->type != REDIS_REPLY_ARRAY || e->elements != 2 || e->element[0]->type != REDIS_REPLY_STRING)
			continue;
		last = e->element[0];
		kv = e->element[1];
		if (kv->type != REDIS_REPLY_ARRAY || kv->elements != 2 || kv->element[1]->type != REDIS_REPLY_STRING)
			continue;
		kv = kv->element[1];
		if (layout_queued_decode (&q, kv->str, kv->len, &er) == 0)
			x->ops->on_expired (&q, last->str, last->len, x->arg);
		else
			x->ops->on_unreadable (layout_queued_task (kv->str, kv->len, &q.task) == 0 ? &q.task : NULL, last->str, last->len, &er, x->arg);
	}
	if (last && reply->elements == PAGE && last->len < sizeof (x->after) - 2) {
		snprintf (x->after, sizeof (x->after), "(%s", last->str);
		loop_timer_start (x->look, NEXT_PAGE_MS, false);
	}
}

static void on_look (void *arg)
{
	struct expire *x = arg;
	char from[sizeof (x->after)];
	loop_timer_start (x->look, LOOK_EVERY_MS, false);
	memcpy (from, x->after, sizeof (from));
	snprintf (x->after, sizeof (x->after), "-");
	if (rds_up (x->r))
		rds_commandf (x->r, on_page, x, "XRANGE %s %s %" PRId64 " COUNT %d", x->tasks_key, from,
			      clock_real_ns () / 1000000 - x->retention_ms, PAGE);
}

static void on_membership (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct expire *x = arg;
	bool was_missing = x->missing;
	(void)r;
	if (err || x->deleted || reply->type != REDIS_REPLY_INTEGER)
		return;
	x->missing = reply->integer == 0;
	if (x->missing && was_missing)
		layout_deleted_send (x->r, &x->endpoint, NULL, NULL); /* its word "deleted" comes */
	else if (x->missing)
		loop_timer_start (x->member, GONE_AGAIN_MS, false);
}

static void on_deleted (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct expire *x = arg;
	(void)r;
	if (!err && !x->deleted && reply->type == REDIS_REPLY_INTEGER && reply->integer == 1)
		x->ops->on_gone (x->arg);
}

static void on_member (void *arg)
{
	struct expire *x = arg;
	loop_timer_start (x->member, LOOK_EVERY_MS, false);
	if (rds_up (x->r) && !x->deleted) {
		rds_commandf (x->r, on_deleted, x, "SISMEMBER weft:eps:deleted %s", x->ep);
		rds_commandf (x->r, on_membership, x, "SISMEMBER weft:eps %s", x->ep);
	} else {
		x->missing = false;
	}
}

static void on_length (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct expire *x = arg;
	(void)r;
	x->asked = false;
	if (err || reply->type != REDIS_REPLY_INTEGER || reply->integer != 0 || x->drained || !x->ops->idle (x->arg))
		return;
	x->drained = true;
	loop_timer_stop (x->drain);
	x->ops->on_drained (x->arg);
}

static void on_owner (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct expire *x = arg;
	(void)r;
	if (err || reply->type != REDIS_REPLY_INTEGER || reply->integer != 1 || x->drained)
		return;
	x->drained = true;
	loop_timer_stop (x->drain);
	x->ops->on_back (x->arg);
}

static void on_drain (void *arg)
{
	struct expire *x = arg;
	if (x->asked || !rds_up (x->r))
		return;
	rds_commandf (x->r, on_owner, x, "HEXISTS %s owner", x->hash_key);
	if (!x->ops->idle (x->arg))
		return;
	x->asked = true;
	rds_commandf (x->r, on_length, x, "XLEN %s", x->tasks_key);
}

struct expire *expire_create (struct loop *l, struct rds *r, const struct id *endpoint, int64_t retention_ms,
			      const struct expire_ops *ops, void *arg)
{
	struct expire *x = xcalloc (1, sizeof (*x));
	x->r = r;
	x->ops = ops;
	x->arg = arg;
	x->retention_ms = retention_ms;
	x->endpoint = *endpoint;
	id_text (endpoint, x->ep);
	layout_key (x->hash_key, "ep", endpoint, NULL);
	layout_key (x->tasks_key, "ep", endpoint, "tasks");
	snprintf (x->after, sizeof (x->after), "-");
	x->look = loop_timer_create (l, on_look, x);
	x->member = loop_timer_create (l, on_member, x);
	x->drain = loop_timer_create (l, on_drain, x);
	return x;
}

/* Called after rds_destroy, which answered what was in flight. */
void expire_destroy (struct expire **xp)
{
	struct expire *x = *xp;
	if (!x)
		return;
	loop_timer_destroy (&x->look);
	loop_timer_destroy (&x->member);
	loop_timer_destroy (&x->drain);
	free (x);
	*xp = NULL;
}

void expire_start (struct expire *x)
{
	loop_timer_start (x->look, 1000, false);
	loop_timer_start (x->member, 1, false);
}

void expire_look (struct expire *x)
{
	on_member (x);
}

void expire_deleted (struct expire *x)
{
	x->deleted = true;
	loop_timer_stop (x->look);
	loop_timer_stop (x->member);
	loop_timer_start (x->drain, DRAIN_EVERY_MS, true);
}
