/* SPDX-License-Identifier: Apache-2.0 */
/* Links against each other on one loop, and against raw ZeroMQ sockets that speak the protocol by hand, wrongly or not at all.
 * The last test prints rates; it asserts only that everything arrives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/clock.h"
#include "proto/link_internal.h"

/* Silence ends sessions only where that is the test: on a busy machine a second of it comes by itself. */
enum { DEADLINE_MS = 120000, THRESHOLD_MS = 60000, MANY = 1000, GROUP = 50 };

/* ---- a world: loop, context, directory ------------------------------------------------------------------------ */

static struct loop *loop;
static void *zctx;
static char dir[64], ipc[96];
static bool ended;	/* the test came to its end: its sockets are closed */
static const char *any_tcp[] = { "tcp://127.0.0.1:*", NULL };

struct side {
	struct link *k;
	struct link_peer *peer;		/* the last one that came up */
	int ups, downs, rejects, hellos, reliefs, bursts, heartbeats;
	size_t messages, records, bytes;
	uint32_t next;			/* the number that the next record must have */
	bool disorder, echo, refuse, malformed;
	int reject_code, refuse_code;
	char why[300], reject[300], key[64], name[64];
	uint8_t types[64];
	size_t ntypes;
	bool destroy_on_up, destroy_on_message;
};

static int on_hello (struct link_peer *p, const struct msg_hello *h, struct msg_welcome *w, void *arg, struct err *err)
{
	struct side *s = arg;
	(void) p;
	(void) h;
	s->hellos++;
	w->name = WIRE_STR ("listener");
	if (s->refuse)
		return err_set (err, s->refuse_code ? s->refuse_code : ERR_NOT_FOUND, FAULT_USER, "never heard of you");
	return 0;
}

static void on_up (struct link_peer *p, const struct msg_hello *h, const struct msg_welcome *w, void *arg)
{
	struct side *s = arg;
	assert_true ((h == NULL) != (w == NULL));
	s->ups++;
	s->peer = p;
	snprintf (s->key, sizeof (s->key), "%s", link_peer_key (p));
	snprintf (s->name, sizeof (s->name), "%.*s", (int) (h ? h->name.n : w->name.n), h ? h->name.p : w->name.p);
	if (s->destroy_on_up)
		link_destroy (&s->k, 0);
}

static void on_down (struct link_peer *p, const char *why, void *arg)
{
	struct side *s = arg;
	s->downs++;
	if (s->peer == p)
		s->peer = NULL;
	snprintf (s->why, sizeof (s->why), "%s", why);
}

static void on_reject (struct link *l, int code, const char *text, void *arg)
{
	struct side *s = arg;
	(void) l;
	s->rejects++;
	s->reject_code = code;
	snprintf (s->reject, sizeof (s->reject), "%s", text);
}

static int on_message (struct link_peer *p, const struct wire_header *h, zmq_msg_t *r, size_t n, void *arg, struct err *err)
{
	struct side *s = arg;
	s->messages++;
	if (s->ntypes < sizeof (s->types))
		s->types[s->ntypes++] = h->type;
	if (s->malformed)
		return err_set (err, ERR_INVALID, FAULT_PEER, "not good");
	for (size_t i = 0; i < n; i++) {
		uint32_t number;
		s->bytes += zmq_msg_size (&r[i]);
		s->records++;
		if (h->type == WIRE_TASK || h->type == WIRE_RESULT) {
			memcpy (&number, zmq_msg_data (&r[i]), sizeof (number));
			s->disorder |= number != s->next++;
		}
		if (s->echo)
			link_send (p, WIRE_RESULT, &r[i]);
	}
	if (s->destroy_on_message)
		link_destroy (&s->k, 0);
	return 0;
}

static void on_relief (struct link_peer *p, void *arg)
{
	(void) p;
	((struct side *) arg)->reliefs++;
}

static void on_burst (void *arg)
{
	((struct side *) arg)->bursts++;
}

static void on_heartbeat (struct link_peer *p, void *arg)
{
	(void) p;
	((struct side *) arg)->heartbeats++;
}

static const struct link_ops ops = { on_hello, on_up, on_down, on_reject, on_message, on_burst, on_relief, on_heartbeat };

/* Waits for a condition that the loop brings about. */
struct wait { bool (*cond) (void *); void *arg; int64_t end; bool met; };
static void look (void *arg)
{
	struct wait *w = arg;
	if ((w->met = w->cond (w->arg)) || clock_now_ms () > w->end)
		loop_stop (loop);
}
static bool run_until (bool (*cond) (void *), void *arg, int64_t ms)
{
	struct wait w = { cond, arg, clock_now_ms () + ms, false };
	struct loop_timer *t = loop_timer_create (loop, look, &w);
	loop_timer_start (t, 1, true);
	loop_run (loop);
	loop_timer_destroy (&t);
	return w.met;
}
static bool nonzero (void *arg) { return *(int *) arg != 0; }
static bool never (void *arg) { (void) arg; return false; }
static bool has_peer (void *arg) { return ((struct side *) arg)->peer != NULL; }
struct target { struct side *s; size_t records; };
static bool has_records (void *arg) { struct target *t = arg; return t->s->records >= t->records; }
#define AWAIT(cond, arg) assert_true (run_until (cond, arg, DEADLINE_MS))

static int setup (void **state)
{
	struct err err;
	(void) state;
	ended = false;
	snprintf (dir, sizeof (dir), "/tmp/test_link.XXXXXX");
	assert_non_null (mkdtemp (dir));
	snprintf (ipc, sizeof (ipc), "ipc://%s/s", dir);
	assert_non_null (loop = loop_create (&err));
	assert_non_null (zctx = zmq_ctx_new ());
	zmq_ctx_set (zctx, ZMQ_MAX_SOCKETS, 8 * MANY);
	return 0;
}

static int teardown (void **state)
{
	char path[96];
	(void) state;
	if (ended) {
		zmq_ctx_term (zctx);
		loop_destroy (&loop);
	}
	snprintf (path, sizeof (path), "%s/s", dir);
	unlink (path);
	rmdir (dir);
	return 0;
}

struct keys { char pub[41], sec[41]; };
static int heartbeat_ms = 200;

static struct link_opts opts_of (struct side *s, const struct keys *own, const char *server)
{
	struct link_opts o = { .name = "peer", .ops = &ops, .arg = s, .heartbeat_ms = heartbeat_ms, .threshold_ms = THRESHOLD_MS };
	static uint64_t instance = 100;
	if (own) {
		o.public_key = own->pub;
		o.secret_key = own->sec;
		o.server_key = server;
	}
	o.hello.role = ROLE_MANAGER;
	o.hello.instance = ++instance;
	o.hello.name = WIRE_STR ("node-1");
	id_new (&o.hello.id);
	return o;
}

static void listen_plain (struct side *s)
{
	const char *at[] = { ipc, NULL };
	struct link_opts o = opts_of (s, NULL, NULL);
	struct err err = { 0 };
	if (!(s->k = link_listen (loop, zctx, at, &o, &err)))
		fail_msg ("%s", err.text);
}

static void dial_to (struct side *s, const char *address)
{
	struct link_opts o = opts_of (s, NULL, NULL);
	struct err err = { 0 };
	if (!(s->k = link_dial (loop, zctx, address, &o, &err)))
		fail_msg ("%s", err.text);
}

static void pair_up (struct side *l, struct side *d)
{
	listen_plain (l);
	dial_to (d, ipc);
	AWAIT (has_peer, l);
	AWAIT (has_peer, d);
}

static void send_number (struct link_peer *p, enum wire_type type, uint32_t number, size_t n)
{
	zmq_msg_t m;
	zmq_msg_init_size (&m, n);
	memset (zmq_msg_data (&m), 7, n);
	memcpy (zmq_msg_data (&m), &number, sizeof (number));
	link_send (p, type, &m);
	assert_int_equal (zmq_msg_size (&m), 0);
	zmq_msg_close (&m);
}

