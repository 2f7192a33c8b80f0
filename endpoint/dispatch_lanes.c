/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. Functions that name an image, where blocks are made for images (pods of Kubernetes): their tasks wait in a lane,
 * and go to managers of blocks of that image only; all other tasks go to those of blocks without, and wait in a list of their own, so that
 * in the queue nothing waits behind what has another way. In such a node all is in the image: to its manager the function is one without container.
 *
 *     a task comes, its function is not here | held for it, as elsewhere; whose blocks it needs is not known until then
 *     its function names an image | an earlier result answers it, else it waits in the lane of the image
 *     it names none | likewise, among those without; or for nodes of its own
 *     it comes back from a manager | all of this anew
 *     the function's image changes | what waits looks for its lane anew
 *     nodes cannot get the image | what waits in the lane, and for what waits there, ends as failed, with the cluster's words
 *
 * A function that wants replicas is a servable: so many nodes of its image are kept. When its image changes, those of the one before go as
 * those of the new come; they serve until the first of these is there, and for as long as none comes. */
#include "endpoint/dispatch_internal.h"
#include "common/clock.h"
#include "common/conf.h"
#include "common/utf8.h"
#include "common/xmem.h"
#include "endpoint/scale.h"
#include "proto/functions.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct servable { struct lane *lane, *before; uint32_t n; };	/* before: of its former image, while nodes of that are there; or NULL */

static bool is_image (const struct lane *l, struct wire_str image)
{
	return strlen (l->image) == image.n && memcmp (l->image, image.p, image.n) == 0;
}

static struct lane *lane_get (struct dispatch *d, struct wire_str image)
{
	struct lane *l = d->lanes;

	while (l && !is_image (l, image))
		l = l->next;
	if (l)
		return l;
	l = xcalloc (1, sizeof (*l));
	l->image = xcalloc (1, image.n + 1);
	memcpy (l->image, image.p, image.n);
	l->row = route_lane_create ();
	l->next = d->lanes;
	d->lanes = l;
	return l;
}

static void lane_free (struct lane *l)
{
	free (l->image);
	free (l->row);
	free (l);
}

static void drop_unused (struct dispatch *d, struct lane *l)
{
	struct lane **at = &d->lanes;

	if (l->tasks || l->managers || l->servables || l == &d->unknown)
		return;
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	lane_free (l);
}

void dispatch_lane_left (struct dispatch *d, struct queue_task *t)
{
	struct lane *l = t->lane;

	if (!l)
		return;
	t->lane = NULL;
	l->tasks--;
	drop_unused (d, l);
}

static void set_lane (struct dispatch *d, struct queue_task *t, struct lane *l)
{
	if (t->lane == l)
		return;
	if (t->asked_memo) {
		dispatch_memo_left (d, t);	/* what it is equal to was of another image */
		t->asked_memo = false;
	}
	if (l)
		l->tasks++;
	dispatch_lane_left (d, t);
	t->lane = l;
}

struct function *dispatch_lane_of (struct dispatch *d, struct queue_task *t)
{
	struct function *f = functions_get (d->functions, &t->function);

	set_lane (d, t, !f ? &d->unknown : f->fn.container.n ? lane_get (d, f->fn.container) : NULL);
	return f;
}

/* Such a name becomes part of what the cluster is told. */
static bool is_name (const char *image)
{
	size_t n = strlen (image);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char) image[i] <= ' ' || (unsigned char) image[i] >= 0x7f)
			return false;
	return n <= DISPATCH_IMAGE_MAX;
}

static bool permitted (const struct dispatch *d, const char *image)
{
	for (size_t i = 0; d->o.images && i < d->o.images->n; i++)
		if (fnmatch (d->o.images->v[i], image, 0) == 0)
			return true;
	return !d->o.images || !d->o.images->n;
}

