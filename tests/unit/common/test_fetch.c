/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client against our own server, on one loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/fetch.h"
#include "common/http.h"

struct fx {
	struct loop *loop;
	struct http_server *s;
	struct fetch *f;
	int port, answers, status, aborts;
	enum err_code code;
	char body[200];
	size_t n;
	bool destroy, chain;
	char url[100];
};

static bool str_is (struct http_str s, const char *t)
{
	return s.n == strlen (t) && memcmp (s.p, t, s.n) == 0;
}

static void on_abort (struct http_req *r, void *arg)
{
	(void) r;
	((struct fx *) arg)->aborts++;
}

static void on_request (struct http_req *r, void *arg)
{
	struct http_str path = http_path (r), body = http_body (r), auth = http_header (r, "authorization");
	struct http_str type = http_header (r, "content-type"), more = http_header (r, "x-more");
	struct buf b;

	if (str_is (path, "/never")) {
		http_on_abort (r, on_abort, arg);
		return;
	}
	buf_init (&b, 0);
	if (str_is (path, "/redirect")) {
		http_reply (r, 302, NULL, "Location: /ok\r\n", NULL);
		return;
	}
	if (str_is (path, "/big"))
		for (int i = 0; i < 100000; i++)
			buf_char (&b, 'x');
	else
		buf_printf (&b, "%d %.*s %.*s %.*s %.*s", (int) http_method (r), (int) auth.n, auth.p ? auth.p : "", (int) type.n,
			    type.p ? type.p : "", (int) more.n, more.p ? more.p : "", (int) body.n, body.p);
	http_reply (r, str_is (path, "/404") ? 404 : 200, "text/plain", NULL, &b);
}

static void on_error (int status, const char *text, struct buf *body, void *arg)
{
	(void) arg;
	buf_printf (body, "%d %s", status, text);
}

static void start (struct fx *x)
{
	struct http_opts o = { .on_request = on_request, .on_error = on_error, .arg = x };
	struct err err;

	memset (x, 0, sizeof (*x));
	x->loop = loop_create (&err);
	x->s = http_create (x->loop, &o, &err);
	x->port = http_listen (x->s, "127.0.0.1:0", &err);
	assert_true (x->port > 0);
	x->f = fetch_create (x->loop, NULL, &err);
	assert_non_null (x->f);
}

static void stop (struct fx *x)
{
	fetch_destroy (&x->f);
	http_destroy (&x->s);
	loop_destroy (&x->loop);
}

static const char *url (struct fx *x, const char *path)
{
	snprintf (x->url, sizeof (x->url), "http://127.0.0.1:%d%s", x->port, path);
	return x->url;
}

static void on_done (int status, const char *body, size_t n, const struct err *err, void *arg)
{
	struct fx *x = arg;

	x->answers++;
	x->status = status;
	x->code = err ? err->code : 0;
	x->n = n;
	assert_int_equal (status == 0, err != NULL);
	assert_int_equal (body[n], 0);
	snprintf (x->body, sizeof (x->body), "%s", body);
	if (x->chain) {
		struct fetch_args a = { .method = "GET", .url = url (x, "/ok") };
		x->chain = false;
		assert_non_null (fetch_start (x->f, &a, on_done, x, NULL));
	} else if (x->destroy)
		fetch_destroy (&x->f);
}

static void until (struct fx *x, const int *what, int want)
{
	int64_t end = clock_now_ms () + 60000;

	while (*what < want) {
		struct timeval tv = { 0, 5000 };
		assert_true (clock_now_ms () < end);
		event_base_loopexit (loop_base (x->loop), &tv);
		event_base_loop (loop_base (x->loop), EVLOOP_ONCE);
	}
}

static void go (struct fx *x, const struct fetch_args *a)
{
	struct err err = { 0 };
	int want = x->answers + 1;

	if (!fetch_start (x->f, a, on_done, x, &err))
		fail_msg ("%s", err.text);
	until (x, &x->answers, want);
}

static void test_exchanges (void **state)
{
	static const char *const more[] = { "X-More: m", NULL }, *const bad[] = { "X: a\r\nY: b", NULL };
	struct fx x;

	(void) state;
	start (&x);
	go (&x, &(struct fetch_args) { .method = "POST", .url = url (&x, "/p"), .bearer = "tok", .headers = more, .body = "hello", .body_bytes = 5 });
	assert_int_equal (x.status, 200);
	assert_string_equal (x.body, "3 Bearer tok application/json m hello");
	go (&x, &(struct fetch_args) { .method = "GET", .url = url (&x, "/404") });
	assert_int_equal (x.status, 404);
	assert_string_equal (x.body, "1    ");
	go (&x, &(struct fetch_args) { .method = "DELETE", .url = url (&x, "/d") });
	assert_int_equal (x.body[0], '0' + HTTP_DELETE);
	go (&x, &(struct fetch_args) { .method = "HEAD", .url = url (&x, "/d") });
	assert_int_equal (x.n, 0);
	go (&x, &(struct fetch_args) { .method = "POST", .url = url (&x, "/e") });
	assert_int_equal (x.body[0], '0' + HTTP_POST);
	go (&x, &(struct fetch_args) { .method = "GET", .url = url (&x, "/redirect") });
	assert_int_equal (x.status, 302);
	assert_int_equal (http_connections (x.s), 1);	/* all on one connection */
	assert_null (fetch_start (x.f, &(struct fetch_args) { .url = url (&x, "/"), .headers = bad }, on_done, &x, NULL));
	stop (&x);
}

