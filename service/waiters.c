/* SPDX-License-Identifier: Apache-2.0 */
#include "service/waiters.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/hex.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"

#define MOD "waiters"

/* One task that one request waits for. */
struct item {
	struct item *same;		/* others that wait for the same task */
	struct item *prev, *next;	/* of its waiter */
	struct waiter *w;
	struct id task;
};

struct waiter {
	struct waiters *ws;
	const struct waiter_ops *ops;
	void *arg;
	struct waiter *prev, *next;
	struct item *items;
	struct item one;		/* most wait for one task: no allocation */
	size_t left;
	struct loop_timer *timer;
	uint64_t losses;		/* of the channel, when it was made */
	bool hold, started, in_callback, ended, one_used;
};

struct waiters {
	struct loop *loop;
	struct rds *cmd, *channel;
	char instance[LAYOUT_INSTANCE + 1], name[LAYOUT_KEY_MAX];
	struct map *tasks;		/* id -> first item */
	struct waiter *all;
	size_t count;
	uint64_t losses;
	bool up;
};

/* ---- items ------------------------------------------------------------------------------------------------------ */

static void detach (struct item *it)
{
	struct waiter *w = it->w;
	struct item *first = map_get (w->ws->tasks, &it->task), *p;

	if (first == it) {
		if (it->same)
			map_put (w->ws->tasks, &it->task, it->same);
		else
			map_del (w->ws->tasks, &it->task);
	} else {
		for (p = first; p && p->same != it; p = p->same)
			;
		if (p)
			p->same = it->same;
	}
	if (it->prev)
		it->prev->next = it->next;
	else
		w->items = it->next;
	if (it->next)
		it->next->prev = it->prev;
	w->left--;
	if (it == &w->one)
		w->one_used = false;
	else
		free (it);
}

void waiter_add (struct waiter *w, const struct id *task)
{
	struct item *it = w->one_used ? xcalloc (1, sizeof (*it)) : &w->one;

	if (it == &w->one)
		w->one_used = true;
	*it = (struct item) { .w = w, .task = *task, .next = w->items, .same = map_get (w->ws->tasks, task) };
	if (w->items)
		w->items->prev = it;
	w->items = it;
	w->left++;
	map_put (w->ws->tasks, task, it);
}

static void end (struct waiter *w, bool time_over)
{
	if (w->ended)
		return;
	w->ended = true;
	loop_timer_stop (w->timer);
	w->ops->on_end (w, time_over, w->arg);
}

static void maybe_end (struct waiter *w)
{
	if (w->started && !w->left && !w->in_callback)
		end (w, false);
}

/* m NULL: gone. */
static void deliver (struct waiters *ws, const struct id *task_id, int state, const struct msg_result *m, bool pushed)
{
	struct id task = *task_id; /* the argument may live in an item */
	struct item *it;

	while ((it = map_get (ws->tasks, &task))) {
		struct waiter *w = it->w;
		detach (it);
		w->in_callback = true;
		if (m)
			w->ops->on_result (w, &task, state, m, pushed, w->arg);
		else
			w->ops->on_gone (w, &task, w->arg);
		w->in_callback = false;
		maybe_end (w);
	}
}

void waiter_drop (struct waiter *w, const struct id *task)
{
	struct item *it;

	for (it = map_get (w->ws->tasks, task); it; it = it->same)
		if (it->w == w) {
			detach (it);
			return;
		}
}

size_t waiter_left (const struct waiter *w)
{
	return w->left;
}

/* ---- looking up ------------------------------------------------------------------------------------------------- */

struct lookup { struct waiters *ws; struct id task; };

/* {m, s, r} */
static void on_lookup (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct lookup *k = arg;
	struct waiters *ws = k->ws;
	struct id task = k->task;
	struct msg_result m;
	struct err e = { 0 };

	(void) r;
	free (k);
	if (rds_error (reply, err, &e))
		return; /* the connection's return looks again */
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 || reply->element[0]->type != REDIS_REPLY_STRING) {
		deliver (ws, &task, 0, NULL, false);
		return;
	}
	if (reply->element[2]->type != REDIS_REPLY_STRING)
		return;
	if (msg_result_decode (&m, reply->element[2]->str, reply->element[2]->len, &e) < 0) {
		log_err (LOG_ERROR, MOD, "stored result is damaged", &e);
		deliver (ws, &task, 0, NULL, false);
		return;
	}
	deliver (ws, &task, msg_status_state (m.status), &m, false);
}

static void look_up (struct waiters *ws, const struct id *task)
{
	struct lookup *k = xcalloc (1, sizeof (*k));

	*k = (struct lookup) { ws, *task };
	layout_wait_send (ws->cmd, task, ws->instance, on_lookup, k);
}

/* It has ended: no need to register, and a large record is not to go through a script. */
static void fetch (struct waiters *ws, const struct id *task)
{
	struct lookup *k = xcalloc (1, sizeof (*k));
	char key[LAYOUT_KEY_MAX];

	*k = (struct lookup) { ws, *task };
	layout_key (key, "task", task, NULL);
	rds_commandf (ws->cmd, on_lookup, k, "HMGET %s m s r", key);
}

