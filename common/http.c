/* SPDX-License-Identifier: Apache-2.0 */
/* Connections. One read into a scratch buffer that all share; a whole request is answered from it without the
 * connection owning a buffer at all, so an idle one costs its struct. What does not fit this path is kept aside:
 *
 *   IDLE -> HEAD -> BODY | CHUNKED -> CALLED -> (WRITING | STREAM ->) IDLE       errors: -> (WRITING ->) LINGER -> closed
 *
 *   in    bytes read but not parsed: a part of a head, or requests behind the one in hand (pipelining)
 *   req   the request whose body arrives, or that its handler has (CALLED); at most one a connection
 *   out   what the socket did not take
 *
 * Handlers may answer inside on_request: `busy` then keeps the connection's memory until feed () is left. Requests
 * behind an answer given later are taken up from the loop, never inside http_reply. */
#include "common/http_internal.h"
#include "common/clock.h"
#include "common/loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_read (evutil_socket_t fd, short what, void *arg);
static void read_request (struct http_conn *c);

/* ---- life --------------------------------------------------------------------------------------------------- */

void conn_reading (struct http_conn *c, bool on)
{
	if (c->reading == on)
		return;
	c->reading = on;
	if (on)
		event_add (&c->rev, NULL);
	else
		event_del (&c->rev);
}

void conn_drop_in (struct http_conn *c)
{
	free (c->in);
	c->in = NULL;
	c->in_len = c->in_cap = 0;
}

/* The handler's request when its client goes: told and freed, or left to be answered into the void. */
static void abandon_req (struct http_conn *c)
{
	struct http_req *r = c->req;

	c->req = NULL;
	if (!r)
		return;
	if (r->called && !r->abort_cb) {
		http_peer (r);
		r->conn = NULL;
		c->server->orphans++;
		return;
	}
	if (r->called)
		r->abort_cb (r, r->abort_arg);
	req_free (r);
}

void conn_close (struct http_conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	conn_reading (c, false);
	if (c->wev_set)
		event_del (&c->wev);
	timer_clear (c);
	abandon_req (c);
	stream_abandon (c);
	conn_drop_in (c);
	conn_drop_out (c);
	close (c->fd);
	server_unlink (c);
	if (!c->busy)
		free (c);
}

