/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. Tasks whose function wants a container: they wait in their pool, get a container that is idle, at best one
 * that has the function; containers are started, kept warm, and stopped when others need the room.
 *
 * All tasks of the node, in containers or not, share its slots. Idle containers hold none. */
#include "endpoint/manager/dispatch_internal.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "endpoint/manager/batch.h"
#include "endpoint/manager/containers/node.h"
#include "endpoint/manager/files.h"
#include "endpoint/manager/pools.h"
#include "endpoint/manager/prefetch.h"
#include "endpoint/manager/tasks.h"
#include "proto/functions.h"

#define COOL_MS 250
#define STARVED_MS 2000		/* a pool without any container, behind others that are never idle */
#define FORGET_MS 600000		/* an unused pool and what it knows of cold starts */
#define RETRY_MS 500
#define RETRY_CAP_MS 10000

/* ---- a function's pool ---- */

static const char *text_of (struct wire_str s, char *out, size_t room)
{
	snprintf (out, room, "%.*s", (int) s.n, s.n ? s.p : "");
	return out;
}

struct pool *dispatch_pool_of (struct dispatch *d, const struct function *f, struct err *err)
{
	const struct msg_function *fn = &f->fn;
	char image[WIRE_MAX_TEXT + 1], type[64];
	const struct node_wish w = { .image = text_of (fn->container, image, sizeof (image)),
				     .type = text_of (fn->container_type, type, sizeof (type)), .network = fn->flags & FUNCTION_NETWORK,
				     .cpu_millis = fn->cpu_millis, .pids = fn->max_pids, .memory_bytes = fn->memory_limit_bytes };
	const struct runtime *rt;
	struct container_spec spec;
	struct pool *p;

	if (!d->o.containers) {
		err_set (err, ERR_TASK_RUNNER, FAULT_SITE, "the function wants the container %.200s, and this endpoint runs no containers", w.image);
		return NULL;
	}
	if (node_choose (d->o.containers, &w, &rt, &spec, err) < 0)
		return NULL;
	p = pools_get (d->pools, rt, &spec);
	p->warm_ms = fn->warm_ms ? fn->warm_ms : d->o.containers->o->warm_ms;
	p->used_ms = clock_now_ms ();
	return p;
}

static bool of_pool (const struct worker *w, const struct pool *p)
{
	return w->container && w->pool == p;
}

static unsigned up_in (const struct dispatch *d, const struct pool *p)
{
	unsigned k, n = 0;

	for (k = workers_count (d->workers); k < workers_all (d->workers); k++) {
		const struct worker *w = workers_get (d->workers, k);

		n += of_pool (w, p) && w->state == WORKER_UP && !w->retire;
	}
	return n;
}

void dispatch_place (struct dispatch *d, struct task *t)
{
	struct function *f = functions_get (d->functions, &t->function);
	int64_t now = clock_now_ms ();
	struct pool *p;
	struct err err;

	if (!f) {
		dispatch_await_function (d, t);
	} else if ((t->files || f->fn.files.n) && !t->staged && !dispatch_files_here (d, t, f)) {
		return;
	} else if (!f->fn.container.n) {
		if (t->place != TASK_QUEUED)
			tasks_requeue (d->tasks, t, now);
	} else if ((p = dispatch_pool_of (d, f, &err))) {
		/* while its image is replaced, the containers of the old one serve until there is one of the new */
		if (p->replaces && !up_in (d, p) && up_in (d, p->replaces))
			p = p->replaces;
		tasks_pool (d->tasks, t, &p->waiting, now);
		if (!loop_timer_pending (d->cool))
			loop_timer_start (d->cool, COOL_MS, true);
	} else {
		dispatch_end_failed (d, t, err.code, err.fault, 0, err.text);
	}
}

static struct pool *replacing (const struct dispatch *d, const struct pool *p)
{
	struct pool *q = pools_first (d->pools);

