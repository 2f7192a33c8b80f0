/* SPDX-License-Identifier: Apache-2.0 */
/* What waits to be sent to a peer: a ring of records in order. A flush merges neighbours of one type into messages of at most
 * WIRE_MAX_RECORDS and LINK_BATCH_BYTES. SPEC.md, section 1.
 *
 * The socket's own queue is short (link.c, hwm), so that a peer that does not read is noticed here, where it is bounded. A refused send
 * puts the peer on `blocked`; it is tried again at the next burst, when the carrier says so, and by a timer if it is one that does not.
 *
 * Nobody waits for a RESULT_ACK: it leaves with the next message to the peer, or after ACK_MS. A message of its own would wake two threads
 * on each side, just when the processor has the result to carry on. Records sent soon (link_send_soon) wait for others likewise, but not as
 * long, and not for many. */
#include "proto/link_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"

enum { RETRY_MIN_MS = 1, RETRY_MAX_MS = 50, RING_MIN = 16, RING_KEEP = 1024, PACK_KEEP = 1024, ACK_MS = 10, SOON_MS = 1, SOON_MAX = 16 };

static struct link_rec *at (struct link_outbox *o, size_t i)
{
	return &o->ring[(o->head + i) & (o->cap - 1)];
}

static void ring_grow (struct link_outbox *o)
{
	size_t cap = o->cap ? o->cap * 2 : RING_MIN;
	struct link_rec *ring = xcalloc (cap, sizeof (*ring));
	for (size_t i = 0; i < o->count; i++) {
		struct link_rec *r = at (o, i);
		ring[i].type = r->type;
		ring[i].bare = r->bare;
		zmq_msg_init (&ring[i].m);
		zmq_msg_move (&ring[i].m, &r->m);
	}
	free (o->ring);
	o->ring = ring;
	o->cap = cap;
	o->head = 0;
}

static struct link_rec *ring_add (struct link_outbox *o, uint8_t type)
{
	struct link_rec *r;
	if (o->count == o->cap)
		ring_grow (o);
	r = at (o, o->count++);
	r->type = type;
	r->bare = false;
	zmq_msg_init (&r->m);
	return r;
}

static void ring_shift (struct link_outbox *o, size_t n)
{
	o->head = (o->head + n) & (o->cap - 1);
	o->count -= n;
	if (o->count == 0 && o->cap > RING_KEEP) {
		free (o->ring);
		o->ring = NULL;
		o->cap = o->head = 0;
	}
}

static void note_bytes (struct link_peer *p)
{
	struct link *k = p->k;
	if (!p->congested && p->out.bytes > k->max_queued_bytes) {
		p->congested = true;
		log_debug ("link", "peer does not keep up", "link=%s queued=%zu", k->name, p->out.bytes);
	}
}

static void note_queued (struct link_peer *p)
{
	struct link *k = p->k;
	note_bytes (p);
	if (!p->dirty) {
		p->dirty = true;
		TAILQ_INSERT_TAIL (&k->dirty, p, dirty_entry);
		loop_defer_schedule (k->flush);
	}
}

static void note_late (struct link_peer *p, int ms)
{
	struct link *k = p->k;
	note_bytes (p);
	if (!p->dirty && !p->late) {
		p->late = true;
		TAILQ_INSERT_TAIL (&k->late, p, late_entry);
	}
	if (!p->dirty && (!loop_timer_pending (k->acks) || ms < k->acks_ms)) {
		loop_timer_start (k->acks, ms, false);
		k->acks_ms = ms;
	}
}

static void unlate (struct link_peer *p)
{
	if (p->late)
		TAILQ_REMOVE (&p->k->late, p, late_entry);
	p->late = false;
}

void link_outbox_late (struct link *k)
{
	struct link_peer *p;
	while ((p = TAILQ_FIRST (&k->late))) {
		unlate (p);
		note_queued (p);
	}
}

/* The packed ids become a record. */
static void seal (struct link_peer *p)
{
	struct link_outbox *o = &p->out;
	struct link_rec *r;
	size_t n = o->pack.len;
	if (n == 0)
		return;
	r = ring_add (o, o->pack_type);
	if (n > PACK_KEEP) {
		link_msg_from_buf (&r->m, &o->pack);
	} else {
		if (zmq_msg_init_size (&r->m, n) < 0)
			abort ();
		memcpy (zmq_msg_data (&r->m), o->pack.data, n);
		buf_clear (&o->pack);
	}
}

static void push (struct link_peer *p, uint8_t type, zmq_msg_t *record, bool soon)
{
	struct link_outbox *o = &p->out;
	struct link_rec *r;
	seal (p);
	r = ring_add (o, type);
	if (record) {
		o->bytes += zmq_msg_size (record);
		zmq_msg_move (&r->m, record);
	} else {
		r->bare = true;
	}
	o->bytes += LINK_REC_COST;
	if (soon && o->count < SOON_MAX)
		note_late (p, SOON_MS);
	else
		note_queued (p);
	/* A full batch leaves now, so that the I/O thread works while the caller fills the next one. */
	if (!p->blocked && (o->bytes >= LINK_BATCH_BYTES || o->count >= WIRE_MAX_RECORDS))
		link_outbox_flush (p);
}

