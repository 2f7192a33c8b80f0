/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. Which image a pool's reference leads to: looked up when a container starts, when the agent asks before it answers
 * with an earlier result (IMAGE: SPEC.md, 3.3), and now and then while calls come. When it has become another one the containers of the
 * one before are stopped after their calls; tasks that wait get one of the new. What the agent was told of it is told anew at once. */
#include "endpoint/manager/dispatch_internal.h"
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"
#include "endpoint/manager/containers/identity.h"
#include "endpoint/manager/containers/node.h"
#include "endpoint/manager/pools.h"
#include "proto/functions.h"

#define USED_EVERY 10		/* periods of containers.recheck, for functions whose results are not remembered */
#define TOLD_MAX 1024		/* functions of one image that the agent has asked for; over it all are forgotten */

static int64_t left_ms (const struct dispatch *d, const struct pool *p)
{
	int64_t left = p->checked_ms ? p->checked_ms + d->o.containers->o->recheck_ms - clock_now_ms () : 0;

	return left > 0 ? left : 0;
}

static void tell (struct dispatch *d, const struct id *function, const struct pool *p)
{
	struct msg_image m = { .function = *function };

	if (p) {
		m.image = p->image_id;
		m.valid_ms = (uint32_t) left_ms (d, p);
		m.digest = wire_str (p->digest, strlen (p->digest));
	}
	upstream_image (d->up, &m);
}

struct telling { struct dispatch *d; const struct pool *p; };

static int tell_one (const struct id *function, void *v, void *arg)
{
	struct telling *t = arg;

	(void) v;
	tell (t->d, function, t->p);
	return 0;
}

/* Containers of another image than the reference leads to now. */
static void retire_others (struct dispatch *d, struct pool *p)
{
	unsigned k;

	for (k = workers_count (d->workers); k < workers_all (d->workers); k++) {
		struct worker *w = workers_get (d->workers, k);

		if (w->pool != p || !w->container || w->state != WORKER_UP || w->retire || id_eq (&w->container->image_id, &p->image_id))
			continue;
		if (w->tasks.n)
			w->retire = true;
		else
			workers_retire (w, "its image was replaced");
	}
}

void dispatch_image_is (struct dispatch *d, struct pool *p, const char *digest)
{
	struct telling t = { d, p };

	p->checked_ms = clock_now_ms ();
	if (strcmp (p->digest, digest) == 0)
		return;
	if (*p->digest && *digest)
		log_info ("containers", "the image is another one now", "image=%s was=%s is=%s", p->image, p->digest, digest);
	snprintf (p->digest, sizeof (p->digest), "%s", digest);
	p->image_id = identity_id (digest);
	map_each (p->told, tell_one, &t);
	if (*digest)
		retire_others (d, p);
	loop_defer_schedule (d->run);
}

/* ---- looking it up ---- */

struct looking { struct dispatch *d; struct pool *p; };

static int move_to_told (const struct id *function, void *v, void *arg)
{
	struct pool *p = arg;

	map_put (p->told, function, v);
	return 0;
}

static void looked_up (const char *digest, void *arg)
{
	struct looking l = *(struct looking *) arg;
	struct telling t = { l.d, l.p };

	free (arg);
	l.p->checking = false;
	dispatch_image_is (l.d, l.p, digest);
	map_each (l.p->asking, tell_one, &t);
	if (map_size (l.p->told) > TOLD_MAX)
		map_empty (&l.p->told, NULL);
	map_each (l.p->asking, move_to_told, l.p);
	map_empty (&l.p->asking, NULL);
}

static void look_up (struct dispatch *d, struct pool *p)
{
	struct looking *l;

	if (p->checking)
		return;
	l = xcalloc (1, sizeof (*l));
	*l = (struct looking) { d, p };
	p->checking = true;
	workers_digest (d->workers, p->rt, p->image, looked_up, l);
}

void dispatch_image_asked (const struct id *function, void *arg)
{
	struct dispatch *d = arg;
	struct function *f = functions_get (d->functions, function);
	struct pool *p = NULL;
	struct err err;

	if (f && f->fn.container.n && d->workers)
		p = dispatch_pool_of (d, f, &err);
	if (!p) {
		tell (d, function, NULL);
	} else if (left_ms (d, p)) {
		map_put (p->told, function, d);
		tell (d, function, p);
	} else {
		map_put (p->asking, function, d);
		look_up (d, p);
	}
}

void dispatch_image_tick (struct dispatch *d, struct pool *p, bool up, int64_t now_ms)
{
	if (up && p->used_ms > p->checked_ms && now_ms - p->checked_ms >= USED_EVERY * d->o.containers->o->recheck_ms)
		look_up (d, p);
}

void dispatch_images_untold (struct dispatch *d)
{
	for (struct pool *p = pools_first (d->pools); p; p = p->next)
		map_empty (&p->told, NULL);
}
