/* SPDX-License-Identifier: Apache-2.0 */
/* FUNCTION records by id, the least recently used leave when the bound is reached. A function never changes under its id, so
 * the cache outlives sessions. What left it is asked for again with FUNCTION_MISSING. */
#ifndef ENDPOINT_FUNCTIONS_H
#define ENDPOINT_FUNCTIONS_H
#include <stdbool.h>
#include <stddef.h>
#include <zmq.h>
#include "common/ids.h"

struct functions;
struct functions *functions_create (size_t max_bytes);
void functions_destroy (struct functions **f);
/* record: transferred. One that alone is over the bound is kept until the next comes. */
void functions_put (struct functions *f, const struct id *id, zmq_msg_t *record);
bool functions_has (const struct functions *f, const struct id *id);
/* out: an initialised message, which shares the record's bytes. Counts as a use. */
bool functions_get (struct functions *f, const struct id *id, zmq_msg_t *out);
size_t functions_count (const struct functions *f);
size_t functions_bytes (const struct functions *f);

#endif
