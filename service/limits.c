/* SPDX-License-Identifier: Apache-2.0 */
#include "service/limits.h"
#include <math.h>
#include <string.h>

#define TIME_MAX_S (30.0 * 86400)
#define MEMORY_MAX ((int64_t) 1 << 50)

void limits_read (struct check *k, const json_t *body, int64_t result_max, struct limits *out)
{
	json_t *o = check_object (k, body, "limits", false), *v;
	const char *key;
	double s;

	memset (out, 0, sizeof (*out));
	if (!o)
		return;
	json_object_foreach (o, key, v) {
		bool own = result_max && (!strcmp (key, "max_result_bytes") || !strcmp (key, "expected_s"));
		if (strcmp (key, "time_limit_s") && strcmp (key, "memory_limit_bytes") && !own)
			check_problem (k, "limits", -1, "value_error.extra", "unknown limit '%.60s'", key);
	}
	s = check_number (k, o, "time_limit_s", 0, TIME_MAX_S, 0);
	out->time_limit_ms = s > 0 && s < 0.001 ? 1 : (uint32_t) (s * 1000);
	out->memory_limit_bytes = (uint64_t) check_int (k, o, "memory_limit_bytes", 0, MEMORY_MAX, 0);
	if (!result_max)
		return;
	out->max_result_bytes = (uint32_t) check_int (k, o, "max_result_bytes", 0, result_max, 0);
	s = ceil (check_number (k, o, "expected_s", 0, TIME_MAX_S, 0));
	out->expected_s = s < UINT16_MAX ? (uint16_t) s : UINT16_MAX;
}
