/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/xmem.h"
#include "tests/unit/service/jscan_compare.h"

static const char *const good[] = {
	"{}", "[]", " \t\r\n{ \"a\" : [ 1 , 2 ] } \n", "[[[[]]]]", "{\"\":\"\"}", "[0,-0,1,-1,10,123456789012345678]",
	"[9223372036854775807,-9223372036854775808]", "[1.5,-0.0,1e5,1E+5,1e-5,2.5e-324,1e-400,1.7976931348623157e308]",
	"[true,false,null]", "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"]", "[\"a\\u0000b\"]",
	"[\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"]", "[\"\x7f\"]",
	"{\"a\":{\"a\":1},\"b\":{\"a\":1}}", "{\"0123456789abcdef0123456789abcdef\":\"0123456789abcdef\\\"0123456789abcdef\"}",
	"{\"k1\":1,\"k2\":2,\"k3\":3,\"k4\":4,\"k5\":5,\"k6\":6,\"k7\":7,\"k8\":8,\"k9\":9,\"k10\":10}",
};

static const char *const bad[] = {
	"", " ", "{", "[", "}", "]", "{]", "[}", "1", "\"a\"", "true", "null", "{}{}", "[] x", "[1,]", "[,1]", "[1 2]", "{\"a\"}",
	"{\"a\":}", "{\"a\":1,}", "{,}", "{a:1}", "{1:1}", "{\"a\" 1}", "{'a':1}", "[01]", "[-]", "[+1]", "[1.]", "[.5]", "[1e]",
	"[1e+]", "[0x10]", "[-01]", "[1", "[12", "[1.5", "[nul]", "[nulll]", "[True]", "[NaN]", "[Infinity]", "[9223372036854775808]",
	"[-9223372036854775809]", "[1e400]", "[-1e400]", "[\"\n\"]", "[\"\x1f\"]", "[\"a]", "[\"a\\]", "[\"\\x\"]", "[\"\\u12\"]",
	"[\"\\u12g4\"]", "[\"\\ud800\"]", "[\"\\ud800\\u0041\"]", "[\"\\udc00\"]", "[\"\\ud800\\ud800\"]", "[\"\\ud83d\\\"]",
	"[\"\x80\"]", "[\"\xc0\x80\"]", "[\"\xc1\xbf\"]", "[\"\xc3\"]", "[\"\xe0\x80\x80\"]", "[\"\xed\xa0\x80\"]", "[\"\xf0\x80\x80\x80\"]",
	"[\"\xf4\x90\x80\x80\"]", "[\"\xf5\x80\x80\x80\"]", "[\"\xff\"]", "{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}", "{\"\\u0000\":1}",
	"{\"k1\":1,\"k2\":2,\"k3\":3,\"k4\":4,\"k5\":5,\"k6\":6,\"k7\":7,\"k8\":8,\"k9\":9,\"k1\":10}", "\xef\xbb\xbf{}", "[1]\x01", "[/**/]",
	"{\"tasks\":{\"f\":[\"x\"", "[\"abcdefghijklmnopqrstuvwxyz\x01\"]",
};

static void test_table (void **state)
{
	char why[200];
	struct jscan j;
	(void) state;
	for (size_t i = 0; i < sizeof (good) / sizeof (good[0]); i++) {
		if (jscan_parse (&j, good[i], strlen (good[i]), why, sizeof (why)) < 0)
			fail_msg ("refused %s: %s", good[i], why);
		jscan_fini (&j);
		if (!jscan_agrees (good[i], strlen (good[i])))
			fail_msg ("jansson differs: %s", good[i]);
	}
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++) {
		if (jscan_parse (&j, bad[i], strlen (bad[i]), why, sizeof (why)) == 0)
			fail_msg ("accepted %s", bad[i]);
		assert_null (j.nodes);
		if (!jscan_agrees (bad[i], strlen (bad[i])))
			fail_msg ("jansson accepts: %s", bad[i]);
	}
	assert_true (jscan_agrees ("[\0]", 3));
	assert_true (jscan_agrees ("[\"\0\"]", 5));
}

static void test_says_where (void **state)
{
	static const char text[] = "{\"a\": 1,\n  \"b\": x}";
	struct jscan j;
	char why[200];
	(void) state;
	assert_int_equal (jscan_parse (&j, text, strlen (text), why, sizeof (why)), -1);
	assert_string_equal (why, "the body is not valid JSON: invalid token at line 2 column 8");
}

