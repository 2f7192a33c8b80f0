/* SPDX-License-Identifier: Apache-2.0 */
/* The server: listening, accepting, deadlines, draining. */
#include "common/http_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/xmem.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ACCEPT_BURST = 64, ACCEPT_PAUSE_MS = 100, BACKLOG = 4096 };

/* ---- deadlines ---------------------------------------------------------------------------------------------- */

static int64_t timer_ms (const struct http_opts *o, enum conn_timer kind)
{
	switch (kind) {
	case TIMER_HEAD: return o->head_timeout_ms;
	case TIMER_BODY: return o->body_timeout_ms;
	case TIMER_IDLE: return o->idle_timeout_ms;
	case TIMER_WRITE: return o->write_timeout_ms;
	default: return HTTP_LINGER_MS;
	}
}

void timer_clear (struct http_conn *c)
{
	struct conn_list *l = &c->server->timers[c->timer];

	if (c->timer == TIMER_NONE)
		return;
	*(c->tprev ? &c->tprev->tnext : &l->first) = c->tnext;
	*(c->tnext ? &c->tnext->tprev : &l->last) = c->tprev;
	c->tprev = c->tnext = NULL;
	c->timer = TIMER_NONE;
}

void timer_set (struct http_conn *c, enum conn_timer kind)
{
	struct conn_list *l = &c->server->timers[kind];

	timer_clear (c);
	c->deadline_ms = clock_now_ms () + timer_ms (&c->server->o, kind);
	c->timer = (uint8_t) kind;
	c->tprev = l->last;
	*(l->last ? &l->last->tnext : &l->first) = c;
	l->last = c;
}

static void on_sweep (void *arg)
{
	struct http_server *s = arg;
	int64_t now = clock_now_ms ();

	for (int k = TIMER_HEAD; k < TIMER_KINDS; k++) {
		struct http_conn *c;
		while ((c = s->timers[k].first) && c->deadline_ms <= now)
			conn_expire (c);	/* leaves the list */
	}
}

