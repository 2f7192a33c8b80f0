/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the link: what link.c and the link_*.c files share. Nobody else includes this.
 *
 *   link.c          life of a link, heartbeats and silence, the public calls
 *   link_zmq.c      the carrier over libzmq: a ROUTER or DEALER with its options, its monitor
 *   link_ipc.c      the carrier within a host, without libzmq's threads (ipc.h)
 *   link_inbox.c    one message, checked in the order of SPEC.md section 1
 *   link_session.c  HELLO, WELCOME, REJECT, BYE: sections 2 and 2.1
 *   link_outbox.c   queued records, merged into messages
 *   link_dial.c     the dialler's connection: attempts, back-off
 *   link_zap.c      which CURVE keys may connect: section 2.2
 *   link_table.c    peers of a listener by carrier and routing id
 *
 * A listener may have both carriers at once, each for the addresses that are its; a dialler has one at a time.
 *
 * Callbacks run only between link_enter and link_leave, and never below link_send or link_flush: what those find out (a peer is gone,
 * a queue became short) is put on `todo` and told from the loop. A callback may destroy the link: then `muted` is set, no further
 * callback is made, and link_leave frees it. */
#ifndef PROTO_LINK_INTERNAL_H
#define PROTO_LINK_INTERNAL_H
#include <sys/queue.h>
#include "common/map.h"
#include "common/zev.h"
#include "proto/link.h"

struct ipc;

enum {
	LINK_HELLO_MS = 1000,		/* HELLO is repeated */
	LINK_MALFORMED_MAX = 16,	/* then the session ends */
	LINK_BATCH_BYTES = 1 << 20,	/* of one message, unless a record alone is larger */
	LINK_PACK_IDS = 4096,		/* ids in one record frame: 64 KiB */
	LINK_KEY_TEXT = 41,		/* Z85 of 32 bytes and the NUL */
	LINK_KEY_BYTES = 32,
	LINK_REJECTS_PER_S = 1000,	/* answers to peers without session */
	LINK_WHY_MAX = 256,
	LINK_BURST_RECORDS = 1024,	/* then what they lead to is done: it is still in the processor's cache, and other sockets get their turn */
};

#define LINK_IPC "ipc://"
#define LINK_CARRIERS 2

struct link_rec { zmq_msg_t m; uint8_t type; bool bare; /* no record frame: HEARTBEAT */ };

/* A ring of records, and ids of one type that are still being packed: they follow the ring's last. */
struct link_outbox {
	struct link_rec *ring;
	size_t cap, head, count;	/* cap: 0 or a power of two */
	size_t bytes;			/* with LINK_REC_COST for each record */
	struct buf pack;
	uint8_t pack_type;
};
#define LINK_REC_COST sizeof (struct link_rec)

enum link_peer_state { PEER_DOWN, PEER_NEW, PEER_UP, PEER_CLOSING };

struct link_peer {
	struct link *k;			/* borrowed */
	enum link_peer_state state;
	const struct link_carrier *by;	/* what carries its messages */
	uint32_t rid;			/* listener: its routing id there */
	int major, minor;
	struct id id;
	uint64_t instance, epoch;
	uint32_t seq;
	unsigned malformed;
	int64_t heard_ms, sent_ms;
	void *data;			/* borrowed */
	char key[LINK_KEY_TEXT];
	char why[LINK_WHY_MAX];		/* PEER_CLOSING: for on_down */
	int64_t linger_ms;		/* dialler: what its socket may still send after the session */
	uint8_t *welcome;		/* listener: the record, for a repeated HELLO; owned */
	size_t welcome_bytes;
	struct link_outbox out;
	bool bulk;			/* the session has MSG_CAP_BULK */
	bool congested, relieved;
	bool dirty, late, blocked, todo;	/* on which lists it is */
	TAILQ_ENTRY (link_peer) all_entry, dirty_entry, late_entry, blocked_entry, todo_entry;
};
TAILQ_HEAD (link_peers, link_peer);

/* Open addressing from a carrier and its routing id to the peer. */
struct link_table { struct link_peer **slot; size_t cap, size; };

enum link_dial_state { DIAL_IDLE, DIAL_CONNECTING, DIAL_UP };

