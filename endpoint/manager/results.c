/* SPDX-License-Identifier: Apache-2.0 */
/* See results.h. A doubly linked list in order, and a map into it. */
#include "endpoint/manager/results.h"
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/map.h"
#include "common/xmem.h"
#include "endpoint/manager/tasks.h"
#include "proto/link.h"

struct kept { struct id id; zmq_msg_t frame; struct kept *prev, *next; };
struct results { struct map *by_id; struct kept *first, *last; };

struct results *results_create (void)
{
	struct results *rs = xcalloc (1, sizeof (*rs));

	rs->by_id = map_create ();
	return rs;
}

void results_destroy (struct results **rs)
{
	struct kept *k, *next;

	if (!*rs)
		return;
	for (k = (*rs)->first; k; k = next) {
		next = k->next;
		zmq_msg_close (&k->frame);
		free (k);
	}
	map_destroy (&(*rs)->by_id);
	free (*rs);
	*rs = NULL;
}

int results_keep (struct results *rs, const struct id *task, zmq_msg_t *frame)
{
	struct kept *k;

	if (map_get (rs->by_id, task))
		return -1;
	k = xcalloc (1, sizeof (*k));
	k->id = *task;
	zmq_msg_init (&k->frame);
	if (zmq_msg_copy (&k->frame, frame) < 0) {
		free (k);
		return -1;
	}
	k->prev = rs->last;
	if (rs->last)
		rs->last->next = k;
	else
		rs->first = k;
	rs->last = k;
	map_put (rs->by_id, &k->id, k);
	return 0;
}

zmq_msg_t *results_find (struct results *rs, const struct id *task)
{
	struct kept *k = map_get (rs->by_id, task);

	return k ? &k->frame : NULL;
}

void results_ack (struct results *rs, const struct id *task)
{
	struct kept *k = map_del (rs->by_id, task);

	if (!k)
		return;
	if (k->prev)
		k->prev->next = k->next;
	else
		rs->first = k->next;
	if (k->next)
		k->next->prev = k->prev;
	else
		rs->last = k->prev;
	zmq_msg_close (&k->frame);
	free (k);
}

size_t results_count (const struct results *rs)
{
	return map_size (rs->by_id);
}

void results_each (struct results *rs, void (*cb) (zmq_msg_t *frame, void *arg), void *arg)
{
	struct kept *k;

	for (k = rs->first; k; k = k->next)
		cb (&k->frame, arg);
}

int results_make (zmq_msg_t *out, const struct task *t, const struct results_made *r, int major)
{
	struct msg_result m = { .status = r->status, .fault = r->fault, .code = r->code, .detail = r->detail,
				.attempt = t->attempt, .task = t->id };
	zmq_msg_t *frame = (zmq_msg_t *) &t->frame;	/* zmq_msg_data takes no const; it is only read */
	struct msg_task task;
	struct buf b;
	size_t n;

	if (msg_task_decode (&task, zmq_msg_data (frame), zmq_msg_size (frame), NULL) == 0)
		memcpy (m.stamps, task.stamps, sizeof (task.stamps));
	m.stamps[STAMP_MANAGER_RESULT] = clock_real_ns ();
	n = strlen (r->text);
	m.error = wire_str (r->text, n > WIRE_MAX_TAIL ? WIRE_MAX_TAIL : n);
	n = strlen (r->node);
	m.node = wire_str (r->node, n > WIRE_MAX_TEXT ? WIRE_MAX_TEXT : n);
	buf_init (&b, 0);
	msg_result_encode (&b, &m, major);
	if (buf_failed (&b)) {
		buf_fini (&b);
		return -1;
	}
	link_msg_from_buf (out, &b);
	return 0;
}
