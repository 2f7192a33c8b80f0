/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/ids.h"

static void test_ids_increase_in_one_millisecond_and_backwards (void **state)
{
	struct id a, b;
	(void) state;
	clock_set_for_test (-1, 1700000000123 * 1000000);
	id_new (&a);
	assert_int_equal (id_time_ms (&a), 1700000000123);
	assert_int_equal (a.b[6] >> 4, 7);
	assert_int_equal (a.b[8] >> 6, 2);
	for (int i = 0; i < 20000; i++) {
		if (i == 10000)
			clock_set_for_test (-1, 1600000000000 * 1000000);
		id_new (&b);
		assert_true (memcmp (a.b, b.b, 16) < 0);
		a = b;
	}
	clock_set_for_test (-1, -1);
	id_new (&b);
	assert_true (memcmp (a.b, b.b, 16) < 0);
}

static void test_text_and_back (void **state)
{
	static const char *const bad[] = {
		"", "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeee", "0190aaaabbbb7ccc8dddeeeeeeeeeeee0000",
		"0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeeg", "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeeee",
		"0190aaaa-bbbb-7ccc-8ddd_eeeeeeeeeeee", "{190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee",
		"0190aaa--bbbb-7ccc-8ddd-eeeeeeeeeeee",
	};
	struct id id, back;
	char t[ID_TEXT];
	(void) state;
	id_new (&id);
	assert_int_equal (strlen (id_text (&id, t)), 36);
	assert_int_equal (id_parse (&back, t, 36), 0);
	assert_true (id_eq (&id, &back));
	assert_int_equal (id_parse (&back, "0190AAAA-BBBB-7ccc-8ddd-eeeeeeeeeeee", 36), 0);
	assert_string_equal (id_text (&back, t), "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee");
	id = back;
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++)
		assert_int_equal (id_parse (&back, bad[i], strlen (bad[i])), -1);
	assert_int_equal (id_parse (&back, NULL, 0), -1);
	assert_true (id_eq (&id, &back));
}

static void test_secrets_and_random (void **state)
{
	uint8_t big[10000];
	char *a = ids_secret (32), *b = ids_secret (32), *c = ids_secret (1);
	int zero = 0;
	(void) state;
	assert_int_equal (strlen (a), 43);
	assert_int_equal (strlen (c), 2);
	assert_int_equal (strspn (a, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 43);
	assert_string_not_equal (a, b);
	free (a);
	free (b);
	free (c);
	ids_random (big, sizeof (big));
	for (size_t i = 0; i < sizeof (big); i++)
		zero += big[i] == 0;
	assert_in_range (zero, 1, 200);
}

static void test_clock (void **state)
{
	char t[32];
	(void) state;
	assert_string_equal (clock_iso (1700000000123456789, t), "2023-11-14T22:13:20.123Z");
	assert_string_equal (clock_iso (0, t), "1970-01-01T00:00:00.000Z");
	assert_string_equal (clock_iso (-1, t), "1969-12-31T23:59:59.999Z");
	clock_iso (INT64_MAX, t);
	for (unsigned i = 0; i < 100; i++) {
		assert_in_range (clock_backoff_ms (0, 100, 5000), 50, 149);
		assert_in_range (clock_backoff_ms (1, 100, 5000), 100, 299);
		assert_in_range (clock_backoff_ms (1000000, 100, 5000), 2500, 7499);
		assert_in_range (clock_backoff_ms (i, 0, 0), 0, 1);
	}
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_ids_increase_in_one_millisecond_and_backwards),
		cmocka_unit_test (test_text_and_back),
		cmocka_unit_test (test_secrets_and_random),
		cmocka_unit_test (test_clock),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