static bool refused (struct dispatch *d, struct queue_task *t)
{
	const char *image = t->lane->image;
	char text[400];

	if (!is_name (image))
		snprintf (text, sizeof (text), "the function's container is no name of an image: %.200s", image);
	else if (!permitted (d, image))
		snprintf (text, sizeof (text), "image %.200s is not permitted on this endpoint (containers.images)", image);
	else if (t->nodes)
		snprintf (text, sizeof (text), "the task asks for nodes of its own (resource_specification); a function in an image of its own "
			  "(%.150s) gets none on this endpoint", image);
	else
		return false;
	utf8_mend (text, strlen (text));
	d->st.refused++;
	dispatch_end_task (d, t, STATUS_FAILED, ERR_INVALID, FAULT_USER, text);
	return true;
}

bool dispatch_lane_take (struct dispatch *d, struct queue_task *t, int64_t now_ms)
{
	if (!dispatch_lane_of (d, t)) {
		dispatch_hold_for_function (d, t);
		return true;
	}
	if (!t->lane && t->nodes)
		return false;
	if (!(t->lane && refused (d, t)) && !dispatch_memo_ask (d, t))
		queue_wait_in (d->queue, t, t->lane ? &t->lane->waiting : &d->plain, now_ms);
	return true;
}

/* Who serves a function while there is no node of its image; NULL: nobody does. */
static const struct lane *stand_in (const struct dispatch *d, const struct queue_task *t)
{
	const struct servable *s = map_get (d->servables, &t->function);

	return s && s->before && s->before->managers && !s->lane->managers ? s->before : NULL;
}

static bool give (struct dispatch *d, struct queue_task *t, const struct lane *l, int64_t now_ms)
{
	const struct lane *before = l->managers ? NULL : stand_in (d, t);

	if (before)
		dispatch_memo_left (d, t);	/* what comes of it is not of the image that it was to be of */
	return dispatch_give (d, t, before ? before->row : l->row, now_ms);
}

void dispatch_lanes_route (struct dispatch *d, int64_t now_ms)
{
	struct queue_task *t;

	while ((t = d->plain.head) && dispatch_give (d, t, NULL, now_ms))
		;
	for (struct lane *l = d->lanes; l; l = l->next)
		while ((t = l->waiting.head) && give (d, t, l, now_ms))
			;
}

static void release (struct dispatch *d, struct queue_list *waiting)
{
	int64_t now = clock_now_ms ();

	while (waiting->tail)		/* from the end: they keep their order at the front of the queue */
		queue_put_back (d->queue, waiting->tail, NULL, true, now);
}

void dispatch_lanes_release (struct dispatch *d)
{
	release (d, &d->plain);
	for (struct lane *l = d->lanes; l; l = l->next)
		release (d, &l->waiting);
}

void dispatch_lane_up (struct dispatch *d, struct manager *m)
{
	const char *image = d->o.block_image ? d->o.block_image (m->block, d->o.arg) : "";

	if (!image) {
		m->draining = true;	/* of a block that is gone: what it is in is not known any more */
	} else if (*image) {
		m->lane = lane_get (d, wire_str (image, strlen (image)));
		m->lane->managers++;
		m->node.lane = m->lane->row;
		m->knows_nodes = false;
	}
}

void dispatch_lane_down (struct dispatch *d, struct manager *m)
{
	if (!m->lane)
		return;
	m->lane->managers--;
	drop_unused (d, m->lane);
	m->lane = NULL;
}

void dispatch_lanes_end (struct dispatch *d)
{
	map_destroy_owned (&d->servables, free);
	while (d->lanes) {
		struct lane *l = d->lanes;
		d->lanes = l->next;
		lane_free (l);
	}
}

/* ---- servables ------------------------------------------------------------------------------------------------------- */

static void point (struct dispatch *d, struct lane **at, struct lane *l)
{
	struct lane *old = *at;

	if (l)
		l->servables++;
	*at = l;
	if (old) {
		old->servables--;
		drop_unused (d, old);
	}
}

