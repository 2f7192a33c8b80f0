/* SPDX-License-Identifier: Apache-2.0 */
/* A runner with everything that it started, found in /proc: the members of its session, and its descendants in others. */
#ifndef WORKER_PROCTREE_H
#define WORKER_PROCTREE_H
#include <stdint.h>
#include <sys/types.h>

/* SIGKILL to all, again until a scan finds nobody new (a process may fork while it is looked for). Returns how many. What breaks
 * away between two scans becomes our child, as we are a subreaper: spawn_kill_strays takes it. */
int proctree_kill (pid_t leader);
uint64_t proctree_rss (pid_t leader);		/* resident bytes, summed; 0 when there is nobody */
/* OOM kills that this host or this cgroup has counted so far; a difference is evidence, not proof. */
uint64_t proctree_oom_kills (void);

#endif
