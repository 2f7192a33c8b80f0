/* SPDX-License-Identifier: Apache-2.0 */
/* ROUTER and DEALER on Unix sockets: with each other, with libzmq, and with raw sockets that read slowly, die, lie, or say nothing. Raw peers are
 * played on the same loop, by the timer that looks whether a test has what it waits for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/buf.h"
#include "common/clock.h"
#include "proto/ipc.h"

enum { DEADLINE_MS = 120000, QUIET_MS = 100, MAX_FRAME = 16 << 20, MAX_MESSAGE = 20 << 20, MAX_FRAMES = 4097, MIB = 1 << 20 };

static struct loop *loop;
static char dir[64], path[96];

/* ---- our side ------------------------------------------------------------------------------------------------- */

enum when { NEVER, ON_OPEN, ON_MESSAGE, ON_BURST, ON_WRITABLE, ON_END };

struct side {
	struct ipc *s;
	int opens, messages, bursts, writables, ends, cuts;
	uint32_t rid;			/* of the last message */
	size_t frames, bytes;
	struct buf log;			/* all frames: "text|" , and "\n" after a message */
	int pause_at;			/* message after which it pauses itself */
	enum when close_in;
	void (*also) (struct side *x);	/* in on_writable */
	size_t sent;
	unsigned slow_us;		/* that a message takes */
};

static void called (struct side *x, enum when w)
{
	if (x->close_in == w)
		ipc_close (&x->s);
}

static void on_open (void *arg)
{
	struct side *x = arg;
	x->opens++;
	called (x, ON_OPEN);
}

static void on_message (uint32_t rid, zmq_msg_t *frames, size_t n, bool cut, void *arg)
{
	struct side *x = arg;
	assert_true (n > 0);
	x->messages++;
	x->rid = rid;
	x->cuts += cut;
	x->frames = n;
	x->bytes = 0;
	for (size_t i = 0; i < n; i++) {
		x->bytes += zmq_msg_size (&frames[i]);
		if (zmq_msg_size (&frames[i]) < 100) {
			buf_add (&x->log, zmq_msg_data (&frames[i]), zmq_msg_size (&frames[i]));
			buf_char (&x->log, '|');
		}
	}
	buf_char (&x->log, '\n');
	if (x->messages == x->pause_at)
		ipc_pause (x->s, true);
	if (x->slow_us)
		usleep (x->slow_us);
	called (x, ON_MESSAGE);
	if (!x->s)			/* its frames are still ours */
		for (size_t i = 0; i < n; i++)
			memset (zmq_msg_data (&frames[i]), 'x', zmq_msg_size (&frames[i]));
}

static void on_burst_end (void *arg)
{
	struct side *x = arg;
	x->bursts++;
	called (x, ON_BURST);
}

static void on_writable (void *arg)
{
	struct side *x = arg;
	x->writables++;
	called (x, ON_WRITABLE);
	if (x->s && x->also)
		x->also (x);
}

static void on_end (void *arg)
{
	struct side *x = arg;
	x->ends++;
	called (x, ON_END);
}

static const struct ipc_ops ops = { on_open, on_message, on_burst_end, on_writable, on_end };

static struct ipc_opts opts_of (struct side *x)
{
	return (struct ipc_opts) { .ops = &ops, .arg = x, .max_frame = MAX_FRAME, .max_message = MAX_MESSAGE, .max_frames = MAX_FRAMES };
}

static void listen_with (struct side *x, const struct ipc_opts *o)
{
	struct err err = { 0 };
	if (!(x->s = ipc_listen (loop, (const char *const[]) { path, NULL }, o, &err)))
		fail_msg ("%s", err.text);
}

static void listen_at (struct side *x)
{
	struct ipc_opts o = opts_of (x);
	listen_with (x, &o);
}

static void dial (struct side *x)
{
	struct ipc_opts o = opts_of (x);
	struct err err = { 0 };
	if (!(x->s = ipc_dial (loop, path, &o, &err)))
		fail_msg ("%s", err.text);
}

static void done (struct side *x)
{
	int told = x->opens + x->messages + x->bursts + x->writables + x->ends;
	ipc_close (&x->s);		/* tells nothing */
	assert_int_equal (x->opens + x->messages + x->bursts + x->writables + x->ends, told);
	buf_fini (&x->log);
}

static void put_text (struct side *x, const char *text, bool more)
{
	ipc_bytes (x->s, text, strlen (text), more);
}

/* One frame of text; whether it was taken. */
static bool say (struct side *x, uint32_t rid, const char *text)
{
	if (ipc_begin (x->s, rid) < 0)
		return false;
	put_text (x, text, false);
	ipc_flush (x->s);
	return true;
}

static void big_frame (struct side *x, size_t n, int fill, bool more)
{
	zmq_msg_t m;
	assert_int_equal (zmq_msg_init_size (&m, n), 0);
	memset (zmq_msg_data (&m), fill, n);
	ipc_frame (x->s, &m, more);
	assert_int_equal (zmq_msg_size (&m), 0);
	zmq_msg_close (&m);
}

static void heard (const struct side *x, const char *want)
{
	if (x->log.len != strlen (want) || memcmp (x->log.data, want, x->log.len) != 0)
		fail_msg ("heard %zu bytes: %.*s", x->log.len, (int) (x->log.len < 300 ? x->log.len : 300), (char *) x->log.data);
}

/* ---- the loop until ... --------------------------------------------------------------------------------------- */

struct wait { bool (*cond) (void *); void *arg; int64_t end; bool met; long looks; };

static void look (void *arg)
{
	struct wait *w = arg;
	w->looks++;
	if ((w->met = w->cond (w->arg)) || clock_now_ms () > w->end)
		loop_stop (loop);
}

static bool run (struct wait *w)
{
	struct loop_timer *t = loop_timer_create (loop, look, w);
	loop_timer_start (t, 1, true);
	loop_run (loop);
	loop_timer_destroy (&t);
	return w->met;
}

