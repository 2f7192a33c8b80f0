/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses: under which the nodes of other hosts reach this one; what to think of those of service and forwarder. */
#ifndef ENDPOINT_ADDRESSES_H
#define ENDPOINT_ADDRESSES_H
#include <stdbool.h>
#include "common/buf.h"
#include "endpoint/config.h"

/* Where to listen, an address for ZeroMQ: the one that is set when it is one number, else all of this host. Owned by the caller. */
char *addresses_listen (const struct config *c);
/* What managers get with --connect: "tcp://A:PORT,tcp://B:PORT". port: as text, so that `render` can show a word. */
void addresses_offer (const struct config *c, const char *port, struct buf *out);
/* What a person looks at when the forwarder does not answer there; a constant. */
const char *addresses_unanswered (const char *forwarder, const char *service_url);

#endif
