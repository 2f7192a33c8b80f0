/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint/manager/tasks.c, results.c and functions.c: order, requeue, attempts, first wins, made results, eviction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "endpoint/manager/results.h"
#include "endpoint/manager/tasks.h"
#include "proto/link.h"

struct worker { int unused; };

static const struct id function = {{ 0xf0 }};

static void make_frame (zmq_msg_t *out, uint8_t n, const char *payload, uint8_t attempt)
{
	struct msg_task m = { .task = {{ n }}, .function = function, .attempt = attempt, .payload = wire_str (payload, strlen (payload)) };
	struct buf b;

	m.stamps[STAMP_RECEIVED] = 1000 + n;
	buf_init (&b, 0);
	msg_task_encode (&b, &m, WIRE_MAJOR);
	link_msg_from_buf (out, &b);
}

static struct task *add (struct tasks *ts, uint8_t n, uint8_t attempt)
{
	struct msg_task m;
	struct task *t;
	zmq_msg_t f;

	make_frame (&f, n, "payload", attempt);
	assert_int_equal (msg_task_decode (&m, zmq_msg_data (&f), zmq_msg_size (&f), NULL), 0);
	t = tasks_add (ts, &f, &m, 5);
	zmq_msg_close (&f);
	return t;
}

/* The frame that a worker would get. */
static void assign (struct tasks *ts, struct task *t, struct worker *w, struct task_list *l, struct msg_task *sent, zmq_msg_t *frame)
{
	assert_int_equal (tasks_assign (ts, t, w, l, 9, frame), 0);
	assert_int_equal (msg_task_decode (sent, zmq_msg_data (frame), zmq_msg_size (frame), NULL), 0);
}

static void test_fifo (void **state)
{
	struct tasks *ts = tasks_create ();
	struct task_list l = { 0 };
	struct worker w;
	struct msg_task m;
	zmq_msg_t f;
	uint8_t n;

	(void) state;
	for (n = 1; n <= 3; n++)
		assert_non_null (add (ts, n, 0));
	assert_int_equal (tasks_queued (ts), 3);
	for (n = 1; n <= 3; n++) {
		assign (ts, tasks_queue_head (ts), &w, &l, &m, &f);
		assert_int_equal (m.task.b[0], n);
		assert_int_equal (m.stamps[STAMP_RECEIVED], 1000 + n);
		assert_true (m.stamps[STAMP_MANAGER_RECEIVED] > 0);
		assert_true (m.stamps[STAMP_MANAGER_SENT] >= m.stamps[STAMP_MANAGER_RECEIVED]);
		assert_int_equal (m.payload.n, 7);
		zmq_msg_close (&f);
	}
	assert_null (tasks_queue_head (ts));
	assert_int_equal (l.n, 3);
	assert_int_equal (l.head->id.b[0], 1);
	assert_int_equal (tasks_count (ts), 3);
	tasks_destroy (&ts);
	assert_null (ts);
}

static void test_first_of_an_id_wins (void **state)
{
	struct tasks *ts = tasks_create ();
	struct task *t = add (ts, 1, 0);
	size_t bytes = tasks_bytes (ts);
	struct msg_task m;
	zmq_msg_t f;

	(void) state;
	make_frame (&f, 1, "another payload", 3);
	assert_int_equal (msg_task_decode (&m, zmq_msg_data (&f), zmq_msg_size (&f), NULL), 0);
	assert_null (tasks_add (ts, &f, &m, 6));
	assert_true (zmq_msg_size (&f) > 0);	/* still the caller's */
	zmq_msg_close (&f);
	assert_ptr_equal (tasks_find (ts, &t->id), t);
	assert_int_equal (tasks_count (ts), 1);
	assert_int_equal (tasks_bytes (ts), bytes);
	tasks_destroy (&ts);
}