/* Which of the two has a store: both have the same, another, one of them none; an old dialler. */
static void test_bulk_is_agreed_on (void **state)
{
	static const struct { int listener, dialler, major; bool agreed; } rows[] = {
		{ 1, 1, 2, true }, { 1, 2, 2, false }, { 1, 0, 2, false }, { 0, 1, 2, false }, { 0, 0, 2, false }, { 1, 1, 1, false },
	};
	(void) state;
	for (size_t i = 0; i < sizeof (rows) / sizeof (rows[0]); i++) {
		struct side l = { 0 }, d = { 0 };
		struct id stores[3] = { { { 0 } }, { { 1, 2, 3 } }, { { 1, 2, 4 } } };
		struct link_opts ol = opts_of (&l, NULL, NULL), od = opts_of (&d, NULL, NULL);
		const char *at[] = { ipc, NULL };
		ol.bulk = rows[i].listener ? &stores[rows[i].listener] : NULL;
		od.bulk = &stores[rows[i].dialler];
		od.hello.min_major = 1;
		od.hello.max_major = (uint8_t) rows[i].major;
		assert_non_null (l.k = link_listen (loop, zctx, at, &ol, NULL));
		assert_non_null (d.k = link_dial (loop, zctx, ipc, &od, NULL));
		AWAIT (has_peer, &l);
		AWAIT (has_peer, &d);
		assert_int_equal (link_peer_major (d.peer), rows[i].major);
		assert_int_equal (link_peer_bulk (l.peer), rows[i].agreed);
		assert_int_equal (link_peer_bulk (d.peer), rows[i].agreed);
		link_destroy (&d.k, 0);
		link_destroy (&l.k, 0);
	}
	ended = true;
}

/* ---- parts ---------------------------------------------------------------------------------------------------- */

static void test_table (void **state)
{
	enum { N = 2000 };
	struct link_table t = { 0 };
	struct link_peer *p = calloc (N, sizeof (*p));
	bool in[N] = { false };
	unsigned seed = 99;
	(void) state;
	for (uint32_t i = 0; i < N; i++) {
		uint32_t n = i / 2;	/* each number twice, of another carrier */
		p[i].by = i % 2 ? &link_over_zmq : &link_over_ipc;
		p[i].rid = n % 3 ? 0xfffffff0u + n : (n + 1) * 0x9e3779b1u;	/* neighbours, over the wrap, and scattered ones */
	}
	assert_null (link_table_get (&t, p[0].by, p[0].rid));
	link_table_del (&t, &p[0]);
	for (int step = 0; step < 50000; step++) {
		int i = rand_r (&seed) % N;
		if (in[i])
			link_table_del (&t, &p[i]);
		else
			link_table_put (&t, &p[i]);
		in[i] = !in[i];
		if (step % 500 == 0)
			for (int j = 0; j < N; j++)
				assert_ptr_equal (link_table_get (&t, p[j].by, p[j].rid), in[j] ? &p[j] : NULL);
	}
	link_table_fini (&t);
	free (p);
	ended = true;
}

/* ---- sending -------------------------------------------------------------------------------------------------- */

static void test_up_batches_order (void **state)
{
	struct side l = { 0 }, d = { 0 };
	struct link_stats st;
	(void) state;
	pair_up (&l, &d);
	assert_int_equal (l.ups, 1);
	assert_string_equal (l.name, "node-1");
	assert_string_equal (d.name, "listener");
	assert_ptr_equal (link_peer (d.k), d.peer);
	assert_true (link_epoch (d.peer) == link_epoch (l.peer) && link_epoch (d.peer) != 0);
	assert_int_equal (link_peer_major (d.peer), WIRE_MAJOR);
	for (uint32_t i = 0; i < 10000; i++)
		send_number (l.peer, WIRE_TASK, i, 300);
	AWAIT (has_records, &((struct target) { &d, 10000 }));
	assert_false (d.disorder);
	assert_in_range (d.messages, 3, 4);	/* 3 MB in messages of 1 MiB */
	/* many small ones: the bound is the number of records */
	d.messages = d.records = d.next = 0;
	for (uint32_t i = 0; i < 10000; i++)
		send_number (l.peer, WIRE_TASK, i, 8);
	AWAIT (has_records, &((struct target) { &d, 10000 }));
	assert_int_equal (d.messages, 3);
	/* order across types: each change of type is a message of its own */
	d.messages = d.records = d.next = d.ntypes = 0;
	for (uint32_t i = 0; i < 30; i++)
		send_number (l.peer, i / 10 % 2 ? WIRE_RESULT : WIRE_TASK, i, 8);
	AWAIT (has_records, &((struct target) { &d, 30 }));
	assert_false (d.disorder);
	assert_int_equal (d.messages, 3);
	assert_memory_equal (d.types, ((uint8_t[]) { WIRE_TASK, WIRE_RESULT, WIRE_TASK }), 3);
	/* ids share a frame */
	d.messages = d.records = d.bytes = 0;
	for (int i = 0; i < 5000; i++) {
		struct id id;
		id_new (&id);
		link_send_id (l.peer, WIRE_CANCEL, &id);
	}
	link_send_bytes (l.peer, WIRE_DRAIN, "12345678", 8);
	AWAIT (has_records, &((struct target) { &d, 3 }));
	assert_int_equal (d.bytes, 5000 * 16 + 8);
	assert_int_equal (d.messages, 2);
	link_stats (d.k, &st);
	assert_int_equal (st.malformed, 0);
	assert_int_equal (link_queued_bytes (l.peer), 0);
	assert_true (d.bursts > 0);
	link_destroy (&l.k, 1000);
	AWAIT (nonzero, &d.downs);		/* BYE or the end of the connection, long before the threshold */
	link_destroy (&d.k, 0);
	assert_null (d.k);
	ended = true;
}

/* They go with the next message, before it, or alone some milliseconds later. */
static void test_acknowledgements_wait (void **state)
{
	struct side l = { 0 }, d = { 0 };
	struct id id;
	(void) state;
	pair_up (&l, &d);
	id_new (&id);
	for (int i = 0; i < 100; i++)
		link_send_id (l.peer, WIRE_RESULT_ACK, &id);
	link_flush (l.k);
	assert_int_not_equal (link_queued_bytes (l.peer), 0);
	link_send_bytes (l.peer, WIRE_DRAIN, "12345678", 8);
	link_flush (l.k);
	assert_int_equal (link_queued_bytes (l.peer), 0);
	AWAIT (has_records, &((struct target) { &d, 2 }));
	assert_memory_equal (d.types, ((uint8_t[]) { WIRE_RESULT_ACK, WIRE_DRAIN }), 2);
	assert_int_equal (d.bytes, 100 * 16 + 8);
	link_send_id (l.peer, WIRE_RESULT_ACK, &id);
	AWAIT (has_records, &((struct target) { &d, 3 }));
	/* a full frame does not wait */
	d.records = d.bytes = 0;
	for (int i = 0; i < 4096; i++)
		link_send_id (l.peer, WIRE_RESULT_ACK, &id);
	link_flush (l.k);
	assert_int_equal (link_queued_bytes (l.peer), 0);
	AWAIT (has_records, &((struct target) { &d, 1 }));
	/* a peer that goes takes them along */
	link_send_id (d.peer, WIRE_RESULT_ACK, &id);
	link_send_id (l.peer, WIRE_RESULT_ACK, &id);
	link_destroy (&d.k, 0);
	AWAIT (nonzero, &l.downs);
	run_until (never, NULL, 30);
	link_destroy (&l.k, 0);
	ended = true;
}

static void send_number_soon (struct link_peer *p, uint32_t i)
{
	zmq_msg_t m;
	zmq_msg_init_size (&m, 8);
	memset (zmq_msg_data (&m), 0, 8);
	memcpy (zmq_msg_data (&m), &i, sizeof (i));
	link_send_soon (p, WIRE_RESULT, &m);
}

/* They leave with the others that follow them, or alone at once after; many do not wait. */
static void test_sent_soon (void **state)
{
	struct side l = { 0 }, d = { 0 };
	(void) state;
	pair_up (&l, &d);
	send_number_soon (l.peer, 0);
	link_flush (l.k);
	assert_int_not_equal (link_queued_bytes (l.peer), 0);
	send_number_soon (l.peer, 1);
	send_number (l.peer, WIRE_RESULT, 2, 8);
	link_flush (l.k);
	assert_int_equal (link_queued_bytes (l.peer), 0);
	AWAIT (has_records, &((struct target) { &d, 3 }));
	assert_int_equal (d.messages, 1);
	send_number_soon (l.peer, 3);
	AWAIT (has_records, &((struct target) { &d, 4 }));
	/* acknowledgements that wait longer go when it goes */
	d.records = d.messages = 0;
	link_send_id (l.peer, WIRE_RESULT_ACK, link_peer_id (l.peer));
	send_number_soon (l.peer, 4);
	AWAIT (has_records, &((struct target) { &d, 2 }));
	assert_int_equal (d.messages, 2);
	for (uint32_t i = 5; i < 21; i++)
		send_number_soon (l.peer, i);
	link_flush (l.k);
	assert_int_equal (link_queued_bytes (l.peer), 0);
	AWAIT (has_records, &((struct target) { &d, 18 }));
	assert_false (d.disorder);
	/* the session ends: they go first */
	send_number_soon (l.peer, 21);
	link_destroy (&l.k, 1000);
	AWAIT (nonzero, &d.downs);
	assert_int_equal (d.records, 19);
	link_destroy (&d.k, 0);
	ended = true;
}