static void test_reading (void **state)
{
	static const char text[] = "{\"plain\":\"abc\",\"list\":[\"x\\ny\",{\"deep\":[1,2]},3],\"none\":null}";
	struct jscan j;
	char why[200], *dump;
	jscan_v v, e;
	const char *p;
	size_t n;
	json_t *tree;
	(void) state;
	assert_int_equal (jscan_parse (&j, text, strlen (text), why, sizeof (why)), 0);
	assert_int_equal (jscan_get (&j, 0, "absent"), 0);
	assert_int_equal (jscan_get (&j, 0, "deep"), 0);
	v = jscan_get (&j, 0, "plain");
	p = jscan_string (&j, v, &n);
	assert_ptr_equal (p, text + 10); /* a slice of the text itself */
	assert_int_equal (n, 3);
	assert_int_equal (jscan_type (&j, jscan_get (&j, 0, "none")), JSCAN_NULL);
	v = jscan_get (&j, 0, "list");
	assert_int_equal (jscan_count (&j, v), 3);
	e = jscan_first (&j, v);
	p = jscan_string (&j, e, &n);
	assert_memory_equal (p, "x\ny", 3);
	e = jscan_next (&j, v, e);
	tree = jscan_tree (&j, e);
	dump = json_dumps (tree, JSON_COMPACT);
	assert_string_equal (dump, "{\"deep\":[1,2]}");
	free (dump);
	json_decref (tree);
	e = jscan_next (&j, v, e);
	assert_int_equal (jscan_type (&j, e), JSCAN_INTEGER);
	assert_int_equal (jscan_next (&j, v, e), 0);
	jscan_fini (&j);
}

static void check_depth (size_t depth, const char *inner)
{
	size_t n = 2 * depth + strlen (inner);
	char *s = xcalloc (1, n + 1);
	memset (s, '[', depth);
	memcpy (s + depth, inner, strlen (inner));
	memset (s + depth + strlen (inner), ']', depth);
	assert_true (jscan_agrees (s, n));
	free (s);
}

static void test_depth (void **state)
{
	struct jscan j;
	char why[200], *s = xcalloc (1, 1 << 20);
	(void) state;
	for (size_t d = 2046; d < 2051; d++) {
		check_depth (d, "");
		check_depth (d, "1");
		check_depth (d, "{}");
	}
	memset (s, '[', 1 << 20);
	assert_int_equal (jscan_parse (&j, s, 1 << 20, why, sizeof (why)), -1);
	free (s);
}

/* ---- random documents, and what a byte changed makes of them ---------------------------------------------------- */

static unsigned seed = 1;

static unsigned rnd (unsigned n)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 16) % n;
}

static json_t *random_string (void)
{
	char s[64];
	size_t n = rnd (60);
	for (size_t i = 0; i < n; i++)
		s[i] = (char) (rnd (8) ? 'a' + rnd (26) : rnd (128));
	return json_stringn (s, n);
}

static json_t *random_value (int depth)
{
	json_t *v;
	unsigned n = rnd (6);
	char key[32];
	switch (rnd (depth ? 8 : 6)) {
	case 0: return json_null ();
	case 1: return json_boolean ((int) rnd (2));
	case 2: return json_integer ((json_int_t) rnd (32768) * rnd (32768) * rnd (32768) - 12345);
	case 3: return json_real (rnd (10000) / 7.0 * (rnd (2) ? 1e-200 : 1e200));
	case 4: case 5: return random_string ();
	case 6:
		v = json_array ();
		while (n--)
			json_array_append_new (v, random_value (depth - 1));
		return v;
	default:
		v = json_object ();
		for (n = rnd (20); n; n--) {
			snprintf (key, sizeof (key), rnd (2) ? "k%u" : "k\xc3\xa9\"%u", rnd (50));
			json_object_set_new (v, key, random_value (depth - 1));
		}
		return v;
	}
}

static void test_random (void **state)
{
	static const size_t flags[] = { JSON_COMPACT, JSON_INDENT (2), JSON_ENSURE_ASCII | JSON_COMPACT, JSON_ESCAPE_SLASH };
	(void) state;
	for (int i = 0; i < 3000; i++) {
		json_t *v = json_pack ("[o]", random_value (4));
		char *s = json_dumps (v, flags[i % 4]);
		size_t n = strlen (s);
		json_decref (v);
		if (!jscan_agrees (s, n))
			fail_msg ("differs: %s", s);
		for (int k = 0; k < 10; k++) {
			size_t at = rnd ((unsigned) (n < 32768 ? n : 32768));
			char was = s[at];
			s[at] = rnd (3) ? "{}[]\",:\\u0e-.1 "[rnd (15)] : (char) rnd (256);
			if (!jscan_agrees (s, n) || !jscan_agrees (s, at))
				fail_msg ("differs with byte %zu of %zu now 0x%02x: %s", at, n, (uint8_t) s[at], s);
			s[at] = was;
		}
		free (s);
	}
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_table), cmocka_unit_test (test_says_where), cmocka_unit_test (test_reading),
		cmocka_unit_test (test_depth), cmocka_unit_test (test_random),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
