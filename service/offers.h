/* SPDX-License-Identifier: Apache-2.0 */
/* Can an endpoint run a function: its container, its Python, and bring the task's files? From what it said of itself when it registered
 * (metadata: containers, container_network, container_images, pythons, files, mpi). One that said nothing of the first two is not judged here: it
 * refuses by itself. One that said nothing of files, or of nodes for a task (mpi), would run the task without them. */
#ifndef SERVICE_OFFERS_H
#define SERVICE_OFFERS_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"

json_t *offers_read (const char *metadata);	/* a new reference; NULL: it says nothing about containers, nor Python */
/* image NULL: no container wanted. options: the registration's, may be NULL. -1 with *err, which names what there is. */
int offers_check (const json_t *offers, const char *image, const json_t *options, struct err *err);
int offers_files (const json_t *offers, bool keep, struct err *err);	/* keep: of those that it makes one is left there */
int offers_nodes (const json_t *offers, unsigned nodes, struct err *err);	/* for one task */
/* Does the endpoint have this Python? True as well when nobody knows. */
bool offers_has_python (const json_t *offers, uint16_t version);
/* The versions that it has: "3.9, 3.11". Returns out. */
const char *offers_pythons (const json_t *offers, char *out, size_t room);

#endif