static void test_big_frames (void **state)
{
	struct side l = { 0 }, d = { 0 };
	(void) state;
	pair_up (&l, &d);
	for (uint32_t i = 0; i < 4; i++) {
		send_number (d.peer, WIRE_RESULT, 2 * i, 20 << 20);
		send_number (d.peer, WIRE_RESULT, 2 * i + 1, 40);
	}
	AWAIT (has_records, &((struct target) { &l, 8 }));
	assert_false (l.disorder);
	assert_int_equal (l.bytes, 4ull * (20 << 20) + 4 * 40);
	link_destroy (&d.k, 0);
	link_destroy (&l.k, 0);
	ended = true;
}

/* A listener on a thread and a loop of its own: it goes on while ours ends. */
struct elsewhere { struct side s; struct link_opts o; pthread_t thread; atomic_bool listens, down, over; };
static struct loop *their_loop;

static void look_elsewhere (void *arg)
{
	struct elsewhere *e = arg;
	e->down = e->s.downs > 0;
	if (e->over)
		loop_stop (their_loop);
}

static void *listen_elsewhere (void *arg)
{
	struct elsewhere *e = arg;
	struct loop_timer *t;
	their_loop = loop_create (NULL);
	t = loop_timer_create (their_loop, look_elsewhere, e);
	e->s.k = link_listen (their_loop, zctx, (const char *const[]) { ipc, NULL }, &e->o, NULL);
	e->listens = true;
	loop_timer_start (t, 1, true);
	loop_run (their_loop);
	link_destroy (&e->s.k, 0);
	loop_timer_destroy (&t);
	loop_destroy (&their_loop);
	return NULL;
}

static bool listens (void *arg) { return ((struct elsewhere *) arg)->listens; }

/* What is queued, and more than a kernel takes at once, leaves within the time that the end may take. */
static void test_ending_sends_what_is_queued (void **state)
{
	enum { RECORDS = 20 };
	struct elsewhere e = { 0 };
	struct side d = { 0 };
	int64_t begun, end = clock_now_ms () + DEADLINE_MS;
	(void) state;
	e.o = opts_of (&e.s, NULL, NULL);
	pthread_create (&e.thread, NULL, listen_elsewhere, &e);
	AWAIT (listens, &e);
	dial_to (&d, ipc);
	AWAIT (has_peer, &d);
	for (uint32_t i = 0; i < RECORDS; i++)
		send_number (d.peer, WIRE_RESULT, i, 3 << 20);
	begun = clock_now_ms ();
	link_destroy (&d.k, 30000);
	assert_true (clock_now_ms () - begun < 20000);
	while (!e.down && clock_now_ms () < end)
		usleep (1000);
	e.over = true;
	pthread_join (e.thread, NULL);
	assert_int_equal (e.s.records, RECORDS);
	assert_false (e.s.disorder);
	assert_int_equal (e.s.downs, 1);
	ended = true;
}

/* Who ends waits for peers that are slow, not for one that died meanwhile: on Unix sockets that is known at once. */
static void test_ending_beside_a_dead_peer (void **state)
{
	(void) state;
	for (int dialler = 0; dialler < 2; dialler++) {
		struct side l = { 0 }, d = { 0 }, *ends = dialler ? &d : &l, *dies = dialler ? &l : &d;
		int64_t begun;
		pair_up (&l, &d);
		link_pause (dies->k, true);
		for (uint32_t i = 0; i < 50; i++)
			send_number (ends->peer, WIRE_TASK, i, 1 << 20);
		link_flush (ends->k);
		link_destroy (&dies->k, 0);
		begun = clock_now_ms ();
		link_destroy (&ends->k, 20000);
		assert_true (clock_now_ms () - begun < 10000);
	}
	ended = true;
}

/* What libzmq's thread has not come to yet is no congestion that lasts. */
static bool flows (void *peer) { return !link_congested (peer); }
static bool stays_congested (struct link_peer *p)
{
	return link_congested (p) && !run_until (flows, p, 1000);
}

static void test_not_reading (void **state)
{
	struct side l = { 0 }, d = { 0 }, e = { 0 };
	struct link_opts o = opts_of (&l, NULL, NULL);
	const char *at[] = { ipc, NULL };
	struct link_peer *slow;
	uint32_t sent = 0;
	(void) state;
	o.max_queued_bytes = 4 << 20;
	l.k = link_listen (loop, zctx, at, &o, NULL);
	dial_to (&d, ipc);
	AWAIT (has_peer, &d);
	AWAIT (has_peer, &l);
	slow = l.peer;
	link_pause (d.k, true);
	/* until the sockets are full: bounded by the high water marks on both sides and the kernel */
	while (!stays_congested (slow) && sent < 4000) {
		for (int i = 0; i < 10; i++)
			send_number (slow, WIRE_TASK, sent++, 100000);
		run_until (never, NULL, 1);
	}
	l.reliefs = 0;
	assert_true (link_congested (slow));
	assert_true (sent < 2000);
	assert_in_range (link_queued_bytes (slow), 4 << 20, 6 << 20);
	/* others are served meanwhile */
	dial_to (&e, ipc);
	AWAIT (has_peer, &e);
	for (uint32_t i = 0; i < 100; i++)
		send_number (l.peer, WIRE_TASK, i, 300);
	AWAIT (has_records, &((struct target) { &e, 100 }));
	assert_int_equal (l.reliefs, 0);
	link_pause (d.k, false);
	AWAIT (nonzero, &l.reliefs);
	AWAIT (has_records, &((struct target) { &d, sent }));
	assert_false (d.disorder);
	assert_int_equal (l.downs, 0);
	assert_false (link_congested (slow));
	/* and the other way round: the dialler is the one that is held up */
	l.records = l.next = 0;
	link_pause (l.k, true);
	for (sent = 0; sent < 4000 && link_queued_bytes (d.peer) < (8 << 20);) {
		for (int i = 0; i < 10; i++)
			send_number (d.peer, WIRE_RESULT, sent++, 100000);
		run_until (never, NULL, 1);
	}
	assert_true (sent < 4000);
	link_pause (l.k, false);
	AWAIT (has_records, &((struct target) { &l, sent }));
	assert_false (l.disorder);
	link_destroy (&d.k, 0);
	link_destroy (&e.k, 0);
	link_destroy (&l.k, 0);
	ended = true;
}

/* ---- raw peers ------------------------------------------------------------------------------------------------ */

static void *raw_socket (int type)
{
	void *s = zmq_socket (zctx, type);
	int zero = 0, ms = 5000;
	zmq_setsockopt (s, ZMQ_LINGER, &zero, sizeof (zero));
	zmq_setsockopt (s, ZMQ_RCVTIMEO, &ms, sizeof (ms));
	return s;
}

static void raw_send (void *s, const struct wire_header *h, const void *rec, size_t n)
{
	uint8_t head[WIRE_HEADER_BYTES];
	wire_header_encode (h, head);
	zmq_send (s, head, sizeof (head), rec ? ZMQ_SNDMORE : 0);
	if (rec)
		zmq_send (s, rec, n, 0);
}

static void raw_hello_minor (void *s, uint8_t lo, uint8_t hi, uint8_t minor, struct id *id, uint64_t instance)
{
	struct wire_header h = { .major = hi, .type = WIRE_HELLO, .count = 1 };
	struct msg_hello m = { .role = ROLE_WORKER, .min_major = lo, .max_major = hi, .minor = minor, .instance = instance,
			       .name = WIRE_STR ("raw") };
	struct buf b;
	if (id_is_zero (id))
		id_new (id);
	m.id = *id;
	buf_init (&b, 0);
	msg_hello_encode (&b, &m, hi < WIRE_MAJOR ? hi : WIRE_MAJOR);
	raw_send (s, &h, b.data, b.len);
	buf_fini (&b);
}

static void raw_hello (void *s, uint8_t lo, uint8_t hi, struct id *id, uint64_t instance)
{
	raw_hello_minor (s, lo, hi, 0, id, instance);
}

