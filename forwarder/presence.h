/* SPDX-License-Identifier: Apache-2.0 */
/* What others know of this forwarder: its lease on the endpoint, and the hash weft:ep:{id} (SPEC.md, section 8): address,
 * key, whether the endpoint is connected, when it was last heard, what it can do. */
#ifndef FORWARDER_PRESENCE_H
#define FORWARDER_PRESENCE_H
#include <stdbool.h>
#include "common/rds.h"
#include "proto/msg_capacity.h"
#include "proto/msg_session.h"

struct presence;
struct presence_ops {
	void (*on_lease) (void *arg);			/* it is ours; called once */
	void (*on_lease_lost) (const char *why, void *arg);	/* another one has it: stop at once */
};
struct presence_opts {
	struct id endpoint;
	const char *lease_owner;	/* copied */
	int64_t lease_ms;		/* of the key in Redis; renewed each fourth of it */
	int64_t refresh_ms;		/* of the hash */
	const struct presence_ops *ops;
	void *arg;
};
struct presence *presence_create (struct loop *l, struct rds *r, const struct presence_opts *o);
void presence_destroy (struct presence **p);
bool presence_sure (const struct presence *p);	/* the lease is ours, and has not run out since we heard that */
void presence_redis_up (struct presence *p);
void presence_listening (struct presence *p, const char *address, const char *public_key);
void presence_connected (struct presence *p, const struct msg_hello *h, uint64_t epoch);
void presence_disconnected (struct presence *p);
void presence_capacity (struct presence *p, const struct msg_capacity *c);
void presence_draining (struct presence *p, bool draining);	/* it was told to take nothing; false in a new session */
void presence_metrics (struct presence *p, struct wire_str json);	/* as the endpoint says it; readers check it */
/* Not reachable any more, and the lease is free for others. done runs when Redis has answered. */
void presence_leave (struct presence *p, rds_f *done, void *arg);

#endif