	while (q && q->replaces != p)
		q = q->next;
	return q;
}

/* The newest that has replicas of the function. */
static struct pool *replicas_of (const struct dispatch *d, const struct id *function)
{
	struct pool *p = pools_first (d->pools);

	while (p && !(p->replicas && id_eq (&p->replicas_of, function) && !replacing (d, p)))
		p = p->next;
	return p;
}

/* A function's image may have changed: then the pool before gives its replicas up as the new one's come. It may be one that was to be
 * replaced itself. */
void dispatch_replicas (struct dispatch *d, struct function *f)
{
	struct pool *p, *q, *old = replicas_of (d, &f->fn.id);
	struct err err;

	if (!f->fn.replicas && !old)
		return;
	if (!d->workers || !(p = dispatch_pool_of (d, f, &err))) {
		log_warn ("containers", "replicas cannot be had", "why=%s", d->workers ? err.text : "no workers yet");
		return;
	}
	while ((q = replacing (d, p)))
		q->replaces = NULL;
	if (old && old != p) {
		p->replaces = f->fn.replicas ? old : NULL;
		old->replicas = f->fn.replicas ? old->replicas : 0;
	}
	p->replicas = f->fn.replicas;
	p->replicas_of = f->fn.id;
	log_info ("containers", "replicas", "image=%s n=%u replaces=%s", p->image, p->replicas, p->replaces ? p->replaces->image : "");
	if (!loop_timer_pending (d->cool))
		loop_timer_start (d->cool, COOL_MS, true);
	loop_defer_schedule (d->run);
}

/* ---- looking ---- */

/* prior: without what is on its way out. */
static void look (struct dispatch *d, const struct pool *p, struct pool_load *l)
{
	unsigned k;

	memset (l, 0, sizeof (*l));
	for (k = workers_count (d->workers); k < workers_all (d->workers); k++) {
		const struct worker *w = workers_get (d->workers, k);

		if (!of_pool (w, p) || w->retire)
			continue;
		if (w->state == WORKER_UP && w->tasks.n)
			l->busy++;
		else if (w->state == WORKER_UP)
			l->idle++;
		else if (w->state == WORKER_PREPARING || w->state == WORKER_STARTING)
			l->starting++;
	}
	l->waiting = p->waiting.n;
	l->cold_ms = p->cold_ms;
	l->exec_ms = -1;
	if (p->waiting.head) {
		int64_t ns = prefetch_average_ns (d->prefetch, &p->waiting.head->function);
		l->exec_ms = ns < 0 ? -1 : ns / 1000000;
		l->oldest_ms = clock_now_ms () - p->waiting.head->since_ms;
	}
}

unsigned dispatch_busy (const struct dispatch *d)
{
	unsigned k, n = 0;

	for (k = 0; k < workers_all (d->workers); k++)
		n += workers_get (d->workers, k)->tasks.n > 0;
	return n;
}

/* ---- giving tasks to containers ---- */

static struct worker *pick_idle (struct dispatch *d, const struct pool *p, const struct id *function)
{
	struct worker *first = NULL;
	unsigned k;

	for (k = workers_count (d->workers); k < workers_all (d->workers); k++) {
		struct worker *w = workers_get (d->workers, k);

		if (!of_pool (w, p) || w->state != WORKER_UP || w->tasks.n || w->retire)
			continue;
		if (workers_has_function (w, function))
			return w;
		/* the one used last: the others may go cold */
		if (!first || w->idle_since_ms > first->idle_since_ms)
			first = w;
	}
	return first;
}

static struct worker *pick_behind (struct dispatch *d, const struct pool *p, unsigned depth, int64_t now_ns)
{
	struct worker *best = NULL;
	unsigned k;

