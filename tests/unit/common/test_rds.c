/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Against a real redis-server on a unix socket in a directory of its own. */
#include "common/clock.h"
#include "common/digest.h"
#include "common/loop.h"
#include "common/rds.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/test_rds.XXXXXX", sock_path[64], url[80];
static pid_t server;
static struct loop *loop;
static struct rds *rds;
static struct loop_timer *deadline;
static bool late;
static int ups, downs;

/* ---- the server ---- */

static void server_start (const char *extra, const char *value)
{
	char *argv[] = { "redis-server", "--port", "0", "--unixsocket", sock_path, "--dir", dir, "--save", "", "--appendonly",
			 "yes", "--appendfsync", "always" /* everysec may hold a write back while it syncs: a kill loses it */,
			 "--enable-debug-command", "yes", "--logfile", "/dev/null",
			 (char *) (uintptr_t) extra, (char *) (uintptr_t) value, NULL };
	assert_int_equal (posix_spawnp (&server, "redis-server", NULL, NULL, argv, environ), 0);
}

static void server_kill (void)
{
	if (server > 0) {
		kill (server, SIGKILL);
		waitpid (server, NULL, 0);
	}
	server = 0;
}

static void at_exit (void)
{
	char cmd[128];
	server_kill ();
	snprintf (cmd, sizeof (cmd), "rm -rf '%s'", dir);
	if (system (cmd) != 0)
		perror (cmd);
}

/* ---- the loop, with a deadline for each wait ---- */

static void too_late (void *arg)
{
	(void) arg;
	late = true;
	loop_stop (loop);
}

#define WAIT() wait_here (__LINE__)
static void wait_here (int line)
{
	loop_timer_start (deadline, 20000, false);
	loop_run (loop);
	loop_timer_stop (deadline);
	if (late)
		fail_msg ("line %d: nothing happened", line);
}

static bool stop_on_up, stop_on_down;

static void on_state (struct rds *r, bool up, const char *why, void *arg)
{
	(void) arg;
	assert_non_null (why);
	assert_int_equal (rds_up (r), up);
	if (up)
		ups++;
	else
		downs++;
	if (up ? stop_on_up : stop_on_down)
		loop_stop (loop);
}

static struct rds_opts opts;

static int setup (void **state)
{
	(void) state;
	late = false;
	ups = downs = 0;
	stop_on_up = true;
	stop_on_down = false;
	opts = (struct rds_opts){ .url = url, .on_state = on_state, .command_timeout_ms = 5000 };
	loop = loop_create (NULL);
	deadline = loop_timer_create (loop, too_late, NULL);
	if (!server)
		server_start (NULL, NULL);
	return 0;
}

static int teardown (void **state)
{
	(void) state;
	rds_destroy (&rds);
	loop_timer_destroy (&deadline);
	loop_destroy (&loop);
	return 0;
}

static void open_rds (void)
{
	struct err e;
	if (!(rds = rds_create (loop, &opts, &e)))
		fail_msg ("%s", e.text);
	WAIT ();
	assert_true (rds_up (rds));
}

/* ---- replies ---- */

struct got { int n, type; long long integer; char str[200]; enum err_code code; int wanted, limited; };

static void on_reply (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct got *g = arg;
	(void) r;
	assert_true ((reply == NULL) == (err != NULL));
	g->n++;
	g->code = err ? err->code : ERR_NONE;
	g->limited += g->code == ERR_LIMIT;
	g->type = reply ? reply->type : 0;
	g->integer = reply ? reply->integer : 0;
	snprintf (g->str, sizeof (g->str), "%.199s", reply && reply->str ? reply->str : err ? err->text : "");
	if (g->n >= g->wanted)
		loop_stop (loop);
}

static struct got ask (int argc, ...)
{
	const char *argv[8];
	struct got g = { .wanted = 1 };
	va_list ap;
	va_start (ap, argc);
	for (int i = 0; i < argc; i++)
		argv[i] = va_arg (ap, const char *);
	va_end (ap);
	rds_command (rds, on_reply, &g, argc, argv, NULL);
	assert_int_equal (g.n, 0); /* never from inside the call */
	do /* a message of a subscription stops the loop too, and may be earlier */
		WAIT ();
	while (g.n == 0);
	assert_int_equal (g.n, 1);
	return g;
}

