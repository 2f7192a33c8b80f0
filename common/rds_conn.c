/* SPDX-License-Identifier: Apache-2.0 */
/* The connection.
 *
 *   DOWN -retry-> CONNECTING -connected-> HELLO -PONG, SELECT, all SUBSCRIBEs confirmed-> UP
 *   any of these -error, time limit, end of file-> (CLOSING) -> DOWN
 *
 * hiredis' context frees itself: on each way out it calls every pending callback with a NULL reply and then `cleanup`,
 * the one place where we let go of it. Nothing here touches the context after redisAsyncHandleRead or -Write.
 *
 * Writes: what one burst of callbacks produces leaves in one write, from a deferred call; the write event serves
 * only a full socket. hiredis moves the rest of its output to the front after each write, which is quadratic when much
 * waits; large output is therefore written here, and moved when half of it is gone.
 *
 * Reads: hiredis reads 16 KiB at a time, so a larger backlog is read here and fed to its parser.
 *
 * A host name in the URL is resolved by hiredis with getaddrinfo, which may block: use an address where DNS is slow. */
#include "common/rds_internal.h"
#include "common/clock.h"
#include "common/conf.h"
#include "common/log.h"
#include "common/xmem.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <hiredis/sds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum {
	RETRY_BASE_MS = 50,
	RETRY_CAP_MS = 2000,
	PING_AGAIN_MS = 100,
	READ_SMALL = 16 * 1024, /* what hiredis reads in one go */
	READ_BURST = 512 * 1024,
	WRITE_LARGE = 64 * 1024,
	PASSWORD_MAX = 1024,
};

/* ---- event hooks of hiredis ---- */

static void add_read (void *arg)
{
	event_add (((struct rds *) arg)->rev, NULL);
}

static void del_read (void *arg)
{
	event_del (((struct rds *) arg)->rev);
}

static void add_write (void *arg)
{
	struct rds *r = arg;

	if (r->write_armed)
		return;
	if (r->flushing || r->state == RDS_CONNECTING) {
		r->write_armed = true;
		event_add (r->wev, NULL);
	} else {
		loop_defer_schedule (r->flush);
	}
}

static void del_write (void *arg)
{
	struct rds *r = arg;

	r->write_armed = false;
	event_del (r->wev);
}

static void note_why (struct rds *r, const char *why)
{
	char text[sizeof (r->why)];

	snprintf (text, sizeof (text), "%.199s", why && *why ? why : "connection closed");
	memcpy (r->why, text, sizeof (text));
}

static void retry_later (struct rds *r, bool was_up)
{
	int64_t ms = clock_backoff_ms (r->attempt, RETRY_BASE_MS, RETRY_CAP_MS);

	log_warn ("redis", was_up ? "connection lost" : "cannot connect", "address=%s why=%s todo=%s retry_ms=%lld", r->url.address, r->why, RDS_TODO,
		  (long long) ms);
	if (r->attempt < 30)
		r->attempt++;
	loop_timer_start (r->retry, ms, false);
}

/* The context is about to be freed; callbacks have run. */
static void cleanup (void *arg)
{
	struct rds *r = arg;
	bool was_up = r->was_up;

	if (r->state != RDS_CLOSING) /* else whoever closed it has said why */
		note_why (r, r->ac->err ? r->ac->errstr : NULL);
	r->ac->data = NULL;
	r->ac = NULL;
	event_free (r->rev);
	event_free (r->wev);
	r->rev = r->wev = NULL;
	r->write_armed = false;
	loop_timer_stop (r->hello);
	loop_timer_stop (r->watch);
	r->state = RDS_DOWN;
	if (r->destroyed) {
		rds_free_if_done (r);
		return;
	}
	if (was_up) {
		r->was_up = false;
		r->tell_down = true;
		loop_defer_schedule (r->deliver);
	}
	retry_later (r, was_up);
}

static void on_writable (evutil_socket_t fd, short what, void *arg)
{
	(void) fd;
	(void) what;
	rds_conn_flush (arg);
}

/* Forget what is sent. */
static void settle_output (struct rds *r)
{
	sds out = r->ac->c.obuf;
	size_t rest = sdslen (out) - r->out_sent;

	memmove (out, out + r->out_sent, rest);
	out[rest] = '\0';
	sdssetlen (out, rest);
	r->out_sent = 0;
}

