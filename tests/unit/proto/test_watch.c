/* SPDX-License-Identifier: Apache-2.0 */
/* The ends of a watched group: SPEC.md, section 8.4. Whatever the order of submitting, watching and ending, each task has one entry. */
#include "tests/unit/proto/layout_rig.h"

#define GROUP_TASKS 3

static char *done_key (const struct chunk *c) { return key_of ("group", &c->s.group, "done"); }
static char *watch_key (const struct chunk *c) { return key_of ("group", &c->s.group, "watch"); }
static long long ended (const struct chunk *c) { return ask_int ("XLEN %s", done_key (c)); }

static struct chunk *watched_chunk (size_t n)
{
	struct chunk *c = chunk_new (n, 8);
	c->s.watch = true;
	return c;
}

/* Another submission into the same group. */
static struct chunk *later_chunk (const struct chunk *first, size_t n)
{
	struct chunk *c = chunk_new (n, 8);
	c->s.group = first->s.group;
	c->s.group_given = c->s.group_key = true;
	for (size_t i = 0; i < n; i++) { /* meta names the group */
		struct layout_meta m;
		assert_int_equal (layout_meta_decode (&m, c->meta[i].data, c->meta[i].len, NULL), 0);
		m.group = first->s.group;
		buf_clear (&c->meta[i]);
		layout_meta_encode (&c->meta[i], &m);
		c->tasks[i].meta = wire_str ((char *) c->meta[i].data, c->meta[i].len);
	}
	return c;
}

static bool flagged (const struct id *task)
{
	struct layout_meta m;
	redisReply *r = ask ("HGET %s m", key_of ("task", task, NULL));
	assert_int_equal (layout_meta_decode (&m, r->str, r->len, NULL), 0);
	freeReplyObject (r);
	return m.watched;
}

static struct got watch (const struct chunk *c, size_t n)
{
	struct id ids[LAYOUT_WATCH_CHUNK];
	struct got g;
	for (size_t i = 0; i < n; i++)
		ids[i] = c->tasks[i].task;
	layout_watch_send (rds, &c->s.group, ids, n, RETENTION_MS, on_reply, &g);
	WAIT ();
	return g;
}

static void assert_entry (const struct chunk *c, size_t at, const struct id *task, char state)
{
	redisReply *r = ask ("XRANGE %s - +", done_key (c)), *kv;
	assert_true (at < r->elements);
	kv = r->element[at]->element[1];
	assert_int_equal (kv->elements, 4);
	assert_string_equal (kv->element[0]->str, "t");
	assert_int_equal (kv->element[1]->len, ID_BYTES);
	assert_memory_equal (kv->element[1]->str, task->b, ID_BYTES);
	assert_string_equal (kv->element[2]->str, "s");
	assert_int_equal (kv->element[3]->len, 1);
	assert_int_equal (kv->element[3]->str[0], state);
	freeReplyObject (r);
}

static void test_nobody_watches (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (GROUP_TASKS, 8), *more = later_chunk (c, 1);
	submit_ok (c);
	submit_ok (more);
	assert_false (flagged (&c->tasks[0].task));
	assert_false (flagged (&more->tasks[0].task));
	assert_int_equal (store (&c->tasks[0].task, STATUS_SUCCESS).integer, 1);
	assert_int_equal (ask_int ("EXISTS %s %s", done_key (c), watch_key (c)), 0);
	chunk_free (c);
	chunk_free (more);
}

