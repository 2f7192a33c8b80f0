/* SPDX-License-Identifier: Apache-2.0 */
/* libevent, with one priority for everything.
 *
 * Deferred calls hang on one event of the loop, which loop_defer_schedule makes active: libevent appends it to the
 * queue of callbacks that are ready now and works that queue to its end before it polls again. So deferred calls come
 * behind the ready callbacks, before the next wait, and busier events cannot starve them, as a lower priority would
 * (libevent serves only the highest priority that has something, then polls). Calls scheduled by deferred calls run in
 * the same pass for DEFER_ROUNDS rounds, since a flush often feeds another flush; after that they yield through a
 * timer without delay, so that sockets and timers are not starved in turn. */
#include "common/loop.h"
#include "common/loop_internal.h"
#include "common/trim.h"
#include "common/xmem.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/timerfd.h>

enum { DEFER_ROUNDS = 4 };

TAILQ_HEAD (defer_list, loop_defer);

struct loop_defer {
	TAILQ_ENTRY (loop_defer) link;
	struct defer_list *list; /* the one it is in: loop.ready or loop.batch; NULL = not scheduled */
	struct loop *loop;
	loop_f *cb;
	void *arg;
};

struct loop_timer {
	struct event *ev;
	loop_f *cb;
	void *arg;
	struct timeval every;
	bool repeat;
};

struct signal_watch {
	SLIST_ENTRY (signal_watch) link;
	struct event *ev;
	loop_signal_f *cb;
	void *arg;
	int signo;
};

struct at_end {
	SLIST_ENTRY (at_end) link;
	loop_f *cb;
	void *arg;
};

struct loop {
	struct event_base *base;
	struct event *defer_now, *defer_soon, *stop;
	struct defer_list ready, batch; /* batch: the round that is running */
	bool running_defers;
	SLIST_HEAD (, signal_watch) signals;
	SLIST_HEAD (, at_end) at_end;
};

static const struct timeval no_delay = { 0, 0 };

/* In place of libc's. libevent ties a precise clock to a timerfd, and sets that each time before it waits: a system call, and work for the kernel's
 * timers, for parts of a millisecond that no timer of ours needs. Without one the time to wait is rounded up to milliseconds: none is early. */
int timerfd_create (clockid_t clock, int flags)
{
	(void) clock;
	(void) flags;
	errno = EINVAL;		/* what an old kernel says: libevent does without it, and is silent */
	return -1;
}

static void run_round (struct loop *l)
{
	struct loop_defer *d;

	TAILQ_CONCAT (&l->batch, &l->ready, link);
	TAILQ_FOREACH (d, &l->batch, link)
		d->list = &l->batch;
	while ((d = TAILQ_FIRST (&l->batch))) {
		TAILQ_REMOVE (&l->batch, d, link);
		d->list = NULL;
		d->cb (d->arg); /* may schedule or destroy any, also d */
	}
}

static void run_defers (evutil_socket_t fd, short what, void *arg)
{
	struct loop *l = arg;

	(void) fd;
	(void) what;
	event_del (l->defer_soon);
	l->running_defers = true;
	for (int i = 0; i < DEFER_ROUNDS && !TAILQ_EMPTY (&l->ready); i++)
		run_round (l);
	l->running_defers = false;
	if (!TAILQ_EMPTY (&l->ready))
		event_add (l->defer_soon, &no_delay);
}

static void run_stop (evutil_socket_t fd, short what, void *arg)
{
	struct loop *l = arg;

	run_defers (fd, what, l); /* what was gathered leaves before we do */
	event_base_loopbreak (l->base);
}

struct loop *loop_create (struct err *err)
{
	struct loop *l = xcalloc (1, sizeof (*l));
	struct event_config *cfg = event_config_new ();
	struct sigaction sa;