/* Returns true when the socket is full; else the rest, or the error, is hiredis' matter. */
static bool write_large (struct rds *r)
{
	sds out = r->ac->c.obuf;
	size_t len = sdslen (out);
	ssize_t n = 0;

	while (r->out_sent < len && (n = send (r->ac->c.fd, out + r->out_sent, len - r->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
		r->out_sent += (size_t) n;
	if (n > 0) { /* all of it; the memory may be much */
		sdsfree (out);
		r->ac->c.obuf = sdsempty ();
		r->out_sent = 0;
		return false;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		if (r->out_sent > len / 2)
			settle_output (r);
		return true;
	}
	settle_output (r);
	return false;
}

void rds_conn_flush (void *arg)
{
	struct rds *r = arg;
	redisAsyncContext *ac = r->ac;

	if (!ac)
		return;
	r->flushing = true;
	if ((ac->c.flags & REDIS_CONNECTED) && (r->out_sent || sdslen (ac->c.obuf) > WRITE_LARGE) && write_large (r))
		add_write (r);
	else
		redisAsyncHandleWrite (ac);
	/* A lost connection has been cleaned up; r itself stays: rds_destroy cannot run inside a write. */
	r->flushing = false;
}

static void on_readable (evutil_socket_t fd, short what, void *arg)
{
	struct rds *r = arg;
	int n = 0;

	(void) what;
	if (r->state != RDS_CONNECTING && ioctl (fd, FIONREAD, &n) == 0 && n > READ_SMALL) {
		static char *burst; /* shared by all connections of the process: used within this call only */
		ssize_t got;
		if (!burst)
			burst = xcalloc (1, READ_BURST);
		got = recv (fd, burst, READ_BURST, MSG_DONTWAIT);
		if (got > 0 && redisReaderFeed (r->ac->c.reader, burst, (size_t) got) != REDIS_OK) {
			rds_conn_drop (r, "no memory for a reply");
			return;
		}
	}
	redisAsyncHandleRead (r->ac); /* r may be gone */
}

/* ---- opening ---- */

static void on_connect (const redisAsyncContext *ac, int status);

/* A failure before there is a context. */
static void failed_early (struct rds *r, const char *why)
{
	note_why (r, why);
	r->state = RDS_DOWN;
	retry_later (r, false);
}

static int read_password (struct rds *r)
{
	char *secret;
	struct err err;

	if (!r->password_file)
		return 0;
	if (!(secret = conf_read_secret (r->password_file, PASSWORD_MAX, &err))) {
		failed_early (r, err.text);
		return -1;
	}
	free (r->url.password);
	r->url.password = secret;
	return 0;
}

void rds_conn_open (void *arg)
{
	struct rds *r = arg;
	redisAsyncContext *ac;

	if (read_password (r) < 0)
		return;
	r->nloaded = 0;
	r->out_sent = 0;
	ac = r->url.path ? redisAsyncConnectUnix (r->url.path) : redisAsyncConnect (r->url.host, r->url.port);
	if (!ac || ac->err) {
		failed_early (r, ac ? ac->errstr : "out of memory");
		if (ac)
			redisAsyncFree (ac);
		return;
	}
	fcntl (ac->c.fd, F_SETFD, FD_CLOEXEC);
	r->rev = event_new (loop_base (r->loop), ac->c.fd, EV_READ | EV_PERSIST, on_readable, r);
	r->wev = event_new (loop_base (r->loop), ac->c.fd, EV_WRITE | EV_PERSIST, on_writable, r);
	if (!r->rev || !r->wev)
		abort ();
	r->ac = ac;
	r->state = RDS_CONNECTING;
	ac->data = r;
	ac->ev.data = r;
	ac->ev.addRead = add_read;
	ac->ev.delRead = del_read;
	ac->ev.addWrite = add_write;
	ac->ev.delWrite = del_write;
	ac->ev.cleanup = cleanup;
	redisAsyncSetConnectCallback (ac, on_connect); /* asks for the write event */
	loop_timer_start (r->hello, r->timeout_ms, false);
}

void rds_conn_drop (struct rds *r, const char *why)
{
	if (!r->ac || r->state == RDS_CLOSING)
		return;
	note_why (r, why);
	r->state = RDS_CLOSING;
	redisAsyncFree (r->ac);
}

/* ---- hello ---- */

static void ping (struct rds *r);

static void drop_on_error (struct rds *r, const char *what, const redisReply *reply)
{
	char why[160];

	snprintf (why, sizeof (why), "%s: %s", what, reply->type == REDIS_REPLY_ERROR ? reply->str : "unexpected reply");
	rds_conn_drop (r, why);
}

static bool is_status (const redisReply *reply, const char *text)
{
	return reply->type == REDIS_REPLY_STATUS && strcmp (reply->str, text) == 0;
}

static void now_up (struct rds *r)
{
	struct rds_sub *s;

	r->state = RDS_UP;
	r->was_up = true;
	r->attempt = 0;
	SLIST_FOREACH (s, &r->subs, link) /* wanted while the others were being confirmed */
		if (s->wanted && !s->held)
			rds_conn_subscribe (r, s);
	log_info ("redis", "connected", "address=%s db=%d", r->url.address, r->url.db);
	if (r->on_state)
		r->on_state (r, true, "", r->arg);
}

static void subscribe_all (struct rds *r)
{
	struct rds_sub *s;

	if (SLIST_EMPTY (&r->subs)) {
		now_up (r);
		return;
	}
	SLIST_FOREACH (s, &r->subs, link)
		s->confirmed = false;
	r->sub_seen_ms = clock_now_ms ();
	SLIST_FOREACH (s, &r->subs, link)
		rds_conn_subscribe (r, s);
}

static void select_done (struct rds *r, redisReply *reply, const struct err *err, void *arg)
{
	(void) err;
	(void) arg;
	if (is_status (reply, "OK"))
		subscribe_all (r);
	else
		drop_on_error (r, "SELECT", reply);
}

static void ping_done (struct rds *r, redisReply *reply, const struct err *err, void *arg)
{
	struct err e;

	(void) err;
	(void) arg;
	if (is_status (reply, "PONG")) {
		char db[16];
		const char *argv[] = { "SELECT", db };
		snprintf (db, sizeof (db), "%d", r->url.db);
		if (r->url.db)
			rds_internal_command (r, select_done, 2, argv);
		else
			subscribe_all (r);
	} else if (rds_reply_error (reply, &e) < 0 && e.code == ERR_UNAVAILABLE) {
		note_why (r, e.text);
		log_info ("redis", "waiting until redis is ready", "address=%s err=%s", r->url.address, e.text);
		loop_timer_start (r->hello, PING_AGAIN_MS, false);
	} else {
		drop_on_error (r, "PING", reply);
	}
}

static void auth_done (struct rds *r, redisReply *reply, const struct err *err, void *arg)
{
	(void) err;
	(void) arg;
	if (is_status (reply, "OK"))
		ping (r);
	else
		drop_on_error (r, "AUTH", reply);
}

static void ping (struct rds *r)
{
	const char *argv[] = { "PING" };

	rds_internal_command (r, ping_done, 1, argv);
}

static void on_connect (const redisAsyncContext *ac, int status)
{
	struct rds *r = ac->data;
	const char *argv[3] = { "AUTH" };
	int argc = 1;

	if (status != REDIS_OK)
		return; /* cleanup follows */
	loop_timer_stop (r->hello);
	r->state = RDS_HELLO;
	if (r->url.host)
		redisEnableKeepAlive ((redisContext *) &ac->c);
	if (!r->url.password) {
		ping (r);
		return;
	}
	if (r->url.user)
		argv[argc++] = r->url.user;
	argv[argc++] = r->url.password;
	rds_internal_command (r, auth_done, argc, argv);
}

void rds_conn_hello_tick (void *arg)
{
	struct rds *r = arg;

	if (r->state == RDS_CONNECTING)
		rds_conn_drop (r, "connecting took too long");
	else if (r->state == RDS_HELLO)
		ping (r);
}

/* ---- subscriptions ---- */

static bool all_confirmed (struct rds *r)
{
	struct rds_sub *s;

	SLIST_FOREACH (s, &r->subs, link)
		if (s->held && !s->confirmed && s->wanted) /* those that come meanwhile are asked for in now_up */
			return false;
	return true;
}

/* hiredis has let go of it: with the connection, or after UNSUBSCRIBE. */
static void let_go (struct rds_sub *s, bool lost)
{
	s->held = s->leaving = s->confirmed = false;
	if (!s->wanted)
		rds_sub_free (s);
	else if (!lost)
		rds_conn_subscribe (s->r, s); /* it was wanted again meanwhile */
}

static void on_confirmed (struct rds *r, struct rds_sub *s)
{
	s->confirmed = true;
	if (s->leaving || !s->wanted)
		return;
	if (r->state == RDS_HELLO && all_confirmed (r))
		now_up (r);
	if (s->standing && !r->destroyed)
		s->standing (s->arg);
}

static void on_sub (redisAsyncContext *ac, void *r_reply, void *privdata)
{
	redisReply *reply = r_reply;
	struct rds_sub *s = privdata;
	struct rds *r = s->r;

	(void) ac;
	if (r->destroyed)
		return;
	if (!reply) {
		let_go (s, true);
		return;
	}
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3)
		return;
	r->sub_seen_ms = clock_now_ms ();
	if (strcmp (reply->element[0]->str, "message") == 0) {
		if (reply->element[2]->type == REDIS_REPLY_STRING && s->wanted && !s->leaving)
			s->cb (r, s->channel, reply->element[2]->str, reply->element[2]->len, s->arg);
	} else if (strcmp (reply->element[0]->str, "subscribe") == 0) {
		if (!s->confirmed)
			on_confirmed (r, s);
	} else if (strcmp (reply->element[0]->str, "unsubscribe") == 0) {
		let_go (s, false);
		if (r->state == RDS_HELLO && all_confirmed (r))
			now_up (r);
	}
}

void rds_conn_subscribe (struct rds *r, struct rds_sub *s)
{
	const char *argv[] = { "SUBSCRIBE", s->channel };

	s->held = true;
	redisAsyncCommandArgv (r->ac, on_sub, s, 2, argv, NULL);
	rds_watch_arm (r);
}

void rds_conn_unsubscribe (struct rds *r, struct rds_sub *s)
{
	const char *argv[] = { "UNSUBSCRIBE", s->channel };

	s->leaving = true;
	redisAsyncCommandArgv (r->ac, NULL, NULL, 2, argv, NULL);
}
