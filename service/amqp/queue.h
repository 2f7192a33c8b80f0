/* SPDX-License-Identifier: Apache-2.0 */
/* What a queue holds: the ids of a group's ended tasks, in the order of their ends, from the last acknowledged one on.
 *
 * The stream in Redis is bounded. When ends were cut off that had not been acknowledged, all tasks of the group are looked at instead
 * and those that have ended are given out, which may repeat some; nobody waits for a result in vain. */
#ifndef SERVICE_AMQP_QUEUE_H
#define SERVICE_AMQP_QUEUE_H
#include "common/ids.h"
#include "service/app.h"
#include "service/ends.h"

/* A place in the stream: an entry's id, and how many entries there were up to it. */
struct queue_place { struct ends_at at; uint64_t count; };
struct queue_item { struct id task; struct queue_place place; };	/* place: to be acknowledged with it */

struct queue;
struct queue_ops {
	/* It has something, from the loop. */
	void (*on_items) (void *arg);
	/* Before the first items: it is there (err NULL, state as for group_check), or it cannot be. */
	void (*on_open) (bool known, bool forbidden, const struct err *err, void *arg);
};
struct queue *queue_create (struct app *a, const struct id *owner, const struct id *group, const struct queue_ops *ops, void *arg);
void queue_destroy (struct queue **q);
/* The next n at most; how many there are now. More are read when these are used up. */
size_t queue_take (struct queue *q, struct queue_item *out, size_t max);
/* Everything up to this place has been acknowledged. */
void queue_acked (struct queue *q, const struct queue_place *p);

#endif
