/* SPDX-License-Identifier: Apache-2.0 */
/* TASK and RESULT records that carry bulk references, for sessions that know no store: the data is read and put in their place.
 * SPEC.md, sections 3.6 and 9. */
#ifndef PROTO_BULK_RECORD_H
#define PROTO_BULK_RECORD_H
#include <zmq.h>
#include "proto/bulk.h"
#include "proto/msg_result.h"

/* record: an accepted one; replaced when it carries a reference, else left alone. b NULL: there is no store here. -1 with a sentence
 * about "its data": the task cannot be run. */
int bulk_record_task (const struct bulk *b, zmq_msg_t *record, struct err *err);
/* The same. A result that cannot be read becomes a failure that says so: there is always something to send. */
void bulk_record_result (const struct bulk *b, zmq_msg_t *record);
/* The other way round: a large result's data goes to the store, a reference takes its place. Left alone when it is not large, or the
 * store does not take it. */
void bulk_record_store (const struct bulk *b, zmq_msg_t *record);
/* The failure that takes the place of a result whose data is missing; m keeps the rest. err must outlive m. */
void bulk_result_lost (struct msg_result *m, const struct err *err);

#endif
