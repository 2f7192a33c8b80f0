/* SPDX-License-Identifier: Apache-2.0 */
/* See images.h. */
#include "endpoint/images.h"
#include <stdlib.h>
#include "common/map.h"
#include "common/xmem.h"

enum {
	MOST = 65536,		/* functions; over it the memory starts over */
	VALID_MAX_MS = 60000,
	NONE_MS = 1000,		/* a function whose image cannot be told is not asked for again so soon */
};

struct entry { struct id image; int64_t until_ms, asked_ms; };
struct images { struct map *by_function; };

struct images *images_create (void)
{
	struct images *im = xcalloc (1, sizeof (*im));

	im->by_function = map_create ();
	return im;
}

void images_destroy (struct images **im)
{
	if (!*im)
		return;
	map_destroy_owned (&(*im)->by_function, free);
	free (*im);
	*im = NULL;
}

static struct entry *entry_of (struct images *im, const struct id *function)
{
	struct entry *e = map_get (im->by_function, function);

	if (e)
		return e;
	if (map_size (im->by_function) >= MOST)
		map_empty (&im->by_function, free);
	e = xcalloc (1, sizeof (*e));
	map_put (im->by_function, function, e);
	return e;
}

void images_note (struct images *im, const struct msg_image *m, int64_t now_ms)
{
	struct entry *e = entry_of (im, &m->function);
	int64_t valid = m->valid_ms < VALID_MAX_MS ? m->valid_ms : VALID_MAX_MS;

	e->asked_ms = 0;
	e->image = m->image;
	e->until_ms = now_ms + (id_is_zero (&m->image) ? NONE_MS : valid);
}

void images_asked (struct images *im, const struct id *function, int64_t now_ms)
{
	entry_of (im, function)->asked_ms = now_ms;
}

void images_forget (struct images *im, const struct id *function)
{
	free (map_del (im->by_function, function));
}

enum images_state images_get (const struct images *im, const struct id *function, int64_t now_ms, struct id *image)
{
	const struct entry *e = map_get (im->by_function, function);

	if (e && now_ms < e->until_ms) {
		*image = e->image;
		return id_is_zero (image) ? IMAGES_NONE : IMAGES_KNOWN;
	}
	return e && e->asked_ms && now_ms - e->asked_ms < IMAGES_ANSWER_MS ? IMAGES_ASKED : IMAGES_UNKNOWN;
}
