/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of layout.c: a real redis-server on a unix socket in a directory of its own. Scripts go through rds and layout.c as in the
 * programs; a second, plain connection looks at what stands there. */
#ifndef TESTS_UNIT_PROTO_LAYOUT_RIG_H
#define TESTS_UNIT_PROTO_LAYOUT_RIG_H
#pragma GCC diagnostic ignored "-Wunused-function"	/* not every program uses all of it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/loop.h"
#include "proto/layout.h"

#define WAIT_MS 20000
#define RETENTION_MS 3600000
#define INSTANCE_A "00000000000000aa"
#define INSTANCE_B "00000000000000bb"

static char dir[] = "/tmp/test_layout.XXXXXX", sock_path[64], url[80];
static pid_t server;
static struct loop *loop;
static struct rds *rds;
static struct loop_timer *deadline;
static redisContext *plain;
static bool late;

/* ---- the server ---- */

static void server_stop (void)
{
	char cmd[128];
	if (server > 0) {
		kill (server, SIGKILL);
		waitpid (server, NULL, 0);
		server = 0;
	}
	snprintf (cmd, sizeof (cmd), "rm -rf '%s'", dir);
	if (system (cmd) != 0)
		perror (cmd);
}

static void server_start (void)
{
	if (!mkdtemp (dir))
		exit (1);
	snprintf (sock_path, sizeof (sock_path), "%s/redis.sock", dir);
	snprintf (url, sizeof (url), "unix://%s", sock_path);
	server = fork ();
	if (server == 0) {
		prctl (PR_SET_PDEATHSIG, SIGKILL); /* also when the test is killed */
		execlp ("redis-server", "redis-server", "--port", "0", "--unixsocket", sock_path, "--dir", dir, "--save", "", "--logfile",
			"/dev/null", (char *) NULL);
		_exit (127);
	}
	atexit (server_stop);
}

static redisContext *connect_plain (void)
{
	for (int64_t until = clock_now_ms () + WAIT_MS; clock_now_ms () < until;) {
		redisContext *c = redisConnectUnix (sock_path);
		if (c && !c->err) {
			struct timeval tv = { WAIT_MS / 1000, 0 };
			redisSetTimeout (c, tv);
			return c;
		}
		if (c)
			redisFree (c);
		nanosleep (&(struct timespec){ 0, 10000000 }, NULL); /* polls the socket */
	}
	fail_msg ("redis-server did not start");
	return NULL;
}

/* A command on the plain connection; never an error. */
static redisReply *ask (const char *fmt, ...) __attribute__ ((format (printf, 1, 2)));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static redisReply *ask (const char *fmt, ...)
{
	va_list ap;
	va_start (ap, fmt);
	redisReply *r = redisvCommand (plain, fmt, ap);
	va_end (ap);
	if (!r || r->type == REDIS_REPLY_ERROR)
		fail_msg ("%s: %s", fmt, r ? r->str : plain->errstr);
	return r;
}
static long long ask_int (const char *fmt, ...) __attribute__ ((format (printf, 1, 2)));
static long long ask_int (const char *fmt, ...)
{
	va_list ap;
	va_start (ap, fmt);
	redisReply *r = redisvCommand (plain, fmt, ap);
	va_end (ap);
	if (!r || r->type != REDIS_REPLY_INTEGER)
		fail_msg ("%s: %s", fmt, r && r->str ? r->str : plain->errstr);
	long long v = r->integer;
	freeReplyObject (r);
	return v;
}
#pragma GCC diagnostic pop

/* A figure of INFO memory; name with its colon. */
static long long info_figure (const char *name)
{
	redisReply *r = ask ("INFO memory");
	const char *at = strstr (r->str, name);
	long long v;
	assert_non_null (at);
	v = atoll (at + strlen (name));
	freeReplyObject (r);
	return v;
}

static long long info_memory (void) { return info_figure ("used_memory:"); }

/* ---- the loop ---- */

static void too_late (void *arg) { (void) arg; late = true; loop_stop (loop); }

