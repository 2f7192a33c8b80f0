/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the dispatcher share; nobody else includes it.
 *
 *   dispatch.c            results and ends of tasks, the window, drain, blocks; life
 *   dispatch_route.c      tasks and functions towards the managers
 *   dispatch_forwarder.c  what comes from the forwarder
 *   dispatch_managers.c   what comes from the managers
 *   dispatch_memo.c       equal tasks: earlier results, waiting for each other
 *   dispatch_containers.c functions that want a container
 *   dispatch_gang.c       tasks that ask for whole nodes, several of one block
 *   dispatch_images.c     which image such a call would run from
 *   dispatch_lanes.c      functions that name an image, where blocks are made for images
 *   dispatch_tick.c       by time: states that are reported, tasks that are held */
#ifndef ENDPOINT_DISPATCH_INTERNAL_H
#define ENDPOINT_DISPATCH_INTERNAL_H
#include "endpoint/dispatch.h"
#include "endpoint/images.h"
#include "proto/msg_result.h"

enum dispatch_drain_for { DRAIN_OURS = 1, DRAIN_FORWARDER = 2 };
enum { DISPATCH_TICK_MS = 200 };	/* TASK_STATE is gathered for so long (SPEC.md, 3.2) */

struct function;
struct gang;

/* Of an image that functions name, where blocks are made for images. */
struct lane {
	char *image;
	struct route_lane *row;			/* its managers that can take a task */
	struct queue_list waiting;
	size_t tasks, managers, servables;	/* tasks in hand: waiting here, held, joined or out; it goes when there are none of all these */
	struct { uint32_t nodes; bool wanted, leaving; } now;	/* what its servables want; while that is asked for */
	struct lane *next;
};

struct dispatch {
	struct loop *loop;
	struct dispatch_opts o;
	char *node;
	struct queue *queue;
	struct route *route;
	struct functions *functions;
	struct spool *spool;
	struct upstream *up;
	struct managers *managers;
	struct map *flights;			/* of equal tasks, by the beginning of their key */
	struct map *replicated;			/* functions that want replicas */
	struct gang *gang;			/* nodes are being kept for its task; NULL = for none */
	bool gang_look;				/* more than the last time may get nodes */
	size_t gang_tasks, gang_nodes;		/* in hand: that ask for nodes; for how many */
	struct map *servables;			/* functions that want replicas where blocks have images, see dispatch_lanes.c */
	struct lane *lanes, unknown;		/* unknown: of the tasks whose function has not come yet */
	struct queue_list plain;		/* where blocks have images: tasks for those without */
	bool containers_seen;			/* any manager has said something of a container */
	struct map *allowed;			/* NULL = all */
	struct loop_defer *work;
	struct loop_timer *tick;
	size_t wanted;				/* managers' wishes for functions that we lack too */
	size_t strange;				/* of all managers */
	int64_t complete_ms;			/* when all that the forwarder has for us will have come; 0 = there is no session */
	int64_t tick_n, asked_ms;
	uint32_t need_ms;			/* the shortest of the tasks that found no manager with time enough; 0 = none */
	unsigned drained_for;			/* dispatch_drain_for, bits */
	bool had_managers, draining;
	unsigned blocks, pending_blocks;
	char why_waiting[1200];			/* why tasks wait for nodes, "" when they need not */
	struct dispatch_stats st;
	uint32_t last_window;
	struct { uint64_t done; uint32_t running, queued, free_slots; } told;	/* with the last CAPACITY */
};

/* dispatch.c */
void dispatch_drain_for (struct dispatch *d, enum dispatch_drain_for who, bool start);
void dispatch_tell_drain (struct dispatch *d, struct manager *m);
void dispatch_say_drain (struct dispatch *d);			/* to the forwarder, for people who look: the window stops it */
void dispatch_work_later (void *dispatch);	/* spool, send and route at the end of the burst */
/* A message has been opened that is about these tasks: with 100,000 in hand, waiting for memory would be much of the work. */
void dispatch_coming (const struct id *task, void *dispatch);
/* record: transferred. Spooled now in memory, written and sent at the end of the burst. */
void dispatch_keep_result (struct dispatch *d, const struct id *task, zmq_msg_t *record);
/* Take it from its manager (or the queue) and free it. */
void dispatch_drop_task (struct dispatch *d, struct queue_task *t);
/* It ends with a result made here; frees t. */
void dispatch_end_task (struct dispatch *d, struct queue_task *t, int status, enum err_code code, enum err_fault fault, const char *text);
void dispatch_give_back_task (struct dispatch *d, struct queue_task *t);	/* to the forwarder; frees t */
void dispatch_send_results (struct dispatch *d);
void dispatch_fit_result (struct dispatch *d, zmq_msg_t *m);	/* to the session with the forwarder */
uint32_t dispatch_window (const struct dispatch *d);	/* tasks that the forwarder may leave with us */
void dispatch_note_window (struct dispatch *d);
void dispatch_figures_changed (struct dispatch *d);	/* managers or slots: the forwarder hears of it */
bool dispatch_allows (const struct dispatch *d, const struct id *function);	/* allowed_functions */
void dispatch_set_closed (struct dispatch *d, struct manager *m);
/* t is no longer with its manager, nor are nodes kept for it. Before it is dropped or put back, the manager's list still holds it. */
void dispatch_leave_manager (struct dispatch *d, struct queue_task *t);

