/* SPDX-License-Identifier: Apache-2.0 */
/* The yardstick: the bare path assembled from the same libraries, and nothing else in it. No security, no recovery, no limits.
 *
 *   POST -> evhttp -> HSET + RPUSH -> Redis -> BLPOP -> forwarder -> ZeroMQ -> agent -> ZeroMQ -> worker -> python3 child, and back
 *
 *   skeleton service   HTTP_PORT REDIS_SOCKET
 *   skeleton forwarder LINK REDIS_SOCKET
 *   skeleton agent     LINK WORKERS
 *   skeleton worker    WORKERS CHILD_PY PREFETCH
 *
 *   POST /run      one task, answered with its result
 *   POST /submit   one task, answered when Redis has it
 *   POST /batch/N  N tasks of the same body, answered after the last result
 *
 * A message is 16 hexadecimal characters of task number, then the body. */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <hiredis/adapters/libevent.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#define NUM 16
#define TAKE 64			/* list entries in one read */
#define WAITERS (1u << 20)
#define FRAME_MAX (16u << 20)

extern char **environ;

static void die (const char *what)
{
	fprintf (stderr, "skeleton: %s: %s\n", what, strerror (errno));
	exit (1);
}

/* ---- service -------------------------------------------------------------------------------------------------------- */

struct waiter { struct evhttp_request *req; unsigned left; };
static struct waiter *waiters[WAITERS];
static redisAsyncContext *out, *in;
static unsigned long next;

static void answer (struct evhttp_request *req, const char *s, size_t n)
{
	struct evbuffer *b = evbuffer_new ();
	evbuffer_add_printf (b, "{\"result\":%.*s}", (int)n, s);
	evhttp_send_reply (req, 200, "OK", b);
	evbuffer_free (b);
}

static void on_queued (redisAsyncContext *c, void *r, void *arg)
{
	(void)c;
	(void)r;
	answer (arg, "\"queued\"", 8);
}

static void queue (struct waiter *w, const char *body, size_t n, struct evhttp_request *ack)
{
	char num[NUM + 1];
	unsigned long id = next++;
	snprintf (num, sizeof (num), "%016lx", id);
	waiters[id % WAITERS] = w;
	redisAsyncCommand (out, NULL, NULL, "HSET t:%s s q p %b", num, body, n);
	redisAsyncCommand (out, ack ? on_queued : NULL, ack, "RPUSH tasks %s%b", num, body, n);
}

static void on_request (struct evhttp_request *req, void *arg)
{
	const char *uri = evhttp_request_get_uri (req);
	struct evbuffer *b = evhttp_request_get_input_buffer (req);
	size_t n = evbuffer_get_length (b);
	const char *body = (const char *)evbuffer_pullup (b, -1);
	struct waiter *w;
	(void)arg;
	if (!strcmp (uri, "/submit")) {
		queue (NULL, body, n, req);
		return;
	}
	w = calloc (1, sizeof (*w));
	w->req = req;
	w->left = strncmp (uri, "/batch/", 7) ? 1 : (unsigned)atoi (uri + 7);
	for (unsigned i = w->left; i; i--)
		queue (w, body, n, NULL);
}

static void deliver (const char *s, size_t n)
{
	char num[NUM + 1] = "";
	memcpy (num, s, NUM);
	struct waiter **p = &waiters[strtoul (num, NULL, 16) % WAITERS], *w = *p;
	*p = NULL;
	if (!w || --w->left)
		return;
	answer (w->req, s + NUM, n - NUM);
	free (w);
}

static void on_results (redisAsyncContext *c, void *vr, void *blocking)
{
	redisReply *r = vr;
	if (!r)
		return;
	if (blocking) {
		redisAsyncCommand (c, on_results, NULL, "LPOP results %d", TAKE);
		redisAsyncCommand (c, on_results, c, "BLPOP results 0");
	}
	if (r->type == REDIS_REPLY_ARRAY)
		for (size_t i = blocking ? 1 : 0; i < r->elements; i++)
			deliver (r->element[i]->str, (size_t)r->element[i]->len);
}