#define WAIT() wait_here (__LINE__)
static void wait_here (int line)
{
	loop_timer_start (deadline, WAIT_MS, false);
	loop_run (loop);
	loop_timer_stop (deadline);
	if (late)
		fail_msg ("line %d: nothing happened", line);
}

static void on_state (struct rds *r, bool up, const char *why, void *arg)
{
	(void) r, (void) why, (void) arg;
	if (up)
		loop_stop (loop);
}

static int setup (void **state)
{
	struct rds_opts o = { .url = url, .on_state = on_state };
	struct err err = { 0 };
	(void) state;
	late = false;
	if (!server)
		server_start ();
	plain = connect_plain ();
	freeReplyObject (ask ("FLUSHALL"));
	freeReplyObject (ask ("CONFIG SET maxmemory 0 hash-max-listpack-value 1024"));
	loop = loop_create (NULL);
	deadline = loop_timer_create (loop, too_late, NULL);
	if (!(rds = rds_create (loop, &o, &err)))
		fail_msg ("%s", err.text);
	WAIT ();
	return 0;
}

static int teardown (void **state)
{
	(void) state;
	rds_destroy (&rds);
	loop_timer_destroy (&deadline);
	loop_destroy (&loop);
	redisFree (plain);
	return 0;
}

/* What a script answered. */
struct got {
	int type;
	long long integer;
	char text[256];
	enum err_code code;
	struct { bool set; size_t n; char s[512]; } field[3];
};

static void on_reply (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct got *g = arg;
	struct err e = { 0 };
	(void) r;
	memset (g, 0, sizeof (*g));
	loop_stop (loop);
	if (err || rds_reply_error (reply, &e) < 0) {
		g->code = err ? err->code : e.code;
		snprintf (g->text, sizeof (g->text), "%.255s", err ? err->text : e.text);
		return;
	}
	g->type = reply->type;
	g->integer = reply->integer;
	if (reply->str)
		snprintf (g->text, sizeof (g->text), "%.255s", reply->str);
	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements && i < 3; i++)
		if (reply->element[i]->type == REDIS_REPLY_STRING) {
			assert_true (reply->element[i]->len <= sizeof (g->field[i].s));
			g->field[i].set = true;
			g->field[i].n = reply->element[i]->len;
			memcpy (g->field[i].s, reply->element[i]->str, reply->element[i]->len);
		}
}

/* ---- submissions ---- */

struct chunk {
	struct layout_submission s;
	struct layout_submit_task tasks[LAYOUT_SUBMIT_CHUNK];
	struct buf meta[LAYOUT_SUBMIT_CHUNK], queued[LAYOUT_SUBMIT_CHUNK];
};

static void chunk_free (struct chunk *c)
{
	for (int i = 0; i < LAYOUT_SUBMIT_CHUNK; i++) {
		buf_fini (&c->meta[i]);
		buf_fini (&c->queued[i]);
	}
	free (c);
}

static char *key_of (const char *kind, const struct id *id, const char *suffix);

/* Its endpoint is registered. */
static struct chunk *chunk_new (size_t n, size_t payload)
{
	static char bytes[16384];
	struct chunk *c = calloc (1, sizeof (*c));
	struct layout_submission *s = &c->s;
	memset (bytes, 'p', sizeof (bytes));
	id_new (&s->owner);
	id_new (&s->endpoint);
	id_new (&s->group);
	freeReplyObject (ask ("HSET %s owner o", key_of ("ep", &s->endpoint, NULL)));
	s->now_ns = clock_real_ns ();
	s->retention_ms = RETENTION_MS;
	s->group_key = n > 1;
	s->tasks = c->tasks;
	s->ntasks = n;
	for (size_t i = 0; i < n; i++) {
		struct layout_meta m = { .owner = s->owner, .endpoint = s->endpoint, .group = s->group, .submitted_ns = s->now_ns,
					 .payload_bytes = (uint32_t) payload };
		struct layout_queued q = { .received_ns = s->now_ns, .queued_ns = s->now_ns, .payload = wire_str (bytes, payload) };
		id_new (&c->tasks[i].task);
		q.task = c->tasks[i].task;
		layout_meta_encode (&c->meta[i], &m);
		layout_queued_encode (&c->queued[i], &q);
		c->tasks[i].meta = wire_str ((char *) c->meta[i].data, c->meta[i].len);
		c->tasks[i].queued = wire_str ((char *) c->queued[i].data, c->queued[i].len);
	}
	return c;
}

