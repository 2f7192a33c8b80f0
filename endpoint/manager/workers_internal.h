/* SPDX-License-Identifier: Apache-2.0 */
/* What workers.c and workers_container.c share; nobody else includes it. */
#ifndef MANAGER_WORKERS_INTERNAL_H
#define MANAGER_WORKERS_INTERNAL_H
#include <sys/resource.h>
#include "endpoint/manager/workers.h"

#define WORKERS_BACKOFF_MS 200
#define WORKERS_BACKOFF_CAP_MS 10000

struct workers {
	struct loop *loop;		/* borrowed */
	struct link *link;
	struct workers_opts o;		/* strings borrowed */
	struct worker *v;		/* o.n bare ones, then room for o.containers */
	struct map *by_id;		/* processes that may say HELLO */
	struct loop_defer *stopped;
	struct spawn_sweep *sweep;	/* for processes that outlived their worker */
	const char *run_dir;		/* borrowed: the socket's directory, for containers; NULL when there are none */
	unsigned removing;		/* containers that the runtime is removing: the end waits for them */
	bool draining, stopping;
};

/* workers.c */
void workers_exited (struct spawn *s, pid_t pid, int status, const struct rusage *ru, void *worker);
void workers_check_stopped (struct workers *ws);	/* stopping, and nothing is left to wait for: says so */
void workers_hello_deadline (struct worker *w, int64_t ms);	/* the process runs: WORKER_STARTING */
void workers_leave (struct worker *w, int64_t grace_ms);	/* SIGTERM, then SIGKILL after grace_ms: WORKER_LEAVING */

/* workers_container.c */
const char *container_inner (const struct worker *w);	/* the worker's directory, below its room */
void container_ended (struct worker *w);	/* its process: notes why, removes what the runtime kept */
void container_forget (struct worker *w);	/* the slot is free again */
void container_abandon (struct worker *w);	/* we end at once: the runtime is asked to remove it, nobody waits for that */
void container_sweep (struct workers *ws);	/* removes containers of managers that are gone */
void container_tell (struct worker *w, enum container_state s, const char *text);

#endif
