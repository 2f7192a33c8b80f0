/* SPDX-License-Identifier: Apache-2.0 */
#include "service/feed.h"
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"

#define MOD "feed"
#define BASE "weft:feed"	/* nobody publishes here: it keeps the connection one that is subscribed */

struct group {
	struct feed *feed;
	struct id id;
	char channel[LAYOUT_KEY_MAX];
	bool standing;
	TAILQ_HEAD (, feed_member) members;
};

struct feed_member {
	struct group *group;
	const struct feed_ops *ops;
	void *arg;
	bool told;			/* on_standing was called for it since the group stands */
	TAILQ_ENTRY (feed_member) link;
};

struct feed {
	struct rds *channel;
	struct map *groups;
	struct loop_defer *late;	/* members that joined a group that stood already */
	struct feed_member *next;	/* of the walk that is under way: leaving moves it on */
	bool up, closed;
};

static void tell_standing (struct group *g)
{
	struct feed *f = g->feed;

	for (struct feed_member *m = TAILQ_FIRST (&g->members); m; m = f->next) {
		f->next = TAILQ_NEXT (m, link);
		if (m->told)
			continue;
		m->told = true;
		m->ops->on_standing (m->arg);
	}
}

static void on_standing (void *arg)
{
	struct group *g = arg;
	struct feed_member *m;

	g->standing = true;
	TAILQ_FOREACH (m, &g->members, link)
		m->told = false;
	tell_standing (g);
}

static void tell_close (struct group *g)
{
	struct feed *f = g->feed;

	for (struct feed_member *m = TAILQ_FIRST (&g->members); m; m = f->next) {
		f->next = TAILQ_NEXT (m, link);
		m->ops->on_close (m->arg);
	}
}

static int late_of (const struct id *k, void *v, void *arg)
{
	struct group *g = v;

	(void) k;
	(void) arg;
	if (g->feed->closed)
		tell_close (g);
	else if (g->standing)
		tell_standing (g);
	return 0;
}

static void on_late (void *arg)
{
	struct feed *f = arg;

	map_each (f->groups, late_of, NULL);
}

static void on_message (struct rds *r, const char *channel, const char *msg, size_t n, void *arg)
{
	struct group *g = arg;
	struct feed *f = g->feed;
	struct layout_ended e;
	struct err err;

	(void) r;
	(void) channel;
	if (layout_ended_decode (&e, msg, n, &err) < 0) {
		log_err (LOG_WARN, MOD, "unreadable message on a group's channel", &err);
		return;
	}
	for (struct feed_member *m = TAILQ_FIRST (&g->members); m; m = f->next) {
		f->next = TAILQ_NEXT (m, link);
		m->ops->on_ended (&e, m->arg);
	}
}

static void on_nothing (struct rds *r, const char *channel, const char *msg, size_t n, void *arg)
{
	(void) r;
	(void) channel;
	(void) msg;
	(void) n;
	(void) arg;
}

static int fallen (const struct id *k, void *v, void *arg)
{
	(void) k;
	(void) arg;
	((struct group *) v)->standing = false;
	return 0;
}

static void on_state (struct rds *r, bool up, const char *why, void *arg)
{
	struct feed *f = arg;

	(void) r;
	(void) why;
	f->up = up;
	if (!up)
		map_each (f->groups, fallen, NULL);
}

struct feed *feed_create (struct loop *l, const char *redis_url, const char *password_file, struct err *err)
{
	struct feed *f = xcalloc (1, sizeof (*f));
	struct rds_opts o = { .url = redis_url, .password_file = password_file, .on_state = on_state, .arg = f };

	f->groups = map_create ();
	f->late = loop_defer_create (l, on_late, f);
	if (!(f->channel = rds_create (l, &o, err))) {
		feed_destroy (&f);
		return NULL;
	}
	rds_subscribe (f->channel, BASE, on_nothing, f);
	return f;
}

void feed_destroy (struct feed **fp)
{
	struct feed *f = *fp;

	if (!f)
		return;
	rds_destroy (&f->channel);
	loop_defer_destroy (&f->late);
	map_destroy_owned (&f->groups, free);
	free (f);
	*fp = NULL;
}

bool feed_up (const struct feed *f)
{
	return f->up;
}

struct feed_member *feed_join (struct feed *f, const struct id *group, const struct feed_ops *ops, void *arg)
{
	struct feed_member *m = xcalloc (1, sizeof (*m));
	struct group *g = map_get (f->groups, group);

	if (!g) {
		g = xcalloc (1, sizeof (*g));
		g->feed = f;
		g->id = *group;
		layout_key (g->channel, "group", group, "done");
		TAILQ_INIT (&g->members);
		map_put (f->groups, group, g);
		rds_subscribe_told (f->channel, g->channel, on_message, on_standing, g);
	}
	if (g->standing || f->closed)
		loop_defer_schedule (f->late);
	*m = (struct feed_member) { .group = g, .ops = ops, .arg = arg };
	TAILQ_INSERT_TAIL (&g->members, m, link);
	return m;
}

void feed_leave (struct feed_member **mp)
{
	struct feed_member *m = *mp;
	struct group *g;
	struct feed *f;

	if (!m)
		return;
	*mp = NULL;
	g = m->group;
	f = g->feed;
	if (f->next == m)
		f->next = TAILQ_NEXT (m, link);
	TAILQ_REMOVE (&g->members, m, link);
	free (m);
	if (!TAILQ_EMPTY (&g->members))
		return;
	rds_unsubscribe (f->channel, g->channel);
	map_del (f->groups, &g->id);
	free (g);
}

void feed_close (struct feed *f)
{
	f->closed = true;
	loop_defer_schedule (f->late);
}
