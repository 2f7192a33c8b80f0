/* SPDX-License-Identifier: Apache-2.0 */
/* See functions.h. */
#include <stdlib.h>
#include "common/digest.h"
#include "common/map.h"
#include "common/xmem.h"
#include "proto/functions.h"

struct functions {
	struct map *by_id;
	TAILQ_HEAD (, function) used;	/* least recently first */
	size_t bytes, max_bytes, max_count;
};

struct functions *functions_create (size_t max_count, size_t max_bytes)
{
	struct functions *fs = xcalloc (1, sizeof (*fs));

	fs->by_id = map_create ();
	TAILQ_INIT (&fs->used);
	fs->max_count = max_count;
	fs->max_bytes = max_bytes;
	return fs;
}

static void drop (struct functions *fs, struct function *f)
{
	TAILQ_REMOVE (&fs->used, f, link);
	map_del (fs->by_id, &f->fn.id);
	fs->bytes -= zmq_msg_size (&f->record);
	zmq_msg_close (&f->record);
	free (f);
}

void functions_destroy (struct functions **fs)
{
	if (!*fs)
		return;
	while (!TAILQ_EMPTY (&(*fs)->used))
		drop (*fs, TAILQ_FIRST (&(*fs)->used));
	map_destroy (&(*fs)->by_id);
	free (*fs);
	*fs = NULL;
}

static void make_room (struct functions *fs)
{
	struct function *f, *next;

	for (f = TAILQ_FIRST (&fs->used); f && (fs->bytes > fs->max_bytes || map_size (fs->by_id) > fs->max_count); f = next) {
		next = TAILQ_NEXT (f, link);
		if (f->users == 0 && next)	/* the last is the newest */
			drop (fs, f);
	}
}

struct function *functions_put (struct functions *fs, zmq_msg_t *record, struct err *err)
{
	struct msg_function fn;
	struct function *f;

	if (msg_function_decode (&fn, zmq_msg_data (record), zmq_msg_size (record), err) < 0)
		return NULL;
	if ((f = map_get (fs->by_id, &fn.id))) {
		if (f->users)
			return f;
		drop (fs, f);
	}
	f = xcalloc (1, sizeof (*f));
	zmq_msg_init (&f->record);
	zmq_msg_move (&f->record, record);
	msg_function_decode (&f->fn, zmq_msg_data (&f->record), zmq_msg_size (&f->record), NULL);
	map_put (fs->by_id, &f->fn.id, f);
	TAILQ_INSERT_TAIL (&fs->used, f, link);
	fs->bytes += zmq_msg_size (&f->record);
	make_room (fs);
	return f;
}

struct function *functions_get (struct functions *fs, const struct id *id)
{
	struct function *f = map_get (fs->by_id, id);

	if (f && TAILQ_NEXT (f, link)) {
		TAILQ_REMOVE (&fs->used, f, link);
		TAILQ_INSERT_TAIL (&fs->used, f, link);
	}
	return f;
}

size_t functions_count (const struct functions *fs)
{
	return map_size (fs->by_id);
}

size_t functions_bytes (const struct functions *fs)
{
	return fs->bytes;
}

const uint8_t *function_digest (struct function *f)
{
	struct digest_part all = { zmq_msg_data (&f->record), zmq_msg_size (&f->record) };

	if (!f->digested)
		f->digested = digest_sha256 (&all, 1, f->digest) == 0;
	return f->digested ? f->digest : NULL;
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