/* The next message of a raw dealer, without blocking the loop. */
struct raw { void *s; struct wire_header h; uint8_t rec[4096]; int n; };
static bool raw_got (void *arg)
{
	struct raw *r = arg;
	uint8_t head[WIRE_HEADER_BYTES];
	int more;
	size_t n = sizeof (more);
	int got = zmq_recv (r->s, head, sizeof (head), ZMQ_DONTWAIT);
	if (got < 0)
		return false;
	assert_int_equal (wire_header_decode (&r->h, head, (size_t) got, NULL), 0);
	r->n = 0;
	while (zmq_getsockopt (r->s, ZMQ_RCVMORE, &more, &n) == 0 && more)
		r->n = zmq_recv (r->s, r->rec, sizeof (r->rec), 0);
	return true;
}

/* ---- CURVE ---------------------------------------------------------------------------------------------------- */

static struct keys keys_new (void)
{
	struct keys k;
	assert_int_equal (zmq_curve_keypair (k.pub, k.sec), 0);
	return k;
}

static void listen_curve (struct side *s, const struct keys *own)
{
	struct link_opts o = opts_of (s, own, NULL);
	struct err err = { 0 };
	if (!(s->k = link_listen (loop, zctx, any_tcp, &o, &err)))
		fail_msg ("%s", err.text);
}

static void dial_curve (struct side *s, const char *address, const struct keys *own, const char *server)
{
	struct link_opts o = opts_of (s, own, server);
	struct err err = { 0 };
	if (!(s->k = link_dial (loop, zctx, address, &o, &err)))
		fail_msg ("%s", err.text);
}

static void test_curve (void **state)
{
	struct side l = { 0 }, l2 = { 0 }, d = { 0 }, e = { 0 }, bad = { 0 };
	struct keys ls = keys_new (), ds = keys_new (), other = keys_new ();
	struct err err = { 0 };
	const char *allowed[] = { ds.pub };
	(void) state;
	listen_curve (&l, &ls);
	listen_curve (&l2, &ls);	/* same context, another domain: allows nobody */
	assert_int_equal (link_allow_keys (l.k, allowed, 1, &err), 0);
	assert_int_equal (link_allow_keys (l.k, (const char *[]) { "short" }, 1, &err), -1);
	assert_int_equal (err.code, ERR_INVALID);
	dial_curve (&d, link_address (l.k), &ds, ls.pub);
	AWAIT (has_peer, &d);
	AWAIT (has_peer, &l);
	assert_string_equal (l.key, ds.pub);
	for (uint32_t i = 0; i < 1000; i++)
		send_number (d.peer, WIRE_RESULT, i, 3000);
	AWAIT (has_records, &((struct target) { &l, 1000 }));
	assert_false (l.disorder);
	/* the listener does not know the key */
	dial_curve (&e, link_address (l.k), &other, ls.pub);
	AWAIT (nonzero, &e.rejects);
	assert_int_equal (e.reject_code, ERR_FORBIDDEN);
	assert_non_null (strstr (e.reject, "refused our key"));
	assert_int_equal (e.ups, 0);
	link_destroy (&e.k, 0);
	memset (&e, 0, sizeof (e));
	dial_curve (&e, link_address (l2.k), &ds, ls.pub);
	AWAIT (nonzero, &e.rejects);
	assert_int_equal (e.reject_code, ERR_FORBIDDEN);
	link_destroy (&e.k, 0);
	/* a wrong server key, then the right one */
	dial_curve (&bad, link_address (l.k), &ds, other.pub);
	AWAIT (nonzero, &bad.rejects);
	assert_int_equal (bad.reject_code, ERR_UNAVAILABLE);
	assert_non_null (strstr (bad.reject, "wrong server key"));
	assert_int_equal (link_redial (bad.k, NULL, "nonsense", &err), -1);
	assert_int_equal (link_redial (bad.k, NULL, ls.pub, &err), 0);
	AWAIT (has_peer, &bad);
	assert_int_equal (l.ups, 2);
	assert_int_equal (l.downs, 0);
	/* the keys are taken away: sessions end, and cannot be had again */
	assert_int_equal (link_allow_keys (l.k, NULL, 0, &err), 0);
	AWAIT (nonzero, &d.rejects);
	AWAIT (nonzero, &d.downs);
	assert_int_equal (d.reject_code, ERR_FORBIDDEN);
	assert_int_equal (l.downs, 2);
	/* and given back */
	assert_int_equal (link_allow_keys (l.k, allowed, 1, &err), 0);
	AWAIT (has_peer, &d);
	link_destroy (&bad.k, 0);
	link_destroy (&d.k, 0);
	link_destroy (&l.k, 0);
	/* a plain peer at a CURVE listener */
	memset (&e, 0, sizeof (e));
	dial_to (&e, link_address (l2.k));
	AWAIT (nonzero, &e.rejects);
	assert_int_equal (e.reject_code, ERR_UNAVAILABLE);
	link_destroy (&e.k, 0);
	link_destroy (&l2.k, 0);
	ended = true;
}

/* What it got is a REJECT with this code; the slice of the text is in r. */
static struct msg_reason raw_rejected (const struct raw *r, int code)
{
	struct msg_reason m;
	assert_int_equal (r->h.type, WIRE_REJECT);
	assert_int_equal (msg_reason_decode (&m, r->rec, (size_t) r->n, NULL), 0);
	assert_int_equal (m.code, code);
	return m;
}

/* ---- keys within a host --------------------------------------------------------------------------------------- */

static void listen_both (struct side *s, const struct keys *own)
{
	const char *at[] = { ipc, any_tcp[0], NULL };
	struct link_opts o = opts_of (s, own, NULL);
	struct err err = { 0 };
	if (!(s->k = link_listen (loop, zctx, at, &o, &err)))
		fail_msg ("%s", err.text);
}

static struct link_opts local_opts (struct side *s, const struct keys *own, const char *server)
{
	struct link_opts o = opts_of (s, own, server);
	o.local = ipc;
	return o;
}

static bool over (const struct side *s, const struct link_carrier *by)
{
	return s->k->carriers[0] == by && s->peer->by == by;
}

/* One listener serves both: with keys that are proved over TCP, and said on its Unix socket. */
static void test_both_carriers (void **state)
{
	struct side l = { .echo = true }, d = { 0 }, e = { 0 }, other = { 0 };
	struct keys ls = keys_new (), ds = keys_new (), es = keys_new (), os = keys_new ();
	const char *allowed[] = { ds.pub, es.pub };
	struct link_opts od = local_opts (&d, &ds, ls.pub), oo = local_opts (&other, &os, ls.pub);
	struct err err = { 0 };
	(void) state;
	listen_both (&l, &ls);
	assert_int_equal (strncmp (link_address (l.k), "tcp://", 6), 0);
	assert_int_equal (link_allow_keys (l.k, allowed, 2, &err), 0);
	assert_non_null (d.k = link_dial (loop, zctx, link_address (l.k), &od, &err));
	AWAIT (has_peer, &d);
	assert_true (over (&d, &link_over_ipc));
	assert_string_equal (l.key, ds.pub);
	dial_curve (&e, link_address (l.k), &es, ls.pub);
	AWAIT (has_peer, &e);
	assert_true (over (&e, &link_over_zmq));
	assert_string_equal (l.key, es.pub);
	for (uint32_t i = 0; i < 1000; i++) {
		send_number (d.peer, WIRE_RESULT, i, 3000);
		send_number (e.peer, WIRE_RESULT, i, 3000);
	}
	AWAIT (has_records, &((struct target) { &d, 1000 }));
	AWAIT (has_records, &((struct target) { &e, 1000 }));
	assert_false (d.disorder || e.disorder);
	/* a key that it does not know */
	assert_non_null (other.k = link_dial (loop, zctx, link_address (l.k), &oo, &err));
	assert_ptr_equal (other.k->carriers[0], &link_over_ipc);
	AWAIT (nonzero, &other.rejects);
	assert_int_equal (other.reject_code, ERR_FORBIDDEN);
	link_destroy (&other.k, 0);
	/* a key is taken away, and given back */
	assert_int_equal (link_allow_keys (l.k, allowed + 1, 1, &err), 0);
	AWAIT (nonzero, &d.rejects);
	AWAIT (nonzero, &d.downs);
	assert_int_equal (d.reject_code, ERR_FORBIDDEN);
	assert_int_equal (l.downs, 1);
	assert_int_equal (e.downs, 0);
	assert_int_equal (link_allow_keys (l.k, allowed, 2, &err), 0);
	AWAIT (has_peer, &d);
	link_destroy (&d.k, 0);
	link_destroy (&e.k, 0);
	link_destroy (&l.k, 0);
	ended = true;
}

