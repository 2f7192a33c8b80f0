/* SPDX-License-Identifier: Apache-2.0 */
/* Function bodies: fetched from Redis once, kept up to a bound, sent to the endpoint once per session. Which functions with a container the
 * endpoint was sent stands in Redis: it may keep replicas of them, so a change reaches it whatever forwarder hears of it. */
#ifndef FORWARDER_BODIES_H
#define FORWARDER_BODIES_H
#include <stdbool.h>
#include <zmq.h>
#include "common/rds.h"
#include "proto/link.h"

struct bodies;
/* found: the body can be sent now. why: set when it cannot be had (unknown, unreadable). */
typedef void bodies_f (const struct id *function, bool found, const char *why, void *arg);

struct bodies *bodies_create (struct rds *r, const struct id *endpoint, size_t max_bytes, bodies_f *cb, void *arg);
void bodies_destroy (struct bodies **b);
/* True when it is here; else it is being fetched and cb will come (never from inside this call). While Redis is away the
 * fetch is repeated by bodies_redis_up. */
bool bodies_have (struct bodies *b, const struct id *function);
/* Send FUNCTION to the peer unless it has it in this session. False: not here, as bodies_have. */
bool bodies_send (struct bodies *b, struct link_peer *peer, const struct id *function);
/* The peer says that it lost it: sent again, now or with the next bodies_send. Ids that are not known here are ignored: an endpoint gets
 * functions through tasks only, and a task that waits for one comes back. */
void bodies_missed (struct bodies *b, struct link_peer *peer, const struct id *function);
/* It was changed in Redis: if it is here it is fetched anew; if the endpoint was sent it, cb comes, and bodies_was_changed says so. */
void bodies_changed (struct bodies *b, const struct id *function);
bool bodies_was_changed (struct bodies *b, const struct id *function);	/* since it was sent: bodies_send it now */
void bodies_session_up (struct bodies *b);	/* the same for those that were changed while nobody could be told */
void bodies_redis_up (struct bodies *b);

#endif
