/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to runners, and what comes back. The rules:
 *
 * - One call runs at a time, whatever its kind.
 * - A call is written behind the running one when the same kept runner serves both, both functions are known to be fast, and both
 *   have the same memory limit; a call that stands behind a long one cannot be taken back. A call with files has the worker's directory for
 *   calls (taskdir.h) to itself: nothing is written before or behind it.
 * - A call whose process was killed by somebody else (SIGKILL) goes to the front of the queue again, a few times. The calls behind a
 *   dead one always do, uncounted: they had not begun. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "worker/engine_internal.h"
#include "worker/proctree.h"
#include "worker/tail.h"
#include "worker/taskdir.h"
#include "worker/workdir.h"

/* ---- feeding -------------------------------------------------------------------------------------------------- */

static bool may_follow (const struct engine *e, const struct call *c, const struct slot *s)
{
	const struct call *running = e->inflight[0];

	if (e->ninflight == 0)
		return true;
	return e->ninflight < INFLIGHT_MAX && s == e->active && s->ops->kept && s->ready && !running->settled
	       && !call_is_batched (running) && !call_is_batched (c)
	       && function_is_fast (running->fn, FAST_NS) && function_is_fast (c->fn, FAST_NS)
	       && running->memory_limit == c->memory_limit && !running->t.files.n && !c->t.files.n;
}

static void refuse (struct engine *e, struct call *c, const struct err *err)
{
	struct verdict v;

	verdict_error (&v, err);
	settle_verdict (e, c, &v, NULL, NULL, NULL);
	call_free (e, c);
}

uint32_t call_flags (const struct call *c)
{
	return (c->t.flags & (TASK_MEANT | TASK_BULK)) | (c->t.files.n ? RUNNER_OWN_DIR : 0);
}

/* What the nodes that it was given add to its environment; empty for nearly all. */
static int nodes_of (const struct call *c, bool batched, struct wire_str *environ, struct err *err)
{
	struct msg_resources m;

	*environ = WIRE_STR ("");
	if (!c->t.resources.n)
		return 0;
	if (batched)
		return err_set (err, ERR_INVALID, FAULT_USER, "a function with a batch entry cannot be given nodes of its own (resource_specification)");
	if (msg_resources_decode (&m, c->t.resources.p, c->t.resources.n, err) < 0)
		return -1;
	*environ = m.environ;
	return 0;
}

/* 0 = given to the runner, -1 = refused: it has its result. c is in no list. */
static int give (struct engine *e, struct call *c, struct slot *s)
{
	struct wire_str record = wire_str (zmq_msg_data (&c->fn->record), zmq_msg_size (&c->fn->record));
	bool running = s->ops->pid (s->self) > 0, batched = call_is_batched (c) && s->ops->batch;
	struct runner_call rc;
	struct wire_str environ;
	unsigned n;
	struct err err;

	if ((c->t.flags & TASK_BULK) && !e->o.bulk) {	/* the manager was told so */
		err_set (&err, ERR_NOT_FOUND, FAULT_PEER, "its payload is in a bulk store that the worker on node %s does not have", e->o.node);
		refuse (e, c, &err);
		return -1;
	}
	if (nodes_of (c, batched, &environ, &err) < 0 || (batched && batch_load (e, c, &err) < 0)) {
		refuse (e, c, &err);
		return -1;
	}
	if (c->t.files.n && taskdir_make (e->task_dir, e->o.files_dir, c->t.files, &err) < 0) {
		err_prefix (&err, "node %s", e->o.node);
		refuse (e, c, &err);
		return -1;
	}
	n = batched ? batch_gather (e, c) : 0;
	rc = (struct runner_call){ c->t.task, &c->fn->fn, record, c->t.payload, call_flags (c), c->max_result_bytes,
				   &c->t.bulk, environ };
	if (environ.n)
		rc.flags |= RUNNER_ENVIRON;
	if ((n ? batch_give (e, c, s, n, &err) : s->ops->call (s->self, &rc, &err)) < 0) {
		if (err.code == ERR_IO && !running)
			err_prefix (&err, "node %s", e->o.node);
		batch_requeue (e, &e->group);
		refuse (e, c, &err);
		return -1;
	}
	e->ngroup = n;
	e->in_task_dir = c->t.files.n > 0;
	if (!running) {
		s->rlimit_data = 0;
		s->ready = !s->ops->kept;
	}
	limits_apply_memory (s, c->memory_limit);
	e->inflight[e->ninflight++] = c;
	e->active = s;
	if (e->ninflight == 1 && s->ready)
		call_begins (e, clock_real_ns ());
	return 0;
}

