/* SPDX-License-Identifier: Apache-2.0 */
/* See queue.h. Several kinds of lists share the links of a task; `state` says which list it is in. Another runs across them. */
#include "endpoint/queue.h"
#include "common/map.h"
#include "common/xmem.h"

#include <assert.h>
#include <stdlib.h>

struct queue {
	struct map *by_id;
	struct queue_list waiting, held, joined, gangs;
	struct queue_task *oldest, *newest;	/* unreported */
	size_t in_lanes, out, bytes, steps;
};

static void list_append (struct queue_list *l, struct queue_task *t)
{
	t->next = NULL;
	t->prev = l->tail;
	if (l->tail)
		l->tail->next = t;
	else
		l->head = t;
	l->tail = t;
	l->n++;
}

static void list_prepend (struct queue_list *l, struct queue_task *t)
{
	t->prev = NULL;
	t->next = l->head;
	if (l->head)
		l->head->prev = t;
	else
		l->tail = t;
	l->head = t;
	l->n++;
}

static void list_remove (struct queue_list *l, struct queue_task *t)
{
	if (l->finger == t)
		l->finger = t->prev ? t->prev : t->next;
	if (t->prev)
		t->prev->next = t->next;
	else
		l->head = t->next;
	if (t->next)
		t->next->prev = t->prev;
	else
		l->tail = t->prev;
	t->prev = t->next = NULL;
	l->n--;
}

static void unreported_append (struct queue *q, struct queue_task *t)
{
	t->unreported = true;
	t->older = q->newest;
	if (q->newest)
		q->newest->newer = t;
	else
		q->oldest = t;
	q->newest = t;
}

static void unreported_remove (struct queue *q, struct queue_task *t)
{
	if (!t->unreported)
		return;
	if (t->older)
		t->older->newer = t->newer;
	else
		q->oldest = t->newer;
	if (t->newer)
		t->newer->older = t->older;
	else
		q->newest = t->older;
	t->older = t->newer = NULL;
	t->unreported = false;
}

struct queue *queue_create (void)
{
	struct queue *q = xcalloc (1, sizeof (*q));

	q->by_id = map_create ();
	return q;
}

static void free_task (void *v)
{
	struct queue_task *t = v;

	zmq_msg_close (&t->frame);
	free (t);
}

void queue_destroy (struct queue **q)
{
	if (!*q)
		return;
	map_destroy_owned (&(*q)->by_id, free_task);
	free (*q);
	*q = NULL;
}

struct queue_task *queue_add (struct queue *q, const struct id *task, const struct id *function, zmq_msg_t *frame,
			      size_t payload_bytes, int64_t now_ms)
{
	struct queue_task *t;

	if (map_get (q->by_id, task))
		return NULL;
	t = xcalloc (1, sizeof (*t));
	t->id = *task;
	t->function = *function;
	zmq_msg_init (&t->frame);
	zmq_msg_move (&t->frame, frame);
	t->bytes = payload_bytes;
	t->state = QUEUE_WAITING;
	t->came_ms = t->since_ms = now_ms;
	map_put (q->by_id, task, t);
	list_append (&q->waiting, t);
	unreported_append (q, t);
	q->bytes += payload_bytes;
	return t;
}

struct queue_task *queue_find (const struct queue *q, const struct id *task)
{
	return map_get (q->by_id, task);
}

void queue_prefetch (const struct queue *q, const struct id *task)
{
	map_prefetch (q->by_id, task);
}

struct queue_task *queue_front (const struct queue *q)
{
	return q->waiting.head;
}

static void leave (struct queue *q, struct queue_task *t, struct queue_list *mine)
{
	switch (t->state) {
	case QUEUE_WAITING:
		list_remove (&q->waiting, t);
		break;
	case QUEUE_HELD:
		list_remove (&q->held, t);
		break;
	case QUEUE_JOINED:
		list_remove (&q->joined, t);
		break;
	case QUEUE_GANG:
		list_remove (&q->gangs, t);
		break;
	case QUEUE_LANE:
		list_remove (t->lane_list, t);
		t->lane_list = NULL;
		q->in_lanes--;
		break;
	case QUEUE_OUT:
		assert (mine);
		list_remove (mine, t);
		q->out--;
		t->owner = NULL;
		break;
	case QUEUE_NONE:
		break;
	}
	t->state = QUEUE_NONE;
}

