/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that were cancelled before they were read from the queue: the set weft:ep:{id}:cancelled, and a copy of it here. */
#ifndef FORWARDER_CANCELS_H
#define FORWARDER_CANCELS_H
#include <stdbool.h>
#include "common/ids.h"
#include "common/rds.h"

struct cancels;
/* One id of the set; for each of them when it is loaded. */
typedef void cancels_f (const struct id *task, void *arg);

struct cancels *cancels_create (struct rds *r, const struct id *endpoint);
void cancels_destroy (struct cancels **c);
/* Read the set: each for its ids, then ready. After a failure nothing is called and cancels_known stays false: load again. */
void cancels_load (struct cancels *c, cancels_f *each, void (*ready) (void *arg), void *arg);
bool cancels_known (const struct cancels *c);		/* it was loaded once */
void cancels_remember (struct cancels *c, const struct id *task);
/* Was it remembered? It is forgotten, here and in Redis. */
bool cancels_take (struct cancels *c, const struct id *task);
void cancels_forget (struct cancels *c, const struct id *task);	/* also when only Redis knows of it */
/* The queue was read to its end: what is still remembered names tasks that are not in it. */
void cancels_forget_all (struct cancels *c);

#endif
