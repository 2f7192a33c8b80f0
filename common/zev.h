/* SPDX-License-Identifier: Apache-2.0 */
/* The only way of a ZeroMQ socket into the loop. ZMQ_FD is an edge-triggered wake-up, not a readiness flag:
 * see zev.c for the form that is sound with libevent 2.1.
 *
 * Rules for users: the callback receives or sends one whole message with ZMQ_DONTWAIT; call zev_touch after EVERY
 * send, receive or option call outside the callback; ask for ZMQ_POLLOUT only while your own queue is not empty;
 * zev_destroy before zmq_close. The callback may destroy the zev. */
#ifndef COMMON_ZEV_H
#define COMMON_ZEV_H
#include "common/loop.h"

struct zev;
/* events: ZMQ_POLLIN, ZMQ_POLLOUT; ZMQ_POLLERR once when the socket died (the zev is then stopped). */
typedef void zev_f (struct zev *z, int events, void *arg);

struct zev *zev_create (struct loop *l, void *zsock, int interest, zev_f *cb, void *arg, struct err *err);
void zev_destroy (struct zev **z);
void zev_touch (struct zev *z);
void zev_set_interest (struct zev *z, int interest);	/* touches */
void zev_stop (struct zev *z);				/* no callbacks until zev_start: back-pressure */
void zev_start (struct zev *z);
/* Called after a burst: the socket is drained, or the budget is spent. Where a hop flushes its batches. NULL = none. */
void zev_on_burst_end (struct zev *z, loop_f *cb);
/* From the callback, whose messages differ in size: this was enough work for one burst. The rest comes in the next turn of the loop. */
void zev_end_burst (struct zev *z);
void zev_set_budget (struct zev *z, int messages);	/* per wake-up; default 256 */

#endif