/* ---- tests ---- */

static void test_commands (void **state)
{
	struct got g = { .wanted = 1000 };
	(void) state;
	open_rds ();
	assert_string_equal (ask (3, "SET", "k", "v").str, "OK");
	assert_string_equal (ask (2, "GET", "k").str, "v");
	assert_int_equal (ask (2, "HGET", "k").type, REDIS_REPLY_ERROR);
	ask (1, "FLUSHALL");
	for (int i = 0; i < 1000; i++)
		rds_commandf (rds, on_reply, &g, "INCRBY n %d", 1);
	WAIT ();
	assert_int_equal (g.integer, 1000);
	rds_commandf (rds, NULL, NULL, "SET %b %s", "a\0b", (size_t) 3, "x");
	assert_int_equal (ask (2, "STRLEN", "n").integer, 4);
}

/* Replies far larger than one read. */
static void test_large_values (void **state)
{
	size_t n = 8 << 20, len[3] = { 3, 3, n };
	char *big = malloc (n);
	const char *argv[3] = { "SET", "big", big };
	struct got g = { .wanted = 1 };
	(void) state;
	open_rds ();
	memset (big, 'x', n);
	rds_command (rds, on_reply, &g, 3, argv, len);
	WAIT ();
	assert_string_equal (g.str, "OK");
	g = ask (2, "GET", "big");
	assert_int_equal (g.type, REDIS_REPLY_STRING);
	assert_int_equal (ask (2, "STRLEN", "big").integer, n);
	assert_int_equal (ask (2, "DEL", "big").integer, 1);
	free (big);
}

/* Far more than the socket takes at once: each part of the output arrives once and in order. */
static void test_large_burst (void **state)
{
	enum { COUNT = 30, BYTES = 700001 };
	struct got g = { .wanted = COUNT };
	char *big = malloc (BYTES), key[16], sha[COUNT][41];
	(void) state;
	open_rds ();
	for (int i = 0; i < COUNT; i++) {
		for (size_t k = 0; k < BYTES; k++)
			big[k] = (char) (k * 31 + k / 251 + (size_t) i);
		digest_sha1_hex (big, BYTES, sha[i]);
		rds_commandf (rds, on_reply, &g, "SET burst%d %b", i, big, (size_t) BYTES);
	}
	WAIT ();
	for (int i = 0; i < COUNT; i++) {
		snprintf (key, sizeof (key), "burst%d", i);
		assert_string_equal (ask (4, "EVAL", "return redis.sha1hex(redis.call('GETDEL', KEYS[1]))", "1", key).str, sha[i]);
	}
	free (big);
}

static void test_kill_and_restart (void **state)
{
	struct got inflight = { .wanted = 2 }, down = { .wanted = 1 };
	const char *argv[] = { "BLPOP", "nothing", "0" };
	(void) state;
	open_rds ();
	ask (3, "SET", "kept", "yes");
	rds_blocking (rds, on_reply, &inflight, 3, argv, NULL);
	rds_commandf (rds, on_reply, &inflight, "GET kept");
	stop_on_up = false;
	server_kill ();
	WAIT (); /* both fail */
	assert_int_equal (inflight.n, 2);
	assert_int_equal (inflight.code, ERR_UNAVAILABLE);
	assert_int_equal (downs, 1);
	assert_false (rds_up (rds));
	rds_commandf (rds, on_reply, &down, "GET kept");
	assert_int_equal (down.n, 0);
	WAIT ();
	assert_int_equal (down.code, ERR_UNAVAILABLE);
	stop_on_up = true;
	server_start (NULL, NULL);
	WAIT ();
	assert_int_equal (ups, 2);
	assert_string_equal (ask (2, "GET", "kept").str, "yes");
}

