/* SPDX-License-Identifier: Apache-2.0 */
/* Can an endpoint run a function's container? From what it said of itself when it registered (metadata: containers,
 * container_network, container_images). One that said nothing is not judged here: it refuses by itself. */
#ifndef SERVICE_OFFERS_H
#define SERVICE_OFFERS_H
#include <jansson.h>
#include "common/err.h"

json_t *offers_read (const char *metadata);	/* a new reference; NULL: it says nothing about containers */
/* image NULL: no container wanted. options: the registration's JSON text, may be NULL. -1 with *err, which names what there is. */
int offers_check (const json_t *offers, const char *image, const char *options, struct err *err);

#endif
