/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. Which images a call of a function in a container would run from now, as the managers say. A task of a function
 * that memoises is held until one has said it, IMAGES_ANSWER_MS at most: then it runs, and no earlier result answers it. */
#include "endpoint/dispatch_internal.h"
#include "common/clock.h"
#include "endpoint/images.h"
#include "proto/link.h"

static void ask (struct dispatch *d, struct manager *m, const struct id *function, int64_t now)
{
	struct msg_image q = { .function = *function };
	struct buf b;

	if (!dispatch_send_function (d, m, function))
		return;
	buf_init (&b, 64);
	msg_image_encode (&b, &q);
	if (!buf_failed (&b))
		link_send_bytes (m->peer, WIRE_IMAGE, b.data, b.len);
	buf_fini (&b);
	images_asked (m->images, function, now);
}

static bool among (const struct id *list, size_t n, const struct id *id)
{
	for (size_t i = 0; i < n; i++)
		if (id_eq (&list[i], id))
			return true;
	return false;
}

enum images_state dispatch_images (struct dispatch *d, struct queue_task *t, struct id out[DISPATCH_IMAGES_MAX], size_t *n)
{
	int64_t now = clock_now_ms ();
	enum images_state all = IMAGES_UNKNOWN;
	struct manager *first = NULL, *m;
	struct id image;

	*n = 0;
	for (m = managers_first (d->managers); m; m = m->next) {
		enum images_state s = m->node.closed ? IMAGES_UNKNOWN : images_get (m->images, &t->function, now, &image);

		if (s > all)
			all = s;
		if (s == IMAGES_KNOWN && *n < DISPATCH_IMAGES_MAX && !among (out, *n, &image))
			out[(*n)++] = image;
		if (!m->node.closed)
			first = m;
	}
	if (!first)
		return IMAGES_UNKNOWN;
	if (all == IMAGES_UNKNOWN && (m = dispatch_warm_manager (d, t, now)))
		first = m;
	if (!t->image_until_ms)
		t->image_until_ms = now + IMAGES_ANSWER_MS;
	if (all >= IMAGES_NONE || now >= t->image_until_ms)
		return all == IMAGES_KNOWN ? IMAGES_KNOWN : IMAGES_NONE;
	if (all == IMAGES_UNKNOWN)
		ask (d, first, &t->function, now);
	return IMAGES_ASKED;
}

static void try_held (struct dispatch *d)
{
	if (queue_held (d->queue)->n) {
		queue_release_held (d->queue, clock_now_ms ());
		dispatch_work_later (d);
	}
}

void dispatch_on_image (struct manager *m, const struct msg_image *i, void *arg)
{
	images_note (m->images, i, clock_now_ms ());
	try_held (arg);
}

void dispatch_images_changed (struct dispatch *d, const struct id *function)
{
	for (struct manager *m = d->managers ? managers_first (d->managers) : NULL; m; m = m->next)
		images_forget (m->images, function);
}
