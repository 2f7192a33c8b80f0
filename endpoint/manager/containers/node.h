/* SPDX-License-Identifier: Apache-2.0 */
/* What this node offers to functions that want a container, from the command line of weft-manager; and how a function's wish becomes
 * a runtime and a spec within these bounds. */
#ifndef MANAGER_CONTAINERS_NODE_H
#define MANAGER_CONTAINERS_NODE_H
#include "endpoint/manager/containers/runtime.h"

enum { NODE_RUNTIMES_MAX = 8 };

struct node_options {			/* as given; borrowed for life */
	const char *runtimes;		/* names, with commas; NULL = none: no containers here */
	const char *images;		/* patterns (fnmatch), with commas; NULL = any */
	const char *network;		/* for functions that ask for one; NULL = none may have it */
	const char *bundle;
	const char *endpoint_id;
	bool no_pull;
	int64_t max;			/* containers at once, warm ones included */
	int64_t cpu_millis, pids, memory_bytes;	/* of a container whose function does not say; 0 = no limit */
	int64_t max_memory_bytes;	/* most that a function may ask for; 0 = no bound */
	int64_t warm_ms, start_ms, pull_ms;
	int64_t recheck_ms;		/* which image a reference leads to is believed for so long */
};

struct node {
	const struct node_options *o;	/* borrowed */
	const struct runtime *runtimes[NODE_RUNTIMES_MAX];
	size_t n;			/* 0: no containers */
	char owner[64];
	const char *program;		/* of this very program; borrowed for life */
	unsigned cores;
	bool root;
	unsigned limits_user;		/* of enum runtime_limit: what systemd lets this user limit */
};

struct node_wish {			/* of a function */
	const char *image, *type;	/* type NULL or "": our choice */
	bool network;
	uint32_t cpu_millis, pids;	/* 0 = not said */
	uint64_t memory_bytes;
};

int node_init (struct node *n, const struct node_options *o, struct err *err);
/* Choose. spec->image is the wish's. ERR_TASK_RUNNER: no such runtime here; ERR_FORBIDDEN: not permitted here; both name what is. */
int node_choose (const struct node *n, const struct node_wish *w, const struct runtime **rt, struct container_spec *spec, struct err *err);
unsigned node_limits (const struct node *n, const struct runtime *rt);	/* for container_place.limits */
unsigned node_controllers (const char *path);	/* limits that a cgroup.controllers names; 0 when it cannot be read */
void node_user (const struct node *n, const struct runtime *rt, uid_t *uid, gid_t *gid);	/* who a container runs as inside */

#endif
