/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. Tasks that want files: each waits in d->fetching until they are on the node; then its frame names them by what they
 * are, and it goes the way of other tasks. Its need holds them here until the task is gone. Each file held takes a descriptor: when
 * there are many, tasks that come wait in d->later, holding none, until others are through.
 * And tasks that leave files: each stays with its worker, as if the call went on, until they are where they are to be. */
#include "endpoint/manager/dispatch_internal.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "endpoint/manager/containers/node.h"
#include "endpoint/manager/files.h"
#include "endpoint/manager/keep.h"
#include "proto/functions.h"
#include "proto/link.h"

/* -1: it has ended. */
static int stage (struct dispatch *d, struct task *t)
{
	struct buf list, b;
	struct msg_task m;
	zmq_msg_t frame;

	buf_init (&list, 0);
	buf_init (&b, WIRE_MAX_RECORD);
	need_list (t->need, &list);
	if (msg_task_decode (&m, zmq_msg_data (&t->frame), zmq_msg_size (&t->frame), NULL) == 0) {
		m.files = wire_str ((char *) list.data, list.len);
		m.attempt = t->attempt;
		msg_task_encode (&b, &m, WIRE_MAJOR);
	}
	buf_fini (&list);
	if (buf_failed (&b) || !b.len) {
		buf_fini (&b);
		dispatch_end_failed (d, t, ERR_INTERNAL, FAULT_SITE, 0, "no memory on the node to name the task's files to a worker");
		return -1;
	}
	link_msg_from_buf (&frame, &b);
	tasks_reframe (d->tasks, t, &frame);
	zmq_msg_close (&frame);
	t->staged = true;
	return 0;
}

void dispatch_files_came (void *task, const struct err *err, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = task;

	if (err)
		dispatch_end_failed (d, t, err->code, err->fault, 0, err->text);
	else if (stage (d, t) == 0)
		dispatch_place (d, t);
	loop_defer_schedule (d->run);
}

bool dispatch_files_here (struct dispatch *d, struct task *t, struct function *f)
{
	struct msg_task m;
	struct err err = { 0 };

	if (t->need)
		return false;
	if (!d->o.files)
		err_set (&err, ERR_TASK_FILE, FAULT_SITE, "the task wants files, and node %s brings none (files.cache_bytes is 0, or its log says why)",
			 d->o.node);
	else if (files_full (d->o.files)) {
		tasks_pool (d->tasks, t, &d->later, clock_now_ms ());
		return false;
	} else if (msg_task_decode (&m, zmq_msg_data (&t->frame), zmq_msg_size (&t->frame), &err) == 0)
		t->need = need_create (d->o.files, f->fn.files, m.files, t, &err);
	if (!t->need) {
		dispatch_end_failed (d, t, err.code, err.fault, 0, err.text);
		return false;
	}
	if (need_ready (t->need))
		return stage (d, t) == 0;
	tasks_pool (d->tasks, t, &d->fetching, clock_now_ms ());
	return false;
}

void dispatch_files_run (struct dispatch *d)
{
	while (d->later.head && !files_full (d->o.files))
		dispatch_place (d, d->later.head);
}

/* ---- files that it leaves ---- */

/* Only what it was asked to leave: need_create has seen that there is a place for it. */
void dispatch_keep_files (struct dispatch *d, struct task *t, zmq_msg_t *record)
{
	struct msg_task m;
	const char *inner;
	char *from;

	if (t->save)
		return;		/* the worker says it again */
	if (!d->o.keep || msg_task_decode (&m, zmq_msg_data (&t->frame), zmq_msg_size (&t->frame), NULL) < 0 || !msg_files_has_kept (m.files)) {
		workers_send_id (t->worker, WIRE_RESULT_ACK, &t->id);
		dispatch_end_failed (d, t, ERR_TASK_RUNNER, FAULT_USER, 0, "the call's worker named files to keep that the task did not ask for");
		return;
	}
	from = workers_dir (t->worker, &inner);
	t->save = save_start (d->o.keep, record, from, inner, t);
	free (from);
}

/* The task is still with the worker that ran it: had that been lost, the save would have been dropped. */
void dispatch_files_kept (void *task, zmq_msg_t *record, void *arg)
{
	struct dispatch *d = arg;
	struct task *t = task;
	struct msg_result m;

	save_drop (&t->save);
	msg_result_decode (&m, zmq_msg_data (record), zmq_msg_size (record), NULL);
	dispatch_take_result (d, t, record, &m);
}

/* ---- what is told of it ---- */

static void note_container (json_t *runtime, const struct worker *w)
{
	const struct container *c = w->container;

	json_object_set_new (runtime, "container", json_pack ("{s:s, s:s, s:s*, s:I, s:I}", "image", c->image, "type", c->rt->name, "digest",
							      c->digest, "cold_start_ms", (json_int_t) (w->up_since_ms - c->asked_ms), "pull_ms",
							      (json_int_t) c->pull_ms));
}

static void note_files (json_t *runtime, const struct need_told *told)
{
	json_object_set_new (runtime, "files", json_pack ("{s:i, s:I, s:I}", "fetched", (int) told->fetched, "bytes", (json_int_t) told->bytes, "ms",
							  (json_int_t) told->ms));
}

/* Members "container" and "files" in the result's runtime. */
void dispatch_note_waits (const struct worker *w, const struct task *t, zmq_msg_t *record)
{
	struct need_told told = { 0 };
	struct msg_result m;
	json_t *runtime;
	char *text;
	struct buf b;

	if (t->need)
		need_tell (t->need, &told);
	if ((!w && !told.fetched) || msg_result_decode (&m, zmq_msg_data (record), zmq_msg_size (record), NULL) < 0)
		return;
	runtime = m.runtime.n ? json_loadb (m.runtime.p, m.runtime.n, 0, NULL) : NULL;
	if (!json_is_object (runtime)) {
		json_decref (runtime);
		runtime = json_object ();
	}
	if (w)
		note_container (runtime, w);
	if (told.fetched)
		note_files (runtime, &told);
	text = json_dumps (runtime, JSON_COMPACT);
	json_decref (runtime);
	if (!text)
		return;
	if (strlen (text) <= WIRE_MAX_TEXT)
		m.runtime = wire_str (text, strlen (text));
	buf_init (&b, 0);
	msg_result_encode (&b, &m, WIRE_MAJOR);
	if (buf_failed (&b)) {
		buf_fini (&b);
	} else {
		zmq_msg_close (record);		/* what m points into */
		link_msg_from_buf (record, &b);
	}
	free (text);
}
