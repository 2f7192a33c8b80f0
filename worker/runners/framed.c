/* SPDX-License-Identifier: Apache-2.0 */
/* Runners that are kept. Functions are sent once per process; the process is replaced, between calls, when it was sent so many that it
 * holds more than it should. What it writes is judged: the code of users runs in it and can write to our pipe. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"
#include "worker/child.h"
#include "worker/runners/framed.h"
#include "worker/workdir.h"

enum { START_TIMEOUT_MS = 60000, FUNCTIONS_MAX = 4096, FUNCTION_BYTES_MAX = 512 << 20, ARGS_MAX = 8 };

struct framed {
	const struct runner_host *h;	/* borrowed */
	char *argv[ARGS_MAX + 1], *cwd;
	const char *const *env;		/* borrowed */
	char *bulk_env;			/* WEFT_BULK_DIR=...; NULL = no store */
	struct child *child, *retired;	/* retired: killed between calls, not reaped yet */
	struct map *sent;		/* functions that the process has */
	size_t sent_bytes;
	unsigned inflight;
	bool ready, borrowed;		/* borrowed: the payload of the one call in flight is not copied */
	char why[200];			/* what the process did wrong */
	struct loop_timer *start_timer;
	struct buf frame, out, errout;	/* scratch */
};

static void forget_process (struct framed *f)
{
	map_empty (&f->sent, NULL);
	f->sent_bytes = 0;
	f->inflight = 0;
	f->ready = f->borrowed = false;
	loop_timer_stop (f->start_timer);
}

static void misbehaves (struct framed *f, const char *what)
{
	if (!f->why[0])
		snprintf (f->why, sizeof (f->why), "%.199s", what);
	child_kill (f->child);
}

/* What libraries print past the runner, to the descriptors themselves, follows what it captured. */
static void merge_tails (struct framed *f, struct msg_runner_result *r)
{
	if (!child_printed (f->child))
		return;
	buf_clear (&f->out);
	buf_clear (&f->errout);
	buf_add (&f->out, r->out.p, r->out.n);
	buf_add (&f->errout, r->errout.p, r->errout.n);
	child_tails (f->child, &f->out, &f->errout);
	child_clear_tails (f->child);
	tail_make_text (&f->out);
	tail_make_text (&f->errout);
	r->out = wire_str ((char *) f->out.data, f->out.len);
	r->errout = wire_str ((char *) f->errout.data, f->errout.len);
}

static void on_result_frame (struct framed *f, struct wire_str body)
{
	struct msg_runner_result r;
	struct err err;

	if (!f->ready || f->inflight == 0) {
		misbehaves (f, "it sent a result that was not asked for");
		return;
	}
	if (f->borrowed && child_writing (f->child)) {
		misbehaves (f, "it sent a result before it had read the call");
		return;
	}
	if (msg_runner_result_decode (&r, body.p, body.n, &err) < 0) {
		misbehaves (f, err.text);
		return;
	}
	merge_tails (f, &r);
	f->inflight--;
	f->borrowed = false;
	f->h->events->result (f->h->arg, &r, 0);
}

static void on_frame (struct framed *f, uint8_t type, struct wire_str body)
{
	struct id task;
	int64_t ns;

	switch (type) {
	case 'I':
		f->ready = true;
		loop_timer_stop (f->start_timer);
		f->h->events->ready (f->h->arg, body);
		break;
	case 'R':
		on_result_frame (f, body);
		break;
	case 'S':
		if (f->inflight && msg_runner_start_decode (&task, &ns, body.p, body.n, NULL) == 0)
			f->h->events->started (f->h->arg, &task, ns);
		break;
	}
}

static void on_output (struct child *c, struct buf *in, void *arg)
{
	struct framed *f = arg;
	size_t at = 0, need = 0;

	while (c == f->child && !child_killed (c)) {
		struct wire_str body;
		struct err err;
		uint8_t type;
		long n = msg_runner_head (in->data + at, in->len - at, f->ready, &err);

		need = n > 0 ? (size_t) n : 0;
		if (n < 0)
			misbehaves (f, err.text);
		if (n <= 0 || msg_runner_frame (in->data + at, in->len - at, &type, &body, &err) <= 0)
			break;
		on_frame (f, type, body);
		at += need;
	}
	if (c != f->child || child_killed (c)) {
		buf_clear (in);
		return;
	}
	buf_consume (in, at);
	if (need > in->len)
		buf_reserve (in, need - in->len);
}

