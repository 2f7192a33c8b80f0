/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: HELLO, WELCOME, REJECT, BYE; versions; fencing. SPEC.md, sections 2 and 2.1.
 *
 *   peer      event                                  next
 *   (none)    HELLO, accepted: WELCOME, on_up        UP
 *   (none)    HELLO, refused: REJECT                 (none)
 *   (none)    anything else: REJECT STATE            (none)
 *   UP        HELLO again, same instance: WELCOME    UP
 *   UP        HELLO of the same id from elsewhere    closed as "replaced", then as (none)
 *   UP        BYE, REJECT, silence, 16 malformed     CLOSING: on_down from the loop
 *   CLOSING   loop: on_down                          freed (listener), DOWN (dialler) */
#include "proto/link_internal.h"
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"

static void text_of (char out[LINK_WHY_MAX], struct wire_str s)
{
	snprintf (out, LINK_WHY_MAX, "%.*s", (int) (s.n < LINK_WHY_MAX ? s.n : LINK_WHY_MAX - 1), s.n ? s.p : "");
}

static struct msg_reason reason_of (int code, const char *text)
{
	size_t n = strlen (text);
	return (struct msg_reason) { (uint16_t) code, wire_str (text, n < WIRE_MAX_TEXT ? n : WIRE_MAX_TEXT) };
}

/* ---- refusing and ending -------------------------------------------------------------------------------------- */

void link_session_refuse (struct link *k, const struct link_in *in, int code, const char *text)
{
	struct wire_header h = { .major = WIRE_MAJOR, .minor = WIRE_MINOR, .type = WIRE_REJECT, .count = 1 };
	struct msg_reason reason = reason_of (code, text);
	int64_t second = clock_now_ms () / 1000;
	struct buf b;
	zmq_msg_t m;
	k->stats.rejected++;
	if (k->reject_s != second) {
		k->reject_s = second;
		k->reject_n = 0;
	}
	if (++k->reject_n > LINK_REJECTS_PER_S)
		return;			/* it says HELLO again anyway */
	buf_init (&b, 0);
	msg_reason_encode (&b, &reason);
	link_msg_from_buf (&m, &b);
	link_post (k, in->by, in->rid, &h, &m);
}

void link_session_doom (struct link_peer *p, int type, int code, const char *why)
{
	if (p->state != PEER_UP)
		return;
	if (type) {
		struct msg_reason reason = reason_of (code, why);
		struct buf b;
		buf_init (&b, 0);
		msg_reason_encode (&b, &reason);
		link_outbox_bytes (p, (uint8_t) type, b.data, b.len);
		buf_fini (&b);
		p->state = PEER_CLOSING;	/* before the flush, which may find that the peer is gone */
		link_outbox_flush (p);
		p->linger_ms = 1000;
		if (type == WIRE_REJECT)
			p->k->stats.rejected++;
	}
	p->state = PEER_CLOSING;
	snprintf (p->why, sizeof (p->why), "%s", why);
	link_todo (p);
}

void link_peer_free (struct link_peer *p)
{
	link_outbox_unlist (p);
	link_outbox_clear (p);
	free (p->welcome);
	free (p);
}

void link_session_down (struct link_peer *p)
{
	struct link *k = p->k;
	char id[ID_TEXT];
	if (!k->listener) {
		link_dial_lost (k);
		return;
	}
	link_table_del (&k->table, p);
	if (map_get (k->by_id, &p->id) == p)
		map_del (k->by_id, &p->id);
	TAILQ_REMOVE (&k->all, p, all_entry);
	k->npeers--;
	k->stats.sessions--;
	link_outbox_unlist (p);
	link_outbox_clear (p);
	p->state = PEER_DOWN;
	log_info ("link", "session ended", "link=%s peer=%s why=%s", k->name, id_text (&p->id, id), p->why);
	if (k->ops->on_down && !k->muted)
		k->ops->on_down (p, p->why, k->arg);
	link_peer_free (p);
}

/* ---- listener: HELLO ------------------------------------------------------------------------------------------ */

/* The newer process wins. The older one is told, unless it is the same process that has connected again. */
static void fence (struct link_peer *old, uint64_t instance)
{
	if (old->instance != instance)
		link_session_doom (old, WIRE_BYE, ERR_CONFLICT, "replaced by another process with the same id");
	snprintf (old->why, sizeof (old->why), "replaced");
	link_session_down (old);
}

