/* SPDX-License-Identifier: Apache-2.0 */
/* What a runner is. A new one is a file beside this one with a struct runner_ops, and a row in worker/runner.c.
 *
 * A runner calls functions of some kinds. It owns a process that it starts when it needs one; the engine sees to limits, retries
 * and what becomes of the call when that process dies. Two forms exist: a process that is kept and speaks frames (python,
 * shared_object: built on framed.h), and a process per call (command).
 *
 *   engine                                     runner
 *   call ... flush                  ->         starts its process if there is none
 *                                   <-         ready (once per process), started, result (in the order of the calls)
 *   kill                            ->
 *                                   <-         died: calls without a result are the engine's again */
#ifndef WORKER_RUNNERS_RUNNER_H
#define WORKER_RUNNERS_RUNNER_H
#include <sys/resource.h>
#include <sys/types.h>
#include "common/loop.h"
#include "proto/bulk.h"
#include "proto/msg_function.h"
#include "proto/msg_runner.h"

struct child_news;
struct runner_call {
	struct id task;
	const struct msg_function *fn;	/* borrowed until the call's result or death, as what follows */
	struct wire_str fn_record;	/* the same, as it came */
	struct wire_str payload;		/* a reference, with TASK_BULK in flags */
	uint32_t flags, max_result_bytes;
	const struct bulk_ref *bulk;	/* with TASK_BULK */
	struct wire_str environ;	/* with RUNNER_ENVIRON: what the call has on top of its runner's, see msg_resources.h */
};

struct runner_death {
	int status;			/* as from waitpid */
	bool ready;			/* false: it died before it could take calls */
	const char *why;		/* what the runner itself found wrong with it, NULL = nothing; borrowed */
	const struct id *current;	/* the task whose call began last, no task's = none has; NULL = not known; borrowed */
	const struct rusage *ru;
};

/* From the loop, or from inside call and flush never. Slices are borrowed during the callback. */
struct runner_events {
	void (*ready) (void *arg, struct wire_str runtime);	/* JSON, may be empty */
	void (*started) (void *arg, const struct id *task, int64_t real_ns);
	/* detail: exit status. May call call and flush. */
	void (*result) (void *arg, const struct msg_runner_result *r, int32_t detail);
	void (*died) (void *arg, const struct runner_death *d);
};

struct runner_host {
	struct loop *loop;
	const char *dir;		/* the worker's own, absolute */
	const char *name;		/* of this runner: its directory's, and in logs */
	const char *python, *node;
	const struct bulk *bulk;	/* NULL = none; then no call has TASK_BULK */
	const char *task_dir;		/* where calls with RUNNER_OWN_DIR in their flags run: dir/task */
	const struct runner_events *events;
	void *arg;
};

struct runner_ops {
	const char *name;
	unsigned kinds;			/* RUNNER_KIND bits */
	bool kept;			/* its process serves many calls, and takes one while another runs */
	int (*create) (void **self, const struct runner_host *h, struct err *err);	/* h is borrowed for life */
	void (*destroy) (void **self);
	int (*start) (void *self, struct err *err);	/* have a process ready; NULL = it has none between calls */
	/* Take a call. -1: it cannot be made (its result is then the error), nothing else changed. */
	int (*call) (void *self, const struct runner_call *c, struct err *err);
	/* Take n calls of one function that has a batch entry as one; the runner's result events come for each, in order. They share fn, flags and
	 * max_result_bytes. NULL: no batches. */
	int (*batch) (void *self, const struct runner_call *c, size_t n, struct err *err);
	void (*flush) (void *self);			/* send the calls taken since the last flush */
	void (*kill) (void *self);			/* no result follows, died does, unless there is no process */
	pid_t (*pid) (void *self);			/* 0 = no process */
	/* What was printed since the last result: for calls that end without one. Appended. */
	void (*tails) (void *self, struct buf *out, struct buf *errout);
	/* What the call of that task, which runs, has printed since the last look. */
	void (*news) (void *self, const struct id *task, struct child_news *n);
};
#define RUNNER_KIND(k) (1u << (k))

extern const struct runner_ops runner_python, runner_sharedobject, runner_command;

#endif
