/* SPDX-License-Identifier: Apache-2.0 */
/* See gang.h. */
#include "endpoint/gang.h"
#include "common/xmem.h"
#include "endpoint/managers.h"

#include <stdlib.h>
#include <string.h>

static bool fits (const struct manager *m, uint32_t expected_ms, int64_t now_ms)
{
	return !m->node.ends_ms || m->node.ends_ms - now_ms > (int64_t) expected_ms;
}

/* By block; in it those that are free first, then those whose tasks are few. */
static int by_block (const void *x, const void *y)
{
	const struct manager *a = *(struct manager *const *) x, *b = *(struct manager *const *) y;
	int d = strcmp (a->block, b->block);

	if (!d)
		d = (a->gang != NULL) - (b->gang != NULL);
	return d ? d : a->node.out < b->node.out ? -1 : a->node.out > b->node.out;
}

static int by_name (const void *x, const void *y)
{
	const struct manager *a = *(struct manager *const *) x, *b = *(struct manager *const *) y;

	return strverscmp (a->name, b->name);
}

static unsigned tasks_of (struct manager *const *m, unsigned n)
{
	unsigned out = 0;

	for (unsigned i = 0; i < n; i++)
		out += (m[i]->gang != NULL) + m[i]->node.out;
	return out;
}

/* The block, of all that are sorted here, where n nodes have the fewest tasks. NULL: none has so many. */
static struct manager **best_of (struct manager **all, size_t count, unsigned n)
{
	struct manager **best = NULL;

	for (size_t i = 0, end; i < count; i = end) {
		for (end = i + 1; end < count && strcmp (all[end]->block, all[i]->block) == 0;)
			end++;
		if (end - i >= n && (!best || tasks_of (&all[i], n) < tasks_of (best, n)))
			best = &all[i];
	}
	return best;
}

enum gang_answer gang_choose (struct manager *first, unsigned n, uint32_t expected_ms, int64_t now_ms, struct gang **out)
{
	struct manager **all, **best;
	size_t count = 0, space = 0;
	bool late = false;

	*out = NULL;
	for (const struct manager *m = first; m; m = m->next)
		space++;
	all = xcalloc (space + 1, sizeof (*all));
	for (struct manager *m = first; m; m = m->next) {
		if (m->draining || m->reserved || !m->knows_nodes)
			continue;
		if (fits (m, expected_ms, now_ms))
			all[count++] = m;
		else
			late = true;
	}
	qsort (all, count, sizeof (*all), by_block);
	if ((best = best_of (all, count, n))) {
		struct gang *g = *out = xcalloc (1, sizeof (*g));
		g->n = n;
		g->m = xcalloc (n, sizeof (*g->m));
		memcpy (g->m, best, n * sizeof (*g->m));
		qsort (g->m, n, sizeof (*g->m), by_name);
	}
	free (all);
	return best ? GANG_MADE : late ? GANG_TIME_SHORT : GANG_NONE;
}

static void mark (struct manager *m)
{
	m->node.reserved = m->reserved || m->gang;
}

void gang_keep (struct gang *g)
{
	for (size_t i = 0; i < g->n; i++) {
		g->m[i]->reserved = true;
		mark (g->m[i]);
	}
}

void gang_take (struct gang *g)
{
	g->taken = true;
	for (size_t i = 0; i < g->n; i++) {
		g->m[i]->reserved = false;
		g->m[i]->gang = g;
		mark (g->m[i]);
	}
}

void gang_leave (struct gang *g)
{
	for (size_t i = 0; i < g->n; i++) {
		if (!g->m[i])
			continue;
		if (g->taken)
			g->m[i]->gang = NULL;
		else
			g->m[i]->reserved = false;
		mark (g->m[i]);
	}
}

void gang_free (struct gang **g)
{
	free ((*g)->m);
	free (*g);
	*g = NULL;
}

bool gang_idle (const struct gang *g)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->m[i]->gang || g->m[i]->node.out)
			return false;
	return true;
}

void gang_without (struct gang *g, struct manager *m)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->m[i] == m)
			g->m[i] = NULL;
}
