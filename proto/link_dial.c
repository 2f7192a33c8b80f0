/* SPDX-License-Identifier: Apache-2.0 */
/* The dialler's side of a connection: one socket of the carrier per attempt.
 *
 *   IDLE        pause over: new socket, HELLO            CONNECTING
 *   CONNECTING  WELCOME: on_up                           UP
 *   CONNECTING  REJECT, failed handshake, too long       IDLE, on_reject
 *   CONNECTING  nobody there                             IDLE
 *   UP          BYE, silence, connection lost: on_down   IDLE */
#include "proto/link_internal.h"
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"

enum { PAUSE_BASE_MS = 200, PAUSE_CAP_MS = 10000, BAD_HANDSHAKES = 2, ANSWER_MIN_MS = 5000, HEARTBEAT_MIN_MS = 25 };

/* ---- what the carrier tells ----------------------------------------------------------------------------------- */

static void dial_close (struct link *k, int64_t linger_ms)
{
	if (k->carriers[0])
		k->carriers[0]->close (k, linger_ms);
	k->dial.connected = k->dial.secured = false;
}

static void handshake_failed (struct link *k)
{
	char text[LINK_WHY_MAX];
	snprintf (text, sizeof (text), "no secure handshake with %s: %s", k->dial.via,
		  k->curve && k->carriers[0] == &link_over_zmq ? "wrong server key or not a Weft peer" : "not a Weft peer");
	/* A single one may be a listener that is just going down. */
	link_dial_failed (k, ERR_UNAVAILABLE, text, ++k->dial.bad_handshakes >= BAD_HANDSHAKES);
}

void link_dial_connected (struct link *k)
{
	k->dial.connected = true;
}

void link_dial_secured (struct link *k)
{
	k->dial.secured = true;
	k->dial.bad_handshakes = 0;
}

void link_dial_refused (struct link *k)
{
	char text[LINK_WHY_MAX];
	snprintf (text, sizeof (text), "%s refused our key: it does not know it", k->name);
	k->stats.rejected++;
	link_dial_failed (k, ERR_FORBIDDEN, text, true);
}

void link_dial_insecure (struct link *k)
{
	if (k->dial.state == DIAL_CONNECTING)
		handshake_failed (k);
}

void link_dial_ended (struct link *k)
{
	struct link_dial *d = &k->dial;
	if (d->state == DIAL_UP)
		link_session_doom (d->self, 0, ERR_UNAVAILABLE, "connection lost");
	else if (d->connected && !d->secured)
		handshake_failed (k);
	else if (d->state == DIAL_CONNECTING)
		link_dial_failed (k, ERR_UNAVAILABLE, "nobody answers", false);
}

/* ---- attempts ------------------------------------------------------------------------------------------------- */

void link_dial_hello (struct link *k)
{
	const struct link_carrier *by = k->carriers[0];
	struct msg_hello hello = k->dial.hello;
	struct wire_header h = { .major = hello.max_major, .minor = hello.minor, .type = WIRE_HELLO, .count = 1 };
	struct buf b;
	zmq_msg_t m;
	if (k->curve && by == &link_over_ipc)
		hello.key = wire_str (k->public_key, MSG_KEY_BYTES);
	buf_init (&b, 0);
	msg_hello_encode (&b, &hello, hello.max_major);
	link_msg_from_buf (&m, &b);
	link_post (k, by, 0, &h, &m);
}

static int try_address (struct link *k, const char *address, struct err *err)
{
	free (k->dial.via);
	k->dial.via = xstrdup (address);
	k->dial.within = address == k->dial.local;
	k->carriers[0] = k->dial.self->by = link_carrier_of (address);
	if (k->carriers[0]->dial (k, err) == 0)
		return 0;
	dial_close (k, 0);
	return -1;
}

/* Nobody listens at a Unix socket: that is known at once. */
static bool try_local (struct link *k)
{
	struct link_dial *d = &k->dial;
	bool silent = d->silent;
	d->silent = false;
	if (!d->local || silent || try_address (k, d->local, NULL) < 0)
		return false;
	if (!d->connected)
		dial_close (k, 0);
	return d->connected;
}

static int dial_open (struct link *k, struct err *err)
{
	struct link_dial *d = &k->dial;
	if (!try_local (k) && try_address (k, d->address, err) < 0)
		return -1;
	d->state = DIAL_CONNECTING;
	d->opened_ms = clock_now_ms ();
	loop_timer_start (d->timer, LINK_HELLO_MS, false);
	return 0;
}

