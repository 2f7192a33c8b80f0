/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"

#include <errno.h>

static void test_set_preserves_errno_and_takes_null (void **state)
{
	struct err e;
	(void) state;
	errno = EPERM;
	assert_int_equal (err_set (&e, ERR_LIMIT, FAULT_USER, "queue of %d is full", 3), -1);
	assert_int_equal (errno, EPERM);
	assert_int_equal (e.code, ERR_LIMIT);
	assert_int_equal (e.fault, FAULT_USER);
	assert_string_equal (e.text, "queue of 3 is full");
	assert_int_equal (err_set (NULL, ERR_LIMIT, FAULT_USER, "x"), -1);
	assert_int_equal (err_errno (NULL, "x"), -1);
	assert_int_equal (err_prefix (NULL, "x"), -1);
}

static void test_errno_text_survives_long_what (void **state)
{
	char what[1000];
	struct err e;
	(void) state;
	memset (what, 'a', sizeof (what));
	what[999] = '\0';
	errno = ENOENT;
	err_errno (&e, "%s", what);
	assert_int_equal (e.code, ERR_IO);
	assert_int_equal (e.fault, FAULT_SITE);
	assert_non_null (strstr (e.text, ": No such file or directory"));
	assert_int_equal (errno, ENOENT);
}

static void test_prefix_and_self_reference (void **state)
{
	char what[1000];
	struct err e;
	(void) state;
	err_set (&e, ERR_INVALID, FAULT_USER, "bad");
	err_prefix (&e, "line %d", 4);
	assert_string_equal (e.text, "line 4: bad");
	err_set (&e, ERR_INVALID, FAULT_USER, "again: %s", e.text);
	assert_string_equal (e.text, "again: line 4: bad");
	memset (what, 'a', sizeof (what));
	what[999] = '\0';
	err_prefix (&e, "%s", what);
	assert_int_equal (strlen (e.text), sizeof (e.text) - 1);
}

static void test_table (void **state)
{
	(void) state;
	assert_int_equal (err_http_status (ERR_LIMIT), 429);
	assert_int_equal (err_http_status ((enum err_code) 9999), 500);
	assert_string_equal (err_name (ERR_TASK_TIME_LIMIT), "TASK_TIME_LIMIT");
	assert_string_equal (err_name ((enum err_code) 9999), "INTERNAL");
	assert_string_equal (err_fault_name (FAULT_PEER), "peer");
	assert_string_equal (err_fault_name ((enum err_fault) 77), "none");
	for (int c = ERR_TASK_EXCEPTION; c <= ERR_TASK_FILE; c++) {
		assert_memory_equal (err_name ((enum err_code) c), "TASK_", 5);
		assert_in_range (err_http_status ((enum err_code) c), 400, 499);
	}
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_set_preserves_errno_and_takes_null),
		cmocka_unit_test (test_errno_text_survives_long_what),
		cmocka_unit_test (test_prefix_and_self_reference),
		cmocka_unit_test (test_table),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
