/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 there and back, and what is not base64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include "common/base64.h"

static void test_base64 (void **state)
{
	static const char *const pairs[][2] = {
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" }, { "\xff\xfe\xfd", "//79" },
	};
	static const char *const bad[] = { "Z", "Zg=", "Zg===", "Zm9v=", "Z!==", "Zg==Zg==", "====", "Zm9vZ" };
	struct buf b;
	size_t i;

	(void) state;
	buf_init (&b, 1000);
	for (i = 0; i < sizeof (pairs) / sizeof (pairs[0]); i++) {
		buf_clear (&b);
		base64_encode (&b, pairs[i][0], strlen (pairs[i][0]));
		assert_int_equal (b.len, strlen (pairs[i][1]));
		assert_memory_equal (b.data ? (char *) b.data : "", pairs[i][1], b.len);
		buf_clear (&b);
		assert_int_equal (base64_decode (&b, pairs[i][1], strlen (pairs[i][1])), 0);
		assert_int_equal (b.len, strlen (pairs[i][0]));
		if (b.len)
			assert_memory_equal (b.data, pairs[i][0], b.len);
	}
	for (i = 0; i < sizeof (bad) / sizeof (bad[0]); i++) {
		buf_clear (&b);
		assert_int_equal (base64_decode (&b, bad[i], strlen (bad[i])), -1);
	}
	buf_clear (&b);
	assert_int_equal (base64_decode (&b, "Zm9v\nYm\r\n Fy", 12), 0);
	assert_memory_equal (b.data, "foobar", 6);
	buf_clear (&b);
	assert_int_equal (base64_decode (&b, "Zm9vYg", 6), 0);	/* unpadded */
	assert_int_equal (b.len, 4);
	buf_fini (&b);
}

int main (void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test (test_base64) };

	return cmocka_run_group_tests (tests, NULL, NULL);
}
