/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/loop.h"

#include <event2/event.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static char trace[256];
static struct loop *loop;

static int setup (void **state)
{
	(void) state;
	trace[0] = '\0';
	loop = loop_create (NULL);
	return loop ? 0 : -1;
}

static int teardown (void **state)
{
	(void) state;
	loop_destroy (&loop);
	return 0;
}

static void note (void *arg)
{
	strncat (trace, arg, sizeof (trace) - strlen (trace) - 1);
}

static void stop (void *arg)
{
	loop_stop (arg);
}

static void test_timers (void **state)
{
	struct loop_timer *a = loop_timer_create (loop, note, "a"), *b = loop_timer_create (loop, note, "b"),
			  *end = loop_timer_create (loop, stop, loop), *c = loop_timer_create (loop, note, "c");
	int64_t t0 = clock_now_ns ();
	(void) state;
	loop_timer_start (a, 5, false);
	loop_timer_start (a, 500, false); /* replaces */
	loop_timer_start_us (b, 200000, true);
	loop_timer_start (c, 1, false);
	loop_timer_stop (c);
	loop_timer_start (end, 750, false);
	assert_true (loop_timer_pending (a));
	assert_false (loop_timer_pending (c));
	loop_run (loop);
	assert_true (clock_now_ns () - t0 >= 749500000);
	assert_memory_equal (trace, "bba", 3);
	assert_false (loop_timer_pending (a));
	loop_timer_destroy (&a);
	loop_timer_destroy (&b);
	loop_timer_destroy (&c);
	loop_timer_destroy (&end);
}

/* One would cost a system call for each time that the loop waits; which libevent is linked is not ours to choose. */
static void test_there_is_no_timerfd (void **state)
{
	char path[64], to[64];
	(void) state;
	for (int fd = 0; fd < 64; fd++) {
		ssize_t n;
		snprintf (path, sizeof (path), "/proc/self/fd/%d", fd);
		n = readlink (path, to, sizeof (to) - 1);
		to[n < 0 ? 0 : n] = 0;
		assert_null (strstr (to, "timerfd"));
	}
}

static struct loop_timer *suicidal;
static void destroy_self (void *arg)
{
	(void) arg;
	loop_timer_destroy (&suicidal);
	loop_stop (loop);
}

static void test_timer_destroys_itself (void **state)
{
	(void) state;
	suicidal = loop_timer_create (loop, destroy_self, NULL);
	loop_timer_start (suicidal, 0, true);
	loop_run (loop);
	assert_null (suicidal);
}

static void test_stop_before_run_holds (void **state)
{
	(void) state;
	loop_stop (loop);
	assert_int_equal (loop_run (loop), 0);
}

static void got_signal (int signo, void *arg)
{
	assert_int_equal (signo, SIGUSR1);
	loop_stop (arg);
}

static void test_signal (void **state)
{
	(void) state;
	assert_int_equal (loop_signal (loop, SIGUSR1, got_signal, loop, NULL), 0);
	raise (SIGUSR1);
	loop_run (loop);
}

static struct loop_defer *defer;
static struct event *first, *second;

static void ready (evutil_socket_t fd, short what, void *arg)
{
	char c;
	(void) what;
	assert_int_equal (read (fd, &c, 1), 1);
	note (arg);
	loop_defer_schedule (defer);
	loop_defer_schedule (defer);
	if (strlen (trace) >= 2)
		loop_stop (loop);
}

/* Two sockets are ready: both callbacks run, then the deferred call, once. */
static void test_defer_comes_after_ready_callbacks_and_once (void **state)
{
	int p[2], q[2];
	(void) state;
	assert_int_equal (pipe (p), 0);
	assert_int_equal (pipe (q), 0);
	defer = loop_defer_create (loop, note, "D");
	first = event_new (loop_base (loop), p[0], EV_READ, ready, "r");
	second = event_new (loop_base (loop), q[0], EV_READ, ready, "r");
	event_add (first, NULL);
	event_add (second, NULL);
	assert_int_equal (write (p[1], "x", 1) + write (q[1], "x", 1), 2);
	loop_run (loop);
	assert_string_equal (trace, "rrD");
	loop_defer_destroy (&defer);
	event_free (first);
	event_free (second);
	close (p[0]); close (p[1]); close (q[0]); close (q[1]);
}

/* A socket that is always readable must not starve deferred calls, nor a call that schedules itself a timer. */
static int busy, deferred;
static void always (evutil_socket_t fd, short what, void *arg)
{
	(void) fd;
	(void) what;
	(void) arg;
	if (++busy == 1)
		loop_defer_schedule (defer);
	if (busy > 100000)
		loop_stop (loop);
}

static void again (void *arg)
{
	(void) arg;
	deferred++;
	loop_defer_schedule (defer);
}

static void test_nobody_starves (void **state)
{
	struct loop_timer *end = loop_timer_create (loop, stop, loop);
	int p[2];
	(void) state;
	assert_int_equal (pipe (p), 0);
	assert_int_equal (write (p[1], "x", 1), 1);
	defer = loop_defer_create (loop, again, NULL);
	first = event_new (loop_base (loop), p[0], EV_READ | EV_PERSIST, always, NULL);
	event_add (first, NULL);
	loop_timer_start (end, 300, false);
	loop_run (loop);
	assert_in_range (busy, 10, 10000000);	/* the socket was served beside the self-scheduling call, */
	assert_true (deferred >= busy);		/* which ran in each turn, and the timer ended it */
	loop_defer_destroy (&defer);
	loop_timer_destroy (&end);
	event_free (first);
	close (p[0]); close (p[1]);
}

static struct loop_defer *victim, *killer;
static void kill_both (void *arg)
{
	(void) arg;
	loop_defer_destroy (&victim);
	loop_defer_destroy (&killer);
	loop_stop (loop);
}

static void test_defer_destroys_others_and_itself (void **state)
{
	(void) state;
	killer = loop_defer_create (loop, kill_both, NULL);
	victim = loop_defer_create (loop, note, "never");
	loop_defer_schedule (killer);
	loop_defer_schedule (victim);
	loop_run (loop);
	assert_string_equal (trace, "");
	defer = loop_defer_create (loop, note, "never");
	loop_defer_schedule (defer);
	loop_defer_destroy (&defer);
	loop_stop (loop);
	loop_run (loop);
	assert_string_equal (trace, "");
}

static struct loop_defer *chain[6];
static void next (void *arg)
{
	struct loop_defer **d = arg;
	note ("n");
	if (d + 1 < chain + 6)
		loop_defer_schedule (d[1]);
	else
		loop_stop (loop);
}

static void test_chain (void **state)
{
	(void) state;
	for (int i = 0; i < 6; i++)
		chain[i] = loop_defer_create (loop, next, &chain[i]);
	loop_defer_schedule (chain[0]);
	loop_run (loop);
	assert_string_equal (trace, "nnnnnn");
	for (int i = 0; i < 6; i++)
		loop_defer_destroy (&chain[i]);
}

int main (void)
{
#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T (test_timers), T (test_there_is_no_timerfd), T (test_timer_destroys_itself), T (test_stop_before_run_holds), T (test_signal),
		T (test_defer_comes_after_ready_callbacks_and_once), T (test_nobody_starves),
		T (test_defer_destroys_others_and_itself), T (test_chain),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