	TAILQ_INIT (&l->ready);
	TAILQ_INIT (&l->batch);
	if (cfg) {
		/* no cached time: a timer started after a long callback must not fire early */
		event_config_set_flag (cfg, EVENT_BASE_FLAG_PRECISE_TIMER | EVENT_BASE_FLAG_NOLOCK |
						    EVENT_BASE_FLAG_NO_CACHE_TIME);
		l->base = event_base_new_with_config (cfg);
		event_config_free (cfg);
	}
	if (!l->base || !(l->defer_now = event_new (l->base, -1, 0, run_defers, l)) ||
	    !(l->defer_soon = event_new (l->base, -1, 0, run_defers, l)) ||
	    !(l->stop = event_new (l->base, -1, 0, run_stop, l))) {
		err_errno (err, "creating the event loop");
		loop_destroy (&l);
		return NULL;
	}
	/* A peer that closes its end is an EPIPE for whoever writes, never the end of the process. */
	if (sigaction (SIGPIPE, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL)
		signal (SIGPIPE, SIG_IGN);
	/* a file size limit is a full disk, not our death */
	if (sigaction (SIGXFSZ, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL)
		signal (SIGXFSZ, SIG_IGN);
	return l;
}

void loop_destroy (struct loop **lp)
{
	struct loop *l = *lp;
	struct signal_watch *s;
	struct at_end *a;

	if (!l)
		return;
	while ((a = SLIST_FIRST (&l->at_end))) {
		SLIST_REMOVE_HEAD (&l->at_end, link);
		a->cb (a->arg);
		free (a);
	}
	while ((s = SLIST_FIRST (&l->signals))) {
		SLIST_REMOVE_HEAD (&l->signals, link);
		event_free (s->ev);
		free (s);
	}
	if (l->defer_now)
		event_free (l->defer_now);
	if (l->defer_soon)
		event_free (l->defer_soon);
	if (l->stop)
		event_free (l->stop);
	if (l->base)
		event_base_free (l->base);
	free (l);
	*lp = NULL;
}

void loop_on_destroy (struct loop *l, loop_f *cb, void *arg)
{
	struct at_end *a = xcalloc (1, sizeof (*a));

	a->cb = cb;
	a->arg = arg;
	SLIST_INSERT_HEAD (&l->at_end, a, link);
}

struct event_base *loop_base (struct loop *l)
{
	return l->base;
}

int loop_run (struct loop *l)
{
	struct trim *trim = trim_create (l, TRIM_EVERY_MS);
	int rc = event_base_loop (l->base, EVLOOP_NO_EXIT_ON_EMPTY) < 0 ? -1 : 0;

	trim_destroy (&trim);
	return rc;
}

/* An active event, not loopbreak alone: it also holds when the loop has not begun, and lets ready callbacks finish. */
void loop_stop (struct loop *l)
{
	event_active (l->stop, EV_TIMEOUT, 0);
}

static void on_signal (evutil_socket_t fd, short what, void *arg)
{
	struct signal_watch *s = arg;

	(void) fd;
	(void) what;
	s->cb (s->signo, s->arg);
}

int loop_signal (struct loop *l, int signo, loop_signal_f *cb, void *arg, struct err *err)
{
	struct signal_watch *s = xcalloc (1, sizeof (*s));

	s->cb = cb;
	s->arg = arg;
	s->signo = signo;
	if (!(s->ev = evsignal_new (l->base, signo, on_signal, s)) || event_add (s->ev, NULL) < 0) {
		err_errno (err, "watching signal %d", signo);
		if (s->ev)
			event_free (s->ev);
		free (s);
		return -1;
	}
	SLIST_INSERT_HEAD (&l->signals, s, link);
	return 0;
}

static void on_timer (evutil_socket_t fd, short what, void *arg)
{
	struct loop_timer *t = arg;

	(void) fd;
	(void) what;
	if (t->repeat)
		event_add (t->ev, &t->every);
	t->cb (t->arg); /* t may be gone after this */
}

struct loop_timer *loop_timer_create (struct loop *l, loop_f *cb, void *arg)
{
	struct loop_timer *t = xcalloc (1, sizeof (*t));

	t->cb = cb;
	t->arg = arg;
	if (!(t->ev = event_new (l->base, -1, 0, on_timer, t)))
		abort ();
	return t;
}

void loop_timer_start_us (struct loop_timer *t, int64_t after_us, bool repeat)
{
	if (after_us < 0)
		after_us = 0;
	t->every = (struct timeval){ .tv_sec = after_us / 1000000, .tv_usec = after_us % 1000000 };
	t->repeat = repeat;
	event_add (t->ev, &t->every);
}

void loop_timer_start (struct loop_timer *t, int64_t after_ms, bool repeat)
{
	if (after_ms > INT64_MAX / 1000)
		after_ms = INT64_MAX / 1000;
	loop_timer_start_us (t, after_ms * 1000, repeat);
}

void loop_timer_stop (struct loop_timer *t)
{
	t->repeat = false;
	event_del (t->ev);
}

bool loop_timer_pending (const struct loop_timer *t)
{
	return event_pending (t->ev, EV_TIMEOUT, NULL);
}

void loop_timer_destroy (struct loop_timer **t)
{
	if (!*t)
		return;
	event_free ((*t)->ev);
	free (*t);
	*t = NULL;
}

struct loop_defer *loop_defer_create (struct loop *l, loop_f *cb, void *arg)
{
	struct loop_defer *d = xcalloc (1, sizeof (*d));

	d->loop = l;
	d->cb = cb;
	d->arg = arg;
	return d;
}

void loop_defer_schedule (struct loop_defer *d)
{
	struct loop *l = d->loop;

	if (d->list)
		return;
	if (TAILQ_EMPTY (&l->ready) && !l->running_defers)
		event_active (l->defer_now, EV_TIMEOUT, 0);
	TAILQ_INSERT_TAIL (&l->ready, d, link);
	d->list = &l->ready;
}

void loop_defer_destroy (struct loop_defer **d)
{
	if (!*d)
		return;
	if ((*d)->list)
		TAILQ_REMOVE ((*d)->list, *d, link);
	free (*d);
	*d = NULL;
}
