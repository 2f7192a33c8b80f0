/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: one system call each where the socket takes it, else kept and written as the reader takes it. */
#include "common/http_internal.h"
#include "common/loop.h"
#include "common/xmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

static void on_write (evutil_socket_t fd, short what, void *arg);

static const struct { int status; const char *text; } reasons[] = {
	{ 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" }, { 207, "Multi-Status" },
	{ 301, "Moved Permanently" }, { 302, "Found" }, { 303, "See Other" }, { 304, "Not Modified" },
	{ 307, "Temporary Redirect" }, { 308, "Permanent Redirect" },
	{ 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
	{ 405, "Method Not Allowed" }, { 406, "Not Acceptable" }, { 408, "Request Timeout" }, { 409, "Conflict" },
	{ 410, "Gone" }, { 412, "Precondition Failed" }, { 413, "Content Too Large" }, { 414, "URI Too Long" },
	{ 415, "Unsupported Media Type" }, { 417, "Expectation Failed" }, { 422, "Unprocessable Content" },
	{ 423, "Locked" }, { 424, "Failed Dependency" }, { 429, "Too Many Requests" },
	{ 431, "Request Header Fields Too Large" }, { 500, "Internal Server Error" }, { 501, "Not Implemented" },
	{ 502, "Bad Gateway" }, { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
	{ 505, "HTTP Version Not Supported" },
};

const char *http_reason (int status)
{
	for (size_t i = 0; i < sizeof (reasons) / sizeof (reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "Status";
}

void conn_drop_out (struct http_conn *c)
{
	if (!c->out)
		return;
	free (c->out->head);
	free (c->out->body);
	free (c->out);
	c->out = NULL;
}

static void linger (struct http_conn *c)
{
	if (c->eof) {
		conn_close (c);
		return;
	}
	/* closing with unread input would reset the connection, and the peer might never see the answer */
	shutdown (c->fd, SHUT_WR);
	c->state = CONN_LINGER;
	conn_drop_in (c);
	timer_set (c, TIMER_LINGER);
	conn_reading (c, true);
}

void conn_written (struct http_conn *c)
{
	if (!c->keep_alive) {
		linger (c);
		return;
	}
	c->state = CONN_IDLE;
	if (c->busy)
		return;		/* feed () goes on with what is behind */
	if (c->in_len || c->eof)
		server_resume (c);
	else
		conn_settle (c);
}

static void wait_writable (struct http_conn *c)
{
	if (!c->wev_set) {
		event_assign (&c->wev, loop_base (c->server->loop), c->fd, EV_WRITE | EV_PERSIST, on_write, c);
		event_add (&c->wev, NULL);
		c->wev_set = true;
	}
	c->state = CONN_WRITING;
	timer_set (c, TIMER_WRITE);
}

/* Send head and body; what is not taken waits in `out`. The body is consumed. */
static void send_all (struct http_conn *c, const char *head, size_t head_len, struct buf *body, bool with_body)
{
	size_t body_len = with_body && body ? body->len : 0, total = head_len + body_len;
	struct iovec iov[2] = { { (void *) head, head_len }, { body_len ? body->data : NULL, body_len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = body_len ? 2 : 1 };
	ssize_t n;

	do
		n = sendmsg (c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN) {
		conn_close (c);
		return;
	}
	if (n < 0)
		n = 0;
	if ((size_t) n == total) {
		conn_written (c);
		return;
	}
	c->out = xcalloc (1, sizeof (*c->out));
	if ((size_t) n < head_len) {
		if (!(c->out->head = malloc (head_len - (size_t) n))) {
			conn_close (c);
			return;
		}
		c->out->head_len = head_len - (size_t) n;
		memcpy (c->out->head, head + n, c->out->head_len);
	} else
		c->out->off = (size_t) n - head_len;
	if (body_len) {
		c->out->body = body->data;
		c->out->body_len = body_len;
		body->data = NULL;
		body->len = body->cap = 0;
	}
	wait_writable (c);
}

static void on_write (evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;
	struct http_out *o = c->out;
	struct iovec iov[2] = { { o->head, o->head_len }, { o->body + o->off, o->body_len - o->off } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	(void) fd;
	(void) what;
	n = sendmsg (c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			conn_close (c);
		return;
	}
	if ((size_t) n < o->head_len) {
		memmove (o->head, o->head + n, o->head_len - (size_t) n);
		o->head_len -= (size_t) n;
	} else {
		o->off += (size_t) n - o->head_len;
		o->head_len = 0;
	}
	if (o->head_len || o->off < o->body_len) {
		timer_set (c, TIMER_WRITE);
		return;
	}
	conn_drop_out (c);
	event_del (&c->wev);
	c->wev_set = false;
	timer_clear (c);
	conn_written (c);
}

struct text { char *p; size_t n; };

static void put (struct text *t, const char *s, size_t n)
{
	memcpy (t->p + t->n, s, n);
	t->n += n;
}

static void puts_ (struct text *t, const char *s)
{
	put (t, s, strlen (s));
}

static void put_number (struct text *t, size_t v)
{
	char d[24];
	size_t i = sizeof (d);

	do
		d[--i] = (char) ('0' + v % 10);
	while (v /= 10);
	put (t, d + i, sizeof (d) - i);
}

void conn_send (struct http_conn *c, int status, const char *type, const char *extra, struct buf *body,
		bool head_only, bool http10)
{
	char small[1024], *big = NULL;
	size_t extra_len = extra ? strlen (extra) : 0, type_len = type ? strlen (type) : 0;
	size_t need = 400 + extra_len + type_len, body_len = body ? body->len : 0;
	bool has_body = status != 204 && status != 304 && status >= 200;
	struct text t = { small, 0 };

	if (need > sizeof (small) && !(t.p = big = malloc (need))) {
		conn_close (c);
		return;
	}
	put (&t, "HTTP/1.1 ", 9);
	put_number (&t, (size_t) status);
	put (&t, " ", 1);
	puts_ (&t, http_reason (status));
	put (&t, "\r\nDate: ", 8);
	puts_ (&t, server_date (c->server));
	if (type && has_body) {
		put (&t, "\r\nContent-Type: ", 16);
		put (&t, type, type_len);
	}
	if (has_body) {
		put (&t, "\r\nContent-Length: ", 18);
		put_number (&t, body_len);
	}
	if (!c->keep_alive)
		puts_ (&t, "\r\nConnection: close");
	else if (http10)
		puts_ (&t, "\r\nConnection: keep-alive");
	put (&t, "\r\n", 2);
	if (extra)
		put (&t, extra, extra_len);
	put (&t, "\r\n", 2);
	send_all (c, t.p, t.n, body, has_body && !head_only);
	free (big);
}

void conn_reply (struct http_conn *c, struct http_req *r, int status, const char *type, const char *extra, struct buf *body)
{
	struct http_server *s = c->server;

	c->req = NULL;
	r->conn = NULL;
	if (s->draining)
		c->keep_alive = false;
	if (body && buf_failed (body)) {	/* part of an answer is worse than none */
		buf_fini (body);
		s->o.on_error (status = 500, "the reply does not fit into memory", body, s->o.arg);
		type = "application/json";
		extra = NULL;
	}
	conn_send (c, status, type, extra, body, r->method == HTTP_HEAD, r->http10);
	if (body)
		buf_fini (body);
	req_free (r);	/* last: type and extra may be slices of it */
}
