/* SPDX-License-Identifier: Apache-2.0 */
/* A link: ZeroMQ sockets on the loop that speaks SPEC.md sections 1 and 2, so that the programs deal with sessions and
 * records only. Negotiation, epochs, heartbeats, dead peers, fencing, CURVE and ZAP, batching and malformed input live here.
 *
 * Batching: link_send queues a record to a peer; all records of one type that were queued in a burst leave as one message when the
 * burst ends (a deferred call), or at 4,096 records or 1 MiB. Order of records to one peer is kept, across types too.
 *
 * Memory: what a peer does not take is bounded by max_queued_bytes per peer; over it link_send still queues (nothing accepted is
 * lost) but link_congested is true and on_relief is called when it falls under half: stop producing meanwhile. */
#ifndef PROTO_LINK_H
#define PROTO_LINK_H
#include <zmq.h>
#include "common/loop.h"
#include "proto/msg_session.h"

struct link;
struct link_peer;

struct link_ops {
	/* Listener: judge a HELLO (its slices are borrowed). Fill what WELCOME carries beyond the defaults of link_opts. Return 0, or -1 with *err:
	 * REJECT carries code and text. peer is new; link_peer_set_data may be called. NULL = accept all. */
	int (*on_hello) (struct link_peer *peer, const struct msg_hello *hello, struct msg_welcome *welcome, void *arg, struct err *err);
	/* The session is up. Dialler: welcome is set, hello NULL; listener: the other way round. Send what a new session needs. */
	void (*on_up) (struct link_peer *peer, const struct msg_hello *hello, const struct msg_welcome *welcome, void *arg);
	/* The session ended; the peer is destroyed after the call (listener) or will try again (dialler). Queued records are dropped. */
	void (*on_down) (struct link_peer *peer, const char *why, void *arg);
	/* Dialler only: the listener refused us (code, text); it is tried again with back-off all the same. May be NULL. Also when it ended the
	 * session for good reason: ERR_CONFLICT another process took our id, ERR_FORBIDDEN our key was removed. And what no listener
	 * says: ERR_FORBIDDEN our key failed the handshake, ERR_UNAVAILABLE no handshake (twice in a row) or no answer to HELLO. */
	void (*on_reject) (struct link *l, int code, const char *text, void *arg);
	/* A message of the session, all records present, header checked, records not decoded. Records may be taken with zmq_msg_move.
	 * Return -1 with *err for malformed records: counted against the peer. */
	int (*on_message) (struct link_peer *peer, const struct wire_header *h, zmq_msg_t *records, size_t n, void *arg, struct err *err);
	void (*on_burst_end) (void *arg);	/* after each burst of messages; may be NULL */
	void (*on_relief) (struct link_peer *peer, void *arg);	/* may be NULL */
	/* Called before each heartbeat is sent, to add CAPACITY and the like; may be NULL. */
	void (*on_heartbeat) (struct link_peer *peer, void *arg);
};

struct link_opts {
	const char *name;		/* for logs: "endpoint", "managers"; copied */
	const struct link_ops *ops;	/* borrowed for life */
	void *arg;
	int64_t heartbeat_ms;		/* 0 = 2,000; the listener's go to the dialler with WELCOME */
	int64_t threshold_ms;		/* 0 = 10,000 */
	uint32_t max_payload_bytes, max_result_bytes;	/* for WELCOME; 0 = 10 MiB */
	size_t max_frame_bytes;		/* ZMQ_MAXMSGSIZE; 0 = WIRE_MAX_RECORD */
	size_t max_queued_bytes;	/* per peer; 0 = 64 MiB */
	size_t max_peers;		/* listener; 0 = 16,384 */
	/* CURVE, Z85 text of 40 characters; NULL = plain (ipc only). The listener needs its own pair, the dialler the server's key too. With keys, an
	 * ipc address is for processes of the same user: the kernel says whose they are, and they say which key they have. SPEC.md, section 2.2. */
	const char *public_key, *secret_key, *server_key;
	struct msg_hello hello;		/* dialler: what it says of itself; slices are copied */
	const struct id *bulk;		/* our bulk store's id, copied; NULL = none */
	/* Dialler: an ipc address where the same listener may be, tried first at each attempt, but for the one after it did not answer there; copied. */
	const char *local;
};