static void dial_pause (struct link *k)
{
	struct link_dial *d = &k->dial;
	d->state = DIAL_IDLE;
	loop_timer_start (d->timer, clock_backoff_ms (d->attempt, PAUSE_BASE_MS, PAUSE_CAP_MS), false);
}

void link_dial_failed (struct link *k, int code, const char *text, bool report)
{
	char why[LINK_WHY_MAX];
	if (k->dial.state != DIAL_CONNECTING)
		return;
	snprintf (why, sizeof (why), "%s", text);
	log_info ("link", "connection attempt failed", "link=%s address=%s attempt=%u code=%s why=%s", k->name, k->dial.via,
		  k->dial.attempt, err_name (code), why);
	k->dial.silent = k->dial.within;
	dial_close (k, 0);
	dial_pause (k);
	k->dial.attempt++;
	if (report && k->ops->on_reject && !k->muted)
		k->ops->on_reject (k, code, why, k->arg);
}

static void on_timer (void *arg)
{
	struct link *k = arg;
	struct link_dial *d = &k->dial;
	struct err err = { 0 };
	link_enter (k);
	if (d->state == DIAL_IDLE) {
		if (dial_open (k, &err) < 0) {
			log_err (LOG_WARN, "link", "connection attempt failed", &err);
			dial_pause (k);
			d->attempt++;
		}
	} else if (d->state == DIAL_CONNECTING) {
		/* Paused: the answer may lie unread. */
		if (!k->paused && clock_now_ms () - d->opened_ms > (k->threshold_ms > ANSWER_MIN_MS ? k->threshold_ms : ANSWER_MIN_MS)) {
			char text[LINK_WHY_MAX];
			if (d->connected && !d->secured) {
				handshake_failed (k);
			} else {
				snprintf (text, sizeof (text), "no answer from %s", d->via);
				link_dial_failed (k, ERR_UNAVAILABLE, text, d->secured);
			}
		} else {
			if (d->secured)
				link_dial_hello (k);
			loop_timer_start (d->timer, LINK_HELLO_MS, false);
		}
	}
	link_leave (k);
}

void link_dial_up (struct link *k, const struct msg_welcome *w, uint64_t epoch)
{
	struct link_dial *d = &k->dial;
	struct link_peer *p = d->self;
	loop_timer_stop (d->timer);
	d->state = DIAL_UP;
	d->bad_handshakes = 0;
	d->up_ms = clock_now_ms ();
	p->state = PEER_UP;
	p->major = w->major;
	p->minor = w->minor < WIRE_MINOR ? w->minor : WIRE_MINOR;
	p->bulk = p->major >= 2 && !id_is_zero (&k->bulk) && (w->capabilities & MSG_CAP_BULK);
	p->epoch = epoch;
	p->seq = 0;
	p->malformed = 0;
	p->linger_ms = 0;
	p->heard_ms = p->sent_ms = d->up_ms;
	if (w->heartbeat_ms)
		k->heartbeat_ms = w->heartbeat_ms > HEARTBEAT_MIN_MS ? w->heartbeat_ms : HEARTBEAT_MIN_MS;
	if (w->threshold_ms)
		k->threshold_ms = w->threshold_ms;
	if (k->threshold_ms < 2 * k->heartbeat_ms)	/* or each pause would end the session */
		k->threshold_ms = 2 * k->heartbeat_ms;
	k->stats.sessions = 1;
	link_sweep_start (k);
	log_info ("link", "session up", "link=%s address=%s major=%d minor=%d bulk=%d", k->name, d->via, p->major, p->minor, p->bulk);
	if (k->ops->on_up)
		k->ops->on_up (p, NULL, w, k->arg);
}

void link_dial_lost (struct link *k)
{
	struct link_dial *d = &k->dial;
	struct link_peer *p = d->self;
	bool lasted = clock_now_ms () - d->up_ms >= k->heartbeat_ms;
	link_outbox_unlist (p);
	link_outbox_clear (p);
	p->state = PEER_DOWN;
	loop_timer_stop (k->sweep);
	dial_close (k, p->linger_ms);
	k->stats.sessions = 0;
	/* A session that broke at once counts as a failed attempt, or two processes that fence each other would do so without pause. */
	d->attempt = lasted ? 0 : d->attempt + 1;
	dial_pause (k);
	log_info ("link", "session ended", "link=%s address=%s why=%s", k->name, d->via, p->why);
	if (k->ops->on_down && !k->muted)
		k->ops->on_down (p, p->why, k->arg);
}

/* ---- life ----------------------------------------------------------------------------------------------------- */

