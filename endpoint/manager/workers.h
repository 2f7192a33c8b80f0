/* SPDX-License-Identifier: Apache-2.0 */
/* The worker engines of this node: processes (started, watched, started again with back-off) and their sessions. Beside the bare ones
 * there is room for some in containers, which are started for a pool (pools.h) and not again by themselves.
 *
 *     state            process  session  next
 *     WORKER_DOWN      no       no       STARTING when the back-off is over; PREPARING when a container is wanted
 *     WORKER_PREPARING no       no       STARTING when the image is there; DOWN when it cannot be had
 *     WORKER_STARTING  yes      no       UP with its HELLO; killed when that does not come in time
 *     WORKER_UP        yes      yes      LEAVING when the session ends, EXITED when the process does
 *     WORKER_LEAVING   yes      no       EXITED: it is being stopped; also when not even SIGKILL ends it in time
 *     WORKER_EXITED    no       maybe    DOWN when what it sent before its end has been read; its tasks are lost then
 *
 * A slot k keeps its struct worker for good; each process in it has an id of its own. */
#ifndef MANAGER_WORKERS_H
#define MANAGER_WORKERS_H
#include <zmq.h>
#include "common/loop.h"
#include "endpoint/manager/containers/runtime.h"
#include "endpoint/manager/tasks.h"
#include "proto/msg_result.h"

enum worker_state { WORKER_DOWN, WORKER_PREPARING, WORKER_STARTING, WORKER_UP, WORKER_LEAVING, WORKER_EXITED };
enum container_state {	/* as in CONTAINER_STATE (SPEC.md, 3.3) */
	CONTAINER_PULLING = 1, CONTAINER_STARTING, CONTAINER_WARM, CONTAINER_BUSY, CONTAINER_STOPPED, CONTAINER_FAILED,
};

struct bulk;
struct link_peer;
struct map;
struct node;
struct pool;
struct rooms;
struct spawn;
struct workers;

struct container {
	const struct runtime *rt;
	struct container_spec spec;	/* its image is `image` */
	char *image, *name;		/* owned */
	char *digest;			/* owned; NULL = it cannot be told which image it is */
	char *runs;			/* owned: what the tool is to run; NULL = the image as it is named */
	struct id image_id;		/* of the digest */
	bool pulled;
	int64_t asked_ms, run_ms;	/* when it was wanted, and when `run` was called; monotonic */
	int64_t pull_ms;		/* how long the image took to come; 0 = it was here */
	enum container_state told;	/* to the agent, last */
	bool image_fault;		/* it is the image that cannot be had */
	char why[400];			/* it did not come up */
};

struct worker {
	/* for all to read */
	unsigned index;
	struct id id;			/* of the present process */
	enum worker_state state;
	struct link_peer *peer;		/* borrowed; NULL without session */
	struct container *container;	/* owned; NULL: a bare one, or a free place for a container */
	struct pool *pool;		/* of the container; borrowed */
	uint64_t served;		/* tasks given to the container */
	int64_t idle_since_ms;		/* of the container */
	/* the dispatcher's */
	struct task_list tasks;		/* given to it, oldest first: it runs them in this order */
	unsigned blocking;		/* tasks in the list with `blocks` */
	int64_t head_since_ns;		/* when the present head became it (monotonic) */
	bool retire;			/* to be stopped when its call is over */
	bool recalled;			/* workers_recall was called for what is behind this head */
	struct id batch_function;	/* of the batch that it was given last */
	unsigned batch_size;		/* inputs that this could have had; 0 = it was none */
	unsigned batch_seen;		/* results of the call that began at batch_start_ns (real time) and took batch_took_ns */
	int64_t batch_start_ns, batch_took_ns;
	/* the supervisor's */
	struct workers *all;		/* borrowed */
	struct map *functions;		/* ids sent in this session (values mean nothing) */
	struct map *wanted;		/* ids that it misses and that were not at hand */
	struct spawn *process;		/* owned; NULL when none */
	struct loop_timer *timer;	/* start, HELLO deadline, the end of a stopped process, or the settling after an exit */
	int64_t up_since_ms;
	unsigned failures;		/* starts in a row that did not last */
	int status;			/* from waitpid, of the process that ended last */
};

