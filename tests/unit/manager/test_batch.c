/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "endpoint/manager/batch.h"

#define MS INT64_C (1000000)

static struct msg_function function (uint16_t max, uint32_t latency_ms, uint32_t time_limit_ms)
{
	return (struct msg_function){ .flags = FUNCTION_BATCH, .id = {{ 7 }}, .max_batch = max, .latency_ms = latency_ms,
				      .time_limit_ms = time_limit_ms };
}

static void test_without_objective (void **state)
{
	struct msg_function f = function (128, 0, 0), plain = { .id = {{ 1 }} };
	struct batch *b = batch_create ();

	(void) state;
	assert_int_equal (batch_size (b, &plain), 0);
	assert_int_equal (batch_size (b, &f), 128);
	batch_note (b, &f, 128, 128, 3600000 * MS);
	assert_int_equal (batch_size (b, &f), 128);
	batch_destroy (&b);
	assert_null (b);
}

static void test_grows_while_under (void **state)
{
	struct msg_function f = function (160, 100, 0);
	struct batch *b = batch_create ();

	(void) state;
	assert_int_equal (batch_size (b, &f), 1);
	batch_note (b, &f, 1, 1, 5 * MS);
	assert_int_equal (batch_size (b, &f), 2);
	batch_note (b, &f, 2, 2, 5 * MS);
	assert_int_equal (batch_size (b, &f), 4);
	batch_note (b, &f, 3, 4, 5 * MS);	/* not full: says nothing */
	assert_int_equal (batch_size (b, &f), 4);
	batch_note (b, &f, 2, 2, 5 * MS);	/* made before it grew */
	assert_int_equal (batch_size (b, &f), 4);
	for (int i = 0; i < 40; i++)
		batch_note (b, &f, batch_size (b, &f), batch_size (b, &f), 100 * MS);
	assert_int_equal (batch_size (b, &f), 160);
	batch_destroy (&b);
}

static void test_shrinks_when_over (void **state)
{
	struct msg_function f = function (160, 100, 0);
	struct batch *b = batch_create ();

	(void) state;
	for (int i = 0; i < 40; i++)
		batch_note (b, &f, batch_size (b, &f), batch_size (b, &f), MS);
	batch_note (b, &f, 160, 160, 101 * MS);
	assert_int_equal (batch_size (b, &f), 80);
	batch_note (b, &f, 160, 160, 101 * MS);	/* another worker's, of the same size: not twice */
	assert_int_equal (batch_size (b, &f), 80);
	batch_note (b, &f, 80, 80, MS);		/* then in steps */
	assert_int_equal (batch_size (b, &f), 85);
	batch_note (b, &f, 10, 85, 101 * MS);
	assert_int_equal (batch_size (b, &f), 5);
	batch_note (b, &f, 1, 5, 101 * MS);
	assert_int_equal (batch_size (b, &f), 1);
	batch_note (b, &f, 1, 1, 101 * MS);
	assert_int_equal (batch_size (b, &f), 1);
	batch_destroy (&b);
}

/* 1 ms an input, 50 ms: it settles between what is half of it and a step over. */
static void test_settles_around_the_objective (void **state)
{
	struct msg_function f = function (1024, 50, 0);
	struct batch *b = batch_create ();
	unsigned n, within = 0;

	(void) state;
	for (int i = 0; i < 200; i++) {
		n = batch_size (b, &f);
		batch_note (b, &f, n, n, n * MS);
		if (i > 20) {
			assert_true (n >= 25 && n <= 50 + 2);
			within += n <= 50;
		}
	}
	assert_true (within > 160);
	batch_destroy (&b);
}

static void test_time_limit_is_an_objective (void **state)
{
	struct msg_function f = function (16, 0, 200);
	struct batch *b = batch_create ();

	(void) state;
	assert_int_equal (batch_size (b, &f), 1);
	batch_note (b, &f, 1, 1, 90 * MS);
	assert_int_equal (batch_size (b, &f), 2);
	batch_note (b, &f, 2, 2, 110 * MS);
	assert_int_equal (batch_size (b, &f), 1);
	batch_destroy (&b);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_without_objective), cmocka_unit_test (test_grows_while_under), cmocka_unit_test (test_shrinks_when_over),
		cmocka_unit_test (test_settles_around_the_objective), cmocka_unit_test (test_time_limit_is_an_objective),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