struct link_dial {
	enum link_dial_state state;
	char *address, *local;		/* owned; local: of this host, tried first; NULL = none */
	char *via;			/* owned: a copy of the one that this attempt dials; it stays when address is another */
	bool within;			/* that is local */
	bool silent;			/* who listens at local did not answer, or refused us for good: the next attempt is not to him */
	char server_key[LINK_KEY_TEXT];
	unsigned attempt;		/* in a row without a lasting session */
	unsigned bad_handshakes;	/* in a row */
	bool connected, secured;	/* secured: the handshake is over */
	int64_t opened_ms, up_ms;
	struct loop_timer *timer;	/* IDLE: the pause; CONNECTING: HELLO again */
	struct link_peer *self;		/* the one peer; owned; lives as long as the link */
	struct msg_hello hello;
	char *hello_text;		/* owned: the slices of hello */
};

/* What carries the messages of a link. All are called with the link's own state in order; what they find out they tell by link_inbox_take,
 * link_burst_end, link_outbox_retry, link_dial_* and link_socket_died. */
struct link_carrier {
	/* At those of the addresses that are its own, at least one; sets k->endpoint if it has none. */
	int (*listen) (struct link *k, const char *const *addresses, struct err *err);
	int (*dial) (struct link *k, struct err *err);		/* one attempt at k->dial.via */
	void (*close) (struct link *k, int64_t linger_ms);	/* nothing is told afterwards; again is fine */
	void (*pause) (struct link *k);				/* k->paused has changed */
	/* One message: begin, its h->count record frames, then, perhaps after other messages, flush. begin: 0, or -1 with errno EAGAIN (it takes
	 * none now) or EHOSTUNREACH. frame: takes m; -1: the socket is gone. */
	int (*begin) (struct link *k, uint32_t rid, const struct wire_header *h);
	int (*frame) (struct link *k, zmq_msg_t *m, bool more);
	void (*flush) (struct link *k);
	void (*blocked) (struct link *k, bool some);	/* a peer to which begin said EAGAIN waits, or none does any more; may be NULL */
	void (*settle) (struct link *k);		/* before blocked peers are tried again; may be NULL */
	bool (*unsent) (struct link *k);		/* something that it took has not left, as far as it knows */
	bool tells;			/* calls link_outbox_retry when a blocked peer takes messages: nobody has to try */
	int parting_ms;			/* how long what was sent needs to leave, at most, where nothing tells when it has */
};
extern const struct link_carrier link_over_zmq, link_over_ipc;

struct link {
	struct loop *loop;		/* borrowed */
	void *zctx;			/* borrowed */
	const struct link_ops *ops;	/* borrowed */
	void *arg;
	char *name;
	struct id bulk;			/* our store's; zero = none */
	bool listener, paused, muted;
	int in_call;
	int64_t linger_ms;		/* of a destroy from inside a callback */
	int64_t heartbeat_ms, threshold_ms, sweep_ms, swept_ms;
	uint32_t max_payload_bytes, max_result_bytes;
	size_t max_frame_bytes, max_queued_bytes, max_peers;
	int hwm;
	bool curve;
	char public_key[LINK_KEY_TEXT], secret_key[LINK_KEY_TEXT];
	char domain[32];		/* ZAP */
	char *endpoint;
	const struct link_carrier *carriers[LINK_CARRIERS + 1];	/* in use; then NULL. The first one's address is endpoint */
	bool open;			/* a carrier has a socket */
	struct {
		void *sock, *mon;
		unsigned gen;		/* counts sockets: a callback sees that its own is gone */
		struct zev *zev, *mon_zev;
		zmq_msg_t *frames;	/* of the message that is read: all initialised */
		size_t cap;
	} zmq;				/* link_zmq.c */
	struct ipc *ipc;		/* link_ipc.c */
	size_t burst_records;		/* read in this burst */
	struct loop_timer *sweep, *retry, *acks;
	int acks_ms;			/* what acks was started with */
	int64_t retry_ms;
	struct loop_defer *flush, *chores;
	struct link_peers all, dirty, late, blocked, todo;	/* late: acknowledgements that wait for company */
	struct link_table table;	/* listener: by routing id */
	struct map *by_id;		/* listener: by peer id */
	size_t npeers;
	struct link_dial dial;
	uint8_t (*keys)[LINK_KEY_BYTES];	/* allowed, sorted; owned */
	size_t nkeys;
	struct zap *zap;
	struct link *zap_next;
	int64_t reject_s;		/* second that reject_n counts */
	unsigned reject_n;
	struct link_stats stats;
};

