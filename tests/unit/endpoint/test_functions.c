/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "endpoint/functions.h"

static struct id id_of (uint32_t n)
{
	struct id id = { { 0 } };

	memcpy (id.b, &n, sizeof (n));
	return id;
}

static void put (struct functions *f, uint32_t n, size_t bytes, int fill)
{
	struct id id = id_of (n);
	zmq_msg_t m;

	zmq_msg_init_size (&m, bytes);
	memset (zmq_msg_data (&m), fill, bytes);
	functions_put (f, &id, &m);
	zmq_msg_close (&m);
}

static int first_byte (struct functions *f, uint32_t n)
{
	struct id id = id_of (n);
	zmq_msg_t m;
	int b = -1;

	zmq_msg_init (&m);
	if (functions_get (f, &id, &m))
		b = *(uint8_t *) zmq_msg_data (&m);
	zmq_msg_close (&m);
	return b;
}

static void test_least_recently_used_leaves (void **state)
{
	struct functions *f = functions_create (1000);

	(void) state;
	put (f, 1, 400, 1);
	put (f, 2, 400, 2);
	assert_int_equal (first_byte (f, 1), 1);	/* used: 2 is the older one now */
	put (f, 3, 400, 3);
	assert_int_equal (first_byte (f, 2), -1);
	assert_int_equal (first_byte (f, 1), 1);
	assert_int_equal (first_byte (f, 3), 3);
	assert_int_equal (functions_bytes (f), 800);
	functions_destroy (&f);
	assert_null (f);
}

static void test_put_replaces (void **state)
{
	struct functions *f = functions_create (1000);

	(void) state;
	put (f, 1, 400, 1);
	put (f, 1, 300, 9);
	assert_int_equal (first_byte (f, 1), 9);
	assert_int_equal (functions_count (f), 1);
	assert_int_equal (functions_bytes (f), 300);
	functions_destroy (&f);
}

static void test_one_over_the_bound_is_kept_alone (void **state)
{
	struct functions *f = functions_create (1000);

	(void) state;
	put (f, 1, 100, 1);
	put (f, 2, 5000, 2);
	assert_int_equal (first_byte (f, 2), 2);
	assert_int_equal (first_byte (f, 1), -1);
	put (f, 3, 100, 3);
	assert_int_equal (first_byte (f, 2), -1);
	assert_int_equal (functions_bytes (f), 100);
	functions_destroy (&f);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_least_recently_used_leaves),
		cmocka_unit_test (test_put_replaces),
		cmocka_unit_test (test_one_over_the_bound_is_kept_alone),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
