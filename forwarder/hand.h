/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks in hand: read from the queue, their result not yet stored. Whatever is here is also pending in the stream's consumer
 * group, so a forwarder that dies loses nothing.
 *
 *   HAND_CHECK    claimed from a dead forwarder: its state is looked up first
 *   HAND_PAYLOAD  its payload is being fetched
 *   HAND_FUNCTION its function is being fetched
 *   HAND_READY    to be sent when the endpoint's window has room
 *   HAND_SENT     with the endpoint */
#ifndef FORWARDER_HAND_H
#define FORWARDER_HAND_H
#include <stdbool.h>
#include <sys/queue.h>
#include <zmq.h>
#include "common/ids.h"

enum hand_state { HAND_CHECK, HAND_PAYLOAD, HAND_FUNCTION, HAND_READY, HAND_SENT };
#define HAND_ENTRY_MAX 44

struct hand_task {
	struct id task, function;
	char entry[HAND_ENTRY_MAX];	/* id of the stream entry */
	enum hand_state state;
	bool cancelled;
	bool sent_before;		/* its frame was handed to ZeroMQ once: it must not be written to again */
	zmq_msg_t frame;		/* owned: the TASK record; empty in HAND_CHECK and HAND_PAYLOAD */
	size_t bytes;			/* of the payload */
	void *origin;			/* owned (free): the queue record while the payload is fetched, else NULL */
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
void hand_resend_all (struct hand *h);				/* all that are sent become ready, before the others, in order */
size_t hand_count (const struct hand *h);
size_t hand_count_in (const struct hand *h, enum hand_state s);
size_t hand_sent_bytes (const struct hand *h);

#endif
