/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the engine: what engine*.c share. Nobody else includes this.
 *
 *   engine.c          life of the engine, messages of the manager, sessions
 *   engine_batch.c    calls of functions with a batch entry, several in one
 *   engine_feed.c     which call goes to which runner, and what runners tell
 *   engine_follow.c   what a call prints, for somebody who looks while it runs
 *   engine_limits.c   time and memory limits, tasks that run long
 *   engine_settle.c   results
 *
 * A call is in exactly one place:
 *
 *   parked     its function is missing        FUNCTION -> queued; too long -> returned
 *   queued     waits                          fed -> in flight; cancelled -> settled; drain -> returned
 *   in flight  given to a runner              result, or death of the runner -> settled, or queued again
 *
 * inflight[0] is running (or waits for its runner to be ready); inflight[1] stands in the pipe behind it. Both are of `active`. A call
 * that was cancelled while in the pipe is settled at once but stays until the runner is through with it.
 *
 * A batch is inflight[0] and, behind it in the order of their results, `group`; nothing else is in flight then. */
#ifndef WORKER_ENGINE_INTERNAL_H
#define WORKER_ENGINE_INTERNAL_H
#include <sys/queue.h>
#include "common/map.h"
#include "common/pythons.h"
#include "proto/functions.h"
#include "proto/link.h"
#include "proto/msg_task.h"
#include "worker/child.h"
#include "worker/engine.h"
#include "worker/results.h"
#include "worker/runner.h"
#include "worker/verdict.h"

enum {
	INFLIGHT_MAX = 2,		/* one call ahead hides the wake-ups between two calls */
	FAST_NS = 1000000,		/* calls are written ahead of each other when both are faster */
	QUEUE_MAX = 65536,
	RUNNING_REPORT_MS = 200,
	MEMORY_FIRST_MS = 50, MEMORY_POLL_MS = 100,
	SETTLED_GRACE_MS = 100,		/* a cancelled call may end by itself for so long */
	ORPHAN_PARTS = 4,
	READY_WAIT_MS = 3000,		/* then we dial without knowing the Python runtime */
	UNBEGUN_MAX = 3,
	FUNCTIONS_COUNT = 1024,
};

struct call {
	TAILQ_ENTRY (call) link;	/* parked or queued */
	zmq_msg_t msg;			/* owned; t's payload stands in it */
	struct msg_task t;
	struct function *fn;		/* borrowed, counted in its users; NULL while parked */
	int64_t received_ns, started_ns;	/* real time; started 0 = has not begun */
	int64_t begun_ms;		/* monotonic */
	int64_t parked_until_ms, followed_until_ms;
	uint64_t oom_before;
	uint32_t time_limit_ms, max_result_bytes;
	uint64_t memory_limit;
	unsigned kills;			/* SIGKILLs of others that it has lived through */
	unsigned unbegun;		/* processes that died before they began it */
	unsigned group_max;		/* it was in a batch that failed: in one of so many at most; 0 = no bound */
	bool grouped;			/* it is in e->group */
	bool reported;			/* TASK_STATE running was sent */
	bool settled;			/* its result is made; only the runner has not finished */
	struct verdict verdict;		/* why we killed its runner */
};
TAILQ_HEAD (calls, call);

struct slot {				/* a runner; of the Python runner one for each interpreter */
	struct engine *e;
	const struct runner_ops *ops;
	char name[16];			/* "python", "python3.9", ...: also of its directory */
	char *runtime;			/* owned JSON: what a Python runner said of itself, NULL = not yet */
	struct runner_host host;
	void *self;			/* owned */
	bool ready, killing;
	uint64_t rlimit_data;		/* set on its process, 0 = none */
};

struct engine {
	struct loop *loop;		/* borrowed, as zctx and opts' strings */
	void *zctx;
	struct engine_opts o;
	struct link *link;		/* owned; NULL until dialled */
	struct link_peer *peer;		/* NULL: no session */
	bool had_session, draining, stopping;
	int64_t threshold_ms;
	uint32_t max_result_bytes;

