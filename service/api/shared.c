/* SPDX-License-Identifier: Apache-2.0 */
#include "service/api/shared.h"
#include "common/xmem.h"

#define SHARED_MAX 1000

struct id *shared_users (struct check *k, const json_t *body, struct registry *r, size_t *n)
{
	json_t *list = check_array (k, body, "shared_with", false), *v;
	struct reg_user u;
	struct id *ids;
	size_t i;

	*n = 0;
	if (!list)
		return NULL;
	if (json_array_size (list) > SHARED_MAX) {
		check_problem (k, "shared_with", -1, "value_error.list.max_items", "at most %d are allowed", SHARED_MAX);
		return NULL;
	}
	ids = xcalloc (json_array_size (list) + 1, sizeof (*ids));
	json_array_foreach (list, i, v) {
		if (!json_is_string (v) || registry_user_find (r, json_string_value (v), &u, NULL) < 0)
			check_problem (k, "shared_with", (long) i, "value_error.unknown_user", "no such user");
		else
			ids[(*n)++] = u.id;
	}
	return ids;
}