static bool run_for (bool (*cond) (void *), void *arg, int64_t ms)
{
	return run (&(struct wait) { cond, arg, clock_now_ms () + ms, false, 0 });
}

static void until (bool (*cond) (void *), void *arg) { assert_true (run_for (cond, arg, DEADLINE_MS)); }
static bool never (void *arg) { (void) arg; return false; }
static void quiet (void) { run_for (never, NULL, QUIET_MS); }
static bool opened (void *arg) { return ((struct side *) arg)->opens > 0; }
static bool ended (void *arg) { return ((struct side *) arg)->ends > 0; }
static bool closed (void *arg) { return ((struct side *) arg)->s == NULL; }

struct count { const struct side *x; int n; };
static bool counted (void *arg) { const struct count *c = arg; return c->x->messages >= c->n; }
static void until_messages (const struct side *x, int n) { until (counted, &(struct count) { x, n }); }

/* Nothing happens for a while, and the loop sleeps between two looks. */
static void idle_without_spinning (void)
{
	struct rusage a, b;
	struct wait w = { never, NULL, clock_now_ms () + 400, false, 0 };
	getrusage (RUSAGE_SELF, &a);
	run (&w);
	getrusage (RUSAGE_SELF, &b);
	if ((b.ru_nvcsw - a.ru_nvcsw) * 4 < w.looks)
		fail_msg ("slept %ld times in %ld looks", b.ru_nvcsw - a.ru_nvcsw, w.looks);
}

/* ---- raw peers ------------------------------------------------------------------------------------------------ */

#define ZEROS_16 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define GREETING "\xff\0\0\0\0\0\0\0\1\x7f" "\3\0" "NULL" ZEROS_16 ZEROS_16 ZEROS_16
#define READY_DEALER "\4\x1c\5READY\x0bSocket-Type\0\0\0\6" "DEALER"
#define READY_ROUTER "\4\x1c\5READY\x0bSocket-Type\0\0\0\6" "ROUTER"
enum { HELLO_BYTES = 64 + 30 };
_Static_assert (sizeof (GREETING READY_DEALER) - 1 == HELLO_BYTES, "a greeting and READY");

struct raw { int fd; struct buf in; size_t most; /* to read at a time; 0: all */ bool eof; size_t want; };

static struct sockaddr_un address (void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	snprintf (sa.sun_path, sizeof (sa.sun_path), "%s", path);
	return sa;
}

static void raw_send (struct raw *r, const void *p, size_t n)
{
	assert_int_equal (send (r->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT), n);
}

static void raw_connect (struct raw *r)
{
	struct sockaddr_un sa = address ();
	*r = (struct raw) { .fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	assert_true (r->fd >= 0);
	assert_int_equal (connect (r->fd, (struct sockaddr *) &sa, sizeof (sa)), 0);
}

static void raw_dealer (struct raw *r)
{
	raw_connect (r);
	raw_send (r, GREETING READY_DEALER, HELLO_BYTES);
}

static int raw_listen (void)
{
	struct sockaddr_un sa = address ();
	int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink (path);
	assert_int_equal (bind (fd, (struct sockaddr *) &sa, sizeof (sa)), 0);
	assert_int_equal (listen (fd, 5), 0);
	return fd;
}

/* x dials a raw ROUTER. */
static void raw_router (struct raw *r, struct side *x)
{
	int fd = raw_listen ();
	dial (x);
	*r = (struct raw) { .fd = accept (fd, NULL, NULL) };
	assert_true (r->fd >= 0);
	close (fd);
	raw_send (r, GREETING READY_ROUTER, HELLO_BYTES);
	until (opened, x);
}

static void raw_done (struct raw *r)
{
	if (r->fd >= 0)
		close (r->fd);
	r->fd = -1;
	buf_fini (&r->in);
}

static void raw_pump (struct raw *r)
{
	static uint8_t bytes[256 << 10];
	size_t most = r->most ? r->most : sizeof (bytes);
	ssize_t n;
	while (!r->eof && (n = recv (r->fd, bytes, most, MSG_DONTWAIT)) != 0) {
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0)
			break;
		buf_add (&r->in, bytes, (size_t) n);
		if (r->most)
			return;
	}
	r->eof = true;
}

static bool raw_all_in (void *arg) { struct raw *r = arg; raw_pump (r); return r->in.len >= r->want; }
static bool raw_ended (void *arg) { struct raw *r = arg; raw_pump (r); return r->eof; }
static void raw_until_bytes (struct raw *r, size_t n) { r->want = n; until (raw_all_in, r); }

static void put_frame (struct buf *b, const void *p, size_t n, int flags)
{
	uint8_t head[9] = { (uint8_t) (flags | (n > 255 ? 2 : 0)), (uint8_t) n };
	if (n > 255)
		for (int i = 0; i < 8; i++)
			head[1 + i] = (uint8_t) ((uint64_t) n >> (56 - 8 * i));
	buf_add (b, head, n > 255 ? 9 : 2);
	buf_add (b, p, n);
}

static void raw_say (struct raw *r, const char *text)
{
	struct buf b;
	buf_init (&b, 0);
	put_frame (&b, text, strlen (text), 0);
	raw_send (r, b.data, b.len);
	buf_fini (&b);
}

/* Its handshake is over, and x knows its number. */
static void raw_dealer_up (struct raw *r, struct side *x)
{
	int n = x->messages;
	raw_dealer (r);
	raw_say (r, "hi");
	until_messages (x, n + 1);
	buf_clear (&x->log);
}

/* ---- with each other, with libzmq ----------------------------------------------------------------------------- */