static int service (int port, const char *redis)
{
	struct event_base *b = event_base_new ();
	struct evhttp *h = evhttp_new (b);
	out = redisAsyncConnectUnix (redis);
	in = redisAsyncConnectUnix (redis);
	if (out->err || in->err || redisLibeventAttach (out, b) || redisLibeventAttach (in, b))
		die ("redis");
	redisAsyncCommand (in, on_results, in, "BLPOP results 0");
	evhttp_set_gencb (h, on_request, NULL);
	if (evhttp_bind_socket (h, "127.0.0.1", (unsigned short)port))
		die ("bind");
	return event_base_dispatch (b);
}

/* ---- forwarder ------------------------------------------------------------------------------------------------------ */

static void *zsocket (void *ctx, int type)
{
	int none = 0;
	void *s = zmq_socket (ctx, type);
	zmq_setsockopt (s, ZMQ_SNDHWM, &none, sizeof (none));
	zmq_setsockopt (s, ZMQ_RCVHWM, &none, sizeof (none));
	return s;
}

static void push_out (redisContext *c)
{
	for (int done = 0; !done;)
		if (redisBufferWrite (c, &done))
			die ("redis write");
}

/* Replies alternate: BLPOP [key, value], then LPOP [value...] or nil. */
static void take_tasks (redisContext *c, void *z)
{
	static int blocking = 1;
	redisReply *r;
	if (redisBufferRead (c))
		die ("redis read");
	while (!redisGetReplyFromReader (c, (void **)&r) && r) {
		if (blocking) {
			redisAppendCommand (c, "LPOP tasks %d", TAKE);
			redisAppendCommand (c, "BLPOP tasks 0");
			push_out (c);
		}
		if (r->type == REDIS_REPLY_ARRAY)
			for (size_t i = blocking ? 1 : 0; i < r->elements; i++)
				zmq_send (z, r->element[i]->str, (size_t)r->element[i]->len, 0);
		blocking = !blocking;
		freeReplyObject (r);
	}
}

static void store_results (redisContext *c, void *z)
{
	zmq_msg_t m;
	zmq_msg_init (&m);
	for (int k = 0; k < 256 && zmq_msg_recv (&m, z, ZMQ_DONTWAIT) >= 0; k++) {
		const char *d = zmq_msg_data (&m);
		size_t n = zmq_msg_size (&m);
		redisAppendCommand (c, "HSET t:%b s d r %b", d, (size_t)NUM, d + NUM, n - NUM);
		redisAppendCommand (c, "RPUSH results %b", d, n);
	}
	zmq_msg_close (&m);
	push_out (c);
}

static _Noreturn void forwarder (const char *address, const char *redis)
{
	void *z = zsocket (zmq_ctx_new (), ZMQ_DEALER), *reply;
	redisContext *get = redisConnectUnix (redis), *put = redisConnectUnix (redis);
	zmq_pollitem_t it[3] = { { z, 0, ZMQ_POLLIN, 0 }, { NULL, get->fd, ZMQ_POLLIN, 0 }, { NULL, put->fd, ZMQ_POLLIN, 0 } };
	if (get->err || put->err || zmq_bind (z, address))
		die (address);
	redisAppendCommand (get, "BLPOP tasks 0");
	push_out (get);
	for (;;) {
		zmq_poll (it, 3, -1);
		if (it[1].revents)
			take_tasks (get, z);
		if (it[0].revents)
			store_results (put, z);
		if (it[2].revents) {
			if (redisBufferRead (put))
				die ("redis read");
			while (!redisGetReplyFromReader (put, &reply) && reply)
				freeReplyObject (reply);
		}
	}
}

/* ---- agent ---------------------------------------------------------------------------------------------------------- */

struct peer { char id[16]; int idlen, credit; };

