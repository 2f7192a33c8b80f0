/* SPDX-License-Identifier: Apache-2.0 */
/* FUNCTION records by id, bounded in bytes; the least recently used make room. An evicted one that is needed again is asked for
 * with FUNCTION_MISSING. */
#ifndef MANAGER_FUNCTIONS_H
#define MANAGER_FUNCTIONS_H
#include <zmq.h>
#include "proto/msg_function.h"

#define FUNCTIONS_MAX_BYTES (256u << 20)

struct functions;
struct function {
	struct id id;
	zmq_msg_t record;		/* owned by the cache */
	char *container;		/* image that it wants to run in; NULL = none */
	struct function *newer, *older;
};
struct functions *functions_create (size_t max_bytes);
void functions_destroy (struct functions **fs);
/* record: transferred. m: decoded from it. A record of the same id is replaced. */
void functions_put (struct functions *fs, zmq_msg_t *record, const struct msg_function *m);
/* Borrowed, valid until the next put; marks it as used. NULL: not here. */
struct function *functions_get (struct functions *fs, const struct id *id);
size_t functions_bytes (const struct functions *fs);

#endif
