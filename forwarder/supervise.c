/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/supervise.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/rds.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "forwarder/forward.h"
#include "proto/layout.h"

#define MOD "supervise"
#define HEALTHY_MS 30000	/* a child that lived so long starts over with its back-off */
#define BACKOFF_MS 100
#define BACKOFF_CAP_MS 30000
#define GIVE_UP_LEASE_AFTER 3	/* failed starts in a row: let another host try */
#define STOP_GRACE_MS 5000

struct child {
	struct supervise *s;
	struct id endpoint;
	struct spawn *proc;		/* NULL: not running */
	bool asked;			/* a lease request is in flight */
	bool listed;			/* in the last listing: registered, or deleted and its tasks not all failed yet */
	unsigned failures;
	int64_t started_ms, not_before_ms;
};

struct supervise {
	struct loop *l;
	const struct config *conf;
	const char *program;
	const char *const *config_args;
	char instance[ID_TEXT];
	struct rds *r, *sub;
	struct map *children;
	struct loop_timer *look;
	int64_t look_ms;
	size_t running;
	bool listing;			/* the first half of it came */
	bool stopping;
};

static void stopped_if_none (struct supervise *s)
{
	if (s->stopping && !s->running)
		loop_stop (s->l);
}

static void on_exit_child (struct spawn *sp, pid_t pid, int status, const struct rusage *ru, void *arg)
{
	struct child *c = arg;
	struct supervise *s = c->s;
	char ep[ID_TEXT], how[64];
	int64_t lived = clock_now_ms () - c->started_ms;
	(void)sp;
	(void)ru;
	c->proc = NULL;
	s->running--;
	if (s->stopping) {
		stopped_if_none (s);
		return;
	}
	if (WIFEXITED (status) && WEXITSTATUS (status) == 0) { /* its endpoint was deleted, or it was asked to stop */
		c->failures = 0;
		c->not_before_ms = clock_now_ms () + BACKOFF_MS;
		return;
	}
	c->failures = lived > HEALTHY_MS ? 0 : c->failures + 1;
	/* the first restart at once: the tasks in hand wait for it */
	c->not_before_ms = c->failures > 1 ? clock_now_ms () + clock_backoff_ms (c->failures - 2, BACKOFF_MS, BACKOFF_CAP_MS) : 0;
	log_warn (MOD, "forwarder ended", "ep=%s child=%d how=%s lived_ms=%lld failures=%u", id_text (&c->endpoint, ep), (int)pid,
		  spawn_status_text (status, how), (long long)lived, c->failures);
	if (c->failures >= GIVE_UP_LEASE_AFTER)
		layout_lease_send (s->r, &c->endpoint, "release", s->instance, config_lease_ttl_ms (s->conf), NULL, NULL);
	loop_timer_start (s->look, c->not_before_ms ? s->look_ms : 1, false);
}

static void start_child (struct child *c)
{
	struct supervise *s = c->s;
	const char **argv;
	char ep[ID_TEXT], pid[16];
	struct err err = { 0 };
	size_t n = 0;
	struct spawn_opts o = { 0 };
	while (s->config_args[n])
		n++;
	o.argv = argv = xcalloc (n + 9, sizeof (*argv));
	n = 0;
	snprintf (pid, sizeof (pid), "%d", (int)getpid ());
	argv[n++] = s->program;
	argv[n++] = "run";
	for (const char *const *a = s->config_args; *a; a++)
		argv[n++] = *a;
	argv[n++] = "--endpoint";
	argv[n++] = id_text (&c->endpoint, ep);
	argv[n++] = "--lease-owner";
	argv[n++] = s->instance;
	argv[n++] = "--parent-pid";
	argv[n++] = pid;
	argv[n] = NULL;
	c->started_ms = clock_now_ms ();
	c->proc = spawn_start (s->l, &o, on_exit_child, c, &err);
	free (argv);
	if (!c->proc) {
		log_err (LOG_ERROR, MOD, "starting a forwarder failed", &err);
		c->failures++;
		c->not_before_ms = clock_now_ms () + clock_backoff_ms (c->failures, BACKOFF_MS, BACKOFF_CAP_MS);
		return;
	}
	s->running++;
	log_info (MOD, "forwarder started", "ep=%s child=%d", ep, (int)spawn_pid (c->proc));
}

static void on_lease (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct child *c = arg;
	(void)r;
	c->asked = false;
	if (!err && reply->type == REDIS_REPLY_INTEGER && reply->integer == 1 && !c->proc && !c->s->stopping)
		start_child (c);
}

