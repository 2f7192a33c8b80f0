/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/hand.h"
#include <stdlib.h>
#include <string.h>
#include "common/map.h"
#include "common/xmem.h"

#define STATES HAND_STATES

struct hand {
	struct map *tasks;
	struct map *entries;	/* by stream id, see entry_key */
	struct hand_list lists[STATES];
	size_t counts[STATES];
	size_t sent_bytes;
};

/* "1700000000000-12" as two 64-bit numbers: 16 bytes, the width of an id. */
static struct id entry_key (const char *entry)
{
	struct id k;
	char *end;
	uint64_t part[2];
	part[0] = strtoull (entry, &end, 10);
	part[1] = *end == '-' ? strtoull (end + 1, NULL, 10) : 0;
	memcpy (k.b, part, sizeof (part));
	return k;
}

struct hand *hand_create (void)
{
	struct hand *h = xcalloc (1, sizeof (*h));
	h->tasks = map_create ();
	h->entries = map_create ();
	for (int i = 0; i < STATES; i++)
		TAILQ_INIT (&h->lists[i]);
	return h;
}

void hand_destroy (struct hand **hp)
{
	struct hand *h = *hp;
	if (!h)
		return;
	for (int i = 0; i < STATES; i++)
		while (!TAILQ_EMPTY (&h->lists[i]))
			hand_remove (h, TAILQ_FIRST (&h->lists[i]));
	map_destroy (&h->tasks);
	map_destroy (&h->entries);
	free (h);
	*hp = NULL;
}

struct hand_task *hand_add (struct hand *h, const struct id *task, const char *entry, size_t entry_len)
{
	struct hand_task *t;
	struct id key;
	if (entry_len >= HAND_ENTRY_MAX || map_get (h->tasks, task))
		return NULL;
	t = xcalloc (1, sizeof (*t));
	t->task = *task;
	memcpy (t->entry, entry, entry_len);
	zmq_msg_init (&t->frame);
	t->state = HAND_CHECK;
	TAILQ_INSERT_TAIL (&h->lists[HAND_CHECK], t, link);
	h->counts[HAND_CHECK]++;
	map_put (h->tasks, task, t);
	key = entry_key (t->entry);
	map_put (h->entries, &key, t);
	return t;
}

struct hand_task *hand_get (const struct hand *h, const struct id *task)
{
	return map_get (h->tasks, task);
}

bool hand_has_entry (const struct hand *h, const char *entry, size_t n)
{
	struct id key;
	if (n >= HAND_ENTRY_MAX)
		return false;
	key = entry_key (entry);
	return map_get (h->entries, &key) != NULL;
}

static void leave (struct hand *h, struct hand_task *t)
{
	TAILQ_REMOVE (&h->lists[t->state], t, link);
	h->counts[t->state]--;
	if (t->state == HAND_SENT)
		h->sent_bytes -= t->bytes;
}

void hand_remove (struct hand *h, struct hand_task *t)
{
	struct id key = entry_key (t->entry);
	leave (h, t);
	map_del (h->tasks, &t->task);
	map_del (h->entries, &key);
	zmq_msg_close (&t->frame);
	free (t->origin);
	free (t);
}

void hand_move (struct hand *h, struct hand_task *t, enum hand_state to)
{
	leave (h, t);
	t->state = to;
	if (to == HAND_ENDING) {
		zmq_msg_close (&t->frame);
		zmq_msg_init (&t->frame);
	}
	TAILQ_INSERT_TAIL (&h->lists[to], t, link);
	h->counts[to]++;
	if (to == HAND_SENT)
		h->sent_bytes += t->bytes;
}

struct hand_task *hand_first (const struct hand *h, enum hand_state s)
{
	return TAILQ_FIRST (&h->lists[s]);
}

void hand_make_ready (struct hand *h, enum hand_state from)
{
	struct hand_task *t, *next;
	for (t = TAILQ_FIRST (&h->lists[from]); t; t = next) {
		next = TAILQ_NEXT (t, link);
		if (t->cancelled)
			hand_move (h, t, HAND_CANCELLED);
		else
			t->state = HAND_READY;
	}
	TAILQ_CONCAT (&h->lists[from], &h->lists[HAND_READY], link);
	TAILQ_CONCAT (&h->lists[HAND_READY], &h->lists[from], link);
	h->counts[HAND_READY] += h->counts[from];
	h->counts[from] = 0;
	if (from == HAND_SENT)
		h->sent_bytes = 0;
}

size_t hand_count (const struct hand *h)
{
	return map_size (h->tasks);
}

size_t hand_count_open (const struct hand *h)
{
	return map_size (h->tasks) - h->counts[HAND_ENDING];
}

size_t hand_count_in (const struct hand *h, enum hand_state s)
{
	return h->counts[s];
}

size_t hand_sent_bytes (const struct hand *h)
{
	return h->sent_bytes;
}