static void test_both_sides (void **state)
{
	struct side a = { 0 }, b = { 0 }, c = { 0 };
	(void) state;
	listen_at (&a);
	dial (&b);
	assert_int_equal (ipc_begin (b.s, 0), -1);
	assert_int_equal (errno, EAGAIN);
	until (opened, &b);
	assert_int_equal (ipc_begin (b.s, 0), 0);
	put_text (&b, "one", true);
	put_text (&b, "", true);
	big_frame (&b, 70000, 'z', true);
	put_text (&b, "two", false);
	assert_int_equal (ipc_begin (b.s, 0), 0);
	put_text (&b, "next", false);
	ipc_flush (b.s);
	until_messages (&a, 2);
	heard (&a, "one||two|\nnext|\n");
	assert_int_equal (a.bursts, 1);
	assert_true (say (&a, a.rid, "answer"));
	until_messages (&b, 1);
	heard (&b, "answer|\n");
	assert_int_equal (b.rid, 0);
	dial (&c);
	done (&c);
	dial (&c);
	until (opened, &c);
	done (&c);
	ipc_close (&a.s);
	until (ended, &b);
	assert_int_equal (ipc_begin (b.s, 0), -1);
	assert_int_equal (errno, EHOSTUNREACH);
	quiet ();
	assert_int_equal (b.ends, 1);
	assert_int_equal (access (path, F_OK), -1);
	done (&a);
	done (&b);
}

static void test_nobody_listens (void **state)
{
	struct side x = { 0 };
	struct ipc_opts o = opts_of (&x);
	struct err err = { 0 };
	char longest[200];
	(void) state;
	dial (&x);
	assert_int_equal (x.ends, 0);	/* not from inside */
	until (ended, &x);
	quiet ();
	assert_int_equal (x.ends, 1);
	assert_false (say (&x, 0, "hello"));
	done (&x);
	memset (longest, 'x', sizeof (longest) - 1);
	longest[sizeof (longest) - 1] = 0;
	assert_null (ipc_dial (loop, longest, &o, &err));
	assert_int_equal (err.code, ERR_INVALID);
	assert_null (ipc_listen (loop, (const char *const[]) { path, longest, NULL }, &o, &err));
	assert_int_equal (access (path, F_OK), -1);	/* the first one is taken back */
	assert_null (ipc_listen (loop, (const char *const[]) { "/nowhere/at/all", NULL }, &o, &err));
}

struct zside { void *sock; int messages; size_t frames, bytes; int parts_seen; bool router; uint8_t id[8]; size_t nid; int want; };

static bool zheard (void *arg)
{
	struct zside *z = arg;
	zmq_msg_t m;
	zmq_msg_init (&m);
	while (zmq_msg_recv (&m, z->sock, ZMQ_DONTWAIT) >= 0) {
		if (z->router && z->parts_seen == 0) {
			z->nid = zmq_msg_size (&m);
			memcpy (z->id, zmq_msg_data (&m), z->nid);
		} else {
			z->frames++;
			z->bytes += zmq_msg_size (&m);
		}
		z->parts_seen++;
		if (!zmq_msg_more (&m)) {
			z->messages++;
			z->parts_seen = 0;
		}
	}
	zmq_msg_close (&m);
	return z->messages >= z->want;
}

static void zsend_big (struct zside *z)
{
	static char big[8 * MIB];
	if (z->router)
		assert_int_equal (zmq_send (z->sock, z->id, z->nid, ZMQ_SNDMORE), z->nid);
	for (int i = 0; i < 4096; i++)
		assert_true (zmq_send (z->sock, big, (size_t) (i % 300), i < 4095 ? ZMQ_SNDMORE : 0) >= 0);
	if (z->router)
		zmq_send (z->sock, z->id, z->nid, ZMQ_SNDMORE);
	assert_int_equal (zmq_send (z->sock, big, sizeof (big), 0), sizeof (big));
}

static size_t records_bytes (void)
{
	size_t sum = 0;
	for (int i = 0; i < 4096; i++)
		sum += (size_t) (i % 300);
	return sum;
}

/* 4,096 records, then one of 8 MiB, each way. */
static void trade_with_libzmq (struct side *x, struct zside *z)
{
	static const char zeros[300];
	zmq_send (z->sock, "hello", 5, z->router ? ZMQ_SNDMORE : 0);
	if (!z->router)
		until_messages (x, 1);
	int before = x->messages;
	while (ipc_begin (x->s, x->rid) < 0)
		quiet ();
	for (int i = 0; i < 4096; i++)
		ipc_bytes (x->s, zeros, (size_t) (i % 300), i < 4095);
	ipc_flush (x->s);
	z->want = 1;
	until (zheard, z);
	assert_int_equal (z->frames, 4096);
	assert_int_equal (z->bytes, records_bytes ());
	while (ipc_begin (x->s, x->rid) < 0)
		quiet ();
	big_frame (x, 8 * MIB, 'b', false);
	ipc_flush (x->s);
	z->want = 2;
	until (zheard, z);
	assert_int_equal (z->bytes, records_bytes () + 8 * MIB);
	zsend_big (z);
	until_messages (x, before + 1);
	assert_int_equal (x->frames, x->bytes == 8 * MIB ? 1 : 4096);
	until_messages (x, before + 2);
	assert_int_equal (x->bytes, 8 * MIB);
	assert_int_equal (x->cuts, 0);
}

static void test_libzmq_dials (void **state)
{
	void *zctx = zmq_ctx_new ();
	struct side x = { 0 };
	struct zside z = { .sock = zmq_socket (zctx, ZMQ_DEALER) };
	char uri[128];
	(void) state;
	listen_at (&x);
	snprintf (uri, sizeof (uri), "ipc://%s", path);
	assert_int_equal (zmq_connect (z.sock, uri), 0);
	trade_with_libzmq (&x, &z);
	zmq_close (z.sock);
	zmq_ctx_term (zctx);
	done (&x);
}

