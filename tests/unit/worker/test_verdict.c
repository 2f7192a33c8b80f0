/* SPDX-License-Identifier: Apache-2.0 */
/* The words and codes of calls that were ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "proto/msg_result.h"
#include "worker/verdict.h"

#define EXITED(n) ((n) << 8)

static void expect (const struct verdict *v, int code, int fault, int detail, const char *text)
{
	assert_int_equal (v->status, STATUS_FAILED);
	assert_int_equal (v->err.code, code);
	assert_int_equal (v->err.fault, fault);
	assert_int_equal (v->detail, detail);
	assert_string_equal (v->err.text, text);
}

static void test_limits (void **state)
{
	struct verdict v;

	(void) state;
	verdict_time_limit (&v, 2000, "n1");
	expect (&v, ERR_TASK_TIME_LIMIT, FAULT_USER, 0, "exceeded its time limit of 2 s on node n1");
	verdict_memory_limit (&v, 100 << 20, 150 << 20, "n1");
	expect (&v, ERR_TASK_MEMORY_LIMIT, FAULT_USER, 0, "exceeded its memory limit of 100 MiB on node n1: it used 150 MiB");
	verdict_memory_refused (&v, 100 << 20, 18 << 20, "n1");
	expect (&v, ERR_TASK_MEMORY_LIMIT, FAULT_USER, 0,
		"would have exceeded its memory limit of 100 MiB on node n1: it asked for more at once than was left, "
		"and was refused; it had used 18 MiB at most");
	verdict_cancelled (&v);
	assert_int_equal (v.status, STATUS_CANCELLED);
}

static void test_ends (void **state)
{
	struct verdict v;

	(void) state;
	verdict_ended (&v, 11, "n1");
	expect (&v, ERR_TASK_SIGNAL, FAULT_USER, 11, "killed by signal 11 (Segmentation fault) on node n1");
	verdict_ended (&v, EXITED (3), "n1");
	expect (&v, ERR_TASK_EXIT, FAULT_USER, 3, "the function ended its process on node n1: exit status 3");
}

static void test_kills_of_others (void **state)
{
	struct verdict v;

	(void) state;
	verdict_killed (&v, 3, 2, "n1");
	expect (&v, ERR_TASK_SIGNAL, FAULT_SITE, 9,
		"killed by signal 9 (Killed) on node n1 3 times (it was tried again 2 times), not by Weft: "
		"the system ran out of memory meanwhile and killed 2 processes");
	verdict_killed (&v, 1, 0, "n1");
	expect (&v, ERR_TASK_SIGNAL, FAULT_SITE, 9,
		"killed by signal 9 (Killed) on node n1, not by Weft: "
		"possibly out of memory, though the kernel counted no such event here");
}

static void test_runners_that_do_not_start (void **state)
{
	struct verdict v;
	struct err err = { ERR_IO, FAULT_SITE, "no disk" }, decode = { ERR_TASK_DECODE, FAULT_USER, "bad code" };
	char said[1001];

	(void) state;
	verdict_no_runner (&v, "python", NULL, EXITED (127), "cannot run 'x'", "n1");
	expect (&v, ERR_TASK_RUNNER, FAULT_SITE, 127, "the python runner does not start on node n1: exit status 127: cannot run 'x'");
	memset (said, 's', 1000);
	said[1000] = 0;
	verdict_no_runner (&v, "python", "too slow", 9, said, "n1");
	assert_true (strlen (v.err.text) < 300);
	verdict_error (&v, &err);
	expect (&v, ERR_TASK_RUNNER, FAULT_SITE, 0, "no disk");
	verdict_error (&v, &decode);
	expect (&v, ERR_TASK_DECODE, FAULT_USER, 0, "bad code");
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_limits),
		cmocka_unit_test (test_ends),
		cmocka_unit_test (test_kills_of_others),
		cmocka_unit_test (test_runners_that_do_not_start),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