/* Code of users closed it, or is another program now: no result would come, or no call be read. */
static void on_closed (struct child *c, void *arg)
{
	(void) c;
	misbehaves (arg, "it closed its pipe");
}

static void on_end (struct child *c, int status, const struct rusage *ru, void *arg)
{
	struct framed *f = arg;
	struct runner_death d = { .status = status, .ready = f->ready, .ru = ru };
	char why[sizeof (f->why)];
	struct id current;

	if (c == f->retired) {
		child_destroy (&f->retired);
		return;
	}
	snprintf (why, sizeof (why), "%s", f->why);
	d.why = why[0] ? why : NULL;
	if (child_shared_current (c, &current))
		d.current = &current;
	/* The tails are asked for in the callback; and it may start the next process, which needs our place. */
	buf_clear (&f->out);
	buf_clear (&f->errout);
	framed_tails (f, &f->out, &f->errout);
	child_destroy (&f->child);
	forget_process (f);
	f->why[0] = 0;
	f->h->events->died (f->h->arg, &d);
}

static const struct child_ops child_ops = { on_output, on_end, on_closed };

static void on_start_timeout (void *arg)
{
	misbehaves (arg, "it was not ready within 60 s");
}

/* Ours and f->env; NULL when there is nothing to add. Owned by the caller, its strings are borrowed. */
static const char **full_env (const struct framed *f)
{
	const char **out;
	size_t n = 0, more = 0;

	if (!f->env && !f->bulk_env)
		return NULL;
	while (environ[n])
		n++;
	while (f->env && f->env[more])
		more++;
	out = xcalloc (n + more + 2, sizeof (*out));
	if (more)
		memcpy (out, f->env, more * sizeof (*out));
	if (f->bulk_env)
		out[more++] = f->bulk_env;
	memcpy (out + more, environ, n * sizeof (*out));
	return out;
}

int framed_start (void *self, struct err *err)
{
	struct framed *f = self;
	struct child_opts o = { .argv = (const char *const *) f->argv, .cwd = f->cwd, .in_fd = RUNNER_FD_IN, .out_fd = RUNNER_FD_OUT,
				.capture = true, .max_output_bytes = (size_t) WIRE_MAX_RECORD + (1 << 20) };
	const char **env;

	if (f->child)
		return 0;
	if (workdir_empty (f->cwd, err) < 0)
		return -1;
	forget_process (f);
	o.env = env = full_env (f);
	f->child = child_start (f->h->loop, &o, &child_ops, f, err);
	free (env);
	if (!f->child)
		return -1;
	loop_timer_start (f->start_timer, START_TIMEOUT_MS, false);
	log_debug ("runner", "started", "runner=%s child=%d", f->h->name, (int) child_pid (f->child));
	return 0;
}

/* The process holds functions that nobody uses any more, and cannot be asked to drop them. */
static void retire_when_full (struct framed *f)
{
	if (!f->child || f->inflight || (map_size (f->sent) < FUNCTIONS_MAX && f->sent_bytes < FUNCTION_BYTES_MAX))
		return;
	child_destroy (&f->retired);
	f->retired = f->child;
	f->child = NULL;
	child_kill (f->retired);
	log_info ("runner", "replaced after many functions", "runner=%s", f->h->name);
}

static void write_call (struct framed *f, const struct runner_call *c)
{
	struct msg_runner_call m = { .task = c->task, .function = c->fn->id, .flags = c->flags, .max_result_bytes = c->max_result_bytes,
				     .environ = c->environ, .payload = c->payload };
	bool borrow = !f->inflight && c->payload.n > 65536;

	buf_clear (&f->frame);
	if (borrow)
		m.payload.p = NULL;
	msg_runner_call_encode (&f->frame, &m);
	child_write (f->child, f->frame.data, f->frame.len);
	if (!borrow)
		return;
	child_write_borrowed (f->child, c->payload.p, c->payload.n);
	f->borrowed = true;
}