static void test_not_up_while_loading (void **state)
{
	struct got g;
	(void) state;
	open_rds ();
	ask (2, "DEBUG", "POPULATE"); /* wrong arity: an error reply, no more */
	g = ask (3, "DEBUG", "POPULATE", "2000");
	assert_string_equal (g.str, "OK");
	assert_string_equal (ask (4, "CONFIG", "SET", "aof-use-rdb-preamble", "yes").str, "OK");
	rds_commandf (rds, NULL, NULL, "BGREWRITEAOF");
	do
		g = ask (4, "EVAL", "return string.find (redis.call ('INFO', 'persistence'), 'aof_rewrite_in_progress:0') and "
				    "string.find (redis.call ('INFO', 'persistence'), 'aof_rewrite_scheduled:0') and 1 or 0",
			 "0", "x");
	while (g.integer == 0);
	stop_on_up = false;
	stop_on_down = true;
	server_kill ();
	WAIT ();
	stop_on_up = true;
	stop_on_down = false;
	/* 2000 keys with 300 us each: loading takes a good half second, in which PING says LOADING */
	server_start ("--key-load-delay", "300");
	int64_t t0 = clock_now_ms ();
	WAIT ();
	assert_true (clock_now_ms () - t0 > 300);
	assert_true (rds_up (rds));
	assert_int_equal (ask (1, "DBSIZE").type, REDIS_REPLY_INTEGER);
	assert_string_equal (ask (1, "FLUSHALL").str, "OK");
	server_kill ();
}

static struct rds_script add = { .name = "add", .body = "return redis.call ('INCRBY', KEYS[1], ARGV[1])" };

static void test_scripts_survive_flush_and_restart (void **state)
{
	const char *argv[] = { "counter", "2" };
	struct got g = { .wanted = 1 };
	(void) state;
	open_rds ();
	ask (2, "DEL", "counter");
	for (int i = 0; i < 3; i++) {
		g.n = 0;
		rds_script (rds, &add, on_reply, &g, 1, 2, argv, NULL);
		WAIT ();
		assert_int_equal (g.integer, 2 * (i + 1));
	}
	assert_int_equal (strlen (add.sha), 40);
	g = ask (3, "SCRIPT", "EXISTS", add.sha);
	assert_int_equal (g.type, REDIS_REPLY_ARRAY);
	ask (2, "SCRIPT", "FLUSH");
	g = (struct got){ .wanted = 2 };
	rds_script (rds, &add, on_reply, &g, 1, 2, argv, NULL); /* NOSCRIPT, then EVAL */
	rds_script (rds, &add, on_reply, &g, 1, 2, argv, NULL);
	WAIT ();
	assert_int_equal (g.integer, 10);
	server_kill ();
	server_start (NULL, NULL);
	WAIT ();
	g = (struct got){ .wanted = 2 };
	rds_script (rds, &add, on_reply, &g, 1, 2, argv, NULL);
	rds_script (rds, &add, on_reply, &g, 1, 2, argv, NULL);
	WAIT ();
	assert_int_equal (g.integer, 14);
}

static int messages;
static char last_message[64];

static void on_message (struct rds *r, const char *channel, const char *msg, size_t n, void *arg)
{
	(void) r;
	assert_string_equal (channel, arg);
	snprintf (last_message, sizeof (last_message), "%.*s", (int) n, msg);
	messages++;
	loop_stop (loop);
}

static void test_subscribe_across_restart (void **state)
{
	struct rds *sub;
	(void) state;
	messages = 0;
	open_rds ();
	stop_on_up = false;
	opts.on_state = NULL;
	opts.command_timeout_ms = 500; /* idle several times: its pings must not disturb */
	sub = rds_create (loop, &opts, NULL);
	rds_subscribe (sub, "news", on_message, "news");
	rds_subscribe (sub, "more", on_message, "more");
	for (int round = 0; round < 2; round++) {
		struct got g;
		do /* until it hears us: there is no up event for it here */
			g = ask (3, "PUBLISH", "news", "hello");
		while (g.integer == 0);
		if (messages == 0 + round * 2)
			WAIT ();
		int64_t end = clock_now_ms () + 2000;
		while (clock_now_ms () < end)
			ask (1, "PING");
		assert_true (rds_up (sub));
		ask (3, "PUBLISH", "more", "again");
		if (messages == 1 + round * 2)
			WAIT ();
		assert_string_equal (last_message, "again");
		if (round == 0) {
			server_kill ();
			server_start (NULL, NULL);
			stop_on_up = true;
			WAIT ();
			stop_on_up = false;
		}
	}
	assert_int_equal (messages, 4);
	rds_destroy (&sub);
}

