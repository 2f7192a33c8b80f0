/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "endpoint/queue.h"

static struct id id_of (uint32_t n)
{
	struct id id = { { 0 } };

	memcpy (id.b, &n, sizeof (n));
	return id;
}

static struct queue_task *add (struct queue *q, uint32_t n)
{
	struct id task = id_of (n), fn = id_of (999);
	struct queue_task *t;
	zmq_msg_t m;

	zmq_msg_init_size (&m, 200);
	t = queue_add (q, &task, &fn, &m, 100, 1);
	zmq_msg_close (&m);
	return t;
}

static uint32_t number (const struct queue_task *t)
{
	uint32_t n;

	memcpy (&n, t->id.b, sizeof (n));
	return n;
}

static void test_joined (void **state)
{
	struct queue *q = queue_create ();
	struct queue_task *b;

	(void) state;
	add (q, 1);
	b = add (q, 2);
	add (q, 3);
	queue_join (q, b, 5);
	assert_int_equal (queue_joined (q)->n, 1);
	assert_int_equal (queue_waiting (q)->n, 2);
	assert_int_equal (queue_size (q), 3);
	queue_release_held (q, 6);
	assert_int_equal (b->state, QUEUE_JOINED);
	queue_put_back (q, b, NULL, false, 7);
	assert_int_equal (queue_joined (q)->n, 0);
	assert_ptr_equal (queue_waiting (q)->tail, b);
	queue_join (q, b, 8);
	queue_drop (q, b, NULL);
	assert_int_equal (queue_joined (q)->n, 0);
	assert_int_equal (queue_size (q), 2);
	assert_int_equal (queue_bytes (q), 200);
	queue_destroy (&q);
}

/* A manager is lost with many tasks while very many wait: their places are found without a look at these. */
static void test_what_comes_back_finds_its_place_at_once (void **state)
{
	enum { LOST = 1000, ALL = 20000 };
	struct queue *q = queue_create ();
	struct queue_list lane = { 0 }, mine = { 0 };
	struct queue_task *t;

	(void) state;
	for (uint32_t i = 0; i < ALL; i++) {
		t = add (q, i);
		t->came_ms = i / 10;
		queue_wait_in (q, t, &lane, 2);
	}
	assert_int_equal (queue_steps (q), 0);
	for (uint32_t i = 0; i < 2 * LOST; i++)		/* every second one ends */
		if (i % 2)
			queue_take (q, lane.head, q, &mine, 3);
		else
			queue_drop (q, lane.head, NULL);
	while (mine.tail)
		queue_put_back (q, mine.tail, &mine, true, 4);
	while ((t = queue_front (q)))
		queue_wait_in (q, t, &lane, 5);
	assert_true (queue_steps (q) < 2 * LOST);
	assert_int_equal (lane.n, ALL - LOST);
	for (t = lane.head; t->next; t = t->next)
		assert_true (t->came_ms <= t->next->came_ms && t == t->next->prev);
	/* one from between others, when those beside the place of the last one are gone */
	t = lane.head->next->next;
	queue_take (q, t, q, &mine, 6);
	queue_drop (q, lane.head, NULL);
	queue_put_back (q, t, &mine, true, 7);
	queue_wait_in (q, t, &lane, 8);
	assert_ptr_equal (t->prev ? t->prev->next : lane.head, t);
	while (lane.head)
		queue_drop (q, lane.head, NULL);
	assert_null (lane.tail);
	assert_null (lane.finger);
	queue_destroy (&q);
}

static void test_fifo_and_dedup (void **state)
{
	struct queue *q = queue_create ();
	struct queue_list mine = { 0 };

	(void) state;
	for (uint32_t i = 1; i <= 5; i++)
		assert_non_null (add (q, i));
	assert_null (add (q, 3));
	assert_int_equal (queue_size (q), 5);
	assert_int_equal (queue_bytes (q), 500);
	for (uint32_t i = 1; i <= 5; i++) {
		struct queue_task *t = queue_front (q);
		assert_int_equal (number (t), i);
		queue_take (q, t, q, &mine, 2);
	}
	assert_null (queue_front (q));
	assert_null (add (q, 3));	/* also while it is out */
	assert_int_equal (queue_out (q), 5);
	assert_int_equal (mine.n, 5);
	queue_drop (q, mine.head, &mine);
	assert_non_null (add (q, 1));
	queue_destroy (&q);
}

