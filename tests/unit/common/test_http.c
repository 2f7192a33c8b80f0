/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server over real sockets: client and server share one loop, which is turned until a condition holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/http.h"

#ifdef __SANITIZE_ADDRESS__
enum { MANY = 1000, SANITIZED = 1 };
#else
enum { MANY = 3000, SANITIZED = 0 };
#endif

struct fx {
	struct loop *loop;
	struct http_server *s;
	int port, requests, errors, aborts, drained;
	bool hold;			/* keep requests instead of answering */
	struct http_req *held[64];
	int nheld;
	size_t big;			/* answer with so many bytes */
	struct http_stream *stream;
	int gone, refilled;
};

static void on_stream_drained (void *arg)
{
	((struct fx *) arg)->refilled++;
}

static void on_stream_gone (void *arg)
{
	struct fx *f = arg;

	f->stream = NULL;
	f->gone++;
}

static const struct http_stream_ops stream_ops = { on_stream_drained, on_stream_gone };

static void answer (struct fx *f, struct http_req *r)
{
	struct http_str body = http_body (r), path = http_path (r);
	struct buf b;

	buf_init (&b, 0);
	if (f->big) {
		assert_int_equal (buf_reserve (&b, f->big), 0);
		for (size_t i = 0; i < f->big; i++)
			buf_char (&b, 'x');
	} else {
		buf_add (&b, path.p, path.n);
		buf_char (&b, ':');
		buf_add (&b, body.p, body.n);
	}
	http_reply (r, 200, "text/plain", "X-Test: yes\r\n", &b);
	assert_null (b.data);
}

static void on_request (struct http_req *r, void *arg)
{
	struct fx *f = arg;

	f->requests++;
	if (f->hold)
		f->held[f->nheld++] = r;
	else
		answer (f, r);
}

static void on_error (int status, const char *text, struct buf *body, void *arg)
{
	struct fx *f = arg;

	f->errors++;
	buf_printf (body, "{\"http_status_code\":%d,\"reason\":\"%s\"}", status, text);
}

static void on_drained (void *arg)
{
	((struct fx *) arg)->drained++;
}

static void fx_start (struct fx *f, const struct http_opts *base)
{
	struct http_opts o = base ? *base : (struct http_opts) { 0 };
	struct err err;

	memset (f, 0, sizeof (*f));
	f->loop = loop_create (&err);
	assert_non_null (f->loop);
	o.on_request = on_request;
	o.on_error = on_error;
	o.arg = f;
	f->s = http_create (f->loop, &o, &err);
	assert_non_null (f->s);
	f->port = http_listen (f->s, "127.0.0.1:0", &err);
	assert_true (f->port > 0);
}

static void fx_stop (struct fx *f)
{
	http_destroy (&f->s);
	loop_destroy (&f->loop);
}

static void turn (struct fx *f)
{
	struct timeval tv = { 0, 2000 };

	event_base_loopexit (loop_base (f->loop), &tv);
	event_base_loop (loop_base (f->loop), EVLOOP_ONCE);
}

static void turn_ms (struct fx *f, int ms)
{
	int64_t end = clock_now_ms () + ms;

	while (clock_now_ms () < end)
		turn (f);
}

#define UNTIL(f, cond) do { \
	int64_t end_ = clock_now_ms () + 60000; \
	while (!(cond)) { \
		if (clock_now_ms () > end_) \
			fail_msg ("not in time: %s", #cond); \
		turn (f); \
	} \
} while (0)

