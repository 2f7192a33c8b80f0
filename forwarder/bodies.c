/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/bodies.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"
#include "proto/layout.h"
#include "proto/msg_function.h"

#define MOD "bodies"

struct body {
	struct bodies *owner;
	struct id id;
	bool here, failed_fetch;	/* neither: a GET is in flight */
	bool contained;			/* it has a container, as it is here */
	bool changed;			/* the endpoint has an older one */
	bool stale;			/* it was changed while it was being fetched */
	bool missed;			/* the endpoint asked for it while it was being fetched */
	uint64_t epoch;			/* of the session it was sent in last */
	zmq_msg_t record;
};

struct bodies {
	struct rds *r;
	char key[LAYOUT_KEY_MAX];	/* functions with a container that the endpoint was sent; score 1: it has an older record */
	struct map *all;
	size_t bytes, max_bytes;
	bodies_f *cb;
	void *arg;
};

struct bodies *bodies_create (struct rds *r, const struct id *endpoint, size_t max_bytes, bodies_f *cb, void *arg)
{
	struct bodies *b = xcalloc (1, sizeof (*b));
	b->r = r;
	layout_key (b->key, "ep", endpoint, "functions");
	b->all = map_create ();
	b->max_bytes = max_bytes;
	b->cb = cb;
	b->arg = arg;
	return b;
}

static void drop (struct body *f)
{
	if (f->here) {
		f->owner->bytes -= zmq_msg_size (&f->record);
		zmq_msg_close (&f->record);
	}
	map_del (f->owner->all, &f->id);
	free (f);
}

static int drop_each (const struct id *k, void *v, void *arg)
{
	(void)k;
	(void)arg;
	drop (v);
	return 0;
}

/* Called after rds_destroy, which answered everything that was in flight. */
void bodies_destroy (struct bodies **bp)
{
	struct bodies *b = *bp;
	if (!b)
		return;
	map_each (b->all, drop_each, NULL);
	map_destroy (&b->all);
	free (b);
	*bp = NULL;
}

static int drop_here (const struct id *k, void *v, void *arg)
{
	struct body *f = v;
	(void)k;
	if (f->here && f != arg)
		drop (f);
	return 0;
}

static void on_body (struct rds *r, struct redisReply *reply, const struct err *err, void *arg);

static void fetch (struct body *f)
{
	char key[LAYOUT_KEY_MAX];
	layout_key (key, "fn", &f->id, NULL);
	f->failed_fetch = f->stale = false;
	rds_commandf (f->owner->r, on_body, f, "GET %s", key);
}

static void forget (struct bodies *b, const struct id *function)
{
	rds_commandf (b->r, NULL, NULL, "ZREM %s %b", b->key, function->b, (size_t)ID_BYTES);
}

static void on_body (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct body *f = arg;
	struct bodies *b = f->owner;
	struct id id = f->id;
	struct msg_function m;
	struct err e = { 0 };
	(void)r;
	if (!err && f->stale) {
		fetch (f);
		return;
	}
	err = rds_error (reply, err, &e);
	if (err) {
		f->failed_fetch = true; /* bodies_redis_up asks again */
		return;
	}
	if (reply->type != REDIS_REPLY_STRING) {
		forget (b, &id);
		drop (f);
		b->cb (&id, false, "its function is not known to Redis any more; register it again", b->arg);
		return;
	}
	if (msg_function_decode (&m, reply->str, reply->len, &e) < 0 || !id_eq (&m.id, &id)) {
		log_warn (MOD, "unreadable function record", "err=%s", e.text);
		drop (f);
		b->cb (&id, false, "the record of its function in Redis is damaged; register it again", b->arg);
		return;
	}
	if (zmq_msg_init_size (&f->record, reply->len) < 0) {
		f->failed_fetch = true;
		return;
	}
	memcpy (zmq_msg_data (&f->record), reply->str, reply->len);
	f->here = true;
	f->contained = m.container.n > 0;
	b->bytes += reply->len;
	if (b->bytes > b->max_bytes) /* rare: start over rather than keep an order of use on the hot path */
		map_each (b->all, drop_here, f);
	b->cb (&id, true, NULL, b->arg);
}

