/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of unknown length. What is written in one round of the loop leaves as one chunk, in one system call; what the socket does not
 * take waits here, and its owner looks at http_stream_waiting before it writes more. All that could close the connection happens
 * from the loop, never inside a call of the owner's. */
#include "common/http_internal.h"
#include "common/loop.h"
#include "common/xmem.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CHUNK_HEAD 10			/* "0000abcd\r\n", filled in when the chunk is complete */
#define COMPACT (64 * 1024)

struct http_stream {
	struct http_conn *conn;		/* borrowed: it owns us */
	const struct http_stream_ops *ops;	/* NULL once the owner has ended it */
	void *arg;
	struct buf out;
	size_t off, chunk;		/* sent; where the open chunk's head stands, SIZE_MAX: none is open */
	bool chunked;
};

static void close_chunk (struct http_stream *s)
{
	char head[CHUNK_HEAD + 1];

	if (s->chunk == SIZE_MAX || buf_failed (&s->out))
		return;
	snprintf (head, sizeof (head), "%08zx\r\n", s->out.len - s->chunk - CHUNK_HEAD);
	memcpy (s->out.data + s->chunk, head, CHUNK_HEAD);
	buf_str (&s->out, "\r\n");
	s->chunk = SIZE_MAX;
}

static void on_writable (evutil_socket_t fd, short what, void *arg)
{
	(void) fd;
	(void) what;
	stream_flush (arg);
}

static void wait_writable (struct http_conn *c, bool progress)
{
	struct http_stream *s = c->stream;

	if (!c->wev_set) {
		event_assign (&c->wev, loop_base (c->server->loop), c->fd, EV_WRITE | EV_PERSIST, on_writable, c);
		event_add (&c->wev, NULL);
		c->wev_set = progress = true;
	}
	if (progress)
		timer_set (c, TIMER_WRITE);
	if (s->off > COMPACT) {
		buf_consume (&s->out, s->off);
		s->off = 0;
	}
}

/* All is written. */
static void emptied (struct http_conn *c)
{
	struct http_stream *s = c->stream;
	bool any = s->out.len > 0;

	buf_fini (&s->out);	/* an idle stream has no buffer */
	s->off = 0;
	if (c->wev_set) {
		event_del (&c->wev);
		c->wev_set = false;
		timer_clear (c);
	}
	if (!s->ops) {
		c->stream = NULL;
		free (s);
		c->state = CONN_WRITING;
		conn_written (c);
	} else if (any)
		s->ops->on_drained (s->arg);
}

/* 0, or -1 with errno. */
static int send_some (struct http_stream *s, bool *progress)
{
	close_chunk (s);
	while (s->off < s->out.len) {
		ssize_t n = send (s->conn->fd, s->out.data + s->off, s->out.len - s->off, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		s->off += (size_t) n;
		*progress = true;
	}
	return 0;
}

void stream_flush (struct http_conn *c)
{
	struct http_stream *s = c->stream;
	bool progress = false;

	if (buf_failed (&s->out))
		conn_close (c);
	else if (send_some (s, &progress) < 0 && errno != EAGAIN)
		conn_close (c);
	else if (s->off < s->out.len)
		wait_writable (c, progress);
	else
		emptied (c);
}

/* The connection goes. */
void stream_abandon (struct http_conn *c)
{
	struct http_stream *s = c->stream;

	if (!s)
		return;
	c->stream = NULL;
	if (s->ops)
		s->ops->on_gone (s->arg);
	buf_fini (&s->out);
	free (s);
}

struct http_stream *http_stream_begin (struct http_req *r, int status, const char *type, const char *extra,
				       const struct http_stream_ops *ops, void *arg)
{
	struct http_conn *c = r->conn;
	struct http_stream *s;
	unsigned ms;

	if (!c) {
		http_reply (r, status, type, extra, NULL); /* into the void */
		return NULL;
	}
	s = xcalloc (1, sizeof (*s));
	*s = (struct http_stream) { .conn = c, .ops = ops, .arg = arg, .chunk = SIZE_MAX, .chunked = !r->http10 };
	buf_init (&s->out, 0);
	if (r->http10)
		c->keep_alive = false;
	buf_printf (&s->out, "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\n%s%s%s\r\n", status, http_reason (status), server_date (c->server), type,
		    s->chunked ? "Transfer-Encoding: chunked\r\n" : "", c->keep_alive ? "" : "Connection: close\r\n", extra ? extra : "");
	/* a reader that is gone without a word is noticed by what it does not acknowledge */
	ms = (unsigned) c->server->o.write_timeout_ms;
	setsockopt (c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof (ms));
	c->req = NULL;
	r->conn = NULL;
	req_free (r);
	c->state = CONN_STREAM;
	c->stream = s;
	conn_reading (c, !c->eof);
	server_resume (c);
	return s;
}

void http_stream_write (struct http_stream *s, const void *p, size_t n)
{
	if (!n)
		return;
	if (s->chunked && s->chunk == SIZE_MAX) {
		s->chunk = s->out.len;
		buf_add (&s->out, "          ", CHUNK_HEAD);
	}
	buf_add (&s->out, p, n);
	if (!s->conn->wev_set)
		server_resume (s->conn);
}

void http_stream_push (struct http_stream *s)
{
	bool progress = false;

	if (s->conn->wev_set || buf_failed (&s->out))
		return;
	(void) send_some (s, &progress); /* what went wrong is seen by the flush */
	if (s->off > COMPACT && s->off < s->out.len) {
		buf_consume (&s->out, s->off);
		s->off = 0;
	}
}

size_t http_stream_waiting (const struct http_stream *s)
{
	return s->out.len - s->off;
}

void http_stream_end (struct http_stream **sp)
{
	struct http_stream *s = *sp;

	if (!s)
		return;
	*sp = NULL;
	close_chunk (s);
	if (s->chunked)
		buf_str (&s->out, "0\r\n\r\n");
	s->ops = NULL;
	if (s->conn->server->draining)
		s->conn->keep_alive = false;
	server_resume (s->conn);
}
