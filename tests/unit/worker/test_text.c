/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 and amounts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "worker/text.h"

static void test_utf8 (void **state)
{
	static const struct { const char *s; size_t n; const char *made; } cases[] = {
		{ "", 0, "" },
		{ "plain text, more than eight", 27, "plain text, more than eight" },
		{ "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 12, NULL },
		{ "\x00\x01", 2, NULL },
		{ "\xc0\x80", 2, "??" },			/* overlong */
		{ "\xe0\x9f\xbf", 3, "???" },
		{ "\xf0\x8f\xbf\xbf", 4, "????" },
		{ "\xed\xa0\x80", 3, "???" },			/* a surrogate */
		{ "\xf4\x90\x80\x80", 4, "????" },		/* over U+10FFFF */
		{ "\xf5", 1, "?" },
		{ "\x80", 1, "?" },
		{ "a\xe2\x82", 3, "a??" },
		{ "12345678\xff" "12345678", 17, "12345678?12345678" },
	};
	size_t i;

	(void) state;
	for (i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		bool fine = !cases[i].made || memcmp (cases[i].made, cases[i].s, cases[i].n) == 0;
		char copy[64];

		assert_int_equal (text_is_utf8 (cases[i].s, cases[i].n), fine);
		memcpy (copy, cases[i].s, cases[i].n);
		text_make_utf8 (copy, cases[i].n);
		assert_memory_equal (copy, cases[i].made ? cases[i].made : cases[i].s, cases[i].n);
		assert_true (text_is_utf8 (copy, cases[i].n));
	}
}

static void test_amounts (void **state)
{
	char t[32];

	(void) state;
	assert_string_equal (text_duration (0, t), "0 ms");
	assert_string_equal (text_duration (250, t), "250 ms");
	assert_string_equal (text_duration (2000, t), "2 s");
	assert_string_equal (text_duration (1500, t), "1.5 s");
	assert_string_equal (text_duration (3600000, t), "3600 s");
	assert_string_equal (text_size (0, t), "0 bytes");
	assert_string_equal (text_size (1023, t), "1023 bytes");
	assert_string_equal (text_size (200 << 20, t), "200 MiB");
	assert_string_equal (text_size ((uint64_t) 3 << 29, t), "1.5 GiB");
	assert_string_equal (text_size ((uint64_t) 1 << 52, t), "4096 TiB");
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_utf8),
		cmocka_unit_test (test_amounts),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
