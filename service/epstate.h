/* SPDX-License-Identifier: Apache-2.0 */
/* Is an endpoint online? What its forwarder reported in weft:ep:{id}, remembered for a second. */
#ifndef SERVICE_EPSTATE_H
#define SERVICE_EPSTATE_H
#include "common/rds.h"
#include "proto/layout.h"

struct redisReply;
struct epstate;
struct epstate *epstate_create (struct rds *redis, int64_t stale_ms);
void epstate_destroy (struct epstate **e);	/* after the connection */

/* Of the ids those not known freshly are read; then done is called, from the loop or at once. Errors leave them offline. */
void epstate_refresh (struct epstate *e, const struct id *ids, size_t n, loop_f *done, void *arg);
bool epstate_online (const struct epstate *e, const struct id *endpoint);	/* as last read */
/* Why tasks wait for nodes there, in the endpoint's words; NULL: nothing is known. Borrowed until the next refresh. */
const char *epstate_waiting_reason (const struct epstate *e, const struct id *endpoint);
/* The rule itself: fields up, seen and locked of the hash. */
bool epstate_judge (const struct epstate *e, const struct redisReply *up, const struct redisReply *seen, const struct redisReply *locked);

#endif