static void test_watched_from_the_start (void **state)
{
	(void) state;
	struct chunk *c = watched_chunk (GROUP_TASKS);
	submit_ok (c);
	redisReply *r = ask ("GET %s", watch_key (c));
	assert_string_equal (r->str, LAYOUT_WATCH_ALL);
	freeReplyObject (r);
	assert_true (ask_int ("PTTL %s", watch_key (c)) > RETENTION_MS / 2);
	for (int i = GROUP_TASKS - 1; i >= 0; i--)
		assert_int_equal (store (&c->tasks[i].task, i ? STATUS_SUCCESS : STATUS_FAILED).integer, 1);
	assert_int_equal (store (&c->tasks[0].task, STATUS_SUCCESS).integer, 0); /* had ended */
	assert_int_equal (ended (c), GROUP_TASKS);
	for (int i = 0; i < GROUP_TASKS; i++) /* in the order of their ends */
		assert_entry (c, (size_t) i, &c->tasks[GROUP_TASKS - 1 - i].task, i == GROUP_TASKS - 1 ? '6' : '5');
	assert_true (ask_int ("PTTL %s", done_key (c)) > RETENTION_MS / 2);
	assert_int_equal (watch (c, GROUP_TASKS).integer, 0); /* nothing to add */
	assert_int_equal (ended (c), GROUP_TASKS);
	chunk_free (c);
}

static void test_lone_task_is_watched (void **state)
{
	(void) state;
	struct chunk *c = watched_chunk (1);
	submit_ok (c);
	assert_int_equal (ask_int ("EXISTS %s", key_of ("group", &c->s.group, NULL)), 0);
	assert_int_equal (store (&c->tasks[0].task, STATUS_CANCELLED).integer, 1);
	assert_entry (c, 0, &c->tasks[0].task, '7');
	chunk_free (c);
}

static void test_later_tasks_of_a_watched_group (void **state)
{
	(void) state;
	struct chunk *c = watched_chunk (1), *more = later_chunk (c, 2);
	submit_ok (c);
	submit_ok (more);
	submit_ok (more); /* the first answer was lost */
	assert_int_equal (store (&more->tasks[1].task, STATUS_SUCCESS).integer, 1);
	assert_entry (c, 0, &more->tasks[1].task, '5');
	assert_int_equal (ended (c), 1);
	chunk_free (c);
	chunk_free (more);
}

/* A group that exists is watched from now on: what was there before must be gone through yet. */
static void test_watching_a_group_that_was_not (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (GROUP_TASKS, 8), *more = later_chunk (c, 1);
	submit_ok (c);
	more->s.watch = true;
	submit_ok (more);
	redisReply *r = ask ("GET %s", watch_key (c));
	assert_string_equal (r->str, LAYOUT_WATCH_NEW);
	freeReplyObject (r);
	assert_true (flagged (&more->tasks[0].task));
	assert_false (flagged (&c->tasks[0].task));
	assert_int_equal (store (&c->tasks[2].task, STATUS_FAILED).integer, 1);
	assert_int_equal (ended (c), 0);
	assert_int_equal (watch (c, GROUP_TASKS).integer, GROUP_TASKS);
	assert_entry (c, 0, &c->tasks[2].task, '6'); /* it had ended */
	assert_int_equal (watch (c, GROUP_TASKS).integer, 0); /* once more, or by another */
	assert_int_equal (ended (c), 1);
	assert_int_equal (store (&c->tasks[0].task, STATUS_SUCCESS).integer, 1);
	assert_int_equal (ended (c), 2);
	assert_int_equal (store (&c->tasks[2].task, STATUS_SUCCESS).integer, 0);
	assert_int_equal (ended (c), 2);
	assert_true (ask_int ("PTTL %s", done_key (c)) > RETENTION_MS / 2);
	chunk_free (c);
	chunk_free (more);
}

static void test_watching_unknown_tasks_makes_none (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (2, 8);
	assert_int_equal (watch (c, 2).integer, 0);
	assert_int_equal (ask_int ("DBSIZE"), 1); /* the endpoint */
	chunk_free (c);
}

/* A record that was put into its place, but whose end is not stored yet: told once, at the end. */
static void test_watching_between_the_halves_of_a_large_record (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 8);
	const struct id *task = &c->tasks[0].task;
	struct buf b = result_of (task, STATUS_SUCCESS, 2 * DONE_INLINE_MAX);
	submit_ok (c);
	freeReplyObject (redisCommand (plain, "HSETNX %s r %b", key_of ("task", task, NULL), b.data, b.len));
	assert_int_equal (watch (c, 1).integer, 1);
	assert_int_equal (ended (c), 0);
	assert_int_equal (store_bytes (task, STATUS_SUCCESS, &b).integer, 1);
	assert_int_equal (ended (c), 1);
	buf_fini (&b);
	chunk_free (c);
}

