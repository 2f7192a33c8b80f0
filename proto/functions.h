/* SPDX-License-Identifier: Apache-2.0 */
/* FUNCTION records by id, for those who hand functions on or call them (agent, manager, worker). Bounded in number and bytes: the least
 * recently used make room. A function does not change under its id, so the cache outlives sessions; what left it is asked for again
 * with FUNCTION_MISSING. */
#ifndef PROTO_FUNCTIONS_H
#define PROTO_FUNCTIONS_H
#include <sys/queue.h>
#include <zmq.h>
#include "proto/msg_function.h"

#define FUNCTIONS_MAX_COUNT 65536	/* small ones cost more than their bytes */
#define FUNCTIONS_MAX_BYTES (256u << 20)
#define FUNCTION_KNOWN 3		/* calls after which mean_ns is believed */

struct function {
	struct msg_function fn;		/* slices into record */
	zmq_msg_t record;		/* owned by the cache; zmq_msg_copy shares its bytes */
	unsigned users;			/* who borrows it for longer than a moment: it stays until they are 0 */
	int64_t mean_ns;		/* of its recent calls, see function_took */
	unsigned calls;			/* counted up to FUNCTION_KNOWN */
	unsigned batch_cap;		/* inputs that a call of it may take here, see engine_batch.c; 0 = as registered */
	uint8_t digest[32];		/* see function_digest */
	bool digested;
	TAILQ_ENTRY (function) link;	/* the cache's */
};

struct functions;
struct functions *functions_create (size_t max_count, size_t max_bytes);
void functions_destroy (struct functions **fs);
/* record: transferred on success, then replaces one of the same id; while that is in use it stays, and the new record is the caller's
 * still. The newest is kept whatever its size. Returns what is in the cache now, or NULL: the record is malformed. */
struct function *functions_put (struct functions *fs, zmq_msg_t *record, struct err *err);
/* Borrowed until the next put, or while users is not 0. Counts as a use. NULL: not here. */
struct function *functions_get (struct functions *fs, const struct id *id);
size_t functions_count (const struct functions *fs);
size_t functions_bytes (const struct functions *fs);

/* SHA-256 of the whole record; made when it is first asked for. NULL: no memory for it. */
const uint8_t *function_digest (struct function *f);
/* A call of it took so long. */
void function_took (struct function *f, int64_t ns);
bool function_is_fast (const struct function *f, int64_t under_ns);

#endif
