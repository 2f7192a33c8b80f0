/* SPDX-License-Identifier: Apache-2.0 */
/* Tails: the last bytes, whatever was added and in which pieces; shared rings that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "worker/tail.h"

static void expect (const struct tail *t, const char *want, size_t n)
{
	struct buf b;

	buf_init (&b, 0);
	tail_copy (t, &b);
	assert_int_equal (b.len, n);
	if (n)
		assert_memory_equal (b.data, want, n);
	buf_fini (&b);
}

static void test_tail_keeps_what_fits (void **state)
{
	struct tail t;

	(void) state;
	tail_init (&t);
	expect (&t, "", 0);
	tail_add (&t, "abc", 3);
	tail_add (&t, "", 0);
	tail_add (&t, "def", 3);
	expect (&t, "abcdef", 6);
	tail_clear (&t);
	assert_true (tail_empty (&t));
	tail_add (&t, "g", 1);
	expect (&t, "g", 1);
	tail_fini (&t);
}

static void test_tail_takes_what_is_new (void **state)
{
	static uint8_t shared[TAIL_SHARED_BYTES];
	struct tail from, to;
	uint64_t seen = 0, total;
	char *much = malloc (3 * TAIL_BYTES);

	(void) state;
	memset (much, 'm', 3 * TAIL_BYTES);
	much[3 * TAIL_BYTES - 1] = 'E';
	tail_init (&from);
	tail_init (&to);
	tail_add_new (&to, &from, &seen);
	expect (&to, "", 0);
	tail_add (&from, "abc", 3);
	tail_add_new (&to, &from, &seen);
	tail_add_new (&to, &from, &seen);
	expect (&to, "abc", 3);
	tail_add (&from, "de", 2);
	tail_add_new (&to, &from, &seen);
	expect (&to, "abcde", 5);
	tail_clear (&from);		/* another call */
	tail_add (&from, "f", 1);
	tail_add_new (&to, &from, &seen);
	expect (&to, "abcdef", 6);
	tail_add (&from, much, 3 * TAIL_BYTES);		/* some of it is gone before it is seen */
	tail_add_new (&to, &from, &seen);
	assert_int_equal (to.total, 6 + 3 * TAIL_BYTES);
	expect (&to, much + 2 * TAIL_BYTES, TAIL_BYTES);
	tail_clear (&to);
	seen = 0;
	memcpy (shared + 8, "xyz", 3);
	total = 3;
	memcpy (shared, &total, 8);	/* this machine's order is the wire's on all that we test on */
	tail_add_new_shared (&to, shared, &seen);
	expect (&to, "xyz", 3);
	total = UINT64_MAX;		/* a lie */
	memcpy (shared, &total, 8);
	tail_add_new_shared (&to, shared, &seen);
	expect (&to, "xyz", 3);
	total = (uint64_t) 1 << 62;	/* as much as is believed: twice that is not */
	memcpy (shared, &total, 8);
	tail_add_new_shared (&to, shared, &seen);
	seen = 0;
	tail_add_new_shared (&to, shared, &seen);
	assert_true (to.total <= (uint64_t) 1 << 62);
	tail_fini (&from);
	tail_fini (&to);
	free (much);
}

static void test_tail_keeps_the_last_bytes (void **state)
{
	enum { N = 5 * TAIL_BYTES };
	char *all = malloc (N);
	size_t sizes[] = { 1, 7, 4096, TAIL_BYTES - 1, TAIL_BYTES, TAIL_BYTES + 1, 2 * TAIL_BYTES + 3 }, i, k;

	(void) state;
	for (i = 0; i < N; i++)
		all[i] = (char) (i * 31 + i / 256);
	for (k = 0; k < sizeof (sizes) / sizeof (sizes[0]); k++) {
		struct tail t;
		size_t at = 0;

		tail_init (&t);
		while (at + sizes[k] <= N) {
			tail_add (&t, all + at, sizes[k]);
			at += sizes[k];
			if (at >= TAIL_BYTES && at % 3 == 0)
				expect (&t, all + at - TAIL_BYTES, TAIL_BYTES);
		}
		expect (&t, all + at - (at < TAIL_BYTES ? at : TAIL_BYTES), at < TAIL_BYTES ? at : TAIL_BYTES);
		tail_fini (&t);
	}
	free (all);
}

static void test_shared_rings_stay_inside (void **state)
{
	uint64_t counts[] = { 0, 5, TAIL_BYTES, TAIL_BYTES + 5, (uint64_t) 1 << 63, UINT64_MAX };
	uint8_t *shared = malloc (TAIL_SHARED_BYTES);
	size_t i;

	(void) state;
	memset (shared, 'x', TAIL_SHARED_BYTES);
	for (i = 0; i < sizeof (counts) / sizeof (counts[0]); i++) {
		struct buf b;

		memcpy (shared, &counts[i], 8);
		buf_init (&b, 0);
		tail_copy_shared (shared, &b);
		assert_int_equal (b.len, counts[i] < TAIL_BYTES ? counts[i] : TAIL_BYTES);
		buf_fini (&b);
	}
	free (shared);
}

static void test_make_text (void **state)
{
	struct buf b;
	size_t i;

	(void) state;
	buf_init (&b, 0);
	tail_make_text (&b);
	assert_int_equal (b.len, 0);
	buf_add (&b, "a\xff\xc3\xa9\xe2\x82", 6);
	tail_make_text (&b);
	assert_memory_equal (b.data, "a?\xc3\xa9??", 6);
	buf_clear (&b);
	/* a character that was cut at the start goes; the rest keeps its bytes */
	for (i = 0; i < TAIL_BYTES; i++)
		buf_add (&b, "\xc3\xa9", 2);
	buf_char (&b, 'z');
	tail_make_text (&b);
	assert_int_equal (b.len, TAIL_BYTES - 1);
	assert_int_equal (b.data[0], 0xc3);
	assert_int_equal (b.data[b.len - 1], 'z');
	buf_fini (&b);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_tail_keeps_what_fits), cmocka_unit_test (test_tail_takes_what_is_new),
		cmocka_unit_test (test_tail_keeps_the_last_bytes),
		cmocka_unit_test (test_shared_rings_stay_inside),
		cmocka_unit_test (test_make_text),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
