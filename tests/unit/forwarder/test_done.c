/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/done.h"
#include "tests/unit/forwarder/redis_rig.h"
#include "proto/link.h"

struct got { size_t n, want; int stored; struct id last; };

static struct rig G;
static struct done *D;
static struct got got;
static struct id endpoint;

static void on_done (const struct id *task, int stored, void *arg)
{
	struct got *g = arg;
	g->n++;
	g->stored = stored;
	g->last = *task;
}

static void on_state (struct rds *r, bool up, const char *why, void *arg)
{
	(void)r;
	(void)why;
	(void)arg;
	if (up && D)
		done_redis_up (D);
}

static bool got_all (void *arg)
{
	struct got *g = arg;
	return g->n >= g->want;
}

static int up (void **state)
{
	(void)state;
	rig_init (&G, on_state, NULL);
	id_new (&endpoint);
	got = (struct got){ 0 };
	D = done_create (G.loop, G.r, &endpoint, 60000, on_done, &got);
	return 0;
}

static int down (void **state)
{
	(void)state;
	rds_destroy (&G.r);
	done_destroy (&D);
	assert_null (D);
	rig_fini (&G);
	return 0;
}

static struct id new_task (const struct id *ep)
{
	struct layout_meta m = { .endpoint = *ep, .payload_bytes = 1 };
	char key[LAYOUT_KEY_MAX];
	struct buf b;
	struct id task;
	id_new (&task);
	buf_init (&b, 0);
	layout_meta_encode (&b, &m);
	layout_key (key, "task", &task, NULL);
	rig_do (&G, "HSET %s s 1 m %b", key, b.data, b.len);
	buf_fini (&b);
	return task;
}

static void store (const struct id *task, const char *text, bool verify)
{
	struct msg_result m = { .status = STATUS_SUCCESS, .task = *task, .result = wire_str (text, strlen (text)) };
	zmq_msg_t record;
	struct buf b;
	buf_init (&b, 0);
	msg_result_encode (&b, &m, WIRE_MAJOR);
	link_msg_from_buf (&record, &b);
	done_store (D, task, STATE_SUCCESS, &record, verify);
	zmq_msg_close (&record);
}

static void wait_for (size_t n)
{
	got.want = n;
	assert_true (rig_wait (&G, got_all, &got));
	assert_int_equal (got.n, n);
}

/* The state's digit, 0 when there is none; with text: the result is it. */
static char state_of (const struct id *task, const char *text)
{
	char key[LAYOUT_KEY_MAX], s = 0;
	struct msg_result m;
	struct err err;
	redisReply *p;
	layout_key (key, "task", task, NULL);
	assert_non_null (p = redisCommand (G.c, "HMGET %s s r", key));
	if (p->element[0]->type == REDIS_REPLY_STRING)
		s = p->element[0]->str[0];
	if (text) {
		assert_int_equal (p->element[1]->type, REDIS_REPLY_STRING);
		assert_int_equal (msg_result_decode (&m, p->element[1]->str, p->element[1]->len, &err), 0);
		struct wire_str v = m.result.n ? m.result : m.error;
		assert_int_equal (v.n, strlen (text));
		assert_memory_equal (v.p, text, v.n);
	}
	freeReplyObject (p);
	return s;
}

static void test_first_result_wins (void **state)
{
	struct id t = new_task (&endpoint);
	(void)state;
	store (&t, "one", false);
	assert_int_equal (got.n, 0); /* never from inside the call */
	assert_true (done_pending_bytes (D) > 0);
	wait_for (1);
	assert_int_equal (got.stored, 1);
	assert_true (id_eq (&got.last, &t));
	store (&t, "two", false);
	wait_for (2);
	assert_int_equal (got.stored, 0);
	assert_int_equal (state_of (&t, "one"), '5');
	assert_int_equal (done_pending_bytes (D), 0);
}

static void test_unknown_task (void **state)
{
	struct id t;
	(void)state;
	id_new (&t);
	store (&t, "x", false);
	wait_for (1);
	assert_int_equal (got.stored, -1);
	store (&t, "x", true);
	wait_for (2);
	assert_int_equal (got.stored, -1);
}

static void test_verify (void **state)
{
	struct id other, mine = new_task (&endpoint), theirs;
	(void)state;
	id_new (&other);
	theirs = new_task (&other);
	store (&mine, "ok", true);
	wait_for (1);
	assert_int_equal (got.stored, 1);
	assert_int_equal (state_of (&mine, "ok"), '5');
	store (&theirs, "forged", true);
	wait_for (2);
	assert_int_equal (got.stored, -1);
	assert_int_equal (state_of (&theirs, NULL), '1');
}

static void test_fail_says_why (void **state)
{
	struct id t = new_task (&endpoint);
	(void)state;
	done_fail (D, &t, ERR_NOT_FOUND, FAULT_USER, "no such thing");
	wait_for (1);
	assert_int_equal (state_of (&t, "no such thing"), '6');
}

static void test_kept_while_redis_is_full (void **state)
{
	enum { N = 300 };
	struct id t[N];
	(void)state;
	for (int i = 0; i < N; i++)
		t[i] = new_task (&endpoint);
	rig_do (&G, "CONFIG SET maxmemory 1");
	for (int i = 0; i < N; i++)
		store (&t[i], "later", i % 2);
	got.want = 1;
	G.end_ms = 0;
	loop_timer_start (G.tick, 600, false); /* some rounds of refusals */
	G.until = got_all;
	G.arg = &got;
	loop_run (G.loop);
	assert_int_equal (got.n, 0);
	rig_do (&G, "CONFIG SET maxmemory 0");
	wait_for (N);
	for (int i = 0; i < N; i++)
		assert_int_equal (state_of (&t[i], "later"), '5');
	assert_int_equal (done_pending_bytes (D), 0);
}

static void test_kept_while_redis_is_away (void **state)
{
	enum { N = 200 };
	struct id t[N];
	(void)state;
	for (int i = 0; i < N; i++)
		t[i] = new_task (&endpoint);
	for (int i = 0; i < N / 2; i++)
		store (&t[i], "in flight", i % 2);
	rig_server_kill (&G);
	assert_true (rig_wait (&G, rig_is_down, &G));
	for (int i = N / 2; i < N; i++)
		store (&t[i], "away", i % 2);
	rig_server_start (&G);
	got.want = N;
	assert_true (rig_wait (&G, got_all, &got));
	for (int i = 0; i < N; i++)
		assert_int_equal (state_of (&t[i], i < N / 2 ? "in flight" : "away"), '5');
}

static void test_destroyed_with_results_in_flight (void **state)
{
	struct id t = new_task (&endpoint);
	(void)state;
	for (int i = 0; i < 20; i++)
		store (&t, "x", i % 2);
	/* down () destroys: sanitizers tell the rest */
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown (test_first_result_wins, up, down),
		cmocka_unit_test_setup_teardown (test_unknown_task, up, down),
		cmocka_unit_test_setup_teardown (test_verify, up, down),
		cmocka_unit_test_setup_teardown (test_fail_says_why, up, down),
		cmocka_unit_test_setup_teardown (test_kept_while_redis_is_full, up, down),
		cmocka_unit_test_setup_teardown (test_kept_while_redis_is_away, up, down),
		cmocka_unit_test_setup_teardown (test_destroyed_with_results_in_flight, up, down),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
