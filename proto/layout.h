/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in Redis: key names, the packed records, the scripts. SPEC.md, section 8. */
#ifndef PROTO_LAYOUT_H
#define PROTO_LAYOUT_H
#include "common/rds.h"
#include "proto/msg_result.h"

#define QUEUE_INLINE_MAX 16384	/* payloads over it stand in a key of their own */
#define DONE_INLINE_MAX 65536	/* result records over it are not sent through the channel */
#define LAYOUT_KEY_MAX 96	/* room for any key */
#define LAYOUT_INSTANCE 16	/* characters of a service instance's name */

#define LAYOUT_WATCH_NEW "1"	/* value of a group's watch key: tasks submitted from now on are flagged */
#define LAYOUT_WATCH_ALL "2"	/* and those that were there before have been flagged too */

/* kind: "task" "ep" "fn" "owner" "group"; suffix: "payload" "tasks" "control" "cancelled" "functions" "lease" "watch" "done" or NULL. Returns key's length. */
size_t layout_key (char key[LAYOUT_KEY_MAX], const char *kind, const struct id *id, const char *suffix);

struct layout_meta {
	struct id owner, function, endpoint, group;
	int64_t submitted_ns;
	uint32_t payload_bytes;
	bool payload_apart, payload_bulk;	/* bulk: apart, and in the bulk store instead of a key */
	bool watched;			/* its end goes into its group's stream */
};
#define LAYOUT_META_BYTES 78	/* with the state, a listpack of 96 bytes: one allocation class */
void layout_meta_encode (struct buf *b, const struct layout_meta *m);
int layout_meta_decode (struct layout_meta *m, const void *p, size_t n, struct err *err);

struct layout_queued {
	struct id task, function;
	int64_t received_ns, queued_ns;
	uint32_t time_limit_ms, max_result_bytes, payload_bytes;
	uint64_t memory_limit_bytes;
	uint16_t expected_s;		/* 0 = unknown; 65535 = so long or longer */
	bool payload_apart, payload_is_json, payload_bulk, fresh;	/* fresh: no earlier result */
	bool as_json, as_all;		/* TASK_AS_JSON, TASK_AS_ALL */
	struct wire_str payload;	/* empty when apart */
	struct wire_str files;		/* a list of msg_files.h; empty = none */
	struct wire_str resources;	/* a record of msg_resources.h; empty = none */
};
void layout_queued_encode (struct buf *b, const struct layout_queued *q);
int layout_queued_decode (struct layout_queued *q, const void *p, size_t n, struct err *err);
/* The task of a record that cannot be decoded: it stands at the same place in every version. -1: there is none. */
int layout_queued_task (const void *p, size_t n, struct id *task);

struct layout_done { struct id task; uint8_t state; struct wire_str record; /* empty: too large, fetch it */ };
int layout_done_decode (struct layout_done *d, const void *p, size_t n, struct err *err);

/* What is published when a task of a watched group ends. position: its id in the group's stream, as text. */
struct layout_ended { struct id task; uint8_t state; struct wire_str position, meta, record; /* record empty: too large, fetch it */ };
#define LAYOUT_POSITION_MAX 41	/* two numbers of 64 bits, and "-" */
int layout_ended_decode (struct layout_ended *d, const void *p, size_t n, struct err *err);

/* Scripts; see proto/lua. KEYS and ARGV are documented at the head of each file. */
extern struct rds_script layout_submit;		/* -> "OK" | error LIMIT <queued> | error GONE */
extern struct rds_script layout_store;		/* -> 1 stored | 0 another was first | -1 unknown task */
extern struct rds_script layout_undo;		/* -> 1 nothing is left | 0 nothing was done, the claim is another's */
extern struct rds_script layout_wait;		/* -> {m, s, r} after registering the waiter; nil when unknown */
extern struct rds_script layout_progress;	/* -> 1 raised | 0 not */
extern struct rds_script layout_acked;		/* -> 1 moved | 0 was as far already */
extern struct rds_script layout_lease;		/* acquire/renew/release -> 1 | 0 */
extern struct rds_script layout_peek;		/* -> {m, s, r or nil, size of r}; nil when unknown */
extern struct rds_script layout_watch;		/* -> how many tasks were flagged */
extern struct rds_script layout_deleted;	/* -> "OK" */
extern struct rds_script layout_emptied;	/* -> 1 gone | 0 not */

