/* SPDX-License-Identifier: Apache-2.0 */
/* Files that tasks leave in a directory of the endpoint (shelf.h): copied there by threads, while their tasks stay with the worker that ran them. */
#ifndef MANAGER_KEEP_H
#define MANAGER_KEEP_H
#include <zmq.h>
#include "common/loop.h"
#include "proto/msg_result.h"

struct shelf_limits;
struct keep;
struct keep *keep_create (struct loop *l, const char *dir, const struct shelf_limits *limits, struct err *err);	/* dir: borrowed for life */
void keep_destroy (struct keep **k);		/* after all saves */

struct save;					/* of a task */
/* Its files are there: record is its RESULT, which says where; or that they cannot be, and is that of a failed task then. Called once, from the
 * loop, unless the save was dropped before. record: may be moved. */
typedef void keep_f (void *owner, zmq_msg_t *record, void *arg);
void keep_connect (struct keep *k, keep_f *done, void *arg);
/* record: a RESULT whose kept is not empty; moved. from, inner: as in shelf.h; copied, and borrowed for life. */
struct save *save_start (struct keep *k, zmq_msg_t *record, const char *from, const char *inner, void *owner);
void save_drop (struct save **s);

#endif