static void test_libzmq_listens (void **state)
{
	void *zctx = zmq_ctx_new ();
	struct side x = { 0 };
	struct zside z = { .sock = zmq_socket (zctx, ZMQ_ROUTER), .router = true };
	char uri[128];
	int on = 1;
	(void) state;
	zmq_setsockopt (z.sock, ZMQ_ROUTER_MANDATORY, &on, sizeof (on));
	snprintf (uri, sizeof (uri), "ipc://%s", path);
	assert_int_equal (zmq_bind (z.sock, uri), 0);
	dial (&x);
	until (opened, &x);
	trade_with_libzmq (&x, &z);
	zmq_close (z.sock);
	until (ended, &x);
	zmq_ctx_term (zctx);
	done (&x);
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

static void count_up (struct side *x)
{
	char text[20];
	while (x->sent < 20000 && ipc_begin (x->s, x->rid) == 0) {
		snprintf (text, sizeof (text), "%zu", x->sent++);
		put_text (x, text, false);
	}
	ipc_flush (x->s);
}

static void same_bytes (const struct raw *r, const struct buf *want)
{
	assert_int_equal (r->in.len, want->len);
	for (size_t i = 0; i < want->len; i++)
		if (r->in.data[i] != want->data[i])
			fail_msg ("byte %zu of %zu is another one", i, want->len);
}

static void test_slow_reader (void **state)
{
	struct side x = { .also = count_up };
	struct raw r;
	struct buf want;
	char text[1024];
	uint8_t *big = malloc (8 * MIB);
	(void) state;
	listen_at (&x);
	raw_dealer_up (&r, &x);
	buf_init (&want, 0);
	buf_add (&want, GREETING READY_ROUTER, HELLO_BYTES);
	assert_int_equal (ipc_begin (x.s, x.rid), 0);
	for (int i = 0; i < 4096; i++) {
		size_t n = (size_t) i % sizeof (text);
		memset (text, i, n);
		ipc_bytes (x.s, text, n, i < 4095);
		put_frame (&want, text, n, i < 4095);
	}
	ipc_flush (x.s);
	assert_int_equal (ipc_begin (x.s, x.rid), -1);
	assert_int_equal (errno, EAGAIN);
	quiet ();
	assert_int_equal (x.writables, 0);
	for (int i = 0; i < 20000; i++) {
		snprintf (text, sizeof (text), "%d", i);
		put_frame (&want, text, strlen (text), 0);
	}
	r.most = 100000;
	raw_until_bytes (&r, want.len);	/* count_up sends the numbers when it may */
	same_bytes (&r, &want);
	assert_true (x.writables > 0);

	assert_int_equal (ipc_begin (x.s, x.rid), 0);
	put_text (&x, "head", true);
	put_frame (&want, "head", 4, 1);
	big_frame (&x, 8 * MIB, 0xa5, true);
	memset (big, 0xa5, 8 * MIB);
	put_frame (&want, big, 8 * MIB, 1);
	for (int i = 0; i < 100; i++) {	/* more large ones than are staged at once */
		big_frame (&x, 3000, i, i < 99);
		raw_pump (&r);		/* there is room again, but what is kept comes first */
		memset (big, i, 3000);
		put_frame (&want, big, 3000, i < 99);
	}
	ipc_flush (x.s);
	raw_until_bytes (&r, want.len);
	same_bytes (&r, &want);
	quiet ();
	assert_int_equal (r.in.len, want.len);
	idle_without_spinning ();
	free (big);
	buf_fini (&want);
	raw_done (&r);
	done (&x);
}

/* Of what a peer does not read one message is kept, not all that the caller has. */
static void test_little_is_kept_for_who_does_not_read (void **state)
{
	struct side x = { 0 };
	struct raw r;
	int n = 0;
	(void) state;
	listen_at (&x);
	raw_dealer_up (&r, &x);
	while (n < 24 && ipc_begin (x.s, x.rid) == 0) {	/* without a flush in between */
		big_frame (&x, 4 * MIB, n, false);
		n++;
	}
	assert_in_range (n, 1, 2);
	assert_int_equal (errno, EAGAIN);
	ipc_flush (x.s);
	assert_true (ipc_unsent (x.s));
	raw_until_bytes (&r, HELLO_BYTES + (size_t) n * (9 + 4 * MIB));
	assert_false (ipc_unsent (x.s));
	raw_done (&r);
	done (&x);
}

static void test_close_sends_what_the_kernel_takes (void **state)
{
	struct side x = { 0 };
	struct raw r;
	(void) state;
	listen_at (&x);
	raw_dealer_up (&r, &x);
	assert_int_equal (ipc_begin (x.s, x.rid), 0);
	put_text (&x, "bye", false);
	ipc_close (&x.s);
	until (raw_ended, &r);
	assert_int_equal (r.in.len, HELLO_BYTES + 5);
	assert_memory_equal (r.in.data + HELLO_BYTES, "\0\3bye", 5);
	raw_done (&r);
	done (&x);
}

/* ---- pauses --------------------------------------------------------------------------------------------------- */

static void test_pause (void **state)
{
	struct side x = { .pause_at = 3 };
	struct raw r, s;
	struct buf b;
	uint8_t *big = calloc (1, 200000);
	(void) state;
	buf_init (&b, 0);
	listen_at (&x);
	raw_dealer (&r);
	for (int i = 0; i < 10; i++)
		put_frame (&b, (char[]) { (char) ('0' + i) }, 1, i == 5);	/* 5 and 6 are one message */
	raw_send (&r, b.data, b.len);
	until_messages (&x, 3);
	raw_dealer (&s);
	raw_say (&s, "other");
	raw_say (&r, "late");
	quiet ();
	heard (&x, "0|\n1|\n2|\n");
	idle_without_spinning ();

	/* Again at the fifth: some of what was put aside stays there. */
	x.pause_at = 5;
	ipc_pause (x.s, false);
	until_messages (&x, 5);
	quiet ();
	assert_int_equal (x.messages, 5);
	x.pause_at = 0;
	ipc_pause (x.s, false);
	until_messages (&x, 11);
	assert_int_equal (x.log.len, 15 + 5 + 9 + 6 + 7);
	if (memcmp (x.log.data, "0|\n1|\n2|\n", 9) != 0)
		fail_msg ("heard %.*s", (int) x.log.len, (char *) x.log.data);
	assert_non_null (memmem (x.log.data, x.log.len, "3|\n4|\n", 6));
	assert_non_null (memmem (x.log.data, x.log.len, "5|6|\n7|\n8|\n9|\n", 14));
	assert_non_null (memmem (x.log.data, x.log.len, "9|\nlate|\n", 9));
	assert_non_null (memmem (x.log.data, x.log.len, "other|\n", 7));

	/* In the middle of a large frame. */
	buf_clear (&b);
	put_frame (&b, big, 150000, 0);
	raw_send (&r, b.data, 100000);
	quiet ();
	ipc_pause (x.s, true);
	raw_send (&r, b.data + 100000, b.len - 100000);
	raw_say (&r, "behind");
	quiet ();
	assert_int_equal (x.messages, 11);
	ipc_pause (x.s, false);
	until_messages (&x, 13);
	free (big);
	buf_fini (&b);
	raw_done (&r);
	raw_done (&s);
	done (&x);
}

/* Who said something and left while we were paused is heard to its end. */
static void test_pause_then_death (void **state)
{
	struct side x = { .pause_at = 1 };
	struct raw r;
	(void) state;
	raw_router (&r, &x);
	raw_send (&r, "\0\1a\0\1b\0\1c", 9);
	until_messages (&x, 1);
	raw_say (&r, "d");
	raw_done (&r);
	quiet ();
	assert_int_equal (x.messages, 1);
	assert_int_equal (x.ends, 0);
	assert_true (say (&x, 0, "are you there") || errno == EHOSTUNREACH);
	assert_false (say (&x, 0, "and now"));
	assert_int_equal (errno, EHOSTUNREACH);
	idle_without_spinning ();
	ipc_pause (x.s, false);
	until (ended, &x);
	heard (&x, "a|\nb|\nc|\nd|\n");
	assert_int_equal (x.ends, 1);
	done (&x);
}

/* ---- peers that die ------------------------------------------------------------------------------------------- */

static void test_listener_dies_while_we_write (void **state)
{
	struct side x = { 0 };
	struct raw r;
	(void) state;
	raw_router (&r, &x);
	for (int i = 0; i < 100; i++)
		raw_say (&r, "w");
	raw_done (&r);
	assert_true (say (&x, 0, "hello"));
	assert_int_equal (ipc_begin (x.s, 0), -1);
	assert_int_equal (errno, EAGAIN);
	until (ended, &x);
	assert_int_equal (x.messages, 100);
	assert_int_equal (ipc_begin (x.s, 0), -1);
	assert_int_equal (errno, EHOSTUNREACH);
	assert_int_equal (x.ends, 1);
	assert_int_equal (x.writables, 1);	/* which begin had promised */
	done (&x);
}

static void test_dialler_dies_while_we_write (void **state)
{
	struct side x = { 0 };
	struct raw r;
	int n = 0;
	(void) state;
	listen_at (&x);
	raw_dealer_up (&r, &x);
	while (ipc_begin (x.s, x.rid) == 0 && n < 100) {	/* more than the kernel takes */
		big_frame (&x, MIB, 'x', false);
		ipc_flush (x.s);
		n++;
	}
	assert_int_equal (errno, EAGAIN);
	for (int i = 0; i < 100; i++)
		raw_say (&r, "w");
	raw_done (&r);
	until_messages (&x, 101);
	quiet ();
	assert_int_equal (x.messages, 101);
	assert_int_equal (ipc_begin (x.s, x.rid), -1);
	assert_int_equal (errno, EHOSTUNREACH);
	assert_true (x.writables >= 1);
	idle_without_spinning ();
	done (&x);
}

static bool gone (void *arg)
{
	struct side *x = arg;
	int e = ipc_begin (x->s, x->rid) < 0 ? errno : 0;
	ipc_flush (x->s);
	return e == EHOSTUNREACH;
}

static void test_peer_that_reads_no_longer (void **state)
{
	struct side x = { 0 };
	struct raw r;
	(void) state;
	listen_at (&x);
	raw_dealer_up (&r, &x);
	raw_say (&r, "last words");
	shutdown (r.fd, SHUT_RD);
	assert_true (say (&x, x.rid, "hello"));
	until_messages (&x, 2);
	until (gone, &x);
	assert_int_equal (send (r.fd, "", 1, MSG_NOSIGNAL), -1);
	heard (&x, "last words|\n");
	raw_done (&r);
	raw_dealer_up (&r, &x);		/* and one without last words */
	shutdown (r.fd, SHUT_RD);
	assert_true (say (&x, x.rid, "hello"));
	until (gone, &x);
	assert_int_equal (send (r.fd, "", 1, MSG_NOSIGNAL), -1);
	idle_without_spinning ();
	raw_done (&r);
	done (&x);
}

struct flood { int fd; int64_t end; atomic_bool over; };
static void *flood (void *arg)
{
	struct flood *f = arg;
	struct buf b;
	buf_init (&b, 0);
	for (int i = 0; i < 64; i++)
		put_frame (&b, (char[1000]) { 0 }, 1000, 0);
	for (size_t at = 0; !f->over && clock_now_ms () < f->end;) {
		ssize_t n = send (f->fd, b.data + at, b.len - at, MSG_NOSIGNAL);
		if (n < 0)
			break;
		at = (at + (size_t) n) % b.len;
	}
	buf_fini (&b);
	return NULL;
}

/* It talks on and on, faster than we listen: others get their turn, and it is closed. */
static void test_peer_that_only_talks (void **state)
{
	enum { TALK_MS = 5000 };
	struct side x = { .slow_us = 100 };
	struct raw r;
	struct flood f;
	pthread_t t;
	(void) state;
	listen_at (&x);
	raw_dealer_up (&r, &x);
	f = (struct flood) { .fd = r.fd, .end = clock_now_ms () + TALK_MS };
	pthread_create (&t, NULL, flood, &f);
	until_messages (&x, 500);
	shutdown (r.fd, SHUT_RD);
	while (ipc_begin (x.s, x.rid) == 0) {
		put_text (&x, "hello", false);
		ipc_flush (x.s);
	}
	until (gone, &x);
	assert_true (clock_now_ms () < f.end);
	f.over = true;
	pthread_join (t, NULL);
	raw_done (&r);
	done (&x);
}

/* ---- peers that lie ------------------------------------------------------------------------------------------- */

/* What follows a handshake, and closes the connection. The memory is not there: the head alone is enough. */
static void test_limits (void **state)
{
	static const struct { const char *what, *bytes; size_t n; } rows[] = {
		{ "frame over max_frame", "\2\0\0\0\0\1\0\0\1", 9 }, { "frame of 2^64 less one", "\2\xff\xff\xff\xff\xff\xff\xff\xff", 9 },
		{ "second frame over max_frame", "\1\1x\2\0\0\0\0\1\0\0\1", 12 }, { "command over 4,096 bytes", "\6\0\0\0\0\0\0\x10\1", 9 },
		{ "flags", "\x08", 1 }, { "command with more", "\5", 1 },
	};
	struct side x = { 0 };
	struct raw r;
	(void) state;
	listen_at (&x);
	for (size_t i = 0; i < sizeof (rows) / sizeof (rows[0]); i++) {
		raw_dealer_up (&r, &x);
		raw_send (&r, rows[i].bytes, rows[i].n);
		if (!run_for (raw_ended, &r, DEADLINE_MS))
			fail_msg ("%s: not closed", rows[i].what);
		raw_done (&r);
	}
	/* The largest that may come, and a command, which is ignored. */
	raw_dealer_up (&r, &x);
	raw_send (&r, "\4\5\4PING\2\0\0\0\0\1\0\0\0", 7 + 9);
	quiet ();
	assert_false (raw_ended (&r));
	raw_done (&r);
	quiet ();
	assert_int_equal (x.messages, sizeof (rows) / sizeof (rows[0]) + 1);
	done (&x);
}

static void test_message_over_the_limit (void **state)
{
	struct side x = { 0 };
	struct ipc_opts o = opts_of (&x);
	struct raw r;
	struct buf b;
	(void) state;
	o.max_frame = 1000;
	o.max_message = 2500;
	listen_with (&x, &o);
	buf_init (&b, 0);
	for (int i = 0; i < 3; i++)
		put_frame (&b, (char[1000]) { 0 }, i < 2 ? 1000 : 500, i < 2);
	raw_dealer_up (&r, &x);
	raw_send (&r, b.data, b.len);
	until_messages (&x, 2);		/* as large as it may be */
	assert_int_equal (x.bytes, 2500);
	raw_send (&r, b.data, b.len);
	until_messages (&x, 3);		/* the sum begins anew */
	buf_clear (&b);
	put_frame (&b, (char[1000]) { 0 }, 1000, 1);
	for (int i = 0; i < 2; i++)
		raw_send (&r, b.data, b.len);
	raw_send (&r, "\3\0\0\0\0\0\0\1\xf5", 9);
	until_messages (&x, 3);
	raw_send (&r, (char[501]) { 0 }, 501);
	until (raw_ended, &r);
	assert_int_equal (x.messages, 3);
	buf_fini (&b);
	raw_done (&r);
	done (&x);
}

static void test_frames_over_the_limit_are_cut (void **state)
{
	struct side x = { 0 };
	struct raw r;
	struct buf b;
	(void) state;
	listen_at (&x);
	raw_dealer_up (&r, &x);
	buf_init (&b, 0);
	for (int i = 0; i < MAX_FRAMES; i++)
		put_frame (&b, "x", 1, i < MAX_FRAMES - 1);
	raw_send (&r, b.data, b.len);
	until_messages (&x, 2);
	assert_int_equal (x.frames, MAX_FRAMES);
	assert_int_equal (x.cuts, 0);
	buf_clear (&b);
	for (int i = 0; i < MAX_FRAMES + 3000; i++)
		put_frame (&b, "x", 1, i < MAX_FRAMES + 2999);
	raw_send (&r, b.data, b.len);
	until_messages (&x, 3);
	assert_int_equal (x.frames, MAX_FRAMES);
	assert_int_equal (x.cuts, 1);
	raw_say (&r, "short");
	until_messages (&x, 4);
	assert_int_equal (x.frames, 1);
	assert_int_equal (x.cuts, 1);
	buf_fini (&b);
	raw_done (&r);
	done (&x);
}

static void test_bad_handshakes (void **state)
{
#define ROW(what, text) { what, text, sizeof (text) - 1 }
	static const struct { const char *what, *bytes; size_t n; } rows[] = {
		ROW ("garbage", "GET / HTTP/1.1\r\n"), ROW ("a byte", "\1"), ROW ("other signature", "\xff\0\0\0\0\0\0\0\1\x7e"),
		ROW ("ZMTP 2", "\xff\0\0\0\0\0\0\0\1\x7f\1"), ROW ("CURVE", "\xff\0\0\0\0\0\0\0\1\x7f\3\0" "CURVE"),
		ROW ("a message before READY", GREETING "\0\5hello"),
		ROW ("a large one before READY, its head", GREETING "\2\0\0\0\0\0\x10\0\0"),
		ROW ("another command", GREETING "\4\x0c\5ERROR\5sorry"), ROW ("READY cut", GREETING "\4\3\5RE"),
		ROW ("READY of a REP", GREETING "\4\x19\5READY\x0bSocket-Type\0\0\0\3REP"),
		ROW ("READY without type", GREETING "\4\6\5READY"), ROW ("flags", GREETING "\xff"),
	};
	struct side x = { 0 };
	struct raw r;
	(void) state;
	listen_at (&x);
	for (size_t i = 0; i < sizeof (rows) / sizeof (rows[0]); i++) {
		raw_connect (&r);
		raw_send (&r, rows[i].bytes, rows[i].n);
		if (!run_for (raw_ended, &r, 10000))
			fail_msg ("%s: not closed", rows[i].what);
		raw_done (&r);
	}
	/* A byte at a time it is as good as at once. */
	raw_connect (&r);
	for (size_t i = 0; i < HELLO_BYTES; i++) {
		raw_send (&r, &(GREETING READY_DEALER)[i], 1);
		run_for (never, NULL, 0);
	}
	raw_say (&r, "x");
	until_messages (&x, 1);
	assert_int_equal (x.messages, 1);
	raw_done (&r);
	done (&x);
}

static void test_dialler_meets_another_server (void **state)
{
	struct side x = { 0 };
	int fd = raw_listen (), peer;
	(void) state;
	dial (&x);
	peer = accept (fd, NULL, NULL);
	assert_int_equal (send (peer, "220 mail\r\n", 10, MSG_NOSIGNAL), 10);
	until (ended, &x);
	assert_int_equal (x.opens, 0);
	assert_int_equal (x.ends, 1);
	close (peer);
	close (fd);
	unlink (path);
	done (&x);
}

struct four { struct raw r[4]; };
static bool four_ended (void *arg)
{
	struct four *f = arg;
	bool all = true;
	for (int i = 0; i < 4; i++)
		all &= raw_ended (&f->r[i]);
	return all;
}

/* In a process of another user. */
static pid_t as_nobody (void (*what) (int told), int told)
{
	pid_t pid = fork ();
	assert_true (pid >= 0);
	if (pid == 0) {
		if (setgid (65534) == 0 && setuid (65534) == 0)
			what (told);
		_exit (1);
	}
	return pid;
}

static void meet_a_closed_door (int told)
{
	struct sockaddr_un sa = address ();
	int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char c;
	(void) told;
	if (connect (fd, (struct sockaddr *) &sa, sizeof (sa)) == 0)
		_exit (recv (fd, &c, 1, 0) == 0 ? 0 : 2);
}

static void pose_as_the_listener (int told)
{
	int fd = raw_listen ();
	if (write (told, "x", 1) == 1 && accept (fd, NULL, NULL) >= 0)
		pause ();
}

struct child { pid_t pid; int status; };
static bool child_ended (void *arg)
{
	struct child *c = arg;
	return waitpid (c->pid, &c->status, WNOHANG) == c->pid;
}

static void test_only_our_own_user (void **state)
{
	struct side l = { 0 }, d = { 0 }, e = { 0 };
	struct ipc_opts o = opts_of (&l);
	struct child c = { 0 };
	struct err err = { 0 };
	char x;
	int told[2];
	(void) state;
	if (geteuid () != 0)
		skip ();
	assert_int_equal (chmod (dir, 0777), 0);
	o.own_user = true;
	listen_with (&l, &o);
	assert_int_equal (chmod (path, 0777), 0);
	c.pid = as_nobody (meet_a_closed_door, -1);
	until (child_ended, &c);
	assert_true (WIFEXITED (c.status));
	assert_int_equal (WEXITSTATUS (c.status), 0);
	o.arg = &d;
	assert_non_null (d.s = ipc_dial (loop, path, &o, &err));
	until (opened, &d);
	done (&d);
	done (&l);
	/* the listener is another's */
	assert_int_equal (pipe (told), 0);
	c.pid = as_nobody (pose_as_the_listener, told[1]);
	assert_int_equal (read (told[0], &x, 1), 1);
	o.arg = &e;
	assert_non_null (e.s = ipc_dial (loop, path, &o, &err));
	assert_false (ipc_connected (e.s));
	until (ended, &e);
	done (&e);
	kill (c.pid, SIGKILL);
	waitpid (c.pid, &c.status, 0);
	close (told[0]);
	close (told[1]);
}

static void test_half_handshakes (void **state)
{
	struct side x = { 0 };
	struct ipc_opts o = opts_of (&x);
	struct four f;
	struct raw good;
	int64_t begun;
	(void) state;
	o.handshake_ms = 200;
	listen_with (&x, &o);
	raw_dealer_up (&good, &x);
	begun = clock_now_ms ();
	for (int i = 0; i < 4; i++)
		raw_connect (&f.r[i]);
	raw_send (&f.r[1], GREETING, 20);
	raw_send (&f.r[2], GREETING, 64);
	raw_send (&f.r[3], GREETING READY_DEALER, HELLO_BYTES - 1);
	until (four_ended, &f);
	assert_true (clock_now_ms () - begun >= 200);
	for (int i = 0; i < 4; i++)
		raw_done (&f.r[i]);
	assert_true (say (&x, x.rid, "you stay"));
	raw_until_bytes (&good, HELLO_BYTES + 10);
	raw_connect (&f.r[0]);		/* the watch begins again */
	until (raw_ended, &f.r[0]);
	raw_done (&f.r[0]);
	raw_done (&good);
	done (&x);
}

/* ---- ipc_close from inside ------------------------------------------------------------------------------------ */

/* Until the kernel is full. */
static void fill (struct side *x)
{
	for (int i = 0; i < 100 && ipc_begin (x->s, x->rid) == 0; i++) {
		big_frame (x, MIB, 'x', false);
		ipc_flush (x->s);
	}
	assert_int_equal (errno, EAGAIN);
}

static bool pump_until_closed (void *arg)
{
	struct { struct side *x; struct raw *r; } *w = arg;
	raw_pump (w->r);
	return w->x->s == NULL;
}

static void close_inside (bool listener, enum when w)
{
	struct side x = { 0 };
	struct raw r, s = { .fd = -1 };
	if (listener) {
		listen_at (&x);
		raw_dealer_up (&r, &x);
		raw_dealer (&s);	/* one more, in the middle of something */
		raw_send (&s, "\1\3abc", 5);
		quiet ();
	} else if (w == ON_OPEN) {
		int fd = raw_listen ();
		x.close_in = w;
		dial (&x);
		r = (struct raw) { .fd = accept (fd, NULL, NULL) };
		close (fd);
		raw_send (&r, GREETING READY_ROUTER "\0\1a", HELLO_BYTES + 3);
	} else {
		raw_router (&r, &x);
	}
	x.close_in = w;
	if (w == ON_WRITABLE) {
		fill (&x);
		struct { struct side *x; struct raw *r; } both = { &x, &r };
		until (pump_until_closed, &both);
	} else if (w == ON_END) {
		raw_say (&r, "a");
		close (r.fd);
		r.fd = -1;
	} else {
		raw_send (&r, "\0\1a\1\1b\0\1c\0\1d", 12);
	}
	until (closed, &x);
	int n = x.messages;
	quiet ();
	assert_int_equal (x.messages, n);
	if (r.fd >= 0)
		assert_true (run_for (raw_ended, &r, DEADLINE_MS));
	raw_done (&r);
	raw_done (&s);
	unlink (path);
	done (&x);
}

static void test_close_from_inside (void **state)
{
	(void) state;
	for (enum when w = ON_MESSAGE; w <= ON_WRITABLE; w++)
		close_inside (true, w);
	for (enum when w = ON_OPEN; w <= ON_END; w++)
		close_inside (false, w);
}

/* ---- files and descriptors ------------------------------------------------------------------------------------ */

static void test_second_listener_keeps_its_file (void **state)
{
	struct side a = { 0 }, b = { 0 };
	struct raw r;
	(void) state;
	listen_at (&a);
	raw_dealer_up (&r, &a);
	listen_at (&b);
	done (&a);
	assert_int_equal (access (path, F_OK), 0);
	raw_done (&r);
	raw_dealer_up (&r, &b);
	done (&b);
	assert_int_equal (access (path, F_OK), -1);
	raw_done (&r);

	/* What is no socket is not replaced. */
	struct ipc_opts o = opts_of (&a);
	struct err err = { 0 };
	close (open (path, O_CREAT | O_WRONLY, 0600));
	assert_null (ipc_listen (loop, (const char *const[]) { path, NULL }, &o, &err));
	assert_int_equal (access (path, F_OK), 0);
	unlink (path);
}

static void test_no_descriptors (void **state)
{
	struct side x = { 0 };
	struct raw r[3];
	struct rlimit was, few;
	(void) state;
	listen_at (&x);
	quiet ();
	for (int i = 0; i < 3; i++) {
		raw_dealer (&r[i]);
		raw_say (&r[i], "hi");
	}
	getrlimit (RLIMIT_NOFILE, &was);
	few = was;
	int next = dup (0);
	close (next);
	few.rlim_cur = (rlim_t) next;
	setrlimit (RLIMIT_NOFILE, &few);
	idle_without_spinning ();
	setrlimit (RLIMIT_NOFILE, &was);
	assert_int_equal (x.messages, 0);
	until_messages (&x, 3);
	for (int i = 0; i < 3; i++)
		raw_done (&r[i]);
	done (&x);
}

static void turn (void) { event_base_loop (loop_base (loop), EVLOOP_NONBLOCK); }

static void test_numbers_are_not_used_again (void **state)
{
	enum { TIMES = 20000 };
	struct side x = { 0 };
	struct raw r;
	uint32_t first = 0;
	(void) state;
	listen_at (&x);
	for (int i = 0; i < TIMES; i++) {
		raw_dealer (&r);
		raw_say (&r, "hi");
		while (x.messages == i)
			turn ();
		if (i == 0)
			first = x.rid;
		else if (x.rid == first)
			fail_msg ("connection %d has the number of the first", i);
		assert_int_equal (ipc_begin (x.s, x.rid), 0);
		raw_done (&r);
		while (ipc_begin (x.s, x.rid) == 0)
			turn ();
		assert_int_equal (errno, EHOSTUNREACH);
		if (i > 0) {
			assert_int_equal (ipc_begin (x.s, first), -1);
			assert_int_equal (errno, EHOSTUNREACH);
		}
	}
	done (&x);
}

static int setup (void **state)
{
	(void) state;
	snprintf (dir, sizeof (dir), "/tmp/weft-ipc.XXXXXX");
	if (!mkdtemp (dir) || !(loop = loop_create (NULL)))
		return -1;
	snprintf (path, sizeof (path), "%s/s", dir);
	return 0;
}

static int teardown (void **state)
{
	(void) state;
	loop_destroy (&loop);
	unlink (path);
	rmdir (dir);
	return 0;
}

int main (void)
{
#define TEST(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST (test_both_sides), TEST (test_nobody_listens), TEST (test_libzmq_dials), TEST (test_libzmq_listens),
		TEST (test_slow_reader), TEST (test_little_is_kept_for_who_does_not_read), TEST (test_close_sends_what_the_kernel_takes),
		TEST (test_pause), TEST (test_pause_then_death),
		TEST (test_listener_dies_while_we_write), TEST (test_dialler_dies_while_we_write), TEST (test_peer_that_reads_no_longer),
		TEST (test_peer_that_only_talks),
		TEST (test_limits), TEST (test_message_over_the_limit), TEST (test_frames_over_the_limit_are_cut), TEST (test_bad_handshakes),
		TEST (test_dialler_meets_another_server), TEST (test_half_handshakes), TEST (test_only_our_own_user),
		TEST (test_close_from_inside),
		TEST (test_second_listener_keeps_its_file), TEST (test_no_descriptors), TEST (test_numbers_are_not_used_again),
	};
	return cmocka_run_group_tests_name ("ipc", tests, NULL, NULL);
}