static void test_failures (void **state)
{
	struct fx x;

	(void) state;
	start (&x);
	go (&x, &(struct fetch_args) { .method = "GET", .url = url (&x, "/big"), .max_reply_bytes = 99999 });
	assert_int_equal (x.status, 0);
	assert_int_equal (x.code, ERR_TOO_LARGE);
	go (&x, &(struct fetch_args) { .method = "GET", .url = url (&x, "/big"), .max_reply_bytes = 100000 });
	assert_int_equal (x.n, 100000);
	go (&x, &(struct fetch_args) { .method = "GET", .url = url (&x, "/never"), .timeout_ms = 100 });
	assert_int_equal (x.code, ERR_TIMEOUT);
	until (&x, &x.aborts, 1);
	go (&x, &(struct fetch_args) { .method = "GET", .url = "http://127.0.0.1:1/" });
	assert_int_equal (x.code, ERR_UNAVAILABLE);
	go (&x, &(struct fetch_args) { .method = "GET", .url = "file:///etc/passwd" });
	assert_int_equal (x.code, ERR_INVALID);
	stop (&x);
}

static void test_cancel_chain_destroy (void **state)
{
	struct fx x;

	(void) state;
	start (&x);
	struct fetch_req *q = fetch_start (x.f, &(struct fetch_args) { .url = url (&x, "/never") }, on_done, &x, NULL);
	go (&x, &(struct fetch_args) { .url = url (&x, "/ok") });
	fetch_cancel (&q);
	assert_null (q);
	until (&x, &x.aborts, 1);
	x.chain = true;
	go (&x, &(struct fetch_args) { .url = url (&x, "/ok") });
	until (&x, &x.answers, 3);
	x.destroy = true;	/* from the callback, with another in hand */
	assert_non_null (fetch_start (x.f, &(struct fetch_args) { .url = url (&x, "/never") }, on_done, &x, NULL));
	go (&x, &(struct fetch_args) { .url = url (&x, "/ok") });
	assert_null (x.f);
	until (&x, &x.aborts, 2);
	assert_int_equal (x.answers, 4);
	stop (&x);
}

static void test_many_at_once (void **state)
{
	struct fx x;

	(void) state;
	start (&x);
	for (int i = 0; i < 200; i++)
		assert_non_null (fetch_start (x.f, &(struct fetch_args) { .url = url (&x, "/m") }, on_done, &x, NULL));
	until (&x, &x.answers, 200);
	assert_true (http_connections (x.s) <= 8);
	stop (&x);
}

static void *serve (void *arg)
{
	loop_run (((struct fx *) arg)->loop);
	return NULL;
}

static void stop_loop (evutil_socket_t fd, short what, void *arg)
{
	struct fx *x = arg;

	(void) fd;
	(void) what;
	if (x->aborts)
		loop_stop (x->loop);
}

static void test_sync (void **state)
{
	struct fx x;
	struct err err;
	pthread_t t;
	char *out;
	size_t n;

	(void) state;
	start (&x);
	/* the loop runs on the thread only; the main one talks to it through the socket */
	struct event *tick = event_new (loop_base (x.loop), -1, EV_PERSIST, stop_loop, &x);
	event_add (tick, &(struct timeval) { 0, 5000 });
	assert_int_equal (pthread_create (&t, NULL, serve, &x), 0);
	char at[100], never[100];
	snprintf (at, sizeof (at), "http://127.0.0.1:%d/s", x.port);
	snprintf (never, sizeof (never), "http://127.0.0.1:%d/never", x.port);
	assert_int_equal (fetch_sync (&(struct fetch_args) { .method = "POST", .url = at, .body = "b", .body_bytes = 1 }, NULL, &out, &n, &err), 200);
	assert_string_equal (out, "3  application/json  b");
	free (out);
	assert_int_equal (fetch_sync (&(struct fetch_args) { .url = "http://127.0.0.1:1/" }, NULL, &out, &n, &err), 0);
	assert_null (out);
	assert_int_equal (fetch_sync (&(struct fetch_args) { .url = never, .timeout_ms = 50 }, NULL, &out, &n, &err), 0);
	assert_int_equal (err.code, ERR_TIMEOUT);
	pthread_join (t, NULL);		/* the abort of /never ended the loop */
	event_free (tick);
	stop (&x);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_exchanges),
		cmocka_unit_test (test_failures),
		cmocka_unit_test (test_cancel_chain_destroy),
		cmocka_unit_test (test_many_at_once),
		cmocka_unit_test (test_sync),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
