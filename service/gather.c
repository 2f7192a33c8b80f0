/* SPDX-License-Identifier: Apache-2.0 */
/* Reads run in a window, so that a hundred thousand tasks neither flood Redis nor fill memory. With waiting:
 *
 *   READ     each task: register with the waiters, then the script that adds our name and reads the state
 *   WAIT     until nothing is left or the time is over
 *   REREAD   what has not ended: its state may have moved on meanwhile
 *   SHOW     are the endpoints online? then the pending ones are reported
 *
 * With gather_any a task that has ended makes WAIT the last step, after a moment in which more may come: a caller that follows
 * many tasks comes back for the rest, and each time costs a read of all of them.
 *
 * A result may come through the channel before the read has said whose task it is: it is then noted and read again. */
#include "service/gather.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"
#include "service/stats.h"

#define MOD "gather"
#define WINDOW 256
#define ANY_MORE_MS 2

enum item_state { ITEM_NEW, ITEM_PENDING, ITEM_DONE };

struct item {
	struct gather *g;
	struct id task;
	enum item_state at;
	bool early;			/* the channel spoke before the read did */
	int state;
	struct layout_meta meta;	/* once PENDING */
};

struct gather {
	struct app *app;
	struct id owner;
	struct gather_ops ops;
	void *arg;
	struct item *items;
	size_t n, next, inflight;
	struct map *index;		/* id -> item */
	struct waiter *w;
	int64_t wait_ms;
	bool reread, started, any;
	size_t ended;
	struct err err;			/* code NONE: fine */
};

static void pump (struct gather *g);

