/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks in hand: read from the queue, their result not yet stored. Whatever is here is also pending in the stream's consumer
 * group, so a forwarder that dies loses nothing.
 *
 *   HAND_CHECK     claimed from a dead forwarder: its state is looked up first
 *   HAND_READY     to be sent, in order, when the endpoint's window has room
 *   HAND_SENT      with the endpoint; with `cancelled`: CANCEL is, and neither result nor TASK_RETURN has come yet
 *   HAND_RETURNED  the endpoint gave it back; to be sent again a little later
 *   HAND_CANCELLED ended as cancelled; the endpoint may have it, and is told in the next session
 *   HAND_ENDING    its end is being stored; its frame is gone */
#ifndef FORWARDER_HAND_H
#define FORWARDER_HAND_H
#include <stdbool.h>
#include <sys/queue.h>
#include <zmq.h>
#include "common/ids.h"

enum hand_state { HAND_CHECK, HAND_READY, HAND_SENT, HAND_RETURNED, HAND_CANCELLED, HAND_ENDING, HAND_STATES };
#define HAND_ENTRY_MAX 44

struct hand_task {
	struct id task, function;
	char entry[HAND_ENTRY_MAX];	/* id of the stream entry */
	enum hand_state state;
	bool fetching;			/* its payload is being fetched */
	bool cancelled;			/* in HAND_SENT: it is not sent again */
	bool bulk;			/* its payload is in the bulk store, its frame has a reference */
	bool sent_before;		/* its frame was handed to ZeroMQ once: it must not be written to again */
	zmq_msg_t frame;		/* owned: the TASK record; empty while there is an origin */
	size_t bytes;			/* of the payload */
	void *origin;			/* owned (free): the queue record until the frame can be made, else NULL */
	size_t origin_bytes;
	TAILQ_ENTRY (hand_task) link;
};
TAILQ_HEAD (hand_list, hand_task);

struct hand;
struct hand *hand_create (void);
void hand_destroy (struct hand **h);
/* NULL when it is in hand already. The new task is in HAND_CHECK. */
struct hand_task *hand_add (struct hand *h, const struct id *task, const char *entry, size_t entry_len);
struct hand_task *hand_get (const struct hand *h, const struct id *task);
/* Is the stream entry ("ms-seq") in hand? */
bool hand_has_entry (const struct hand *h, const char *entry, size_t n);
void hand_remove (struct hand *h, struct hand_task *t);		/* frees t */
void hand_move (struct hand *h, struct hand_task *t, enum hand_state to);
struct hand_task *hand_first (const struct hand *h, enum hand_state s);
/* All of `from` (HAND_SENT, HAND_RETURNED) become ready, before those that are, in order; those with `cancelled`, HAND_CANCELLED. */
void hand_make_ready (struct hand *h, enum hand_state from);
size_t hand_count (const struct hand *h);
size_t hand_count_open (const struct hand *h);			/* those not in HAND_ENDING */
size_t hand_count_in (const struct hand *h, enum hand_state s);
size_t hand_sent_bytes (const struct hand *h);

#endif
