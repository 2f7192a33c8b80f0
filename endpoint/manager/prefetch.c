/* SPDX-License-Identifier: Apache-2.0 */
/* See prefetch.h. */
#include "endpoint/manager/prefetch.h"
#include <stdlib.h>
#include "common/map.h"
#include "common/xmem.h"

#define SMALL_NS 1000000

struct average { int64_t ns; unsigned samples; };
struct prefetch {
	struct map *by_function;	/* of struct average, owned */
	int64_t all_ns;			/* over all functions; -1 = unknown */
};

struct prefetch *prefetch_create (void)
{
	struct prefetch *p = xcalloc (1, sizeof (*p));

	p->by_function = map_create ();
	p->all_ns = -1;
	return p;
}

void prefetch_destroy (struct prefetch **p)
{
	if (!*p)
		return;
	map_destroy_owned (&(*p)->by_function, free);
	free (*p);
	*p = NULL;
}

/* A call much longer than the average counts at once: stopping to queue behind it matters more than a smooth figure. What ran says how
 * long it took, so the figures may be anything: ns > 8 * old + 1 ms, without the product. */
static int64_t average (int64_t old, int64_t ns)
{
	if (old < 0 || (ns > SMALL_NS && (ns - SMALL_NS - 1) / 8 >= old))
		return ns;
	return old + (ns - old) / 4;
}

void prefetch_note (struct prefetch *p, const struct id *function, int64_t execution_ns)
{
	struct average *a;

	if (execution_ns < 0)
		return;
	a = map_get (p->by_function, function);
	if (!a) {
		if (map_size (p->by_function) >= PREFETCH_FUNCTIONS)
			map_empty (&p->by_function, free);
		a = xcalloc (1, sizeof (*a));
		a->ns = -1;
		map_put (p->by_function, function, a);
	}
	a->ns = average (a->ns, execution_ns);
	a->samples += a->samples < PREFETCH_SAMPLES;
	p->all_ns = average (p->all_ns, execution_ns);
}

int64_t prefetch_average_ns (const struct prefetch *p, const struct id *function)
{
	const struct average *a = map_get (p->by_function, function);

	return a ? a->ns : -1;
}

static unsigned depth (int64_t ns)
{
	if (ns < 0 || ns >= PREFETCH_LONG_NS)
		return 0;
	if (ns <= PREFETCH_AHEAD_NS / PREFETCH_MAX)
		return PREFETCH_MAX;
	return (unsigned) (PREFETCH_AHEAD_NS / ns);
}

unsigned prefetch_depth (const struct prefetch *p, const struct id *function)
{
	const struct average *a = map_get (p->by_function, function);

	return a && a->samples >= PREFETCH_SAMPLES ? depth (a->ns) : 0;
}

static unsigned round_down (unsigned n)
{
	unsigned r = 1;

	if (!n)
		return 0;
	while (r * 2 <= n)
		r *= 2;
	return r;
}

unsigned prefetch_depth_all (const struct prefetch *p)
{
	return round_down (depth (p->all_ns));
}

unsigned prefetch_queue (const struct prefetch *p)
{
	int64_t n;

	if (p->all_ns < 0)
		return PREFETCH_QUEUE_MIN;
	n = p->all_ns ? PREFETCH_QUEUE_NS / p->all_ns : PREFETCH_QUEUE_MAX;
	if (n < PREFETCH_QUEUE_MIN)
		return PREFETCH_QUEUE_MIN;
	return n > PREFETCH_QUEUE_MAX ? PREFETCH_QUEUE_MAX : round_down ((unsigned) n);
}
