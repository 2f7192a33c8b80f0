/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of watched task groups as they are published: one Redis connection for all groups that somebody here listens to. */
#ifndef SERVICE_FEED_H
#define SERVICE_FEED_H
#include "common/rds.h"
#include "proto/layout.h"

struct feed;
struct feed_member;
struct feed_ops {
	/* Messages come from here on; also after the connection was lost and is back. Read the group's stream now: what you have not seen by then
	 * and what is not in it will come as messages. From the loop. */
	void (*on_standing) (void *arg);
	/* e: borrowed. Members may leave in it. */
	void (*on_ended) (const struct layout_ended *e, void *arg);
	/* The process stops: the member must leave. From the loop. */
	void (*on_close) (void *arg);
};

struct feed *feed_create (struct loop *l, const char *redis_url, const char *password_file, struct err *err);
void feed_destroy (struct feed **f);	/* after its members */
bool feed_up (const struct feed *f);
struct feed_member *feed_join (struct feed *f, const struct id *group, const struct feed_ops *ops, void *arg);
void feed_leave (struct feed_member **m);
void feed_close (struct feed *f);	/* on_close for all members, also those that join from now on */

#endif
