/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's control socket: one line of JSON each way, on a unix socket that only the owner can reach.
 *
 *     {"cmd": "status"} {"cmd": "drain"} {"cmd": "undrain"} {"cmd": "stop", "drain_ms": 5000, "leave": false} */
#ifndef ENDPOINT_CONTROL_H
#define ENDPOINT_CONTROL_H
#include <jansson.h>
#include "common/loop.h"

struct control;
typedef json_t *control_f (const char *cmd, json_t *request, void *arg);	/* the reply, transferred to the caller */
struct control *control_create (struct loop *l, const char *path, control_f *cb, void *arg, struct err *err);
void control_destroy (struct control **c);	/* removes the socket */

/* For commands, blocking. The reply (owned by the caller), or NULL with *err: ERR_UNAVAILABLE nobody listens. */
json_t *control_call (const char *path, const char *cmd, json_t *more, int64_t timeout_ms, struct err *err);

#endif
