/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/utf8.h"

static void test_append_within_the_bound (void **state)
{
	struct buf b;
	(void) state;
	buf_init (&b, 10);
	buf_str (&b, "hello");
	buf_char (&b, ' ');
	buf_printf (&b, "%d", 1234);
	assert_false (buf_failed (&b));
	assert_string_equal ((char *) b.data, "hello 1234");
	buf_char (&b, 'x');
	assert_true (buf_failed (&b));
	assert_string_equal ((char *) b.data, "hello 1234");
	buf_str (&b, "ignored");
	assert_int_equal (b.len, 10);
	assert_int_equal (buf_reserve (&b, 0), -1);
	buf_clear (&b);
	assert_false (buf_failed (&b));
	buf_int (&b, 0);
	buf_int (&b, -12345);
	assert_string_equal ((char *) b.data, "0-12345");
	buf_int (&b, 99999);
	assert_true (buf_failed (&b));
	assert_string_equal ((char *) b.data, "0-12345");
	buf_clear (&b);
	buf_printf (&b, "%s", "longer than ten");
	assert_true (buf_failed (&b));
	assert_int_equal (b.len, 0);
	assert_string_equal ((char *) b.data, "");
	buf_fini (&b);
	buf_add (&b, "", 0);
	assert_null (b.data);
	buf_fini (&b);
}

static void test_numbers (void **state)
{
	static const int64_t v[] = { 0, 9, 10, -1, 1234567890123456789, INT64_MAX, INT64_MIN };
	char want[32];
	struct buf b;
	(void) state;
	buf_init (&b, 0);
	for (size_t i = 0; i < sizeof (v) / sizeof (v[0]); i++) {
		buf_clear (&b);
		buf_int (&b, v[i]);
		snprintf (want, sizeof (want), "%lld", (long long) v[i]);
		assert_string_equal ((char *) b.data, want);
	}
	buf_fini (&b);
}

static void test_huge_reserve_does_not_wrap (void **state)
{
	struct buf b;
	(void) state;
	buf_init (&b, 0);
	buf_str (&b, "x");
	assert_int_equal (buf_reserve (&b, SIZE_MAX), -1);
	assert_true (buf_failed (&b));
	buf_fini (&b);
}

static void test_grows_and_consumes (void **state)
{
	struct buf b;
	(void) state;
	buf_init (&b, 0);
	for (int i = 0; i < 10000; i++)
		buf_printf (&b, "%05d,", i);
	assert_int_equal (b.len, 60000);
	buf_consume (&b, 6 * 9999);
	assert_string_equal ((char *) b.data, "09999,");
	buf_consume (&b, 100);
	assert_int_equal (b.len, 0);
	buf_fini (&b);
}

static void test_json_string (void **state)
{
	static const struct { const char *in; size_t n; const char *out; } cases[] = {
		{ "plain", 5, "\"plain\"" },
		{ "", 0, "\"\"" },
		{ "a\"b\\c\n\r\t\x01", 9, "\"a\\\"b\\\\c\\n\\r\\t\\u0001\"" },
		{ "a\0b", 3, "\"a\\u0000b\"" },
		{ "\xc3\xa9\xf0\x9f\x98\x80", 6, "\"\xc3\xa9\xf0\x9f\x98\x80\"" },
		{ "\xff", 1, "\"\xef\xbf\xbd\"" },
		{ "\xc3", 1, "\"\xef\xbf\xbd\"" },
		{ "\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
		{ "\xc0\x80", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
	};
	struct buf b;
	(void) state;
	buf_init (&b, 0);
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		buf_clear (&b);
		buf_json_string (&b, cases[i].in, cases[i].n);
		assert_string_equal ((char *) b.data, cases[i].out);
	}
	buf_fini (&b);
	buf_init (&b, 8);
	buf_str (&b, "keep");
	buf_json_string (&b, "too\nlong", 8);
	assert_true (buf_failed (&b));
	assert_string_equal ((char *) b.data, "keep");
	buf_fini (&b);
}

/* Runs are found in blocks: every special byte at every place of one, against the rule said byte by byte. */
static void test_plain_runs (void **state)
{
	static const uint8_t special[] = { 0, 0x1f, 0x20, 0x21, '"', '"' - 1, '"' + 1, '\\', '\\' - 1, '\\' + 1, 0x7f, 0x80, 0xa2, 0xdc, 0xff };
	uint8_t s[48];
	(void) state;
	for (size_t n = 0; n <= sizeof (s); n++)
		for (size_t at = 0; at < n; at++)
			for (size_t k = 0; k < sizeof (special); k++) {
				uint8_t c = special[k];
				memset (s, 'a', sizeof (s));
				s[at] = c;
				if (at + 1 < n)
					s[at + 1] = 0x21; /* what a borrow from the byte below would hit */
				assert_int_equal (utf8_plain (s, n), c < 0x20 || c > 0x7f || c == '"' || c == '\\' ? at : n);
			}
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_append_within_the_bound),
		cmocka_unit_test (test_huge_reserve_does_not_wrap),
		cmocka_unit_test (test_grows_and_consumes),
		cmocka_unit_test (test_numbers),
		cmocka_unit_test (test_json_string),
		cmocka_unit_test (test_plain_runs),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
