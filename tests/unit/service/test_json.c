/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "service/fail.h"
#include "service/json.h"
#include "service/limits.h"

static json_t *parse (const char *s)
{
	char text[300];
	json_t *v = json_parse (s, strlen (s), text, sizeof (text));

	assert_non_null (v);
	return v;
}

static void test_parse_refuses (void **state)
{
	static const char *const bad[] = { "", "{", "{\"a\":1,\"a\":2}", "nope", "{\"a\":\"\xff\"}", "[1,]", "{\"a\":1} x", "1" };
	char text[300];

	(void) state;
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++) {
		text[0] = 0;
		assert_null (json_parse (bad[i], strlen (bad[i]), text, sizeof (text)));
		assert_true (strlen (text) > 10);
	}
}

static void test_deep_nesting_is_refused (void **state)
{
	char text[300], *s = malloc (200000);

	(void) state;
	memset (s, '[', 200000);
	assert_null (json_parse (s, 200000, text, sizeof (text)));
	free (s);
}

static void test_nul_in_strings (void **state)
{
	json_t *o = parse ("{\"a\":\"x\\u0000y\"}");
	struct check k = { 0 };
	size_t n;

	(void) state;
	assert_non_null (check_string (&k, o, "a", true, 10, &n));
	assert_int_equal (n, 3);
	assert_true (check_ok (&k));
	assert_null (check_string (&k, o, "a", true, 10, NULL)); /* as a name it is refused */
	assert_false (check_ok (&k));
	check_fini (&k);
	json_decref (o);
}

static void test_problems_are_gathered (void **state)
{
	json_t *o = parse ("{\"s\":1,\"b\":\"x\",\"i\":99,\"l\":{},\"id\":\"zz\",\"ids\":[\"q\",1],\"n\":null}"), *first;
	struct check k = { 0 };
	struct id id, *ids;
	struct buf b;
	size_t n;
	json_t *v;

	(void) state;
	assert_null (check_string (&k, o, "s", true, 10, NULL));
	check_bool (&k, o, "b", false);
	assert_int_equal (check_int (&k, o, "i", 0, 10, 7), 7);
	assert_null (check_array (&k, o, "l", false));
	assert_false (check_id (&k, o, "id", true, &id));
	ids = check_ids (&k, o, "ids", true, 10, &n);
	assert_null (check_string (&k, o, "absent", true, 10, NULL));
	assert_null (check_string (&k, o, "n", false, 10, NULL)); /* null = absent: no problem */
	assert_int_equal (json_array_size (k.problems), 8);
	buf_init (&b, 0);
	check_body (&k, &b);
	v = parse ((char *) b.data);
	assert_string_equal (json_string_value (json_object_get (v, "code")), "SEMANTICALLY_INVALID");
	assert_int_equal (json_integer_value (json_object_get (v, "http_status_code")), 422);
	first = json_array_get (json_object_get (v, "detail"), 0);
	assert_string_equal (json_string_value (json_array_get (json_object_get (first, "loc"), 1)), "s");
	assert_true (json_is_string (json_object_get (first, "msg")) && json_is_string (json_object_get (first, "type")));
	json_decref (v);
	buf_fini (&b);
	free (ids);
	check_fini (&k);
	json_decref (o);
}

static void test_problems_are_bounded (void **state)
{
	struct check k = { 0 };

	(void) state;
	for (int i = 0; i < 1000; i++)
		check_problem (&k, "a", i, "t", "no %d", i);
	assert_int_equal (json_array_size (k.problems), 50);
	check_fini (&k);
}

static void test_limits (void **state)
{
	static const struct { const char *text; bool good; uint32_t time_ms; uint64_t memory; uint32_t result; } cases[] = {
		{ "{}", true, 0, 0, 0 },
		{ "{\"limits\":null}", true, 0, 0, 0 },
		{ "{\"limits\":{\"time_limit_s\":1.5,\"memory_limit_bytes\":1048576,\"max_result_bytes\":100}}", true, 1500, 1048576, 100 },
		{ "{\"limits\":{\"time_limit_s\":0.0001}}", true, 1, 0, 0 },
		{ "{\"limits\":{\"time_limit_s\":-1}}", false, 0, 0, 0 },
		{ "{\"limits\":{\"time_limit_s\":1e300}}", false, 0, 0, 0 },
		{ "{\"limits\":{\"memory_limit_bytes\":1.5}}", false, 0, 0, 0 },
		{ "{\"limits\":{\"max_result_bytes\":1001}}", false, 0, 0, 0 },
		{ "{\"limits\":{\"walltime\":1}}", false, 0, 0, 0 },
		{ "{\"limits\":[]}", false, 0, 0, 0 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		json_t *o = parse (cases[i].text);
		struct check k = { 0 };
		struct limits l;
		limits_read (&k, o, 1000, &l);
		assert_int_equal (check_ok (&k), cases[i].good);
		if (cases[i].good) {
			assert_int_equal (l.time_limit_ms, cases[i].time_ms);
			assert_int_equal (l.memory_limit_bytes, cases[i].memory);
			assert_int_equal (l.max_result_bytes, cases[i].result);
		}
		check_fini (&k);
		json_decref (o);
	}
}

static void test_fail_bodies (void **state)
{
	(void) state;
	for (int f = 0; f < FAIL_KINDS; f++) {
		struct buf b;
		json_t *v;
		buf_init (&b, 0);
		fail_body (&b, (enum fail) f, "a \"quoted\" \xff text", 17);
		v = parse ((char *) b.data);
		assert_int_equal (json_object_size (v), 6);
		assert_string_equal (json_string_value (json_object_get (v, "status")), "Failed");
		assert_true (strlen (json_string_value (json_object_get (v, "code"))) > 3);
		assert_true (fail_status ((enum fail) f) >= 400 && fail_status ((enum fail) f) < 600);
		assert_true (json_is_string (json_object_get (v, "detail")) && json_is_array (json_object_get (v, "error_args")));
		json_decref (v);
		buf_fini (&b);
	}
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_parse_refuses), cmocka_unit_test (test_deep_nesting_is_refused), cmocka_unit_test (test_nul_in_strings),
		cmocka_unit_test (test_problems_are_gathered), cmocka_unit_test (test_problems_are_bounded), cmocka_unit_test (test_limits),
		cmocka_unit_test (test_fail_bodies),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
