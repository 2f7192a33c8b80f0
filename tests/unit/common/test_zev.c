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
#include "common/zev.h"

#include <pthread.h>
#include <zmq.h>

enum { MESSAGES = 400, DEADLINE_MS = 60000 };

static void *ctx, *sock, *peer;
static struct loop *loop;
static struct zev *zev;
static struct loop_timer *tick, *deadline;
static int sent, received, bursts, batch_at_burst, errors;
static bool late;

static void too_late (void *arg)
{
	(void) arg;
	late = true;
	loop_stop (loop);
}

static void stop_loop (void *arg)
{
	(void) arg;
	loop_stop (loop);
}

static int setup (void **state)
{
	(void) state;
	sent = received = bursts = batch_at_burst = errors = 0;
	late = false;
	ctx = zmq_ctx_new ();
	loop = loop_create (NULL);
	deadline = loop_timer_create (loop, too_late, NULL);
	loop_timer_start (deadline, DEADLINE_MS, false);
	return 0;
}

static int teardown (void **state)
{
	(void) state;
	zev_destroy (&zev);
	loop_timer_destroy (&tick);
	loop_timer_destroy (&deadline);
	loop_destroy (&loop);
	if (sock)
		zmq_close (sock);
	if (peer)
		zmq_close (peer);
	sock = peer = NULL; /* also after a failure: zmq_ctx_term waits for all sockets */
	if (ctx)
		zmq_ctx_term (ctx);
	return 0;
}

static void *echo (void *arg)
{
	void *s = zmq_socket (ctx, ZMQ_PAIR);
	char b[8];
	int n;
	(void) arg;
	zmq_bind (s, "inproc://echo");
	do {
		n = zmq_recv (s, b, sizeof (b), 0);
		if (n > 0)
			zmq_send (s, b, (size_t) n, 0);
	} while (n > 0);
	zmq_close (s);
	return NULL;
}

static void drain (struct zev *z, int events, void *arg)
{
	char b[8];
	(void) z;
	(void) arg;
	if (events & ZMQ_POLLERR)
		return;
	if (zmq_recv (sock, b, sizeof (b), ZMQ_DONTWAIT) >= 0 && ++received == MESSAGES)
		loop_stop (loop);
}

/* The timer sends, and each send may eat the edge of a reply that has just come. */
static void send_some (void *arg)
{
	(void) arg;
	if (sent == MESSAGES) {
		loop_timer_stop (tick);
		return;
	}
	for (int i = 0; i < 4; i++)
		if (zmq_send (sock, "x", 1, ZMQ_DONTWAIT) == 1)
			sent++;
	/* The echo is given the time to answer before one more use of the socket: without zev_touch that use consumes
	 * the last edge for certain, and nothing ever wakes the loop for these replies. */
	zmq_pollitem_t p = { .socket = sock, .events = ZMQ_POLLIN };
	zmq_poll (&p, 1, 1000);
	zev_touch (zev);
}

static void test_sends_outside_do_not_lose_replies (void **state)
{
	pthread_t t;
	(void) state;
	pthread_create (&t, NULL, echo, NULL);
	sock = zmq_socket (ctx, ZMQ_PAIR);
	assert_int_equal (zmq_connect (sock, "inproc://echo"), 0);
	zev = zev_create (loop, sock, ZMQ_POLLIN, drain, NULL, NULL);
	assert_non_null (zev);
	tick = loop_timer_create (loop, send_some, NULL);
	loop_timer_start_us (tick, 200, true);
	loop_run (loop);
	zmq_send (sock, "", 0, 0);
	pthread_join (t, NULL);
	assert_int_equal (sent, MESSAGES);
	assert_int_equal (received, MESSAGES);
	assert_false (late);
}

/* As above for what came before the bridge was made, or before interest was set. */
static void *push_to (const char *where, int n)
{
	void *s = zmq_socket (ctx, ZMQ_PAIR);
	assert_int_equal (zmq_connect (s, where), 0);
	for (int i = 0; i < n; i++)
		assert_int_equal (zmq_send (s, "x", 1, 0), 1);
	return s;
}

static void consume_edge (void)
{
	int ev;
	size_t n = sizeof (ev);
	assert_int_equal (zmq_getsockopt (sock, ZMQ_EVENTS, &ev, &n), 0);
}

static void test_creation_and_interest_touch (void **state)
{
	(void) state;
	sock = zmq_socket (ctx, ZMQ_PAIR);
	zmq_bind (sock, "inproc://x");
	peer = push_to ("inproc://x", MESSAGES);
	consume_edge ();
	zev = zev_create (loop, sock, 0, drain, NULL, NULL);
	tick = loop_timer_create (loop, stop_loop, NULL);
	loop_timer_start (tick, 10, false);
	loop_run (loop);
	assert_int_equal (received, 0);
	zev_set_interest (zev, ZMQ_POLLIN);
	loop_run (loop);
	assert_int_equal (received, MESSAGES);
}

