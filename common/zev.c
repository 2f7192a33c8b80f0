/* SPDX-License-Identifier: Apache-2.0 */
/* ZMQ_FD is a wake-up, not a readiness flag: it is edge-triggered, and any send or receive on the socket may consume
 * the edge. libevent 2.1 has no hook before or after its poll, so the sound form is:
 *
 * - `rd` is a plain level-triggered read event on the FD; reading ZMQ_EVENTS is what clears it.
 * - `kick` is a timer without delay; it stands for every moment at which an edge may have been consumed elsewhere:
 *   after creation, after each use of the socket outside zev_run (zev_touch), and when the budget is spent. A timer and
 *   not event_active, which would starve timers and other sockets until the backlog is gone.
 * - Both run zev_run, which asks ZMQ_EVENTS before each callback and ends only when that says nothing is left (the next
 *   edge wakes us), or with `kick` set. */
#include "common/zev.h"
#include "common/xmem.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <zmq.h>

enum { ZEV_BUDGET = 256 };

struct zev {
	void *sock;		/* borrowed until zev_destroy */
	struct event *rd, *kick;
	zev_f *cb;
	loop_f *burst_end;
	void *arg;
	int interest, budget;
	bool kicked;		/* kick is pending */
	bool running;		/* inside zev_run */
	bool enough;		/* zev_end_burst was called in this run */
	bool stopped, failed, dead;
};

static const struct timeval soon = { 0, 0 };

static int zev_events (void *sock)
{
	int ev = 0;
	size_t n = sizeof (ev);

	while (zmq_getsockopt (sock, ZMQ_EVENTS, &ev, &n) < 0)
		if (errno != EINTR)
			return ZMQ_POLLERR;
	return ev;
}

static void zev_free (struct zev *z)
{
	if (z->rd)
		event_free (z->rd);
	if (z->kick)
		event_free (z->kick);
	free (z);
}

static void kick_add (struct zev *z)
{
	if (z->kicked)
		return;
	z->kicked = true;
	event_add (z->kick, &soon);
}

static void zev_run (struct zev *z)
{
	int n, ev = 0;

	z->running = true;
	z->enough = false;
	for (n = 0; n < z->budget && !z->enough && !z->dead && !z->stopped; n++) {
		ev = zev_events (z->sock) & (z->interest | ZMQ_POLLERR);
		if (!ev)
			break; /* drained: the next edge wakes us */
		if (ev & ZMQ_POLLERR) {
			zev_stop (z); /* report once; a dead socket must not spin */
			z->failed = true;
		}
		z->cb (z, ev, z->arg);
	}
	if (n > 0 && !z->dead && !z->failed && z->burst_end) {
		z->burst_end (z->arg);
		/* it has likely used the socket */
		if (!z->dead && !z->stopped)
			ev = zev_events (z->sock) & (z->interest | ZMQ_POLLERR);
	}
	if (ev && !z->dead && !z->stopped)
		kick_add (z);
	z->running = false;
	if (z->dead)
		zev_free (z); /* a callback destroyed us */
}

static void on_edge (evutil_socket_t fd, short what, void *arg)
{
	(void) fd;
	(void) what;
	zev_run (arg);
}

static void on_kick (evutil_socket_t fd, short what, void *arg)
{
	struct zev *z = arg;

	(void) fd;
	(void) what;
	z->kicked = false;
	zev_run (z);
}

struct zev *zev_create (struct loop *l, void *zsock, int interest, zev_f *cb, void *arg, struct err *err)
{
	struct zev *z = xcalloc (1, sizeof (*z));
	int fd = -1;
	size_t n = sizeof (fd);

	z->sock = zsock;
	z->interest = interest;
	z->cb = cb;
	z->arg = arg;
	z->budget = ZEV_BUDGET;
	if (zmq_getsockopt (zsock, ZMQ_FD, &fd, &n) < 0) {
		err_set (err, ERR_INTERNAL, FAULT_SELF, "asking a socket for its descriptor: %s", zmq_strerror (errno));
		goto fail;
	}
	z->rd = event_new (loop_base (l), fd, EV_READ | EV_PERSIST, on_edge, z);
	z->kick = event_new (loop_base (l), -1, 0, on_kick, z);
	if (!z->rd || !z->kick || event_add (z->rd, NULL) < 0) {
		err_errno (err, "adding a socket to the loop");
		goto fail;
	}
	kick_add (z);
	return z;
fail:
	zev_free (z);
	return NULL;
}

void zev_destroy (struct zev **zp)
{
	struct zev *z = *zp;

	if (!z)
		return;
	*zp = NULL;
	event_del (z->rd);
	event_del (z->kick);
	if (z->running)
		z->dead = true;
	else
		zev_free (z);
}

void zev_touch (struct zev *z)
{
	/* zev_run asks ZMQ_EVENTS again after each callback anyway */
	if (!z->running && !z->stopped)
		kick_add (z);
}

void zev_set_interest (struct zev *z, int interest)
{
	z->interest = interest;
	zev_touch (z);
}

void zev_stop (struct zev *z)
{
	z->stopped = true;
	/* nobody reads ZMQ_EVENTS now, so the descriptor would stay readable and spin */
	event_del (z->rd);
	event_del (z->kick);
	z->kicked = false;
}

void zev_start (struct zev *z)
{
	if (!z->stopped || z->failed || z->dead)
		return;
	z->stopped = false;
	event_add (z->rd, NULL);
	kick_add (z); /* also from inside zev_run, which may have left its loop already */
}

void zev_on_burst_end (struct zev *z, loop_f *cb)
{
	z->burst_end = cb;
}

void zev_end_burst (struct zev *z)
{
	z->enough = true;
}

void zev_set_budget (struct zev *z, int messages)
{
	z->budget = messages > 0 ? messages : 1;
}
