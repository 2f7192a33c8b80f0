/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share:
 *
 *   server.c       listening, accepting, limits, the clock of all connections
 *   conn.c         one connection: frames in, the handshake, closing, frames out
 *   channel.c      what comes on a channel: consume, cancel, acknowledge
 *   consumer.c     one consumer: hands out results, keeps what was not acknowledged
 *   queue.c        the queue: ids of ended tasks, from Redis, in order
 *   credentials.c  passwords for one connection
 *   codec.c        bytes
 *
 * Callbacks of Redis may come after the connection has gone: consumers and connections then stay, marked dead, until the last has come. */
#ifndef SERVICE_AMQP_INTERNAL_H
#define SERVICE_AMQP_INTERNAL_H
#include <openssl/types.h>
#include "service/amqp/codec.h"
#include "service/amqp/credentials.h"
#include "service/amqp/queue.h"
#include "service/amqp/server.h"
#include "service/app.h"

struct bufferevent;
struct event;
struct metric;

enum {
	AMQP_LISTENERS_MAX = 256,
	AMQP_IN_MAX = 16 * 1024,	/* payload of a frame from a client: none that we serve needs as much */
	AMQP_FRAME_OUT = 128 * 1024,	/* longest frame that we offer to send */
	AMQP_CHANNELS_MAX = 16,		/* of a connection */
	AMQP_CONSUMERS_MAX = 16,	/* of a connection */
	AMQP_TAG_MAX = 64,		/* a consumer's name */
	AMQP_OUT_HIGH = 256 * 1024,	/* no further result is fetched while that much waits to be read by the client */
	AMQP_OUT_LOW = 64 * 1024,
	AMQP_UNACKED_MAX = 10000,	/* results that a connection may hold without acknowledging; it gets no more then */
	AMQP_HANDSHAKE_MS = 10000,	/* from the connection to Connection.Open */
	AMQP_CLOSING_MS = 5000,		/* for the other side to agree to the end */
	AMQP_LEAVE_MS = 2000,		/* for a client to acknowledge what it has, when this process ends */
	AMQP_STALL_MS = 30000,		/* a client that reads nothing of what is there for it */
	AMQP_PER_USER = 4,		/* one user may have a fourth of the connections, and of the memory */
	AMQP_TOKEN_CHECK_MS = 1000,	/* least pause between looks whether the token is still good that the password was given for */
};

struct amqp_user { struct id id; size_t conns, out_bytes; };

struct amqp_server {
	struct app *app;
	struct loop_timer *tick, *drained_timer;
	struct event *listeners[AMQP_LISTENERS_MAX];
	int nlisteners, port;
	SSL_CTX *tls;			/* NULL: plain */
	struct amqp_conn *first, *last;	/* oldest first */
	size_t nconns, out_bytes;
	struct map *users;		/* id -> struct amqp_user */
	bool draining, paused, starved;	/* paused: not accepting; starved: somebody waits for memory */
	loop_f *drained;
	void *drained_arg;
	struct metric *m_conns, *m_out, *m_delivered, *m_acked, *m_refused;
};

enum amqp_state {
	CONN_PROTOCOL,	/* the header is expected */
	CONN_START,	/* StartOk */
	CONN_LOGIN,	/* the password is being looked up, nothing is read */
	CONN_TUNE,	/* TuneOk */
	CONN_VHOST,	/* Open */
	CONN_OPEN,
	CONN_CLOSING,	/* we said Close */
	CONN_FLUSHING,	/* what stands in the output, then the end */
};

struct amqp_channel {
	uint16_t number;
	bool closing;			/* we said Close */
	bool paused;			/* Flow */
	uint16_t prefetch, next_prefetch;	/* of the whole channel, and of consumers to come; 0 = no limit */
	uint64_t last_tag;
	uint64_t forgotten_tag;		/* up to here some tags are of consumers that were cancelled */
	size_t unacked;
	struct amqp_consumer *consumers;
};

struct amqp_conn {
	struct amqp_server *server;
	struct amqp_conn *prev, *next;
	struct bufferevent *bev;	/* NULL: dead */
	enum amqp_state state;
	int pending;			/* callbacks to come */
	bool dead, refuses_close, waiting;	/* waiting: for memory of the server */
	int64_t deadline_ms;		/* of this state; 0 = none */
	int64_t leave_ms;		/* draining: not longer */
	int64_t heard_ms, sent_ms, progress_ms, token_checked_ms;
	uint32_t heartbeat_s, frame_max;
	struct amqp_user *user;		/* NULL before login */
	uint8_t token[32];		/* hash of the token; zero: none to look for */
	size_t out_bytes;		/* counted at server and user */
	size_t unacked;
	unsigned nconsumers;
	struct amqp_channel *channels[AMQP_CHANNELS_MAX];
	char peer[64];
};

/* server.c */
void amqp_server_left (struct amqp_server *s);			/* a connection has gone */
void amqp_server_room (struct amqp_server *s);			/* some memory is free again */

/* conn.c */
void amqp_conn_create (struct amqp_server *s, int fd, const char *peer);
void amqp_conn_destroy (struct amqp_conn *c);
void amqp_conn_send (struct amqp_conn *c, struct buf *b);		/* b: emptied */
/* Close it with a reason, which is logged and told to the client. method: that caused it, or 0. */
void amqp_conn_fail (struct amqp_conn *c, enum amqp_code code, uint32_t method, const char *fmt, ...) __attribute__ ((format (printf, 4, 5)));
/* This process ends: it is asked to connect elsewhere when it has acknowledged what it was given. The SDK does that twice a second, and its
 * Executor does not survive an end of the connection in between. */
void amqp_conn_leave (struct amqp_conn *c);
void amqp_conn_tick (struct amqp_conn *c, int64_t now_ms);
void amqp_conn_pump (struct amqp_conn *c);				/* go on delivering */
bool amqp_conn_room (struct amqp_conn *c);				/* may another result be fetched for it? */

/* channel.c */
void amqp_channel_frame (struct amqp_conn *c, const struct amqp_frame *f);
void amqp_channel_destroy (struct amqp_channel **ch);
void amqp_channel_fail (struct amqp_conn *c, struct amqp_channel *ch, enum amqp_code code, uint32_t method, const char *fmt, ...)
	__attribute__ ((format (printf, 5, 6)));

/* consumer.c */
struct amqp_consumer;
struct amqp_consumer *amqp_consumer_create (struct amqp_conn *c, struct amqp_channel *ch, const struct id *group, const struct amqp_method *m);
void amqp_consumer_destroy (struct amqp_consumer *u);
struct amqp_consumer *amqp_consumer_next (const struct amqp_consumer *u);
bool amqp_consumer_named (const struct amqp_consumer *u, struct amqp_str tag);
void amqp_consumer_pump (struct amqp_consumer *u);
enum consumer_verdict { CONSUMER_ACK, CONSUMER_REQUEUE };
/* Results with that tag, or all up to it, are dealt with; were there any? */
bool amqp_consumer_settle (struct amqp_consumer *u, uint64_t tag, bool multiple, enum consumer_verdict v);

#endif
