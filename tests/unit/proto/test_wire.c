/* SPDX-License-Identifier: Apache-2.0 */
/* Header frame, readers, writers, opening and closing of records: SPEC.md, sections 1, 1.1 and 6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include "proto/wire_record.h"

static void test_header_bytes (void **state)
{
	(void) state;
	struct wire_header h = { .major = 2, .minor = 0, .type = WIRE_TASK, .count = 3, .seq = 0x01020304, .epoch = 0x1122334455667788 };
	uint8_t out[WIRE_HEADER_BYTES];
	const uint8_t want[WIRE_HEADER_BYTES] = { 'W', 'f', 2, 0, 20, 0, 0, 0, 3, 0, 0, 0, 4, 3, 2, 1,
						  0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11 };
	wire_header_encode (&h, out);
	assert_memory_equal (out, want, sizeof (want));
	struct wire_header back;
	assert_int_equal (wire_header_decode (&back, out, sizeof (out), NULL), 0);
	assert_int_equal (back.type, WIRE_TASK);
	assert_int_equal (back.count, 3);
	assert_int_equal (back.seq, 0x01020304);
	assert_true (back.epoch == h.epoch);
}

static void test_header_refuses (void **state)
{
	(void) state;
	struct wire_header h = { .major = 2, .type = WIRE_TASK, .count = WIRE_MAX_RECORDS }, back;
	struct err err = { 0 };
	uint8_t out[WIRE_HEADER_BYTES + 1] = { 0 };
	wire_header_encode (&h, out);
	for (size_t n = 0; n <= sizeof (out); n++)
		assert_int_equal (wire_header_decode (&back, out, n, &err), n == WIRE_HEADER_BYTES ? 0 : -1);
	assert_int_equal (err.code, ERR_INVALID);
	out[8]++;
	assert_int_equal (wire_header_decode (&back, out, WIRE_HEADER_BYTES, &err), -1);
	assert_int_equal (err.code, ERR_TOO_LARGE);
	assert_int_equal (err.fault, FAULT_PEER);
}

static void test_types_have_names (void **state)
{
	(void) state;
	int known = 0;
	for (int t = -1; t < 300; t++)
		known += wire_type_known (t);
	assert_int_equal (known, 20);
	assert_string_equal (wire_type_name (WIRE_CONTAINER_STATE), "CONTAINER_STATE");
	assert_string_equal (wire_type_name (WIRE_HELLO + 256), "?");
}

static void test_numbers_round_trip (void **state)
{
	(void) state;
	struct buf b;
	struct id id, got;
	id_new (&id);
	buf_init (&b, 0);
	wire_put_u8 (&b, 0xfe);
	wire_put_u16 (&b, 0xfedc);
	wire_put_u32 (&b, 0xfedcba98);
	wire_put_u64 (&b, 0xfedcba9876543210);
	wire_put_i64 (&b, INT64_MIN);
	wire_put_id (&b, &id);
	assert_int_equal (b.len, 1 + 2 + 4 + 8 + 8 + 16);
	assert_int_equal (b.data[1], 0xdc); /* the low byte first */
	struct wire_reader r = { b.data, b.len, false };
	assert_int_equal (wire_get_u8 (&r), 0xfe);
	assert_int_equal (wire_get_u16 (&r), 0xfedc);
	assert_true (wire_get_u32 (&r) == 0xfedcba98);
	assert_true (wire_get_u64 (&r) == 0xfedcba9876543210);
	assert_true (wire_get_i64 (&r) == INT64_MIN);
	wire_get_id (&r, &got);
	assert_true (id_eq (&id, &got));
	assert_int_equal (r.left, 0);
	assert_false (r.bad);
	buf_fini (&b);
}