static int stood;

static void on_standing (void *arg)
{
	(void) arg;
	stood++;
	loop_stop (loop);
}

static long long subscribers (const char *channel)
{
	return ask (3, "PUBLISH", channel, "x").integer;
}

/* Leaving a channel, and coming back to it before Redis has said that we left. */
static void test_unsubscribe (void **state)
{
	struct rds *sub;
	(void) state;
	stood = messages = 0;
	open_rds ();
	stop_on_up = false;
	opts.on_state = NULL;
	sub = rds_create (loop, &opts, NULL);
	rds_subscribe (sub, "base", on_message, "base");
	rds_subscribe_told (sub, "news", on_message, on_standing, "news");
	while (stood < 1)
		WAIT ();
	assert_int_equal (subscribers ("news"), 1);
	rds_unsubscribe (sub, "news");
	rds_unsubscribe (sub, "news");
	rds_subscribe_told (sub, "news", on_message, on_standing, "news");
	while (stood < 2)
		WAIT ();
	messages = 0;
	assert_int_equal (subscribers ("news"), 1);
	while (messages < 1)
		WAIT ();
	rds_unsubscribe (sub, "news");
	for (int64_t until = clock_now_ms () + 60000; subscribers ("news");)
		assert_true (clock_now_ms () < until);
	rds_unsubscribe (sub, "never there");
	rds_subscribe_told (sub, "news", on_message, on_standing, "news");
	while (stood < 3)
		WAIT ();
	/* one that leaves while the connection is away is not asked for again, the others are told */
	rds_subscribe_told (sub, "other", on_message, on_standing, "other");
	while (stood < 4)
		WAIT ();
	server_kill ();
	rds_unsubscribe (sub, "other");
	server_start (NULL, NULL);
	while (stood < 5)
		WAIT ();
	stop_on_up = true;
	while (!rds_up (rds))
		WAIT ();
	stop_on_up = false;
	assert_int_equal (subscribers ("news"), 1);
	assert_int_equal (subscribers ("other"), 0);
	rds_destroy (&sub);
}

static struct rds *joined;

static void join_another (void *arg)
{
	rds_subscribe_told (joined, "late", on_message, on_standing, "late");
	on_standing (arg);
}

/* A channel that is joined while those before it are confirmed again keeps none of them waiting. */
static void test_subscribe_while_reconnecting (void **state)
{
	(void) state;
	stood = messages = 0;
	open_rds ();
	stop_on_up = false;
	opts.on_state = NULL;
	joined = rds_create (loop, &opts, NULL);
	rds_subscribe_told (joined, "one", on_message, on_standing, "one");
	rds_subscribe_told (joined, "two", on_message, on_standing, "two");
	while (stood < 2)
		WAIT ();
	rds_subscribe_told (joined, "one", on_message, join_another, "one");
	rds_subscribe_told (joined, "two", on_message, join_another, "two");
	server_kill ();
	server_start (NULL, NULL);
	while (stood < 5)
		WAIT ();
	assert_true (rds_up (joined));
	stop_on_up = true;
	while (!rds_up (rds))
		WAIT ();
	stop_on_up = false;
	assert_int_equal (subscribers ("late"), 1);
	assert_int_equal (stood, 5); /* in one connection */
	rds_destroy (&joined);
}

static void test_inflight_limit (void **state)
{
	static char kilo[1000];
	struct got g = { .wanted = 4 };
	const char *argv[] = { "ECHO", kilo };
	size_t len[] = { 4, sizeof (kilo) };
	(void) state;
	opts.max_inflight_bytes = 3000;
	open_rds ();
	for (int i = 0; i < 4; i++)
		rds_command (rds, on_reply, &g, 2, argv, len);
	WAIT ();
	assert_int_equal (g.limited, 2); /* two of about 1,100 bytes fit into 3,000 */
	g = (struct got){ .wanted = 1 };
	rds_command (rds, on_reply, &g, 2, argv, len); /* room again */
	WAIT ();
	assert_int_equal (g.type, REDIS_REPLY_STRING);
}

