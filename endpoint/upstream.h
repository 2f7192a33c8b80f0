/* SPDX-License-Identifier: Apache-2.0 */
/* The session with the forwarder: messages are checked whole, then handed on record by record. CAPACITY is sent when asked for,
 * gathered over 5 ms, and with each heartbeat. */
#ifndef ENDPOINT_UPSTREAM_H
#define ENDPOINT_UPSTREAM_H
#include <zmq.h>
#include "common/loop.h"
#include "endpoint/keys.h"
#include "proto/msg_capacity.h"
#include "proto/msg_function.h"
#include "proto/msg_session.h"
#include "proto/msg_task.h"

struct upstream;
struct upstream_ops {
	void (*up) (const struct msg_welcome *welcome, void *arg);
	void (*down) (const char *why, void *arg);
	void (*refused) (int code, const char *text, void *arg);
	void (*function) (zmq_msg_t *record, const struct id *id, void *arg);		/* record may be moved */
	void (*coming) (const struct id *task, void *arg);	/* it will be named in another call soon */
	void (*task) (zmq_msg_t *record, const struct msg_task *m, void *arg);		/* record may be moved */
	void (*acked) (const struct id *task, void *arg);
	void (*cancel) (const struct id *task, void *arg);
	void (*follow) (const struct id *task, void *arg);	/* somebody looks at what it prints */
	void (*drain) (const struct msg_drain *m, void *arg);
	void (*burst_end) (void *arg);
	void (*relief) (void *arg);
	void (*capacity) (struct msg_capacity *out, void *arg);			/* one is due: fill it */
};
struct upstream_opts {
	struct id id;
	const char *name;		/* of this host; copied */
	const char *runtime;		/* JSON; copied */
	const struct keys *keys;	/* copied */
	const struct id *bulk;		/* of our bulk store; copied; NULL = none */
	const char *local;		/* where the forwarder may listen on this host, an ipc address; copied; NULL = nowhere */
	const struct upstream_ops *ops;	/* borrowed for life */
	void *arg;
};
struct upstream *upstream_create (struct loop *l, void *zctx, const struct upstream_opts *o, struct err *err);
void upstream_destroy (struct upstream **u, int64_t linger_ms);		/* BYE */
/* Where the forwarder is; the first call dials, later ones dial there when it changed. */
int upstream_address (struct upstream *u, const char *address, const char *server_key, int64_t heartbeat_ms, struct err *err);
bool upstream_up (const struct upstream *u);
int upstream_major (const struct upstream *u);		/* of the session; without one the highest */
bool upstream_bulk (const struct upstream *u);		/* may it be sent references? */
bool upstream_congested (const struct upstream *u);
void upstream_slots (struct upstream *u, uint32_t slots);
/* Without a session these drop what they are given: results stay in the spool, the rest is stale by the next session. */
void upstream_send (struct upstream *u, enum wire_type type, zmq_msg_t *record);	/* transferred */
void upstream_bytes (struct upstream *u, enum wire_type type, const void *p, size_t n);
void upstream_id (struct upstream *u, enum wire_type type, const struct id *id);
void upstream_capacity_changed (struct upstream *u);

#endif