void engine_feed (void *arg)
{
	struct engine *e = arg;
	bool given = false;
	struct call *c;
	struct err err;

	if (e->stopping)
		return;
	while (e->ninflight < INFLIGHT_MAX && (c = TAILQ_FIRST (&e->queue))) {
		struct slot *s = slot_for (e, &c->fn->fn);

		if (s && (s->killing || !may_follow (e, c, s)))
			break;
		TAILQ_REMOVE (&e->queue, c, link);
		if (!s) {
			err_set (&err, ERR_TASK_RUNNER, FAULT_SITE, "node %s has no runner for functions of kind %d", e->o.node,
				 c->fn->fn.kind);
			refuse (e, c, &err);
		} else if (give (e, c, s) == 0) {
			given = true;
		}
	}
	if (given)
		e->active->ops->flush (e->active->self);
	engine_settled (e);
}

/* ---- what runners tell ---------------------------------------------------------------------------------------- */

static struct call *inflight_shift (struct engine *e)
{
	struct call *c = e->inflight[0], *next;

	if ((next = TAILQ_FIRST (&e->group))) {	/* of the same call: its limits go on */
		TAILQ_REMOVE (&e->group, next, link);
		next->grouped = false;
		next->started_ns = c->started_ns;
		next->begun_ms = c->begun_ms;
		e->inflight[0] = next;
		return c;
	}
	limits_stop (e);
	e->inflight[0] = e->inflight[1];
	e->inflight[1] = NULL;
	if (--e->ninflight == 0)
		e->active = NULL;
	return c;
}

/* The call that had it is over. */
static void leave_task_dir (struct engine *e)
{
	struct err err;

	if (!e->in_task_dir || e->ninflight)
		return;
	e->in_task_dir = false;
	if (workdir_empty (e->task_dir, &err) < 0)
		log_err (LOG_WARN, "engine", "the directory of a call is not emptied", &err);
}

static void on_ready (void *arg, struct wire_str runtime)
{
	struct slot *s = arg;
	struct engine *e = s->e;

	s->ready = true;
	if (s->ops == &runner_python && runtime.n && runtime.n <= WIRE_MAX_TEXT && !s->runtime) {
		s->runtime = xcalloc (1, runtime.n + 1);
		memcpy (s->runtime, runtime.p, runtime.n);
	}
	if (!e->link)
		engine_dial (e);
	if (e->active == s && e->ninflight && !s->killing)
		call_begins (e, clock_real_ns ());
}

static void on_started (void *arg, const struct id *task, int64_t real_ns)
{
	struct slot *s = arg;
	struct call *c = s->e->inflight[0];

	/* its predecessor's result came first and has begun it; this is the exact time */
	if (s == s->e->active && c && c->started_ns && id_eq (&c->t.task, task))
		c->started_ns = real_ns;
}

