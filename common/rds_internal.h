/* SPDX-License-Identifier: Apache-2.0 */
/* Between rds.c (commands), rds_conn.c (the connection and its states) and rds_url.c. */
#ifndef COMMON_RDS_INTERNAL_H
#define COMMON_RDS_INTERNAL_H
#include "common/rds.h"

#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <sys/queue.h>

struct event;

/* For the operator, wherever it is said that a Redis cannot be used. */
#define RDS_TODO "start Redis there, or correct redis.url or redis.password_file"

struct rds_url {
	char *host;	/* owned; NULL for a unix socket */
	int port;
	char *path;	/* owned; of the unix socket */
	char *user, *password; /* owned; NULL = none */
	char *address;	/* owned; where it is, for people: host:port, or the path */
	int db;
};

int rds_url_parse (struct rds_url *u, const char *url, struct err *err);
void rds_url_fini (struct rds_url *u);

enum rds_state {
	RDS_DOWN,	/* no context; `retry` is pending */
	RDS_CONNECTING,	/* `hello` limits its time */
	RDS_HELLO,	/* AUTH, PING until PONG, SELECT, SUBSCRIBE; only internal commands */
	RDS_UP,
	RDS_CLOSING,	/* the context frees itself when hiredis' callback returns */
};

struct rds_cmd {
	TAILQ_ENTRY (rds_cmd) link; /* of inflight (owned by hiredis too, as its privdata) or of failed */
	struct rds *r;
	rds_f *cb;
	void *arg;
	size_t bytes;		/* counted in inflight_bytes */
	int64_t sent_at_ms;
	bool blocking;
	bool internal;		/* ours: allowed in RDS_HELLO, no callback on failure */
	bool abandoned;		/* answered by rds_destroy; hiredis has yet to let go */
	enum err_code code;	/* why it failed */
	struct rds_script *script;
	char *args;		/* owned; a script's arguments in wire form behind SCRIPT_HEAD bytes, until answered */
	size_t args_bytes;
	int args_count, nkeys;
};

struct rds_sub {
	SLIST_ENTRY (rds_sub) link;
	struct rds *r;
	char *channel;		/* owned */
	rds_message_f *cb;
	loop_f *standing;	/* or NULL */
	void *arg;
	bool confirmed;
	bool held;		/* hiredis has a pointer to it: told to subscribe, and not yet through with unsubscribing */
	bool leaving;		/* UNSUBSCRIBE is on its way; what comes of it decides `wanted` */
	bool wanted;
};

struct rds {
	struct loop *loop;	/* borrowed */
	struct rds_url url;
	char *password_file;	/* owned; read at each connect, so that a rotated password is taken up */
	int64_t timeout_ms;
	size_t max_inflight_bytes;
	void (*on_state) (struct rds *r, bool up, const char *why, void *arg);
	void *arg;

	enum rds_state state;
	redisAsyncContext *ac;	/* frees itself; our cleanup hook nulls this */
	struct event *rev, *wev;
	bool write_armed;	/* wev is pending: the socket is full or connecting */
	bool flushing;		/* inside redisAsyncHandleWrite of the flush */
	size_t out_sent;	/* bytes at the front of hiredis' output that are sent already; it must not write while there are any */
	unsigned attempt;
	char why[200];		/* of the last loss */
	bool was_up;		/* on_state (true) was called for this connection */
	bool tell_down;		/* on_state (false) is to be delivered */
	bool destroyed, delivering;
	struct loop_timer *retry, *hello, *watch;
	struct loop_defer *deliver, *flush;

	TAILQ_HEAD (rds_cmds, rds_cmd) inflight, failed;
	size_t inflight_bytes;
	int64_t unblocked_at_ms; /* when the last blocking command was answered */
	SLIST_HEAD (, rds_sub) subs;
	int64_t sub_seen_ms;	/* when a subscribed connection last said something */
	int64_t sub_asked_ms;	/* when it was last asked for a sign of life */
	struct rds_script **loaded; /* owned; scripts sent in full on this connection */
	size_t nloaded;
};

/* rds.c */
void rds_sub_free (struct rds_sub *s);
void rds_internal_command (struct rds *r, rds_f *cb, int argc, const char **argv);
void rds_reply_arrived (redisAsyncContext *ac, void *reply, void *privdata);
void rds_watch_arm (struct rds *r);
void rds_free_if_done (struct rds *r);	/* r may be gone after it */

/* rds_conn.c */
void rds_conn_open (void *rds);
/* Lose the connection now, or when hiredis' callback returns. */
void rds_conn_drop (struct rds *r, const char *why);
void rds_conn_flush (void *rds);
void rds_conn_hello_tick (void *rds);
void rds_conn_subscribe (struct rds *r, struct rds_sub *s);
void rds_conn_unsubscribe (struct rds *r, struct rds_sub *s);

#endif