const char *server_date (struct http_server *s)
{
	int64_t now = clock_real_ns () / 1000000000;
	time_t t = (time_t) now;
	struct tm tm;

	if (now != s->date_s) {
		s->date_s = now;
		gmtime_r (&t, &tm);
		strftime (s->date, sizeof (s->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	}
	return s->date;
}

/* ---- connections to be resumed from the loop ---------------------------------------------------------------- */

void server_resume (struct http_conn *c)
{
	struct http_server *s = c->server;

	if (c->ready)
		return;
	c->ready = true;
	c->rnext = NULL;
	*s->ready_tail = c;
	s->ready_tail = &c->rnext;
	loop_defer_schedule (s->resume);
}

static void on_resume (void *arg)
{
	struct http_server *s = arg;
	struct http_conn *last = NULL, *c;

	/* those that become ready meanwhile wait for the next round */
	for (c = s->ready; c; c = c->rnext)
		last = c;
	while ((c = s->ready)) {
		bool end = c == last;
		if (!(s->ready = c->rnext))
			s->ready_tail = &s->ready;
		c->ready = false;
		conn_resume (c);
		if (end)
			break;
	}
	if (s->ready)
		loop_defer_schedule (s->resume);
}

static void unready (struct http_conn *c)
{
	struct http_server *s = c->server;
	struct http_conn **at = &s->ready;

	if (!c->ready)
		return;
	while (*at != c)
		at = &(*at)->rnext;
	if (!(*at = c->rnext))
		s->ready_tail = at;
	c->ready = false;
}

void server_unlink (struct http_conn *c)
{
	struct http_server *s = c->server;

	unready (c);
	*(c->prev ? &c->prev->next : &s->conns.first) = c->next;
	*(c->next ? &c->next->prev : &s->conns.last) = c->prev;
	s->nconns--;
	if (s->draining && !s->nconns && s->drained)
		loop_timer_start (s->grace, 0, false);
}

/* ---- accepting ---------------------------------------------------------------------------------------------- */

static void on_accept_again (void *arg)
{
	struct http_server *s = arg;

	for (struct http_listener *l = s->listeners; l; l = l->next)
		event_add (l->ev, NULL);
}

/* Out of descriptors or memory: the backlog keeps them while we wait for some to come free. */
static void pause_accepting (struct http_server *s)
{
	log_warn ("http", "accepting paused", "errno=%d connections=%zu", errno, s->nconns);
	for (struct http_listener *l = s->listeners; l; l = l->next)
		event_del (l->ev);
	loop_timer_start (s->accept_again, ACCEPT_PAUSE_MS, false);
}

static void on_accept (evutil_socket_t lfd, short what, void *arg)
{
	struct http_server *s = arg;
	struct sockaddr_storage ss;

	(void) what;
	for (int i = 0; i < ACCEPT_BURST; i++) {
		socklen_t len = sizeof (ss);
		int fd = accept4 (lfd, (struct sockaddr *) &ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				pause_accepting (s);
			else if (errno == ECONNABORTED || errno == EINTR)
				continue;
			return;
		}
		if (s->nconns < s->o.max_connections)
			conn_open (s, fd, &ss, false);
		else if (s->nconns < s->o.max_connections + HTTP_OVERFLOW)
			conn_open (s, fd, &ss, true);
		else
			close (fd);
	}
}

/* "host:port", "[v6]:port", ":port" or "*:port" for all addresses. */
static struct addrinfo *resolve (const char *address, struct err *err)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *ai = NULL;
	const char *colon = strrchr (address, ':');
	char host[256];
	size_t n = colon ? (size_t) (colon - address) : 0;
	int rc;

	if (!colon || n >= sizeof (host) || !colon[1] || strspn (colon + 1, "0123456789") != strlen (colon + 1) ||
	    strlen (colon + 1) > 5 || atoi (colon + 1) > 65535) {
		err_set (err, ERR_INVALID, FAULT_USER, "address %s: expected host:port", address);
		return NULL;
	}
	if (n > 1 && *address == '[' && colon[-1] == ']')
		snprintf (host, sizeof (host), "%.*s", (int) n - 2, address + 1);
	else
		snprintf (host, sizeof (host), "%.*s", (int) n, address);
	if ((rc = getaddrinfo (!n || strcmp (host, "*") == 0 ? NULL : host, colon + 1, &hints, &ai))) {
		err_set (err, ERR_INVALID, FAULT_USER, "address %s: %s", address, gai_strerror (rc));
		return NULL;
	}
	return ai;
}

static int open_listener (const struct addrinfo *ai)
{
	int one = 1, fd = socket (ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), saved;

	if (fd < 0)
		return -1;
	if (setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof (one)) == 0 && bind (fd, ai->ai_addr, ai->ai_addrlen) == 0)
		return fd;
	saved = errno;
	close (fd);
	errno = saved;
	return -1;
}

static int bound_port (int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof (ss);

	if (getsockname (fd, (struct sockaddr *) &ss, &len) < 0)
		return -1;
	return ntohs (ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &ss)->sin6_port : ((struct sockaddr_in *) &ss)->sin_port);
}

int http_listen_fd (struct http_server *s, int fd, struct err *err)
{
	struct http_listener *l;
	int one = 1;

	/* TCP_NODELAY is inherited by what is accepted: one system call less for each */
	if (fcntl (fd, F_SETFL, fcntl (fd, F_GETFL) | O_NONBLOCK) < 0 || setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof (one)) < 0 ||
	    listen (fd, BACKLOG) < 0) {
		err_errno (err, "listening");
		close (fd);
		return -1;
	}
	l = xcalloc (1, sizeof (*l));
	l->fd = fd;
	l->ev = event_new (loop_base (s->loop), fd, EV_READ | EV_PERSIST, on_accept, s);
	if (!l->ev || event_add (l->ev, NULL) < 0) {
		if (l->ev)
			event_free (l->ev);
		close (fd);
		free (l);
		return err_set (err, ERR_INTERNAL, FAULT_SELF, "listening: no event");
	}
	l->next = s->listeners;
	s->listeners = l;
	return bound_port (fd);
}

int http_listen (struct http_server *s, const char *address, struct err *err)
{
	struct addrinfo *list = resolve (address, err);
	int fd = -1, port;

	if (!list)
		return -1;
	for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
		fd = open_listener (ai);
	freeaddrinfo (list);
	if (fd < 0)
		return err_errno (err, "listening on %s", address);
	if ((port = http_listen_fd (s, fd, err)) < 0)
		err_prefix (err, "%s", address);
	return port;
}

static void close_listeners (struct http_server *s)
{
	struct http_listener *l;

	loop_timer_stop (s->accept_again);
	while ((l = s->listeners)) {
		s->listeners = l->next;
		event_free (l->ev);
		close (l->fd);
		free (l);
	}
}