static void test_requeue_restores_the_order_of_arrival (void **state)
{
	struct tasks *ts = tasks_create ();
	struct task_list l = { 0 };
	struct worker w;
	struct msg_task m;
	struct task *t[6];
	zmq_msg_t f;
	uint8_t n;

	(void) state;
	for (n = 1; n <= 5; n++)
		t[n] = add (ts, n, 0);
	for (n = 1; n <= 3; n++) {
		assign (ts, t[n], &w, &l, &m, &f);
		zmq_msg_close (&f);
	}
	tasks_requeue (ts, t[2], 20);
	tasks_requeue (ts, t[3], 20);
	tasks_requeue (ts, t[1], 20);
	assert_int_equal (l.n, 0);
	assert_null (l.head);
	assert_null (l.tail);
	assert_null (t[1]->worker);
	for (n = 1; n <= 5; n++) {
		struct task *head = tasks_queue_head (ts);

		assert_int_equal (head->id.b[0], n);
		tasks_drop (ts, &head);
		assert_null (head);
	}
	assert_int_equal (tasks_count (ts), 0);
	assert_int_equal (tasks_bytes (ts), 0);
	/* behind all others, when it came last */
	t[1] = add (ts, 1, 0);
	t[2] = add (ts, 2, 0);
	assign (ts, t[2], &w, &l, &m, &f);
	zmq_msg_close (&f);
	tasks_requeue (ts, t[2], 21);
	assert_ptr_equal (tasks_queue_head (ts), t[1]);
	assert_ptr_equal (t[1]->next, t[2]);
	tasks_destroy (&ts);
}

static void test_second_worker_gets_attempt_and_own_bytes (void **state)
{
	struct tasks *ts = tasks_create ();
	struct task_list l1 = { 0 }, l2 = { 0 };
	struct worker w1, w2;
	struct msg_task first, second;
	struct task *t = add (ts, 1, 0);
	zmq_msg_t f1, f2;

	(void) state;
	assign (ts, t, &w1, &l1, &first, &f1);
	assert_int_equal (first.attempt, 0);
	assert_int_equal (tasks_count_loss (t, 5), 0);
	tasks_requeue (ts, t, 30);
	assign (ts, t, &w2, &l2, &second, &f2);
	assert_int_equal (second.attempt, 1);
	assert_int_equal (second.payload.n, 7);
	assert_memory_equal (second.payload.p, "payload", 7);
	/* what went to the first may still be on its way: it must not have changed */
	assert_int_equal (msg_task_decode (&first, zmq_msg_data (&f1), zmq_msg_size (&f1), NULL), 0);
	assert_int_equal (first.attempt, 0);
	assert_ptr_equal (t->worker, &w2);
	assert_int_equal (l1.n, 0);
	assert_int_equal (l2.n, 1);
	zmq_msg_close (&f1);
	zmq_msg_close (&f2);
	tasks_destroy (&ts);
}

static void test_losses_are_limited (void **state)
{
	struct tasks *ts = tasks_create ();
	struct task *t = add (ts, 1, 3), *none = add (ts, 2, 0), *most = add (ts, 3, 255);

	(void) state;
	assert_int_equal (tasks_count_loss (t, 5), 0);
	assert_int_equal (tasks_count_loss (t, 5), 0);
	assert_int_equal (t->attempt, 5);
	assert_int_equal (tasks_count_loss (t, 5), -1);
	assert_int_equal (t->attempt, 5);
	assert_int_equal (tasks_count_loss (none, 0), -1);
	assert_false (none->counted);
	assert_int_equal (tasks_count_loss (most, 1000), -1);
	assert_int_equal (most->attempt, 255);
	tasks_destroy (&ts);
}

static void test_waiting_for_a_function (void **state)
{
	struct tasks *ts = tasks_create ();
	struct task *a = add (ts, 1, 0), *b = add (ts, 2, 0);

	(void) state;
	tasks_wait (ts, a, 7);
	assert_ptr_equal (tasks_queue_head (ts), b);
	assert_ptr_equal (tasks_waiting_head (ts), a);
	assert_int_equal (tasks_waiting (ts), 1);
	tasks_requeue (ts, a, 8);
	assert_ptr_equal (tasks_queue_head (ts), a);
	assert_int_equal (tasks_waiting (ts), 0);
	assert_int_equal (tasks_queued (ts), 2);
	tasks_destroy (&ts);
}