void queue_take (struct queue *q, struct queue_task *t, void *owner, struct queue_list *mine, int64_t now_ms)
{
	leave (q, t, NULL);
	t->state = QUEUE_OUT;
	t->owner = owner;
	t->since_ms = now_ms;
	list_append (mine, t);
	q->out++;
}

void queue_put_back (struct queue *q, struct queue_task *t, struct queue_list *mine, bool front, int64_t now_ms)
{
	leave (q, t, mine);
	t->state = QUEUE_WAITING;
	t->since_ms = now_ms;
	t->deadline_ms = 0;
	if (front)
		list_prepend (&q->waiting, t);
	else
		list_append (&q->waiting, t);
}

void queue_hold (struct queue *q, struct queue_task *t, int64_t deadline_ms, int64_t now_ms)
{
	leave (q, t, NULL);
	t->state = QUEUE_HELD;
	t->since_ms = now_ms;
	/* it may be held again and again for one reason: the first deadline counts */
	if (!t->deadline_ms)
		t->deadline_ms = deadline_ms;
	list_append (&q->held, t);
}

void queue_join (struct queue *q, struct queue_task *t, int64_t now_ms)
{
	leave (q, t, NULL);
	t->state = QUEUE_JOINED;
	t->since_ms = now_ms;
	list_append (&q->joined, t);
}

static void list_insert_after (struct queue_list *l, struct queue_task *after, struct queue_task *t)
{
	t->prev = after;
	t->next = after->next;
	after->next->prev = t;
	after->next = t;
	l->n++;
}

/* By the time they came. New ones go to the end. What comes back is older than most, and one of many that do, in order: the place of each is
 * beside that of the one before, however long the list is. */
static void list_insert (struct queue *q, struct queue_list *l, struct queue_task *t)
{
	struct queue_task *after = l->finger ? l->finger : l->head;

	if (!l->tail || l->tail->came_ms <= t->came_ms) {
		list_append (l, t);
		return;
	}
	for (; after && after->came_ms > t->came_ms; q->steps++)
		after = after->prev;
	for (; after && after->next->came_ms <= t->came_ms; q->steps++)
		after = after->next;
	if (after)
		list_insert_after (l, after, t);
	else
		list_prepend (l, t);
	l->finger = t;
}

void queue_wait_nodes (struct queue *q, struct queue_task *t, int64_t now_ms)
{
	leave (q, t, NULL);
	t->state = QUEUE_GANG;
	t->since_ms = now_ms;
	t->deadline_ms = 0;
	list_insert (q, &q->gangs, t);
}

void queue_wait_in (struct queue *q, struct queue_task *t, struct queue_list *lane, int64_t now_ms)
{
	leave (q, t, NULL);
	t->state = QUEUE_LANE;
	t->since_ms = now_ms;
	t->deadline_ms = 0;
	t->lane_list = lane;
	q->in_lanes++;
	list_insert (q, lane, t);
}

void queue_release_held (struct queue *q, int64_t now_ms)
{
	struct queue_task *t;

	while ((t = q->held.tail)) {
		list_remove (&q->held, t);
		t->state = QUEUE_WAITING;
		t->since_ms = now_ms;
		list_prepend (&q->waiting, t);
	}
}

void queue_drop (struct queue *q, struct queue_task *t, struct queue_list *mine)
{
	leave (q, t, mine);
	unreported_remove (q, t);
	q->bytes -= t->bytes;
	map_del (q->by_id, &t->id);
	zmq_msg_close (&t->frame);
	free (t);
}

struct queue_task *queue_unreported (const struct queue *q)
{
	return q->oldest;
}

void queue_reported (struct queue *q, struct queue_task *t, uint8_t state)
{
	unreported_remove (q, t);
	if (state > t->reported)
		t->reported = state;
}

const struct queue_list *queue_waiting (const struct queue *q)
{
	return &q->waiting;
}

const struct queue_list *queue_held (const struct queue *q)
{
	return &q->held;
}

const struct queue_list *queue_joined (const struct queue *q)
{
	return &q->joined;
}

const struct queue_list *queue_gangs (const struct queue *q)
{
	return &q->gangs;
}

size_t queue_in_lanes (const struct queue *q)
{
	return q->in_lanes;
}

size_t queue_size (const struct queue *q)
{
	return map_size (q->by_id);
}

size_t queue_out (const struct queue *q)
{
	return q->out;
}

size_t queue_bytes (const struct queue *q)
{
	return q->bytes;
}

size_t queue_steps (const struct queue *q)
{
	return q->steps;
}