static void test_time_limit (void **state)
{
	struct got slow = { .wanted = 2 }, behind = { .wanted = 1 };
	(void) state;
	opts.command_timeout_ms = 200;
	open_rds ();
	stop_on_up = false;
	int64_t t0 = clock_now_ms ();
	rds_commandf (rds, on_reply, &slow, "DEBUG SLEEP 3");
	rds_commandf (rds, on_reply, &behind, "PING");
	WAIT ();
	assert_int_equal (slow.n, 1);
	assert_int_equal (slow.code, ERR_TIMEOUT);
	assert_true (behind.code == ERR_TIMEOUT || behind.code == ERR_UNAVAILABLE);	/* sent a moment later, its time may not be over */
	assert_true (clock_now_ms () - t0 < 2900);
	assert_int_equal (downs, 1);
	stop_on_up = true;
	WAIT ();
	assert_int_equal (ups, 2);
}

static void test_blocking_is_exempt (void **state)
{
	const char *argv[] = { "BLPOP", "nothing", "1" };
	struct got g = { .wanted = 2 };
	(void) state;
	opts.command_timeout_ms = 200;
	open_rds ();
	rds_blocking (rds, on_reply, &g, 3, argv, NULL);
	rds_commandf (rds, on_reply, &g, "PING");
	WAIT ();
	assert_int_equal (g.n, 2);
	assert_string_equal (g.str, "PONG");
	assert_int_equal (downs, 0);
}

static void destroy_it (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	(void) r;
	(void) reply;
	(void) err;
	if (rds)
		(*(int *) arg)++;
	rds_destroy (&rds);
	loop_stop (loop);
}

static void test_destroy_answers_pending (void **state)
{
	struct got g = { .wanted = 3 };
	int calls = 0;
	(void) state;
	open_rds ();
	rds_commandf (rds, destroy_it, &calls, "PING"); /* destroys in its callback */
	rds_commandf (rds, on_reply, &g, "PING");
	rds_commandf (rds, on_reply, &g, "PING");
	WAIT ();
	assert_int_equal (calls, 1);
	assert_int_equal (g.n, 2);
	assert_int_equal (g.code, ERR_UNAVAILABLE);
	loop_stop (loop);
	loop_run (loop);
	/* from a deferred failure */
	opts.url = "unix:///nonexistent/redis.sock";
	rds = rds_create (loop, &opts, NULL);
	rds_commandf (rds, destroy_it, &calls, "PING");
	rds_commandf (rds, on_reply, &g, "PING");
	WAIT ();
	assert_int_equal (calls, 2);
	assert_int_equal (g.n, 3);
	/* from outside, with commands in flight */
	opts.url = url;
	open_rds ();
	rds_commandf (rds, on_reply, &g, "PING");
	rds_destroy (&rds);
	assert_int_equal (g.n, 4);
}

static void test_password_and_database (void **state)
{
	char file[80], with_db[100];
	FILE *f;
	(void) state;
	open_rds ();
	assert_string_equal (ask (4, "CONFIG", "SET", "requirepass", "sesame").str, "OK");
	rds_destroy (&rds);
	snprintf (file, sizeof (file), "%s/secret", dir);
	f = fopen (file, "w");
	fputs ("sesame\n", f);
	fclose (f);
	chmod (file, 0600);
	snprintf (with_db, sizeof (with_db), "%s?db=3", url);
	opts.url = with_db;
	opts.password_file = file;
	open_rds ();
	ask (3, "SET", "in3", "x");
	ask (2, "SELECT", "0");
	assert_int_equal (ask (2, "EXISTS", "in3").integer, 0);
	assert_string_equal (ask (4, "CONFIG", "SET", "requirepass", "").str, "OK");
}

