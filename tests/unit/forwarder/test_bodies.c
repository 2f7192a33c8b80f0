/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/bodies.h"
#include "tests/unit/forwarder/redis_rig.h"
#include "proto/msg_function.h"

struct got { size_t n, want, found; char why[128]; };

static struct rig G;
static struct bodies *B;
static struct got got;

static void on_body (const struct id *function, bool found, const char *why, void *arg)
{
	struct got *g = arg;
	(void)function;
	g->n++;
	g->found += found;
	snprintf (g->why, sizeof (g->why), "%s", why ? why : "");
}

static void on_state (struct rds *r, bool is_up, const char *why, void *arg)
{
	(void)r;
	(void)why;
	(void)arg;
	if (is_up && B)
		bodies_redis_up (B);
}

static bool got_all (void *arg)
{
	struct got *g = arg;
	return g->n >= g->want;
}

static int up (void **state)
{
	(void)state;
	struct id endpoint = { { 1 } };
	rig_init (&G, on_state, NULL);
	got = (struct got){ 0 };
	B = bodies_create (G.r, &endpoint, 3000, on_body, &got);
	return 0;
}

static int down (void **state)
{
	(void)state;
	rds_destroy (&G.r);
	bodies_destroy (&B);
	assert_null (B);
	rig_fini (&G);
	return 0;
}

static struct id new_function (size_t code_bytes)
{
	static char code[8192];
	struct msg_function m = { .kind = 2, .entry = wire_str ("f", 1) };
	char key[LAYOUT_KEY_MAX];
	struct buf b;
	id_new (&m.id);
	m.code = wire_str (code, code_bytes);
	buf_init (&b, 0);
	msg_function_encode (&b, &m);
	layout_key (key, "fn", &m.id, NULL);
	rig_do (&G, "SET %s %b", key, b.data, b.len);
	buf_fini (&b);
	return m.id;
}

static void wait_for (size_t n)
{
	got.want = n;
	assert_true (rig_wait (&G, got_all, &got));
	assert_int_equal (got.n, n);
}

static void test_fetched_once (void **state)
{
	struct id f = new_function (10);
	(void)state;
	assert_false (bodies_have (B, &f));
	assert_false (bodies_have (B, &f)); /* no second fetch */
	assert_int_equal (got.n, 0);
	wait_for (1);
	assert_int_equal (got.found, 1);
	assert_true (bodies_have (B, &f));
}

static void test_unknown_and_damaged (void **state)
{
	struct id f, other = new_function (10);
	char key[LAYOUT_KEY_MAX], from[LAYOUT_KEY_MAX];
	(void)state;
	id_new (&f);
	assert_false (bodies_have (B, &f));
	wait_for (1);
	assert_int_equal (got.found, 0);
	assert_non_null (strstr (got.why, "not known"));
	layout_key (key, "fn", &f, NULL);
	rig_do (&G, "SET %s nonsense", key);
	assert_false (bodies_have (B, &f)); /* asked anew: it may be there now */
	wait_for (2);
	assert_non_null (strstr (got.why, "damaged"));
	layout_key (from, "fn", &other, NULL); /* the record of another function */
	rig_do (&G, "COPY %s %s REPLACE", from, key);
	assert_false (bodies_have (B, &f));
	wait_for (3);
	assert_int_equal (got.found, 0);
	rig_do (&G, "DEL %s", key);
	rig_do (&G, "LPUSH %s x", key); /* an error reply: nothing can be said of the function */
	assert_false (bodies_have (B, &f));
	rig_do (&G, "DEL %s", key);
}

static void test_memory_is_bounded (void **state)
{
	struct id f[4];
	size_t here = 0;
	(void)state;
	for (int i = 0; i < 4; i++) {
		f[i] = new_function (1200);
		bodies_have (B, &f[i]);
		wait_for ((size_t)i + 1);
		assert_true (bodies_have (B, &f[i])); /* the newest stays */
	}
	for (int i = 3; i >= 0; i--)
		here += bodies_have (B, &f[i]);
	assert_true (here <= 2);
	wait_for (4 + (4 - here)); /* those that went are fetched again */
}

static void test_one_over_the_bound_is_kept (void **state)
{
	struct id f = new_function (5000);
	(void)state;
	bodies_have (B, &f);
	wait_for (1);
	assert_true (bodies_have (B, &f));
}

static void test_asked_again_after_redis_was_away (void **state)
{
	struct id f = new_function (10);
	(void)state;
	rig_server_kill (&G);
	assert_true (rig_wait (&G, rig_is_down, &G));
	assert_false (bodies_have (B, &f));
	rig_server_start (&G);
	wait_for (1);
	assert_int_equal (got.found, 1);
}

/* ---- the session with an endpoint; in place of link.c ---- */

static uint64_t epoch;
static size_t sent;

uint64_t link_epoch (const struct link_peer *p)
{
	(void)p;
	return epoch;
}

void link_send (struct link_peer *p, enum wire_type type, zmq_msg_t *record)
{
	(void)p;
	(void)type;
	zmq_msg_close (record);
	sent++;
}

static void test_changed_while_it_is_fetched (void **state)
{
	struct id f = new_function (10);
	struct link_peer *peer = (struct link_peer *)&epoch;
	(void)state;
	epoch = 7;
	sent = 0;
	bodies_have (B, &f);
	wait_for (1);
	assert_false (bodies_was_changed (B, &f));
	assert_true (bodies_send (B, peer, &f));
	assert_true (bodies_send (B, peer, &f)); /* it has it */
	assert_int_equal (sent, 1);
	for (size_t changes = 1; changes <= 3; changes++) {
		for (size_t i = 0; i < changes; i++)
			bodies_changed (B, &f);
		assert_false (bodies_send (B, peer, &f));
		wait_for (1 + changes);
		assert_true (bodies_was_changed (B, &f));
		assert_true (bodies_send (B, peer, &f));
		assert_false (bodies_was_changed (B, &f));
		assert_int_equal (sent, 1 + changes);
	}
}

static void test_destroyed_while_fetching (void **state)
{
	struct id f = new_function (10);
	(void)state;
	bodies_have (B, &f);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown (test_fetched_once, up, down),
		cmocka_unit_test_setup_teardown (test_unknown_and_damaged, up, down),
		cmocka_unit_test_setup_teardown (test_memory_is_bounded, up, down),
		cmocka_unit_test_setup_teardown (test_one_over_the_bound_is_kept, up, down),
		cmocka_unit_test_setup_teardown (test_asked_again_after_redis_was_away, up, down),
		cmocka_unit_test_setup_teardown (test_changed_while_it_is_fetched, up, down),
		cmocka_unit_test_setup_teardown (test_destroyed_while_fetching, up, down),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
