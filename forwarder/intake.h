/* SPDX-License-Identifier: Apache-2.0 */
/* The way in: reads the endpoint's streams (SPEC.md, section 8) through the consumer group.
 *
 * New entries are read while the owner wants more. Entries that are pending for a dead consumer, or that were read and lost with
 * a connection, are claimed: at start, after each reconnect, and each few seconds; those of the control stream ahead of each read of it.
 * Consumers that have nothing pending then are taken out of the group. Three connections: a blocking read holds one.
 *
 * Who changes a function adds that to the control stream before he says so; tasks submitted after that must not overtake it. So behind each
 * read of tasks follows, on the same connection and without waiting, one of what has come to the control stream; what was taken is
 * not settled, and not to be sent, before its reply. */
#ifndef FORWARDER_INTAKE_H
#define FORWARDER_INTAKE_H
#include <stdbool.h>
#include "common/rds.h"
#include "proto/layout.h"

struct intake;
struct intake_ops {
	/* How many more tasks may be taken in hand now. */
	size_t (*room) (void *arg);
	/* An entry; claimed: it may be in hand already, or may have been worked on by a dead forwarder. entry is its stream id. */
	void (*on_task) (const struct layout_queued *q, const char *entry, size_t entry_len, bool claimed, void *arg);
	/* An entry that cannot be read, and why. task: NULL when not even that. The owner finishes it. */
	void (*on_unreadable) (const struct id *task, const char *entry, size_t entry_len, const struct err *why, void *arg);
	/* A pending entry that is in hand needs no second read. entry is NUL-terminated. */
	bool (*in_hand) (const char *entry, size_t n, void *arg);
	/* task: zero unless op is "cancel", "follow" or "function". One may come again, also after newer ones. */
	void (*on_control) (const char *op, const struct id *task, void *arg);
	/* A read waited and brought nothing: every entry that was there when it began has been read. */
	void (*on_empty) (void *arg);
	/* What was taken is settled (again): changes of functions that came before it are known. */
	void (*on_settled) (void *arg);
	/* All that was pending has been claimed (once, after the first start). */
	void (*on_caught_up) (void *arg);
};
struct intake_opts {
	const char *redis_url, *redis_password_file;
	struct id endpoint;
	const char *consumer;		/* unique to this process */
	size_t read_count;
	const struct intake_ops *ops;
	void *arg;
};
struct intake *intake_create (struct loop *l, struct rds *commands, const struct intake_opts *o, struct err *err);
void intake_destroy (struct intake **i);
void intake_start (struct intake *i);		/* the lease is ours: claim, then read */
void intake_redis_up (struct intake *i);	/* the command connection is back */
void intake_stop (struct intake *i);		/* reads nothing more; may be NULL */
void intake_wake (struct intake *i);		/* room may have grown */
bool intake_settled (const struct intake *i);
/* The entry's task has its result stored: acknowledge and delete, in batches. */
void intake_finish (struct intake *i, const char *entry);

#endif
