/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "worker/runners/plain_text.h"

/* Each byte at each place of large and small blocks, whatever stands around it. */
static void each_byte_at_each_place (void **state)
{
	unsigned char p[700];

	(void) state;
	for (int c = 0; c < 256; c++)
		for (size_t at = 0; at < sizeof (p); at++) {
			size_t want = c < 0x20 || c == '"' || c == '\\' ? at : sizeof (p);
			memset (p, at % 2 ? 'x' : 0xff, sizeof (p));
			p[at] = (unsigned char) c;
			assert_int_equal (weft_plain_end (p, 0, sizeof (p)), want);
			assert_int_equal (weft_plain_end (p, at, sizeof (p)), want);
			assert_int_equal (weft_plain_end (p, at + 1, sizeof (p)), sizeof (p));
			assert_int_equal (weft_plain_end (p, 0, at), at);
		}
}

static void the_first_counts (void **state)
{
	static const unsigned char p[] = "none\\ one\" two\n";

	(void) state;
	assert_int_equal (weft_plain_end (p, 0, sizeof (p)), 4);
	assert_int_equal (weft_plain_end (p, 5, sizeof (p)), 9);
	assert_int_equal (weft_plain_end (p, 10, sizeof (p)), 14);
	assert_int_equal (weft_plain_end (p, 0, 0), 0);
	assert_int_equal (weft_plain_end (p, 3, 3), 3);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (each_byte_at_each_place),
		cmocka_unit_test (the_first_counts),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