struct workers_ops {
	void (*up) (struct worker *w, void *arg);
	/* Its process is gone, `status` as from waitpid; the tasks in its list must be taken out of it. */
	void (*lost) (struct worker *w, int status, void *arg);
	void (*result) (struct worker *w, zmq_msg_t *record, const struct msg_result *m, void *arg);	/* record may be moved */
	void (*returned) (struct worker *w, const struct id *task, void *arg);
	void (*state) (struct worker *w, zmq_msg_t *record, const struct msg_task_state *m, void *arg);	/* record may be moved */
	void (*output) (struct worker *w, zmq_msg_t *record, const struct msg_output *m, void *arg);	/* record may be moved */
	void (*missing) (struct worker *w, const struct id *function, void *arg);
	void (*container) (struct worker *w, enum container_state s, const char *text, void *arg);
	void (*stopped) (void *arg);	/* after workers_stop: no process is left */
};

struct workers_opts {
	unsigned n;
	unsigned containers;				/* at most; 0 = none */
	const struct node *node_containers;		/* borrowed for life; with containers */
	const char *bin, *python, *node, *log_level;	/* borrowed for life */
	const char *loader, *lib;	/* what starts bin, and where its libraries are, in a bundle; NULL: the system's. Borrowed for life */
	const char *retries_on_kill;			/* borrowed for life; NULL = not passed on */
	const struct bulk *bulk;			/* borrowed for life; NULL = none */
	const char *files_dir;				/* borrowed for life; where files of tasks stand; NULL = none */
	int64_t heartbeat_ms, threshold_ms;		/* 0 = the link's */
	uint32_t max_payload_bytes, max_result_bytes;	/* for WELCOME; 0 = the link's */
	struct rooms *rooms;				/* borrowed for life */
	const struct workers_ops *ops;			/* borrowed for life */
	void *arg;
};

/* Listens and starts the workers. */
struct workers *workers_create (struct loop *l, void *zctx, const struct workers_opts *o, struct err *err);
void workers_destroy (struct workers **ws, int64_t linger_ms);
void workers_set_limits (struct workers *ws, uint32_t max_payload_bytes, uint32_t max_result_bytes);	/* from the next session on */

unsigned workers_count (const struct workers *ws);		/* bare ones */
unsigned workers_all (const struct workers *ws);		/* and behind them those of containers */
struct worker *workers_get (struct workers *ws, unsigned k);	/* k < workers_all; borrowed */
unsigned workers_up (const struct workers *ws);

/* For a pool; NULL: no place, or we are stopping. `lost` comes when it does not come up, container->why says why; the place is free
 * again after that call. May call `lost` before it returns: do not touch the result then unless its state says so. */
struct worker *workers_start_container (struct workers *ws, struct pool *pool, const struct runtime *rt, const struct container_spec *spec);
/* Which image is it now? digest "": that cannot be told. Called from the loop, or before this returns. */
typedef void workers_digest_f (const char *digest, void *arg);
void workers_digest (struct workers *ws, const struct runtime *rt, const char *image, workers_digest_f *cb, void *arg);
void workers_retire (struct worker *w, const char *why);	/* stop an idle container; `lost` follows */

/* Its room, owned by the caller, and its directory in that, which is not ours where it runs in a container; for good. */
char *workers_dir (const struct worker *w, const char **inner);
bool workers_bulk (const struct worker *w);	/* may it be sent references? */
/* The function once per session; record: a second reference is sent. */
bool workers_has_function (const struct worker *w, const struct id *function);
void workers_send_function (struct worker *w, const struct id *function, zmq_msg_t *record);
void workers_forget_function (struct worker *w, const struct id *function, bool wanted);
bool workers_wants_function (const struct worker *w, const struct id *function);
void workers_send_task (struct worker *w, zmq_msg_t *record);	/* transferred */
void workers_send_id (struct worker *w, int type, const struct id *id);
/* What it has not begun comes back as TASK_RETURN; it goes on then. One that has just become idle may leave and be replaced. */
void workers_recall (struct worker *w);
/* start: nothing new, give back what has not begun; end of it: workers that left are started again. */
void workers_drain (struct workers *ws, bool start, uint32_t grace_ms);
/* SIGTERM, then SIGKILL after grace_ms; none is started again. ops->stopped follows, from the loop. */
void workers_stop (struct workers *ws, int64_t grace_ms);

#endif
