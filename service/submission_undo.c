/* SPDX-License-Identifier: Apache-2.0 */
/* UNDO of the states at the head of submission.c. One script does all of it, so whatever becomes of its answer, all was taken back or
 * nothing: who repeats the request finds the key free, or the claim with all its tasks. */
#include "service/submission_internal.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "proto/bulk.h"
#include "service/watch.h"

#define UNDO_AGAIN_MS 50

static void undone (struct op *o)
{
	char key[LAYOUT_KEY_MAX];

	for (size_t i = 0; i < o->touched; i++) {
		struct bulk_ref ref;
		if (!submission_goes_bulk (o, &o->s.tasks[i]))
			continue;
		bulk_ref_payload (&ref, &o->s.tasks[i].task, 0);
		bulk_delete (o->app->bulk, ref.name);
	}
	if (o->touched && !o->s.group_given) {
		layout_key (key, "group", &o->s.group, NULL);
		rds_commandf (o->app->redis, NULL, NULL, "UNLINK %s", key);
		if (o->s.watch)
			watch_undo (o->app, &o->s.group);
	}
	if (o->why == FAIL_ENDPOINT_NOT_FOUND) /* its forwarder, which was told what is taken back, may be through with it */
		layout_emptied_send (o->app->redis, &o->s.tasks[o->acked].endpoint, NULL, NULL);
}

static void undo (void *arg);

static void on_undone (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct op *o = arg;
	struct err e = { 0 };

	(void) r;
	o->pending--;
	err = rds_error (reply, err, &e);
	if (err && o->queued && (err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT) && clock_now_ms () < o->doubt_until_ms && !o->app->draining) {
		loop_timer_start (o->again, UNDO_AGAIN_MS, false);
		return;
	}
	if (err && o->queued) {
		o->why = FAIL_UNAVAILABLE;
		o->err = *err;
		err_prefix (&o->err, "a part may have been stored and was not taken back, whether its tasks run is not known%s",
			    o->has_idem ? "; repeat it with the same Idempotency-Key" : "");
		if (o->has_idem)
			idem_leave (o->app, &o->idem);
	} else if (!err && reply->integer == 0) {
		o->why = FAIL_CONFLICT; /* as for any who comes second */
		err_set (&o->err, ERR_INVALID, FAULT_USER, SUBMISSION_IN_PROGRESS);
	} else if (!err)
		undone (o);
	submission_refuse (o);
}

/* It needs no free memory, but a Redis that is there and takes writes: for that we wait as long as for one that is in doubt. */
static void undo (void *arg)
{
	struct op *o = arg;
	const struct submission_task *t = o->s.tasks;
	struct layout_undo_part *parts = xcalloc (o->touched + 1, sizeof (*parts));
	uint8_t head[IDEM_HEAD];
	size_t nparts = 0;
	struct buf ids;

	buf_init (&ids, 0);
	for (size_t i = 0; i < o->touched; i++)
		buf_add (&ids, t[i].task.b, ID_BYTES);
	for (size_t i = 0; i < o->touched; i++) {
		if (!i || !id_eq (&t[i].endpoint, &t[i - 1].endpoint))
			parts[nparts++] = (struct layout_undo_part) { t[i].endpoint, wire_str ((char *) ids.data + i * ID_BYTES, 0) };
		parts[nparts - 1].tasks.n += ID_BYTES;
	}
	if (o->has_idem)
		idem_head (&o->idem, &t[o->s.ntasks - 1].task, head);
	o->pending++;
	layout_undo_send (o->app->redis, o->has_idem ? o->idem.key : NULL, wire_str ((char *) head, o->has_idem ? sizeof (head) : 0), parts, nparts,
			  on_undone, o);
	buf_fini (&ids);
	free (parts);
}

void submission_undo (struct op *o)
{
	o->again = loop_timer_create (o->app->loop, undo, o);
	if (!o->doubt_until_ms)
		o->doubt_until_ms = clock_now_ms () + SUBMISSION_DOUBT_MS;
	undo (o);
}
