/* SPDX-License-Identifier: Apache-2.0 */
/* Results that the manager has not acknowledged: kept, and sent again in a new session. */
#ifndef WORKER_RESULTS_H
#define WORKER_RESULTS_H
#include "proto/link.h"
#include "proto/msg_result.h"

struct bulk;
struct results;

struct results *results_create (const struct bulk *bulk);	/* borrowed for life; NULL = none */
void results_destroy (struct results **r);
/* Encode, keep, and send when peer is not NULL. A task that has a kept result keeps the first. */
void results_put (struct results *r, struct link_peer *peer, const struct msg_result *m, bool more);	/* more: others will follow at once */
void results_ack (struct results *r, const struct id *task);
bool results_resend (struct results *r, struct link_peer *peer, const struct id *task);	/* false: none kept */
void results_resend_all (struct results *r, struct link_peer *peer);
size_t results_count (const struct results *r);

#endif
