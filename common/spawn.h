/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes: posix_spawn with an argv, never a shell line; the end of a child is an event on the loop.
 *
 * Each child is the leader of a process group of its own unless told otherwise. Nothing is inherited but the
 * descriptors named. A child that must not outlive its parent gets --parent-pid and calls spawn_tie_to_parent first, or
 * spawn_tie_tree_to_parent when it starts what others wrote. */
#ifndef COMMON_SPAWN_H
#define COMMON_SPAWN_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>
#include "common/loop.h"

struct spawn;
struct spawn_fd { int from; int to; };	/* descriptor `from` of ours is `to` in the child */

struct spawn_opts {
	const char *const *argv;	/* argv[0] is searched on PATH when it has no slash; borrowed during the call */
	const char *const *env;		/* NULL = ours */
	const char *cwd;		/* NULL = ours */
	const struct spawn_fd *fds;	/* beside these, 0 1 2 are /dev/null, ours, ours unless named */
	size_t nfds;
	bool same_group;		/* stay in our process group */
	bool new_session;		/* setsid */
	/* The last step before code of others: dies when the thread that started it does, leaves no core file, umask 077. When the
	 * program cannot be run, its standard error says so ("cannot run 'x': why") and it ends with SPAWN_CANNOT_RUN. */
	bool tied;
};
#define SPAWN_CANNOT_RUN 127

/* status: as from waitpid. Called once, from the loop; the spawn is destroyed after it returns. */
typedef void spawn_exit_f (struct spawn *s, pid_t pid, int status, const struct rusage *ru, void *arg);

struct spawn *spawn_start (struct loop *l, const struct spawn_opts *opts, spawn_exit_f *cb, void *arg, struct err *err);
pid_t spawn_pid (const struct spawn *s);
void spawn_kill (struct spawn *s, int signo);		/* the whole group when it leads one; reaped only by its event */
void spawn_forget (struct spawn **s);			/* no callback any more; still reaped */
/* Kill with SIGTERM, then SIGKILL after grace_ms. */
void spawn_stop (struct spawn *s, int64_t grace_ms);
/* Children that we did not start (we are a subreaper): told their pid when found dead or adopted. */
int spawn_become_subreaper (struct err *err);
/* Kill every live child of ours that this module did not start, with its process group; returns how many. */
int spawn_kill_strays (void);
/* Strays that run one of these programs (their files' names, NULL at the end) are left alone by spawn_kill_strays; NULL: none are. Borrowed.
 * For what a tool that we started leaves behind on purpose, as podman does with conmon, which holds a container. */
void spawn_spare (const char *const *programs);
bool spawn_has_strays (void);				/* dead ones too; true when nobody can tell */
bool spawn_stopping (void);				/* one that spawn_stop was called for has not ended */
/* In the child: die with SIGKILL when parent_pid dies, also when it is dead already. */
void spawn_tie_to_parent (pid_t parent_pid);
/* The same, but first all that is beneath us is killed, strays too. For a subreaper that starts children from its main thread alone; takes
 * SIGHUP, which does that from then on whoever sends it. */
void spawn_tie_tree_to_parent (pid_t parent_pid);
/* spawn_kill_strays again and again until a few looks in a row find nobody: start when a child has ended that may have left some. */
struct spawn_sweep;
struct spawn_sweep *spawn_sweep_create (struct loop *l);
void spawn_sweep_start (struct spawn_sweep *s);
void spawn_sweep_destroy (struct spawn_sweep **s);
/* The same here and now, for one whose loop has ended; waits for those that spawn_stop was called for too, all at most ms. */
void spawn_sweep_wait (int64_t ms);
/* Wait status as words: "exit status 3", "killed by signal 9 (Killed)". out has 64 bytes; returns out. */
char *spawn_status_text (int status, char out[64]);

/* rm -rf by a process of its own, since a tree may be large. Failures are logged. */
void spawn_remove_tree (struct loop *l, const char *path);

/* Run to the end off the loop's hot path: stdout and stderr are gathered up to max_bytes each, time limited. For
 * scheduler commands. out/errout are valid during the callback; status -1 = could not start or timed out (err is set). */
typedef void spawn_capture_f (int status, const char *out, size_t nout, const char *errout, size_t nerr,
			      const struct err *err, void *arg);
int spawn_capture (struct loop *l, const char *const *argv, const char *input, int64_t timeout_ms, size_t max_bytes,
		   spawn_capture_f *cb, void *arg, struct err *err);

#endif
