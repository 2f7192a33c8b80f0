/* SPDX-License-Identifier: Apache-2.0 */
#include "service/body.h"
#include <stdlib.h>

jscan_v body_get (const struct jscan *j, const char *key)
{
	jscan_v v = jscan_get (j, 0, key);

	return v && jscan_type (j, v) != JSCAN_NULL ? v : 0;
}

static jscan_v get (struct check *c, const struct jscan *j, const char *key, bool required)
{
	jscan_v v = body_get (j, key);

	if (!v && required)
		check_problem (c, key, -1, "value_error.missing", "field required");
	return v;
}

jscan_v body_object (struct check *c, const struct jscan *j, const char *key, bool required)
{
	jscan_v v = get (c, j, key, required);

	if (!v || jscan_type (j, v) == JSCAN_OBJECT)
		return v;
	check_problem (c, key, -1, "type_error.dict", "an object is expected");
	return 0;
}

jscan_v body_array (struct check *c, const struct jscan *j, const char *key, bool required)
{
	jscan_v v = get (c, j, key, required);

	if (!v || jscan_type (j, v) == JSCAN_ARRAY)
		return v;
	check_problem (c, key, -1, "type_error.list", "an array is expected");
	return 0;
}

bool body_is_id (const struct jscan *j, jscan_v v, struct id *out)
{
	const char *p;
	size_t n;

	if (!v || jscan_type (j, v) != JSCAN_STRING)
		return false;
	p = jscan_string (j, v, &n);
	return id_parse (out, p, n) == 0;
}

bool body_bool (struct check *c, const struct jscan *j, const char *key, bool def)
{
	jscan_v v = body_get (j, key);

	if (v && jscan_type (j, v) != JSCAN_TRUE && jscan_type (j, v) != JSCAN_FALSE)
		check_problem (c, key, -1, "type_error.bool", "true or false is expected");
	return v ? jscan_type (j, v) == JSCAN_TRUE : def;
}

bool body_id (struct check *c, const struct jscan *j, const char *key, bool required, struct id *out)
{
	jscan_v v = get (c, j, key, required);

	if (!v)
		return false;
	if (body_is_id (j, v, out))
		return true;
	check_problem (c, key, -1, "type_error.uuid", "a UUID is expected");
	return false;
}

struct id *body_ids (struct check *c, const struct jscan *j, const char *key, bool required, size_t max, size_t *n)
{
	jscan_v list = body_array (c, j, key, required);
	size_t count = list ? jscan_count (j, list) : 0, i = 0;
	struct id *ids;

	*n = 0;
	if (!list)
		return NULL;
	if (count > max) {
		check_problem (c, key, -1, "value_error.list.max_items", "at most %zu are allowed, got %zu", max, count);
		return NULL;
	}
	if (!(ids = calloc (count + 1, sizeof (*ids)))) {
		check_problem (c, key, -1, "value_error.list", "out of memory");
		return NULL;
	}
	for (jscan_v v = jscan_first (j, list); v; v = jscan_next (j, list, v), i++)
		if (!body_is_id (j, v, &ids[i]))
			check_problem (c, key, (long) i, "type_error.uuid", "a UUID is expected");
	*n = count;
	return ids;
}
