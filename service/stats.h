/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of requests: by route and class of status, and how long they took. All workers of a service count together. */
#ifndef SERVICE_STATS_H
#define SERVICE_STATS_H
#include <stdint.h>
#include "common/buf.h"
#include "service/route.h"

struct app;
struct loop;
struct stats;
struct stats *stats_create (const struct route *table);
void stats_destroy (struct stats **s);
/* route NULL: none matched. */
void stats_request (struct stats *s, const struct route *route, int status, int64_t took_ns);
void stats_tasks (struct stats *s, int64_t submitted, int64_t ended_in_wait);
/* From now on what can be seen of the process is looked at again and again. */
void stats_start (struct stats *s, struct loop *l, const struct app *a);
void stats_render (struct stats *s, struct buf *out);	/* of all workers of the service */

#endif