/* One context per process, borrowed. */
struct link *link_listen (struct loop *l, void *zctx, const char *const *addresses, const struct link_opts *o, struct err *err);
/* A listener that has no ipc address yet: from now on at this one, too. -1: it goes on as before. */
int link_listen_within (struct link *k, const char *address, struct err *err);
const char *link_address (const struct link *k);	/* last bound endpoint, with its real port; borrowed */
/* Listener with CURVE: which keys may connect (Z85); replaces the list. Sessions of removed keys end. */
int link_allow_keys (struct link *k, const char *const *z85, size_t n, struct err *err);

struct link *link_dial (struct loop *l, void *zctx, const char *address, const struct link_opts *o, struct err *err);
/* Dialler: another address or server key (the listener moved); takes effect with the next attempt, at once when not connected. */
int link_redial (struct link *k, const char *address, const char *server_key, struct err *err);
/* Dialler: what HELLO says of slots, from the next session on. */
void link_set_slots (struct link *k, uint32_t slots);
struct link_peer *link_peer (struct link *k);		/* dialler: its peer when up, else NULL */

/* Queue one record. record: transferred (the message is left empty and initialised). */
void link_send (struct link_peer *p, enum wire_type type, zmq_msg_t *record);
/* The same for a record that others will follow at once: it leaves with them, or after a millisecond. */
void link_send_soon (struct link_peer *p, enum wire_type type, zmq_msg_t *record);
/* Queue a copy of small bytes. */
void link_send_bytes (struct link_peer *p, enum wire_type type, const void *data, size_t n);
void link_send_id (struct link_peer *p, enum wire_type type, const struct id *id);	/* packed: many ids share one frame; RESULT_ACK may wait 10 ms */
void link_flush (struct link *k);			/* now, instead of at the burst's end */
bool link_congested (const struct link_peer *p);
size_t link_queued_bytes (const struct link_peer *p);

void link_peer_close (struct link_peer *p, int code, const char *text);	/* BYE; on_down follows from the loop */
void link_peer_set_data (struct link_peer *p, void *data);
void *link_peer_data (const struct link_peer *p);
const struct id *link_peer_id (const struct link_peer *p);
uint64_t link_peer_instance (const struct link_peer *p);
int link_peer_major (const struct link_peer *p);
int link_peer_minor (const struct link_peer *p);	/* what both know of that major */
bool link_peer_bulk (const struct link_peer *p);	/* both see the same bulk store: references may be sent */
const char *link_peer_key (const struct link_peer *p);	/* listener with CURVE: the key it connected with (Z85), else "" */
bool link_peer_within (const struct link_peer *p);	/* it came over a Unix socket */
uint64_t link_epoch (const struct link_peer *p);

/* Back-pressure: no messages are read while stopped. */
void link_pause (struct link *k, bool paused);
/* BYE to all, what is queued is sent for at most linger_ms (it blocks that long only for peers that do not read; some milliseconds for others,
 * link.c). No callbacks any more: data set on peers is the caller's to free. May be called from a callback, also for the link that calls. */
void link_destroy (struct link **k, int64_t linger_ms);

struct link_stats { uint64_t messages_in, messages_out, records_in, records_out, malformed, rejected, sessions; };
void link_stats (const struct link *k, struct link_stats *out);

/* A zmq message that holds the buffer's bytes without a copy; b is emptied. Aborts on no memory. */
void link_msg_from_buf (zmq_msg_t *m, struct buf *b);

#endif