static int look_up_each (const struct id *k, void *v, void *arg)
{
	for (struct item *it = v; it; it = it->same)
		if (!it->w->hold) {
			look_up (arg, k);
			break;
		}
	return 0;
}

static void look_up_all (struct waiters *ws)
{
	if (ws->up && rds_up (ws->cmd) && map_size (ws->tasks))
		map_each (ws->tasks, look_up_each, ws);
}

void waiters_commands_up (struct waiters *ws)
{
	look_up_all (ws);
}

void waiter_release (struct waiter *w)
{
	w->hold = false;
	if (w->losses == w->ws->losses && w->ws->up)
		return;
	for (struct item *it = w->items; it; it = it->next)
		look_up (w->ws, &it->task);
}

/* ---- the channel ------------------------------------------------------------------------------------------------ */

static void on_message (struct rds *r, const char *channel, const char *msg, size_t n, void *arg)
{
	struct waiters *ws = arg;
	struct layout_done d;
	struct msg_result m;
	struct err err = { 0 };

	(void) r;
	(void) channel;
	if (layout_done_decode (&d, msg, n, &err) < 0) {
		log_err (LOG_WARN, MOD, "unreadable message on the channel", &err);
		return;
	}
	if (!map_get (ws->tasks, &d.task))
		return; /* answered, or its time was over */
	if (!d.record.n) {
		fetch (ws, &d.task); /* too large for the channel */
		return;
	}
	if (msg_result_decode (&m, d.record.p, d.record.n, &err) < 0) {
		log_err (LOG_WARN, MOD, "unreadable result on the channel", &err);
		look_up (ws, &d.task);
		return;
	}
	deliver (ws, &d.task, d.state, &m, true);
}

static void on_state (struct rds *r, bool up, const char *why, void *arg)
{
	struct waiters *ws = arg;

	(void) r;
	(void) why;
	ws->up = up;
	if (up)
		look_up_all (ws);
	else
		ws->losses++;
}

struct waiters *waiters_create (struct loop *l, struct rds *commands, const char *redis_url, const char *password_file, struct err *err)
{
	struct waiters *ws = xcalloc (1, sizeof (*ws));
	struct rds_opts o = { .url = redis_url, .password_file = password_file, .on_state = on_state, .arg = ws };
	uint8_t random[LAYOUT_INSTANCE / 2];

	ids_random (random, sizeof (random));
	hex_text (ws->instance, random, sizeof (random));
	snprintf (ws->name, sizeof (ws->name), "weft:done:%s", ws->instance);
	ws->loop = l;
	ws->cmd = commands;
	ws->tasks = map_create ();
	ws->losses = 1;
	if (!(ws->channel = rds_create (l, &o, err))) {
		waiters_destroy (&ws);
		return NULL;
	}
	rds_subscribe (ws->channel, ws->name, on_message, ws);
	return ws;
}

void waiters_destroy (struct waiters **wsp)
{
	struct waiters *ws = *wsp;

	if (!ws)
		return;
	rds_destroy (&ws->channel);
	map_destroy (&ws->tasks);
	free (ws);
	*wsp = NULL;
}

const char *waiters_instance (const struct waiters *ws)
{
	return ws->instance;
}

size_t waiters_count (const struct waiters *ws)
{
	return ws->count;
}

bool waiters_up (const struct waiters *ws)
{
	return ws->up;
}

/* ---- waiters ---------------------------------------------------------------------------------------------------- */

static void on_time (void *arg)
{
	struct waiter *w = arg;

	end (w, w->left > 0);
}

struct waiter *waiter_create (struct waiters *ws, const struct waiter_ops *ops, void *arg, bool hold)
{
	struct waiter *w = xcalloc (1, sizeof (*w));

	*w = (struct waiter) { .ws = ws, .ops = ops, .arg = arg, .hold = hold, .losses = ws->up ? ws->losses : 0, .next = ws->all };
	if (ws->all)
		ws->all->prev = w;
	ws->all = w;
	ws->count++;
	w->timer = loop_timer_create (ws->loop, on_time, w);
	return w;
}

void waiter_start (struct waiter *w, int64_t timeout_ms)
{
	w->started = true;
	loop_timer_start (w->timer, w->left ? timeout_ms : 0, false);
}

void waiter_destroy (struct waiter **wp)
{
	struct waiter *w = *wp;

	if (!w)
		return;
	while (w->items)
		detach (w->items);
	if (w->prev)
		w->prev->next = w->next;
	else
		w->ws->all = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->ws->count--;
	loop_timer_destroy (&w->timer);
	free (w);
	*wp = NULL;
}

void waiters_end_all (struct waiters *ws)
{
	struct waiter *w = ws->all;

	while (w) {
		struct waiter *next = w->next;
		if (w->started)
			loop_timer_start (w->timer, 0, false);
		w = next;
	}
}