	for (k = workers_count (d->workers); depth && k < workers_all (d->workers); k++) {
		struct worker *w = workers_get (d->workers, k);

		if (!of_pool (w, p) || w->state != WORKER_UP || !w->tasks.n || w->retire || w->blocking || w->tasks.n > depth
		    || now_ns - w->head_since_ns > PREFETCH_LONG_NS)
			continue;
		if (!best || w->tasks.n < best->tasks.n)
			best = w;
	}
	return best;
}

/* Its oldest task to a container. False: it has to wait. */
static bool assign (struct dispatch *d, struct pool *p, unsigned *slots, int64_t now_ns)
{
	struct task *t = p->waiting.head, *bare = tasks_queue_head (d->tasks);
	struct function *f = functions_get (d->functions, &t->function);
	unsigned size, depth = t->solo ? 0 : prefetch_depth (d->prefetch, &t->function);
	struct worker *w = NULL;

	if (!f) {
		dispatch_await_function (d, t);
		return true;
	}
	if ((size = batch_size (d->batch, &f->fn)))
		depth = 0;
	/* the last slot is for who came first */
	if (*slots > 1 || (*slots == 1 && (!bare || bare->seq > t->seq)))
		w = pick_idle (d, p, &t->function);
	if (w)
		(*slots)--;
	else if (!(w = pick_behind (d, p, depth, now_ns)))
		return false;
	if (!w->served++)
		t->cold = true;
	if (size)
		dispatch_send_batch (d, t, w, f, size, t->solo ? 1 : size, now_ns);
	else
		dispatch_send (d, t, w, f, depth == 0, now_ns);
	return true;
}

/* ---- starting and stopping containers ---- */

static bool any_replicas_spare (struct dispatch *d, const struct pool *p)
{
	struct pool_load l;
	const struct pool *q;

	look (d, p, &l);
	for (q = pools_first (d->pools); q; q = q->next)
		if (q->replaces == p)
			return l.idle + l.busy + up_in (d, q) > p->replicas || !up_in (d, q);
	return l.idle + l.busy + l.starting > p->replicas;
}

static struct worker *least_used (struct dispatch *d, const struct pool *but, bool busy)
{
	struct worker *best = NULL;
	unsigned k;

	for (k = workers_count (d->workers); k < workers_all (d->workers); k++) {
		struct worker *w = workers_get (d->workers, k);

		if (w->state != WORKER_UP || w->retire || !w->pool || w->pool == but || (w->tasks.n > 0) != busy
		    || !any_replicas_spare (d, w->pool))
			continue;
		if (!best || (busy ? w->head_since_ns < best->head_since_ns : w->idle_since_ms < best->idle_since_ms))
			best = w;
	}
	return best;
}

/* Places that are free, and those that soon are. */
static void places (struct dispatch *d, unsigned *empty, unsigned *leaving)
{
	unsigned k;

	*empty = *leaving = 0;
	for (k = workers_count (d->workers); k < workers_all (d->workers); k++) {
		const struct worker *w = workers_get (d->workers, k);

		*empty += !w->container && w->state == WORKER_DOWN;
		*leaving += w->retire || w->state == WORKER_LEAVING || w->state == WORKER_EXITED;
	}
}

static void make_room (struct dispatch *d, struct pool *p, const struct pool_load *l)
{
	struct worker *w = least_used (d, p, false);

	if (w) {
		workers_retire (w, "another image needs its place");
	} else if (!l->busy && !l->starting && l->oldest_ms > STARVED_MS && (w = least_used (d, p, true))) {
		log_info ("containers", "a busy container is stopped after its call: another image has waited long", "image=%s for=%s",
			  w->pool->image, p->image);
		w->retire = true;
	}
}

/* They are mounted, or the container does without. */
static void use_files (struct dispatch *d)
{
	struct err err;

	if (d->o.files && files_use (d->o.files, &err) < 0)
		log_err (LOG_WARN, "dispatch", "a container starts without a directory of files", &err);
}

