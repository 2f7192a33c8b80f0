/* SPDX-License-Identifier: Apache-2.0 */
/* See tasks.h. Invariant: a task is in `by_id` and in exactly one list, whose length counts it. */
#include "endpoint/manager/tasks.h"
#include <stdlib.h>
#include "common/clock.h"
#include "common/map.h"
#include "common/xmem.h"
#include "endpoint/manager/files.h"
#include "endpoint/manager/keep.h"

struct tasks {
	struct map *by_id;		/* of struct task, owned */
	struct task_list queue, waiting;
	size_t bytes;
	uint64_t seq;
};

static void list_remove (struct task *t)
{
	struct task_list *l = t->list;

	if (!l)
		return;
	if (t->prev)
		t->prev->next = t->next;
	else
		l->head = t->next;
	if (t->next)
		t->next->prev = t->prev;
	else
		l->tail = t->prev;
	l->n--;
	t->prev = t->next = NULL;
	t->list = NULL;
}

static void list_append (struct task_list *l, struct task *t)
{
	t->list = l;
	t->prev = l->tail;
	t->next = NULL;
	if (l->tail)
		l->tail->next = t;
	else
		l->head = t;
	l->tail = t;
	l->n++;
}

/* By arrival. What is new goes to the end; what comes back is older than most of what waits: the walk from the head is short. */
static void list_insert (struct task_list *l, struct task *t)
{
	struct task *after = l->head;

	if (!after || l->tail->seq < t->seq) {
		list_append (l, t);
		return;
	}
	while (after->seq < t->seq)
		after = after->next;
	t->list = l;
	t->next = after;
	t->prev = after->prev;
	after->prev = t;
	if (t->prev)
		t->prev->next = t;
	else
		l->head = t;
	l->n++;
}

struct tasks *tasks_create (void)
{
	struct tasks *ts = xcalloc (1, sizeof (*ts));

	ts->by_id = map_create ();
	return ts;
}

static void task_free (void *v)
{
	struct task *t = v;

	zmq_msg_close (&t->frame);
	if (t->need)
		need_drop (&t->need);
	save_drop (&t->save);
	free (t);
}

void tasks_destroy (struct tasks **ts)
{
	if (!*ts)
		return;
	map_destroy_owned (&(*ts)->by_id, task_free);
	free (*ts);
	*ts = NULL;
}

struct task *tasks_add (struct tasks *ts, zmq_msg_t *frame, const struct msg_task *m, int64_t now_ms)
{
	struct task *t;

	if (map_get (ts->by_id, &m->task))
		return NULL;
	t = xcalloc (1, sizeof (*t));
	t->id = m->task;
	t->function = m->function;
	t->expected_ms = m->expected_ms;
	t->attempt = m->attempt;
	t->files = m->files.n > 0;
	t->since_ms = now_ms;
	t->seq = ++ts->seq;
	zmq_msg_init (&t->frame);
	zmq_msg_move (&t->frame, frame);
	msg_task_stamp (zmq_msg_data (&t->frame), STAMP_MANAGER_RECEIVED, clock_real_ns ());
	ts->bytes += zmq_msg_size (&t->frame);
	map_put (ts->by_id, &t->id, t);
	t->place = TASK_QUEUED;
	list_append (&ts->queue, t);
	return t;
}

struct task *tasks_find (const struct tasks *ts, const struct id *id)
{
	return map_get (ts->by_id, id);
}

struct each { int (*cb) (struct task *t, void *arg); void *arg; };

static int call (const struct id *id, void *v, void *arg)
{
	const struct each *e = arg;

	(void) id;
	return e->cb (v, e->arg);
}

int tasks_each (const struct tasks *ts, int (*cb) (struct task *t, void *arg), void *arg)
{
	struct each e = { cb, arg };

	return map_each (ts->by_id, call, &e);
}

struct task *tasks_queue_head (const struct tasks *ts)
{
	return ts->queue.head;
}

struct task *tasks_waiting_head (const struct tasks *ts)
{
	return ts->waiting.head;
}

size_t tasks_count (const struct tasks *ts)
{
	return map_size (ts->by_id);
}

size_t tasks_queued (const struct tasks *ts)
{
	return ts->queue.n;
}

size_t tasks_waiting (const struct tasks *ts)
{
	return ts->waiting.n;
}

size_t tasks_bytes (const struct tasks *ts)
{
	return ts->bytes;
}

/* The bytes of a frame that was sent may still be on their way in ZeroMQ's thread: only a copy may be written to. */
static int unshare (struct task *t)
{
	zmq_msg_t copy;

	if (!t->shared)
		return 0;
	if (zmq_msg_init_size (&copy, zmq_msg_size (&t->frame)) < 0)
		return -1;
	memcpy (zmq_msg_data (&copy), zmq_msg_data (&t->frame), zmq_msg_size (&t->frame));
	zmq_msg_close (&t->frame);
	t->frame = copy;
	t->shared = false;
	return 0;
}

int tasks_assign (struct tasks *ts, struct task *t, struct worker *w, struct task_list *list, int64_t now_ms, zmq_msg_t *out)
{
	void *p;

	(void) ts;
	if (unshare (t) < 0)
		return -1;
	p = zmq_msg_data (&t->frame);
	msg_task_set_attempt (p, t->attempt);
	msg_task_stamp (p, STAMP_MANAGER_SENT, clock_real_ns ());
	zmq_msg_init (out);
	if (zmq_msg_copy (out, &t->frame) < 0)
		return -1;
	t->shared = true;
	list_remove (t);
	list_append (list, t);
	t->place = TASK_ASSIGNED;
	t->worker = w;
	t->since_ms = now_ms;
	t->started = false;
	return 0;
}

void tasks_requeue (struct tasks *ts, struct task *t, int64_t now_ms)
{
	list_remove (t);
	list_insert (&ts->queue, t);
	t->place = TASK_QUEUED;
	t->worker = NULL;
	t->started = t->blocks = false;
	t->since_ms = now_ms;
}

void tasks_wait (struct tasks *ts, struct task *t, int64_t now_ms)
{
	list_remove (t);
	list_append (&ts->waiting, t);
	t->place = TASK_WAITING;
	t->worker = NULL;
	t->since_ms = now_ms;
}

void tasks_pool (struct tasks *ts, struct task *t, struct task_list *list, int64_t now_ms)
{
	(void) ts;
	list_remove (t);
	list_insert (list, t);
	t->place = TASK_POOLED;
	t->worker = NULL;
	t->started = t->blocks = t->cold = false;
	t->since_ms = now_ms;
}

void tasks_reframe (struct tasks *ts, struct task *t, zmq_msg_t *frame)
{
	ts->bytes += zmq_msg_size (frame);
	ts->bytes -= zmq_msg_size (&t->frame);
	zmq_msg_move (&t->frame, frame);
	t->shared = false;
}

int tasks_count_loss (struct task *t, unsigned limit)
{
	if (t->attempt >= limit || t->attempt == UINT8_MAX)
		return -1;
	t->attempt++;
	t->counted = true;
	return 0;
}

void tasks_drop (struct tasks *ts, struct task **t)
{
	ts->bytes -= zmq_msg_size (&(*t)->frame);
	list_remove (*t);
	map_del (ts->by_id, &(*t)->id);
	task_free (*t);
	*t = NULL;
}