static void test_urls (void **state)
{
	static const char *const bad[] = { "", "http://x", "redis://", "redis://:6379", "redis://h:0", "redis://h:70000", "redis://h:x",
					   "redis://h/x", "redis://h/1/2", "redis://u@h", "redis://[::1", "redis://u:%zz@h",
					   "unix://rel", "unix:///p?x=1", "unix:///p?db=", "redis://h:1x", "redis://u:%00@h" };
	static const char *const good[] = { "redis://127.0.0.1", "redis://[::1]:6380/2", "redis://:pw@h:1/0",
					    "redis://u:p%40ss@h", "unix:///tmp/x.sock?db=1" };
	struct err e;
	(void) state;
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++) {
		opts.url = bad[i];
		rds = rds_create (loop, &opts, &e);
		if (rds)
			fail_msg ("%s was taken", bad[i]);
		assert_int_equal (e.code, ERR_INVALID);
	}
	for (size_t i = 0; i < sizeof (good) / sizeof (good[0]); i++) {
		opts.url = good[i];
		rds = rds_create (loop, &opts, &e);
		assert_non_null (rds);
		rds_destroy (&rds);
	}
}

static void too_soon (void *arg)
{
	(void) arg;
	loop_stop (loop);
}

/* The operator is told which address, why, and what to do, and no password. */
static void test_why_it_is_not_up (void **state)
{
	static const struct { const char *url, *address, *why; } cases[] = {
		{ "unix:///nonexistent/redis.sock?db=1", "Redis at /nonexistent/redis.sock: ", "No such file or directory; " },
		{ "redis://user:sesame@127.0.0.1:1/2", "Redis at 127.0.0.1:1: ", "Connection refused; " },
		{ "redis://:sesame@[::1]:1", "Redis at [::1]:1: ", "; " },
	};
	struct loop_timer *look = loop_timer_create (loop, too_soon, NULL);
	struct err e;
	(void) state;
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		opts.url = cases[i].url;
		rds = rds_create (loop, &opts, NULL);
		do {
			assert_int_equal (rds_check (rds, &e), -1);
			loop_timer_start (look, 5, false);
			WAIT ();
		} while (strstr (e.text, "not connected yet"));
		assert_int_equal (e.code, ERR_UNAVAILABLE);
		assert_ptr_equal (strstr (e.text, cases[i].address), e.text);
		assert_non_null (strstr (e.text, cases[i].why));
		assert_non_null (strstr (e.text, "redis.url"));
		assert_null (strstr (e.text, "sesame"));
		rds_destroy (&rds);
	}
	loop_timer_destroy (&look);
	opts.url = url;
	server_kill ();
	server_start (NULL, NULL);
	open_rds ();
	assert_int_equal (rds_check (rds, &e), 0);
}

static void test_error_replies (void **state)
{
	static const struct { const char *text; enum err_code code; } cases[] = {
		{ "OOM command not allowed", ERR_LIMIT }, { "LOADING x", ERR_UNAVAILABLE },
		{ "READONLY x", ERR_UNAVAILABLE }, { "NOPERM x", ERR_INTERNAL }, { "ERR x", ERR_INTERNAL },
		{ "LIMIT x", ERR_LIMIT }, { "GONE x", ERR_NOT_FOUND },
	};
	struct err e;
	(void) state;
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		redisReply r = { .type = REDIS_REPLY_ERROR, .str = (char *) (uintptr_t) cases[i].text };
		assert_int_equal (rds_reply_error (&r, &e), -1);
		assert_int_equal (e.code, cases[i].code);
		r.type = REDIS_REPLY_STATUS;
		assert_int_equal (rds_reply_error (&r, &e), 0);
	}
}

int main (void)
{
#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T (test_commands), T (test_large_values), T (test_large_burst), T (test_kill_and_restart), T (test_not_up_while_loading),
		T (test_scripts_survive_flush_and_restart), T (test_subscribe_across_restart), T (test_unsubscribe), T (test_inflight_limit),
		T (test_scripts_survive_flush_and_restart), T (test_subscribe_across_restart), T (test_subscribe_while_reconnecting), T (test_inflight_limit),
		T (test_time_limit), T (test_blocking_is_exempt), T (test_destroy_answers_pending),
		T (test_password_and_database), T (test_urls), T (test_why_it_is_not_up), T (test_error_replies),
	};
	if (!mkdtemp (dir))
		return 1;
	atexit (at_exit);
	snprintf (sock_path, sizeof (sock_path), "%s/s", dir);
	snprintf (url, sizeof (url), "unix://%s", sock_path);
	return cmocka_run_group_tests (tests, NULL, NULL);
}