static int look_at (const struct id *k, void *v, void *arg)
{
	struct child *c = v;
	struct supervise *s = arg;
	(void)k;
	if (!c->listed && !c->proc && !c->asked) {
		map_del (s->children, &c->endpoint);
		free (c);
		return 0;
	}
	/* A forwarder whose endpoint is deleted ends by itself, after it has failed the tasks that wait and taken it from the listing. */
	if (c->listed && !c->proc && !c->asked && clock_now_ms () >= c->not_before_ms) {
		c->asked = true;
		layout_lease_send (s->r, &c->endpoint, "acquire", s->instance, config_lease_ttl_ms (s->conf), on_lease, c);
	}
	return 0;
}

static int forget_listing (const struct id *k, void *v, void *arg)
{
	(void)k;
	(void)arg;
	((struct child *)v)->listed = false;
	return 0;
}

static void take_listing (struct supervise *s, const struct redisReply *reply)
{
	for (size_t i = 0; i < reply->elements; i++) {
		struct id ep;
		struct child *c;
		if (reply->element[i]->type != REDIS_REPLY_STRING ||
		    id_parse (&ep, reply->element[i]->str, reply->element[i]->len) < 0)
			continue;
		if (!(c = map_get (s->children, &ep))) {
			c = xcalloc (1, sizeof (*c));
			c->s = s;
			c->endpoint = ep;
			map_put (s->children, &ep, c);
		}
		c->listed = true;
	}
}

static void on_registered (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct supervise *s = arg;
	s->listing = !err && reply->type == REDIS_REPLY_ARRAY && !s->stopping;
	if (!s->listing)
		return;
	map_each (s->children, forget_listing, NULL);
	take_listing (s, reply);
	(void)r;
}

static void on_deleted (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct supervise *s = arg;
	(void)r;
	if (err || reply->type != REDIS_REPLY_ARRAY || !s->listing)
		return;
	take_listing (s, reply);
	map_each (s->children, look_at, s);
}

static void on_look (void *arg)
{
	struct supervise *s = arg;
	loop_timer_start (s->look, s->look_ms, false);
	if (!rds_up (s->r) || s->stopping)
		return;
	rds_commandf (s->r, on_registered, s, "SMEMBERS weft:eps");
	rds_commandf (s->r, on_deleted, s, "SMEMBERS weft:eps:deleted");
}

static void on_changed (struct rds *r, const char *channel, const char *msg, size_t n, void *arg)
{
	struct supervise *s = arg;
	(void)r;
	(void)channel;
	(void)msg;
	(void)n;
	loop_timer_start (s->look, 5, false); /* many registrations at once make one look */
}

static void on_redis (struct rds *r, bool up, const char *why, void *arg)
{
	struct supervise *s = arg;
	if (up)
		loop_timer_start (s->look, 1, false);
	else if (r == s->r)
		log_warn (MOD, "Redis is away", "why=%s", why ? why : "");
}

struct supervise *supervise_create (struct loop *l, const struct config *c, const char *program, const char *const *config_args,
				    struct err *err)
{
	struct supervise *s = xcalloc (1, sizeof (*s));
	struct rds_opts ro = { .url = c->redis_url, .password_file = c->redis_password_file, .on_state = on_redis, .arg = s };
	struct id me;
	s->l = l;
	s->conf = c;
	s->program = program;
	s->config_args = config_args;
	id_new (&me);
	id_text (&me, s->instance);
	s->look_ms = c->lease_ms / 6 < 1000 ? c->lease_ms / 6 : 1000;
	s->children = map_create ();
	s->look = loop_timer_create (l, on_look, s);
	if (!(s->r = rds_create (l, &ro, err)) || !(s->sub = rds_create (l, &ro, err))) {
		supervise_destroy (&s);
		return NULL;
	}
	rds_subscribe (s->sub, "weft:eps:changed", on_changed, s);
	log_info (MOD, "supervising", "instance=%s lease_ms=%lld", s->instance, (long long)c->lease_ms);
	return s;
}

static int stop_child (const struct id *k, void *v, void *arg)
{
	struct child *c = v;
	(void)k;
	(void)arg;
	if (c->proc)
		spawn_stop (c->proc, STOP_GRACE_MS);
	return 0;
}

void supervise_stop (struct supervise *s)
{
	if (s->stopping)
		return;
	s->stopping = true;
	map_each (s->children, stop_child, NULL);
	stopped_if_none (s);
}

static void free_child (void *v)
{
	struct child *c = v;
	if (c->proc)
		spawn_forget (&c->proc);
	free (c);
}

void supervise_destroy (struct supervise **sp)
{
	struct supervise *s = *sp;
	if (!s)
		return;
	s->stopping = true;
	rds_destroy (&s->sub);
	rds_destroy (&s->r);
	loop_timer_destroy (&s->look);
	map_destroy_owned (&s->children, free_child);
	free (s);
	*sp = NULL;
}
