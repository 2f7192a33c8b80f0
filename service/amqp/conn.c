/* SPDX-License-Identifier: Apache-2.0 */
/* One connection. What a client can make us hold is bounded: one frame of AMQP_IN_MAX on the way in, AMQP_OUT_HIGH and one step of results
 * on the way out, AMQP_UNACKED_MAX results that it has not acknowledged. */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/metrics.h"
#include "common/xmem.h"
#include "service/amqp/internal.h"
#include "service/registry/registry.h"

#define MOD "amqp"
#define COPY_MAX 4096

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* Brings the sums of server and user up to date with what stands in the output. */
static void account (struct amqp_conn *c)
{
	size_t now = c->bev ? evbuffer_get_length (bufferevent_get_output (c->bev)) : 0;

	c->server->out_bytes += now - c->out_bytes;
	if (c->user)
		c->user->out_bytes += now - c->out_bytes;
	c->out_bytes = now;
}

static void leave_user (struct amqp_conn *c)
{
	struct amqp_user *u = c->user;

	c->user = NULL;
	if (!u || --u->conns)
		return;
	map_del (c->server->users, &u->id);
	free (u);
}

static void drop_channels (struct amqp_conn *c)
{
	for (int i = 0; i < AMQP_CHANNELS_MAX; i++)
		amqp_channel_destroy (&c->channels[i]);
}

void amqp_conn_destroy (struct amqp_conn *c)
{
	struct amqp_server *s = c->server;

	drop_channels (c);
	bufferevent_free (c->bev);
	c->bev = NULL;
	account (c);
	leave_user (c);
	*(c->prev ? &c->prev->next : &s->first) = c->next;
	*(c->next ? &c->next->prev : &s->last) = c->prev;
	amqp_server_left (s);
	c->dead = true;
	if (!c->pending)
		free (c);
}

static void free_bytes (const void *p, size_t n, void *arg)
{
	(void) n;
	(void) arg;
	free ((void *) p);
}

/* What is long goes into the output as it is, without a copy. */
static int put_out (struct evbuffer *out, struct buf *b)
{
	if (b->len < COPY_MAX)
		return evbuffer_add (out, b->data, b->len);
	if (evbuffer_add_reference (out, b->data, b->len, free_bytes, NULL) < 0)
		return -1;
	b->data = NULL;
	b->len = b->cap = 0;
	return 0;
}

void amqp_conn_send (struct amqp_conn *c, struct buf *b)
{
	if (buf_failed (b) || put_out (bufferevent_get_output (c->bev), b) < 0)
		log_error (MOD, "no memory for an answer", "peer=%s", c->peer);
	buf_fini (b);
	c->sent_ms = clock_now_ms ();
	account (c);
}

static void enter (struct amqp_conn *c, enum amqp_state state, int64_t ms)
{
	c->state = state;
	c->deadline_ms = ms ? clock_now_ms () + ms : 0;
}

