/* SPDX-License-Identifier: Apache-2.0 */
/* The session with the agent (weft-endpoint): what it sends is checked whole, then handed on record by record. */
#ifndef MANAGER_UPSTREAM_H
#define MANAGER_UPSTREAM_H
#include <zmq.h>
#include "common/loop.h"
#include "proto/msg_capacity.h"
#include "proto/msg_function.h"
#include "proto/msg_session.h"
#include "proto/msg_task.h"

struct upstream;
struct upstream_ops {
	void (*up) (const struct msg_welcome *welcome, void *arg);
	void (*down) (const char *why, void *arg);
	void (*function) (zmq_msg_t *record, const struct msg_function *m, void *arg);	/* record may be moved */
	void (*task) (zmq_msg_t *record, const struct msg_task *m, void *arg);		/* record may be moved */
	void (*cancel) (const struct id *task, void *arg);
	void (*follow) (const struct id *task, void *arg);
	void (*acked) (const struct id *task, void *arg);
	void (*image) (const struct id *function, void *arg);	/* which one would a call of it run from now? */
	void (*drain) (const struct msg_drain *m, void *arg);
	void (*capacity_due) (void *arg);		/* a heartbeat is about to be sent */
};
struct upstream_opts {
	const char *address, *node, *block;		/* copied */
	const char *server_key;				/* Z85; NULL = plain */
	const char *public_key, *secret_key;		/* with server_key */
	const struct id *bulk;				/* of our bulk store; NULL = none */
	unsigned slots;
	int64_t heartbeat_ms, threshold_ms;		/* until the agent's come with WELCOME; 0 = the link's */
	const struct upstream_ops *ops;			/* borrowed for life */
	void *arg;
};
struct upstream *upstream_create (struct loop *l, void *zctx, const struct upstream_opts *o, struct err *err);
void upstream_destroy (struct upstream **u, int64_t linger_ms);
bool upstream_up (const struct upstream *u);
int upstream_major (const struct upstream *u);		/* of the session; without one the highest */
bool upstream_bulk (const struct upstream *u);		/* may it be sent references? */
bool upstream_congested (const struct upstream *u);	/* it reads more slowly than we send */
/* Without a session these do nothing: results are kept by the caller, the rest is stale by the next session. */
void upstream_result (struct upstream *u, zmq_msg_t *frame);		/* a second reference is sent */
void upstream_record (struct upstream *u, enum wire_type type, zmq_msg_t *record);	/* transferred */
void upstream_id (struct upstream *u, enum wire_type type, const struct id *id);
void upstream_capacity (struct upstream *u, const struct msg_capacity *m);
void upstream_state (struct upstream *u, const struct msg_task_state *m);
void upstream_container (struct upstream *u, const struct msg_container_state *m);
void upstream_image (struct upstream *u, const struct msg_image *m);
void upstream_drain (struct upstream *u, bool begin, uint32_t grace_ms);

/* The manager's key pair for CURVE from a file: its first line that is 40 characters of Z85, or "secret = <those>", is the secret key.
 * A file that others can read is refused. */
int upstream_read_key (const char *path, char public_key[41], char secret_key[41], struct err *err);
/* The same from the environment; what stands there is wiped, so that functions do not find it in /proc. */
int upstream_take_key (const char *variable, char public_key[41], char secret_key[41], struct err *err);

#endif
