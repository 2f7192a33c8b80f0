/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of a function that has a batch entry: what waits of it, up to max_batch, goes to the runner as one call. The manager decides how many
 * it sends at a time (endpoint/manager/batch.h); here they are put together. The rules:
 *
 * - Together go calls whose limits, files and forms of results are the same, and no more than BATCH_BYTES of payloads.
 * - The time limit and the memory limit of a task hold for the call that it is in. A batch that reaches one is killed like a call, and split;
 *   later batches of the function, at this worker, have at most half as many inputs.
 * - A batch whose process dies is split in two, these again, until the input that does it is alone: that one fails. The others are called
 *   again, so a call may be made several times for an input.
 * - A task that is cancelled ends at once; the batch goes on without it. When no other is left in it its process is killed.
 * - What was printed in the call goes with each of its results, of long output the end (settle_result). */
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"
#include "proto/bulk_record.h"
#include "proto/wire_record.h"
#include "worker/engine_internal.h"

#define BATCH_BYTES (64u << 20)
#define OUTPUT_MIN 1024		/* bytes of what was printed that each result of a batch has at least */

bool call_is_batched (const struct call *c)
{
	return c->fn->fn.flags & FUNCTION_BATCH;
}

static bool same_files (struct wire_str a, struct wire_str b)
{
	return a.n == b.n && (!a.n || memcmp (a.p, b.p, a.n) == 0);
}

static bool same_limits (const struct call *a, const struct call *b)
{
	return same_files (a->t.files, b->t.files) && a->fn == b->fn && a->time_limit_ms == b->time_limit_ms && a->memory_limit == b->memory_limit
	       && a->max_result_bytes == b->max_result_bytes && (a->t.flags & TASK_MEANT) == (b->t.flags & TASK_MEANT);
}

static unsigned smaller (unsigned most, unsigned bound)
{
	return bound && bound < most ? bound : most;
}

int batch_load (struct engine *e, struct call *c, struct err *err)
{
	if (!(c->t.flags & TASK_BULK))
		return 0;
	if (bulk_record_task (e->o.bulk, &c->msg, err) < 0)
		return -1;
	return msg_task_decode (&c->t, zmq_msg_data (&c->msg), zmq_msg_size (&c->msg), err);	/* its slices have moved */
}

unsigned batch_gather (struct engine *e, struct call *c)
{
	unsigned most = c->fn->fn.max_batch ? c->fn->fn.max_batch : 1, n = 1;
	size_t bytes = c->t.payload.n;
	struct call *i, *next;

	most = smaller (smaller (smaller (most, RUNNER_BATCH_MAX), c->fn->batch_cap), c->group_max);
	if (msg_files_has_outputs (c->t.files))
		most = 1;	/* whose files would they be? */
	for (i = TAILQ_FIRST (&e->queue); i && n < most; i = next) {
		next = TAILQ_NEXT (i, link);
		if (!same_limits (i, c))
			continue;
		most = smaller (most, i->group_max);
		if (n >= most || bytes + i->t.payload_bytes > BATCH_BYTES)
			break;
		if (batch_load (e, i, NULL) < 0)
			continue;		/* its own turn says why */
		TAILQ_REMOVE (&e->queue, i, link);
		TAILQ_INSERT_TAIL (&e->group, i, link);
		i->grouped = true;
		bytes += i->t.payload.n;
		n++;
	}
	return n;
}

int batch_give (struct engine *e, struct call *c, struct slot *s, unsigned n, struct err *err)
{
	struct wire_str record = wire_str (zmq_msg_data (&c->fn->record), zmq_msg_size (&c->fn->record));
	struct runner_call *rc = xcalloc (n, sizeof (*rc));
	struct call *i = c;
	int r;

	for (unsigned k = 0; k < n; k++) {
		rc[k] = (struct runner_call){ i->t.task, &i->fn->fn, record, i->t.payload, call_flags (i), i->max_result_bytes,
					   NULL, WIRE_STR ("") };
		i = k ? TAILQ_NEXT (i, link) : TAILQ_FIRST (&e->group);
	}
	buf_clear (&e->group_out);
	buf_clear (&e->group_errout);
	r = s->ops->batch (s->self, rc, n, err);
	free (rc);
	return r;
}

struct call *batch_first_open (const struct engine *e)
{
	struct call *c = e->inflight[0];

	if (c && !c->settled)
		return c;
	TAILQ_FOREACH (c, &e->group, link)
		if (!c->settled)
			return c;
	return NULL;
}

bool batch_others_open (const struct engine *e, const struct call *c)
{
	const struct call *i = e->inflight[0];

	if (TAILQ_EMPTY (&e->group))
		return false;
	if (i != c && !i->settled)
		return true;
	TAILQ_FOREACH (i, &e->group, link)
		if (i != c && !i->settled)
			return true;
	return false;
}

static unsigned open_calls (const struct engine *e)
{
	const struct call *c;
	unsigned n = !e->inflight[0]->settled;

	TAILQ_FOREACH (c, &e->group, link)
		n += !c->settled;
	return n;
}

void batch_took_too_much (struct engine *e)
{
	struct call *c = e->inflight[0];
	unsigned n;

	if (TAILQ_EMPTY (&e->group) || (n = open_calls (e)) < 2)
		return;
	if (!c->fn->batch_cap || n / 2 < c->fn->batch_cap)
		c->fn->batch_cap = n / 2;
}

static void put_first (struct engine *e, struct call *c)
{
	c->started_ns = 0;
	c->reported = false;
	c->verdict.status = 0;
	TAILQ_INSERT_HEAD (&e->queue, c, link);
}

void batch_requeue (struct engine *e, struct calls *list)
{
	struct call *c;

	while ((c = TAILQ_LAST (list, calls))) {
		TAILQ_REMOVE (list, c, link);
		c->grouped = false;
		if (c->settled)
			call_free (e, c);
		else
			put_first (e, c);
	}
}

unsigned batch_take (struct engine *e, struct calls *open)
{
	struct call *c = e->inflight[0], *next;
	unsigned n = 0;

	TAILQ_INIT (open);
	TAILQ_INSERT_HEAD (&e->group, c, link);
	for (; c; c = next) {
		next = TAILQ_NEXT (c, link);
		TAILQ_REMOVE (&e->group, c, link);
		c->grouped = false;
		if (c->settled) {
			call_free (e, c);
			continue;
		}
		TAILQ_INSERT_TAIL (open, c, link);
		n++;
	}
	e->inflight[0] = NULL;
	e->ninflight = 0;
	e->active = NULL;
	limits_stop (e);
	return n;
}

void batch_split (struct engine *e, struct calls *open, unsigned n)
{
	struct call *c;

	TAILQ_FOREACH (c, open, link)
		c->group_max = (n + 1) / 2;
	batch_requeue (e, open);
}

/* Printed by the call as a whole, told with the first result: every input gets the end of it. */
void batch_share_output (struct engine *e, const struct msg_runner_result *r, struct wire_str *out, struct wire_str *errout)
{
	size_t each = WIRE_MAX_TAIL / e->ngroup > OUTPUT_MIN ? WIRE_MAX_TAIL / e->ngroup : OUTPUT_MIN;

	buf_add (&e->group_out, r->out.p, r->out.n);
	buf_add (&e->group_errout, r->errout.p, r->errout.n);
	*out = wire_clip_tail (wire_str ((char *) e->group_out.data, e->group_out.len), each);
	*errout = wire_clip_tail (wire_str ((char *) e->group_errout.data, e->group_errout.len), each);
}
