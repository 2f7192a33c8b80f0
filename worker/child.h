/* SPDX-License-Identifier: Apache-2.0 */
/* A process that runs code of users: started in a session of its own, tied to our life (spawn.h), fed through one pipe, read
 * through another, its standard output and error kept as tails. Nothing it does blocks or grows the worker. */
#ifndef WORKER_CHILD_H
#define WORKER_CHILD_H
#include <sys/resource.h>
#include <sys/types.h>
#include "common/loop.h"
#include "worker/tail.h"

struct child;

/* Memory shared with the process, SPEC.md section 7: tails of stdout and stderr, then the id of the task whose call has begun. */
#define CHILD_SHARED_FD 5
#define CHILD_SHARED_CURRENT (2 * TAIL_SHARED_BYTES)
#define CHILD_SHARED_BYTES (CHILD_SHARED_CURRENT + ID_BYTES)

struct child_ops {
	/* More bytes from out_fd: consume what is understood. The child may be killed inside, not destroyed. */
	void (*on_output) (struct child *c, struct buf *in, void *arg);
	/* It ended (status as from waitpid), a second ago if by a SIGTERM; all its output has been given. Destroy it inside. */
	void (*on_exit) (struct child *c, int status, const struct rusage *ru, void *arg);
	/* It closed its end of a pipe, and lives on. It may be killed inside, not destroyed. NULL = that is no matter. */
	void (*on_closed) (struct child *c, void *arg);
};

struct child_opts {
	const char *const *argv;	/* borrowed during the call, as the next ones */
	const char *const *env;		/* NULL = ours */
	const char *cwd;
	int in_fd, out_fd;		/* its descriptors of the two pipes: 3 and 4, or 0 and 1 */
	bool capture;			/* hand it CHILD_SHARED_FD */
	size_t max_output_bytes;	/* most that `in` may hold */
};

struct child *child_start (struct loop *l, const struct child_opts *o, const struct child_ops *ops, void *arg, struct err *err);
void child_destroy (struct child **c);		/* killed with all it started, reaped later; no callback */
pid_t child_pid (const struct child *c);

void child_write (struct child *c, const void *p, size_t n);	/* copied, sent by child_flush */
void child_write_borrowed (struct child *c, const void *p, size_t n);	/* borrowed until written, killed or destroyed */
void child_flush (struct child *c);
void child_end_input (struct child *c);		/* close the pipe when all is written */
bool child_writing (const struct child *c);	/* is there something queued that is not written? */

/* SIGKILL to it and all it started; output is no longer read. on_exit follows, after 5 s even when the kernel keeps the process. */
void child_kill (struct child *c);
bool child_killed (const struct child *c);

/* What it printed since the last child_clear_tails; read off the pipes first. Appended. */
void child_tails (struct child *c, struct buf *out, struct buf *errout);
bool child_printed (struct child *c);		/* reads the pipes; is there anything in the tails (not the shared ones)? */
void child_clear_tails (struct child *c);
/* What was printed since the last look; seen: of each of the four sources. Zero it for a new call. */
struct child_news { uint64_t seen[4]; struct tail text[2]; };
void child_news (struct child *c, const struct id *task, struct child_news *n);	/* shared memory counts when it is of that task */
void child_shared_tails (struct child *c, struct buf *out, struct buf *errout);	/* of descriptor 5; appended */
bool child_shared_current (const struct child *c, struct id *task);	/* false: not known; no task's before its first call */

#endif