/* Nothing more is read; it ends when all is written. */
static void finish (struct amqp_conn *c)
{
	enter (c, CONN_FLUSHING, AMQP_CLOSING_MS);
	bufferevent_disable (c->bev, EV_READ);
	bufferevent_setwatermark (c->bev, EV_WRITE, 0, 0);
	if (!c->out_bytes)
		bufferevent_trigger (c->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
}

void amqp_conn_fail (struct amqp_conn *c, enum amqp_code code, uint32_t method, const char *fmt, ...)
{
	char text[250];
	struct buf b;
	va_list ap;

	if (c->state >= CONN_CLOSING)
		return;
	va_start (ap, fmt);
	vsnprintf (text, sizeof (text), fmt, ap);
	va_end (ap);
	log_info (MOD, "connection closed", "peer=%s code=%d why=%s", c->peer, (int) code, text);
	if (code != AMQP_CONNECTION_FORCED)
		metric_add (c->server->m_refused, 1);
	drop_channels (c);
	if (c->state == CONN_PROTOCOL) { /* it does not speak AMQP: what we speak is the answer */
		bufferevent_write (c->bev, AMQP_PROTOCOL, AMQP_PROTOCOL_BYTES);
		account (c);
		finish (c);
		return;
	}
	if (c->refuses_close && c->state == CONN_LOGIN) { /* an old client: the end of the connection is the refusal */
		finish (c);
		return;
	}
	buf_init (&b, 0);
	amqp_put_close (&b, 0, code, text, method);
	amqp_conn_send (c, &b);
	enter (c, CONN_CLOSING, AMQP_CLOSING_MS);
}

/* ---- handshake -------------------------------------------------------------------------------------------------- */

static bool join_user (struct amqp_conn *c, const struct id *id)
{
	struct amqp_server *s = c->server;
	struct amqp_user *u = map_get (s->users, id);
	size_t most = (size_t) s->app->config->amqp_connections / AMQP_PER_USER;

	if (!u) {
		u = xcalloc (1, sizeof (*u));
		u->id = *id;
		map_put (s->users, id, u);
	}
	u->conns++;
	c->user = u;
	u->out_bytes += c->out_bytes;
	return u->conns <= (most ? most : 1);
}

static void on_login (const struct id *user, const uint8_t token[32], const struct err *err, void *arg)
{
	struct amqp_conn *c = arg;
	struct buf b;

	c->pending--;
	if (c->dead) {
		if (!c->pending)
			free (c);
		return;
	}
	if (c->state != CONN_LOGIN)
		return;
	bufferevent_enable (c->bev, EV_READ);
	bufferevent_trigger (c->bev, EV_READ, BEV_TRIG_DEFER_CALLBACKS); /* what came meanwhile */
	if (err)
		amqp_conn_fail (c, AMQP_RESOURCE_ERROR, AMQP_CONNECTION_START_OK, "credentials cannot be checked right now: %s", err->text);
	else if (!user)
		amqp_conn_fail (c, AMQP_ACCESS_REFUSED, AMQP_CONNECTION_START_OK,
			   "unknown or expired credentials; ask for new ones at /v2/get_amqp_result_connection_url");
	else if (!join_user (c, user))
		amqp_conn_fail (c, AMQP_NOT_ALLOWED, AMQP_CONNECTION_START_OK, "a user may have %zu connections here",
			   (size_t) c->server->app->config->amqp_connections / AMQP_PER_USER);
	else {
		memcpy (c->token, token, sizeof (c->token));
		c->token_checked_ms = clock_now_ms ();
		buf_init (&b, 0);
		amqp_put_tune (&b, AMQP_CHANNELS_MAX, AMQP_FRAME_OUT, (uint16_t) (c->server->app->config->amqp_heartbeat_ms / 1000));
		amqp_conn_send (c, &b);
		c->state = CONN_TUNE;
	}
}

static void on_start_ok (struct amqp_conn *c, const struct amqp_method *m)
{
	struct amqp_str user, password;

	c->refuses_close = !m->start_ok.wants_close;
	c->state = CONN_LOGIN;
	if (m->start_ok.mechanism.n != 5 || memcmp (m->start_ok.mechanism.p, "PLAIN", 5) != 0) {
		amqp_conn_fail (c, AMQP_ACCESS_REFUSED, m->id, "the mechanism is PLAIN");
		return;
	}
	if (!amqp_plain (m->start_ok.response, &user, &password)) {
		amqp_conn_fail (c, AMQP_ACCESS_REFUSED, m->id, "user and password are expected, as PLAIN has them");
		return;
	}
	bufferevent_disable (c->bev, EV_READ);
	c->pending++;
	credentials_check (c->server->app, user, password, on_login, c);
}

static void on_tune_ok (struct amqp_conn *c, const struct amqp_method *m)
{
	uint32_t most = (uint32_t) (c->server->app->config->amqp_heartbeat_ms / 1000);

	c->frame_max = m->tune_ok.frame_max && m->tune_ok.frame_max < AMQP_FRAME_OUT ? m->tune_ok.frame_max : AMQP_FRAME_OUT;
	if (c->frame_max < AMQP_FRAME_MIN) {
		amqp_conn_fail (c, AMQP_NOT_ALLOWED, m->id, "a frame_max of %u; the least is %d", m->tune_ok.frame_max, AMQP_FRAME_MIN);
		return;
	}
	/* a client that wants none, or longer pauses, is watched by TCP's keepalive beside our own interval */
	c->heartbeat_s = m->tune_ok.heartbeat_s && m->tune_ok.heartbeat_s < most ? m->tune_ok.heartbeat_s : m->tune_ok.heartbeat_s ? most : 0;
	c->state = CONN_VHOST;
}

static void on_open (struct amqp_conn *c, const struct amqp_method *m)
{
	struct buf b;

	if (m->open.vhost.n > 1 || (m->open.vhost.n && *m->open.vhost.p != '/')) {
		amqp_conn_fail (c, AMQP_NOT_ALLOWED, m->id, "the virtual host is /");
		return;
	}
	enter (c, CONN_OPEN, 0);
	bufferevent_setwatermark (c->bev, EV_WRITE, AMQP_OUT_LOW, 0);
	buf_init (&b, 0);
	amqp_put_open_ok (&b);
	amqp_conn_send (c, &b);
	log_info (MOD, "consumer connected", "peer=%s user=%s", c->peer, id_text (&c->user->id, (char[ID_TEXT]) { 0 }));
}

static void on_close (struct amqp_conn *c)
{
	struct buf b;

	drop_channels (c);
	buf_init (&b, 0);
	amqp_put_plain (&b, 0, AMQP_CONNECTION_CLOSE_OK);
	amqp_conn_send (c, &b);
	finish (c);
}

static void on_method (struct amqp_conn *c, const struct amqp_method *m)
{
	static const struct { uint32_t id; enum amqp_state state; void (*f) (struct amqp_conn *c, const struct amqp_method *m); } steps[] = {
		{ AMQP_CONNECTION_START_OK, CONN_START, on_start_ok },
		{ AMQP_CONNECTION_TUNE_OK, CONN_TUNE, on_tune_ok },
		{ AMQP_CONNECTION_OPEN, CONN_VHOST, on_open },
	};

	if (m->id == AMQP_CONNECTION_CLOSE) {
		on_close (c);
		return;
	}
	if (c->state == CONN_CLOSING) {
		if (m->id == AMQP_CONNECTION_CLOSE_OK)
			finish (c);
		return;
	}
	for (size_t i = 0; i < sizeof (steps) / sizeof (steps[0]); i++)
		if (steps[i].id == m->id && steps[i].state == c->state) {
			steps[i].f (c, m);
			return;
		}
	amqp_conn_fail (c, AMQP_COMMAND_INVALID, m->id, "method %u.%u was not expected now", m->id >> 16, m->id & 0xffff);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static void on_frame (struct amqp_conn *c, const struct amqp_frame *f)
{
	struct amqp_method m;
	struct err err;

	c->heard_ms = clock_now_ms ();
	if (f->type == AMQP_HEARTBEAT) {
		if (f->channel || f->n)
			amqp_conn_fail (c, AMQP_FRAME_ERROR, 0, "a heartbeat with content");
	} else if (f->channel) {
		if (c->state == CONN_OPEN)
			amqp_channel_frame (c, f);
		else if (c->state < CONN_OPEN)
			amqp_conn_fail (c, AMQP_CHANNEL_ERROR, 0, "channel %u was not expected now", f->channel);
	} else if (f->type != AMQP_METHOD)
		amqp_conn_fail (c, AMQP_UNEXPECTED_FRAME, 0, "content on channel 0");
	else if (amqp_method_decode (&m, f->p, f->n, &err) < 0)
		amqp_conn_fail (c, err.code == ERR_NOT_FOUND ? AMQP_NOT_IMPLEMENTED : AMQP_SYNTAX_ERROR, m.id, "%s", err.text);
	else
		on_method (c, &m);
}

/* The first bytes. False: they have not all come, or it is over. */
static bool read_protocol (struct amqp_conn *c, struct evbuffer *in)
{
	struct buf b;
	const uint8_t *p;

	if (evbuffer_get_length (in) < AMQP_PROTOCOL_BYTES)
		return false;
	p = evbuffer_pullup (in, AMQP_PROTOCOL_BYTES);
	if (memcmp (p, AMQP_PROTOCOL, AMQP_PROTOCOL_BYTES) != 0) {
		amqp_conn_fail (c, AMQP_FRAME_ERROR, 0, "the peer does not begin with AMQP 0-9-1");
		return false;
	}
	evbuffer_drain (in, AMQP_PROTOCOL_BYTES);
	c->heard_ms = clock_now_ms ();
	c->state = CONN_START;
	buf_init (&b, 0);
	amqp_put_start (&b, WEFT_VERSION);
	amqp_conn_send (c, &b);
	return true;
}

static void on_readable (struct bufferevent *bev, void *arg)
{
	struct amqp_conn *c = arg;
	struct evbuffer *in = bufferevent_get_input (bev);
	struct amqp_frame f;
	struct err err;
	size_t need;
	long n;

	if (c->state == CONN_PROTOCOL && !read_protocol (c, in))
		return;
	while (c->state != CONN_FLUSHING && c->state != CONN_LOGIN && evbuffer_get_length (in) >= AMQP_FRAME_HEAD) {
		n = amqp_frame_parse (evbuffer_pullup (in, AMQP_FRAME_HEAD), AMQP_FRAME_HEAD, AMQP_IN_MAX, &f, &need, &err);
		if (n == 0 && evbuffer_get_length (in) < need)
			return;
		if (n == 0)
			n = amqp_frame_parse (evbuffer_pullup (in, (ssize_t) need), need, AMQP_IN_MAX, &f, &need, &err);
		if (n < 0) {
			if (c->state == CONN_CLOSING)
				finish (c);
			else
				amqp_conn_fail (c, AMQP_FRAME_ERROR, 0, "%s", err.text);
			evbuffer_drain (in, evbuffer_get_length (in));
			return;
		}
		on_frame (c, &f);
		evbuffer_drain (in, (size_t) n);
	}
}

static void on_writable (struct bufferevent *bev, void *arg)
{
	struct amqp_conn *c = arg;
	struct amqp_server *s = c->server;

	(void) bev;
	account (c);
	if (c->state == CONN_FLUSHING && !c->out_bytes) {
		amqp_conn_destroy (c);
		amqp_server_room (s);
		return;
	}
	amqp_conn_pump (c);
	amqp_server_room (s);
}

static void on_event (struct bufferevent *bev, short what, void *arg)
{
	struct amqp_conn *c = arg;
	unsigned long tls;

	if (what & BEV_EVENT_CONNECTED)
		return;
	if ((tls = bufferevent_get_openssl_error (bev)))
		log_info (MOD, "connection lost", "peer=%s tls=%s", c->peer, ERR_reason_error_string (tls));
	else
		log_debug (MOD, "connection ended", "peer=%s", c->peer);
	amqp_conn_destroy (c);
}

static void on_output (struct evbuffer *b, const struct evbuffer_cb_info *info, void *arg)
{
	struct amqp_conn *c = arg;

	(void) b;
	if (info->n_deleted || !info->orig_size)
		c->progress_ms = clock_now_ms ();
}

/* ---- delivering ------------------------------------------------------------------------------------------------- */

bool amqp_conn_room (struct amqp_conn *c)
{
	struct amqp_server *s = c->server;
	size_t most = (size_t) s->app->config->amqp_buffered_bytes;

	if (s->draining)
		return false;
	if (c->out_bytes >= AMQP_OUT_HIGH)
		return false; /* on_writable goes on */
	/* one's own connections that do not read slow down a good one, but do not stop it before they have half of everything */
	if (s->out_bytes < most && c->user->out_bytes <= most / (c->out_bytes ? AMQP_PER_USER : AMQP_PER_USER / 2))
		return true;
	s->starved = c->waiting = true;
	return false;
}

void amqp_conn_pump (struct amqp_conn *c)
{
	if (c->state != CONN_OPEN)
		return;
	c->waiting = false;
	for (int i = 0; i < AMQP_CHANNELS_MAX; i++)
		for (struct amqp_consumer *u = c->channels[i] ? c->channels[i]->consumers : NULL; u; u = amqp_consumer_next (u))
			amqp_consumer_pump (u);
}

/* ---- the clock -------------------------------------------------------------------------------------------------- */

/* Was the token revoked that the password was given for? Registries that cannot be read revoke nothing. */
static bool token_gone (struct amqp_conn *c, int64_t now_ms)
{
	static const uint8_t none[32];
	int64_t every_ms = c->server->app->config->token_cache_ms;
	struct reg_token t;
	struct err err;

	if (now_ms - c->token_checked_ms < (every_ms > AMQP_TOKEN_CHECK_MS ? every_ms : AMQP_TOKEN_CHECK_MS) || !memcmp (c->token, none, sizeof (none)))
		return false;
	c->token_checked_ms = now_ms;
	return registry_token_find (c->server->app->registry, c->token, &t, &err) < 0 && err.code == ERR_NOT_FOUND;
}

static void beat (struct amqp_conn *c, int64_t now_ms)
{
	struct buf b;

	if (now_ms - c->sent_ms < c->heartbeat_s * 500)
		return;
	buf_init (&b, 0);
	amqp_put_heartbeat (&b);
	amqp_conn_send (c, &b);
}

void amqp_conn_leave (struct amqp_conn *c)
{
	int64_t now = clock_now_ms ();

	if (!c->leave_ms)
		c->leave_ms = now + AMQP_LEAVE_MS;
	if (!c->unacked || now > c->leave_ms)
		amqp_conn_fail (c, AMQP_CONNECTION_FORCED, 0, "this service process ends; connect again");
}

void amqp_conn_tick (struct amqp_conn *c, int64_t now_ms)
{
	const char *why = c->deadline_ms && now_ms > c->deadline_ms				 ? "it took too long"
			  : c->heartbeat_s && now_ms - c->heard_ms > 2000 * (int64_t) c->heartbeat_s ? "no heartbeat"
			  : c->out_bytes && now_ms - c->progress_ms > AMQP_STALL_MS		 ? "it does not read"
												 : NULL;

	if (why) {
		log_info (MOD, "connection dropped", "peer=%s state=%d why=%s", c->peer, (int) c->state, why);
		metric_add (c->server->m_refused, 1);
		amqp_conn_destroy (c);
		return;
	}
	if (c->state != CONN_OPEN)
		return;
	if (token_gone (c, now_ms)) {
		amqp_conn_fail (c, AMQP_ACCESS_REFUSED, 0, "the token that these credentials were given for is valid no more");
		return;
	}
	if (c->server->draining) {
		amqp_conn_leave (c);
		return;
	}
	if (c->heartbeat_s)
		beat (c, now_ms);
	amqp_conn_pump (c);
}

/* ---- making one ------------------------------------------------------------------------------------------------- */

static void keep_alive (int fd)
{
	int on = 1, idle_s = 60, every_s = 20, times = 3;

	setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof (on));
	setsockopt (fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof (on));
	setsockopt (fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof (idle_s));
	setsockopt (fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof (every_s));
	setsockopt (fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof (times));
}

static struct bufferevent *wrap (struct amqp_server *s, int fd)
{
	struct event_base *base = loop_base (s->app->loop);
	const int opts = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
	struct bufferevent *bev;
	SSL *ssl;

	if (!s->tls)
		return bufferevent_socket_new (base, fd, opts);
	if (!(ssl = SSL_new (s->tls)))
		return NULL;
	if (!(bev = bufferevent_openssl_socket_new (base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING, opts))) {
		SSL_free (ssl);
		return NULL;
	}
	bufferevent_openssl_set_allow_dirty_shutdown (bev, 1);
	return bev;
}

void amqp_conn_create (struct amqp_server *s, int fd, const char *peer)
{
	struct amqp_conn *c = xcalloc (1, sizeof (*c));

	keep_alive (fd);
	c->server = s;
	if (!(c->bev = wrap (s, fd))) {
		log_error (MOD, "no memory for a connection", "peer=%s", peer);
		close (fd);
		free (c);
		return;
	}
	snprintf (c->peer, sizeof (c->peer), "%s", peer);
	c->frame_max = AMQP_FRAME_MIN;
	c->heard_ms = c->sent_ms = c->progress_ms = clock_now_ms ();
	enter (c, CONN_PROTOCOL, AMQP_HANDSHAKE_MS);
	c->prev = s->last;
	*(s->last ? &s->last->next : &s->first) = c;
	s->last = c;
	s->nconns++;
	bufferevent_setcb (c->bev, on_readable, on_writable, on_event, c);
	evbuffer_add_cb (bufferevent_get_output (c->bev), on_output, c);
	bufferevent_setwatermark (c->bev, EV_READ, 0, AMQP_IN_MAX + AMQP_FRAME_HEAD + 1);
	bufferevent_enable (c->bev, EV_READ | EV_WRITE);
}
