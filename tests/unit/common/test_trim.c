/* SPDX-License-Identifier: Apache-2.0 */
/* The call that gives memory back is counted by a function of the same name here. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "common/loop.h"
#include "common/trim.h"

#define EVERY_MS 100

static struct loop *loop;
static int trims;

int malloc_trim (size_t pad)
{
	assert_int_equal (pad, 0);
	trims++;
	return 1;
}

/* Half of an interval's processor time. */
static void work (void *arg)
{
	clock_t end = clock () + EVERY_MS * CLOCKS_PER_SEC / 2000;

	(void) arg;
	while (clock () < end)
		;
}

static void look (void *arg)
{
	(void) arg;
	if (trims)
		loop_stop (loop);
}

static void stop (void *arg)
{
	(void) arg;
	loop_stop (loop);
}

static void run (bool busy, loop_f *until, int64_t ms)
{
	struct loop_timer *b = loop_timer_create (loop, work, NULL), *t = loop_timer_create (loop, until, NULL);
	struct trim *trim = trim_create (loop, EVERY_MS);

	trims = 0;
	if (busy)
		loop_timer_start (b, 1, false);
	loop_timer_start (t, ms, true);
	assert_int_equal (loop_run (loop), 0);
	trim_destroy (&trim);
	assert_null (trim);
	loop_timer_destroy (&b);
	loop_timer_destroy (&t);
}

static int setup (void **state)
{
	(void) state;
	return (loop = loop_create (NULL)) ? 0 : -1;
}

static int teardown (void **state)
{
	(void) state;
	loop_destroy (&loop);
	return 0;
}

static void test_after_a_burst (void **state)
{
	(void) state;
	run (true, look, 5);
	assert_int_equal (trims, 1);
}

static void test_once (void **state)
{
	(void) state;
	run (true, stop, 10 * EVERY_MS);
	assert_true (trims <= 1);
}

static void test_not_without_work (void **state)
{
	(void) state;
	run (false, stop, 5 * EVERY_MS);
	assert_int_equal (trims, 0);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown (test_after_a_burst, setup, teardown),
		cmocka_unit_test_setup_teardown (test_once, setup, teardown),
		cmocka_unit_test_setup_teardown (test_not_without_work, setup, teardown),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
