/* SPDX-License-Identifier: Apache-2.0 */
/* Functions and endpoints as submissions need them: who may use them, remembered for a moment; and which function records this
 * process has put into Redis since it connected last. */
#ifndef SERVICE_CATALOG_H
#define SERVICE_CATALOG_H
#include "common/rds.h"
#include "proto/wire.h"
#include "service/fail.h"
#include "service/registry/registry.h"

struct catalog;
struct catalog *catalog_create (struct registry *registry, struct rds *redis, int64_t cache_ms);
void catalog_destroy (struct catalog **c);

/* May the user call the function? 0, or -1 with *why and *err. */
int catalog_function (struct catalog *c, const struct id *function, const struct id *user, enum fail *why, struct err *err);
/* May the user send to the endpoint? */
int catalog_endpoint (struct catalog *c, const struct id *endpoint, const struct id *user, enum fail *why, struct err *err);
/* What a submission wants of the endpoint beside what the function does. */
struct catalog_wants {
	uint16_t python;	/* of the submitter, as in common/pythons.h: it counts where the function's own is not known; 0 = unknown */
	struct wire_str files;	/* the list of its tasks; empty = none */
	unsigned nodes;		/* for each task; 0 = none */
};
/* Does the endpoint take the function, can it run its container, and its code, bring its files, and give what is wanted? Call after
 * catalog_endpoint and catalog_function. */
int catalog_allowed (struct catalog *c, const struct id *endpoint, const struct id *function, const struct catalog_wants *wants, enum fail *why,
		     struct err *err);
/* The endpoint takes the function but has no Python of the submitter's version, whose pickles another version may not read: says so in text. */
bool catalog_python_warning (struct catalog *c, const struct id *endpoint, const struct id *function, uint16_t python, char *text, size_t room);
/* After a change made here: look again. */
void catalog_forget (struct catalog *c, const struct id *id);

bool catalog_published (struct catalog *c, const struct id *function);
/* Put the function's record into Redis. done: err NULL when Redis has it. Called once, from the loop. */
typedef void catalog_f (const struct err *err, void *arg);
void catalog_publish (struct catalog *c, const struct id *function, catalog_f *done, void *arg);
void catalog_redis_up (struct catalog *c);	/* Redis came (back): it may be another, or empty */

#endif
