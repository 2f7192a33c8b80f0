/* SPDX-License-Identifier: Apache-2.0 */
/* See functions.h. */
#include "endpoint/manager/functions.h"
#include <stdlib.h>
#include <string.h>
#include "common/map.h"
#include "common/xmem.h"

struct functions {
	struct map *by_id;
	struct function *newest, *oldest;
	size_t bytes, max_bytes;
};

struct functions *functions_create (size_t max_bytes)
{
	struct functions *fs = xcalloc (1, sizeof (*fs));

	fs->by_id = map_create ();
	fs->max_bytes = max_bytes;
	return fs;
}

static void detach (struct functions *fs, struct function *f)
{
	if (f->newer)
		f->newer->older = f->older;
	else
		fs->newest = f->older;
	if (f->older)
		f->older->newer = f->newer;
	else
		fs->oldest = f->newer;
	f->newer = f->older = NULL;
}

static void attach (struct functions *fs, struct function *f)
{
	f->older = fs->newest;
	if (fs->newest)
		fs->newest->newer = f;
	else
		fs->oldest = f;
	fs->newest = f;
}

static void drop (struct functions *fs, struct function *f)
{
	detach (fs, f);
	map_del (fs->by_id, &f->id);
	fs->bytes -= zmq_msg_size (&f->record);
	zmq_msg_close (&f->record);
	free (f->container);
	free (f);
}

void functions_destroy (struct functions **fs)
{
	if (!*fs)
		return;
	while ((*fs)->oldest)
		drop (*fs, (*fs)->oldest);
	map_destroy (&(*fs)->by_id);
	free (*fs);
	*fs = NULL;
}

void functions_put (struct functions *fs, zmq_msg_t *record, const struct msg_function *m)
{
	struct function *f = map_get (fs->by_id, &m->id);

	if (f)
		drop (fs, f);
	f = xcalloc (1, sizeof (*f));
	f->id = m->id;
	if (m->container.n) {
		f->container = xcalloc (1, m->container.n + 1);
		memcpy (f->container, m->container.p, m->container.n);
	}
	zmq_msg_init (&f->record);
	zmq_msg_move (&f->record, record);
	fs->bytes += zmq_msg_size (&f->record);
	map_put (fs->by_id, &f->id, f);
	attach (fs, f);
	while (fs->bytes > fs->max_bytes && fs->oldest != f)
		drop (fs, fs->oldest);
}

struct function *functions_get (struct functions *fs, const struct id *id)
{
	struct function *f = map_get (fs->by_id, id);

	if (f && fs->newest != f) {
		detach (fs, f);
		attach (fs, f);
	}
	return f;
}

size_t functions_bytes (const struct functions *fs)
{
	return fs->bytes;
}
