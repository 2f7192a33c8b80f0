/* SPDX-License-Identifier: Apache-2.0 */
/* A redis-server of our own on a unix socket, a loop and a client; for the tests of this folder. Included once per program. */
#ifndef TESTS_FORWARDER_REDIS_RIG_H
#define TESTS_FORWARDER_REDIS_RIG_H
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <hiredis/hiredis.h>
#include <cmocka.h>
#include "common/clock.h"
#include "common/rds.h"
#include "proto/layout.h"

struct rig {
	char dir[64], path[96], url[128];
	pid_t pid;
	struct loop *loop;
	struct rds *r;
	redisContext *c;		/* for the test itself, blocking */
	struct loop_timer *tick;
	bool (*until) (void *arg);
	void *arg;
	int64_t end_ms;
};

static void rig_tick (void *arg)
{
	struct rig *g = arg;
	if (g->until (g->arg) || clock_now_ms () > g->end_ms)
		loop_stop (g->loop);
}

/* Run the loop until cond (arg); false after 10 s. */
static inline bool rig_wait (struct rig *g, bool (*cond) (void *), void *arg)
{
	g->until = cond;
	g->arg = arg;
	g->end_ms = clock_now_ms () + 60000;
	loop_timer_start (g->tick, 2, true);
	loop_run (g->loop);
	loop_timer_stop (g->tick);
	return cond (arg);
}

static inline void rig_server_start (struct rig *g)
{
	if ((g->pid = fork ()) == 0) {
		prctl (PR_SET_PDEATHSIG, SIGKILL);
		execlp ("redis-server", "redis-server", "--port", "0", "--unixsocket", g->path, "--dir", g->dir, "--save", "",
			"--appendonly", "yes", "--appendfsync", "always", "--logfile", "log", (char *)NULL);
		_exit (127);
	}
	for (int64_t end = clock_now_ms () + 60000; clock_now_ms () < end; usleep (5000)) {
		redisReply *p;
		bool up;
		g->c = redisConnectUnix (g->path);
		p = g->c && !g->c->err ? redisCommand (g->c, "PING") : NULL;
		up = p && p->type == REDIS_REPLY_STATUS;
		if (p)
			freeReplyObject (p);
		if (up)
			return;
		redisFree (g->c);
		g->c = NULL;
	}
	fail_msg ("redis-server does not start");
}

static inline void rig_server_kill (struct rig *g)
{
	redisFree (g->c);
	g->c = NULL;
	kill (g->pid, SIGKILL);
	waitpid (g->pid, NULL, 0);
	g->pid = 0;
}

static bool rig_is_up (void *arg)
{
	return rds_up (((struct rig *)arg)->r);
}

static inline bool rig_is_down (void *arg)
{
	return !rig_is_up (arg);
}

static inline void rig_init (struct rig *g, void (*on_state) (struct rds *, bool, const char *, void *), void *arg)
{
	struct rds_opts o = { .on_state = on_state, .arg = arg };
	struct err err = { 0 };
	memset (g, 0, sizeof (*g));
	snprintf (g->dir, sizeof (g->dir), "/tmp/weft-t-XXXXXX");
	assert_non_null (mkdtemp (g->dir));
	snprintf (g->path, sizeof (g->path), "%s/redis.sock", g->dir);
	snprintf (g->url, sizeof (g->url), "unix://%s", g->path);
	rig_server_start (g);
	assert_non_null (g->loop = loop_create (&err));
	g->tick = loop_timer_create (g->loop, rig_tick, g);
	o.url = g->url;
	assert_non_null (g->r = rds_create (g->loop, &o, &err));
	assert_true (rig_wait (g, rig_is_up, g));
}

/* The client first, so that a module may be destroyed between the two. */
static inline void rig_fini (struct rig *g)
{
	char cmd[128];
	rds_destroy (&g->r);
	loop_timer_destroy (&g->tick);
	loop_destroy (&g->loop);
	if (g->pid)
		rig_server_kill (g);
	snprintf (cmd, sizeof (cmd), "rm -rf '%s'", g->dir);
	assert_int_equal (system (cmd), 0);
}

static inline void rig_do (struct rig *g, const char *fmt, ...)
{
	va_list ap;
	redisReply *p;
	va_start (ap, fmt);
	p = redisvCommand (g->c, fmt, ap);
	va_end (ap);
	assert_non_null (p);
	assert_int_not_equal (p->type, REDIS_REPLY_ERROR);
	freeReplyObject (p);
}

#endif
