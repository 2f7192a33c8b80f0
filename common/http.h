/* SPDX-License-Identifier: Apache-2.0 */
/* A strict HTTP/1.1 server on the loop, for JSON APIs: keep-alive, pipelining (answered in order), Content-Length and
 * chunked bodies, Expect: 100-continue, HEAD. Why not evhttp: a body over the limit must be refused from its header,
 * with our JSON error, before it is read; and request parsing is the largest single cost of a small call.
 *
 * Limits are checked before memory is taken: request line and headers (16 KiB, 100 headers), body, connections, time
 * to send a whole head (slow writers), idle time. Violations are answered (400, 408, 413, 414, 431, 501, 503) through on_error, so that
 * all errors have one shape. Content-Length together with Transfer-Encoding, bare LF, spaces before colons, control
 * characters, repeated Content-Length are refused with 400. */
#ifndef COMMON_HTTP_H
#define COMMON_HTTP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/loop.h"

struct http_server;
struct http_req;

struct http_str { const char *p; size_t n; };	/* borrowed, not NUL-terminated */

enum http_method { HTTP_GET = 1, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_DELETE, HTTP_PATCH, HTTP_OPTIONS };

struct http_opts {
	size_t max_body_bytes;		/* 0 = 16 MiB */
	size_t max_connections;		/* 0 = 12,000; over it: accepted, answered 503 and closed */
	size_t max_buffered_bytes;	/* all request bodies being received together; 0 = 512 MiB; over it: 503 */
	int64_t head_timeout_ms;	/* a whole head from its first byte; 0 = 10,000 */
	int64_t body_timeout_ms;	/* without a byte of body; 0 = 20,000 */
	int64_t body_min_bytes_per_s;	/* averaged, after the first 5 s; 0 = 1024 */
	int64_t idle_timeout_ms;	/* keep-alive; 0 = 75,000 */
	int64_t write_timeout_ms;	/* a reader that takes nothing; 0 = 30,000 */
	/* A complete request. The callee answers now or later with http_reply, exactly once. */
	void (*on_request) (struct http_req *req, void *arg);
	/* Make the body of an error the server found by itself. */
	void (*on_error) (int status, const char *text, struct buf *body, void *arg);
	void *arg;
};

struct http_server *http_create (struct loop *l, const struct http_opts *o, struct err *err);
/* Listen; "host:port", port 0 = any free one. Returns the port or -1. May be called several times. */
int http_listen (struct http_server *s, const char *address, struct err *err);
/* Listen on a bound socket, which other processes may have too: what is queued on it outlives each of them. fd is transferred. */
int http_listen_fd (struct http_server *s, int fd, struct err *err);
/* Stop accepting, answer what is in hand; done() when no connection is left or after grace_ms. A connection between two requests, or
 * before its first, has a moment (HTTP_DRAIN_IDLE_MS) to send one, whose answer then says that it was the last: whoever is about to send is not cut off. */
void http_drain (struct http_server *s, int64_t grace_ms, loop_f *done, void *arg);
void http_destroy (struct http_server **s);
size_t http_connections (const struct http_server *s);

/* The request; all slices are borrowed and valid until http_reply (or the abort callback). */
enum http_method http_method (const struct http_req *r);
struct http_str http_path (const struct http_req *r);		/* percent-encoded as sent, without query */
struct http_str http_query (const struct http_req *r);		/* after '?', may be empty */
struct http_str http_header (const struct http_req *r, const char *name);	/* any case; p NULL when absent */
struct http_str http_body (const struct http_req *r);
struct http_str http_peer (const struct http_req *r);		/* "127.0.0.1" */
int64_t http_started_real_ns (const struct http_req *r);	/* when its first byte was read */
/* Value of a query parameter, decoded into out (NUL-terminated); 0, or -1 absent / too long / bad encoding (errno ENOENT, E2BIG, EINVAL). */
int http_query_param (const struct http_req *r, const char *name, char *out, size_t cap);
void *http_user (const struct http_req *r);
void http_set_user (struct http_req *r, void *user);
/* Called when the client goes away before the reply; the request is gone after it returns. NULL = answer into the void. */
void http_on_abort (struct http_req *r, void (*cb) (struct http_req *r, void *arg), void *arg);

bool http_gone (const struct http_req *r);	/* it has gone already, unnoticed for lack of such a callback */

/* Answer. body is transferred (emptied) and may be NULL. extra_headers: "Name: value\r\n..." or NULL. The request is gone afterwards. */
void http_reply (struct http_req *r, int status, const char *content_type, const char *extra_headers, struct buf *body);

/* An answer that goes on: events. The request is gone after http_stream_begin; NULL: its client is too. The callbacks come from the loop. */
struct http_stream;
struct http_stream_ops {
	/* The socket has taken all that was written. */
	void (*on_drained) (void *arg);
	/* The client has gone, or took nothing for write_timeout_ms. The stream is gone after it returns. */
	void (*on_gone) (void *arg);
};
/* extra_headers as for http_reply; ops: borrowed. */
struct http_stream *http_stream_begin (struct http_req *r, int status, const char *content_type, const char *extra_headers,
				       const struct http_stream_ops *ops, void *arg);
void http_stream_write (struct http_stream *s, const void *p, size_t n);	/* copied; leaves at the end of this round of the loop */
void http_stream_push (struct http_stream *s);			/* what is written leaves now, as far as the socket takes it */
size_t http_stream_waiting (const struct http_stream *s);	/* bytes that the reader has not taken; the bound is the caller's */
void http_stream_end (struct http_stream **s);			/* what is written still goes out; no callback any more */

/* The parser alone, for tests and the fuzzer: parse one head. Returns bytes used, 0 = incomplete, -1 = error with *status set. */
struct http_head {
	enum http_method method;
	struct http_str target, path, query;
	struct { struct http_str name, value; } headers[100];
	int nheaders;
	int64_t content_length;		/* -1 = none */
	bool chunked, keep_alive, expect_continue, http10;
};
long http_parse_head (const char *p, size_t n, struct http_head *out, int *status);

#endif
