/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/clock.h"
#include "endpoint/route.h"

static struct route_node *pick (struct route *r)
{
	bool time_short;
	struct route_node *n = route_pick (r, NULL, 0, 0, &time_short);

	if (n) {
		n->out++;
		route_update (r, n);
	}
	return n;
}

static void done (struct route *r, struct route_node *n)
{
	n->out--;
	route_update (r, n);
}

static void test_pack_fills_one_before_the_next (void **state)
{
	struct route *r = route_create (ROUTE_PACK);
	struct route_node n[3] = { { 0 } };

	(void) state;
	for (int i = 0; i < 3; i++) {
		n[i].slots = 4;
		n[i].window = 8;
		route_add (r, &n[i]);
	}
	struct route_node *first = pick (r);
	for (int i = 1; i < 4; i++)
		assert_ptr_equal (pick (r), first);
	assert_ptr_not_equal (pick (r), first);
	assert_int_equal (route_slots (r), 12);
	assert_int_equal (route_free_slots (r), 7);
	route_destroy (&r);
}

static void test_spread_uses_all (void **state)
{
	struct route *r = route_create (ROUTE_SPREAD);
	struct route_node n[4] = { { 0 } };

	(void) state;
	for (int i = 0; i < 4; i++) {
		n[i].slots = n[i].window = 2;
		route_add (r, &n[i]);
	}
	for (int i = 0; i < 4; i++)
		assert_non_null (pick (r));
	for (int i = 0; i < 4; i++)
		assert_int_equal (n[i].out, 1);
	route_destroy (&r);
}

static void test_free_slots_first_then_prefetch_then_nothing (void **state)
{
	static const enum route_mode modes[] = { ROUTE_PACK, ROUTE_SPREAD };

	(void) state;
	for (int k = 0; k < 2; k++) {
		struct route *r = route_create (modes[k]);
		struct route_node n[2] = { { .slots = 2, .window = 5 }, { .slots = 3, .window = 4 } };
		route_add (r, &n[0]);
		route_add (r, &n[1]);
		for (int i = 0; i < 5; i++)
			assert_non_null (pick (r));
		assert_int_equal (n[0].out, 2);
		assert_int_equal (n[1].out, 3);
		for (int i = 0; i < 4; i++)
			assert_non_null (pick (r));
		assert_null (pick (r));
		assert_int_equal (n[0].out, 5);
		assert_int_equal (n[1].out, 4);
		done (r, &n[1]);
		assert_ptr_equal (pick (r), &n[1]);
		route_destroy (&r);
	}
}

static void test_closed_and_removed_get_nothing (void **state)
{
	struct route *r = route_create (ROUTE_PACK);
	struct route_node a = { .slots = 2, .window = 2 }, b = { .slots = 2, .window = 2 };

	(void) state;
	route_add (r, &a);
	route_add (r, &b);
	a.closed = true;
	route_update (r, &a);
	assert_int_equal (route_slots (r), 2);
	assert_ptr_equal (pick (r), &b);
	route_remove (r, &b);
	assert_null (pick (r));
	b.out = 0;
	route_update (r, &b);	/* after removal: nothing */
	assert_null (pick (r));
	a.closed = false;
	route_update (r, &a);
	assert_ptr_equal (pick (r), &a);
	route_destroy (&r);
}

static void test_bytes_bound_but_one_task_always_fits (void **state)
{
	struct route *r = route_create (ROUTE_PACK);
	struct route_node a = { .slots = 4, .window = 4, .window_bytes = 10 };

	(void) state;
	route_add (r, &a);
	a.out_bytes = 1000;
	assert_non_null (pick (r));
	assert_null (pick (r));
	route_destroy (&r);
}

static void test_time_left (void **state)
{
	struct route *r = route_create (ROUTE_PACK);
	struct route_node a = { .slots = 1, .window = 1, .ends_ms = 5000 }, b = { .slots = 2, .window = 2 };
	bool time_short;

	(void) state;
	route_add (r, &a);
	assert_null (route_pick (r, NULL, 10000, 0, &time_short));
	assert_true (time_short);
	assert_ptr_equal (route_pick (r, NULL, 1000, 0, &time_short), &a);
	assert_ptr_equal (route_pick (r, NULL, 0, 0, &time_short), &a);
	route_add (r, &b);
	assert_ptr_equal (route_pick (r, NULL, 10000, 0, &time_short), &b);
	assert_ptr_equal (route_pick (r, NULL, 1000, 0, &time_short), &a);
	route_destroy (&r);
}