void link_outbox_push (struct link_peer *p, uint8_t type, zmq_msg_t *record)
{
	push (p, type, record, false);
}

void link_outbox_bytes (struct link_peer *p, uint8_t type, const void *data, size_t n)
{
	zmq_msg_t m;
	if (zmq_msg_init_size (&m, n) < 0)
		abort ();
	if (n)
		memcpy (zmq_msg_data (&m), data, n);
	link_outbox_push (p, type, &m);
	zmq_msg_close (&m);
}

static void pack_id (struct link_peer *p, uint8_t type, const struct id *id)
{
	struct link_outbox *o = &p->out;
	if (o->pack.len && (o->pack_type != type || o->pack.len >= LINK_PACK_IDS * ID_BYTES))
		seal (p);
	if (o->pack.len == 0) {
		o->pack_type = type;
		o->bytes += LINK_REC_COST;
	}
	buf_add (&o->pack, id->b, ID_BYTES);
	if (buf_failed (&o->pack))
		abort ();
	o->bytes += ID_BYTES;
	if (type == WIRE_RESULT_ACK && o->pack.len < LINK_PACK_IDS * ID_BYTES)
		note_late (p, ACK_MS);
	else
		note_queued (p);
}

/* ---- sending -------------------------------------------------------------------------------------------------- */

static void flush_carriers (struct link *k)
{
	for (size_t i = 0; k->carriers[i]; i++)
		k->carriers[i]->flush (k);
}

static int begin (struct link *k, const struct link_carrier *by, uint32_t rid, const struct wire_header *h)
{
	if (by->begin (k, rid, h) < 0)
		return -1;
	k->stats.messages_out++;
	k->stats.records_out += h->count;
	return 0;
}

int link_post (struct link *k, const struct link_carrier *by, uint32_t rid, const struct wire_header *h, zmq_msg_t *record)
{
	int rc = begin (k, by, rid, h);
	if (rc == 0 && h->count)
		rc = by->frame (k, record, false);
	zmq_msg_close (record);
	by->flush (k);
	return rc;
}

/* The first records that make one message. */
static size_t batch_of (struct link_outbox *o, size_t *bytes)
{
	const struct link_rec *first = at (o, 0);
	size_t n = 1;
	*bytes = zmq_msg_size (&first->m);
	if (first->bare)
		return 1;
	while (n < o->count && n < WIRE_MAX_RECORDS) {
		struct link_rec *r = at (o, n);
		size_t more = zmq_msg_size (&r->m);
		if (r->type != first->type || r->bare || *bytes + more > LINK_BATCH_BYTES)
			break;
		*bytes += more;
		n++;
	}
	return n;
}

static int send_batch (struct link_peer *p)
{
	struct link_outbox *o = &p->out;
	size_t bytes, n = batch_of (o, &bytes);
	bool bare = at (o, 0)->bare;
	struct wire_header h = { .major = (uint8_t) p->major, .minor = WIRE_MINOR, .type = at (o, 0)->type,
				 .count = bare ? 0 : (uint32_t) n, .seq = p->seq, .epoch = p->epoch };
	if (begin (p->k, p->by, p->rid, &h) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		struct link_rec *r = at (o, i);
		if (!bare)		/* a failure means that the socket itself is gone: the record is dropped with the session */
			p->by->frame (p->k, &r->m, i + 1 < n);
		zmq_msg_close (&r->m);
	}
	p->seq++;
	o->bytes -= bytes + n * LINK_REC_COST;
	ring_shift (o, n);
	return 0;
}

static void block (struct link_peer *p)
{
	struct link *k = p->k;
	if (p->blocked)
		return;
	p->blocked = true;
	TAILQ_INSERT_TAIL (&k->blocked, p, blocked_entry);
	if (!p->by->tells && !loop_timer_pending (k->retry)) {
		k->retry_ms = RETRY_MIN_MS;
		loop_timer_start (k->retry, k->retry_ms, false);
	}
	if (p->by->blocked)
		p->by->blocked (k, true);
}

static void unblock (struct link_peer *p)
{
	struct link *k = p->k;
	if (!p->blocked)
		return;
	p->blocked = false;
	TAILQ_REMOVE (&k->blocked, p, blocked_entry);
	if (p->by->blocked && TAILQ_EMPTY (&k->blocked))
		p->by->blocked (k, false);
}

static void check_relief (struct link_peer *p)
{
	if (!p->congested || p->out.bytes > p->k->max_queued_bytes / 2)
		return;
	p->congested = false;
	p->relieved = true;
	link_todo (p);
}

