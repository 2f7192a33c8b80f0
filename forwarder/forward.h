/* SPDX-License-Identifier: Apache-2.0 */
/* The forwarder of one endpoint: joins intake (Redis), hand (tasks), bodies (functions), done (results), presence (lease) and
 * the link to the endpoint. */
#ifndef FORWARDER_FORWARD_H
#define FORWARDER_FORWARD_H
#include "common/ids.h"
#include "common/loop.h"
#include "forwarder/config.h"

struct forward;
/* Exit status of the process: 0 asked to stop or endpoint deleted, 3 lease lost. */
enum { FORWARD_EXIT_LEASE = 3 };

struct forward *forward_create (struct loop *l, const struct config *c, const struct id *endpoint, const char *lease_owner,
				struct err *err);
void forward_stop (struct forward *f);		/* gracefully; the loop stops when done */
int forward_exit_status (const struct forward *f);
void forward_destroy (struct forward **f);

#endif