/* Two that do not read, one on each carrier: each goes on when it reads again, whatever the other does; and the end does not wait. */
static void test_both_carriers_blocked (void **state)
{
	(void) state;
	for (int first = 0; first < 2; first++) {
		struct side l = { 0 }, s[2] = { { 0 }, { 0 } };
		struct keys ls = keys_new (), ds = keys_new ();
		struct link_opts o = opts_of (&l, &ls, NULL);
		struct link_peer *p[2];
		uint32_t sent[2] = { 0, 0 };
		struct err err = { 0 };
		o.max_queued_bytes = 4 << 20;
		assert_non_null (l.k = link_listen (loop, zctx, (const char *[]) { ipc, any_tcp[0], NULL }, &o, &err));
		assert_int_equal (link_allow_keys (l.k, (const char *[]) { ds.pub }, 1, &err), 0);
		for (int i = 0; i < 2; i++) {
			struct link_opts od = i ? local_opts (&s[i], &ds, ls.pub) : opts_of (&s[i], &ds, ls.pub);
			assert_non_null (s[i].k = link_dial (loop, zctx, link_address (l.k), &od, &err));
			AWAIT (has_peer, &s[i]);
			p[i] = l.peer;
			link_pause (s[i].k, true);
		}
		for (int i = 0; i < 2; i++)
			while (!stays_congested (p[i]) && sent[i] < 4000) {
				for (int n = 0; n < 10; n++)
					send_number (p[i], WIRE_TASK, sent[i]++, 100000);
				run_until (never, NULL, 1);
			}
		assert_true (p[0]->blocked && p[1]->blocked);
		for (int i = 0; i < 2; i++) {
			int k = i ^ first;
			link_pause (s[k].k, false);
			AWAIT (has_records, &((struct target) { &s[k], sent[k] }));
			assert_false (s[k].disorder);
			assert_true (i || p[!k]->blocked);
		}
		/* not the one over TCP: libzmq 4.3.4 now and then leaks the frames that it has of a message whose rest it does not get */
		link_pause (s[1].k, true);
		for (int n = 0; n < 1000; n++)
			send_number (p[1], WIRE_TASK, sent[1]++, 100000);
		link_destroy (&l.k, 50);
		link_destroy (&s[0].k, 0);
		link_destroy (&s[1].k, 0);
	}
	ended = true;
}

/* The same party comes over the other carrier: there is one session. */
static void test_one_session_over_two_carriers (void **state)
{
	struct side l = { 0 }, d = { 0 }, e = { 0 };
	struct keys ls = keys_new (), ds = keys_new ();
	const char *allowed[] = { ds.pub };
	struct link_opts od = opts_of (&d, &ds, ls.pub), oe = local_opts (&e, &ds, ls.pub);
	struct err err = { 0 };
	(void) state;
	listen_both (&l, &ls);
	assert_int_equal (link_allow_keys (l.k, allowed, 1, &err), 0);
	oe.hello.id = od.hello.id;
	assert_non_null (d.k = link_dial (loop, zctx, link_address (l.k), &od, &err));
	AWAIT (has_peer, &d);
	assert_non_null (e.k = link_dial (loop, zctx, link_address (l.k), &oe, &err));
	AWAIT (has_peer, &e);
	assert_true (over (&e, &link_over_ipc));
	assert_int_equal (l.downs, 1);
	assert_string_equal (l.why, "replaced");
	AWAIT (nonzero, &d.rejects);
	assert_int_equal (d.reject_code, ERR_CONFLICT);
	link_destroy (&d.k, 0);
	link_destroy (&e.k, 0);
	link_destroy (&l.k, 0);
	ended = true;
}

/* Who says no key is nobody. */
static void test_no_key_within_a_host (void **state)
{
	struct side l = { 0 };
	struct keys ls = keys_new ();
	struct raw r = { .s = raw_socket (ZMQ_DEALER) };
	struct id id = { { 0 } };
	(void) state;
	listen_both (&l, &ls);
	zmq_connect (r.s, ipc);
	raw_hello (r.s, 1, 2, &id, 5);
	AWAIT (raw_got, &r);
	raw_rejected (&r, ERR_FORBIDDEN);
	assert_int_equal (l.ups, 0);
	zmq_close (r.s);
	link_destroy (&l.k, 0);
	ended = true;
}

static bool over_ipc_now (void *arg)
{
	struct side *s = arg;
	return s->peer && over (s, &link_over_ipc);
}

static bool hung_up_on (void *arg)
{
	int fd = accept (*(int *) arg, NULL, NULL);
	return fd >= 0 && close (fd) == 0;
}

/* Nobody at the Unix socket: over TCP at once. Somebody who hangs up: with the next attempt. The listener: over it. */
static void test_local_address_that_is_not_served (void **state)
{
	struct side l = { 0 }, d = { 0 };
	struct keys ls = keys_new (), ds = keys_new ();
	const char *allowed[] = { ds.pub };
	struct link_opts od = local_opts (&d, &ds, ls.pub);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct err err = { 0 };
	char address[64];
	int fd;
	(void) state;
	listen_curve (&l, &ls);
	assert_int_equal (link_allow_keys (l.k, allowed, 1, &err), 0);
	snprintf (address, sizeof (address), "%s", link_address (l.k));
	assert_non_null (d.k = link_dial (loop, zctx, address, &od, &err));
	assert_ptr_equal (d.k->carriers[0], &link_over_zmq);
	AWAIT (has_peer, &d);
	/* it ends, and somebody else has the socket */
	fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf (sa.sun_path, sizeof (sa.sun_path), "%s", ipc + strlen (LINK_IPC));
	assert_int_equal (bind (fd, (struct sockaddr *) &sa, sizeof (sa)), 0);
	assert_int_equal (listen (fd, 5), 0);
	link_peer_close (l.peer, ERR_UNAVAILABLE, "again, please");
	AWAIT (nonzero, &d.downs);
	d.ups = 0;
	AWAIT (hung_up_on, &fd);
	AWAIT (nonzero, &d.ups);
	assert_true (over (&d, &link_over_zmq));
	close (fd);
	/* the listener is there, too */
	assert_int_equal (link_listen_within (l.k, "ipc:///nowhere/at/all", &err), -1);
	assert_int_equal (err.code, ERR_IO);
	assert_int_equal (link_listen_within (l.k, any_tcp[0], &err), -1);
	assert_int_equal (link_listen_within (l.k, ipc, &err), 0);
	assert_int_equal (link_listen_within (l.k, ipc, &err), -1);
	assert_string_equal (link_address (l.k), address);
	assert_non_null (d.peer);
	link_peer_close (l.peer, ERR_UNAVAILABLE, "again, please");
	AWAIT (over_ipc_now, &d);
	link_destroy (&d.k, 0);
	link_destroy (&l.k, 0);
	ended = true;
}

/* "Not now" is an answer: it is asked again there. Who refuses for another reason may not be the listener that is meant. */
static void test_local_listener_that_refuses (void **state)
{
	static const struct { int code; const struct link_carrier *next; } rows[] = {
		{ ERR_UNAVAILABLE, &link_over_ipc }, { ERR_NOT_FOUND, &link_over_zmq },
	};
	(void) state;
	for (size_t i = 0; i < sizeof (rows) / sizeof (rows[0]); i++) {
		struct side l = { .refuse = true, .refuse_code = rows[i].code }, d = { 0 };
		struct keys ls = keys_new (), ds = keys_new ();
		const char *allowed[] = { ds.pub };
		struct link_opts od = local_opts (&d, &ds, ls.pub);
		struct err err = { 0 };
		listen_both (&l, &ls);
		assert_int_equal (link_allow_keys (l.k, allowed, 1, &err), 0);
		assert_non_null (d.k = link_dial (loop, zctx, link_address (l.k), &od, &err));
		AWAIT (nonzero, &d.rejects);
		assert_int_equal (d.reject_code, rows[i].code);
		l.refuse = false;
		AWAIT (has_peer, &d);
		assert_true (over (&d, rows[i].next));
		link_destroy (&d.k, 0);
		link_destroy (&l.k, 0);
	}
	ended = true;
}

/* Without one of them there is no listener. */
static void test_listening_at_one_place_of_two (void **state)
{
	struct side l = { 0 };
	struct keys ls = keys_new ();
	struct link_opts o = opts_of (&l, &ls, NULL);
	struct err err = { 0 };
	(void) state;
	assert_null (link_listen (loop, zctx, (const char *[]) { any_tcp[0], "ipc:///nowhere/at/all", NULL }, &o, &err));
	assert_int_equal (err.code, ERR_IO);
	assert_null (link_listen (loop, zctx, (const char *[]) { "tcp://nowhere", ipc, NULL }, &o, &err));
	ended = true;
}

