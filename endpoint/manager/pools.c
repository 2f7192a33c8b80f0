/* SPDX-License-Identifier: Apache-2.0 */
/* See pools.h. A node knows a handful of pools: a list will do. */
#include "endpoint/manager/pools.h"
#include <stdlib.h>
#include <string.h>
#include "common/map.h"
#include "common/xmem.h"

struct pools { struct pool *first; };

struct pools *pools_create (void)
{
	return xcalloc (1, sizeof (struct pools));
}

static void pool_free (struct pool *p)
{
	map_destroy (&p->asking);
	map_destroy (&p->told);
	free (p->image);
	free (p);
}

void pools_destroy (struct pools **ps)
{
	struct pool *p, *next;

	if (!*ps)
		return;
	for (p = (*ps)->first; p; p = next) {
		next = p->next;
		pool_free (p);
	}
	free (*ps);
	*ps = NULL;
}

struct pool *pools_first (const struct pools *ps)
{
	return ps->first;
}

static bool same (const struct pool *p, const struct runtime *rt, const struct container_spec *s)
{
	return p->rt == rt && p->spec.network == s->network && p->spec.cpu_millis == s->cpu_millis && p->spec.pids == s->pids
	       && p->spec.memory_bytes == s->memory_bytes && strcmp (p->image, s->image) == 0;
}

struct pool *pools_get (struct pools *ps, const struct runtime *rt, const struct container_spec *spec)
{
	struct pool *p = ps->first;

	while (p && !same (p, rt, spec))
		p = p->next;
	if (p)
		return p;
	p = xcalloc (1, sizeof (*p));
	p->rt = rt;
	p->spec = *spec;
	p->spec.image = p->image = xstrdup (spec->image);
	p->asking = map_create ();
	p->told = map_create ();
	p->next = ps->first;
	ps->first = p;
	return p;
}

void pools_drop (struct pools *ps, struct pool *p)
{
	struct pool **at = &ps->first;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	for (struct pool *q = ps->first; q; q = q->next)
		if (q->replaces == p)
			q->replaces = NULL;
	pool_free (p);
}

size_t pools_waiting (const struct pools *ps)
{
	const struct pool *p;
	size_t n = 0;

	for (p = ps->first; p; p = p->next)
		n += p->waiting.n;
	return n;
}

void pool_note_cold (struct pool *p, int64_t ms)
{
	p->cold_ms = p->cold_ms ? (3 * p->cold_ms + ms) / 4 : ms;
	if (p->cold_ms < 1)
		p->cold_ms = 1;
}

bool pool_wants_more (const struct pool_load *l)
{
	unsigned have = l->idle + l->starting + l->busy;
	int64_t wait, cold = l->cold_ms ? l->cold_ms : POOL_COLD_GUESS_MS;

	if (!l->waiting)
		return false;
	if (!have)
		return true;
	if (l->waiting <= (size_t) l->idle + l->starting)
		return false;	/* they are being served */
	/* the last of them waits for so many calls, shared by those that there are */
	wait = l->exec_ms < 0 ? 0 : (int64_t) (l->waiting - l->idle - l->starting) * l->exec_ms / have;
	return wait > cold || l->oldest_ms > cold;
}
