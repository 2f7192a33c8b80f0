/* SPDX-License-Identifier: Apache-2.0 */
/* The managers that are connected: their sessions, what each has in hand and how much it takes. Decisions are dispatch.c's. */
#ifndef ENDPOINT_MANAGERS_H
#define ENDPOINT_MANAGERS_H
#include "common/loop.h"
#include "common/map.h"
#include "endpoint/images.h"
#include "endpoint/keys.h"
#include "endpoint/queue.h"
#include "endpoint/route.h"
#include "endpoint/warm.h"
#include "proto/msg_capacity.h"
#include "proto/msg_result.h"
#include "proto/msg_session.h"

struct manager {
	struct route_node node;		/* first: a node is its manager */
	struct managers *all;
	struct link_peer *peer;		/* borrowed while connected */
	struct id id;
	char name[128], block[32], version[32];
	uint32_t pid;
	struct queue_list tasks;	/* what it has, oldest first */
	struct map *functions;		/* ids it was sent in this session */
	struct map *wanted;		/* ids it misses and we do too */
	struct map *strange;		/* ids of tasks that it has, and of which we do not know whether they will come to us */
	struct warm *warm;		/* its containers */
	struct images *images;		/* and what they would be started from */
	struct lane *lane;		/* its block is made for this image (dispatch_lanes.c); NULL = for none */
	bool draining;
	bool knows_nodes;		/* its version takes tasks that have nodes of their own */
	struct gang *gang;		/* with others it has one task (gang.h); NULL = none */
	bool reserved;			/* nothing new: it is kept for a gang */
	int64_t idle_since_ms;		/* 0 = has tasks */
	uint64_t done;
	char why[200];			/* set before it is closed: overrides the link's reason */
	struct manager *prev, *next;
};

struct managers_ops {
	void (*up) (struct manager *m, void *arg);
	void (*down) (struct manager *m, const char *why, void *arg);		/* m is freed after the call */
	void (*coming) (const struct id *task, void *arg);	/* it will be named in another call soon */
	void (*result) (struct manager *m, zmq_msg_t *record, const struct id *task, void *arg);	/* record may be moved */
	void (*state) (struct manager *m, const struct msg_task_state *s, const void *p, size_t n, void *arg);
	void (*output) (struct manager *m, const struct msg_output *o, const void *p, size_t n, void *arg);
	void (*returned) (struct manager *m, const struct id *task, void *arg);
	void (*missing) (struct manager *m, const struct id *function, void *arg);
	void (*capacity) (struct manager *m, const struct msg_capacity *c, void *arg);
	void (*container) (struct manager *m, const struct msg_container_state *s, void *arg);
	void (*image) (struct manager *m, const struct msg_image *i, void *arg);
	void (*drain) (struct manager *m, bool start, void *arg);
	void (*relief) (struct manager *m, void *arg);
	void (*burst_end) (void *arg);
};
struct managers_opts {
	const char *address;		/* ipc://... or tcp://host:* */
	const struct keys *keys;	/* ours, for tcp; NULL for ipc */
	const char *manager_key;	/* the public key that managers use, for tcp */
	int64_t heartbeat_ms, threshold_ms;
	uint32_t max_payload_bytes, max_result_bytes;
	const struct id *bulk;		/* of our bulk store; NULL = none */
	const struct managers_ops *ops;
	void *arg;
};
struct managers;
struct managers *managers_create (struct loop *l, void *zctx, const struct managers_opts *o, struct err *err);
void managers_destroy (struct managers **ms, int64_t linger_ms);	/* without calls of `down` */
const char *managers_address (const struct managers *ms);		/* to connect to; borrowed */
struct manager *managers_first (const struct managers *ms);		/* then m->next */
size_t managers_count (const struct managers *ms);
/* End its session; `down` follows with this reason. */
void managers_close (struct manager *m, const char *why);

#endif