static void on_result (void *arg, const struct msg_runner_result *r, int32_t detail)
{
	struct slot *s = arg;
	struct engine *e = s->e;
	struct call *c = e->inflight[0];

	if (s->killing)
		return;
	if (s != e->active || !c || !c->started_ns || !id_eq (&c->t.task, &r->task)) {
		log_warn ("engine", "runner sent a result of another task", "runner=%s", s->ops->name);
		if (s == e->active && c && !c->settled)
			verdict_misbehaved (&c->verdict, "a result of another task was written to its pipe", e->o.node);
		s->killing = true;
		s->ops->kill (s->self);
		return;
	}
	inflight_shift (e);
	/* the runner's own figures, which may be anything */
	function_took (c->fn, r->start_ns >= 0 && r->end_ns >= r->start_ns ? r->end_ns - r->start_ns : 0);
	if (e->ninflight && !e->inflight[0]->started_ns)
		call_begins (e, clock_real_ns ());
	if (!c->settled)
		settle_result (e, c, r, detail);
	else
		settle_drop (e, r);
	call_free (e, c);
	if (!s->ops->kept)
		spawn_sweep_start (e->sweep);
	leave_task_dir (e);
	/* Results come several to a read: one round of feeding serves them. */
	loop_defer_schedule (e->feed_soon);
}

static void call_again (struct engine *e, struct call *c)
{
	c->started_ns = 0;
	c->reported = false;
	TAILQ_INSERT_HEAD (&e->queue, c, link);
}

/* The process ended before it took this one: an earlier call had left it so, or somebody ended it between calls. */
static bool had_not_begun (struct call *c, const struct runner_death *d)
{
	return d->ready && d->current && !id_eq (d->current, &c->t.task) && c->unbegun++ < UNBEGUN_MAX;
}

/* Bytecode that another version of Python made, in the function or among its arguments, can end a process: whoever reads of that end needs to
 * know. */
static void tell_pythons (const struct slot *s, const struct call *c, struct verdict *v)
{
	json_t *runtime = s->runtime ? json_loads (s->runtime, 0, NULL) : NULL;
	uint16_t here = python_version (json_string_value (json_object_get (runtime, "python_version"))), made = c->fn->fn.python;
	char text[8], other[8];
	size_t n = strlen (v->err.text);

	if (here && made && here != made)
		snprintf (v->err.text + n, sizeof (v->err.text) - n, "; the function was made with Python %s and ran on Python %s, which cannot run "
			  "bytecode of another version, also not of functions and classes among the arguments", python_version_text (made, text),
			  python_version_text (here, other));
	json_decref (runtime);
}

/* inflight[0] was with a runner whose process ended. */
static void settle_death (struct engine *e, struct slot *s, struct call *c, const struct runner_death *d)
{
	struct buf out, errout;
	struct verdict v = c->verdict;

	if (c->settled) {
		call_free (e, c);
		return;
	}
	if (!v.status && had_not_begun (c, d)) {
		call_again (e, c);
		return;
	}
	buf_init (&out, 1 << 20);
	buf_init (&errout, 1 << 20);
	s->ops->tails (s->self, &out, &errout);
	tail_make_text (&out);
	tail_make_text (&errout);
	if (v.status) {
		;				/* we killed it, and know why */
	} else if (!d->ready) {
		verdict_no_runner (&v, s->name, d->why, d->status, errout.data ? (char *) errout.data : "", e->o.node);
	} else if (d->why) {
		verdict_misbehaved (&v, d->why, e->o.node);
	} else if (WIFSIGNALED (d->status) && WTERMSIG (d->status) == SIGKILL) {
		if (c->kills == 0)
			c->oom_before = e->oom_seen;
		e->oom_seen = proctree_oom_kills ();
		if (c->kills++ < e->o.retries_on_kill) {
			log_warn ("engine", "process of a call was killed by somebody: trying again", "times=%u", c->kills);
			call_again (e, c);
			goto out;
		}
		verdict_killed (&v, c->kills, e->oom_seen - c->oom_before, e->o.node);
	} else {
		verdict_ended (&v, d->status, e->o.node);
		tell_pythons (s, c, &v);
	}
	settle_verdict (e, c, &v, &out, &errout, d->ru);
	call_free (e, c);
out:
	buf_fini (&out);
	buf_fini (&errout);
}

