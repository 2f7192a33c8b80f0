/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the dispatcher share; nobody else includes it. Everything that changes what could be sent where only schedules
 * `run`, which assigns at the end of the burst.
 *
 *   dispatch.c           ends of tasks, giving back, draining; life
 *   dispatch_assign.c    tasks towards the workers, and what stands too long
 *   dispatch_capacity.c  what the agent is told
 *   dispatch_containers.c tasks whose function wants a container
 *   dispatch_files.c     tasks that want files
 *   dispatch_images.c    which image a reference leads to
 *   dispatch_agent.c     what comes from the agent
 *   dispatch_workers.c   what comes from the workers */
#ifndef MANAGER_DISPATCH_INTERNAL_H
#define MANAGER_DISPATCH_INTERNAL_H
#include "endpoint/manager/dispatch.h"
#include "endpoint/manager/tasks.h"

#define DISPATCH_TICK_MS 50
#define DISPATCH_STUCK_MS 100	/* calls and waits longer than this make us give back */

struct batch;
struct function;
struct functions;
struct map;
struct pool;
struct pools;
struct prefetch;
struct results;

struct dispatch {
	struct dispatch_opts o;		/* node borrowed */
	struct upstream *up;		/* borrowed */
	struct workers *workers;	/* borrowed */
	struct tasks *tasks;
	struct results *results;
	struct prefetch *prefetch;
	struct batch *batch;
	unsigned batch_inputs;		/* the largest batch lately, 0 = none since nothing was in hand */
	struct functions *functions;
	struct map *asked;		/* functions that FUNCTION_MISSING went up for in this session */
	struct loop_defer *run;
	struct loop_timer *tick, *capacity;
	struct pools *pools;
	struct task_list fetching;	/* tasks whose files are on their way */
	struct task_list later;		/* tasks whose files were not asked for yet: too many are held */
	struct loop_timer *cool;	/* runs while there are pools */
	int64_t ends_at_ms;		/* monotonic; 0 = unlimited */
	int64_t no_worker_since_ms;	/* 0 = there are some */
	int64_t capacity_at_ms;
	struct msg_capacity told;	/* what the agent knows */
	uint64_t done;
	bool stuck, draining, own_drain, stopping, empty_told;
};

/* dispatch.c */
/* frame: borrowed; it is kept by reference until the agent has acknowledged it. */
void dispatch_send_result (struct dispatch *d, zmq_msg_t *frame);	/* frame: borrowed */
void dispatch_deliver (struct dispatch *d, const struct id *task, zmq_msg_t *frame);
void dispatch_leave_worker (struct task *t);
/* These end or give back the task, and free it. */
void dispatch_end_cancelled (struct dispatch *d, struct task *t);
void dispatch_end_failed (struct dispatch *d, struct task *t, enum err_code code, enum err_fault fault, int detail, const char *text);
void dispatch_give_back (struct dispatch *d, struct task *t);
/* What no worker has. all: those too whose count of attempts the agent would not learn. */
void dispatch_give_back_queue (struct dispatch *d, bool all);
void dispatch_begin_drain (struct dispatch *d, uint32_t grace_ms);

/* dispatch_assign.c */
void dispatch_run (void *dispatch);		/* through the deferred d->run */
void dispatch_tick (void *dispatch);
/* f: of t. blocks: nothing is put behind it. */
void dispatch_send (struct dispatch *d, struct task *t, struct worker *w, struct function *f, bool blocks, int64_t now_ns);
/* t and those behind it of the same function, n at most, as one batch that could have had `size`. */
void dispatch_send_batch (struct dispatch *d, struct task *t, struct worker *w, struct function *f, unsigned size, unsigned n, int64_t now_ns);
void dispatch_await_function (struct dispatch *d, struct task *t);
void dispatch_ask_for_function (struct dispatch *d, const struct id *function);

/* dispatch_containers.c */
/* Where it belongs: the queue, its pool, or those that wait for their function. May end it, when no container here will do. */
void dispatch_place (struct dispatch *d, struct task *t);
void dispatch_replicas (struct dispatch *d, struct function *f);	/* as a function that came, or came anew, asks for */
void dispatch_containers_run (struct dispatch *d);
void dispatch_containers_cool (void *dispatch);
void dispatch_container_up (struct dispatch *d, struct worker *w);
void dispatch_container_idle (struct worker *w);	/* its last call is over */
void dispatch_container_lost (struct dispatch *d, struct worker *w);
void dispatch_container_state (struct worker *w, enum container_state s, const char *text, void *dispatch);
void dispatch_containers_tell (struct dispatch *d);			/* a new session: all of them */
unsigned dispatch_busy (const struct dispatch *d);			/* workers with a task */

struct pool *dispatch_pool_of (struct dispatch *d, const struct function *f, struct err *err);	/* NULL: no container here will do */

/* dispatch_images.c */
void dispatch_image_asked (const struct id *function, void *dispatch);
/* A look at it, or the start of a container, has shown which one it is; "" = that cannot be told. */
void dispatch_image_is (struct dispatch *d, struct pool *p, const char *digest);
void dispatch_image_tick (struct dispatch *d, struct pool *p, bool up, int64_t now_ms);	/* up: it has containers */
void dispatch_images_untold (struct dispatch *d);		/* a new session: the agent knows nothing */

/* dispatch_workers.c */
void dispatch_take_result (struct dispatch *d, struct task *t, zmq_msg_t *record, const struct msg_result *m);

/* dispatch_files.c */
/* Are the files of t (f: its function) here? False: it waits for them, or has ended. */
bool dispatch_files_here (struct dispatch *d, struct task *t, struct function *f);
void dispatch_files_run (struct dispatch *d);		/* ask for files of those that had to wait with it */
void dispatch_files_came (void *task, const struct err *err, void *dispatch);
/* Keep the files that the result names, unless that has begun; dispatch_files_kept has the record then. */
void dispatch_keep_files (struct dispatch *d, struct task *t, zmq_msg_t *record);
void dispatch_files_kept (void *task, zmq_msg_t *record, void *dispatch);
/* Says in the result what its task waited for: that its container started (w; NULL = it did not), that its files came. */
void dispatch_note_waits (const struct worker *w, const struct task *t, zmq_msg_t *record);

/* dispatch_capacity.c */
void dispatch_tell_capacity (struct dispatch *d);
void dispatch_capacity_due (void *dispatch);
void dispatch_check_capacity (struct dispatch *d);	/* tells it when a figure changed that the agent acts on */

#endif