static int dial (struct fx *f)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons ((uint16_t) f->port) };
	int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sa.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
	assert_true (fd >= 0);
	assert_int_equal (connect (fd, (struct sockaddr *) &sa, sizeof (sa)), 0);
	fcntl (fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void say_n (struct fx *f, int fd, const char *p, size_t n)
{
	int64_t end = clock_now_ms () + 60000;

	while (n) {
		ssize_t k = send (fd, p, n, MSG_NOSIGNAL);
		if (k < 0 && errno != EAGAIN)
			return;		/* the server closed; what it said is checked */
		if (k > 0) {
			p += k;
			n -= (size_t) k;
		}
		if (n)
			turn (f);
		assert_true (clock_now_ms () < end);
	}
}

static void say (struct fx *f, int fd, const char *text)
{
	say_n (f, fd, text, strlen (text));
}

/* Read into b until `want` stands in it, or the end (want NULL). True at the end of input. */
static bool hear (struct fx *f, int fd, struct buf *b, const char *want)
{
	int64_t end = clock_now_ms () + 60000;
	char chunk[65536];

	for (;;) {
		ssize_t n = recv (fd, chunk, sizeof (chunk), 0);
		if (n > 0)
			buf_add (b, chunk, (size_t) n);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return true;
		if (want && b->data && memmem (b->data, b->len, want, strlen (want)))
			return false;
		if (clock_now_ms () > end)
			fail_msg ("not heard in time: %s; got: %.300s", want ? want : "(end)", b->data ? (char *) b->data : "");
		turn (f);
	}
}

/* One exchange on a fresh connection; the whole answer. Owned. */
static char *ask (struct fx *f, const char *text, size_t n, bool finish)
{
	struct buf b;
	int fd = dial (f);

	buf_init (&b, 0);
	say_n (f, fd, text, n);
	if (finish)
		shutdown (fd, SHUT_WR);
	hear (f, fd, &b, NULL);
	close (fd);
	buf_char (&b, 0);
	return (char *) b.data;
}

static int status_of (const char *answer)
{
	int status = 0;

	return answer && sscanf (answer, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

#define H "Host: x\r\n"

/* ---- the parser --------------------------------------------------------------------------------------------- */

static void test_head_table (void **state)
{
	static const struct { const char *text; int want; /* 0 incomplete, 1 whole, else status */ } t[] = {
		{ "GET / HTTP/1.1\r\n" H "\r\n", 1 },
		{ "\r\nGET / HTTP/1.1\r\n" H "\r\n", 1 },
		{ "\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", 400 },
		{ "GET / HTTP/1.0\r\n\r\n", 1 },
		{ "GET / HTTP/1.1\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" H H "\r\n", 400 },
		{ "GET http://x/y?z HTTP/1.1\r\n" H "\r\n", 1 },
		{ "OPTIONS * HTTP/1.1\r\n" H "\r\n", 1 },
		{ "GET * HTTP/1.1\r\n" H "\r\n", 400 },
		{ "GET x HTTP/1.1\r\n" H "\r\n", 400 },
		{ "GET /\x01 HTTP/1.1\r\n" H "\r\n", 400 },
		{ "GET /\x80 HTTP/1.1\r\n" H "\r\n", 400 },
		{ "GET /a b HTTP/1.1\r\n" H "\r\n", 400 },
		{ "GET  / HTTP/1.1\r\n" H "\r\n", 400 },
		{ "GET /\r\n" H "\r\n", 400 },
		{ "GET / HTTP/2.0\r\n" H "\r\n", 505 },
		{ "GET / HTTP/1.2\r\n" H "\r\n", 400 },
		{ "GET / http/1.1\r\n" H "\r\n", 400 },
		{ "BREW / HTTP/1.1\r\n" H "\r\n", 501 },
		{ "get / HTTP/1.1\r\n" H "\r\n", 501 },
		{ "GET / HTTP/1.1\n" "Host: x\n\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: x\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" H "A: b\rc\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" H "A: b\x02\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" H ": b\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" H "A\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" H "A:\r\nB: \t x \t\r\n\r\n", 1 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n", 1 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\ncontent-length: 5\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 1 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\n", 400 },
		{ "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n", 417 },
		{ "", 0 }, { "\r", 0 }, { "G", 0 }, { "GET / HT", 0 }, { "GET / HTTP/1.1\r\n", 0 },
		{ "GET / HTTP/1.1\r\n" H "\r", 0 }, { "GET / HTTP/1.1\r\nHo", 0 }, { "\rG", 400 },
		{ "\x16\x03\x01\x02", 400 },	/* TLS spoken to a plain port */
	};
	struct http_head h;

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		int status = 0;
		size_t n = strlen (t[i].text);
		char *exact = malloc (n ? n : 1);	/* so that a sanitizer sees reads beyond the end */
		memcpy (exact, t[i].text, n);
		long rc = http_parse_head (exact, n, &h, &status);
		int got = rc > 0 ? 1 : rc == 0 ? 0 : status;
		if (got != t[i].want || (rc > 0 && (size_t) rc != n))
			fail_msg ("%s: got %d (%ld), expected %d", t[i].text, got, rc, t[i].want);
		/* no prefix of a good head is an error */
		for (size_t k = 0; t[i].want == 1 && k < n; k++)
			assert_int_equal (http_parse_head (exact, k, &h, &status), 0);
		free (exact);
	}
}

static void test_head_fields (void **state)
{
	static const char text[] = "POST /v3/submit?wait=5&x=%20 HTTP/1.1\r\nhOST:a\r\nConnection: foo , Close\r\n"
				   "CONTENT-LENGTH: 12\r\nExpect: 100-Continue\r\n\r\nrest";
	struct http_head h;
	int status;

	(void) state;
	assert_int_equal (http_parse_head (text, sizeof (text) - 1, &h, &status), sizeof (text) - 5);
	assert_int_equal (h.method, HTTP_POST);
	assert_int_equal (h.path.n, 10);
	assert_memory_equal (h.query.p, "wait=5&x=%20", 12);
	assert_int_equal (h.nheaders, 4);
	assert_int_equal (h.content_length, 12);
	assert_false (h.keep_alive);
	assert_true (h.expect_continue);
}

static void test_head_limits (void **state)
{
	struct http_head h;
	struct buf b;
	int status = 0;

	(void) state;
	buf_init (&b, 0);
	buf_str (&b, "GET /");
	for (int i = 0; i < 9000; i++)
		buf_char (&b, 'a');
	assert_int_equal (http_parse_head ((char *) b.data, b.len, &h, &status), -1);
	assert_int_equal (status, 414);
	for (int n = 99; n <= 100; n++) {
		buf_clear (&b);
		buf_str (&b, "GET / HTTP/1.1\r\n" H);
		for (int i = 0; i < n; i++)
			buf_str (&b, "A: b\r\n");
		buf_str (&b, "\r\n");
		long rc = http_parse_head ((char *) b.data, b.len, &h, &status);
		assert_int_equal (rc, n == 99 ? (long) b.len : -1);
	}
	assert_int_equal (status, 431);
	buf_clear (&b);
	buf_str (&b, "GET / HTTP/1.1\r\n" H "A: ");
	for (int i = 0; i < 17000; i++)
		buf_char (&b, 'a');
	assert_int_equal (http_parse_head ((char *) b.data, b.len, &h, &status), -1);
	assert_int_equal (status, 431);
	buf_fini (&b);
}

/* ---- over sockets ------------------------------------------------------------------------------------------- */

static void test_errors_over_the_wire (void **state)
{
	static const struct { const char *text; int want; } t[] = {
		{ "GET /ok HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 200 },
		{ "GET /ok HTTP/1.0\r\n\r\n", 200 },
		{ "GET / HTTP/1.1\nHost: x\n\n", 400 },
		{ "\x16\x03\x01\x02\x00\x01", 400 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: 1001\r\n\r\n", 413 },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: 999999999999\r\nExpect: 100-continue\r\n\r\n", 413 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3e9\r\n", 413 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 413 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nx\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\nab\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", 400 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n0\r\nT: x\n\r\n", 400 },
		{ "TRACE / HTTP/1.1\r\n" H "\r\n", 501 },
	};
	struct http_opts o = { .max_body_bytes = 1000 };
	struct fx f;

	(void) state;
	fx_start (&f, &o);
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		char *a = ask (&f, t[i].text, strlen (t[i].text), false);
		if (status_of (a) != t[i].want)
			fail_msg ("%s: expected %d, got %.200s", t[i].text, t[i].want, a);
		if (t[i].want != 200)
			assert_non_null (strstr (a, "\"http_status_code\""));
		assert_non_null (strstr (a, "Connection: close\r\n"));
		free (a);
	}
	assert_int_equal (f.requests, 2);
	assert_int_equal (f.errors, sizeof (t) / sizeof (t[0]) - 2);
	UNTIL (&f, http_connections (f.s) == 0);
	fx_stop (&f);
}

static void test_keep_alive_and_pipelining (void **state)
{
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	int fd = dial (&f);
	buf_init (&b, 0);
	for (int i = 0; i < 3; i++) {
		buf_clear (&b);
		say (&f, fd, "POST /one HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc");
		assert_false (hear (&f, fd, &b, "/one:abc"));
		assert_non_null (strstr ((char *) b.data, "X-Test: yes\r\n"));
		assert_null (strstr ((char *) b.data, "Connection:"));
	}
	buf_clear (&b);
	say (&f, fd, "POST /a HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\n1GET /b HTTP/1.1\r\n" H "\r\n"
		     "POST /c HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: v\r\n\r\n"
		     "HEAD /d HTTP/1.1\r\n" H "\r\nGET /e HTTP/1.1\r\n" H "\r\nGET /f HT");
	hear (&f, fd, &b, "/e:");
	char *text = (char *) b.data, *at = text;
	for (const char *const *w = (const char *const[]) { "/a:1", "/b:", "/c:abc", "Content-Length: 3", "/e:", NULL }; *w; w++) {
		at = strstr (at, *w);
		assert_non_null (at);
	}
	assert_null (strstr (text, "/d:"));	/* HEAD has no body */
	say (&f, fd, "TP/1.1\r\n" H "\r\n");
	hear (&f, fd, &b, "/f:");
	assert_int_equal (f.requests, 9);
	assert_int_equal (http_connections (f.s), 1);
	close (fd);
	UNTIL (&f, http_connections (f.s) == 0);
	buf_fini (&b);
	fx_stop (&f);
}

/* Requests behind one that is answered later wait, in order, and nothing is lost. */
static void test_pipelining_with_late_answers (void **state)
{
	struct buf in, b;
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	f.hold = true;
	int fd = dial (&f);
	buf_init (&in, 0);
	buf_init (&b, 0);
	for (int i = 0; i < 40; i++)
		buf_printf (&in, "POST /%d HTTP/1.1\r\n" H "Content-Length: 2000\r\n\r\n%02000d", i, i);
	/* more than the server reads ahead: the rest stays in the socket */
	size_t sent = 0;
	for (int i = 0; i < 40; i++) {
		while (sent < in.len) {
			ssize_t n = send (fd, in.data + sent, in.len - sent, MSG_NOSIGNAL);
			if (n <= 0)
				break;
			sent += (size_t) n;
		}
		UNTIL (&f, f.nheld == 1);
		turn (&f);
		assert_int_equal (f.nheld, 1);
		f.nheld = 0;
		assert_int_equal (http_body (f.held[0]).n, 2000);
		answer (&f, f.held[0]);
		char want[20];
		snprintf (want, sizeof (want), "/%d:", i);
		hear (&f, fd, &b, want);
	}
	assert_int_equal (f.requests, 40);
	close (fd);
	buf_fini (&in);
	buf_fini (&b);
	UNTIL (&f, http_connections (f.s) == 0);
	fx_stop (&f);
}

static void test_every_split (void **state)
{
	static const char text[] = "POST /p?q=1 HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
				   "POST /r HTTP/1.1\r\n" H "Content-Length: 4\r\nConnection: close\r\n\r\nwxyz";
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	for (size_t k = 1; k < sizeof (text) - 1; k++) {
		struct buf b;
		int fd = dial (&f);
		buf_init (&b, 0);
		say_n (&f, fd, text, k);
		turn (&f);
		turn (&f);
		say_n (&f, fd, text + k, sizeof (text) - 1 - k);
		assert_true (hear (&f, fd, &b, NULL));
		assert_non_null (strstr ((char *) b.data, "/p:abcde"));
		assert_non_null (strstr ((char *) b.data, "/r:wxyz"));
		close (fd);
		buf_fini (&b);
	}
	fx_stop (&f);
}

static void test_large_bodies (void **state)
{
	struct http_opts o = { .max_body_bytes = 8 << 20 };
	size_t n = 5 << 20;
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, &o);
	char *body = malloc (n + 1), head[200];
	for (size_t i = 0; i < n; i++)
		body[i] = (char) ('a' + i % 26);
	for (int chunked = 0; chunked < 2; chunked++) {
		int fd = dial (&f);
		buf_init (&b, 0);
		snprintf (head, sizeof (head), "POST /l HTTP/1.1\r\n" H "Connection: close\r\n%s\r\n",
			  chunked ? "Transfer-Encoding: chunked\r\n" : "Content-Length: 5242880\r\n");
		say (&f, fd, head);
		for (size_t at = 0; at < n; at += 65536) {
			if (chunked)
				say (&f, fd, "10000\r\n");
			say_n (&f, fd, body + at, 65536);
			if (chunked)
				say (&f, fd, "\r\n");
		}
		if (chunked)
			say (&f, fd, "0\r\n\r\n");
		hear (&f, fd, &b, NULL);
		uint8_t *at = memmem (b.data, b.len, "\r\n\r\n", 4);
		assert_non_null (at);
		assert_int_equal (b.len - (size_t) (at + 4 - b.data), n + 3);
		assert_memory_equal (at + 7, body, n);
		close (fd);
		buf_fini (&b);
	}
	free (body);
	fx_stop (&f);
}

static void test_body_over_limit_is_not_read (void **state)
{
	struct http_opts o = { .max_body_bytes = 1000 };
	struct fx f;

	(void) state;
	fx_start (&f, &o);
	/* refused from the header, while the client goes on sending: it must still see the answer */
	struct buf b;
	int fd = dial (&f);
	buf_init (&b, 0);
	say (&f, fd, "POST / HTTP/1.1\r\n" H "Content-Length: 1000000\r\n\r\n");
	static char junk[200000];
	say_n (&f, fd, junk, sizeof (junk));
	hear (&f, fd, &b, "http_status_code\":413");
	assert_int_equal (f.requests, 0);
	close (fd);
	buf_fini (&b);
	UNTIL (&f, http_connections (f.s) == 0);
	fx_stop (&f);
}

static void test_buffered_bound (void **state)
{
	struct http_opts o = { .max_buffered_bytes = 300000 };
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, &o);
	static char part[150000];
	int first = dial (&f), second = dial (&f);
	buf_init (&b, 0);
	say (&f, first, "POST /1 HTTP/1.1\r\n" H "Content-Length: 200000\r\n\r\n");
	say_n (&f, first, part, sizeof (part));
	turn_ms (&f, 20);
	say (&f, second, "POST /2 HTTP/1.1\r\n" H "Content-Length: 200000\r\n\r\n");
	hear (&f, second, &b, "\":503");
	buf_clear (&b);
	say_n (&f, first, part, 50000);
	hear (&f, first, &b, "/1:");	/* the one in hand is not hurt, and afterwards there is room again */
	close (second);
	second = dial (&f);
	say (&f, second, "POST /2 HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\n");
	say_n (&f, second, part, 100000);
	hear (&f, second, &b, "/2:");
	close (first);
	close (second);
	buf_fini (&b);
	fx_stop (&f);
}

static void test_timeouts (void **state)
{
	struct http_opts o = { .head_timeout_ms = 150, .body_timeout_ms = 150, .idle_timeout_ms = 300 };
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, &o);
	buf_init (&b, 0);
	/* a head that trickles: each byte does not buy more time */
	int fd = dial (&f);
	int64_t start = clock_now_ms ();
	char chunk[1024];
	ssize_t n;
	int at = 0;
	while ((n = recv (fd, chunk, sizeof (chunk), 0)) < 0) {
		send (fd, "\r\nGET / HTTP/1.1\r\nA: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + at++, 1, MSG_NOSIGNAL);
		turn_ms (&f, 10);
		if (at > 60)
			fail_msg ("a trickling head was not refused");
	}
	chunk[n > 0 ? n : 0] = 0;
	assert_int_equal (status_of (chunk), 408);
	close (fd);
	fd = dial (&f);
	start = clock_now_ms ();
	say (&f, fd, "GET / HTTP/1.1\r\nHo");
	hear (&f, fd, &b, "\":408");
	assert_true (clock_now_ms () - start >= 100);
	close (fd);
	fd = dial (&f);
	buf_clear (&b);
	say (&f, fd, "POST / HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
	hear (&f, fd, &b, "\":408");
	close (fd);
	fd = dial (&f);
	buf_clear (&b);
	say (&f, fd, "GET / HTTP/1.1\r\n" H "\r\n");
	start = clock_now_ms ();
	assert_true (hear (&f, fd, &b, NULL));		/* idle: closed without a word */
	assert_int_equal (status_of ((char *) b.data), 200);
	assert_true (clock_now_ms () - start >= 250);
	close (fd);
	buf_fini (&b);
	UNTIL (&f, http_connections (f.s) == 0);
	fx_stop (&f);
}

/* Steady, but under the least rate: refused although no single pause is long. */
static void test_slow_body (void **state)
{
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	for (int chunked = 0; chunked < 2; chunked++) {
		int fd = dial (&f);
		buf_init (&b, 0);
		say (&f, fd, chunked ? "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
				     : "POST / HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\nabc");
		turn_ms (&f, 20);
		clock_set_for_test (clock_now_ns () + INT64_C (6000000000), -1);
		send (fd, "1\r\nb\r\n", 6, MSG_NOSIGNAL);
		for (int i = 0; i < 20; i++)
			turn (&f);
		clock_set_for_test (-1, -1);
		hear (&f, fd, &b, "\":408");
		assert_non_null (strstr ((char *) b.data, "too slowly"));
		close (fd);
		buf_fini (&b);
	}
	assert_int_equal (f.requests, 0);
	fx_stop (&f);
}

static void test_slow_reader (void **state)
{
	struct http_opts o = { .write_timeout_ms = 200 };
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, &o);
	f.big = 20 << 20;
	int fd = dial (&f);
	say (&f, fd, "GET / HTTP/1.1\r\n" H "\r\n");
	UNTIL (&f, f.requests == 1);
	UNTIL (&f, http_connections (f.s) == 0);	/* takes nothing: dropped */
	close (fd);
	fd = dial (&f);
	buf_init (&b, 0);
	f.big = 9 << 20;
	say (&f, fd, "GET / HTTP/1.1\r\n" H "\r\nGET /behind HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	UNTIL (&f, f.requests == 2);
	f.big = 0;
	hear (&f, fd, &b, NULL);
	assert_true (b.len > 9 << 20);
	assert_non_null (memmem (b.data, b.len, "/behind:", 8));
	close (fd);
	buf_fini (&b);
	fx_stop (&f);
}

static void test_expect_continue (void **state)
{
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	int fd = dial (&f);
	buf_init (&b, 0);
	say (&f, fd, "POST /x HTTP/1.1\r\n" H "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
	hear (&f, fd, &b, "HTTP/1.1 100 Continue\r\n\r\n");
	assert_int_equal (f.requests, 0);
	say (&f, fd, "abc");
	hear (&f, fd, &b, "/x:abc");
	close (fd);
	buf_fini (&b);
	fx_stop (&f);
}

static struct http_stream *stream_of (struct fx *f)
{
	assert_true (f->nheld > 0);
	return f->stream = http_stream_begin (f->held[--f->nheld], 200, "text/event-stream", "Cache-Control: no-cache\r\n", &stream_ops, f);
}

static void tell (struct fx *f, const char *text)
{
	http_stream_write (f->stream, text, strlen (text));
}

static void test_stream (void **state)
{
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	f.hold = true;
	buf_init (&b, 0);
	int fd = dial (&f);
	say (&f, fd, "GET /events HTTP/1.1\r\n" H "\r\nGET /behind HTTP/1.1\r\n" H "\r\n");
	UNTIL (&f, f.nheld == 1);
	assert_non_null (stream_of (&f));
	hear (&f, fd, &b, "\r\n\r\n");	/* the head comes before there is anything to tell */
	assert_non_null (strstr ((char *) b.data, "Transfer-Encoding: chunked\r\n"));
	assert_non_null (strstr ((char *) b.data, "Cache-Control: no-cache\r\n"));
	assert_null (strstr ((char *) b.data, "Content-Length"));
	tell (&f, "one ");
	tell (&f, "two");
	hear (&f, fd, &b, "\r\n\r\n00000007\r\none two\r\n");	/* one round, one chunk */
	tell (&f, "three");
	assert_int_equal (http_stream_waiting (f.stream), 15);
	hear (&f, fd, &b, "00000005\r\nthree\r\n");
	assert_int_equal (http_stream_waiting (f.stream), 0);
	assert_int_equal (f.requests, 1);
	tell (&f, "last");
	http_stream_end (&f.stream);
	assert_null (f.stream);
	f.hold = false;
	hear (&f, fd, &b, "00000004\r\nlast\r\n0\r\n\r\n");
	hear (&f, fd, &b, "/behind:");		/* the connection goes on */
	assert_int_equal (f.gone, 0);
	close (fd);
	UNTIL (&f, http_connections (f.s) == 0);
	buf_fini (&b);
	fx_stop (&f);
}

static void test_stream_for_an_old_client (void **state)
{
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	f.hold = true;
	buf_init (&b, 0);
	int fd = dial (&f);
	say (&f, fd, "GET /events HTTP/1.0\r\n" H "\r\n");
	UNTIL (&f, f.nheld == 1);
	stream_of (&f);
	tell (&f, "plain");
	http_stream_end (&f.stream);
	hear (&f, fd, &b, NULL);
	assert_non_null (strstr ((char *) b.data, "Connection: close\r\n"));
	assert_non_null (strstr ((char *) b.data, "\r\n\r\nplain"));
	assert_null (strstr ((char *) b.data, "chunked"));
	close (fd);
	buf_fini (&b);
	fx_stop (&f);
}

/* Until the socket takes no more. */
static size_t fill (struct fx *f, const char block[65536])
{
	size_t sent = 0;

	do {
		http_stream_write (f->stream, block, 65536);
		sent += 65536;
		for (int i = 0; i < 3; i++)
			turn (f);
	} while (!http_stream_waiting (f->stream));
	return sent;
}

static void test_stream_reader_goes (void **state)
{
	struct http_opts o = { .write_timeout_ms = 300 };
	char *block = calloc (1, 65536);
	struct fx f;

	(void) state;
	fx_start (&f, &o);
	f.hold = true;
	int fd = dial (&f);
	say (&f, fd, "GET /1 HTTP/1.1\r\n" H "\r\n");
	UNTIL (&f, f.nheld == 1);
	stream_of (&f);
	turn_ms (&f, 400);
	assert_int_equal (f.gone, 0);	/* silence is fine */
	close (fd);
	UNTIL (&f, f.gone == 1);
	assert_int_equal (http_connections (f.s), 0);
	/* one that takes nothing: its owner sees it, and at last it is dropped */
	fd = dial (&f);
	say (&f, fd, "GET /2 HTTP/1.1\r\n" H "\r\n");
	UNTIL (&f, f.nheld == 1);
	stream_of (&f);
	fill (&f, block);
	UNTIL (&f, f.gone == 2);
	close (fd);
	/* one that is slow: told when it has caught up */
	fd = dial (&f);
	say (&f, fd, "GET /3 HTTP/1.1\r\n" H "\r\n");
	UNTIL (&f, f.nheld == 1);
	stream_of (&f);
	size_t sent = fill (&f, block), got = 0;
	f.refilled = 0;
	for (char *into = malloc (1 << 20); ; turn (&f)) {
		ssize_t n = recv (fd, into, 1 << 20, 0);
		got += n > 0 ? (size_t) n : 0;
		if (f.refilled && n < 0) {
			free (into);
			break;
		}
	}
	assert_true (got > sent);
	assert_int_equal (f.refilled, 1);
	assert_int_equal (http_stream_waiting (f.stream), 0);
	/* the server goes */
	http_destroy (&f.s);
	assert_int_equal (f.gone, 3);
	loop_destroy (&f.loop);
	close (fd);
	free (block);
}

static void on_abort (struct http_req *r, void *arg)
{
	struct fx *f = arg;

	assert_ptr_equal (http_user (r), f);
	f->aborts++;
}

static void test_abort (void **state)
{
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	f.hold = true;
	for (int how = 0; how < 3; how++) {
		struct linger l = { 1, 0 };
		int fd = dial (&f);
		f.nheld = 0;
		say (&f, fd, "GET /w HTTP/1.1\r\n" H "\r\n");
		UNTIL (&f, f.nheld == 1);
		http_set_user (f.held[0], &f);
		assert_int_equal (http_peer (f.held[0]).n, 9);
		if (how == 1)
			setsockopt (fd, SOL_SOCKET, SO_LINGER, &l, sizeof (l));	/* reset */
		if (how < 2)
			http_on_abort (f.held[0], on_abort, &f);
		close (fd);
		if (how == 2) {		/* gone before anyone asked to be told */
			turn_ms (&f, 10);
			http_on_abort (f.held[0], on_abort, &f);
		}
		UNTIL (&f, f.aborts == how + 1);
	}
	/* without a callback: answered into the void; a half-closed client still gets its answer */
	f.nheld = 0;
	int fd = dial (&f);
	struct linger l = { 1, 0 };
	say (&f, fd, "GET /w HTTP/1.1\r\n" H "\r\n");
	UNTIL (&f, f.nheld == 1);
	setsockopt (fd, SOL_SOCKET, SO_LINGER, &l, sizeof (l));
	close (fd);
	UNTIL (&f, http_connections (f.s) == 0);
	assert_int_equal (http_path (f.held[0]).n, 2);
	answer (&f, f.held[0]);
	f.hold = false;
	char *a = ask (&f, "GET /h HTTP/1.1\r\n" H "\r\n", strlen ("GET /h HTTP/1.1\r\n" H "\r\n"), true);
	assert_non_null (strstr (a, "/h:"));
	free (a);
	/* one more for a server that is destroyed first */
	f.hold = true;
	f.nheld = 0;
	fd = dial (&f);
	say (&f, fd, "GET /w HTTP/1.1\r\n" H "\r\n");
	UNTIL (&f, f.nheld == 1);
	http_destroy (&f.s);
	answer (&f, f.held[0]);
	close (fd);
	fx_stop (&f);
}

static void test_drain (void **state)
{
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	buf_init (&b, 0);
	f.hold = true;
	int busy = dial (&f), idle = dial (&f), part = dial (&f), fresh = dial (&f);
	say (&f, busy, "GET /busy HTTP/1.1\r\n" H "\r\n");
	UNTIL (&f, f.nheld == 1);
	say (&f, part, "POST /part HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\na");
	turn_ms (&f, 10);
	UNTIL (&f, http_connections (f.s) == 4);
	http_drain (f.s, 10000, on_drained, &f);
	say (&f, part, "b");
	UNTIL (&f, f.nheld == 2);
	say (&f, fresh, "GET /fresh HTTP/1.1\r\n" H "\r\n");	/* it had connected, and was about to ask */
	UNTIL (&f, f.nheld == 3);
	answer (&f, f.held[2]);
	assert_true (hear (&f, fresh, &b, NULL));
	assert_non_null (strstr ((char *) b.data, "Connection: close"));
	buf_clear (&b);
	assert_true (hear (&f, idle, &b, NULL));	/* it asks for nothing */
	assert_int_equal (b.len, 0);
	assert_int_equal (f.drained, 0);
	answer (&f, f.held[0]);
	answer (&f, f.held[1]);
	assert_true (hear (&f, busy, &b, NULL));
	assert_true (hear (&f, part, &b, NULL));
	assert_non_null (strstr ((char *) b.data, "/busy:"));
	assert_non_null (strstr ((char *) b.data, "/part:ab"));
	assert_non_null (strstr ((char *) b.data, "Connection: close"));
	close (busy);
	close (part);
	close (idle);
	close (fresh);
	UNTIL (&f, f.drained == 1);
	assert_int_equal (http_connections (f.s), 0);
	fx_stop (&f);

	/* grace ends although one is still in hand */
	fx_start (&f, NULL);
	f.hold = true;
	busy = dial (&f);
	say (&f, busy, "GET /busy HTTP/1.1\r\n" H "\r\n");
	UNTIL (&f, f.nheld == 1);
	http_on_abort (f.held[0], on_abort, &f);
	http_set_user (f.held[0], &f);
	http_drain (f.s, 50, on_drained, &f);
	UNTIL (&f, f.drained == 1);
	assert_int_equal (f.aborts, 0);
	close (busy);
	fx_stop (&f);
	assert_int_equal (f.aborts, 1);
	buf_fini (&b);
}

static void test_query_params (void **state)
{
	static const char text[] = "GET /q?a=1&b=x%20y+z&c&d=%zz&e=%00&long=0123456789&%61%62=q HTTP/1.1\r\n" H "\r\n";
	char out[10];
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	f.hold = true;
	int fd = dial (&f);
	say (&f, fd, text);
	UNTIL (&f, f.nheld == 1);
	struct http_req *r = f.held[0];
	assert_int_equal (http_query_param (r, "a", out, sizeof (out)), 0);
	assert_string_equal (out, "1");
	assert_int_equal (http_query_param (r, "b", out, sizeof (out)), 0);
	assert_string_equal (out, "x y z");
	assert_int_equal (http_query_param (r, "c", out, sizeof (out)), 0);
	assert_string_equal (out, "");
	assert_int_equal (http_query_param (r, "ab", out, sizeof (out)), 0);
	assert_string_equal (out, "q");
	static const struct { const char *name; int want; } bad[] = {
		{ "d", EINVAL }, { "e", EINVAL }, { "long", E2BIG }, { "nope", ENOENT }, { "", ENOENT },
	};
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++) {
		assert_int_equal (http_query_param (r, bad[i].name, out, sizeof (out)), -1);
		assert_int_equal (errno, bad[i].want);
	}
	assert_null (http_header (r, "x-none").p);
	assert_int_equal (http_header (r, "hOsT").n, 1);
	assert_true (http_started_real_ns (r) > 0);
	answer (&f, r);
	close (fd);
	fx_stop (&f);
}

static void test_connection_limit (void **state)
{
	struct http_opts o = { .max_connections = 2 };
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, &o);
	buf_init (&b, 0);
	int a = dial (&f), c = dial (&f);
	UNTIL (&f, http_connections (f.s) == 2);
	int d = dial (&f);
	assert_true (hear (&f, d, &b, NULL));
	assert_int_equal (status_of ((char *) b.data), 503);
	close (d);
	close (a);
	UNTIL (&f, http_connections (f.s) == 1);
	buf_clear (&b);
	d = dial (&f);
	say (&f, d, "GET /again HTTP/1.1\r\n" H "\r\n");
	hear (&f, d, &b, "/again:");
	close (c);
	close (d);
	buf_fini (&b);
	fx_stop (&f);
}

static void test_listen_refuses (void **state)
{
	char address[40];
	struct err err;
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	snprintf (address, sizeof (address), "127.0.0.1:%d", f.port);
	assert_int_equal (http_listen (f.s, address, &err), -1);
	assert_non_null (strstr (err.text, address));
	assert_int_equal (http_listen (f.s, "127.0.0.1", &err), -1);
	assert_int_equal (http_listen (f.s, "127.0.0.1:99999", &err), -1);
	fx_stop (&f);
}

/* Two servers on one socket, as two processes have it: what is queued when the one goes is served by the other. */
static void test_listening_socket_is_shared (void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
	struct http_opts o = { .on_request = on_request, .on_error = on_error };
	int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fds[40];
	struct http_server *one, *two;
	struct err err;
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	buf_init (&b, 0);
	o.arg = &f;
	assert_int_equal (bind (fd, (struct sockaddr *) &a, sizeof (a)), 0);
	one = http_create (f.loop, &o, &err);
	f.port = http_listen_fd (one, dup (fd), &err);
	assert_true (f.port > 0);
	for (int i = 0; i < 40; i++) {
		fds[i] = dial (&f);	/* the loop does not run: they are queued */
		say (&f, fds[i], "GET /queued HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	}
	assert_int_equal (http_connections (one), 0);
	http_destroy (&one);
	two = http_create (f.loop, &o, &err);
	assert_int_equal (http_listen_fd (two, dup (fd), &err), f.port);
	for (int i = 0; i < 40; i++) {
		assert_true (hear (&f, fds[i], &b, NULL));
		close (fds[i]);
	}
	assert_int_equal (f.requests, 40);
	http_destroy (&two);
	close (fd);
	buf_fini (&b);
	fx_stop (&f);
}

/* Thousands of idle connections: little memory each, and a request among them is served. */
static void test_idle_connections (void **state)
{
	struct rlimit lim;
	struct buf b;
	struct fx f;
	int *fds, n = MANY;

	(void) state;
	getrlimit (RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit (RLIMIT_NOFILE, &lim);
	if (lim.rlim_cur < (rlim_t) n * 2 + 100)
		n = ((int) lim.rlim_cur - 100) / 2;
	fds = calloc ((size_t) n, sizeof (*fds));
	fx_start (&f, NULL);
	buf_init (&b, 0);
	size_t before = mallinfo2 ().uordblks;
	for (int i = 0; i < n; i++) {
		fds[i] = dial (&f);
		if (i % 100 == 99)
			UNTIL (&f, http_connections (f.s) == (size_t) i + 1);
	}
	UNTIL (&f, http_connections (f.s) == (size_t) n);
	for (int i = 0; i < n; i += 10) {
		buf_clear (&b);
		say (&f, fds[i], "GET /i HTTP/1.1\r\n" H "\r\n");
		hear (&f, fds[i], &b, "/i:");
	}
	size_t each = (mallinfo2 ().uordblks - before) / (size_t) n;
	print_message ("%d idle connections, %zu bytes each\n", n, each);
	if (!SANITIZED)
		assert_true (each < 1024);
	for (int i = 0; i < n; i++)
		close (fds[i]);
	UNTIL (&f, http_connections (f.s) == 0);
	free (fds);
	buf_fini (&b);
	fx_stop (&f);
}

/* Out of descriptors: accepting pauses and recovers. */
static void test_emfile (void **state)
{
	struct rlimit old, low;
	struct buf b;
	struct fx f;

	(void) state;
	fx_start (&f, NULL);
	buf_init (&b, 0);
	int a = dial (&f), probe = dup (a);
	getrlimit (RLIMIT_NOFILE, &old);
	low = old;
	low.rlim_cur = (rlim_t) probe;	/* none left for accept */
	close (probe);
	int fill;
	while ((fill = dup (a)) >= 0 && fill < probe)
		;
	if (fill >= 0)
		close (fill);
	assert_int_equal (setrlimit (RLIMIT_NOFILE, &low), 0);
	turn_ms (&f, 50);
	assert_int_equal (http_connections (f.s), 0);
	assert_int_equal (setrlimit (RLIMIT_NOFILE, &old), 0);
	say (&f, a, "GET /late HTTP/1.1\r\n" H "\r\n");
	hear (&f, a, &b, "/late:");
	close (a);
	buf_fini (&b);
	fx_stop (&f);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_stream), cmocka_unit_test (test_stream_for_an_old_client), cmocka_unit_test (test_stream_reader_goes),
		cmocka_unit_test (test_head_table),
		cmocka_unit_test (test_head_fields),
		cmocka_unit_test (test_head_limits),
		cmocka_unit_test (test_errors_over_the_wire),
		cmocka_unit_test (test_keep_alive_and_pipelining),
		cmocka_unit_test (test_pipelining_with_late_answers),
		cmocka_unit_test (test_every_split),
		cmocka_unit_test (test_large_bodies),
		cmocka_unit_test (test_body_over_limit_is_not_read),
		cmocka_unit_test (test_buffered_bound),
		cmocka_unit_test (test_timeouts),
		cmocka_unit_test (test_slow_body),
		cmocka_unit_test (test_slow_reader),
		cmocka_unit_test (test_expect_continue),
		cmocka_unit_test (test_abort),
		cmocka_unit_test (test_drain),
		cmocka_unit_test (test_query_params),
		cmocka_unit_test (test_connection_limit),
		cmocka_unit_test (test_listen_refuses),
		cmocka_unit_test (test_listening_socket_is_shared),
		cmocka_unit_test (test_idle_connections),
		cmocka_unit_test (test_emfile),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
