/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/pythons.h"

static void test_versions (void **state)
{
	static const struct { const char *text; uint16_t begins, exact; } t[] = {
		{ "3.11", 0x30b, 0x30b }, { "3.6", 0x306, 0x306 }, { "3.0", 0x300, 0x300 }, { "4.255", 0x4ff, 0x4ff },
		{ "3.11.2", 0x30b, 0 }, { "3.13.0rc1", 0x30d, 0 }, { "3.12.1 (main, May 9)", 0x30c, 0 }, { "3.11 ", 0x30b, 0 },
		{ "", 0, 0 }, { "3", 0, 0 }, { "3.", 0, 0 }, { "3.x", 0, 0 }, { ".11", 0, 0 }, { "2.7", 0, 0 }, { "-3.1", 0, 0 },
		{ "3.256", 0, 0 }, { "3.1000", 0, 0 }, { "256.1", 0, 0 }, { " 3.11", 0, 0 }, { "three", 0, 0 },
	};
	char out[8];

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		assert_int_equal (python_version (t[i].text), t[i].begins);
		assert_int_equal (python_version_exact (t[i].text), t[i].exact);
	}
	assert_int_equal (python_version (NULL), 0);
	assert_string_equal (python_version_text (0x30b, out), "3.11");
	assert_string_equal (python_version_text (0xffff, out), "255.255");
}

static void test_parse (void **state)
{
	static const struct { const char *text, *written; size_t n; } good[] = {
		{ "python3", "python3", 1 }, { "/opt/a b/python", "/opt/a b/python", 1 }, { "3.11=/x", "3.11=/x", 1 },
		{ "3.11=/x,3.9=python3.9", "3.11=/x,3.9=python3.9", 2 }, { ",3.11=/x,,3.9=/y,", "3.11=/x,3.9=/y", 2 },
	};
	static const char *const bad[] = { "", ",", "=", "3.11=", "3.11.2=/x", "x=/y", "3.11=/x,3.11=/y", "/x,/y", "3.11=/x,/y", "3.11=/x=y" };
	struct pythons p;
	struct err err;
	char *text;

	(void) state;
	for (size_t i = 0; i < sizeof (good) / sizeof (good[0]); i++) {
		assert_int_equal (pythons_parse (&p, good[i].text, &err), 0);
		assert_int_equal (p.n, good[i].n);
		text = pythons_text (&p);
		assert_string_equal (text, good[i].written);
		free (text);
		pythons_fini (&p);
	}
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++) {
		err.text[0] = 0;
		assert_int_equal (pythons_parse (&p, bad[i], &err), -1);
		assert_true (err.text[0] && !p.n);
	}
}

static void test_find_and_bounds (void **state)
{
	struct pythons p = { 0 };
	struct err err;
	char *path;

	(void) state;
	for (unsigned i = 0; i < PYTHONS_MAX; i++)
		assert_int_equal (pythons_add (&p, (uint16_t) (0x300 + i), "/x", &err), 0);
	assert_int_equal (pythons_find (&p, 0x30b), 11);
	assert_int_equal (pythons_find (&p, 0x3ff), -1);
	assert_int_equal (pythons_find (&p, 0), -1);
	assert_int_equal (pythons_add (&p, 0x3ff, "/x", &err), -1);
	assert_int_equal (err.code, ERR_LIMIT);
	pythons_fini (&p);
	path = calloc (1, 4002);
	memset (path, 'a', 4001);
	assert_int_equal (pythons_add (&p, 0, path, &err), -1);
	free (path);
	pythons_fini (&p);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_versions), cmocka_unit_test (test_parse), cmocka_unit_test (test_find_and_bounds),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
