/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "proto/layout.h"
#include "proto/usage.h"

static struct msg_result result (int status, int64_t began_ns, int64_t ended_ns)
{
	struct msg_result m = { .status = (uint8_t) status };

	m.stamps[STAMP_EXECUTION_START] = began_ns;
	m.stamps[STAMP_EXECUTION_END] = ended_ns;
	return m;
}

static void test_counts (void **state)
{
	struct usage u = { { 0 } };
	struct msg_result ok = result (STATUS_SUCCESS, 1000000, 3500000), failed = result (STATUS_FAILED, 1000, 2000), never = result (STATUS_FAILED, 0, 0),
			  cancelled = result (STATUS_CANCELLED, 0, 0), backwards = result (STATUS_SUCCESS, 5000, 4000),
			  absurd = result (STATUS_SUCCESS, 1, INT64_MAX), half = result (STATUS_FAILED, 5000, 0), memoised = ok;

	(void) state;
	memoised.flags = RESULT_MEMOISED;
	const struct msg_result *all[] = { &ok, &failed, &never, &cancelled, &backwards, &absurd, &half, &memoised };
	for (size_t i = 0; i < sizeof (all) / sizeof (all[0]); i++)
		usage_count (&u, all[i]);
	assert_int_equal (u.n[USAGE_ENDED], 8);
	assert_int_equal (u.n[USAGE_FAILED], 3);
	assert_int_equal (u.n[USAGE_CANCELLED], 1);
	assert_int_equal (u.n[USAGE_RAN], 2);
	assert_int_equal (u.n[USAGE_RUN_US], 2501);
}

static void test_fields (void **state)
{
	static const struct { const char *text; int hour; enum usage_what what; } good[] = {
		{ "0.ended", 0, USAGE_ENDED }, { "9.failed", 9, USAGE_FAILED }, { "10.cancelled", 10, USAGE_CANCELLED }, { "23.ran", 23, USAGE_RAN },
		{ "07.run_us", 7, USAGE_RUN_US },
	};
	static const char *const bad[] = {
		"", ".", "1", "1.", ".ended", "24.ended", "99.ended", "100.ended", "1ended", "1.end", "1.endedx", "1.ended ", "-1.ended", "x.ended",
		"1..ended",
	};
	enum usage_what what;
	int hour;

	(void) state;
	for (size_t i = 0; i < sizeof (good) / sizeof (good[0]); i++) {
		assert_true (usage_field (good[i].text, strlen (good[i].text), &hour, &what));
		assert_int_equal (hour, good[i].hour);
		assert_int_equal (what, good[i].what);
	}
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++)
		assert_false (usage_field (bad[i], strlen (bad[i]), &hour, &what));
}

static void test_key_fits (void **state)
{
	struct id ep = { { 0 } };
	char key[LAYOUT_KEY_MAX];

	(void) state;
	usage_key (key, &ep, 20783);
	assert_string_equal (key, "weft:ep:{00000000-0000-0000-0000-000000000000}:usage:20783");
	usage_key (key, &ep, INT64_MIN);
	assert_true (strlen (key) < LAYOUT_KEY_MAX - 1);
}

int main (void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test (test_counts), cmocka_unit_test (test_fields), cmocka_unit_test (test_key_fits) };

	return cmocka_run_group_tests (tests, NULL, NULL);
}