static _Noreturn void agent (const char *up, const char *down)
{
	void *ctx = zmq_ctx_new (), *f = zsocket (ctx, ZMQ_DEALER), *w = zsocket (ctx, ZMQ_ROUTER);
	struct peer peers[64];
	int n = 0, at = 0, total = 0;
	if (zmq_connect (f, up) || zmq_bind (w, down))
		die ("agent");
	for (;;) {
		zmq_pollitem_t it[2] = { { w, 0, ZMQ_POLLIN, 0 }, { f, 0, ZMQ_POLLIN, 0 } };
		zmq_msg_t m;
		char id[256];
		int len, k;
		zmq_poll (it, total ? 2 : 1, -1);
		zmq_msg_init (&m);
		while ((len = zmq_recv (w, id, sizeof (id), ZMQ_DONTWAIT)) > 0) {
			zmq_msg_recv (&m, w, 0);
			for (k = 0; k < n && (peers[k].idlen != len || memcmp (peers[k].id, id, (size_t)len)); k++)
				;
			if (k == n && n < 64) {
				peers[n] = (struct peer){ .idlen = len };
				memcpy (peers[n++].id, id, (size_t)len);
			}
			if (zmq_msg_size (&m) == 4) {
				peers[k].credit += atoi (zmq_msg_data (&m));
				total += atoi (zmq_msg_data (&m));
				continue;
			}
			peers[k].credit++;
			total++;
			zmq_msg_send (&m, f, 0);
		}
		while (total && zmq_msg_recv (&m, f, ZMQ_DONTWAIT) >= 0) {
			int best = at = (at + 1) % n;
			for (k = 0; k < n; k++)
				if (peers[(at + k) % n].credit > peers[best].credit)
					best = (at + k) % n;
			peers[best].credit--;
			total--;
			zmq_send (w, peers[best].id, (size_t)peers[best].idlen, ZMQ_SNDMORE);
			zmq_msg_send (&m, w, 0);
		}
		zmq_msg_close (&m);
	}
}

/* ---- worker --------------------------------------------------------------------------------------------------------- */

static void full (ssize_t (*io) (int, void *, size_t), int fd, void *p, size_t n)
{
	for (char *c = p; n;) {
		ssize_t k = io (fd, c, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			die ("child");
		c += k;
		n -= (size_t)k;
	}
}

static ssize_t writing (int fd, void *p, size_t n)
{
	return write (fd, p, n);
}

static _Noreturn void worker (const char *address, char *script, const char *prefetch)
{
	static char task[FRAME_MAX], result[FRAME_MAX];
	int to[2], from[2];
	char *argv[] = { "python3", "-S", "-E", script, NULL };
	posix_spawn_file_actions_t fa;
	pid_t pid;
	void *z;
	if (pipe (to) || pipe (from))
		die ("pipe");
	posix_spawn_file_actions_init (&fa);
	posix_spawn_file_actions_adddup2 (&fa, to[0], 0);
	posix_spawn_file_actions_adddup2 (&fa, from[1], 1);
	posix_spawn_file_actions_addclose (&fa, to[1]);
	posix_spawn_file_actions_addclose (&fa, from[0]);
	if (posix_spawn (&pid, "/usr/bin/python3", &fa, NULL, argv, environ))
		die ("python3");
	close (to[0]);
	close (from[1]);
	z = zsocket (zmq_ctx_new (), ZMQ_DEALER);
	if (zmq_connect (z, address))
		die (address);
	char hello[8];
	snprintf (hello, sizeof (hello), "+%03d", atoi (prefetch));
	zmq_send (z, hello, 4, 0);
	for (;;) {
		int n = zmq_recv (z, task + 4, sizeof (task) - 4, 0);
		uint32_t body, m;
		if (n < NUM)
			continue;
		memcpy (result, task + 4, NUM);
		body = (uint32_t)n - NUM;
		memcpy (task + NUM, &body, 4);
		full (writing, to[1], task + NUM, body + 4);
		full ((ssize_t (*) (int, void *, size_t))read, from[0], &m, 4);
		full ((ssize_t (*) (int, void *, size_t))read, from[0], result + NUM, m);
		zmq_send (z, result, m + NUM, 0);
	}
}

int main (int argc, char **argv)
{
	signal (SIGPIPE, SIG_IGN);
	if (argc == 4 && !strcmp (argv[1], "service"))
		return service (atoi (argv[2]), argv[3]);
	if (argc == 4 && !strcmp (argv[1], "forwarder"))
		forwarder (argv[2], argv[3]);
	if (argc == 4 && !strcmp (argv[1], "agent"))
		agent (argv[2], argv[3]);
	if (argc == 5 && !strcmp (argv[1], "worker"))
		worker (argv[2], argv[3], argv[4]);
	fprintf (stderr, "usage: see the head of skeleton.c\n");
	return 2;
}