/* A process, and the function in it. */
static int prepare (struct framed *f, const struct runner_call *c, struct err *err)
{
	retire_when_full (f);
	if (framed_start (f, err) < 0)
		return -1;
	if (!map_get (f->sent, &c->fn->id)) {
		buf_clear (&f->frame);
		msg_runner_function_encode (&f->frame, c->fn_record.p, c->fn_record.n);
		child_write (f->child, f->frame.data, f->frame.len);
		map_put (f->sent, &c->fn->id, f);
		f->sent_bytes += c->fn_record.n;
	}
	if (!f->inflight)
		child_clear_tails (f->child);
	return 0;
}

int framed_call (void *self, const struct runner_call *c, struct err *err)
{
	struct framed *f = self;

	if (prepare (f, c, err) < 0)
		return -1;
	write_call (f, c);
	f->inflight++;
	return 0;
}

int framed_batch (void *self, const struct runner_call *c, size_t n, struct err *err)
{
	struct framed *f = self;
	struct msg_runner_batch m = { .function = c->fn->id, .flags = c->flags, .max_result_bytes = c->max_result_bytes, .n = (uint32_t) n };
	struct msg_runner_input *inputs = xcalloc (n, sizeof (*inputs));
	int rc = prepare (f, c, err);

	for (size_t i = 0; i < n; i++)
		inputs[i] = (struct msg_runner_input){ c[i].task, c[i].payload };
	buf_clear (&f->frame);
	if (rc == 0)
		msg_runner_batch_encode (&f->frame, &m, inputs);
	free (inputs);
	if (rc == 0 && buf_failed (&f->frame))
		rc = err_set (err, ERR_TASK_RUNNER, FAULT_SELF, "a batch of %zu inputs cannot be written for its runner", n);
	if (rc < 0)
		return -1;
	child_write (f->child, f->frame.data, f->frame.len);
	f->inflight += (unsigned) n;
	return 0;
}

void framed_flush (void *self)
{
	struct framed *f = self;

	if (f->child)
		child_flush (f->child);
}

void framed_kill (void *self)
{
	struct framed *f = self;

	if (f->child)
		child_kill (f->child);
}

pid_t framed_pid (void *self)
{
	struct framed *f = self;

	return f->child ? child_pid (f->child) : 0;
}

void framed_tails (void *self, struct buf *out, struct buf *errout)
{
	struct framed *f = self;

	if (f->child) {
		child_shared_tails (f->child, out, errout);
		child_tails (f->child, out, errout);
	} else {			/* during the callback `died`: kept by on_end */
		buf_add (out, f->out.data, f->out.len);
		buf_add (errout, f->errout.data, f->errout.len);
	}
}

void framed_news (void *self, const struct id *task, struct child_news *n)
{
	struct framed *f = self;

	if (f->child)
		child_news (f->child, task, n);
}

int framed_create (void **self, const struct runner_host *h, const char *const *argv, const char *const *env, struct err *err)
{
	struct framed *f = xcalloc (1, sizeof (*f));
	size_t i;

	f->h = h;
	f->env = env;
	f->cwd = xasprintf ("%s/work-%s", h->dir, h->name);
	if (h->bulk)
		f->bulk_env = xasprintf ("WEFT_BULK_DIR=%s", bulk_dir (h->bulk));
	for (i = 0; i < ARGS_MAX && argv[i]; i++)
		f->argv[i] = xstrdup (argv[i]);
	f->sent = map_create ();
	f->start_timer = loop_timer_create (h->loop, on_start_timeout, f);
	buf_init (&f->frame, 0);
	buf_init (&f->out, 0);
	buf_init (&f->errout, 0);
	*self = f;
	return workdir_make (f->cwd, err);
}

void framed_destroy (void **self)
{
	struct framed *f = *self;
	size_t i;

	if (!f)
		return;
	child_destroy (&f->child);
	child_destroy (&f->retired);
	for (i = 0; i < ARGS_MAX; i++)
		free (f->argv[i]);
	workdir_empty (f->cwd, NULL);
	free (f->cwd);
	free (f->bulk_env);
	map_destroy (&f->sent);
	loop_timer_destroy (&f->start_timer);
	buf_fini (&f->frame);
	buf_fini (&f->out);
	buf_fini (&f->errout);
	free (f);
	*self = NULL;
}
