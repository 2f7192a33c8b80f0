/* SPDX-License-Identifier: Apache-2.0 */
/* See warm.h. A failed one is remembered until another of its image comes up, so that status says why. */
#include "endpoint/warm.h"
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/utf8.h"
#include "common/xmem.h"

enum { PULLING = 1, STARTING, WARM, BUSY, STOPPED, FAILED, SEEN_MAX = 8192 };

struct seen {
	struct id id;
	uint8_t state;
	char *image, text[200], digest[128];
	int64_t since_ms;
	struct seen *next;
};
struct warm { struct seen *first; size_t n; };

struct warm *warm_create (void)
{
	return xcalloc (1, sizeof (struct warm));
}

static void drop (struct warm *w, struct seen **at)
{
	struct seen *s = *at;

	*at = s->next;
	w->n--;
	free (s->image);
	free (s);
}

void warm_destroy (struct warm **w)
{
	if (!*w)
		return;
	while ((*w)->first)
		drop (*w, &(*w)->first);
	free (*w);
	*w = NULL;
}

static bool of_image (const struct seen *s, struct wire_str image)
{
	return strlen (s->image) == image.n && (!image.n || memcmp (s->image, image.p, image.n) == 0);
}

static void drop_failed (struct warm *w, struct wire_str image)
{
	for (struct seen **at = &w->first; *at;)
		if ((*at)->state == FAILED && of_image (*at, image))
			drop (w, at);
		else
			at = &(*at)->next;
}

void warm_note (struct warm *w, const struct msg_container_state *m)
{
	struct seen **at = &w->first, *s;

	if (m->state == WARM || m->state == FAILED)
		drop_failed (w, m->image);
	while (*at && !id_eq (&(*at)->id, &m->id))
		at = &(*at)->next;
	if (m->state == STOPPED) {
		if (*at)
			drop (w, at);
		return;
	}
	if (!*at) {
		if (w->n >= SEEN_MAX)
			return;
		*at = xcalloc (1, sizeof (**at));
		(*at)->id = m->id;
		(*at)->image = xcalloc (1, m->image.n + 1);
		if (m->image.n)
			memcpy ((*at)->image, m->image.p, m->image.n);
		utf8_mend ((*at)->image, m->image.n);
		w->n++;
	}
	s = *at;
	s->state = m->state;
	s->since_ms = clock_now_ms ();
	snprintf (s->digest, sizeof (s->digest), "%.*s", (int) (m->digest.n < sizeof (s->digest) ? m->digest.n : 0), m->digest.n ? m->digest.p : "");
	snprintf (s->text, sizeof (s->text), "%.*s", (int) m->text.n, m->text.n ? m->text.p : "");
	utf8_mend (s->text, strlen (s->text));
}

unsigned warm_count (const struct warm *w, struct wire_str image)
{
	unsigned n = 0;

	for (const struct seen *s = w->first; s; s = s->next)
		n += (s->state == WARM || s->state == BUSY) && of_image (s, image);
	return n;
}

json_t *warm_json (const struct warm *w)
{
	static const char *const names[] = { "?", "pulling", "starting", "warm", "busy", "stopped", "failed" };
	json_t *list = json_array ();
	char id[ID_TEXT];

	for (const struct seen *s = w->first; s; s = s->next)
		json_array_append_new (list, json_pack ("{s:s, s:s, s:s*, s:s, s:I, s:s?}", "id", id_text (&s->id, id), "image", s->image, "digest",
							*s->digest ? s->digest : NULL, "state",
							names[s->state <= FAILED ? s->state : 0], "age_ms",
							(json_int_t) (clock_now_ms () - s->since_ms), "error", *s->text ? s->text : NULL));
	return list;
}