static void test_lost_tasks_keep_their_order_at_the_front (void **state)
{
	struct queue *q = queue_create ();
	struct queue_list mine = { 0 };

	(void) state;
	for (uint32_t i = 1; i <= 6; i++)
		add (q, i);
	for (int i = 0; i < 3; i++)
		queue_take (q, queue_front (q), q, &mine, 2);
	while (mine.tail)
		queue_put_back (q, mine.tail, &mine, true, 3);
	for (uint32_t i = 1; i <= 6; i++) {
		assert_int_equal (number (queue_front (q)), i);
		queue_drop (q, queue_front (q), NULL);
	}
	assert_int_equal (queue_size (q), 0);
	assert_int_equal (queue_bytes (q), 0);
	queue_destroy (&q);
}

static void test_held_tasks_come_back_in_order (void **state)
{
	struct queue *q = queue_create ();

	(void) state;
	for (uint32_t i = 1; i <= 4; i++)
		add (q, i);
	queue_hold (q, queue_front (q), 100, 2);
	queue_hold (q, queue_front (q), 100, 2);
	assert_int_equal (queue_held (q)->n, 2);
	assert_int_equal (number (queue_front (q)), 3);
	queue_release_held (q, 3);
	for (uint32_t i = 1; i <= 4; i++) {
		assert_int_equal (number (queue_front (q)), i);
		queue_drop (q, queue_front (q), NULL);
	}
	queue_destroy (&q);
}

static void test_the_first_hold_sets_the_deadline (void **state)
{
	struct queue *q = queue_create ();
	struct queue_task *t = add (q, 1);

	(void) state;
	queue_hold (q, t, 100, 2);
	queue_release_held (q, 50);
	queue_hold (q, t, 150, 50);
	assert_int_equal (t->deadline_ms, 100);
	queue_destroy (&q);
}

static void test_unreported_ones_are_found_in_order_of_coming (void **state)
{
	struct queue *q = queue_create ();
	struct queue_list mine = { 0 };
	struct queue_task *t[5];

	(void) state;
	assert_null (queue_unreported (q));
	for (uint32_t i = 0; i < 5; i++)
		t[i] = add (q, i + 1);
	queue_take (q, t[0], q, &mine, 2);	/* wherever they are */
	queue_hold (q, t[1], 100, 2);
	queue_drop (q, t[2], NULL);
	assert_ptr_equal (queue_unreported (q), t[0]);
	queue_reported (q, t[1], 3);
	queue_reported (q, t[1], 2);		/* the highest counts */
	assert_int_equal (t[1]->reported, 3);
	queue_reported (q, t[0], 2);
	assert_ptr_equal (queue_unreported (q), t[3]);
	queue_put_back (q, t[0], &mine, true, 3);	/* told is told */
	assert_ptr_equal (queue_unreported (q), t[3]);
	queue_drop (q, t[4], NULL);
	queue_drop (q, t[3], NULL);
	assert_null (queue_unreported (q));
	t[4] = add (q, 9);
	assert_ptr_equal (queue_unreported (q), t[4]);
	queue_destroy (&q);
}

static void test_lanes_are_in_order_of_coming (void **state)
{
	struct queue *q = queue_create ();
	struct queue_list lane = { NULL, NULL, 0, NULL };
	struct queue_task *t[4];

	(void) state;
	for (uint32_t i = 0; i < 4; i++) {
		t[i] = add (q, i);
		t[i]->came_ms = i;
	}
	queue_wait_in (q, t[1], &lane, 9);
	queue_wait_in (q, t[3], &lane, 9);
	queue_wait_in (q, t[0], &lane, 9);
	queue_wait_in (q, t[2], &lane, 9);
	assert_int_equal (queue_in_lanes (q), 4);
	assert_null (queue_front (q));
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal (number (lane.head), i);
		queue_drop (q, lane.head, NULL);
	}
	assert_int_equal (queue_in_lanes (q), 0);
	assert_int_equal (lane.n, 0);
	queue_destroy (&q);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_joined),
		cmocka_unit_test (test_lanes_are_in_order_of_coming),
		cmocka_unit_test (test_what_comes_back_finds_its_place_at_once),
		cmocka_unit_test (test_fifo_and_dedup),
		cmocka_unit_test (test_lost_tasks_keep_their_order_at_the_front),
		cmocka_unit_test (test_held_tasks_come_back_in_order),
		cmocka_unit_test (test_the_first_hold_sets_the_deadline),
		cmocka_unit_test (test_unreported_ones_are_found_in_order_of_coming),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
