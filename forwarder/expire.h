/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that nobody fetches: those that waited longer than tasks are kept, and the queue of a deleted endpoint. */
#ifndef FORWARDER_EXPIRE_H
#define FORWARDER_EXPIRE_H
#include <stdbool.h>
#include "common/rds.h"
#include "proto/layout.h"

struct expire;
struct expire_ops {
	/* An entry, queued longer than retention_ms ago; it may be in hand. */
	void (*on_expired) (const struct layout_queued *q, const char *entry, size_t entry_len, void *arg);
	/* The same, and it cannot be read: as in intake.h. */
	void (*on_unreadable) (const struct id *task, const char *entry, size_t entry_len, const struct err *why, void *arg);
	/* The endpoint is deleted. Once. */
	void (*on_gone) (void *arg);
	/* After expire_deleted: is nothing in hand? */
	bool (*idle) (void *arg);
	/* After expire_deleted: the queue is empty. Once; or: */
	void (*on_drained) (void *arg);
	/* it is registered again. Once. */
	void (*on_back) (void *arg);
};

struct expire *expire_create (struct loop *l, struct rds *r, const struct id *endpoint, int64_t retention_ms,
			      const struct expire_ops *ops, void *arg);
void expire_destroy (struct expire **e);
void expire_start (struct expire *e);		/* the lease is ours */
void expire_look (struct expire *e);		/* is it deleted? Now, not only each minute */
void expire_deleted (struct expire *e);		/* watch for the end of the queue instead */

#endif
