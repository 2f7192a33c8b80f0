/* SPDX-License-Identifier: Apache-2.0 */
/* A runner whose process is kept and speaks the frames of SPEC.md, section 7. Its functions fit into a struct runner_ops as they are;
 * a runner built on it brings the command line only. */
#ifndef WORKER_RUNNERS_FRAMED_H
#define WORKER_RUNNERS_FRAMED_H
#include "worker/runners/runner.h"

/* The work directory has the name of h. argv: copied, NULL-terminated; env: what it gets beside our environment, "NAME=VALUE", NULL-terminated,
 * borrowed for life, NULL = nothing. */
int framed_create (void **self, const struct runner_host *h, const char *const *argv, const char *const *env,
		   struct err *err);
void framed_destroy (void **self);
int framed_start (void *self, struct err *err);
int framed_call (void *self, const struct runner_call *c, struct err *err);
int framed_batch (void *self, const struct runner_call *c, size_t n, struct err *err);
void framed_flush (void *self);
void framed_kill (void *self);
pid_t framed_pid (void *self);
void framed_tails (void *self, struct buf *out, struct buf *errout);
void framed_news (void *self, const struct id *task, struct child_news *n);

#endif
