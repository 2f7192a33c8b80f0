/* SPDX-License-Identifier: Apache-2.0 */
/* See functions.h. */
#include "endpoint/functions.h"
#include "common/map.h"
#include "common/xmem.h"

#include <stdlib.h>

struct entry {
	struct id id;
	zmq_msg_t record;
	size_t bytes;
	struct entry *newer, *older;
};

struct functions {
	struct map *by_id;
	struct entry *newest, *oldest;
	size_t bytes, max_bytes;
};

struct functions *functions_create (size_t max_bytes)
{
	struct functions *f = xcalloc (1, sizeof (*f));

	f->by_id = map_create ();
	f->max_bytes = max_bytes;
	return f;
}

static void unlink_entry (struct functions *f, struct entry *e)
{
	if (e->newer)
		e->newer->older = e->older;
	else
		f->newest = e->older;
	if (e->older)
		e->older->newer = e->newer;
	else
		f->oldest = e->newer;
	e->newer = e->older = NULL;
}

static void link_newest (struct functions *f, struct entry *e)
{
	e->older = f->newest;
	if (f->newest)
		f->newest->newer = e;
	else
		f->oldest = e;
	f->newest = e;
}

static void drop (struct functions *f, struct entry *e)
{
	unlink_entry (f, e);
	map_del (f->by_id, &e->id);
	f->bytes -= e->bytes;
	zmq_msg_close (&e->record);
	free (e);
}

void functions_destroy (struct functions **f)
{
	if (!*f)
		return;
	while ((*f)->oldest)
		drop (*f, (*f)->oldest);
	map_destroy (&(*f)->by_id);
	free (*f);
	*f = NULL;
}

void functions_put (struct functions *f, const struct id *id, zmq_msg_t *record)
{
	struct entry *e = map_get (f->by_id, id);

	if (e)
		drop (f, e);
	e = xcalloc (1, sizeof (*e));
	e->id = *id;
	e->bytes = zmq_msg_size (record);
	zmq_msg_init (&e->record);
	zmq_msg_move (&e->record, record);
	map_put (f->by_id, id, e);
	link_newest (f, e);
	f->bytes += e->bytes;
	while (f->bytes > f->max_bytes && f->oldest != e)
		drop (f, f->oldest);
}

bool functions_has (const struct functions *f, const struct id *id)
{
	return map_get (f->by_id, id) != NULL;
}

bool functions_get (struct functions *f, const struct id *id, zmq_msg_t *out)
{
	struct entry *e = map_get (f->by_id, id);

	if (!e)
		return false;
	if (f->newest != e) {
		unlink_entry (f, e);
		link_newest (f, e);
	}
	zmq_msg_copy (out, &e->record);
	return true;
}

size_t functions_count (const struct functions *f)
{
	return map_size (f->by_id);
}

size_t functions_bytes (const struct functions *f)
{
	return f->bytes;
}
