/* SPDX-License-Identifier: Apache-2.0 */
/* One message, checked in the order that SPEC.md section 1 gives, and handed to the session or to on_message. */
#include "proto/link_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"

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
		link_session_refuse (k, in, ERR_BAD_STATE, "no session, say HELLO");
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
	if (k->ops->on_message && k->ops->on_message (p, h, in->recs, in->n, k->arg, &err) < 0 && !k->muted)
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

void link_inbox_take (struct link *k, const struct link_in *in)
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
		p = link_table_get (&k->table, in->by, in->rid);
	if (p && p->state != PEER_UP)
		return;			/* on its way out */
	if (!in->headed || wire_header_decode (&h, zmq_msg_data (in->head), zmq_msg_size (in->head), &err) < 0) {
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