static struct wire_str keep (char **at, struct wire_str s)
{
	struct wire_str out = { *at, s.n };
	if (s.n)
		memcpy (*at, s.p, s.n);
	*at += s.n;
	return out;
}

static int hello_copy (struct link_dial *d, const struct msg_hello *h, const struct id *bulk, struct err *err)
{
	char *at;
	if (h->name.n > WIRE_MAX_TEXT || h->version.n > WIRE_MAX_TEXT || h->block.n > WIRE_MAX_TEXT || h->runtime.n > WIRE_MAX_TEXT)
		return err_set (err, ERR_TOO_LARGE, FAULT_SELF, "a text in HELLO is over %d bytes", WIRE_MAX_TEXT);
	d->hello = *h;
	d->hello.bulk = *bulk;
	if (!id_is_zero (bulk))
		d->hello.capabilities |= MSG_CAP_BULK;
	at = d->hello_text = xcalloc (1, h->name.n + h->version.n + h->block.n + h->runtime.n + 1);
	d->hello.name = keep (&at, h->name);
	d->hello.version = keep (&at, h->version);
	d->hello.block = keep (&at, h->block);
	d->hello.runtime = keep (&at, h->runtime);
	if (!d->hello.max_major) {
		d->hello.min_major = WIRE_MAJOR_MIN;
		d->hello.max_major = WIRE_MAJOR;
		d->hello.minor = WIRE_MINOR;
	}
	return 0;
}

static int key_copy (char out[LINK_KEY_TEXT], const char *z85, struct err *err)
{
	uint8_t key[LINK_KEY_BYTES];
	if (strlen (z85) != LINK_KEY_TEXT - 1 || !zmq_z85_decode (key, z85))
		return err_set (err, ERR_INVALID, FAULT_USER, "the server key is not a CURVE public key in Z85 (40 characters)");
	memcpy (out, z85, LINK_KEY_TEXT);
	return 0;
}

int link_dial_start (struct link *k, const char *address, const struct link_opts *o, struct err *err)
{
	struct link_dial *d = &k->dial;
	struct link_peer *p = d->self = xcalloc (1, sizeof (*p));
	p->k = k;
	buf_init (&p->out.pack, 0);
	p->id = o->hello.id;
	p->instance = o->hello.instance;
	TAILQ_INSERT_TAIL (&k->all, p, all_entry);
	d->address = xstrdup (address);
	d->local = o->local ? xstrdup (o->local) : NULL;
	d->timer = loop_timer_create (k->loop, on_timer, k);
	if (hello_copy (d, &o->hello, &k->bulk, err) < 0)
		return -1;
	if (k->curve) {
		if (!o->server_key)
			return err_set (err, ERR_INVALID, FAULT_SELF, "a dialler with CURVE needs the server's key");
		if (key_copy (d->server_key, o->server_key, err) < 0)
			return -1;
	}
	return dial_open (k, err);
}

void link_dial_stop (struct link *k)
{
	struct link_dial *d = &k->dial;
	if (d->timer)
		loop_timer_destroy (&d->timer);
	if (d->self)
		link_peer_free (d->self);
	free (d->address);
	free (d->local);
	free (d->via);
	free (d->hello_text);
}

int link_redial (struct link *k, const char *address, const char *server_key, struct err *err)
{
	struct link_dial *d = &k->dial;
	char key[LINK_KEY_TEXT] = "", old_key[LINK_KEY_TEXT];
	char *old;
	if (server_key && key_copy (key, server_key, err) < 0)
		return -1;
	old = d->address;
	memcpy (old_key, d->server_key, sizeof (old_key));
	d->address = xstrdup (address ? address : old);
	if (server_key)
		memcpy (d->server_key, key, sizeof (key));
	if (d->state != DIAL_UP) {
		/* One that lives answers within a moment: it may be the one that has been replaced. */
		if (d->state == DIAL_CONNECTING && d->within && clock_now_ms () - d->opened_ms > LINK_HELLO_MS)
			d->silent = true;
		dial_close (k, 0);
		d->attempt = d->bad_handshakes = 0;
		if (dial_open (k, err) < 0) {
			free (d->address);
			d->address = old;
			memcpy (d->server_key, old_key, sizeof (old_key));
			dial_pause (k);
			return -1;
		}
	}
	free (old);
	return 0;
}

void link_set_slots (struct link *k, uint32_t slots)
{
	k->dial.hello.slots = slots;
}

struct link_peer *link_peer (struct link *k)
{
	return !k->listener && k->dial.state == DIAL_UP && k->dial.self->state == PEER_UP ? k->dial.self : NULL;
}