static int pick_version (const struct msg_hello *h, struct msg_welcome *w, struct err *err)
{
	int best = h->max_major < WIRE_MAJOR ? h->max_major : WIRE_MAJOR;
	if (h->min_major > h->max_major || best < h->min_major || best < WIRE_MAJOR_MIN)
		return err_set (err, ERR_VERSION, FAULT_PEER, "no common protocol version: you speak %u to %u, we speak %d to %d",
				h->min_major, h->max_major, WIRE_MAJOR_MIN, WIRE_MAJOR);
	w->major = (uint8_t) best;
	w->minor = WIRE_MINOR;
	if (h->max_major == best && h->minor < w->minor)	/* who speaks a newer major knows all minors of this one */
		w->minor = h->minor;
	return 0;
}

static void welcome_defaults (const struct link *k, struct msg_welcome *w)
{
	w->heartbeat_ms = (uint32_t) k->heartbeat_ms;
	w->threshold_ms = (uint32_t) k->threshold_ms;
	w->max_payload_bytes = k->max_payload_bytes;
	w->max_result_bytes = k->max_result_bytes;
	w->name = wire_str (k->name, strlen (k->name));
	do
		ids_random (&w->epoch, sizeof (w->epoch));
	while (w->epoch == 0);
}

static void welcome_keep (struct link_peer *p, const struct msg_welcome *w)
{
	struct buf b;
	buf_init (&b, 0);
	msg_welcome_encode (&b, w, p->major);
	p->welcome = b.data;
	p->welcome_bytes = b.len;
}

static void peer_add (struct link_peer *p, const struct msg_welcome *w)
{
	struct link *k = p->k;
	p->epoch = w->epoch;
	p->state = PEER_UP;
	p->heard_ms = p->sent_ms = clock_now_ms ();
	link_table_put (&k->table, p);
	map_put (k->by_id, &p->id, p);
	TAILQ_INSERT_TAIL (&k->all, p, all_entry);
	k->npeers++;
	k->stats.sessions++;
	welcome_keep (p, w);
	link_outbox_bytes (p, WIRE_WELCOME, p->welcome, p->welcome_bytes);
}

/* Everything that can be said against it before the program is asked. old: the session that its id has. */
static int judge (struct link *k, const struct msg_hello *h, const char *key, struct msg_welcome *w, struct err *err)
{
	if (k->curve && !link_zap_allows_text (k, key))
		return err_set (err, ERR_FORBIDDEN, FAULT_PEER, "key is not allowed");
	if (pick_version (h, w, err) < 0)
		return -1;
	if (id_is_zero (&h->id))
		return err_set (err, ERR_INVALID, FAULT_PEER, "HELLO has no id");
	if (k->npeers >= k->max_peers)
		return err_set (err, ERR_LIMIT, FAULT_SITE, "%s has %zu sessions, its limit", k->name, k->npeers);
	return 0;
}

static void greet (struct link *k, const struct link_in *in, const struct msg_hello *h, const char *key)
{
	struct msg_welcome w = { 0 };
	struct err err = { 0 };
	struct link_peer *old = map_get (k->by_id, &h->id), *p;
	char id[ID_TEXT];
	/* One with the same key is the same party and makes room at once. With another key it must be accepted first: else anybody who
	 * may connect could end the sessions of others. */
	if (old && strcmp (old->key, key) == 0)
		fence (old, h->instance);
	if (k->muted)
		return;
	p = xcalloc (1, sizeof (*p));
	*p = (struct link_peer) { .k = k, .state = PEER_NEW, .by = in->by, .rid = in->rid, .id = h->id, .instance = h->instance };
	buf_init (&p->out.pack, 0);
	snprintf (p->key, sizeof (p->key), "%s", key);
	welcome_defaults (k, &w);
	if (judge (k, h, key, &w, &err) < 0)
		goto refuse;
	p->major = w.major;
	p->minor = w.minor;
	p->bulk = p->major >= 2 && (h->capabilities & MSG_CAP_BULK) && !id_is_zero (&k->bulk) && id_eq (&h->bulk, &k->bulk);
	w.capabilities = p->bulk ? MSG_CAP_BULK : 0;
	if (k->ops->on_hello && k->ops->on_hello (p, h, &w, k->arg, &err) < 0)
		goto refuse;
	if (!k->muted && (old = map_get (k->by_id, &h->id)))
		fence (old, h->instance);
	if (k->muted) {
		link_peer_free (p);
		return;
	}
	peer_add (p, &w);
	log_info ("link", "session up", "link=%s peer=%s name=%.*s major=%d minor=%d bulk=%d", k->name, id_text (&p->id, id), (int) h->name.n,
		  h->name.p, p->major, p->minor, p->bulk);
	if (k->ops->on_up)
		k->ops->on_up (p, h, NULL, k->arg);
	return;
refuse:
	if (err.code == ERR_NONE)
		err_set (&err, ERR_FORBIDDEN, FAULT_PEER, "refused");
	log_warn ("link", "peer refused", "link=%s peer=%s code=%s err=%s", k->name, id_text (&h->id, id), err_name (err.code), err.text);
	if (!k->muted)
		link_session_refuse (k, in, err.code, err.text);
	link_peer_free (p);
}