/* Convenience over the scripts, so that argument order lives in one place. */
struct layout_submit_task { struct id task; struct wire_str meta, queued; /* encoded records */ };
struct layout_submission {
	struct id owner, endpoint, group;
	bool group_key;			/* false: a lone task in its own group, no key */
	bool group_given;		/* it may be watched already */
	bool watch;			/* it shall be watched: the ends of these tasks, and of later ones */
	int64_t now_ns;
	uint64_t max_queued;		/* of the endpoint; 0 = no limit */
	int64_t retention_ms;		/* how long owner and group lists keep ids */
	const char *waiter;		/* instance to wake, or NULL */
	const struct layout_submit_task *tasks;
	size_t ntasks;			/* <= LAYOUT_SUBMIT_CHUNK */
};
#define LAYOUT_SUBMIT_CHUNK 500
/* The reply: rds_reply_error gives ERR_LIMIT when the endpoint's queue is full or Redis is out of memory, ERR_NOT_FOUND when Redis does not know the
 * endpoint as registered; nothing was stored then. */
void layout_submit_send (struct rds *r, const struct layout_submission *s, rds_f *cb, void *arg);
/* record: an encoded RESULT; state from its status. retention_ms: expiry of the task. */
void layout_store_send (struct rds *r, const struct id *task, int state, struct wire_str record, int64_t retention_ms,
			rds_f *cb, void *arg);
/* The same for a cancellation on request: the endpoint's forwarder is told in the same step. */
void layout_cancel_send (struct rds *r, const struct id *task, const struct id *endpoint, struct wire_str record, int64_t retention_ms,
			 rds_f *cb, void *arg);
/* A submission that was refused after some of its chunks: tasks, packed, of each endpoint. claim: NULL, or a key that goes with them if it begins with ours;
 * ours: but for its first byte nobody else's begins so. */
struct layout_undo_part { struct id endpoint; struct wire_str tasks; };
void layout_undo_send (struct rds *r, const char *claim, struct wire_str ours, const struct layout_undo_part *parts, size_t nparts, rds_f *cb, void *arg);
void layout_wait_send (struct rds *r, const struct id *task, const char *instance, rds_f *cb, void *arg);
void layout_progress_send (struct rds *r, const struct id *task, int state, rds_f *cb, void *arg);
/* record: an encoded OUTPUT, for those who follow the task. */
#define LAYOUT_OUTPUT_MS "15000"
void layout_output_send (struct rds *r, const struct id *task, struct wire_str record);
/* Put the ends of a group's tasks into its stream, also those that are over. ntasks <= LAYOUT_WATCH_CHUNK. */
#define LAYOUT_WATCH_CHUNK 256
void layout_watch_send (struct rds *r, const struct id *group, const struct id *tasks, size_t ntasks, int64_t retention_ms, rds_f *cb, void *arg);
/* Read a task, its record only when it is not larger than this. */
void layout_peek_send (struct rds *r, const struct id *task, size_t record_max, rds_f *cb, void *arg);
/* An empty group that is watched from the start. Two commands, cb is called for each. */
void layout_group_create_send (struct rds *r, const struct id *group, const struct id *owner, int64_t now_ns, int64_t retention_ms,
			       rds_f *cb, void *arg);
/* How far the queue of a group was acknowledged: kept when it is further than what stands there. */
void layout_acked_send (struct rds *r, const struct id *group, uint64_t ms, uint64_t seq, uint64_t count, int64_t retention_ms, rds_f *cb, void *arg);
/* The endpoint is registered no more: its tasks are to be failed. */
void layout_deleted_send (struct rds *r, const struct id *endpoint, rds_f *cb, void *arg);
/* What it left goes, if its queue is empty and it is not registered again. */
void layout_emptied_send (struct rds *r, const struct id *endpoint, rds_f *cb, void *arg);
/* op: "acquire" (also renews one's own), "release". */
void layout_lease_send (struct rds *r, const struct id *endpoint, const char *op, const char *owner, int64_t ttl_ms,
			rds_f *cb, void *arg);

#endif
