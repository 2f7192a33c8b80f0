/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by http.c (connections), http_write.c (answers), http_stream.c (those that go on), http_listen.c (server, accepting, deadlines),
 * http_req.c (requests) and http_parse.c. */
#ifndef COMMON_HTTP_INTERNAL_H
#define COMMON_HTTP_INTERNAL_H
#include <event2/event.h>
#include <event2/event_struct.h>
#include "common/http.h"

enum {
	HTTP_HEAD_MAX = 16 * 1024,
	HTTP_LINE_MAX = 8 * 1024,
	HTTP_HEADERS_MAX = 100,
	HTTP_SCRATCH = 32 * 1024,	/* one read */
	HTTP_STASH_MAX = 16 * 1024,	/* read ahead while a request is in hand, beyond what one read brought */
	HTTP_STEP = 64 * 1024,		/* first room for a large body */
	HTTP_GROWTH = 4,		/* as bytes arrive there is room for so many times as many: what was read is copied then */
	HTTP_LINGER_MS = 2000,		/* how long we read and forget after a final error, so that it gets through */
	HTTP_DRAIN_IDLE_MS = 2000,	/* draining: how long a connection may stay without a request */
	HTTP_OVERFLOW = 64,		/* connections over the limit that are told so; beyond them, just closed */
};

enum conn_state {
	CONN_IDLE,	/* nothing of a request yet */
	CONN_HEAD,	/* part of a head is in `in` */
	CONN_BODY,	/* `req` has a head; its body is arriving by length */
	CONN_CHUNKED,	/* the same, chunked */
	CONN_CALLED,	/* `req` is with its handler */
	CONN_WRITING,	/* a reply is partly written */
	CONN_STREAM,	/* `stream` is being written, now and then */
	CONN_LINGER,	/* written and shut down; what still comes is dropped */
};

/* Deadlines: one list per kind, each in order of deadline because its timeout is a constant. */
enum conn_timer { TIMER_NONE, TIMER_HEAD, TIMER_BODY, TIMER_IDLE, TIMER_WRITE, TIMER_LINGER, TIMER_KINDS };

enum chunk_state { CHUNK_SIZE, CHUNK_SIZE_LF, CHUNK_EXT, CHUNK_DATA, CHUNK_DATA_CR, CHUNK_DATA_LF, CHUNK_TRAILER, CHUNK_TRAILER_LINE,
		   CHUNK_TRAILER_LF, CHUNK_END_LF };

struct http_conn;
struct conn_list { struct http_conn *first, *last; };

/* What is only needed while a reply waits for its reader. */
struct http_out { char *head; size_t head_len; uint8_t *body; size_t body_len, off; };

struct http_conn {
	struct http_server *server;
	struct event rev, wev;
	struct http_conn *prev, *next;		/* all connections */
	struct http_conn *tprev, *tnext;	/* of its deadline list */
	struct http_conn *rnext;		/* to be resumed */
	struct http_req *req;			/* in hand; NULL */
	struct http_out *out;			/* owned; NULL */
	struct http_stream *stream;		/* owned; NULL */
	char *in;				/* owned; read and not yet parsed; NULL while idle */
	uint32_t in_len, in_cap;
	int64_t deadline_ms, first_ns;
	int fd;
	uint8_t state, timer;
	bool reading, wev_set, eof, busy, dead, ready, keep_alive, overflow;
	uint8_t peer_family;			/* AF_ of peer; the text is made when asked for */
	uint8_t peer[16];
};

struct http_field { struct http_str name, value; };

struct http_req {
	struct http_server *server;
	struct http_conn *conn;		/* NULL: the client has gone, or the reply was sent */
	void (*abort_cb) (struct http_req *r, void *arg);
	void *abort_arg;
	void *user;
	int64_t started_ns, body_started_ms;
	struct http_str path, query;
	uint8_t *body;			/* owned unless inline_body */
	size_t body_len, body_cap;
	int64_t remaining;		/* body bytes to come, or of this chunk */
	size_t charged;			/* counted in server->buffered */
	enum http_method method;
	uint16_t nfields, trailer_bytes;
	uint8_t chunk, peer_text_n;
	bool inline_body, http10, called, chunk_digits;
	char peer_text[46];
	struct http_field fields[];	/* then the head's text, then a small body */
};

struct http_listener { struct http_listener *next; int fd; struct event *ev; };

struct http_server {
	struct loop *loop;
	struct http_opts o;
	struct http_listener *listeners;
	struct conn_list conns, timers[TIMER_KINDS];
	struct http_conn *ready, **ready_tail;
	struct loop_defer *resume;
	struct loop_timer *sweep, *accept_again, *grace;
	size_t nconns, buffered, orphans;
	loop_f *drained;
	void *drained_arg;
	bool draining, closed;
	int64_t date_s;
	char date[40];
	struct http_head head;		/* scratch: valid while one head is turned into a request */
	char scratch[HTTP_SCRATCH];
};

/* http.c */
void conn_open (struct http_server *s, int fd, const void *addr, bool overflow);
void conn_close (struct http_conn *c);
void conn_expire (struct http_conn *c);
void conn_resume (struct http_conn *c);
void conn_reading (struct http_conn *c, bool on);
void conn_settle (struct http_conn *c);
void conn_drop_in (struct http_conn *c);

/* http_write.c */
void conn_drop_out (struct http_conn *c);
void conn_send (struct http_conn *c, int status, const char *type, const char *extra, struct buf *body, bool head_only,
		bool http10);
void conn_written (struct http_conn *c);	/* an answer is out: the next request, or the end */
const char *http_reason (int status);
void conn_reply (struct http_conn *c, struct http_req *r, int status, const char *type, const char *extra, struct buf *body);

/* http_stream.c */
void stream_flush (struct http_conn *c);
void stream_abandon (struct http_conn *c);

/* http_listen.c */
void timer_set (struct http_conn *c, enum conn_timer kind);
void timer_clear (struct http_conn *c);
void server_resume (struct http_conn *c);
void server_unlink (struct http_conn *c);
void server_release (struct http_server *s);	/* an orphan has gone */
const char *server_date (struct http_server *s);

/* http_req.c */
struct http_req *req_create (struct http_conn *c, const struct http_head *h, const char *head, size_t head_len, size_t room);
void req_free (struct http_req *r);
int req_body_room (struct http_req *r, size_t want, bool exact);	/* 0, or the status to answer */

#endif
