/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of functions: bounds, use, what is in use stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"
#include "proto/functions.h"
#include "proto/link.h"

static struct id make_id (int i)
{
	struct id id = { { 0 } };

	id.b[0] = (uint8_t) i;
	id.b[15] = 1;
	return id;
}

/* Code is code_bytes times fill. */
static struct function *put_filled (struct functions *fs, int i, size_t code_bytes, int fill)
{
	struct msg_function m = { .kind = KIND_PYTHON, .id = make_id (i), .entry = WIRE_STR ("f"), .container = WIRE_STR ("image:3") };
	char *code = xcalloc (1, code_bytes + 1);
	struct function *f;
	struct buf b;
	zmq_msg_t record;

	memset (code, fill, code_bytes);
	m.code = wire_str (code, code_bytes);
	buf_init (&b, 0);
	msg_function_encode (&b, &m);
	link_msg_from_buf (&record, &b);
	free (code);
	f = functions_put (fs, &record, NULL);
	zmq_msg_close (&record);
	assert_non_null (f);
	assert_int_equal (f->fn.entry.n, 1);		/* the slices stand in the cache's own record */
	assert_memory_equal (f->fn.entry.p, "f", 1);
	assert_memory_equal (f->fn.container.p, "image:3", 7);
	return f;
}

static struct function *put (struct functions *fs, int i, size_t code_bytes) { return put_filled (fs, i, code_bytes, 'c'); }

static struct function *get (struct functions *fs, int i)
{
	struct id id = make_id (i);

	return functions_get (fs, &id);
}

/* What a memo is keyed by changes with anything in the record, and only then. */
static void test_digest (void **state)
{
	struct functions *fs = functions_create (10, 1 << 20);
	uint8_t was[32];

	(void) state;
	memcpy (was, function_digest (put_filled (fs, 1, 10, 'a')), sizeof (was));
	assert_memory_equal (function_digest (put_filled (fs, 1, 10, 'a')), was, sizeof (was));
	assert_memory_not_equal (function_digest (put_filled (fs, 1, 10, 'b')), was, sizeof (was));
	assert_memory_not_equal (function_digest (put_filled (fs, 2, 10, 'a')), was, sizeof (was));
	functions_destroy (&fs);
}

static void test_functions_drops_the_least_recently_used (void **state)
{
	struct functions *fs = functions_create (3, 1 << 20);
	int i;

	(void) state;
	for (i = 0; i < 3; i++)
		put (fs, i, 10);
	assert_non_null (get (fs, 0));
	put (fs, 3, 10);
	assert_null (get (fs, 1));
	assert_non_null (get (fs, 0));
	get (fs, 2)->users++;
	get (fs, 0)->users++;
	get (fs, 3)->users++;
	put (fs, 4, 10);		/* over the bound rather than losing what is in use */
	assert_int_equal (functions_count (fs), 4);
	get (fs, 2)->users--;
	put (fs, 5, 10);
	assert_non_null (get (fs, 0));
	assert_non_null (get (fs, 3));
	assert_non_null (get (fs, 5));
	assert_int_equal (functions_count (fs), 3);
	functions_destroy (&fs);
	assert_null (fs);
}

static void test_functions_bounds_bytes (void **state)
{
	struct functions *fs = functions_create (1000, 100000);
	size_t one;
	int i;

	(void) state;
	for (i = 0; i < 20; i++) {
		put (fs, i, 30000);
		assert_true (functions_count (fs) <= 3);
	}
	one = functions_bytes (fs) / 3;
	assert_true (one > 30000 && one < 30100);
	put (fs, 30, 90000);
	assert_int_equal (functions_count (fs), 1);
	functions_destroy (&fs);
}

static void test_functions_keeps_the_newest_whatever_its_size (void **state)
{
	struct functions *fs = functions_create (10, 1000);

	(void) state;
	put (fs, 1, 100);
	put (fs, 2, 5000);
	assert_non_null (get (fs, 2));
	assert_null (get (fs, 1));
	put (fs, 3, 100);
	assert_null (get (fs, 2));
	assert_int_equal (functions_count (fs), 1);
	functions_destroy (&fs);
}

static void test_functions_put_replaces_what_is_not_in_use (void **state)
{
	struct functions *fs = functions_create (10, 1 << 20);
	struct function *f = put_filled (fs, 1, 400, 'a');

	(void) state;
	f->users++;
	assert_ptr_equal (put_filled (fs, 1, 300, 'b'), f);
	assert_int_equal (f->fn.code.n, 400);
	assert_int_equal (*f->fn.code.p, 'a');
	f->users--;
	f = put_filled (fs, 1, 300, 'b');
	assert_int_equal (f->fn.code.n, 300);
	assert_int_equal (*f->fn.code.p, 'b');
	assert_ptr_equal (get (fs, 1), f);
	assert_int_equal (functions_count (fs), 1);
	assert_true (functions_bytes (fs) < 400);
	functions_destroy (&fs);
}

static void test_functions_refuses_junk (void **state)
{
	struct functions *fs = functions_create (10, 1 << 20);
	struct err err;
	zmq_msg_t m;

	(void) state;
	zmq_msg_init_size (&m, 4);
	memcpy (zmq_msg_data (&m), "junk", 4);
	assert_null (functions_put (fs, &m, &err));
	assert_int_equal (err.code, ERR_INVALID);
	assert_int_equal (zmq_msg_size (&m), 4);	/* still the caller's */
	zmq_msg_close (&m);
	functions_destroy (&fs);
}

static void test_functions_speed (void **state)
{
	struct function f = { .calls = 0 };
	int i;

	(void) state;
	function_took (&f, 100);
	function_took (&f, 100);
	assert_false (function_is_fast (&f, 1000));	/* not known yet */
	function_took (&f, -5);
	assert_true (function_is_fast (&f, 1000));
	function_took (&f, 1000000);
	assert_false (function_is_fast (&f, 1000));	/* one long call is enough to be careful */
	for (i = 0; i < 50; i++)
		function_took (&f, 100);
	assert_true (function_is_fast (&f, 1000));
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_digest),
		cmocka_unit_test (test_functions_drops_the_least_recently_used),
		cmocka_unit_test (test_functions_bounds_bytes),
		cmocka_unit_test (test_functions_keeps_the_newest_whatever_its_size),
		cmocka_unit_test (test_functions_put_replaces_what_is_not_in_use),
		cmocka_unit_test (test_functions_refuses_junk),
		cmocka_unit_test (test_functions_speed),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
