/* SPDX-License-Identifier: Apache-2.0 */
/* Results without a session: kept until acknowledged, the first of a task counts, none is lost to its size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "worker/results.h"

static void test_results_are_kept_until_acknowledged (void **state)
{
	struct results *r = results_create (NULL);
	struct msg_result m = { .status = STATUS_SUCCESS, .result = WIRE_STR ("1") };
	int i;

	(void) state;
	for (i = 0; i < 100; i++) {
		m.task.b[0] = (uint8_t) (i + 1);
		results_put (r, NULL, &m, false);
		results_put (r, NULL, &m, false);
	}
	assert_int_equal (results_count (r), 100);
	for (i = 0; i < 50; i++) {
		m.task.b[0] = (uint8_t) (i + 1);
		results_ack (r, &m.task);
		results_ack (r, &m.task);
	}
	assert_int_equal (results_count (r), 50);
	results_destroy (&r);
	assert_null (r);
}

static void test_results_that_cannot_be_encoded (void **state)
{
	struct results *r = results_create (NULL);
	struct msg_result m = { .status = STATUS_SUCCESS, .result = { "", (size_t) WIRE_MAX_PAYLOAD + 1 } };

	(void) state;
	results_put (r, NULL, &m, false);
	assert_int_equal (results_count (r), 1);
	results_destroy (&r);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_results_are_kept_until_acknowledged),
		cmocka_unit_test (test_results_that_cannot_be_encoded),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
