/* SPDX-License-Identifier: Apache-2.0 */
/* The member "limits" of functions and submissions: {time_limit_s, memory_limit_bytes, max_result_bytes}; 0 = none. */
#ifndef SERVICE_LIMITS_H
#define SERVICE_LIMITS_H
#include "service/json.h"

struct limits { uint32_t time_limit_ms, max_result_bytes; uint64_t memory_limit_bytes; };
/* result_max 0: max_result_bytes is not taken here. */
void limits_read (struct check *k, const json_t *body, int64_t result_max, struct limits *out);

#endif