static void test_short_reads_give_nothing (void **state)
{
	(void) state;
	const uint8_t p[3] = { 1, 2, 3 };
	struct wire_reader r = { p, 3, false };
	assert_int_equal (wire_get_u32 (&r), 0);
	assert_true (r.bad);
	/* what follows a missing field is not read from its bytes */
	assert_int_equal (wire_get_u8 (&r), 0);
	struct wire_reader s = { p, 3, false };
	struct wire_str v = wire_get_bytes (&s, SIZE_MAX);
	assert_int_equal (v.n, 0);
	assert_non_null (v.p);
	assert_true (s.bad);
	struct id id;
	memset (&id, 0xff, sizeof (id));
	wire_get_id (&s, &id);
	assert_true (id_is_zero (&id));
}

static void test_record_lengths (void **state)
{
	(void) state;
	uint8_t p[32] = { 0 };
	struct wire_record r;
	struct wire_str s;
	static const struct { size_t n, fixed, take; int open, close; } table[] = {
		{ 0, 0, 0, -1, 0 },  { 1, 4, 0, -1, 0 },  { 4, 3, 0, -1, 0 },  { 4, 5, 0, -1, 0 },
		{ 4, 4, 0, 0, 0 },   { 5, 4, 0, 0, -1 },  { 5, 4, 1, 0, 0 },   { 5, 4, 2, 0, -1 },
		{ 8, 8, 0, 0, 0 },   { 9, 8, 0, 0, -1 },  { 9, 9, 0, 0, 0 },   { 12, 9, 2, 0, 0 }, /* newer */
		{ 12, 9, 4, 0, -1 },
	};
	for (size_t i = 0; i < sizeof (table) / sizeof (table[0]); i++) {
		p[0] = (uint8_t) table[i].fixed;
		assert_int_equal (wire_record_open (&r, p, table[i].n, 4, 8, "X", NULL), table[i].open);
		if (table[i].open < 0)
			continue;
		assert_int_equal (wire_record_take (&r, &s, table[i].take, 16, "part", NULL), 0);
		assert_int_equal (wire_record_close (&r, NULL), table[i].close);
	}
	struct err err;
	assert_int_equal (wire_record_take (&r, &s, 17, 16, "part", &err), -1);
	assert_int_equal (err.code, ERR_TOO_LARGE);
}

static void test_full_buffer_gets_nothing (void **state)
{
	(void) state;
	struct buf b;
	struct wire_str part = WIRE_STR ("0123456789");
	buf_init (&b, 12);
	wire_record_add (&b, "abcd", 4, &part, 1);
	assert_true (buf_failed (&b));
	assert_int_equal (b.len, 0);
	buf_fini (&b);
}

static void test_clip_keeps_characters_whole (void **state)
{
	(void) state;
	struct wire_str s = WIRE_STR ("a\xce\xb1\xe2\x82\xac" "b"); /* a, alpha, euro, b: 7 bytes */
	static const size_t head[] = { 0, 1, 1, 3, 3, 3, 6, 7 }, tail[] = { 0, 1, 1, 1, 4, 4, 6, 7 };
	for (size_t max = 0; max <= 7; max++) {
		assert_int_equal (wire_clip_head (s, max).n, head[max]);
		assert_int_equal (wire_clip_tail (s, max).n, tail[max]);
		assert_ptr_equal (wire_clip_tail (s, max).p + tail[max], s.p + s.n);
	}
	/* bytes that are no UTF-8: at most three are given up */
	struct wire_str junk = WIRE_STR ("\x80\x80\x80\x80\x80\x80\x80\x80");
	assert_int_equal (wire_clip_head (junk, 6).n, 3);
	assert_int_equal (wire_clip_tail (junk, 6).n, 3);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_header_bytes),
		cmocka_unit_test (test_header_refuses),
		cmocka_unit_test (test_types_have_names),
		cmocka_unit_test (test_numbers_round_trip),
		cmocka_unit_test (test_short_reads_give_nothing),
		cmocka_unit_test (test_record_lengths),
		cmocka_unit_test (test_full_buffer_gets_nothing),
		cmocka_unit_test (test_clip_keeps_characters_whole),
	};
	return cmocka_run_group_tests_name ("wire", tests, NULL, NULL);
}