/* It hears that the listener moves while it has a session at the old place: that is still where the session was when it ends. */
static void test_moving_during_a_session (void **state)
{
	struct side l = { 0 }, m = { 0 }, d = { 0 };
	struct keys ls = keys_new (), ms = keys_new (), ds = keys_new ();
	const char *allowed[] = { ds.pub };
	struct link_opts od = local_opts (&d, &ds, ls.pub);
	struct err err = { 0 };
	char address[64];
	(void) state;
	listen_curve (&l, &ls);
	listen_curve (&m, &ms);
	assert_int_equal (link_allow_keys (l.k, allowed, 1, &err), 0);
	assert_int_equal (link_allow_keys (m.k, allowed, 1, &err), 0);
	snprintf (address, sizeof (address), "%s", link_address (l.k));
	assert_non_null (d.k = link_dial (loop, zctx, address, &od, &err));
	AWAIT (has_peer, &d);
	assert_int_equal (link_redial (d.k, link_address (m.k), ms.pub, &err), 0);
	assert_string_equal (d.k->dial.via, address);
	link_peer_close (l.peer, ERR_UNAVAILABLE, "I have moved");
	AWAIT (nonzero, &d.downs);
	AWAIT (has_peer, &d);
	assert_int_equal (m.ups, 1);
	assert_string_equal (d.k->dial.via, link_address (m.k));
	link_destroy (&d.k, 0);
	link_destroy (&l.k, 0);
	link_destroy (&m.k, 0);
	ended = true;
}

static bool waited_a_while (void *arg)
{
	const struct link_dial *d = arg;
	return d->within && d->state == DIAL_CONNECTING && clock_now_ms () - d->opened_ms > 2 * LINK_HELLO_MS;
}

/* Who listens within the host was stopped, and another one, elsewhere, has taken over: nobody waits for the first one then. */
static void test_moving_away_from_one_that_is_stopped (void **state)
{
	struct side l = { 0 }, d = { 0 };
	struct keys ls = keys_new (), ds = keys_new ();
	const char *allowed[] = { ds.pub };
	struct link_opts od = local_opts (&d, &ds, ls.pub);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct err err = { 0 };
	int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void) state;
	snprintf (sa.sun_path, sizeof (sa.sun_path), "%s", ipc + strlen (LINK_IPC));
	assert_int_equal (bind (fd, (struct sockaddr *) &sa, sizeof (sa)), 0);
	assert_int_equal (listen (fd, 5), 0);
	listen_curve (&l, &ls);
	assert_int_equal (link_allow_keys (l.k, allowed, 1, &err), 0);
	assert_non_null (d.k = link_dial (loop, zctx, "tcp://127.0.0.1:1", &od, &err));
	AWAIT (waited_a_while, &d.k->dial);
	assert_int_equal (link_redial (d.k, link_address (l.k), NULL, &err), 0);
	assert_true (run_until (has_peer, &d, THRESHOLD_MS / 2));
	assert_true (over (&d, &link_over_zmq));
	link_destroy (&d.k, 0);
	link_destroy (&l.k, 0);
	close (fd);
	ended = true;
}

/* ---- sessions ------------------------------------------------------------------------------------------------- */

static void test_reconnect (void **state)
{
	struct side l = { 0 }, d = { 0 };
	struct link_opts o = opts_of (&l, NULL, NULL);
	char address[128];
	const char *at[] = { address, NULL };
	(void) state;
	snprintf (address, sizeof (address), "tcp://127.0.0.1:*");
	l.k = link_listen (loop, zctx, at, &o, NULL);
	snprintf (address, sizeof (address), "%s", link_address (l.k));
	dial_to (&d, address);
	AWAIT (has_peer, &d);
	for (int round = 1; round <= 2; round++) {
		int64_t end = clock_now_ms () + DEADLINE_MS;
		link_destroy (&l.k, 100);
		d.downs = 0;
		AWAIT (nonzero, &d.downs);
		assert_null (link_peer (d.k));
		while (!(l.k = link_listen (loop, zctx, at, &o, NULL)) && clock_now_ms () < end)
			run_until (never, NULL, 5);	/* libzmq frees the port a little later */
		assert_non_null (l.k);
		AWAIT (has_peer, &d);
		assert_int_equal (d.ups, round + 1);
	}
	/* a dialler that is there before its listener, and one that moves */
	link_destroy (&d.k, 0);
	memset (&d, 0, sizeof (d));
	dial_to (&d, ipc);
	run_until (never, NULL, 300);
	assert_int_equal (d.ups, 0);
	assert_int_equal (link_redial (d.k, address, NULL, NULL), 0);
	AWAIT (has_peer, &d);
	/* and back: a link may be carried in one way after the other */
	link_destroy (&l.k, 0);
	d.downs = 0;
	AWAIT (nonzero, &d.downs);
	listen_plain (&l);
	assert_int_equal (link_redial (d.k, ipc, NULL, NULL), 0);
	AWAIT (has_peer, &d);
	link_destroy (&d.k, 0);
	link_destroy (&l.k, 0);
	ended = true;
}

static void test_fencing (void **state)
{
	struct side l = { 0 }, d = { 0 }, e = { 0 };
	struct link_opts od = opts_of (&d, NULL, NULL), oe = opts_of (&e, NULL, NULL);
	(void) state;
	listen_plain (&l);
	oe.hello.id = od.hello.id;
	d.k = link_dial (loop, zctx, ipc, &od, NULL);
	AWAIT (has_peer, &d);
	e.k = link_dial (loop, zctx, ipc, &oe, NULL);
	AWAIT (has_peer, &e);
	assert_int_equal (l.downs, 1);
	assert_string_equal (l.why, "replaced");
	assert_true (link_peer_instance (l.peer) == oe.hello.instance);
	AWAIT (nonzero, &d.downs);
	AWAIT (nonzero, &d.rejects);
	assert_int_equal (d.reject_code, ERR_CONFLICT);
	link_destroy (&d.k, 0);
	link_destroy (&e.k, 0);
	link_destroy (&l.k, 0);
	ended = true;
}

static void test_refused_and_closed (void **state)
{
	struct side l = { .refuse = true }, d = { 0 };
	(void) state;
	listen_plain (&l);
	dial_to (&d, ipc);
	AWAIT (nonzero, &d.rejects);
	assert_int_equal (d.reject_code, ERR_NOT_FOUND);
	assert_string_equal (d.reject, "never heard of you");
	l.refuse = false;
	AWAIT (has_peer, &d);
	link_peer_close (l.peer, ERR_LIMIT, "too much");
	assert_int_equal (l.downs, 0);	/* not from inside the call */
	send_number (l.peer, WIRE_TASK, 0, 8);	/* dropped */
	AWAIT (nonzero, &l.downs);
	AWAIT (nonzero, &d.downs);
	assert_string_equal (l.why, "too much");
	assert_string_equal (d.why, "too much");
	AWAIT (has_peer, &d);
	/* malformed records: 16 of them end the session */
	l.malformed = true;
	l.downs = 0;
	for (int i = 0; i < 40 && d.peer; i++) {
		link_send_bytes (d.peer, i % 2 ? WIRE_CAPACITY : WIRE_METRICS, "x", 1);
		link_flush (d.k);
	}
	AWAIT (nonzero, &l.downs);
	assert_string_equal (l.why, "too many malformed messages");
	assert_int_equal (l.messages, 16);
	link_destroy (&d.k, 0);
	link_destroy (&l.k, 0);
	ended = true;
}

static void test_destroy_in_callback (void **state)
{
	struct side l = { .destroy_on_message = true }, d = { 0 }, e = { .destroy_on_up = true };
	(void) state;
	pair_up (&l, &d);
	for (uint32_t i = 0; i < 100; i++)
		send_number (d.peer, i % 2 ? WIRE_TASK : WIRE_RESULT, i, 100);
	AWAIT (nonzero, &d.downs);
	assert_null (l.k);
	assert_int_equal (l.messages, 1);
	link_destroy (&d.k, 0);
	run_until (never, NULL, 50);	/* the old listener unlinks its socket file */
	memset (&l, 0, sizeof (l));
	listen_plain (&l);
	dial_to (&e, ipc);
	AWAIT (nonzero, &e.ups);
	AWAIT (nonzero, &l.downs);
	assert_null (e.k);
	link_destroy (&l.k, 0);
	ended = true;
}

/* ---- peers that are none, or old --------------------------------------------------------------------------------- */

