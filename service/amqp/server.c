/* SPDX-License-Identifier: Apache-2.0 */
#include "service/amqp/server.h"
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/metrics.h"
#include "common/xmem.h"
#include "service/amqp/internal.h"

#define MOD "amqp"
#define TICK_MS 500
#define BACKLOG 1024
#define ACCEPT_BURST 32

bool amqp_served (const struct amqp_server *s)
{
	return s->port && s->app->config->amqp_listen;
}

void amqp_queue_prefix (const struct id *user, char out[AMQP_PREFIX_MAX])
{
	id_text (user, out);
	strcpy (out + ID_TEXT - 1, ".");
}

/* ---- where ------------------------------------------------------------------------------------------------------ */

static bool wildcard (const char *host, size_t n)
{
	return !n || (n == 7 && !memcmp (host, "0.0.0.0", n)) || (n == 4 && !memcmp (host, "[::]", n));
}

/* "[v6]:port" or "host:port" or "host" -> length of the host */
static size_t host_length (const char *s, size_t n)
{
	const char *close = n && *s == '[' ? memchr (s, ']', n) : NULL, *colon = close ? NULL : memchr (s, ':', n);

	return close ? (size_t) (close - s) + 1 : colon ? (size_t) (colon - s) : n;
}

void amqp_address (const struct amqp_server *s, const char *host, size_t n, struct buf *b)
{
	const struct config *c = s->app->config;
	size_t own = host_length (c->amqp_listen, strlen (c->amqp_listen));

	if (c->amqp_public_url) {
		buf_str (b, c->amqp_public_url);
		return;
	}
	buf_str (b, s->tls ? "amqps://" : "amqp://");
	if (wildcard (c->amqp_listen, own) && n)
		buf_add (b, host, host_length (host, n));
	else
		buf_add (b, c->amqp_listen, own);
	buf_printf (b, ":%d", s->port);
}

/* ---- accepting -------------------------------------------------------------------------------------------------- */

static void peer_text (const struct sockaddr_storage *ss, char *out, size_t n)
{
	char host[INET6_ADDRSTRLEN] = "";

	if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *a = (const struct sockaddr_in6 *) ss;
		inet_ntop (AF_INET6, &a->sin6_addr, host, sizeof (host));
		snprintf (out, n, "[%s]:%d", host, ntohs (a->sin6_port));
	} else {
		const struct sockaddr_in *a = (const struct sockaddr_in *) ss;
		inet_ntop (AF_INET, &a->sin_addr, host, sizeof (host));
		snprintf (out, n, "%s:%d", host, ntohs (a->sin_port));
	}
}

/* When all places are taken, the oldest connection that has not logged in makes room: whoever has no password cannot keep others out. */
static bool make_room (struct amqp_server *s)
{
	if (s->nconns < (size_t) s->app->config->amqp_connections)
		return true;
	for (struct amqp_conn *c = s->first; c; c = c->next)
		if (!c->user) {
			log_info (MOD, "connection dropped", "peer=%s why=%s", c->peer, "its place is needed, and it has not logged in");
			metric_add (s->m_refused, 1);
			amqp_conn_destroy (c);
			return true;
		}
	log_warn (MOD, "connection refused: there are as many as may be", "connections=%zu", s->nconns);
	metric_add (s->m_refused, 1);
	return false;
}

static void on_accept (evutil_socket_t lfd, short what, void *arg)
{
	struct amqp_server *s = arg;
	struct sockaddr_storage ss;
	char peer[64];

	(void) what;
	for (int i = 0; i < ACCEPT_BURST; i++) {
		socklen_t len = sizeof (ss);
		int fd = accept4 (lfd, (struct sockaddr *) &ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno != EAGAIN) { /* no descriptors: the clock listens again */
				log_warn (MOD, "accepting paused", "errno=%d connections=%zu", errno, s->nconns);
				for (int k = 0; k < s->nlisteners; k++)
					event_del (s->listeners[k]);
				s->paused = true;
			}
			return;
		}
		if (!make_room (s)) {
			close (fd);
			continue;
		}
		peer_text (&ss, peer, sizeof (peer));
		amqp_conn_create (s, fd, peer);
	}
}

int amqp_listen_fd (struct amqp_server *s, int fd, struct err *err)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof (ss);
	struct event *ev = NULL;

	if (s->nlisteners == AMQP_LISTENERS_MAX || fcntl (fd, F_SETFL, fcntl (fd, F_GETFL) | O_NONBLOCK) < 0 || listen (fd, BACKLOG) < 0 ||
	    getsockname (fd, (struct sockaddr *) &ss, &len) < 0 ||
	    !(ev = event_new (loop_base (s->app->loop), fd, EV_READ | EV_PERSIST, on_accept, s)) || event_add (ev, NULL) < 0) {
		err_errno (err, "listening for AMQP");
		if (ev)
			event_free (ev);
		close (fd);
		return -1;
	}
	s->listeners[s->nlisteners++] = ev;
	s->port = ntohs (ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &ss)->sin6_port : ((struct sockaddr_in *) &ss)->sin_port);
	return s->port;
}

static void close_listeners (struct amqp_server *s)
{
	while (s->nlisteners) {
		struct event *ev = s->listeners[--s->nlisteners];
		int fd = event_get_fd (ev);
		event_free (ev);
		close (fd);
	}
}

