/* SPDX-License-Identifier: Apache-2.0 */
/* See batch.h. */
#include "endpoint/manager/batch.h"
#include <stdlib.h>
#include "common/map.h"
#include "common/xmem.h"

#define STEPS 16

struct size { unsigned n, step; };	/* step 0: it doubles */
struct batch { struct map *by_function; /* of struct size, owned */ };

struct batch *batch_create (void)
{
	struct batch *b = xcalloc (1, sizeof (*b));

	b->by_function = map_create ();
	return b;
}

void batch_destroy (struct batch **b)
{
	if (!*b)
		return;
	map_destroy_owned (&(*b)->by_function, free);
	free (*b);
	*b = NULL;
}

static int64_t objective_ns (const struct msg_function *f)
{
	return (f->latency_ms ? (int64_t) f->latency_ms : (int64_t) f->time_limit_ms / 2) * 1000000;
}

static unsigned most (const struct msg_function *f)
{
	return f->max_batch ? f->max_batch : 1;
}

static struct size *size_of (struct batch *b, const struct msg_function *f)
{
	struct size *s = map_get (b->by_function, &f->id);

	if (s)
		return s;
	if (map_size (b->by_function) >= BATCH_FUNCTIONS)
		map_empty (&b->by_function, free);
	s = xcalloc (1, sizeof (*s));
	s->n = objective_ns (f) ? 1 : most (f);
	map_put (b->by_function, &f->id, s);
	return s;
}

unsigned batch_size (struct batch *b, const struct msg_function *f)
{
	return f->flags & FUNCTION_BATCH ? size_of (b, f)->n : 0;
}

void batch_note (struct batch *b, const struct msg_function *f, unsigned n, unsigned size, int64_t took_ns)
{
	struct size *s;

	if (!(f->flags & FUNCTION_BATCH) || !objective_ns (f) || !n)
		return;
	s = size_of (b, f);
	if (took_ns > objective_ns (f)) {
		if (s->n > n / 2)
			s->n = n / 2 ? n / 2 : 1;
		s->step = s->n / STEPS ? s->n / STEPS : 1;
	} else if (n >= size && size >= s->n) {
		s->n += s->step ? s->step : s->n;
		if (s->n > most (f))
			s->n = most (f);
	}
}