static void test_versions (void **state)
{
	static const struct { uint8_t lo, hi, minor; int major, session_minor; } rows[] = {
		{ 1, 1, 0, 1, 0 }, { 1, 2, 0, 2, 0 }, { 2, 2, WIRE_MINOR - 1, 2, WIRE_MINOR - 1 }, { 1, 2, WIRE_MINOR, 2, WIRE_MINOR },
		{ 1, 2, WIRE_MINOR + 1, 2, WIRE_MINOR }, { 2, 3, 0, 2, WIRE_MINOR }, { 1, 9, 0, 2, WIRE_MINOR }, { 3, 3, 0, 0, 0 } };
	struct side l = { 0 };
	struct err err;
	(void) state;
	listen_plain (&l);
	for (size_t i = 0; i < sizeof (rows) / sizeof (rows[0]); i++) {
		struct raw r = { .s = raw_socket (ZMQ_DEALER) };
		struct id id = { { 0 } };
		zmq_connect (r.s, ipc);
		raw_hello_minor (r.s, rows[i].lo, rows[i].hi, rows[i].minor, &id, 5);
		AWAIT (raw_got, &r);
		if (rows[i].major) {
			struct msg_welcome w;
			uint64_t epoch;
			assert_int_equal (r.h.type, WIRE_WELCOME);
			assert_int_equal (msg_welcome_decode (&w, r.rec, (size_t) r.n, &err), 0);
			assert_int_equal (w.major, rows[i].major);
			assert_int_equal (w.minor, rows[i].session_minor);
			assert_int_equal (r.h.major, rows[i].major);
			assert_true (w.epoch != 0 && w.epoch == r.h.epoch);
			assert_int_equal (w.threshold_ms, THRESHOLD_MS);
			epoch = w.epoch;
			raw_hello_minor (r.s, rows[i].lo, rows[i].hi, rows[i].minor, &id, 5);	/* again: same session */
			AWAIT (raw_got, &r);
			assert_int_equal (r.h.type, WIRE_WELCOME);
			assert_true (r.h.epoch == epoch);
		} else {
			struct msg_reason m = raw_rejected (&r, ERR_VERSION);
			assert_non_null (memmem (m.text.p, m.text.n, "1 to 2", 6));
		}
		zmq_close (r.s);
	}
	assert_int_equal (l.ups, sizeof (rows) / sizeof (rows[0]) - 1);
	link_destroy (&l.k, 0);
	ended = true;
}

/* Somebody else's socket: whoever connects is answered with a line of text. */
struct stranger { int fd; struct side *d; };
static bool refused_by_stranger (void *arg)
{
	struct stranger *g = arg;
	int fd = accept (g->fd, NULL, NULL);
	if (fd >= 0) {
		assert_int_equal (send (fd, "-ERR unknown command\r\n", 22, MSG_NOSIGNAL), 22);
		close (fd);
	}
	return g->d->rejects > 0;
}

static void test_not_a_peer (void **state)
{
	struct side d = { 0 };
	struct stranger g = { socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), &d };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	(void) state;
	snprintf (sa.sun_path, sizeof (sa.sun_path), "%s", ipc + strlen ("ipc://"));
	assert_int_equal (bind (g.fd, (struct sockaddr *) &sa, sizeof (sa)), 0);
	assert_int_equal (listen (g.fd, 5), 0);
	dial_to (&d, ipc);
	AWAIT (refused_by_stranger, &g);
	assert_int_equal (d.reject_code, ERR_UNAVAILABLE);
	assert_non_null (strstr (d.reject, "not a Weft peer"));
	assert_int_equal (d.ups, 0);
	link_destroy (&d.k, 0);
	close (g.fd);
	ended = true;
}

static void test_silence (void **state)
{
	struct side l = { 0 }, d = { 0 };
	struct raw r = { .s = raw_socket (ZMQ_DEALER) };
	struct id id = { { 0 } };
	uint8_t rid[16];
	void *router = raw_socket (ZMQ_ROUTER);
	struct msg_welcome w = { .major = 2, .epoch = 77, .heartbeat_ms = 100, .threshold_ms = 500 };
	struct wire_header h = { .major = 2, .type = WIRE_WELCOME, .count = 1, .epoch = 77 };
	struct link_opts o = opts_of (&l, NULL, NULL);
	const char *ours[] = { ipc, NULL };
	char at[128];
	size_t n = sizeof (at);
	struct buf b;
	int got = -1;
	int64_t begin, end;
	(void) state;
	o.threshold_ms = 1000;
	l.k = link_listen (loop, zctx, ours, &o, NULL);
	zmq_connect (r.s, ipc);
	raw_hello (r.s, 1, 2, &id, 9);
	AWAIT (has_peer, &l);
	begin = clock_now_ms ();
	AWAIT (nonzero, &l.downs);
	assert_true (clock_now_ms () - begin >= 900);
	assert_non_null (strstr (l.why, "no sign of life"));
	assert_true (l.heartbeats > 1);
	zmq_close (r.s);
	/* a listener that welcomes and then says nothing */
	zmq_bind (router, "tcp://127.0.0.1:*");
	zmq_getsockopt (router, ZMQ_LAST_ENDPOINT, at, &n);
	dial_to (&d, at);
	for (end = clock_now_ms () + DEADLINE_MS; got < 0 && clock_now_ms () < end;) {
		run_until (never, NULL, 5);
		got = zmq_recv (router, rid, sizeof (rid), ZMQ_DONTWAIT);
	}
	assert_int_equal (got, 5);
	zmq_send (router, rid, 5, ZMQ_SNDMORE);
	buf_init (&b, 0);
	msg_welcome_encode (&b, &w, 2);
	raw_send (router, &h, b.data, b.len);
	buf_fini (&b);
	AWAIT (has_peer, &d);
	AWAIT (nonzero, &d.downs);
	assert_non_null (strstr (d.why, "no sign of life"));
	assert_true (d.heartbeats > 1);
	zmq_close (router);
	link_destroy (&d.k, 0);
	link_destroy (&l.k, 0);
	ended = true;
}

static void test_stray_and_stale (void **state)
{
	struct side l = { 0 };
	struct raw r = { .s = raw_socket (ZMQ_DEALER) };
	struct id id = { { 0 } };
	struct wire_header h = { .major = 2, .type = WIRE_CAPACITY, .count = 1, .epoch = 5 };
	uint64_t epoch;
	(void) state;
	listen_plain (&l);
	zmq_connect (r.s, ipc);
	raw_send (r.s, &h, "x", 1);	/* no session */
	AWAIT (raw_got, &r);
	raw_rejected (&r, ERR_BAD_STATE);
	raw_hello (r.s, 1, 2, &id, 9);
	AWAIT (raw_got, &r);
	epoch = r.h.epoch;
	raw_send (r.s, &h, "x", 1);	/* another session's: dropped */
	h.type = WIRE_RESULT;
	raw_send (r.s, &h, "\0\0\0\0", 4);	/* a result counts whenever it comes */
	h.type = 200;			/* unknown type: ignored */
	h.epoch = epoch;
	raw_send (r.s, &h, "x", 1);
	h.type = WIRE_METRICS;
	raw_send (r.s, &h, "x", 1);
	AWAIT (has_records, &((struct target) { &l, 2 }));
	assert_int_equal (l.messages, 2);
	assert_memory_equal (l.types, ((uint8_t[]) { WIRE_RESULT, WIRE_METRICS }), 2);
	h.type = WIRE_BYE;
	raw_send (r.s, &h, "\6\0\0\0\2\0no", 8);
	AWAIT (nonzero, &l.downs);
	assert_string_equal (l.why, "no");
	zmq_close (r.s);
	link_destroy (&l.k, 0);
	ended = true;
}

static void garbage_message (void *s, unsigned *seed, const struct wire_header *h)
{
	uint8_t junk[300];
	int frames = rand_r (seed) % 5;
	size_t n = (size_t) rand_r (seed) % sizeof (junk);
	for (size_t i = 0; i < sizeof (junk); i++)
		junk[i] = (uint8_t) rand_r (seed);
	if (rand_r (seed) % 3) {	/* a header that looks right, or nearly */
		struct wire_header x = *h;
		uint8_t head[WIRE_HEADER_BYTES];
		x.type = (uint8_t) (rand_r (seed) % 80);
		x.count = (uint32_t) (rand_r (seed) % 4);
		wire_header_encode (&x, head);
		if (rand_r (seed) % 4 == 0)
			head[rand_r (seed) % (int) sizeof (head)] ^= 1 << rand_r (seed) % 8;
		zmq_send (s, head, sizeof (head), frames ? ZMQ_SNDMORE : 0);
		if (!frames)
			return;
	}
	for (int i = 0; i < frames; i++)
		zmq_send (s, junk, n, ZMQ_SNDMORE);
	zmq_send (s, junk, n / 2, 0);
}