/* The one before stays when this one has not come yet: it serves still. */
static void move_to (struct dispatch *d, struct servable *s, struct lane *l)
{
	struct lane *old = s->lane && (s->lane->managers || !s->before) ? s->lane : s->before;

	l->servables++;		/* it may be the one before: it stays until we are through */
	point (d, &s->before, old == l ? NULL : old);
	point (d, &s->lane, l);
	l->servables--;
}

void dispatch_lane_function (struct dispatch *d, const struct function *f)
{
	struct servable *s = map_get (d->servables, &f->fn.id);
	struct lane *l = f->fn.replicas && f->fn.container.n && dispatch_allows (d, &f->fn.id) ? lane_get (d, f->fn.container) : NULL;

	if (l && !(is_name (l->image) && permitted (d, l->image))) {
		drop_unused (d, l);	/* its calls are refused: nothing runs in it without them either */
		l = NULL;
	}
	if (l) {
		if (!s)
			map_put (d->servables, &f->fn.id, s = xcalloc (1, sizeof (*s)));
		if (l != s->lane)
			move_to (d, s, l);
		s->n = f->fn.replicas;
	} else if (s) {
		map_del (d->servables, &f->fn.id);
		point (d, &s->before, NULL);
		point (d, &s->lane, NULL);
		free (s);
	}
}

static int want_nodes (const struct id *id, void *v, void *arg)
{
	struct servable *s = v;
	uint32_t there = s->lane->managers < s->n ? (uint32_t) s->lane->managers : s->n;

	(void) id;
	s->lane->now.wanted = true;
	if (s->n > s->lane->now.nodes)
		s->lane->now.nodes = s->n;
	if (s->before && !s->before->managers)
		point (arg, &s->before, NULL);
	if (!s->before)
		return 0;
	s->before->now.leaving = true;
	if (s->n - there > s->before->now.nodes)
		s->before->now.nodes = s->n - there;
	return 0;
}

/* ---- for the blocks -------------------------------------------------------------------------------------------------- */

size_t dispatch_lane_tasks (const struct dispatch *d)
{
	size_t n = d->unknown.tasks;

	for (const struct lane *l = d->lanes; l; l = l->next)
		n += l->tasks;
	return n;
}

void dispatch_images_wanted (struct dispatch *d, void (*cb) (const struct scale_wish *w, void *arg), void *arg)
{
	for (struct lane *l = d->lanes; l; l = l->next)
		memset (&l->now, 0, sizeof (l->now));
	map_each (d->servables, want_nodes, d);
	for (const struct lane *l = d->lanes; l; l = l->next) {
		struct scale_wish w = { .image = l->image, .tasks = (int64_t) l->tasks, .nodes = l->now.nodes,
					.leaving = l->now.leaving && !l->now.wanted };
		cb (&w, arg);
	}
}

/* t and those after it, as far as they are of the lane. */
static void fail_from (struct dispatch *d, const struct lane *l, struct queue_task *t, const char *why)
{
	struct queue_task *next;

	for (; t && t->lane == l; t = next) {
		next = t->next;
		if (stand_in (d, t))
			continue;
		d->st.refused++;
		dispatch_end_task (d, t, STATUS_FAILED, ERR_TASK_RUNNER, FAULT_USER, why);
	}
}

void dispatch_image_failed (struct dispatch *d, const char *image, const char *why)
{
	struct lane *l = d->lanes;
	char text[900];

	while (l && strcmp (l->image, image) != 0)
		l = l->next;
	if (!l)
		return;
	snprintf (text, sizeof (text), "nodes of this endpoint cannot get the image %.200s: %.640s", image, why);
	utf8_mend (text, strlen (text));
	l->tasks++;	/* it stays until we are through */
	fail_from (d, l, l->waiting.head, text);
	fail_from (d, l, queue_front (d->queue), text);		/* those that had joined one of them are there now */
	l->tasks--;
	drop_unused (d, l);
}