/* ns a task, routed and ended, on so many managers of 64 slots that are kept full */
static double cost (size_t managers, enum route_mode mode)
{
	struct route *r = route_create (mode);
	struct route_node *n = calloc (managers, sizeof (*n));
	size_t slots = managers * 64, rounds = 400000;
	int64_t begin, best = INT64_MAX;

	for (size_t i = 0; i < managers; i++) {
		n[i].slots = 64;
		n[i].window = 128;
		route_add (r, &n[i]);
	}
	for (size_t i = 0; i < slots; i++)
		assert_non_null (pick (r));
	assert_int_equal (route_free_slots (r), 0);
	for (int k = 0; k < 3; k++) {
		begin = clock_now_ns ();
		for (size_t i = 0; i < rounds; i++) {
			done (r, &n[(i * 7919) % managers]);
			pick (r);
		}
		if (clock_now_ns () - begin < best)
			best = clock_now_ns () - begin;
	}
	for (size_t i = 0; i < managers; i++)
		assert_int_equal (n[i].out, 64);
	free (n);
	route_destroy (&r);
	return (double) best / (double) rounds;
}

static void test_cost_is_flat (void **state)
{
	(void) state;
	for (int mode = ROUTE_PACK; mode <= ROUTE_SPREAD; mode++) {
		double few = cost (2, (enum route_mode) mode), many = cost (2048, (enum route_mode) mode);
		print_message ("mode %d: %.0f ns a task with 2 managers, %.0f ns with 2048\n", mode, few, many);
		/* caches make some difference; a search over managers would make a factor of hundreds */
		assert_true (many < 20 * few + 500);
	}
}

static void test_random_uses_all_that_can (void **state)
{
	struct route *r = route_create (ROUTE_RANDOM);
	struct route_node n[4] = { { .slots = 8, .window = 8 }, { .slots = 8, .window = 8 }, { .slots = 8, .window = 8, .closed = true },
				   { .slots = 8, .window = 8, .ends_ms = 1000 } };
	unsigned seen[4] = { 0 };
	bool time_short;

	(void) state;
	for (size_t i = 0; i < 4; i++)
		route_add (r, &n[i]);
	for (int i = 0; i < 4000; i++)
		seen[route_pick (r, NULL, 5000, 0, &time_short) - n]++;
	assert_int_equal (seen[2] + seen[3], 0);
	assert_in_range (seen[0], 1600, 2400);
	assert_in_range (seen[1], 1600, 2400);
	for (int i = 0; i < 24; i++)
		assert_non_null (pick (r));
	assert_null (pick (r));
	assert_int_equal (n[0].out + n[1].out + n[3].out, 24);
	route_destroy (&r);
}

static void test_lanes_are_apart (void **state)
{
	struct route *r = route_create (ROUTE_PACK);
	struct route_lane *lane = route_lane_create ();
	struct route_node a = { .slots = 2, .window = 3 }, b = { .slots = 4, .window = 4, .lane = lane };
	bool time_short;

	(void) state;
	route_add (r, &a);
	route_add (r, &b);
	assert_int_equal (route_slots (r), 6);
	for (int i = 0; i < 3; i++)
		assert_ptr_equal (pick (r), &a);
	assert_null (pick (r));
	assert_ptr_equal (route_pick (r, lane, 0, 0, &time_short), &b);
	route_remove (r, &b);
	assert_null (route_pick (r, lane, 0, 0, &time_short));
	route_destroy (&r);
	free (lane);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_pack_fills_one_before_the_next),
		cmocka_unit_test (test_spread_uses_all),
		cmocka_unit_test (test_free_slots_first_then_prefetch_then_nothing),
		cmocka_unit_test (test_closed_and_removed_get_nothing),
		cmocka_unit_test (test_bytes_bound_but_one_task_always_fits),
		cmocka_unit_test (test_time_left),
		cmocka_unit_test (test_random_uses_all_that_can),
		cmocka_unit_test (test_lanes_are_apart),
		cmocka_unit_test (test_cost_is_flat),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
