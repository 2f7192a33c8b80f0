/* SPDX-License-Identifier: Apache-2.0 */
/* Does jscan read a text as jansson does? For its unit test and its fuzzer. */
#ifndef TESTS_JSCAN_COMPARE_H
#define TESTS_JSCAN_COMPARE_H
#include <string.h>
#include "service/jscan.h"

static bool jscan_same_value (const struct jscan *j, jscan_v v, const json_t *want);

static bool jscan_same_members (const struct jscan *j, jscan_v v, const json_t *want)
{
	size_t n, i = 0;

	for (jscan_v k = jscan_first (j, v); k; k = jscan_next (j, v, k), i++) {
		const char *p = jscan_string (j, k, &n);
		if (!jscan_same_value (j, k + 1, json_object_getn (want, p, n)))
			return false;
	}
	return i == json_object_size (want) && jscan_count (j, v) == i;
}

static bool jscan_same_elements (const struct jscan *j, jscan_v v, const json_t *want)
{
	size_t i = 0;

	for (jscan_v e = jscan_first (j, v); e; e = jscan_next (j, v, e))
		if (!jscan_same_value (j, e, json_array_get (want, i++)))
			return false;
	return i == json_array_size (want) && jscan_count (j, v) == i;
}

static bool jscan_same_string (const struct jscan *j, jscan_v v, const json_t *want)
{
	size_t n;
	const char *p = jscan_string (j, v, &n);

	return n == json_string_length (want) && memcmp (p, json_string_value (want), n) == 0;
}

static bool jscan_same_value (const struct jscan *j, jscan_v v, const json_t *want)
{
	json_t *tree;
	bool same;

	if (!want)
		return false;
	switch (jscan_type (j, v)) {
	case JSCAN_NULL: return json_is_null (want);
	case JSCAN_FALSE: return json_is_false (want);
	case JSCAN_TRUE: return json_is_true (want);
	case JSCAN_STRING: return json_is_string (want) && jscan_same_string (j, v, want);
	case JSCAN_ARRAY: return json_is_array (want) && jscan_same_elements (j, v, want);
	case JSCAN_OBJECT: return json_is_object (want) && jscan_same_members (j, v, want);
	default:
		tree = jscan_tree (j, v);
		same = json_equal (tree, (json_t *) want) && (jscan_type (j, v) == JSCAN_REAL) == json_is_real (want);
		json_decref (tree);
		return same;
	}
}

/* Both accept it and agree on what it says, or both refuse it. jansson overlooks a NUL behind a number or word; we do not. */
static bool jscan_agrees (const char *p, size_t n)
{
	json_t *want = json_loadb (p, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	struct jscan j;
	char why[200] = "";
	bool got = jscan_parse (&j, p, n, why, sizeof (why)) == 0, same = got == (want && !memchr (p, 0, n));

	if (got && same)
		same = jscan_same_value (&j, 0, want) && j.nodes[0].end == j.nnodes;
	if (!got && !why[0])
		same = false;
	jscan_fini (&j);
	json_decref (want);
	return same;
}

#endif
