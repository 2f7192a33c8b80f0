/* SPDX-License-Identifier: Apache-2.0 */
/* The member "limits" of functions and submissions: {time_limit_s, memory_limit_bytes}, and of submissions alone
 * {max_result_bytes, expected_s}; 0 = none. expected_s is no limit: how long the submitter thinks that it takes. */
#ifndef SERVICE_LIMITS_H
#define SERVICE_LIMITS_H
#include "service/json.h"

struct limits { uint32_t time_limit_ms, max_result_bytes; uint64_t memory_limit_bytes; uint16_t expected_s; };
/* result_max 0: those of submissions alone are not taken. */
void limits_read (struct check *k, const json_t *body, int64_t result_max, struct limits *out);

#endif
