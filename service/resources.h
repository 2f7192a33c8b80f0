/* SPDX-License-Identifier: Apache-2.0 */
/* resource_specification of a submission: nodes that each of its tasks has for itself. The members and their rules are Parsl's, whose executors
 * Globus Compute hands them to. */
#ifndef SERVICE_RESOURCES_H
#define SERVICE_RESOURCES_H
#include "proto/msg_resources.h"
#include "service/json.h"

/* The body's member, as a record; nothing when it is not there, or empty. Problems go to k. Returns the number of nodes, 0 = none. */
unsigned resources_read (struct check *k, const json_t *body, struct buf *record);

#endif