/* ---- life --------------------------------------------------------------------------------------------------- */

/* Once a second does; finer only where a timeout is shorter than that. */
static int64_t sweep_ms (const struct http_opts *o)
{
	int64_t ms = 1000;

	for (int k = TIMER_HEAD; k < TIMER_KINDS; k++)
		if (timer_ms (o, k) / 4 < ms)
			ms = timer_ms (o, k) / 4;
	return ms < 20 ? 20 : ms;
}

static void on_drained (void *arg)
{
	struct http_server *s = arg;
	loop_f *done = s->drained;

	s->drained = NULL;
	if (done)
		done (s->drained_arg);	/* may destroy the server */
}

/* What is queued is taken while we can: behind us there may be nobody. */
static void accept_last (struct http_server *s)
{
	for (struct http_listener *l = s->listeners; l; l = l->next)
		on_accept (l->fd, EV_READ, s);
	close_listeners (s);
}

void http_drain (struct http_server *s, int64_t grace_ms, loop_f *done, void *arg)
{
	accept_last (s);
	s->draining = true;
	if (s->o.idle_timeout_ms > HTTP_DRAIN_IDLE_MS)
		s->o.idle_timeout_ms = HTTP_DRAIN_IDLE_MS;
	loop_timer_start (s->sweep, sweep_ms (&s->o), true);
	s->drained = done;
	s->drained_arg = arg;
	loop_timer_start (s->grace, grace_ms > 0 ? grace_ms : 0, false);
	for (struct http_conn *c = s->conns.first; c; c = c->next)
		if (c->state == CONN_IDLE && c->timer == TIMER_IDLE)
			timer_set (c, TIMER_IDLE);	/* the new, shorter one */
	if (!s->nconns)
		loop_timer_start (s->grace, 0, false);
}

static void set_defaults (struct http_opts *o)
{
	struct { int64_t *field, def; } ms[] = {
		{ &o->head_timeout_ms, 10000 }, { &o->body_timeout_ms, 20000 }, { &o->idle_timeout_ms, 75000 },
		{ &o->write_timeout_ms, 30000 }, { &o->body_min_bytes_per_s, 1024 },
	};

	for (size_t i = 0; i < sizeof (ms) / sizeof (ms[0]); i++)
		if (*ms[i].field <= 0)
			*ms[i].field = ms[i].def;
	o->max_body_bytes = o->max_body_bytes ? o->max_body_bytes : (size_t) 16 << 20;
	o->max_connections = o->max_connections ? o->max_connections : 12000;
	o->max_buffered_bytes = o->max_buffered_bytes ? o->max_buffered_bytes : (size_t) 512 << 20;
}

struct http_server *http_create (struct loop *l, const struct http_opts *o, struct err *err)
{
	struct http_server *s = xcalloc (1, sizeof (*s));

	s->loop = l;
	s->o = *o;
	set_defaults (&s->o);
	s->ready_tail = &s->ready;
	s->resume = loop_defer_create (l, on_resume, s);
	s->sweep = loop_timer_create (l, on_sweep, s);
	s->accept_again = loop_timer_create (l, on_accept_again, s);
	s->grace = loop_timer_create (l, on_drained, s);
	if (!s->resume || !s->sweep || !s->accept_again || !s->grace) {
		err_set (err, ERR_INTERNAL, FAULT_SELF, "making the HTTP server: no events");
		http_destroy (&s);
		return NULL;
	}
	loop_timer_start (s->sweep, sweep_ms (&s->o), true);
	return s;
}

/* A closed server waits for the answers to clients that have gone. */
void server_release (struct http_server *s)
{
	if (s->closed && !s->orphans)
		free (s);
}

void http_destroy (struct http_server **sp)
{
	struct http_server *s = *sp;
	int saved = errno;

	if (!s)
		return;
	*sp = NULL;
	s->drained = NULL;
	if (s->accept_again)
		close_listeners (s);
	while (s->conns.first)
		conn_close (s->conns.first);
	loop_defer_destroy (&s->resume);
	loop_timer_destroy (&s->sweep);
	loop_timer_destroy (&s->accept_again);
	loop_timer_destroy (&s->grace);
	s->closed = true;
	server_release (s);
	errno = saved;
}

size_t http_connections (const struct http_server *s)
{
	return s->nconns;
}