static void burst_end (void *arg)
{
	(void) arg;
	bursts++;
	assert_true (received - batch_at_burst <= 10);
	assert_true (received > batch_at_burst);
	batch_at_burst = received;
}

static int turns;
static void count_turn (void *arg)
{
	(void) arg;
	turns++;
}

/* The budget ends a burst, others run in between, nothing is lost. */
static void test_budget_and_burst_end (void **state)
{
	(void) state;
	turns = 0;
	sock = zmq_socket (ctx, ZMQ_PAIR);
	zmq_bind (sock, "inproc://x");
	peer = push_to ("inproc://x", MESSAGES);
	zev = zev_create (loop, sock, ZMQ_POLLIN, drain, NULL, NULL);
	zev_set_budget (zev, 10);
	zev_on_burst_end (zev, burst_end);
	tick = loop_timer_create (loop, count_turn, NULL);
	loop_timer_start (tick, 0, true);
	loop_run (loop);
	assert_int_equal (received, MESSAGES);
	assert_in_range (bursts, MESSAGES / 10, MESSAGES);
	assert_in_range (turns, 10, 100000);
}

static void drain_and_end (struct zev *z, int events, void *arg)
{
	drain (z, events, arg);
	if (received % 10 == 0)
		zev_end_burst (z);
}

/* The callback may end a burst before the budget is spent; the rest is not forgotten. */
static void test_callback_ends_the_burst (void **state)
{
	(void) state;
	sock = zmq_socket (ctx, ZMQ_PAIR);
	zmq_bind (sock, "inproc://x");
	peer = push_to ("inproc://x", MESSAGES);
	zev = zev_create (loop, sock, ZMQ_POLLIN, drain_and_end, NULL, NULL);
	zev_on_burst_end (zev, burst_end);
	loop_run (loop);
	assert_int_equal (received, MESSAGES);
	assert_in_range (bursts, MESSAGES / 10, MESSAGES);
}

static void drain_and_pause (struct zev *z, int events, void *arg)
{
	drain (z, events, arg);
	if (received == 7)
		zev_stop (z);
}

static void test_stop_and_start (void **state)
{
	(void) state;
	sock = zmq_socket (ctx, ZMQ_PAIR);
	zmq_bind (sock, "inproc://x");
	peer = push_to ("inproc://x", MESSAGES);
	zev = zev_create (loop, sock, ZMQ_POLLIN, drain_and_pause, NULL, NULL);
	tick = loop_timer_create (loop, stop_loop, NULL);
	loop_timer_start (tick, 20, false);
	loop_run (loop);
	assert_int_equal (received, 7);
	zev_touch (zev);
	zev_start (zev);
	loop_run (loop);
	assert_int_equal (received, MESSAGES);
}

static void drain_and_destroy (struct zev *z, int events, void *arg)
{
	drain (z, events, arg);
	if (received == 3) {
		zev_destroy (&zev);
		loop_stop (loop);
	}
}

static void test_callback_destroys (void **state)
{
	(void) state;
	sock = zmq_socket (ctx, ZMQ_PAIR);
	zmq_bind (sock, "inproc://x");
	peer = push_to ("inproc://x", 10);
	zev = zev_create (loop, sock, ZMQ_POLLIN, drain_and_destroy, NULL, NULL);
	zev_on_burst_end (zev, burst_end);
	loop_run (loop);
	assert_int_equal (received, 3);
	assert_int_equal (bursts, 0);
}

static void count_errors (struct zev *z, int events, void *arg)
{
	(void) arg;
	if (events & ZMQ_POLLERR)
		errors++;
	zev_start (z); /* does not revive a dead socket */
}

static void test_dead_socket_reports_once (void **state)
{
	(void) state;
	sock = zmq_socket (ctx, ZMQ_PAIR);
	zev = zev_create (loop, sock, ZMQ_POLLIN, count_errors, NULL, NULL);
	zmq_ctx_shutdown (ctx);
	zev_touch (zev);
	tick = loop_timer_create (loop, stop_loop, NULL);
	loop_timer_start (tick, 30, false);
	loop_run (loop);
	assert_int_equal (errors, 1);
}

static void test_no_socket (void **state)
{
	struct err e;
	(void) state;
	assert_null (zev_create (loop, NULL, ZMQ_POLLIN, drain, NULL, &e));
	assert_int_equal (e.code, ERR_INTERNAL);
}

int main (void)
{
#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T (test_sends_outside_do_not_lose_replies), T (test_creation_and_interest_touch),
		T (test_budget_and_burst_end), T (test_callback_ends_the_burst), T (test_stop_and_start), T (test_callback_destroys),
		T (test_dead_socket_reports_once), T (test_no_socket),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