static void test_garbage (void **state)
{
	struct side l = { 0 }, d = { 0 };
	struct link_stats st;
	unsigned seed = 12345;
	(void) state;
	pair_up (&l, &d);
	for (int peer = 0; peer < 20; peer++) {
		struct raw r = { .s = raw_socket (peer % 5 == 4 ? ZMQ_REQ : ZMQ_DEALER) };
		struct wire_header h = { .major = 2 };
		struct id id = { { 0 } };
		if (peer % 5 == 3)
			zmq_setsockopt (r.s, ZMQ_ROUTING_ID, "me", 2);
		zmq_connect (r.s, ipc);
		if (peer % 5 < 2) {
			raw_hello (r.s, 1, 2, &id, 9);
			AWAIT (raw_got, &r);
			h.epoch = r.h.epoch;
		}
		for (int i = 0; i < 200; i++)
			garbage_message (r.s, &seed, &h);
		run_until (never, NULL, 10);
		zmq_close (r.s);
	}
	/* more frames than a message may have */
	struct raw r = { .s = raw_socket (ZMQ_DEALER) };
	struct wire_header h = { .major = 2, .type = WIRE_TASK, .count = 4096 };
	zmq_connect (r.s, ipc);
	for (int i = 0; i < 3; i++) {
		uint8_t head[WIRE_HEADER_BYTES];
		wire_header_encode (&h, head);
		zmq_send (r.s, head, sizeof (head), ZMQ_SNDMORE);
		for (int j = 0; j < 10000; j++)
			zmq_send (r.s, "junk", 4, j < 9999 ? ZMQ_SNDMORE : 0);
	}
	run_until (never, NULL, 50);
	zmq_close (r.s);
	link_stats (l.k, &st);
	assert_true (st.malformed > 100);
	assert_int_equal (d.downs, 0);
	d.records = d.next = 0;
	d.disorder = false;
	for (uint32_t i = 0; i < 1000; i++)
		send_number (d.peer, WIRE_TASK, i, 300);
	l.records = 0;
	AWAIT (has_records, &((struct target) { &l, 1000 }));
	assert_int_equal (d.downs, 0);
	link_destroy (&d.k, 0);
	link_destroy (&l.k, 0);
	ended = true;
}

static bool all_up (void *arg) { struct target *t = arg; return (size_t) t->s->ups >= t->records; }
static void test_many (void **state)
{
	struct side l = { 0 }, *d = calloc (MANY, sizeof (*d));
	struct rlimit lim;
	struct link_stats st;
	int64_t begin = clock_now_ms ();
	(void) state;
	getrlimit (RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit (RLIMIT_NOFILE, &lim);
	if (lim.rlim_cur < 12 * MANY) {
		free (d);
		print_message ("needs %d descriptors\n", 12 * MANY);
		skip ();
	}
	heartbeat_ms = 5000;	/* of 2,000 ends five a second each, they would be most of the work */
	struct link_opts o = opts_of (&l, NULL, NULL);
	const char *at[] = { ipc, NULL };
	l.k = link_listen (loop, zctx, at, &o, NULL);
	l.echo = true;
	for (int i = 0; i < MANY; i++) {
		dial_to (&d[i], ipc);
		if ((i + 1) % GROUP == 0)	/* all at once is a matter of processors, for tests/bench/sim_peers */
			AWAIT (all_up, &((struct target) { &l, (size_t) i + 1 }));
	}
	for (int i = 0; i < MANY; i++)
		AWAIT (has_peer, &d[i]);
	print_message ("%d sessions after %d ms\n", MANY, (int) (clock_now_ms () - begin));
	for (int i = 0; i < MANY; i++)
		for (uint32_t j = 0; j < 10; j++)
			send_number (d[i].peer, WIRE_TASK, j, 50);
	for (int i = 0; i < MANY; i++) {
		AWAIT (has_records, &((struct target) { &d[i], 10 }));
		assert_false (d[i].disorder);
	}
	link_stats (l.k, &st);
	assert_int_equal (st.sessions, MANY);
	assert_int_equal (l.downs, 0);
	for (int i = 0; i < MANY; i += 2)
		link_destroy (&d[i].k, 0);
	for (int i = 1; i < MANY; i += 2)
		link_destroy (&d[i].k, 0);
	link_destroy (&l.k, 0);
	free (d);
	heartbeat_ms = 200;
	ended = true;
}

/* ---- rates, printed ------------------------------------------------------------------------------------------- */

static int cmp_i64 (const void *a, const void *b)
{
	int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;
	return (x > y) - (x < y);
}

/* Called for each message of the dialler: the next round trip starts. */
struct ping { int64_t at[2000]; int64_t begin; int n; };
static struct ping ping;
static int on_pong (struct link_peer *p, const struct wire_header *h, zmq_msg_t *r, size_t n, void *arg, struct err *err)
{
	(void) h;
	(void) r;
	(void) n;
	(void) arg;
	(void) err;
	ping.at[ping.n++] = clock_now_ns () - ping.begin;
	if (ping.n < 2000) {
		ping.begin = clock_now_ns ();
		send_number (p, WIRE_TASK, 0, 300);
	} else {
		loop_stop (loop);
	}
	return 0;
}

static void rate (const char *what, struct side *l, struct side *d, const struct link_opts *od)
{
	const uint32_t total = 300000;
	struct side pinger = { 0 };
	struct link_ops pops = ops;
	struct link_opts o = *od;
	int64_t begin = clock_now_ns ();
	double s, batch;
	for (uint32_t i = 0; i < total;) {
		for (int j = 0; j < 3000 && i < total && !link_congested (d->peer); j++)
			send_number (d->peer, WIRE_RESULT, i++, 300);
		run_until (nonzero, &(int) { 1 }, 1);
	}
	AWAIT (has_records, &((struct target) { l, total }));
	s = (double) (clock_now_ns () - begin) / 1e9;
	batch = (double) total / (double) l->messages;
	assert_false (l->disorder);
	link_destroy (&d->k, 0);
	l->echo = true;
	l->ups = 0;
	pops.on_message = on_pong;
	o.ops = &pops;
	o.arg = &pinger;
	id_new (&o.hello.id);
	pinger.k = link_dial (loop, zctx, link_address (l->k), &o, NULL);
	AWAIT (has_peer, &pinger);
	ping.n = 0;
	ping.begin = clock_now_ns ();
	send_number (pinger.peer, WIRE_TASK, 0, 300);
	loop_run (loop);
	qsort (ping.at, 2000, sizeof (ping.at[0]), cmp_i64);
	print_message ("%s: %.0f records/s of 300 bytes (both sides on one thread), %.0f records a message; round trip p50 %.0f us, p99 %.0f us\n", what,
		       total / s, batch, ping.at[1000] / 1e3, ping.at[1980] / 1e3);
	link_destroy (&pinger.k, 0);
	link_destroy (&l->k, 0);
}

static void test_rates (void **state)
{
	struct side l = { 0 }, d = { 0 };
	struct keys ls = keys_new (), ds = keys_new ();
	struct link_opts o = opts_of (&d, NULL, NULL);
	(void) state;
	pair_up (&l, &d);
	rate ("ipc", &l, &d, &o);
	memset (&l, 0, sizeof (l));
	memset (&d, 0, sizeof (d));
	listen_curve (&l, &ls);
	link_allow_keys (l.k, (const char *[]) { ds.pub }, 1, NULL);
	o = opts_of (&d, &ds, ls.pub);
	dial_curve (&d, link_address (l.k), &ds, ls.pub);
	AWAIT (has_peer, &d);
	AWAIT (has_peer, &l);
	rate ("tcp with CURVE", &l, &d, &o);
	ended = true;
}

int main (void)
{
#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T (test_bulk_is_agreed_on),
		T (test_acknowledgements_wait),
		T (test_sent_soon),
		T (test_table), T (test_up_batches_order), T (test_big_frames), T (test_not_reading), T (test_curve),
		T (test_both_carriers), T (test_both_carriers_blocked),
		T (test_one_session_over_two_carriers), T (test_no_key_within_a_host), T (test_local_address_that_is_not_served),
		T (test_local_listener_that_refuses), T (test_listening_at_one_place_of_two), T (test_moving_during_a_session),
		T (test_moving_away_from_one_that_is_stopped),
		T (test_reconnect), T (test_fencing),
		T (test_ending_sends_what_is_queued), T (test_ending_beside_a_dead_peer),
		T (test_refused_and_closed), T (test_destroy_in_callback), T (test_not_a_peer), T (test_versions), T (test_silence), T (test_stray_and_stale),
		T (test_garbage), T (test_many), T (test_rates),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