static void grow (struct dispatch *d, struct pool *p, int64_t now_ms)
{
	struct pool_load l;
	unsigned empty, leaving, have;

	if (now_ms < p->retry_at_ms)
		return;
	look (d, p, &l);
	have = l.idle + l.busy + l.starting;
	if (have >= p->replicas && !pool_wants_more (&l))
		return;
	places (d, &empty, &leaving);
	if (empty) {
		use_files (d);
		workers_start_container (d->workers, p, p->rt, &p->spec);
	} else if (!leaving && p->waiting.head) {
		make_room (d, p, &l);
	}
}

/* Where a start failed, one try at a time; the tasks fail with the reason when the last try did. */
static void start_failed (struct dispatch *d, struct pool *p, const struct container *c)
{
	char text[700];

	p->failures++;
	p->retry_at_ms = clock_now_ms () + clock_backoff_ms (p->failures - 1, RETRY_MS, RETRY_CAP_MS);
	log_warn ("containers", "a container did not start", "image=%s runtime=%s tries=%u why=%s", p->image, p->rt->name, p->failures, c->why);
	if (p->failures < POOL_TRIES && !c->image_fault)
		return;
	snprintf (text, sizeof (text), "container %.150s could not be started with %s on node %.100s: %.380s", p->image, p->rt->name, d->o.node, c->why);
	while (p->waiting.head)
		dispatch_end_failed (d, p->waiting.head, ERR_TASK_RUNNER, c->image_fault ? FAULT_USER : FAULT_SITE, 0, text);
}

void dispatch_container_lost (struct dispatch *d, struct worker *w)
{
	struct pool *p = w->pool;

	if (w->up_since_ms) {
		dispatch_container_state (w, CONTAINER_STOPPED, "its process ended", d);
		return;
	}
	dispatch_container_state (w, CONTAINER_FAILED, w->container->why, d);
	if (p && !d->stopping)
		start_failed (d, p, w->container);
}

void dispatch_container_up (struct dispatch *d, struct worker *w)
{
	struct pool *p = w->pool;

	w->idle_since_ms = clock_now_ms ();
	p->failures = 0;
	p->retry_at_ms = 0;
	if (*p->digest && !id_eq (&w->container->image_id, &p->image_id)) {
		workers_retire (w, "its image was replaced while it started");
		return;
	}
	pool_note_cold (p, w->idle_since_ms - w->container->asked_ms - w->container->pull_ms);
	log_info ("containers", "container up", "name=%s image=%s runtime=%s ms=%lld pull_ms=%lld", w->container->name, p->image, p->rt->name,
		  (long long) (w->idle_since_ms - w->container->asked_ms), (long long) w->container->pull_ms);
	dispatch_container_state (w, CONTAINER_WARM, "", d);
}

void dispatch_container_idle (struct worker *w)
{
	w->idle_since_ms = w->pool->used_ms = clock_now_ms ();
	if (w->retire)
		workers_retire (w, "another image waits");
}

/* ---- the run at the end of a burst, and by time ---- */

void dispatch_containers_run (struct dispatch *d)
{
	int64_t now_ns = clock_now_ns (), now_ms = clock_now_ms ();
	unsigned n = workers_count (d->workers), busy = dispatch_busy (d), slots = busy < n ? n - busy : 0;
	struct pool *p;

	for (;;) {
		struct pool *oldest = NULL;

		/* in order of arrival over all pools; one that has to wait does not hold up the others */
		for (p = pools_first (d->pools); p; p = p->next)
			if (p->waiting.head && !p->held && (!oldest || p->waiting.head->seq < oldest->waiting.head->seq))
				oldest = p;
		if (!oldest)
			break;
		if (!assign (d, oldest, &slots, now_ns))
			oldest->held = true;
	}
	for (p = pools_first (d->pools); p; p = p->next) {
		p->held = false;
		if (p->waiting.head || p->replicas)
			grow (d, p, now_ms);
	}
}

