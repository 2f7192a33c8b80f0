/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of functions: bounds, use, what is in use stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "worker/functions.h"

static struct id make_id (int i)
{
	struct id id = { { 0 } };

	id.b[0] = (uint8_t) i;
	id.b[15] = 1;
	return id;
}

static struct function *add (struct functions *f, int i, size_t code_bytes)
{
	static char code[100000];
	struct msg_function m = { .kind = KIND_PYTHON, .id = make_id (i), .code = { code, code_bytes }, .entry = WIRE_STR ("f") };
	struct function *fn;
	struct err err;
	struct buf b;

	memset (code, 'c', sizeof (code));
	buf_init (&b, 0);
	msg_function_encode (&b, &m);
	fn = functions_add (f, b.data, b.len, &err);
	assert_non_null (fn);
	buf_fini (&b);
	assert_int_equal (fn->fn.code.n, code_bytes);		/* a copy: the buffer is gone */
	assert_memory_equal (fn->fn.entry.p, "f", 1);
	return fn;
}

static void test_functions_drops_the_least_recently_used (void **state)
{
	struct functions *f = functions_create (3, 1 << 20);
	struct id id[6];
	int i;

	(void) state;
	for (i = 0; i < 6; i++)
		id[i] = make_id (i);
	for (i = 0; i < 3; i++)
		add (f, i, 10);
	assert_non_null (functions_get (f, &id[0]));
	add (f, 3, 10);
	assert_null (functions_get (f, &id[1]));
	assert_non_null (functions_get (f, &id[0]));
	functions_get (f, &id[2])->users++;
	functions_get (f, &id[0])->users++;
	functions_get (f, &id[3])->users++;
	add (f, 4, 10);			/* over the bound rather than losing what is in use */
	assert_int_equal (functions_count (f), 4);
	functions_get (f, &id[2])->users--;
	add (f, 5, 10);
	assert_non_null (functions_get (f, &id[0]));
	assert_non_null (functions_get (f, &id[3]));
	assert_non_null (functions_get (f, &id[5]));
	assert_int_equal (functions_count (f), 3);
	functions_destroy (&f);
	assert_null (f);
}

static void test_functions_bounds_bytes (void **state)
{
	struct functions *f = functions_create (1000, 100000);
	int i;

	(void) state;
	for (i = 0; i < 20; i++) {
		add (f, i, 30000);
		assert_true (functions_count (f) <= 3);
	}
	add (f, 30, 90000);
	assert_int_equal (functions_count (f), 1);
	functions_destroy (&f);
}

static void test_functions_do_not_change (void **state)
{
	struct functions *f = functions_create (10, 1 << 20);
	struct function *first = add (f, 1, 5);

	(void) state;
	assert_ptr_equal (add (f, 1, 5), first);
	assert_int_equal (functions_count (f), 1);
	assert_null (functions_add (f, "junk", 4, NULL));
	functions_destroy (&f);
}

static void test_functions_speed (void **state)
{
	struct function fn = { .calls = 0 };
	int i;

	(void) state;
	function_took (&fn, 100);
	function_took (&fn, 100);
	assert_false (function_is_fast (&fn, 1000));	/* not known yet */
	function_took (&fn, -5);
	assert_true (function_is_fast (&fn, 1000));
	function_took (&fn, 1000000);
	assert_false (function_is_fast (&fn, 1000));	/* one long call is enough to be careful */
	for (i = 0; i < 50; i++)
		function_took (&fn, 100);
	assert_true (function_is_fast (&fn, 1000));
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_functions_drops_the_least_recently_used),
		cmocka_unit_test (test_functions_bounds_bytes),
		cmocka_unit_test (test_functions_do_not_change),
		cmocka_unit_test (test_functions_speed),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