static void test_cancelled_result_is_made (void **state)
{
	const struct results_made made = { .status = STATUS_CANCELLED, .fault = FAULT_USER, .code = ERR_CANCELLED, .node = "n7",
					   .text = "cancelled" };
	struct tasks *ts = tasks_create ();
	struct task *t = add (ts, 1, 2);
	struct msg_result m;
	zmq_msg_t f;
	int major;

	(void) state;
	for (major = WIRE_MAJOR_MIN; major <= WIRE_MAJOR; major++) {
		assert_int_equal (results_make (&f, t, &made, major), 0);
		assert_int_equal (msg_result_decode (&m, zmq_msg_data (&f), zmq_msg_size (&f), NULL), 0);
		assert_int_equal (m.status, STATUS_CANCELLED);
		assert_int_equal (m.fault, FAULT_USER);
		assert_int_equal (m.code, ERR_CANCELLED);
		assert_int_equal (m.attempt, 2);
		assert_true (id_eq (&m.task, &t->id));
		assert_int_equal (m.stamps[STAMP_RECEIVED], 1001);
		assert_true (m.stamps[STAMP_MANAGER_RECEIVED] > 0);
		assert_true (m.stamps[STAMP_MANAGER_RESULT] >= m.stamps[STAMP_MANAGER_RECEIVED]);
		assert_int_equal (m.stamps[STAMP_EXECUTION_START], 0);
		assert_int_equal (m.node.n, 2);
		assert_int_equal (m.error.n, 9);
		assert_int_equal (m.result.n, 0);
		zmq_msg_close (&f);
	}
	tasks_destroy (&ts);
}

static char seen[8];
static size_t nseen;
static void see (zmq_msg_t *frame, void *arg)
{
	assert_null (arg);
	seen[nseen++] = *(char *) zmq_msg_data (frame);
}

static void keep (struct results *rs, uint8_t n, char mark, int expect)
{
	struct id id = {{ n }};
	zmq_msg_t f;

	assert_int_equal (zmq_msg_init_size (&f, 200), 0);
	memset (zmq_msg_data (&f), mark, 200);
	assert_int_equal (results_keep (rs, &id, &f), expect);
	zmq_msg_close (&f);
}

static void test_results_are_kept_until_acknowledged (void **state)
{
	struct results *rs = results_create ();
	struct id id = {{ 2 }};

	(void) state;
	keep (rs, 1, 'a', 0);
	keep (rs, 2, 'b', 0);
	keep (rs, 3, 'c', 0);
	keep (rs, 2, 'x', -1);		/* the first result of a task wins */
	assert_int_equal (results_count (rs), 3);
	assert_int_equal (*(char *) zmq_msg_data (results_find (rs, &id)), 'b');
	results_each (rs, see, NULL);
	assert_int_equal (nseen, 3);
	assert_memory_equal (seen, "abc", 3);
	results_ack (rs, &id);
	results_ack (rs, &id);		/* twice is nothing special */
	assert_null (results_find (rs, &id));
	nseen = 0;
	results_each (rs, see, NULL);
	assert_int_equal (nseen, 2);
	assert_memory_equal (seen, "ac", 2);
	id.b[0] = 3;
	results_ack (rs, &id);
	keep (rs, 4, 'd', 0);
	nseen = 0;
	results_each (rs, see, NULL);
	assert_memory_equal (seen, "ad", 2);
	results_destroy (&rs);
	assert_null (rs);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_fifo),
		cmocka_unit_test (test_first_of_an_id_wins),
		cmocka_unit_test (test_requeue_restores_the_order_of_arrival),
		cmocka_unit_test (test_second_worker_gets_attempt_and_own_bytes),
		cmocka_unit_test (test_losses_are_limited),
		cmocka_unit_test (test_waiting_for_a_function),
		cmocka_unit_test (test_cancelled_result_is_made),
		cmocka_unit_test (test_results_are_kept_until_acknowledged),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
