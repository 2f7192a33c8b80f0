/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps one forwarder process per registered endpoint alive, for the endpoints whose lease it can get: several supervisors, on
 * several hosts, share the endpoints and take over from one that dies. */
#ifndef FORWARDER_SUPERVISE_H
#define FORWARDER_SUPERVISE_H
#include "common/loop.h"
#include "forwarder/config.h"

struct supervise;
/* config_args: the options a child gets to load the same configuration, NULL-terminated; borrowed for life. */
struct supervise *supervise_create (struct loop *l, const struct config *c, const char *program, const char *const *config_args,
				    struct err *err);
void supervise_stop (struct supervise *s);	/* stops the children, then the loop */
void supervise_destroy (struct supervise **s);

#endif
