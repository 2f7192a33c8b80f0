/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the forwarder of one endpoint share; nobody else includes it.
 *
 *   forward_send.c   tasks in hand, towards the endpoint: payloads, functions, window, order
 *   forward_queue.c  from Redis: what is read, cancelled, expired; the endpoint's deletion
 *   forward.c        from the endpoint: sessions, results; life */
#ifndef FORWARDER_FORWARD_INTERNAL_H
#define FORWARDER_FORWARD_INTERNAL_H
#include "forwarder/bodies.h"
#include "forwarder/cancels.h"
#include "forwarder/config.h"
#include "forwarder/done.h"
#include "forwarder/expire.h"
#include "forwarder/hand.h"
#include "forwarder/intake.h"
#include "forwarder/presence.h"
#include "proto/bulk_record.h"
#include "proto/link.h"

#define RETURNED_MIN_MS 100	/* pause before a task that was given back is sent again; doubles until something ends */
#define RETURNED_MAX_MS 5000

struct forward {
	const struct config *conf;
	struct id endpoint;
	char ep[ID_TEXT], hash_key[LAYOUT_KEY_MAX];
	struct loop *loop;
	void *zctx;
	char public_key[41], secret_key[41];
	char allowed_key[41];
	char cut[HAND_ENTRY_MAX];	/* queue entries up to this one are of an endpoint that was deleted; empty: none is */
	struct rds *r;
	struct bulk *bulk;		/* NULL: no store */
	struct intake *intake;
	struct hand *hand;
	struct bodies *bodies;
	struct done *done;
	struct presence *presence;
	struct link *link;
	struct link_peer *peer;		/* the endpoint's session, or NULL */
	int64_t gone_ms;		/* without one: since when, real time; 0 = not known yet */
	struct cancels *cancels;
	struct expire *expire;
	struct loop_timer *later;	/* what waits a little: tasks that were given back, what Redis refused */
	int64_t returned_ms;
	struct loop_defer *pump;
	uint32_t window_tasks;
	uint64_t window_bytes;
	bool deleted;			/* it ends when the queue is empty, or when the endpoint is registered again: the next process serves that */
	bool voids;			/* the stream may begin with void entries: they are read without an endpoint */
	bool within;			/* it listens in the store */
	bool stopping, paused;
	int64_t locked_until_ms;	/* real time: nobody is let in before */
	int status;
};

/* A command about a task, which may be gone when the reply comes: the argument of the callback, and what that begins with. */
void *forward_about_task (struct forward *f, const struct hand_task *t);
struct hand_task *forward_about_taken (void *arg, struct forward **f);		/* frees arg; NULL: gone */

/* forward.c */
void forward_listen_within (struct forward *f);		/* for an endpoint on this host that sees our store, once we have the lease; again is fine */

/* forward_send.c */
void forward_pump (void *forward);	/* send what may be sent, then read on; through the deferred f->pump */
void forward_try_later (struct forward *f, int64_t ms);
/* These: 0, or -1: no memory. */
int forward_build_frame (struct hand_task *t, const struct layout_queued *q, const char *payload, size_t n);
int forward_build_bulk (struct hand_task *t, const struct layout_queued *q);	/* with a reference to the payload's file */
int forward_keep_origin (struct hand_task *t, const struct layout_queued *q);
void forward_put_back (struct forward *f, struct hand_task *t);	/* frees t */
void forward_fail_task (struct forward *f, struct hand_task *t, enum err_code code, enum err_fault fault, const char *why);
void forward_on_body (const struct id *function, bool found, const char *why, void *forward);

/* forward_queue.c */
extern const struct intake_ops forward_intake_ops;
extern const struct expire_ops forward_expire_ops;
void forward_drop_task (struct forward *f, struct hand_task *t);	/* frees t; its entry goes */
void forward_say_cancel (struct forward *f, struct hand_task *t);	/* to an endpoint that is connected; may free t */
void forward_load_cancels (struct forward *f);
void forward_load_endpoint (struct forward *f);			/* its key, its lock, what is void */
void forward_load_gone (struct forward *f);			/* since when it is gone, of the forwarders before this one */
bool forward_locked (const struct forward *f, struct err *why);

#endif
