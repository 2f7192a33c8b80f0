/* SPDX-License-Identifier: Apache-2.0 */
/* How much an endpoint is used, by the hour: weft:ep:{id}:usage:<day>, SPEC.md section 8. Counted by whoever stores the end of a task, in
 * memory, and added to Redis now and then: figures for people, not for invoices. */
#ifndef PROTO_USAGE_H
#define PROTO_USAGE_H
#include <stdbool.h>
#include "common/rds.h"
#include "proto/msg_result.h"

#define USAGE_DAYS 31		/* kept for so long */
#define USAGE_HOUR_MS 3600000
#define USAGE_DAY_MS (24 * (int64_t) USAGE_HOUR_MS)

enum usage_what { USAGE_ENDED, USAGE_FAILED, USAGE_CANCELLED, USAGE_RAN, USAGE_RUN_US, USAGE_N };
struct usage { int64_t n[USAGE_N]; };

void usage_count (struct usage *u, const struct msg_result *m);
/* Add what was counted to the hour that now_ms (real time) is in; u is emptied. What does not arrive is lost: it is not sent twice. */
void usage_write (struct rds *r, const struct id *endpoint, int64_t now_ms, struct usage *u);

/* All of it, of an endpoint that is deleted. */
void usage_forget (struct rds *r, const struct id *endpoint, int64_t now_ms);

/* The other way: key of a day (since 1970, UTC), and a field of it. False: no field of ours. */
void usage_key (char *key, const struct id *endpoint, int64_t day);
bool usage_field (const char *p, size_t n, int *hour, enum usage_what *what);

#endif