/* dispatch_route.c */
void dispatch_route (struct dispatch *d);
bool dispatch_send_function (struct dispatch *d, struct manager *m, const struct id *function);	/* false: not at hand */
void dispatch_ask_function (struct dispatch *d, const struct id *function);
void dispatch_hold_for_function (struct dispatch *d, struct queue_task *t);
void dispatch_send_task (struct dispatch *d, struct manager *m, struct queue_task *t);
void dispatch_have (struct dispatch *d, struct manager *m, struct queue_task *t);	/* m has it, from now; its node is not updated yet */
/* To a manager of the lane (NULL = of none), or held for want of its function or of time. False: nobody can take it now. */
bool dispatch_give (struct dispatch *d, struct queue_task *t, const struct route_lane *lane, int64_t now_ms);

/* dispatch_managers.c */
void dispatch_lose_task (struct dispatch *d, struct manager *m, struct queue_task *t, const char *why);	/* m: its owner */
/* It came from the forwarder, and is strange to us at a manager: is it that one's now? */
bool dispatch_known_again (struct dispatch *d, struct queue_task *t);
void dispatch_strange_end (struct dispatch *d, const struct id *task);	/* by its user */
void dispatch_strange_tick (struct dispatch *d);

/* dispatch_gang.c */
bool dispatch_gang_refused (struct dispatch *d, struct queue_task *t);	/* new, with resources; t has ended then */
void dispatch_gang_look (struct dispatch *d);		/* managers came, went or changed, or time has gone by */
void dispatch_gang_place (struct dispatch *d);		/* those that wait, as far as there are nodes */
void dispatch_gang_let_go (struct dispatch *d, struct queue_task *t);	/* t has a gang */
void dispatch_gang_end (struct dispatch *d);		/* all gangs: their managers are about to be freed */
void dispatch_gang_released (struct dispatch *d);	/* those that wait for nodes wait at the front of the queue instead */
/* The record of a task that has its nodes, as the first of them gets it. -1: unchanged. */
int dispatch_gang_frame (struct dispatch *d, const struct queue_task *t, zmq_msg_t *record, struct err *err);
void dispatch_gang_lost (struct dispatch *d, struct manager *m, const char *why);	/* before m's own tasks are lost */
/* Is this result of t, from m, one of a call that was given up for a lost node? It is queued again then, or has ended. */
bool dispatch_gang_recalled (struct dispatch *d, struct manager *m, struct queue_task *t, zmq_msg_t *record);

/* dispatch_memo.c */
/* Has t been taken care of, by an earlier result (t is freed then) or because it waits for an equal task? */
bool dispatch_memo_ask (struct dispatch *d, struct queue_task *t);
/* t ended with this: remembered, and given to those that wait for it. Before t is dropped. */
void dispatch_memo_result (struct dispatch *d, struct queue_task *t, zmq_msg_t *record);
void dispatch_memo_left (struct dispatch *d, struct queue_task *t);	/* t is about to be freed */
void dispatch_memo_release (struct dispatch *d);	/* those that wait for an equal one wait for a manager instead */

/* dispatch_containers.c */
struct manager *dispatch_warm_manager (struct dispatch *d, const struct queue_task *t, int64_t now_ms);
void dispatch_function_for (struct dispatch *d, const struct manager *m, struct function *f, zmq_msg_t *record);	/* record: initialised */
void dispatch_function_came (struct dispatch *d, struct function *f, bool changed);
void dispatch_replicas_spread (struct dispatch *d);	/* managers came or went */
void dispatch_on_container (struct manager *m, const struct msg_container_state *s, void *dispatch);

/* dispatch_lanes.c; all of it but the first is for endpoints whose blocks have images (opts.block_image) */
void dispatch_lane_left (struct dispatch *d, struct queue_task *t);	/* t is about to be freed */
/* t's function, NULL when it has not come yet; t is counted with those of its image from now on. */
struct function *dispatch_lane_of (struct dispatch *d, struct queue_task *t);
/* Has t, a waiting one, been taken care of? False: it asks for whole nodes. */
bool dispatch_lane_take (struct dispatch *d, struct queue_task *t, int64_t now_ms);
void dispatch_lane_function (struct dispatch *d, const struct function *f);	/* it came, for the first time or as another */
void dispatch_lanes_route (struct dispatch *d, int64_t now_ms);
void dispatch_lanes_release (struct dispatch *d);	/* those that wait in lanes, or among the plain ones, wait at the front of the queue instead */
void dispatch_lane_up (struct dispatch *d, struct manager *m);		/* before it is added to the routing */
void dispatch_lane_down (struct dispatch *d, struct manager *m);	/* after it was removed */
void dispatch_lanes_end (struct dispatch *d);

/* dispatch_images.c */
enum { DISPATCH_IMAGES_MAX = 8 };
/* t's function wants a container. KNOWN: *n of them, one a node that has its own. NONE: that cannot be told. ASKED: a manager was asked, and
 * held tasks are tried again when it answers. UNKNOWN: there is nobody to ask. */
enum images_state dispatch_images (struct dispatch *d, struct queue_task *t, struct id out[DISPATCH_IMAGES_MAX], size_t *n);
void dispatch_on_image (struct manager *m, const struct msg_image *i, void *dispatch);
void dispatch_images_changed (struct dispatch *d, const struct id *function);	/* its record is another one */

/* dispatch_tick.c */
void dispatch_tick (void *dispatch);	/* each DISPATCH_TICK_MS */

#endif
