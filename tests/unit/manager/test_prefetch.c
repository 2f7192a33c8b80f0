/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint/manager/prefetch.c and window.h: averages, depth, window. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "endpoint/manager/prefetch.h"
#include "endpoint/manager/window.h"

#define US INT64_C (1000)
#define MS INT64_C (1000000)

static const struct id fast = {{ 1 }}, slow = {{ 2 }}, other = {{ 3 }};

static void note (struct prefetch *p, const struct id *f, int64_t ns, int times)
{
	while (times-- > 0)
		prefetch_note (p, f, ns);
}

static void test_unknown_function_is_not_put_behind (void **state)
{
	struct prefetch *p = prefetch_create ();

	(void) state;
	assert_int_equal (prefetch_depth (p, &fast), 0);
	assert_int_equal (prefetch_average_ns (p, &fast), -1);
	assert_int_equal (prefetch_depth_all (p), 0);
	assert_int_equal (prefetch_queue (p), PREFETCH_QUEUE_MIN);
	note (p, &fast, -1, 3);	/* clocks that went backwards say nothing */
	assert_int_equal (prefetch_average_ns (p, &fast), -1);
	prefetch_destroy (&p);
	assert_null (p);
}

static void test_depth_by_time (void **state)
{
	static const struct { int64_t ns; unsigned depth; } cases[] = {
		{ 0, PREFETCH_MAX }, { 1, PREFETCH_MAX }, { 100 * US, PREFETCH_MAX }, { 125 * US, PREFETCH_MAX }, { 200 * US, 10 },
		{ 500 * US, 4 }, { 1 * MS, 2 }, { 2 * MS, 1 }, { 2 * MS + 1, 0 }, { 5 * MS, 0 }, { 1000 * MS, 0 },
	};
	size_t i;

	(void) state;
	for (i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		struct prefetch *p = prefetch_create ();

		note (p, &fast, cases[i].ns, PREFETCH_SAMPLES - 1);
		assert_int_equal (prefetch_depth (p, &fast), 0);	/* one lucky call proves nothing */
		note (p, &fast, cases[i].ns, 1);
		assert_int_equal (prefetch_depth (p, &fast), cases[i].depth);
		assert_true (prefetch_depth (p, &fast) * cases[i].ns <= PREFETCH_AHEAD_NS);
		prefetch_destroy (&p);
	}
}

static void test_average_follows (void **state)
{
	struct prefetch *p = prefetch_create ();

	(void) state;
	note (p, &fast, 100 * US, 10);
	assert_int_equal (prefetch_average_ns (p, &fast), 100 * US);
	note (p, &fast, 200 * US, 1);
	assert_int_equal (prefetch_average_ns (p, &fast), 125 * US);
	note (p, &fast, 200 * US, 40);
	assert_in_range (prefetch_average_ns (p, &fast), 199 * US, 200 * US);
	/* what a runner made up */
	note (p, &fast, INT64_MAX, 2);
	assert_true (prefetch_average_ns (p, &fast) == INT64_MAX);
	note (p, &fast, 1, 1);
	assert_true (prefetch_average_ns (p, &fast) > 0);
	assert_int_equal (prefetch_depth (p, &fast), 0);
	prefetch_destroy (&p);
}

static void test_one_long_call_stops_prefetch_at_once (void **state)
{
	struct prefetch *p = prefetch_create ();

	(void) state;
	note (p, &fast, 50 * US, 100);
	assert_int_equal (prefetch_depth (p, &fast), PREFETCH_MAX);
	note (p, &fast, 300 * MS, 1);
	assert_int_equal (prefetch_depth (p, &fast), 0);
	note (p, &fast, 50 * US, 40);
	assert_int_equal (prefetch_depth (p, &fast), PREFETCH_MAX);
	prefetch_destroy (&p);
}

static void test_functions_are_apart (void **state)
{
	struct prefetch *p = prefetch_create ();

	(void) state;
	note (p, &fast, 50 * US, 5);
	note (p, &slow, 1000 * MS, 5);
	assert_int_equal (prefetch_depth (p, &fast), PREFETCH_MAX);
	assert_int_equal (prefetch_depth (p, &slow), 0);
	assert_int_equal (prefetch_depth (p, &other), 0);
	assert_int_equal (prefetch_depth_all (p), 0);
	assert_int_equal (prefetch_queue (p), PREFETCH_QUEUE_MIN);
	prefetch_destroy (&p);
}

static void test_queue_grows_with_short_calls (void **state)
{
	static const struct { int64_t ns; unsigned queue; } cases[] = {
		{ 0, 64 }, { 10 * US, 64 }, { 1 * MS, 16 }, { 3 * MS, 4 }, { 10 * MS, 2 }, { 1000 * MS, 2 },
	};
	size_t i;

	(void) state;
	for (i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		struct prefetch *p = prefetch_create ();

		note (p, &fast, cases[i].ns, 1);
		assert_int_equal (prefetch_queue (p), cases[i].queue);
		prefetch_destroy (&p);
	}
}

static void test_many_functions_are_bounded (void **state)
{
	struct prefetch *p = prefetch_create ();
	struct id f = {{ 9 }};
	unsigned i;

	(void) state;
	for (i = 0; i < PREFETCH_FUNCTIONS + 10; i++) {
		f.b[14] = (uint8_t) (i >> 8);
		f.b[15] = (uint8_t) i;
		note (p, &f, 50 * US, PREFETCH_SAMPLES);
	}
	assert_int_equal (prefetch_depth (p, &f), PREFETCH_MAX);
	f.b[14] = f.b[15] = 0;
	assert_int_equal (prefetch_average_ns (p, &f), -1);	/* started anew */
	prefetch_destroy (&p);
}

static void test_window (void **state)
{
	struct window_in w = { .up = 4, .depth = 0, .queue = 2 };

	(void) state;
	assert_int_equal (window_tasks (&w), 12);
	w.depth = 16;
	w.queue = 64;
	assert_int_equal (window_tasks (&w), 4 * 81);
	w.stuck = true;
	assert_int_equal (window_tasks (&w), 4);
	w.draining = true;
	assert_int_equal (window_tasks (&w), 0);
	w = (struct window_in) { .up = 4, .depth = 0, .queue = 2, .batch = 100 };
	assert_int_equal (window_tasks (&w), 4 * 200);
	w.stuck = true;		/* long batches are no reason to have none ready */
	assert_int_equal (window_tasks (&w), 4 * 200);
	w = (struct window_in) { .up = 0, .depth = 4, .queue = 8 };
	assert_int_equal (window_tasks (&w), 0);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_unknown_function_is_not_put_behind),
		cmocka_unit_test (test_depth_by_time),
		cmocka_unit_test (test_average_follows),
		cmocka_unit_test (test_one_long_call_stops_prefetch_at_once),
		cmocka_unit_test (test_functions_are_apart),
		cmocka_unit_test (test_queue_grows_with_short_calls),
		cmocka_unit_test (test_many_functions_are_bounded),
		cmocka_unit_test (test_window),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