void conn_open (struct http_server *s, int fd, const void *addr, bool overflow)
{
	struct http_conn *c = calloc (1, sizeof (*c));
	const struct sockaddr *sa = addr;

	if (!c) {
		close (fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	c->overflow = overflow;
	c->peer_family = (uint8_t) sa->sa_family;
	if (sa->sa_family == AF_INET)
		memcpy (c->peer, &((const struct sockaddr_in *) addr)->sin_addr, 4);
	else if (sa->sa_family == AF_INET6)
		memcpy (c->peer, &((const struct sockaddr_in6 *) addr)->sin6_addr, 16);
	event_assign (&c->rev, loop_base (s->loop), fd, EV_READ | EV_PERSIST, on_read, c);
	c->prev = s->conns.last;
	*(s->conns.last ? &s->conns.last->next : &s->conns.first) = c;
	s->conns.last = c;
	s->nconns++;
	if (overflow)
		conn_expire (c);	/* answers 503 */
	else
		conn_settle (c);
}

/* ---- errors ------------------------------------------------------------------------------------------------- */

/* An error that the server found: answered, then the connection ends. */
static void fail (struct http_conn *c, int status, const char *text)
{
	struct http_server *s = c->server;
	bool head_only = c->req && c->req->method == HTTP_HEAD;
	struct buf body;

	req_free (c->req);
	c->req = NULL;
	c->keep_alive = false;
	timer_clear (c);
	buf_init (&body, 64 * 1024);
	s->o.on_error (status, text, &body, s->o.arg);
	conn_send (c, status, "application/json", status == 503 ? "Retry-After: 1\r\n" : NULL, &body, head_only, false);
	buf_fini (&body);
}

static void fail_status (struct http_conn *c, int status)
{
	static const struct { int status; const char *text; } texts[] = {
		{ 400, "not a valid HTTP/1.1 request" }, { 413, "the request body is larger than this server accepts" },
		{ 414, "the request line is too long" }, { 417, "only Expect: 100-continue is known" },
		{ 431, "the request header is too large" }, { 501, "method or transfer coding not implemented" },
		{ 503, "too much is being received at the moment" }, { 505, "only HTTP/1.1 and HTTP/1.0 are spoken" },
	};

	for (size_t i = 0; i < sizeof (texts) / sizeof (texts[0]); i++)
		if (texts[i].status == status) {
			fail (c, status, texts[i].text);
			return;
		}
	fail (c, status, "the request was refused");
}

/* It came, and the loop has not told us yet. */
static bool request_waits (const struct http_conn *c)
{
	char peek;

	return recv (c->fd, &peek, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* A deadline has passed, or (overflow) the connection is one too many. */
void conn_expire (struct http_conn *c)
{
	if (c->overflow && c->state == CONN_IDLE)
		fail (c, 503, "too many connections");
	else if (c->state == CONN_HEAD)
		fail (c, 408, "the request head took too long");
	else if (c->state == CONN_BODY || c->state == CONN_CHUNKED)
		fail (c, 408, "the request body took too long");
	else if (c->state == CONN_IDLE && request_waits (c))
		read_request (c);
	else
		conn_close (c);
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

static int stash (struct http_conn *c, const char *p, size_t n)
{
	if (c->in_len + n > c->in_cap) {
		size_t cap = c->in_len + n + 256;
		char *in = realloc (c->in, cap);
		if (!in)
			return -1;
		c->in = in;
		c->in_cap = (uint32_t) cap;
	}
	memcpy (c->in + c->in_len, p, n);
	c->in_len += (uint32_t) n;
	return 0;
}

static void dispatch (struct http_conn *c)
{
	struct http_req *r = c->req;

	r->body[r->body_len] = 0;
	r->called = true;
	c->state = CONN_CALLED;
	timer_clear (c);
	c->server->o.on_request (r, c->server->o.arg);
}

static bool too_slow (struct http_conn *c)
{
	int64_t ms = clock_now_ms () - c->req->body_started_ms;

	return ms > 5000 && (int64_t) c->req->body_len * 1000 / ms < c->server->o.body_min_bytes_per_s;
}

static void append_body (struct http_req *r, const char *p, size_t n)
{
	memcpy (r->body + r->body_len, p, n);
	r->body_len += n;
	r->remaining -= (int64_t) n;
}

/* The head is known: refuse, or make the request and take what there is of its body. Returns body bytes used. */
static size_t begin (struct http_conn *c, const struct http_head *h, const char *head, size_t head_len, size_t avail)
{
	struct http_server *s = c->server;
	size_t len = h->content_length > 0 ? (size_t) h->content_length : 0;
	bool whole = !h->chunked && len <= avail;
	size_t room;
	int rc;

	c->keep_alive = h->keep_alive;
	if (len > s->o.max_body_bytes) {
		fail_status (c, 413);
		return avail;
	}
	if (len > s->o.max_buffered_bytes - (s->buffered < s->o.max_buffered_bytes ? s->buffered : s->o.max_buffered_bytes) ||
	    !(c->req = req_create (c, h, head, head_len, whole ? len : 0))) {
		fail_status (c, 503);
		return avail;
	}
	if (whole) {
		append_body (c->req, head + head_len, len);
		c->req->charged = len;
		s->buffered += len;
		dispatch (c);
		return len;
	}
	c->req->body_started_ms = clock_now_ms ();
	c->req->remaining = h->chunked ? 0 : (int64_t) len;
	c->state = h->chunked ? CONN_CHUNKED : CONN_BODY;
	timer_clear (c);
	if (h->expect_continue && !avail) {
		static const char go[] = "HTTP/1.1 100 Continue\r\n\r\n";
		if (send (c->fd, go, sizeof (go) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t) sizeof (go) - 1) {
			conn_close (c);
			return avail;
		}
	}
	if (h->chunked)
		return 0;
	room = avail * HTTP_GROWTH < HTTP_STEP ? HTTP_STEP : avail * HTTP_GROWTH;
	if ((rc = req_body_room (c->req, room < len ? room : len, true))) {
		fail_status (c, rc);
		return avail;
	}
	append_body (c->req, head + head_len, avail);
	return avail;
}

static int hex (unsigned char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	ch |= 0x20;
	return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* One character of the framing between the data. 0, 1 = the body is complete, or the status to answer. */
static int chunk_char (struct http_req *r, unsigned char ch, size_t max)
{
	int v;

	switch (r->chunk) {
	case CHUNK_SIZE:
		if ((v = hex (ch)) >= 0) {
			r->chunk_digits = true;
			r->remaining = r->remaining * 16 + v;
			return (uint64_t) r->remaining > max - r->body_len ? 413 : 0;
		}
		if (!r->chunk_digits || (ch != '\r' && ch != ';'))
			return 400;
		r->chunk = ch == ';' ? CHUNK_EXT : CHUNK_SIZE_LF;
		return 0;
	case CHUNK_EXT:
		if (ch == '\r')
			r->chunk = CHUNK_SIZE_LF;
		else if (ch == '\n' || ++r->trailer_bytes > HTTP_LINE_MAX)
			return ch == '\n' ? 400 : 431;
		return 0;
	case CHUNK_SIZE_LF:
		r->chunk = r->remaining ? CHUNK_DATA : CHUNK_TRAILER;
		return ch == '\n' ? 0 : 400;
	case CHUNK_DATA_CR:
		r->chunk = CHUNK_DATA_LF;
		return ch == '\r' ? 0 : 400;
	case CHUNK_DATA_LF:
		r->chunk = CHUNK_SIZE;
		r->chunk_digits = false;
		return ch == '\n' ? 0 : 400;
	case CHUNK_TRAILER:
		r->chunk = ch == '\r' ? CHUNK_END_LF : CHUNK_TRAILER_LINE;
		return ch == '\n' ? 400 : 0;
	case CHUNK_TRAILER_LINE:
		if (ch == '\r')
			r->chunk = CHUNK_TRAILER_LF;
		else if (ch == '\n' || ++r->trailer_bytes > HTTP_LINE_MAX)
			return ch == '\n' ? 400 : 431;
		return 0;
	case CHUNK_TRAILER_LF:
		r->chunk = CHUNK_TRAILER;
		return ch == '\n' ? 0 : 400;
	default:	/* CHUNK_END_LF */
		return ch == '\n' ? 1 : 400;
	}
}

/* Returns bytes used; less than n only when the body is complete. */
static size_t feed_chunks (struct http_conn *c, const char *p, size_t n)
{
	struct http_req *r = c->req;
	size_t at = 0, k;
	int rc;

	while (at < n) {
		if (r->chunk != CHUNK_DATA) {
			if (!(rc = chunk_char (r, (unsigned char) p[at++], c->server->o.max_body_bytes)))
				continue;
			if (rc == 1) {
				if ((rc = req_body_room (r, r->body_len + 1, true)) == 0) {
					dispatch (c);
					return at;
				}
			}
			fail_status (c, rc);
			return n;
		}
		k = (uint64_t) r->remaining < n - at ? (size_t) r->remaining : n - at;
		if ((rc = req_body_room (r, r->body_len + k, false))) {
			fail_status (c, rc);
			return n;
		}
		append_body (r, p + at, k);
		at += k;
		if (!r->remaining)
			r->chunk = CHUNK_DATA_CR;
	}
	return n;
}

static size_t feed_head (struct http_conn *c, const char *p, size_t n)
{
	struct http_server *s = c->server;
	int status = 400;
	long used;

	if (c->state == CONN_IDLE) {
		c->state = CONN_HEAD;
		c->first_ns = clock_real_ns ();
	}
	used = http_parse_head (p, n, &s->head, &status);
	if (used == 0)
		return 0;
	if (used < 0) {
		fail_status (c, status);
		return n;
	}
	return (size_t) used + begin (c, &s->head, p, (size_t) used, n - (size_t) used);
}

/* Bytes from the socket, or kept from before. p is not the connection's own memory. */
static void feed (struct http_conn *c, const char *p, size_t n)
{
	c->busy = true;
	while (n && !c->dead && c->state != CONN_LINGER) {
		size_t used = 0;
		if (c->state == CONN_IDLE || c->state == CONN_HEAD)
			used = feed_head (c, p, n);
		else if (c->state == CONN_CHUNKED)
			used = feed_chunks (c, p, n);
		if (!used) {
			if (!c->dead && stash (c, p, n) < 0)
				conn_close (c);
			break;
		}
		p += used;
		n -= used;
	}
	c->busy = false;
	if (c->dead)
		free (c);
	else
		conn_settle (c);
}

/* Events and deadline as the state wants them. May close and free the connection. */
void conn_settle (struct http_conn *c)
{
	switch ((enum conn_state) c->state) {
	case CONN_CALLED:
	case CONN_WRITING:
	case CONN_STREAM:
		return;
	case CONN_LINGER:
		return;
	case CONN_IDLE:
		conn_drop_in (c);
		timer_set (c, TIMER_IDLE);
		break;
	case CONN_HEAD:
		if (c->timer != TIMER_HEAD)
			timer_set (c, TIMER_HEAD);
		break;
	case CONN_BODY:
	case CONN_CHUNKED:
		timer_set (c, TIMER_BODY);
		break;
	}
	if (c->eof)
		conn_close (c);
	else
		conn_reading (c, true);
}

static void feed_stash (struct http_conn *c)
{
	char *in = c->in;
	size_t n = c->in_len;

	c->in = NULL;
	c->in_len = c->in_cap = 0;
	feed (c, in, n);
	free (in);
}

/* -1: the connection is gone, or there is nothing; else bytes, 0 = end of input, noted. */
static ssize_t receive (struct http_conn *c, void *p, size_t n)
{
	ssize_t got = recv (c->fd, p, n, MSG_DONTWAIT);

	if (got < 0 && errno != EAGAIN && errno != EINTR)
		conn_close (c);
	if (got == 0) {
		c->eof = true;
		conn_reading (c, false);
	}
	return got;
}

static void read_body (struct http_conn *c)
{
	struct http_req *r = c->req;
	ssize_t n;
	int rc;

	if (r->body_len == r->body_cap) {
		size_t total = r->body_len + (size_t) r->remaining, want = r->body_cap * HTTP_GROWTH;
		if ((rc = req_body_room (r, want < total ? want : total, true))) {
			fail_status (c, rc);
			return;
		}
	}
	n = (ssize_t) (r->body_cap - r->body_len);
	if (n > r->remaining)
		n = (ssize_t) r->remaining;
	if ((n = receive (c, r->body + r->body_len, (size_t) n)) < 0)
		return;
	r->body_len += (size_t) n;
	r->remaining -= n;
	if (n && r->remaining && too_slow (c)) {
		fail (c, 408, "the request body arrives too slowly");
		return;
	}
	c->busy = true;
	if (n && !r->remaining)
		dispatch (c);
	c->busy = false;
	if (c->dead)
		free (c);
	else
		conn_settle (c);
}

/* While a request is in hand we read on, to learn that the client has gone; but only so much. */
static void read_ahead (struct http_conn *c)
{
	size_t room = c->in_len < HTTP_STASH_MAX ? HTTP_STASH_MAX - c->in_len : 0;
	ssize_t n;

	if (!room) {
		conn_reading (c, false);
		return;
	}
	if ((n = receive (c, c->server->scratch, room)) < 0)
		return;
	if (n > 0 && stash (c, c->server->scratch, (size_t) n) < 0)
		conn_close (c);
	else if (n == 0 && (c->state == CONN_STREAM || (c->state == CONN_CALLED && c->req->abort_cb)))
		conn_close (c);
}

static void read_request (struct http_conn *c)
{
	struct http_server *s = c->server;
	ssize_t n = receive (c, s->scratch, HTTP_SCRATCH);

	if (n < 0)
		return;
	if (n == 0)
		conn_close (c);
	else if (c->state == CONN_CHUNKED && too_slow (c))
		fail (c, 408, "the request body arrives too slowly");
	else if (!c->in_len)
		feed (c, s->scratch, (size_t) n);
	else if (stash (c, s->scratch, (size_t) n) < 0)
		conn_close (c);
	else if (c->in_len >= HTTP_HEAD_MAX || memchr (s->scratch, '\n', (size_t) n))
		feed_stash (c);		/* only a line end can change what the head is */
}

static void on_read (evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;

	(void) fd;
	(void) what;
	switch ((enum conn_state) c->state) {
	case CONN_IDLE:
		if (c->ready)
			break;		/* its turn comes; order is kept */
		/* fall through */
	case CONN_HEAD:
	case CONN_CHUNKED:
		read_request (c);
		break;
	case CONN_BODY:
		read_body (c);
		break;
	case CONN_CALLED:
	case CONN_WRITING:
	case CONN_STREAM:
		read_ahead (c);
		break;
	case CONN_LINGER:
		if (receive (c, c->server->scratch, HTTP_SCRATCH) == 0)
			conn_close (c);
		break;
	}
}

void conn_resume (struct http_conn *c)
{
	if (c->eof && (c->state == CONN_STREAM || (c->state == CONN_CALLED && c->req->abort_cb)))
		conn_close (c);
	else if (c->state == CONN_STREAM)
		stream_flush (c);
	else if (c->state == CONN_IDLE && c->in_len)
		feed_stash (c);
	else if (c->state == CONN_IDLE)
		conn_settle (c);
}
