/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/hand.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct id task_id (unsigned n)
{
	struct id id = { { 0 } };
	memcpy (id.b, &n, sizeof (n));
	id.b[15] = 1;
	return id;
}

static struct hand_task *add (struct hand *h, unsigned n, size_t bytes)
{
	char entry[32];
	struct id id = task_id (n);
	int len = snprintf (entry, sizeof (entry), "1700000000000-%u", n);
	struct hand_task *t = hand_add (h, &id, entry, (size_t)len);
	if (t)
		t->bytes = bytes;
	return t;
}

static void expect (const struct hand *h, enum hand_state s, const unsigned *ns, size_t count)
{
	const struct hand_task *t = hand_first (h, s);
	assert_int_equal (hand_count_in (h, s), count);
	for (size_t i = 0; i < count; i++, t = TAILQ_NEXT (t, link)) {
		struct id id = task_id (ns[i]);
		assert_non_null (t);
		assert_int_equal (t->state, s);
		assert_true (id_eq (&t->task, &id));
	}
	assert_null (t);
}

static void test_add_and_find (void **state)
{
	struct hand *h = hand_create ();
	struct hand_task *t = add (h, 1, 10);
	struct id id = task_id (1), other = task_id (2);
	(void)state;
	assert_ptr_equal (hand_get (h, &id), t);
	assert_null (hand_get (h, &other));
	assert_null (add (h, 1, 10)); /* the same task twice */
	assert_int_equal (t->state, HAND_CHECK);
	assert_true (hand_has_entry (h, "1700000000000-1", 15));
	assert_false (hand_has_entry (h, "1700000000000-2", 15));
	assert_false (hand_has_entry (h, "1700000000001-1", 15));
	hand_remove (h, t);
	assert_null (hand_get (h, &id));
	assert_false (hand_has_entry (h, "1700000000000-1", 15));
	assert_int_equal (hand_count (h), 0);
	hand_destroy (&h);
	assert_null (h);
}

static void test_entry_too_long_is_refused (void **state)
{
	struct hand *h = hand_create ();
	char entry[HAND_ENTRY_MAX + 1];
	struct id id = task_id (1);
	(void)state;
	memset (entry, '1', sizeof (entry));
	assert_null (hand_add (h, &id, entry, HAND_ENTRY_MAX));
	assert_false (hand_has_entry (h, entry, HAND_ENTRY_MAX));
	assert_int_equal (hand_count (h), 0);
	hand_destroy (&h);
}

static void test_counts_and_bytes (void **state)
{
	struct hand *h = hand_create ();
	struct hand_task *t[4];
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		t[i] = add (h, i + 1, 100);
		hand_move (h, t[i], HAND_READY);
	}
	hand_move (h, t[0], HAND_SENT);
	hand_move (h, t[1], HAND_SENT);
	assert_int_equal (hand_sent_bytes (h), 200);
	hand_move (h, t[0], HAND_ENDING);
	assert_int_equal (hand_sent_bytes (h), 100);
	assert_int_equal (hand_count (h), 4);
	assert_int_equal (hand_count_open (h), 3);
	hand_remove (h, t[1]);
	assert_int_equal (hand_sent_bytes (h), 0);
	hand_remove (h, t[0]);
	assert_int_equal (hand_count (h), 2);
	assert_int_equal (hand_count_open (h), 2);
	hand_destroy (&h); /* frees the others */
}

static void test_sent_become_ready_first_and_in_order (void **state)
{
	static const unsigned ready[] = { 1, 2, 3, 4 };
	struct hand *h = hand_create ();
	struct hand_task *t[4];
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		t[i] = add (h, i + 1, 5);
		hand_move (h, t[i], HAND_READY);
	}
	hand_move (h, t[0], HAND_SENT);
	hand_move (h, t[1], HAND_SENT);
	hand_make_ready (h, HAND_SENT);
	expect (h, HAND_READY, ready, 4);
	assert_int_equal (hand_count_in (h, HAND_SENT), 0);
	assert_int_equal (hand_sent_bytes (h), 0);
	hand_make_ready (h, HAND_SENT); /* nothing to do */
	expect (h, HAND_READY, ready, 4);
	hand_move (h, t[0], HAND_SENT);
	hand_move (h, t[0], HAND_RETURNED);
	assert_int_equal (hand_sent_bytes (h), 0);
	hand_make_ready (h, HAND_RETURNED);
	expect (h, HAND_READY, ready, 4);
	hand_destroy (&h);
}

static void test_cancelled_do_not_become_ready (void **state)
{
	static const unsigned ready[] = { 2, 3 }, cancelled[] = { 1 };
	struct hand *h = hand_create ();
	struct hand_task *t[3];
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		t[i] = add (h, i + 1, 5);
		hand_move (h, t[i], i < 2 ? HAND_SENT : HAND_READY);
	}
	t[0]->cancelled = true;
	hand_make_ready (h, HAND_SENT);
	expect (h, HAND_READY, ready, 2);
	expect (h, HAND_CANCELLED, cancelled, 1);
	assert_int_equal (hand_count_in (h, HAND_SENT), 0);
	assert_int_equal (hand_count_in (h, HAND_READY), 2);
	assert_int_equal (hand_sent_bytes (h), 0);
	hand_destroy (&h);
}

static void test_ending_lets_the_frame_go (void **state)
{
	struct hand *h = hand_create ();
	struct hand_task *t = add (h, 1, 1000);
	(void)state;
	zmq_msg_close (&t->frame);
	zmq_msg_init_size (&t->frame, 1000);
	t->origin = malloc (10);
	hand_move (h, t, HAND_READY);
	hand_move (h, t, HAND_ENDING);
	assert_int_equal (zmq_msg_size (&t->frame), 0);
	hand_destroy (&h);
}

static void test_many (void **state)
{
	enum { N = 20000 };
	struct hand *h = hand_create ();
	(void)state;
	for (unsigned i = 0; i < N; i++)
		hand_move (h, add (h, i, 1), i % 2 ? HAND_READY : HAND_SENT);
	assert_int_equal (hand_count (h), N);
	assert_int_equal (hand_sent_bytes (h), N / 2);
	for (unsigned i = 0; i < N; i += 3) {
		struct id id = task_id (i);
		hand_remove (h, hand_get (h, &id));
	}
	assert_int_equal (hand_count (h), N - (N + 2) / 3);
	hand_make_ready (h, HAND_SENT);
	assert_int_equal (hand_count_in (h, HAND_READY), hand_count (h));
	hand_destroy (&h);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_add_and_find),
		cmocka_unit_test (test_entry_too_long_is_refused),
		cmocka_unit_test (test_counts_and_bytes),
		cmocka_unit_test (test_sent_become_ready_first_and_in_order),
		cmocka_unit_test (test_cancelled_do_not_become_ready),
		cmocka_unit_test (test_ending_lets_the_frame_go),
		cmocka_unit_test (test_many),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
