/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing in a power of two of slots, at most 2/3 full; deletion shifts the rest of the run back, so there are
 * no tombstones. An empty slot has value NULL. The hash folds a 64x64-bit product with random keys: a peer that picks
 * ids cannot aim for collisions. */
#include "common/map.h"
#include "common/xmem.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { MAP_FIRST = 16, HUGE_PAGE = 2 << 20 };

struct slot {
	struct id k;
	void *v;
};

struct map {
	struct slot *slots;
	size_t mask, size;
};

static uint64_t key[4];

static uint64_t fold (uint64_t a, uint64_t b)
{
	unsigned __int128 p = (unsigned __int128) a * b;

	return (uint64_t) p ^ (uint64_t) (p >> 64);
}

static size_t home (const struct map *m, const struct id *k)
{
	uint64_t a, b;

	memcpy (&a, k->b, 8);
	memcpy (&b, k->b + 8, 8);
	return (size_t) fold (fold (a ^ key[0], b ^ key[1]) ^ key[2], key[3]) & m->mask;
}

static struct slot *find (const struct map *m, const struct id *k)
{
	size_t i = home (m, k);

	while (m->slots[i].v && !id_eq (&m->slots[i].k, k))
		i = (i + 1) & m->mask;
	return &m->slots[i];
}

/* A large table is read at random places: in huge pages, so that the processor knows where they are. */
static struct slot *slots_alloc (size_t n)
{
	size_t bytes = (n * sizeof (struct slot) + HUGE_PAGE - 1) & ~(size_t) (HUGE_PAGE - 1);
	void *p;

	if (n * sizeof (struct slot) < HUGE_PAGE || !(p = aligned_alloc (HUGE_PAGE, bytes)))
		return xcalloc (n, sizeof (struct slot));
	madvise (p, bytes, MADV_HUGEPAGE);
	return memset (p, 0, n * sizeof (struct slot));
}

struct map *map_create (void)
{
	struct map *m = xcalloc (1, sizeof (*m));

	if (!key[3]) {
		ids_random (key, sizeof (key));
		key[3] |= 1;
	}
	m->mask = MAP_FIRST - 1;
	m->slots = xcalloc (MAP_FIRST, sizeof (*m->slots));
	return m;
}

void map_destroy (struct map **m)
{
	if (!*m)
		return;
	free ((*m)->slots);
	free (*m);
	*m = NULL;
}

void map_destroy_owned (struct map **m, void (*drop) (void *v))
{
	for (size_t i = 0; drop && *m && i <= (*m)->mask; i++)
		if ((*m)->slots[i].v)
			drop ((*m)->slots[i].v);
	map_destroy (m);
}

void map_empty (struct map **m, void (*drop) (void *v))
{
	map_destroy_owned (m, drop);
	*m = map_create ();
}

static void grow (struct map *m)
{
	struct slot *old = m->slots;
	size_t n = m->mask + 1;

	m->mask = n * 2 - 1;
	m->slots = slots_alloc (n * 2);
	for (size_t i = 0; i < n; i++)
		if (old[i].v)
			*find (m, &old[i].k) = old[i];
	free (old);
}

void *map_get (const struct map *m, const struct id *k)
{
	return find (m, k)->v;
}

void map_prefetch (const struct map *m, const struct id *k)
{
	__builtin_prefetch (&m->slots[home (m, k)].v);
}

void *map_put (struct map *m, const struct id *k, void *v)
{
	struct slot *s = find (m, k);
	void *old = s->v;

	if (!old) {
		if ((m->size + 1) * 3 > (m->mask + 1) * 2) {
			grow (m);
			s = find (m, k);
		}
		s->k = *k;
		m->size++;
	}
	s->v = v;
	return old;
}

void *map_del (struct map *m, const struct id *k)
{
	struct slot *s = find (m, k);
	void *old = s->v;
	size_t hole, i;

	if (!old)
		return NULL;
	hole = (size_t) (s - m->slots);
	for (i = (hole + 1) & m->mask; m->slots[i].v; i = (i + 1) & m->mask) {
		size_t want = home (m, &m->slots[i].k);
		/* it may move back when its home is not between the hole (excluded) and where it is */
		if (((i - want) & m->mask) >= ((i - hole) & m->mask)) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole].v = NULL;
	m->size--;
	return old;
}

size_t map_size (const struct map *m)
{
	return m->size;
}

int map_each (struct map *m, int (*cb) (const struct id *k, void *v, void *arg), void *arg)
{
	size_t n = m->mask + 1, start = 0;

	/* Begin behind an empty slot: then a deletion moves only entries that are still to be visited. */
	while (m->slots[start].v)
		start++;
	for (size_t step = 1; step < n;) {
		struct slot *s = &m->slots[(start + step) & m->mask];
		size_t before = m->size;
		if (s->v) {
			struct id k = s->k; /* the slot may be filled anew during the call */
			int rc = cb (&k, s->v, arg);
			if (rc)
				return rc;
		}
		if (m->size == before)
			step++;
	}
	return 0;
}