static void report (struct item *it, int state, const struct layout_meta *meta, const struct msg_result *m)
{
	struct doc_task t = { .task = it->task, .state = state, .meta = meta, .result = m, .bulk = it->g->app->bulk };

	it->at = ITEM_DONE;
	if (m && ++it->g->ended == 1 && it->g->any && it->g->started)
		waiter_start (it->g->w, ANY_MORE_MS);
	if (!m) {
		t.endpoint_offline = !epstate_online (it->g->app->epstate, &meta->endpoint);
		t.waiting_reason = epstate_waiting_reason (it->g->app->epstate, &meta->endpoint);
	}
	it->g->ops.on_task (&t, it->g->arg);
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

static void finish (void *arg)
{
	struct gather *g = arg;

	for (size_t i = 0; i < g->n && !g->err.code && !g->any; i++)
		if (g->items[i].at == ITEM_PENDING)
			report (&g->items[i], g->items[i].state, &g->items[i].meta, NULL);
	waiter_destroy (&g->w);
	g->ops.on_end (g->err.code ? &g->err : NULL, g->arg);
	map_destroy (&g->index);
	free (g->items);
	free (g);
}

static void show (struct gather *g)
{
	struct id *eps = NULL;
	size_t n = 0;

	for (size_t i = 0; i < g->n && !g->err.code; i++) {
		const struct item *it = &g->items[i];
		if (it->at != ITEM_PENDING || (n && id_eq (&eps[n - 1], &it->meta.endpoint)))
			continue;
		if (!(n & (n - 1)))
			eps = xrealloc (eps, (n ? n * 2 : 1) * sizeof (*eps));
		eps[n++] = it->meta.endpoint;
	}
	epstate_refresh (g->app->epstate, eps, n, finish, g);
	free (eps);
}

/* All reads of a pass are answered. */
static void pass_over (struct gather *g)
{
	if (g->any && g->ended && !g->err.code)
		finish (g);
	else if (g->err.code || g->reread || !g->w || !waiter_left (g->w))
		show (g);
	else {
		g->started = true;
		waiter_start (g->w, g->wait_ms);
	}
}

static void start_reread (struct gather *g)
{
	g->reread = true;
	g->next = 0;
	waiter_destroy (&g->w);
	pump (g);
}

void gather_any (struct gather *g)
{
	g->any = g->wait_ms > 0;
}

void gather_hurry (struct gather *g)
{
	g->wait_ms = 0;
	if (g->started && g->w)
		waiter_start (g->w, 0);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static void fail (struct gather *g, const struct err *err)
{
	if (!g->err.code)
		g->err = *err;
}

static void unknown (struct item *it)
{
	if (it->g->w)
		waiter_drop (it->g->w, &it->task);
	it->at = ITEM_DONE;
	it->g->ended++;
	it->g->ops.on_unknown (&it->task, it->g->arg);
}

static int task_state_of (const struct redisReply *s)
{
	int v = s->type == REDIS_REPLY_STRING ? atoi (s->str) : s->type == REDIS_REPLY_INTEGER ? (int) s->integer : 0;

	return v >= STATE_RECEIVED && v <= STATE_CANCELLED ? v : 0;
}

static void send_read (struct item *it);

static void take (struct item *it, const struct redisReply *reply)
{
	struct gather *g = it->g;
	const struct redisReply *r;
	struct layout_meta meta;
	struct msg_result m;
	struct err err = { 0 };

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 || reply->element[0]->type != REDIS_REPLY_STRING) {
		unknown (it);
		return;
	}
	if (layout_meta_decode (&meta, reply->element[0]->str, reply->element[0]->len, &err) < 0) {
		log_err (LOG_ERROR, MOD, "damaged task in Redis", &err);
		unknown (it);
		return;
	}
	if (!id_eq (&meta.owner, &g->owner)) {
		unknown (it);
		return;
	}
	r = reply->element[2];
	if (r->type == REDIS_REPLY_STRING && msg_result_decode (&m, r->str, r->len, &err) == 0) {
		if (g->w)
			waiter_drop (g->w, &it->task);
		report (it, msg_status_state (m.status), &meta, &m);
		return;
	}
	if (err.code)
		log_err (LOG_ERROR, MOD, "damaged result in Redis", &err);
	it->at = ITEM_PENDING;
	it->state = task_state_of (reply->element[1]);
	it->meta = meta;
	if (it->early) { /* it ended between the script and now */
		it->early = false;
		send_read (it);
	}
}

static void on_read (struct rds *rds, struct redisReply *reply, const struct err *err, void *arg)
{
	struct item *it = arg;
	struct gather *g = it->g;
	struct err e = { 0 };

	(void) rds;
	g->inflight--;
	err = rds_error (reply, err, &e);
	if (err)
		fail (g, err);
	else
		take (it, reply);
	pump (g);
}

static void send_read (struct item *it)
{
	struct gather *g = it->g;
	char key[LAYOUT_KEY_MAX];

	g->inflight++;
	if (g->w) {
		layout_wait_send (g->app->redis, &it->task, waiters_instance (g->app->waiters), on_read, it);
		return;
	}
	layout_key (key, "task", &it->task, NULL);
	rds_commandf (g->app->redis, on_read, it, "HMGET %s m s r", key);
}

static void pump (struct gather *g)
{
	while (g->inflight < WINDOW && g->next < g->n && !g->err.code) {
		struct item *it = &g->items[g->next++];
		if (it->at == ITEM_DONE)
			continue;
		if (g->w)
			waiter_add (g->w, &it->task);
		send_read (it);
	}
	if (!g->inflight)
		pass_over (g);
}

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

static void on_result (struct waiter *w, const struct id *task, int state, const struct msg_result *m, bool pushed, void *arg)
{
	struct gather *g = arg;
	struct item *it = map_get (g->index, task);
	struct msg_result stamped;

	(void) w;
	if (it->at == ITEM_NEW) {
		it->early = true;
		return;
	}
	if (it->at == ITEM_DONE)
		return;
	stamped = *m;
	if (pushed)
		stamped.stamps[STAMP_SERVICE_RESULT] = clock_real_ns ();
	stats_tasks (g->app->stats, 0, 1);
	report (it, state, &it->meta, &stamped);
}

static void on_gone (struct waiter *w, const struct id *task, void *arg)
{
	struct gather *g = arg;
	struct item *it = map_get (g->index, task);

	(void) w;
	if (it->at == ITEM_PENDING) {
		it->at = ITEM_DONE;
		if (++g->ended == 1 && g->any && g->started)
			waiter_start (g->w, ANY_MORE_MS);
		g->ops.on_unknown (task, g->arg);
	}
}

static void on_end (struct waiter *w, bool time_over, void *arg)
{
	struct gather *g = arg;

	(void) w;
	(void) time_over;
	if (g->any && g->ended)
		finish (g);
	else
		start_reread (g);
}

static const struct waiter_ops waiter_ops = { on_result, on_gone, on_end };

struct gather *gather_start (struct app *a, const struct id *owner, const struct id *ids, size_t n, int64_t wait_ms, const struct gather_ops *ops,
			     void *arg)
{
	struct gather *g = xcalloc (1, sizeof (*g));

	*g = (struct gather) { .app = a, .owner = *owner, .ops = *ops, .arg = arg, .wait_ms = wait_ms };
	g->index = map_create ();
	g->items = xcalloc (n + 1, sizeof (*g->items));
	for (size_t i = 0; i < n; i++) {
		struct item *it = &g->items[g->n];
		if (map_get (g->index, &ids[i]))
			continue;
		it->g = g;
		it->task = ids[i];
		map_put (g->index, &ids[i], it);
		g->n++;
	}
	if (wait_ms > 0 && g->n)
		g->w = waiter_create (a->waiters, &waiter_ops, g, false);
	pump (g);
	return g;
}