/* A message as it came; the frames are the carrier's, and may be moved from. */
struct link_in {
	const struct link_carrier *by;
	uint32_t rid;
	bool addressed, headed, overlong;	/* has a routing id of ours; has a header frame; more than WIRE_MAX_RECORDS */
	zmq_msg_t *head, *recs;
	size_t n;			/* of recs */
};

/* link.c */
void link_enter (struct link *k);
bool link_leave (struct link *k);		/* false: the link is gone */
const struct link_carrier *link_carrier_of (const char *address);
void link_sweep_start (struct link *k);
void link_burst_end (void *link);		/* carriers: all that was there is read, or LINK_BURST_RECORDS are */

/* link_inbox.c */
void link_inbox_take (struct link *k, const struct link_in *in);	/* checks and dispatches it */
void link_blame (struct link *k, struct link_peer *p, const char *what);

/* link_session.c */
void link_session_hello (struct link *k, struct link_peer *p, const struct link_in *in);
void link_session_answer (struct link *k, const struct wire_header *h, const struct link_in *in);	/* dialler: before WELCOME */
void link_session_control (struct link_peer *p, const struct wire_header *h, const struct link_in *in);
void link_session_refuse (struct link *k, const struct link_in *in, int code, const char *text);
/* The session is to end: says so to the peer (type 0: does not), tells on_down from the loop. */
void link_session_doom (struct link_peer *p, int type, int code, const char *why);
void link_session_down (struct link_peer *p);	/* now; from the loop only; a listener's peer is freed */
void link_peer_free (struct link_peer *p);

/* link_outbox.c */
void link_outbox_push (struct link_peer *p, uint8_t type, zmq_msg_t *record);	/* NULL: a bare message */
void link_outbox_bytes (struct link_peer *p, uint8_t type, const void *data, size_t n);
void link_outbox_flush (struct link_peer *p);
void link_outbox_flush_dirty (struct link *k);
void link_outbox_retry (struct link *k);		/* the blocked ones */
void link_outbox_late (struct link *k);			/* acknowledgements have waited long enough */
void link_outbox_clear (struct link_peer *p);
void link_outbox_unlist (struct link_peer *p);
void link_todo (struct link_peer *p);
/* One message outside of a session; may be lost. record: transferred. */
int link_post (struct link *k, const struct link_carrier *by, uint32_t rid, const struct wire_header *h, zmq_msg_t *record);

/* link_zmq.c */
void link_zmq_fini (struct link *k);		/* at the link's end: what it keeps from one socket to the next */

/* link_dial.c */
int link_dial_start (struct link *k, const char *address, const struct link_opts *o, struct err *err);
void link_dial_stop (struct link *k);
/* Carriers: the connection was made; its handshake is over, or was refused, or failed; it ended, after all that came over it was taken. */
void link_dial_connected (struct link *k);
void link_dial_secured (struct link *k);
void link_dial_refused (struct link *k);
void link_dial_insecure (struct link *k);
void link_dial_ended (struct link *k);
void link_dial_hello (struct link *k);		/* says it, once messages can be sent */
void link_dial_up (struct link *k, const struct msg_welcome *w, uint64_t epoch);
void link_dial_lost (struct link *k);		/* the session ended: calls on_down, tries again */
/* The attempt failed: tries again; report: on_reject is called. */
void link_dial_failed (struct link *k, int code, const char *text, bool report);

/* link_accept.c */
void link_accept_guard (void);			/* from now on this process refuses connections before it is out of descriptors */

/* link_zap.c */
struct zap;
int link_zap_join (struct link *k, struct err *err);
void link_zap_leave (struct link *k);
bool link_zap_allows (const struct link *k, const uint8_t key[LINK_KEY_BYTES]);
bool link_zap_allows_text (const struct link *k, const char *z85);

/* link_table.c */
struct link_peer *link_table_get (const struct link_table *t, const struct link_carrier *by, uint32_t rid);
void link_table_put (struct link_table *t, struct link_peer *p);
void link_table_del (struct link_table *t, const struct link_peer *p);
void link_table_fini (struct link_table *t);

#endif
