/* SPDX-License-Identifier: Apache-2.0 */
/* Functions by id, the least recently used dropped first. */
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "common/map.h"
#include "common/xmem.h"
#include "worker/functions.h"

struct node {
	struct function f;		/* first: a struct function * is a struct node * */
	TAILQ_ENTRY (node) link;
	size_t bytes;
};

struct functions {
	struct map *map;
	TAILQ_HEAD (, node) used;	/* least recently first */
	size_t bytes, max_bytes, max_count;
};

struct functions *functions_create (size_t max_count, size_t max_bytes)
{
	struct functions *f = xcalloc (1, sizeof (*f));

	f->map = map_create ();
	TAILQ_INIT (&f->used);
	f->max_bytes = max_bytes;
	f->max_count = max_count;
	return f;
}

static void drop (struct functions *f, struct node *n)
{
	TAILQ_REMOVE (&f->used, n, link);
	map_del (f->map, &n->f.fn.id);
	f->bytes -= n->bytes;
	free ((void *) n->f.record.p);
	free (n);
}

void functions_destroy (struct functions **fp)
{
	struct functions *f = *fp;

	if (!f)
		return;
	while (!TAILQ_EMPTY (&f->used))
		drop (f, TAILQ_FIRST (&f->used));
	map_destroy (&f->map);
	free (f);
	*fp = NULL;
}

static void make_room (struct functions *f)
{
	struct node *n, *next;

	for (n = TAILQ_FIRST (&f->used); n && (f->bytes > f->max_bytes || map_size (f->map) > f->max_count); n = next) {
		next = TAILQ_NEXT (n, link);
		if (n->f.users == 0 && next)	/* the last is the newest */
			drop (f, n);
	}
}

struct function *functions_add (struct functions *f, const void *record, size_t bytes, struct err *err)
{
	struct msg_function fn;
	struct node *n;
	void *copy;

	if (msg_function_decode (&fn, record, bytes, err) < 0)
		return NULL;
	if ((n = map_get (f->map, &fn.id)))
		return &n->f;
	if (!(copy = malloc (bytes))) {
		err_set (err, ERR_LIMIT, FAULT_SITE, "no memory for a function of %zu bytes", bytes);
		return NULL;
	}
	memcpy (copy, record, bytes);
	n = xcalloc (1, sizeof (*n));
	n->bytes = bytes;
	n->f.record = wire_str (copy, bytes);
	msg_function_decode (&n->f.fn, copy, bytes, NULL);
	map_put (f->map, &n->f.fn.id, n);
	TAILQ_INSERT_TAIL (&f->used, n, link);
	f->bytes += bytes;
	make_room (f);
	return &n->f;
}

struct function *functions_get (struct functions *f, const struct id *id)
{
	struct node *n = map_get (f->map, id);

	if (!n)
		return NULL;
	if (TAILQ_NEXT (n, link)) {
		TAILQ_REMOVE (&f->used, n, link);
		TAILQ_INSERT_TAIL (&f->used, n, link);
	}
	return &n->f;
}

size_t functions_count (const struct functions *f)
{
	return map_size (f->map);
}

void function_took (struct function *f, int64_t ns)
{
	if (ns < 0)
		ns = 0;
	f->mean_ns = f->calls ? f->mean_ns + (ns - f->mean_ns) / 4 : ns;
	if (f->calls < FUNCTION_KNOWN)
		f->calls++;
}

bool function_is_fast (const struct function *f, int64_t under_ns)
{
	return f->calls >= FUNCTION_KNOWN && f->mean_ns < under_ns;
}