	struct functions *functions;
	struct results *results;
	struct map *calls;		/* all in hand */
	struct calls queue, parked;
	struct call *inflight[INFLIGHT_MAX];
	unsigned ninflight;
	struct calls group;
	unsigned ngroup;		/* calls in the batch when it was given; 0 = no batch */
	char *task_dir;			/* owned; see taskdir.h */
	bool in_task_dir;		/* what is in flight runs there */
	unsigned nkept;			/* directories that the manager takes files from */
	struct buf group_out, group_errout;	/* what it printed */
	struct slot slots[RUNNER_MAX + PYTHONS_MAX];	/* of the table of runners, then of the interpreters but the first */
	size_t nslots;
	struct slot *active;		/* of inflight; NULL when there is none */
	uint64_t tasks_done;
	uint64_t oom_seen;		/* OOM kills counted at the last look */
	struct { struct id task; int64_t started_ns, until_ms, next_ms; uint64_t told[2]; struct child_news news; } follow;

	struct loop_timer *look, *limit, *report, *memory, *park, *ready_wait, *orphan;
	unsigned orphan_parts;		/* of its time that are left */
	struct loop_defer *feed_soon;
	struct spawn_sweep *sweep;	/* for processes that outlived their runner */
};

/* engine.c */
void call_free (struct engine *e, struct call *c);		/* out of the map; it must not be in a list */
void engine_settled (struct engine *e);				/* a call is gone: done with draining? */
void engine_dial (struct engine *e);

/* engine_batch.c */
bool call_is_batched (const struct call *c);
/* Take from the queue what may go in one call with c, which has left it, into e->group. Returns their number, c included. */
int batch_load (struct engine *e, struct call *c, struct err *err);	/* a payload of the bulk store into its record */
unsigned batch_gather (struct engine *e, struct call *c);
int batch_give (struct engine *e, struct call *c, struct slot *s, unsigned n, struct err *err);
/* Of the batch, or the one in flight: the first call that has no result yet, to which a verdict about all of them belongs. */
struct call *batch_first_open (const struct engine *e);
bool batch_others_open (const struct engine *e, const struct call *c);	/* others of the batch that have no result yet */
void batch_took_too_much (struct engine *e);		/* its time or memory limit was reached */
/* What was in flight is taken out of it: those without a result, in their order, into open. Returns their number. */
unsigned batch_take (struct engine *e, struct calls *open);
void batch_split (struct engine *e, struct calls *open, unsigned n);	/* back to the queue, for smaller batches */
void batch_requeue (struct engine *e, struct calls *list);	/* back to the front of the queue, in their order */
void batch_share_output (struct engine *e, const struct msg_runner_result *r, struct wire_str *out, struct wire_str *errout);

/* engine_feed.c */
int slots_create (struct engine *e, struct err *err);
struct slot *slot_for (struct engine *e, const struct msg_function *fn);	/* NULL: no runner has its kind */
const struct slot *slot_of_python (const struct engine *e);	/* of the first interpreter */
void slots_destroy (struct engine *e);
void engine_feed (void *e);
uint32_t call_flags (const struct call *c);			/* for its runner */

/* engine_follow.c */
void follow_create (struct engine *e);
void follow_destroy (struct engine *e);
void follow_asked (const struct id *task, void *e);		/* somebody looks at what it prints */

/* engine_limits.c */
void limits_create (struct engine *e);
void limits_destroy (struct engine *e);
void limits_of (const struct engine *e, struct call *c);	/* fill in what counts for the call; needs fn */
void call_begins (struct engine *e, int64_t real_ns);		/* inflight[0] runs since */
void limits_stop (struct engine *e);				/* inflight[0] is over */
void limits_apply_memory (struct slot *s, uint64_t limit);
void engine_kill_running (struct engine *e);

/* engine_settle.c */
void settle_verdict (struct engine *e, struct call *c, const struct verdict *v, const struct buf *out, const struct buf *errout,
		     const struct rusage *ru);
void settle_result (struct engine *e, struct call *c, const struct msg_runner_result *r, int32_t detail);
void settle_drop (struct engine *e, const struct msg_runner_result *r);	/* nobody wants it */

#endif
