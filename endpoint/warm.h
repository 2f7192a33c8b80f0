/* SPDX-License-Identifier: Apache-2.0 */
/* Containers of a manager, from its CONTAINER_STATE: which images it has warm. */
#ifndef ENDPOINT_WARM_H
#define ENDPOINT_WARM_H
#include <jansson.h>
#include "common/ids.h"
#include "proto/msg_capacity.h"

struct warm;
struct warm *warm_create (void);
void warm_destroy (struct warm **w);
void warm_note (struct warm *w, const struct msg_container_state *m);
unsigned warm_count (const struct warm *w, struct wire_str image);	/* containers of the image that are up */
json_t *warm_json (const struct warm *w);	/* [{"id", "image", "digest", "state", "age_ms", "error"}], a new reference */

#endif
