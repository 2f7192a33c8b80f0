/* SPDX-License-Identifier: Apache-2.0 */
/* Removes files of the bulk store that no task needs: what a crash left, results whose time in Redis is over, results of executions
 * that did not win. A bounded step at a time; files younger than the grace are left alone. One worker of one service does it. */
#ifndef SERVICE_SWEEP_H
#define SERVICE_SWEEP_H
#include "common/loop.h"
#include "common/rds.h"

struct bulk;
struct sweep;
/* All borrowed for life. */
struct sweep *sweep_create (struct loop *l, struct rds *r, struct bulk *b, int64_t grace_ms);
void sweep_stop (struct sweep *s);		/* asks Redis no more; may be NULL */
void sweep_destroy (struct sweep **s);		/* after the connection, which answers what is in flight */

#endif