/* Busy and idle again is told when it lasts. */
static void tell_busy (struct dispatch *d, struct worker *w, int64_t now_ms)
{
	enum container_state s = w->tasks.n ? CONTAINER_BUSY : CONTAINER_WARM;

	if (w->state == WORKER_UP && w->container && w->container->told != s
	    && (!w->tasks.n || now_ms - w->head_since_ns / 1000000 > COOL_MS))
		dispatch_container_state (w, s, "", d);
}

static void cool (struct dispatch *d, struct worker *w, int64_t now_ms)
{
	if (w->state != WORKER_UP || !w->pool || w->tasks.n || now_ms - w->idle_since_ms < w->pool->warm_ms)
		return;
	if (any_replicas_spare (d, w->pool))
		workers_retire (w, "idle for long");
}

/* The old image's containers go as the new one's come. */
static void roll (struct dispatch *d, struct pool *p)
{
	unsigned k, have = up_in (d, p), old = p->replaces ? up_in (d, p->replaces) : 0;

	if (!p->replaces)
		return;
	for (k = workers_count (d->workers); k < workers_all (d->workers) && old && old + have > p->replicas; k++) {
		struct worker *w = workers_get (d->workers, k);

		if (!of_pool (w, p->replaces) || w->state != WORKER_UP || w->retire)
			continue;
		old--;
		if (w->tasks.n)
			w->retire = true;
		else
			workers_retire (w, "its image was replaced");
	}
	while (have && p->replaces->waiting.head)
		tasks_pool (d->tasks, p->replaces->waiting.head, &p->waiting, clock_now_ms ());
	if (have >= p->replicas && !old) {
		p->replaces->replicas = 0;
		p->replaces = NULL;
	}
}

void dispatch_containers_cool (void *arg)
{
	struct dispatch *d = arg;
	int64_t now_ms = clock_now_ms ();
	struct pool *p, *next;
	unsigned k;

	if (!d->workers || d->stopping)
		return;
	for (k = workers_count (d->workers); k < workers_all (d->workers); k++) {
		tell_busy (d, workers_get (d->workers, k), now_ms);
		cool (d, workers_get (d->workers, k), now_ms);
	}
	for (p = pools_first (d->pools); p; p = next) {
		bool used = p->waiting.n || p->replicas || p->checking;

		next = p->next;
		roll (d, p);
		dispatch_image_tick (d, p, up_in (d, p) > 0, now_ms);
		for (k = workers_count (d->workers); k < workers_all (d->workers); k++)
			used |= workers_get (d->workers, k)->pool == p;
		if (!used && now_ms - p->used_ms > FORGET_MS)
			pools_drop (d->pools, p);
	}
	if (!pools_first (d->pools))
		loop_timer_stop (d->cool);
	loop_defer_schedule (d->run);
}

/* ---- what others are told ---- */

void dispatch_container_state (struct worker *w, enum container_state s, const char *text, void *arg)
{
	struct dispatch *d = arg;
	struct container *c = w->container;
	struct msg_container_state m = { .state = (uint8_t) s, .id = w->id, .code = s == CONTAINER_FAILED ? ERR_TASK_RUNNER : 0,
					 .image = wire_str (c->image, strlen (c->image)), .text = wire_str (text, strlen (text)),
					 .digest = wire_str (c->digest, c->digest ? strlen (c->digest) : 0) };

	c->told = s;
	upstream_container (d->up, &m);
	if (s == CONTAINER_STARTING && c->digest && w->pool)
		dispatch_image_is (d, w->pool, c->digest);
}

void dispatch_containers_tell (struct dispatch *d)
{
	unsigned k;

	for (k = d->workers ? workers_count (d->workers) : 0; d->workers && k < workers_all (d->workers); k++) {
		struct worker *w = workers_get (d->workers, k);

		if (w->container && w->container->told)
			dispatch_container_state (w, w->container->told, "", d);
	}
}
