/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks in hand: each is waiting (FIFO), held (something it needs is not there yet), joined (to an equal task, whose result it
 * waits for), waiting for nodes of its own, waiting in a lane (where nodes are made for images: for such), or out (with a manager).
 *
 * A task owns the frame it came in; handing it on shares that frame (zmq_msg_copy), so payloads are never copied on the way.
 * Ids are unique: a second task with the id of one in hand is refused by queue_add. */
#ifndef ENDPOINT_QUEUE_H
#define ENDPOINT_QUEUE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <zmq.h>
#include "common/ids.h"

enum queue_state { QUEUE_NONE, QUEUE_WAITING, QUEUE_HELD, QUEUE_JOINED, QUEUE_GANG, QUEUE_LANE, QUEUE_OUT };

struct queue_task {
	struct id id, function;
	zmq_msg_t frame;		/* owned */
	size_t bytes;			/* of the payload */
	uint32_t expected_ms;		/* 0 = unknown */
	uint8_t attempt;		/* as it stands in the frame */
	uint8_t losses;			/* managers it was lost with, here */
	uint8_t reported;		/* the highest state sent upward, see dispatch_tick.c */
	bool cancelled;			/* its owner was told so: it does not begin again */
	bool unreported;		/* in the list of those of which nothing was sent upward */
	enum queue_state state;
	int64_t came_ms, since_ms;	/* in hand, in this state; monotonic */
	int64_t deadline_ms;		/* held: when to give it back; 0 = never */
	void *owner;			/* out: who has it; borrowed, the dispatcher's */
	uint16_t nodes;			/* that it asks for; 0 = none, as nearly all */
	struct gang *gang;		/* of those that it has, or that are kept for it, see dispatch_gang.c; NULL = none */
	struct lane *lane;		/* of its function's image, see dispatch_lanes.c; NULL = none, or not known yet */
	struct queue_list *lane_list;	/* in which it waits there */
	struct flight *flight;		/* of equal tasks, see dispatch_memo.c; NULL = none */
	TAILQ_ENTRY (queue_task) follow;	/* in its flight */
	int64_t image_until_ms;		/* it is held until its image is known, so long at most; 0 = not yet */
	bool asked_memo;		/* it is known whether an earlier result answers it */
	struct queue_task *prev, *next;	/* in its list */
	struct queue_task *older, *newer;	/* unreported */
};

struct queue_list { struct queue_task *head, *tail; size_t n; struct queue_task *finger; };	/* finger: where one was put between others last */

struct queue;
struct queue *queue_create (void);
void queue_destroy (struct queue **q);

/* frame: an accepted TASK record, transferred. NULL when the id is in hand already; the frame is untouched then. */
struct queue_task *queue_add (struct queue *q, const struct id *task, const struct id *function, zmq_msg_t *frame,
			      size_t payload_bytes, int64_t now_ms);
struct queue_task *queue_find (const struct queue *q, const struct id *task);
void queue_prefetch (const struct queue *q, const struct id *task);	/* it will be asked for soon */
struct queue_task *queue_front (const struct queue *q);	/* the next waiting one, or NULL; borrowed */

/* Out: moves it to the end of `mine`, the owner's list. */
void queue_take (struct queue *q, struct queue_task *t, void *owner, struct queue_list *mine, int64_t now_ms);
/* Back from its owner (or from held) to the front or the end of the waiting ones. mine: the list it is in when out. */
void queue_put_back (struct queue *q, struct queue_task *t, struct queue_list *mine, bool front, int64_t now_ms);
void queue_hold (struct queue *q, struct queue_task *t, int64_t deadline_ms, int64_t now_ms);
/* Until it is put back or dropped. */
void queue_join (struct queue *q, struct queue_task *t, int64_t now_ms);
/* By the time it came; until it is taken, put back or dropped. */
void queue_wait_nodes (struct queue *q, struct queue_task *t, int64_t now_ms);
/* By the time it came, in a list of the caller's; until it is taken, put back or dropped. */
void queue_wait_in (struct queue *q, struct queue_task *t, struct queue_list *lane, int64_t now_ms);
void queue_release_held (struct queue *q, int64_t now_ms);	/* all held ones to the front, in their order */
/* Forget and free. mine: the owner's list when out. */
void queue_drop (struct queue *q, struct queue_task *t, struct queue_list *mine);

/* Tasks of which nobody was told yet, oldest first: most end before it is time to, so nothing ever looks at all of them. */
struct queue_task *queue_unreported (const struct queue *q);	/* the oldest, or NULL; borrowed */
void queue_reported (struct queue *q, struct queue_task *t, uint8_t state);	/* state: the highest that is known upward */

const struct queue_list *queue_waiting (const struct queue *q);
const struct queue_list *queue_held (const struct queue *q);
const struct queue_list *queue_joined (const struct queue *q);
const struct queue_list *queue_gangs (const struct queue *q);	/* that wait for nodes */
size_t queue_in_lanes (const struct queue *q);		/* of all of them */
size_t queue_size (const struct queue *q);		/* all in hand */
size_t queue_out (const struct queue *q);
size_t queue_bytes (const struct queue *q);		/* payloads of all in hand */
size_t queue_steps (const struct queue *q);		/* ever passed in looking for places between others; for tests */

#endif
