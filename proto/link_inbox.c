/* SPDX-License-Identifier: Apache-2.0 */
/* One message off the socket, checked in the order that SPEC.md section 1 gives, and handed to the session or to on_message.
 *
 * Bounds: ZMQ_MAXMSGSIZE bounds a frame, WIRE_MAX_RECORDS the frames that are kept; those beyond are freed one by one as they come.
 * (libzmq holds a multipart message until its last frame is there; only peers that passed CURVE can make it do so.) */
#include "proto/link_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"

static int recv_frame (struct link *k, zmq_msg_t *m)
{
	int rc;
	do
		rc = zmq_msg_recv (m, k->sock, ZMQ_DONTWAIT);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -1 : 0;
}

/* Room for record i; the array grows with what peers really send. */
static zmq_msg_t *rec_slot (struct link *k, size_t i)
{
	if (i >= k->nrecs) {
		size_t n = k->nrecs ? k->nrecs * 2 : 64;
		zmq_msg_t *recs = xcalloc (n, sizeof (*recs));
		for (size_t j = 0; j < n; j++)
			zmq_msg_init (&recs[j]);
		for (size_t j = 0; j < k->nrecs; j++)
			zmq_msg_move (&recs[j], &k->recs[j]);
		free (k->recs);
		k->recs = recs;
		k->nrecs = n;
	}
	return &k->recs[i];
}

static void read_rid (struct link_in *in, zmq_msg_t *m)
{
	const uint8_t *b = zmq_msg_data (m);
	/* Ids that peers chose for themselves (no leading 0) are not served: nobody who speaks this protocol does that. */
	if (zmq_msg_size (m) != 5 || b[0] != 0)
		return;
	in->addressed = true;
	in->rid = (uint32_t) b[1] << 24 | (uint32_t) b[2] << 16 | (uint32_t) b[3] << 8 | b[4];
}

int link_inbox_read (struct link *k, struct link_in *in)
{
	bool more = true;
	memset (in, 0, sizeof (*in));
	if (k->listener) {
		zmq_msg_t id;
		zmq_msg_init (&id);
		if (recv_frame (k, &id) < 0) {
			zmq_msg_close (&id);
			return 0;
		}
		read_rid (in, &id);
		more = zmq_msg_more (&id);
		zmq_msg_close (&id);
	} else {
		in->addressed = true;
	}
	if (more) {
		if (recv_frame (k, &k->head) < 0)
			return 0;
		in->headed = true;
		more = zmq_msg_more (&k->head);
	}
	while (more && in->n < WIRE_MAX_RECORDS) {
		zmq_msg_t *m = rec_slot (k, in->n);
		if (recv_frame (k, m) < 0)
			return 1;
		more = zmq_msg_more (m);
		in->n++;
	}
	if (more) {
		zmq_msg_t extra;
		in->overlong = true;
		zmq_msg_init (&extra);
		while (more && recv_frame (k, &extra) == 0)
			more = zmq_msg_more (&extra);
		zmq_msg_close (&extra);
	}
	return 1;
}

void link_inbox_clear (struct link *k, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		zmq_msg_close (&k->recs[i]);
		zmq_msg_init (&k->recs[i]);
	}
	zmq_msg_close (&k->head);
	zmq_msg_init (&k->head);
}

void link_blame (struct link *k, struct link_peer *p, const char *what)
{
	char id[ID_TEXT] = "";
	k->stats.malformed++;
	if (p && k->listener)
		id_text (&p->id, id);
	log_warn ("link", "malformed message dropped", "link=%s peer=%s what=%s", k->name, id, what);
	if (p && p->state == PEER_UP && ++p->malformed >= LINK_MALFORMED_MAX)
		link_session_doom (p, WIRE_REJECT, ERR_INVALID, "too many malformed messages");
}

/* A message of somebody without a session. */
static void take_stray (struct link *k, const struct wire_header *h, const struct link_in *in)
{
	if (!k->listener)
		link_session_answer (k, h, in);
	else if (wire_type_known (h->type) && h->type != WIRE_BYE && h->type != WIRE_REJECT && h->type != WIRE_WELCOME)
		link_session_refuse (k, in->rid, ERR_BAD_STATE, "no session, say HELLO");
}

static bool any_epoch (int type)
{
	return type == WIRE_RESULT || type == WIRE_RESULT_ACK;	/* a result is valid whenever it arrives */
}

static void take_record (struct link_peer *p, const struct wire_header *h, const struct link_in *in)
{
	struct link *k = p->k;
	struct err err = { 0 };
	k->stats.messages_in++;
	k->stats.records_in += in->n;
	if (k->ops->on_message && k->ops->on_message (p, h, k->recs, in->n, k->arg, &err) < 0 && !k->muted)
		link_blame (k, p, err.text);
}

static void take_of_session (struct link_peer *p, const struct wire_header *h, const struct link_in *in)
{
	struct link *k = p->k;
	if (h->type == WIRE_REJECT) {		/* its sender may not know the session's version */
		link_session_control (p, h, in);
		return;
	}
	if (h->major != p->major) {
		link_blame (k, p, "another major version than the session's");
		return;
	}
	if (!wire_type_known (h->type)) {
		log_debug ("link", "unknown message type ignored", "link=%s type=%d", k->name, h->type);
		return;
	}
	if (h->count != in->n) {
		link_blame (k, p, "count does not match the frames");
		return;
	}
	if (h->epoch != p->epoch && !any_epoch (h->type)) {
		if (!k->listener)
			link_session_doom (p, 0, ERR_BAD_STATE, "the listener has another session");
		return;
	}
	if (h->type < WIRE_FUNCTION)
		link_session_control (p, h, in);
	else
		take_record (p, h, in);
}

void link_inbox_take (struct link *k, struct link_in *in)
{
	struct wire_header h;
	struct link_peer *p = NULL;
	struct err err = { 0 };
	if (!in->addressed) {
		link_blame (k, NULL, "routing id is not ours");
		return;
	}
	if (!k->listener && k->dial.state == DIAL_UP)
		p = k->dial.self;
	else if (k->listener)
		p = link_table_get (&k->table, in->rid);
	if (p && p->state != PEER_UP)
		return;			/* on its way out */
	if (!in->headed || wire_header_decode (&h, zmq_msg_data (&k->head), zmq_msg_size (&k->head), &err) < 0) {
		link_blame (k, p, in->headed ? err.text : "no header");
		return;
	}
	if (in->overlong) {
		link_blame (k, p, "more records than allowed");
		return;
	}
	if (p)
		p->heard_ms = clock_now_ms ();
	if (k->listener && h.type == WIRE_HELLO) {
		if (h.count != 1 || in->n != 1)
			link_blame (k, p, "HELLO without its record");
		else
			link_session_hello (k, p, in);
	} else if (!p) {
		take_stray (k, &h, in);
	} else {
		take_of_session (p, &h, in);
	}
}