/* The handshake has proved it; or it is only said, by a process of our own user, which could read the secret, too. */
static void key_of (const struct link *k, const struct link_in *in, const struct msg_hello *h, char key[LINK_KEY_TEXT])
{
	const char *proved = k->curve && in->by == &link_over_zmq ? zmq_msg_gets (in->head, "User-Id") : NULL;
	if (proved)
		snprintf (key, LINK_KEY_TEXT, "%s", proved);
	else if (k->curve && in->by == &link_over_ipc)
		snprintf (key, LINK_KEY_TEXT, "%.*s", (int) h->key.n, h->key.n ? h->key.p : "");
}

void link_session_hello (struct link *k, struct link_peer *p, const struct link_in *in)
{
	struct msg_hello h;
	struct err err = { 0 };
	char key[LINK_KEY_TEXT] = "";
	if (msg_hello_decode (&h, zmq_msg_data (&in->recs[0]), zmq_msg_size (&in->recs[0]), &err) < 0) {
		link_blame (k, p, err.text);
		return;
	}
	key_of (k, in, &h, key);
	if (p && id_eq (&p->id, &h.id) && p->instance == h.instance) {
		link_outbox_bytes (p, WIRE_WELCOME, p->welcome, p->welcome_bytes);	/* the first one was lost or late */
		return;
	}
	if (p)
		fence (p, p->instance);	/* another identity on the same connection */
	if (!k->muted)
		greet (k, in, &h, key);
}

/* ---- dialler: the answer -------------------------------------------------------------------------------------- */

static void take_welcome (struct link *k, const struct wire_header *h, const struct link_in *in)
{
	const struct msg_hello *hello = &k->dial.hello;
	struct msg_welcome w;
	struct err err = { 0 };
	if (msg_welcome_decode (&w, zmq_msg_data (&in->recs[0]), zmq_msg_size (&in->recs[0]), &err) < 0) {
		link_blame (k, NULL, err.text);
		return;
	}
	if (w.major < hello->min_major || w.major > hello->max_major || h->major != w.major || w.epoch == 0) {
		link_dial_failed (k, ERR_VERSION, "the listener chose a protocol version that we do not speak", true);
		return;
	}
	link_dial_up (k, &w, w.epoch);
}

static int take_reason (struct link *k, struct link_peer *p, const struct link_in *in, int *code, char text[LINK_WHY_MAX])
{
	struct msg_reason r;
	struct err err = { 0 };
	if (in->n != 1) {
		link_blame (k, p, "a reason has one record");
		return -1;
	}
	if (msg_reason_decode (&r, zmq_msg_data (&in->recs[0]), zmq_msg_size (&in->recs[0]), &err) < 0) {
		link_blame (k, p, err.text);
		return -1;
	}
	*code = r.code;
	text_of (text, r.text);
	return 0;
}

void link_session_answer (struct link *k, const struct wire_header *h, const struct link_in *in)
{
	char text[LINK_WHY_MAX];
	int code;
	if (k->dial.state != DIAL_CONNECTING || h->count != in->n)
		return;
	if (h->type == WIRE_WELCOME && in->n == 1) {
		take_welcome (k, h, in);
	} else if (h->type == WIRE_REJECT && take_reason (k, NULL, in, &code, text) == 0) {
		k->stats.rejected++;
		link_dial_failed (k, code, text, true);
		if (code == ERR_UNAVAILABLE)
			k->dial.silent = false;		/* not now: later it would be the other address's turn */
	}
}

/* ---- both: control messages of a session ---------------------------------------------------------------------- */

void link_session_control (struct link_peer *p, const struct wire_header *h, const struct link_in *in)
{
	struct link *k = p->k;
	char text[LINK_WHY_MAX];
	int code;
	switch (h->type) {
	case WIRE_HEARTBEAT:
		return;			/* that it came is all it says */
	case WIRE_WELCOME:
		if (k->listener)
			link_blame (k, p, "WELCOME to a listener");
		return;			/* dialler: answer to a HELLO that we repeated */
	case WIRE_BYE:
	case WIRE_REJECT:
		if (take_reason (k, p, in, &code, text) < 0)
			return;
		link_session_doom (p, 0, code, text[0] ? text : "the peer said BYE");
		/* STATE only asks for another HELLO; the others are for people. */
		if (!k->listener && (h->type == WIRE_REJECT ? code != ERR_BAD_STATE : code == ERR_CONFLICT || code == ERR_FORBIDDEN)) {
			k->stats.rejected++;
			if (k->ops->on_reject)
				k->ops->on_reject (k, code, p->why, k->arg);
		}
		return;
	default:
		link_blame (k, p, "not a message for this side");
	}
}
