/* SPDX-License-Identifier: Apache-2.0 */
/* Peers of a listener by carrier and routing id. libzmq numbers connections one after the other from a random start, so the ids spread well over a
 * table by themselves; they are mixed all the same, because old and new peers interleave. Linear probing, deletion by shifting back:
 * no tombstones, so a listener with much coming and going stays as fast as it was. */
#include "proto/link_internal.h"
#include <stdlib.h>
#include "common/xmem.h"

static size_t home_of (const struct link_table *t, uint32_t rid)
{
	return (uint32_t) (rid * 2654435769u) & (t->cap - 1);
}

struct link_peer *link_table_get (const struct link_table *t, const struct link_carrier *by, uint32_t rid)
{
	if (t->size == 0)
		return NULL;
	for (size_t i = home_of (t, rid); t->slot[i]; i = (i + 1) & (t->cap - 1))
		if (t->slot[i]->rid == rid && t->slot[i]->by == by)
			return t->slot[i];
	return NULL;
}

static void place (struct link_table *t, struct link_peer *p)
{
	size_t i = home_of (t, p->rid);
	while (t->slot[i] && (t->slot[i]->rid != p->rid || t->slot[i]->by != p->by))
		i = (i + 1) & (t->cap - 1);
	if (!t->slot[i])
		t->size++;
	t->slot[i] = p;
}

static void grow (struct link_table *t)
{
	struct link_table old = *t;
	t->cap = old.cap ? old.cap * 2 : 16;
	t->slot = xcalloc (t->cap, sizeof (*t->slot));
	t->size = 0;
	for (size_t i = 0; i < old.cap; i++)
		if (old.slot[i])
			place (t, old.slot[i]);
	free (old.slot);
}

void link_table_put (struct link_table *t, struct link_peer *p)
{
	if ((t->size + 1) * 2 > t->cap)
		grow (t);
	place (t, p);
}

void link_table_del (struct link_table *t, const struct link_peer *p)
{
	size_t mask = t->cap - 1, i, j;
	if (t->size == 0)
		return;
	for (i = home_of (t, p->rid); t->slot[i] && (t->slot[i]->rid != p->rid || t->slot[i]->by != p->by); i = (i + 1) & mask)
		;
	if (!t->slot[i])
		return;
	t->size--;
	for (j = (i + 1) & mask; t->slot[j]; j = (j + 1) & mask)
		/* j may move into the hole unless its home lies between the two */
		if (((j - home_of (t, t->slot[j]->rid)) & mask) >= ((j - i) & mask)) {
			t->slot[i] = t->slot[j];
			i = j;
		}
	t->slot[i] = NULL;
}

void link_table_fini (struct link_table *t)
{
	free (t->slot);
	*t = (struct link_table) { 0 };
}