static void test_message_of_an_end (void **state)
{
	(void) state;
	struct chunk *c = watched_chunk (2);
	redisContext *sub = connect_plain ();
	redisReply *m = redisCommand (sub, "SUBSCRIBE %s", done_key (c));
	freeReplyObject (m);
	submit_ok (c);
	for (int i = 0; i < 2; i++) { /* the second one's record is too large to be sent along */
		struct buf b = result_of (&c->tasks[i].task, STATUS_SUCCESS, i ? 2 * DONE_INLINE_MAX : 10);
		struct layout_ended d;
		store_bytes (&c->tasks[i].task, STATUS_SUCCESS, &b);
		assert_int_equal (redisGetReply (sub, (void **) &m), REDIS_OK);
		assert_int_equal (layout_ended_decode (&d, m->element[2]->str, m->element[2]->len, NULL), 0);
		assert_true (id_eq (&d.task, &c->tasks[i].task));
		assert_int_equal (d.state, STATE_SUCCESS);
		struct layout_meta meta;
		assert_int_equal (layout_meta_decode (&meta, d.meta.p, d.meta.n, NULL), 0);
		assert_true (id_eq (&meta.group, &c->s.group));
		assert_int_equal (d.record.n, i ? 0 : b.len);
		if (!i)
			assert_memory_equal (d.record.p, b.data, b.len);
		redisReply *r = ask ("XRANGE %s - +", done_key (c));
		assert_int_equal (r->element[i]->element[0]->len, d.position.n);
		assert_memory_equal (r->element[i]->element[0]->str, d.position.p, d.position.n);
		freeReplyObject (r);
		freeReplyObject (m);
		buf_fini (&b);
	}
	redisFree (sub);
	chunk_free (c);
}

static struct got peek (const struct id *task, size_t max)
{
	struct got g;
	layout_peek_send (rds, task, max, on_reply, &g);
	WAIT ();
	return g;
}

static void test_peek (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 8);
	const struct id *task = &c->tasks[0].task;
	struct buf b = result_of (task, STATUS_SUCCESS, 100);
	assert_int_equal (peek (task, 1000).type, REDIS_REPLY_NIL);
	submit_ok (c);
	struct got g = peek (task, 1000);
	assert_true (g.field[0].set && g.field[1].set && !g.field[2].set);
	store_bytes (task, STATUS_SUCCESS, &b);
	g = peek (task, b.len);
	assert_memory_equal (g.field[1].s, "5", 1);
	assert_int_equal (g.field[2].n, b.len);
	g = peek (task, b.len - 1);
	assert_true (g.field[0].set && !g.field[2].set); /* larger than wanted */
	buf_fini (&b);
	chunk_free (c);
}

static void test_old_ends_go_at_the_next_submission (void **state)
{
	(void) state;
	struct chunk *c = watched_chunk (1), *more = later_chunk (c, 1);
	submit_ok (c);
	for (int i = 0; i < 300; i++) /* whole nodes are trimmed, of 100 entries */
		freeReplyObject (ask ("XADD %s %d-1 t 0123456789abcdef s 5", done_key (c), i + 1));
	submit_ok (more);
	assert_in_range (ended (c), 0, 100);
	chunk_free (c);
	chunk_free (more);
}

int main (void)
{
#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T (test_nobody_watches),
		T (test_watched_from_the_start),
		T (test_lone_task_is_watched),
		T (test_later_tasks_of_a_watched_group),
		T (test_watching_a_group_that_was_not),
		T (test_watching_unknown_tasks_makes_none),
		T (test_watching_between_the_halves_of_a_large_record),
		T (test_message_of_an_end),
		T (test_peek),
		T (test_old_ends_go_at_the_next_submission),
	};
	return cmocka_run_group_tests_name ("watch", tests, NULL, NULL);
}