/* The calls of a batch when its process has died: smaller batches, until one is alone that takes its process down. */
static void batch_died (struct engine *e, struct slot *s, const struct runner_death *d)
{
	const struct call *open = batch_first_open (e);
	bool unbegun = open && !open->verdict.status && had_not_begun (e->inflight[0], d);
	struct calls list;
	struct call *c;
	unsigned n = batch_take (e, &list);

	if (unbegun)
		batch_requeue (e, &list);
	else if (n > 1 && d->ready)
		batch_split (e, &list, n);
	while ((c = TAILQ_FIRST (&list))) {
		TAILQ_REMOVE (&list, c, link);
		settle_death (e, s, c, d);
	}
}

static void on_died (void *arg, const struct runner_death *d)
{
	struct slot *s = arg;
	struct engine *e = s->e;
	struct call *head = NULL, *behind;
	char text[64];

	log_debug ("engine", "runner ended", "runner=%s status=%s", s->name, spawn_status_text (d->status, text));
	s->killing = s->ready = false;
	s->rlimit_data = 0;
	spawn_sweep_start (e->sweep);
	if (s == e->active && !TAILQ_EMPTY (&e->group)) {
		batch_died (e, s, d);
	} else if (s == e->active) {
		head = inflight_shift (e);
		while (e->ninflight) {
			behind = inflight_shift (e);
			behind->started_ns = 0;
			if (behind->settled)
				call_free (e, behind);
			else
				TAILQ_INSERT_HEAD (&e->queue, behind, link);
		}
		settle_death (e, s, head, d);
	}
	leave_task_dir (e);
	if (!e->link && !e->stopping)		/* no Python here: the other kinds still run */
		engine_dial (e);
	loop_defer_schedule (e->feed_soon);
}

/* ---- slots ---------------------------------------------------------------------------------------------------- */

static const struct runner_events events = { on_ready, on_started, on_result, on_died };

struct slot *slot_for (struct engine *e, const struct msg_function *fn)
{
	int i = runner_for_kind (fn->kind), python = pythons_find (e->o.pythons, fn->python);

	if (i < 0)
		return NULL;
	return runner_at ((size_t) i) == &runner_python && python > 0 ? &e->slots[runner_count () + (size_t) python - 1] : &e->slots[i];
}

const struct slot *slot_of_python (const struct engine *e)
{
	return &e->slots[runner_for_kind (KIND_PYTHON)];
}

static int slot_create (struct engine *e, const struct runner_ops *ops, const struct python *python, const char *name, struct err *err)
{
	struct slot *s = &e->slots[e->nslots++];

	s->e = e;
	s->ops = ops;
	snprintf (s->name, sizeof (s->name), "%s", name);
	s->host = (struct runner_host){ e->loop, e->o.dir, s->name, python->path, e->o.node, e->o.bulk, e->task_dir, &events, s };
	return s->ops->create (&s->self, &s->host, err);
}

int slots_create (struct engine *e, struct err *err)
{
	const struct pythons *p = e->o.pythons;
	char version[8], name[16];
	size_t i;

	e->sweep = spawn_sweep_create (e->loop);
	e->feed_soon = loop_defer_create (e->loop, engine_feed, e);
	for (i = 0; i < runner_count (); i++)
		if (slot_create (e, runner_at (i), &p->v[0], runner_at (i)->name, err) < 0)
			return -1;
	for (i = 1; i < p->n; i++) {
		snprintf (name, sizeof (name), "python%s", python_version_text (p->v[i].version, version));
		if (slot_create (e, &runner_python, &p->v[i], name, err) < 0)
			return -1;
	}
	return 0;
}

void slots_destroy (struct engine *e)
{
	size_t i;

	for (i = 0; i < e->nslots; i++) {
		if (e->slots[i].self)
			e->slots[i].ops->destroy (&e->slots[i].self);
		free (e->slots[i].runtime);
	}
	spawn_kill_strays ();
	spawn_sweep_destroy (&e->sweep);
	loop_defer_destroy (&e->feed_soon);
}
