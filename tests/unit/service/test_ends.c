/* SPDX-License-Identifier: Apache-2.0 */
/* Places in a group's stream, which clients send back to us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "service/ends.h"

static void test_places (void **state)
{
	static const struct { const char *text; int rc; uint64_t ms, seq; } t[] = {
		{ "1700000000000-0", 0, 1700000000000u, 0 }, { "0-0", 0, 0, 0 }, { "0-1", 0, 0, 1 },
		{ "18446744073709551615-18446744073709551615", 0, UINT64_MAX, UINT64_MAX },
		{ "18446744073709551616-0", -1, 0, 0 }, { "1-18446744073709551616", -1, 0, 0 }, { "99999999999999999999999-1", -1, 0, 0 },
		{ "", -1, 0, 0 }, { "-", -1, 0, 0 }, { "1", -1, 0, 0 }, { "1-", -1, 0, 0 }, { "-1", -1, 0, 0 }, { "1-2-3", -1, 0, 0 },
		{ "1-2 ", -1, 0, 0 }, { " 1-2", -1, 0, 0 }, { "+1-2", -1, 0, 0 }, { "a-b", -1, 0, 0 }, { "$", -1, 0, 0 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		struct ends_at at = { 7, 8 };
		char text[LAYOUT_POSITION_MAX + 1];
		assert_int_equal (ends_at_parse (&at, t[i].text, strlen (t[i].text)), t[i].rc);
		assert_true (t[i].rc == 0 ? at.ms == t[i].ms && at.seq == t[i].seq : at.ms == 7 && at.seq == 8);
		if (t[i].rc == 0)
			assert_string_equal (ends_at_text (&at, text), t[i].text);
	}
}

static void test_order (void **state)
{
	struct ends_at a = { 5, 1 }, b = { 5, 2 }, c = { 6, 0 };

	(void) state;
	assert_true (ends_at_after (&b, &a) && ends_at_after (&c, &b) && ends_at_after (&c, &a));
	assert_false (ends_at_after (&a, &a) || ends_at_after (&a, &b) || ends_at_after (&b, &c));
}

int main (void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test (test_places), cmocka_unit_test (test_order) };

	return cmocka_run_group_tests_name ("ends", tests, NULL, NULL);
}