static struct body *look_up (struct bodies *b, const struct id *function)
{
	struct body *f = map_get (b->all, function);
	if (!f) {
		f = xcalloc (1, sizeof (*f));
		f->owner = b;
		f->id = *function;
		map_put (b->all, function, f);
		fetch (f);
	} else if (f->failed_fetch && rds_up (b->r)) {
		fetch (f);
	}
	return f;
}

bool bodies_have (struct bodies *b, const struct id *function)
{
	return look_up (b, function)->here;
}

static void send_body (struct body *f, struct link_peer *peer)
{
	struct bodies *b = f->owner;
	zmq_msg_t copy;
	if (f->contained)
		rds_commandf (b->r, NULL, NULL, "ZADD %s 0 %b", b->key, f->id.b, (size_t)ID_BYTES);
	else if (f->changed)
		forget (b, &f->id);
	zmq_msg_init (&copy);
	zmq_msg_copy (&copy, &f->record);
	link_send (peer, WIRE_FUNCTION, &copy);
	f->epoch = link_epoch (peer);
	f->missed = false;
}

bool bodies_send (struct bodies *b, struct link_peer *peer, const struct id *function)
{
	struct body *f = look_up (b, function);
	if (!f->here)
		return false;
	if (f->missed || f->epoch != link_epoch (peer))
		send_body (f, peer);
	f->changed = false;
	return true;
}

void bodies_missed (struct bodies *b, struct link_peer *peer, const struct id *function)
{
	struct body *f = map_get (b->all, function);
	if (!f)
		return;
	f->missed = true;
	if (f->here)
		send_body (f, peer);
}

static void want (struct bodies *b, const struct id *function)
{
	struct body *f = look_up (b, function);
	f->changed = true;
	if (f->here)
		b->cb (function, true, NULL, b->arg);
}

struct about { struct bodies *b; struct id function; };

static void on_marked (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct about a = *(struct about *)arg;
	(void)r;
	free (arg);
	if (!err && reply->type == REDIS_REPLY_INTEGER && reply->integer)
		want (a.b, &a.function);
}

/* If the endpoint was sent it, by whom and in what session ever. */
static void mark (struct bodies *b, const struct id *function)
{
	struct about *a = xcalloc (1, sizeof (*a));
	*a = (struct about) { b, *function };
	rds_commandf (b->r, on_marked, a, "ZADD %s XX CH 1 %b", b->key, function->b, (size_t)ID_BYTES);
}

void bodies_changed (struct bodies *b, const struct id *function)
{
	struct body *f = map_get (b->all, function);
	mark (b, function); /* before the fetch: what is sent then unmarks it */
	if (!f)
		return;
	if (f->epoch)
		f->changed = true;	/* and stays so, when it is changed once more before it is here */
	if (f->here) {
		b->bytes -= zmq_msg_size (&f->record);
		zmq_msg_close (&f->record);
		f->here = false;
		fetch (f);
	} else if (!f->failed_fetch) {
		f->stale = true; /* what is on its way may be the record before */
	}
	f->epoch = 0;
}

bool bodies_was_changed (struct bodies *b, const struct id *function)
{
	struct body *f = map_get (b->all, function);
	return f && f->changed;
}

static void on_marks (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct bodies *b = arg;
	struct id function;
	(void)r;
	for (size_t i = 0; !err && reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
		if (reply->element[i]->type != REDIS_REPLY_STRING || reply->element[i]->len != ID_BYTES)
			continue;
		memcpy (function.b, reply->element[i]->str, ID_BYTES);
		want (b, &function);
	}
}

void bodies_session_up (struct bodies *b)
{
	rds_commandf (b->r, on_marks, b, "ZRANGEBYSCORE %s 1 1", b->key);
}

static int fetch_failed (const struct id *k, void *v, void *arg)
{
	struct body *f = v;
	(void)k;
	(void)arg;
	if (f->failed_fetch)
		fetch (f);
	return 0;
}

void bodies_redis_up (struct bodies *b)
{
	map_each (b->all, fetch_failed, NULL);
	bodies_session_up (b); /* there may be one, and what was asked for it is lost */
}