static struct got submit (const struct chunk *c)
{
	struct got g;
	layout_submit_send (rds, &c->s, on_reply, &g);
	WAIT ();
	return g;
}

static void submit_ok (const struct chunk *c)
{
	struct got g = submit (c);
	if (g.type != REDIS_REPLY_STATUS || strcmp (g.text, "OK") != 0)
		fail_msg ("submit: %s", g.text);
}

static char *key_of (const char *kind, const struct id *id, const char *suffix)
{
	static char key[8][LAYOUT_KEY_MAX];
	static int at;
	at = (at + 1) % 8;
	layout_key (key[at], kind, id, suffix);
	return key[at];
}

static long long xlen (const struct chunk *c) { return ask_int ("XLEN %s", key_of ("ep", &c->s.endpoint, "tasks")); }

static void assert_hash (const struct id *task, const char *field, const void *want, size_t n)
{
	redisReply *r = ask ("HGET %s %s", key_of ("task", task, NULL), field);
	if (!want)
		assert_int_equal (r->type, REDIS_REPLY_NIL);
	else {
		assert_int_equal (r->type, REDIS_REPLY_STRING);
		assert_int_equal (r->len, n);
		assert_memory_equal (r->str, want, n);
	}
	freeReplyObject (r);
}

/* ---- results and the like ---- */

static struct buf result_of (const struct id *task, int status, size_t bytes)
{
	struct buf b;
	char *text = calloc (1, bytes + 1);
	memset (text, 'r', bytes);
	struct msg_result m = { .status = (uint8_t) status, .task = *task, .result = wire_str (text, bytes) };
	buf_init (&b, 0);
	msg_result_encode (&b, &m, 2);
	free (text);
	return b;
}

static struct got store_bytes (const struct id *task, int status, const struct buf *b)
{
	struct got g;
	layout_store_send (rds, task, msg_status_state (status), wire_str ((char *) b->data, b->len), RETENTION_MS, on_reply, &g);
	WAIT ();
	return g;
}

static struct got store (const struct id *task, int status)
{
	struct buf b = result_of (task, status, 10);
	struct got g = store_bytes (task, status, &b);
	buf_fini (&b);
	return g;
}

static struct got wait_for (const struct id *task, const char *instance)
{
	struct got g;
	layout_wait_send (rds, task, instance, on_reply, &g);
	WAIT ();
	return g;
}

static struct got progress (const struct id *task, int state)
{
	struct got g;
	layout_progress_send (rds, task, state, on_reply, &g);
	WAIT ();
	return g;
}

static struct got lease (const struct id *ep, const char *op, const char *owner, int64_t ttl_ms)
{
	struct got g;
	layout_lease_send (rds, ep, op, owner, ttl_ms, on_reply, &g);
	WAIT ();
	return g;
}

static redisContext *subscribe (const char *instance)
{
	redisContext *c = connect_plain ();
	redisReply *r = redisCommand (c, "SUBSCRIBE weft:done:%s", instance);
	assert_non_null (r);
	freeReplyObject (r);
	return c;
}

/* The next message of a subscription. */
static redisReply *next_message (redisContext *c)
{
	void *r = NULL;
	if (redisGetReply (c, &r) != REDIS_OK)
		fail_msg ("no message: %s", c->errstr);
	redisReply *m = r;
	assert_int_equal (m->elements, 3);
	assert_string_equal (m->element[0]->str, "message");
	return m;
}

#endif
