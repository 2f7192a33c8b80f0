/* SPDX-License-Identifier: Apache-2.0 */
/* Pools of warm containers. A pool is what tasks of one image wait in: same runtime, image, and sandbox. Functions of one image
 * share its containers, each call in the container that has its function loaded when one is idle. When to have more or fewer containers is
 * decided here, from figures; dispatch_containers.c acts on it. */
#ifndef MANAGER_POOLS_H
#define MANAGER_POOLS_H
#include <stdbool.h>
#include <stdint.h>
#include "endpoint/manager/containers/identity.h"
#include "endpoint/manager/tasks.h"

#define POOL_COLD_GUESS_MS 1000		/* a cold start, until one was seen */
#define POOL_TRIES 3			/* starts that may fail in a row before the tasks that wait do */

struct pool {
	char *image;			/* owned; spec.image is it */
	const struct runtime *rt;
	struct container_spec spec;
	struct task_list waiting;	/* oldest first */
	int64_t warm_ms;		/* an idle container is kept for so long */
	unsigned replicas;		/* and so many for ever */
	int64_t cold_ms;		/* moving average of cold starts; 0 = none seen */
	unsigned failures;		/* in a row */
	int64_t retry_at_ms, used_ms;
	struct id replicas_of;		/* the function that asked for them */
	struct pool *replaces;		/* whose replicas are stopped, one by one, as these come up; borrowed */
	char digest[IDENTITY_MAX];	/* of the image that the reference leads to; "" = not known */
	struct id image_id;		/* of the digest */
	int64_t checked_ms;		/* when that was seen; 0 = never */
	bool checking;			/* it is being looked up; the pool stays until then */
	struct map *asking, *told;	/* functions that the agent waits for it for; those for which it was told */
	bool held;			/* during a run: its oldest task has to wait */
	struct pool *next;
};

struct map;
struct pools;
struct pools *pools_create (void);
void pools_destroy (struct pools **ps);		/* tasks are not ours */
struct pool *pools_first (const struct pools *ps);
struct pool *pools_get (struct pools *ps, const struct runtime *rt, const struct container_spec *spec);	/* made when new */
void pools_drop (struct pools *ps, struct pool *p);
size_t pools_waiting (const struct pools *ps);	/* tasks */
void pool_note_cold (struct pool *p, int64_t ms);

struct pool_load {
	unsigned idle, starting, busy;	/* its containers */
	size_t waiting;
	int64_t exec_ms;		/* average call; -1 = not known */
	int64_t oldest_ms;		/* wait of the oldest task */
	int64_t cold_ms;
};
/* Should one more container be started? Without any: when something waits. Else when what waits would wait longer for those that
 * there are than a cold start takes. */
bool pool_wants_more (const struct pool_load *l);

#endif