/* ---- all connections -------------------------------------------------------------------------------------------- */

static void on_drained (void *arg)
{
	struct amqp_server *s = arg;
	loop_f *done = s->drained;

	s->drained = NULL;
	if (done)
		done (s->drained_arg);
}

void amqp_server_left (struct amqp_server *s)
{
	s->nconns--;
	if (s->draining && !s->nconns)
		loop_timer_start (s->drained_timer, 0, false);
}

/* Memory became free: whoever waits for it goes on, when it is a good part. */
void amqp_server_room (struct amqp_server *s)
{
	size_t most = (size_t) s->app->config->amqp_buffered_bytes;

	if (!s->starved || s->out_bytes > most - most / 8)
		return;
	s->starved = false;
	for (struct amqp_conn *c = s->first; c; c = c->next)
		if (c->waiting)
			amqp_conn_pump (c);
}

static void on_tick (void *arg)
{
	struct amqp_server *s = arg;
	int64_t now = clock_now_ms ();
	struct amqp_conn *c, *next;

	for (c = s->first; c; c = next) {
		next = c->next;
		amqp_conn_tick (c, now);
	}
	amqp_server_room (s);
	if (s->paused) {
		s->paused = false;
		for (int i = 0; i < s->nlisteners; i++)
			event_add (s->listeners[i], NULL);
	}
	metric_set (s->m_conns, (double) s->nconns);
	metric_set (s->m_out, (double) s->out_bytes);
}

void amqp_drain (struct amqp_server *s, loop_f *done, void *arg)
{
	struct amqp_conn *c, *next;

	for (int i = 0; i < s->nlisteners; i++) /* behind us there may be nobody: they are told so */
		on_accept (event_get_fd (s->listeners[i]), EV_READ, s);
	close_listeners (s);
	s->draining = true;
	s->drained = done;
	s->drained_arg = arg;
	for (c = s->first; c; c = next) {
		next = c->next;
		if (c->state < CONN_START)
			amqp_conn_destroy (c);
		else
			amqp_conn_leave (c);
	}
	if (!s->nconns)
		loop_timer_start (s->drained_timer, 0, false);
}

/* ---- TLS -------------------------------------------------------------------------------------------------------- */

static int tls_error (struct err *err, const char *what, const char *path)
{
	unsigned long e = ERR_get_error ();
	const char *why = e ? ERR_reason_error_string (e) : NULL;

	return err_set (err, ERR_INVALID, FAULT_USER, "%s: '%s': %s", what, path, why ? why : "it cannot be used");
}

static int open_tls (struct amqp_server *s, struct err *err)
{
	const struct config *c = s->app->config;

	if (!c->amqp_listen || !c->amqp_tls_certificate)
		return 0;
	ERR_clear_error ();
	if (!(s->tls = SSL_CTX_new (TLS_server_method ())))
		return err_set (err, ERR_INTERNAL, FAULT_SELF, "no TLS");
	SSL_CTX_set_min_proto_version (s->tls, TLS1_2_VERSION);
	SSL_CTX_set_options (s->tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode (s->tls, SSL_MODE_RELEASE_BUFFERS);
	if (SSL_CTX_use_certificate_chain_file (s->tls, c->amqp_tls_certificate) != 1)
		return tls_error (err, "amqp.tls_certificate", c->amqp_tls_certificate);
	if (SSL_CTX_use_PrivateKey_file (s->tls, c->amqp_tls_key, SSL_FILETYPE_PEM) != 1)
		return tls_error (err, "amqp.tls_key", c->amqp_tls_key);
	if (SSL_CTX_check_private_key (s->tls) != 1)
		return tls_error (err, "amqp.tls_key: it is not the certificate's", c->amqp_tls_key);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

struct amqp_server *amqp_create (struct app *a, struct err *err)
{
	struct amqp_server *s = xcalloc (1, sizeof (*s));

	s->app = a;
	s->users = map_create ();
	s->tick = loop_timer_create (a->loop, on_tick, s);
	s->drained_timer = loop_timer_create (a->loop, on_drained, s);
	s->m_conns = metrics_gauge ("weft_service_amqp_connections", NULL, "Open AMQP connections");
	s->m_out = metrics_gauge ("weft_service_amqp_buffered_bytes", NULL, "Results that wait for their AMQP clients to read them");
	s->m_delivered = metrics_counter ("weft_service_amqp_delivered_total", NULL, "Results handed to AMQP clients, repeated ones counted");
	s->m_acked = metrics_counter ("weft_service_amqp_acknowledged_total", NULL, "Results that AMQP clients acknowledged");
	s->m_refused = metrics_counter ("weft_service_amqp_refused_total", NULL, "AMQP connections refused, or ended for what they did or did not do");
	if (open_tls (s, err) < 0) {
		amqp_destroy (&s);
		return NULL;
	}
	loop_timer_start (s->tick, TICK_MS, true);
	return s;
}

void amqp_destroy (struct amqp_server **sp)
{
	struct amqp_server *s = *sp;

	if (!s)
		return;
	s->drained = NULL;
	close_listeners (s);
	while (s->first)
		amqp_conn_destroy (s->first);
	loop_timer_destroy (&s->tick);
	loop_timer_destroy (&s->drained_timer);
	map_destroy (&s->users);
	SSL_CTX_free (s->tls);
	free (s);
	*sp = NULL;
}