/* Whether anything left. */
static bool flush (struct link_peer *p)
{
	bool moved = false;
	unlate (p);
	seal (p);
	while (p->out.count) {
		if (send_batch (p) < 0) {
			if (errno == EAGAIN) {
				block (p);
				break;
			}
			link_session_doom (p, 0, ERR_UNAVAILABLE, errno == EHOSTUNREACH ? "connection lost" : zmq_strerror (errno));
			unblock (p);		/* nothing leaves any more, and nobody waits for it */
			break;
		}
		moved = true;
	}
	if (p->out.count == 0)
		unblock (p);
	if (moved) {
		p->sent_ms = clock_now_ms ();
		check_relief (p);
		loop_defer_schedule (p->k->flush);	/* where the carrier flushes */
	}
	return moved;
}

void link_outbox_flush (struct link_peer *p)
{
	flush (p);
}

void link_outbox_flush_dirty (struct link *k)
{
	struct link_peer *p;
	while ((p = TAILQ_FIRST (&k->dirty))) {
		TAILQ_REMOVE (&k->dirty, p, dirty_entry);
		p->dirty = false;
		if (!p->blocked)
			flush (p);
	}
	flush_carriers (k);
}

void link_outbox_retry (struct link *k)
{
	struct link_peer *p, *next;
	bool moved = false, untold = false;
	if (TAILQ_EMPTY (&k->blocked) || !k->open)
		return;
	for (size_t i = 0; k->carriers[i]; i++)
		if (k->carriers[i]->settle)
			k->carriers[i]->settle (k);
	for (p = TAILQ_FIRST (&k->blocked); p; p = next) {
		next = TAILQ_NEXT (p, blocked_entry);
		moved |= flush (p);
	}
	TAILQ_FOREACH (p, &k->blocked, blocked_entry)
		untold |= !p->by->tells;
	if (untold && (moved || !loop_timer_pending (k->retry))) {
		k->retry_ms = moved ? RETRY_MIN_MS : k->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : k->retry_ms * 2;
		loop_timer_start (k->retry, k->retry_ms, false);
	}
	flush_carriers (k);
}

void link_outbox_clear (struct link_peer *p)
{
	struct link_outbox *o = &p->out;
	for (size_t i = 0; i < o->count; i++)
		zmq_msg_close (&at (o, i)->m);
	free (o->ring);
	buf_fini (&o->pack);
	*o = (struct link_outbox) { 0 };
	buf_init (&o->pack, 0);
	p->congested = p->relieved = false;
}

void link_outbox_unlist (struct link_peer *p)
{
	if (p->dirty)
		TAILQ_REMOVE (&p->k->dirty, p, dirty_entry);
	if (p->todo)
		TAILQ_REMOVE (&p->k->todo, p, todo_entry);
	p->dirty = p->todo = false;
	unlate (p);
	unblock (p);
}

void link_todo (struct link_peer *p)
{
	if (!p->todo) {
		p->todo = true;
		TAILQ_INSERT_TAIL (&p->k->todo, p, todo_entry);
	}
	loop_defer_schedule (p->k->chores);
}

/* ---- public --------------------------------------------------------------------------------------------------- */

static void send_record (struct link_peer *p, enum wire_type type, zmq_msg_t *record, bool soon)
{
	if (p->state == PEER_UP) {
		push (p, (uint8_t) type, record, soon);
		return;
	}
	zmq_msg_close (record);		/* the session is over: dropped like what was queued */
	zmq_msg_init (record);
}

void link_send (struct link_peer *p, enum wire_type type, zmq_msg_t *record)
{
	send_record (p, type, record, false);
}

void link_send_soon (struct link_peer *p, enum wire_type type, zmq_msg_t *record)
{
	send_record (p, type, record, true);
}

void link_send_bytes (struct link_peer *p, enum wire_type type, const void *data, size_t n)
{
	if (p->state == PEER_UP)
		link_outbox_bytes (p, (uint8_t) type, data, n);
}

void link_send_id (struct link_peer *p, enum wire_type type, const struct id *id)
{
	if (p->state == PEER_UP)
		pack_id (p, (uint8_t) type, id);
}

void link_flush (struct link *k)
{
	link_outbox_flush_dirty (k);
}

bool link_congested (const struct link_peer *p)
{
	return p->congested;
}

size_t link_queued_bytes (const struct link_peer *p)
{
	return p->out.bytes;
}

static void free_bytes (void *data, void *hint)
{
	(void) hint;
	free (data);
}

void link_msg_from_buf (zmq_msg_t *m, struct buf *b)
{
	size_t max = b->max;
	if (b->len == 0) {
		buf_fini (b);
		zmq_msg_init (m);
		return;
	}
	if (zmq_msg_init_data (m, b->data, b->len, free_bytes, NULL) < 0)
		abort ();
	buf_init (b, max);
}
