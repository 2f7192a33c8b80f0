/* SPDX-License-Identifier: Apache-2.0 */
/* Redis over hiredis' async API, on the loop: one connection that reconnects for ever with jitter.
 *
 * Commands given while it is down fail at once with ERR_UNAVAILABLE (the callback runs from the loop, never from
 * inside the call). Commands in flight when the connection drops get ERR_UNAVAILABLE too: their effect is unknown.
 * Order: replies come in the order of the commands. Commands of one burst leave in one write (a pipeline).
 * A command without answer for command_timeout_ms (blocking reads excepted) drops the connection.
 *
 * URL: "redis://[user:password@]host:port[/db]" or "unix:///path[?db=N]"; a password may also come from a file. */
#ifndef COMMON_RDS_H
#define COMMON_RDS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/loop.h"

struct rds;
struct redisReply;

struct rds_opts {
	const char *url;		/* copied */
	const char *password_file;	/* NULL = none; copied */
	int64_t command_timeout_ms;	/* 0 = 10,000 */
	size_t max_inflight_bytes;	/* bound on what is queued and unanswered; 0 = 256 MiB. Over it: ERR_LIMIT */
	/* Called after each (re)connect that is ready for commands, and after each loss. May be NULL. */
	void (*on_state) (struct rds *r, bool up, const char *why, void *arg);
	void *arg;
};

/* reply: borrowed, valid during the callback; NULL exactly when err is set (ERR_UNAVAILABLE, ERR_LIMIT, ERR_TIMEOUT).
 * A Redis error reply arrives as a reply of type REDIS_REPLY_ERROR with err NULL; rds_reply_error turns it into a
 * struct err (OOM -> ERR_LIMIT with FAULT_SITE; LOADING, READONLY, MASTERDOWN, CLUSTERDOWN -> ERR_UNAVAILABLE). */
typedef void rds_f (struct rds *r, struct redisReply *reply, const struct err *err, void *arg);

struct rds *rds_create (struct loop *l, const struct rds_opts *opts, struct err *err); /* connects in the background */
void rds_destroy (struct rds **r);		/* pending callbacks run with ERR_UNAVAILABLE */
bool rds_up (const struct rds *r);
/* 0 while it is up; else -1, and *err tells the operator which address, why, and what to do (never a password). */
int rds_check (const struct rds *r, struct err *err);
int rds_reply_error (const struct redisReply *reply, struct err *err); /* -1 and *err when it is an error reply, else 0 */
/* For callbacks: err, or what an error reply says, in *room; NULL: neither. */
const struct err *rds_error (const struct redisReply *reply, const struct err *err, struct err *room);
/* The value of a name in an array of names and values, as XINFO and stream entries have it; NULL: no such name, or no array. Borrowed from map. */
const struct redisReply *rds_member (const struct redisReply *map, const char *name);

/* argv/len: borrowed during the call. cb NULL: the reply is dropped (error replies are logged, rate-limited). */
void rds_command (struct rds *r, rds_f *cb, void *arg, int argc, const char **argv, const size_t *len);
/* hiredis format: %s %b %d ... (a %b takes pointer and size_t). */
void rds_commandf (struct rds *r, rds_f *cb, void *arg, const char *fmt, ...);
/* A blocking read (XREADGROUP BLOCK, BLPOP): exempt from the command timeout. Use a connection of its own. */
void rds_blocking (struct rds *r, rds_f *cb, void *arg, int argc, const char **argv, const size_t *len);

/* Scripts by SHA: EVALSHA, and EVAL once when Redis answers NOSCRIPT (restart, flush). A script is a static object. */
struct rds_script { const char *name; const char *body; char sha[41]; /* filled on first use */ };
void rds_script (struct rds *r, struct rds_script *s, rds_f *cb, void *arg, int nkeys, int argc, const char **argv,
		 const size_t *len);	/* argv: keys first, then arguments */

/* Subscriptions: a connection used for rds_subscribe takes no other commands; it subscribes again after a reconnect,
 * and then calls on_state (up), after which messages flow: look at what you may have missed there. */
typedef void rds_message_f (struct rds *r, const char *channel, const char *msg, size_t n, void *arg);
void rds_subscribe (struct rds *r, const char *channel, rds_message_f *cb, void *arg);
/* The same; standing (arg) is called when Redis has confirmed it, now and after each reconnect: what is published from then on arrives. */
void rds_subscribe_told (struct rds *r, const char *channel, rds_message_f *cb, loop_f *standing, void *arg);
/* No more messages of this channel. May be called in its callbacks. The last subscription of a connection must stay. */
void rds_unsubscribe (struct rds *r, const char *channel);

#endif
