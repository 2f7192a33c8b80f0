/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a task: from the forwarder into the queue, to a manager, its result into the spool and back to the forwarder. This is the only
 * module that changes queue, routing, function cache and spool together.
 *
 *     TASK       | in hand: dropped | result in the spool: that is sent again | else queued
 *     routed     | function known: to the manager, before it the function if it has not had it | else held, FUNCTION_MISSING upward
 *     RESULT     | stamped, spooled, acknowledged to the manager, sent upward; the first one wins, a second copy is cancelled
 *     manager lost | its tasks go to the front of the queue, up to retries_on_loss times, then end as TASK_LOST
 *     asks for nodes | see dispatch_gang.c
 *     names an image, and blocks have images | see dispatch_lanes.c
 *     equal to an earlier one, of a function that memoises | see dispatch_memo.c
 *     CANCEL     | queued: ends as cancelled at once | with a manager: passed on | neither it nor its result here: TASK_RETURN
 *
 * Work is gathered: at the end of a burst the spool is written once, then everything is sent. */
#ifndef ENDPOINT_DISPATCH_H
#define ENDPOINT_DISPATCH_H
#include "common/conf.h"
#include "endpoint/managers.h"
#include "endpoint/mpi.h"
#include "endpoint/queue.h"
#include "endpoint/route.h"
#include "endpoint/spool.h"
#include "endpoint/upstream.h"

struct bulk;
struct dispatch;
struct dispatch_opts {
	struct spool *spool;			/* borrowed, like all here */
	struct memo *memo;			/* NULL = functions are not memoised */
	const char *memo_image;			/* results are of this image, and for it; NULL = of the nodes themselves */
	enum route_mode routing;
	enum mpi_launcher mpi;			/* MPI_NONE: no task gets nodes of its own */
	unsigned nodes_per_block;
	size_t function_cache_bytes;
	const struct conf_list *allowed_functions;
	int64_t longest_ms;			/* no block is there for longer: tasks expected to take more are refused; 0 = any */
	int64_t retries_on_loss, hold_ms;	/* hold_ms: how long a task waits for its function, a manager's for its task */
	int64_t max_tasks, max_bytes, max_unspooled_bytes;
	const char *node;			/* for results made here */
	const struct bulk *bulk;		/* NULL = none */
	void (*tasks_waiting) (void *arg);	/* there is more than the managers can take */
	void (*manager_up) (const char *block, void *arg);
	/* "b7 (Slurm job 123 on node1)", for errors; may be NULL. */
	void (*block_words) (const char *block, struct buf *out, void *arg);
	/* The image that the block is made for, "" = none of its own, NULL = there is no such block. The op is NULL where blocks have no images:
	 * functions that name one find a runtime for containers on the nodes, or none. */
	const char *(*block_image) (const char *block, void *arg);
	const struct conf_list *images;		/* patterns of those that such a block may have; none = any */
	void (*empty) (void *arg);		/* draining, and nothing is left */
	void *arg;
};
struct dispatch *dispatch_create (struct loop *l, const struct dispatch_opts *o, struct err *err);
void dispatch_destroy (struct dispatch **d);
void dispatch_connect (struct dispatch *d, struct upstream *u, struct managers *ms);	/* NULL, NULL before they are destroyed */
extern const struct upstream_ops dispatch_upstream;	/* up, down, refused are told to the agent through the next two */
extern const struct managers_ops dispatch_managers;
/* The session's state is the agent's business; it passes it on. */
void dispatch_session_up (struct dispatch *d);
void dispatch_session_down (struct dispatch *d);

void dispatch_drain (struct dispatch *d, bool on);	/* start nothing new, give back what waits */
bool dispatch_draining (const struct dispatch *d);	/* for us, or for the forwarder, who says so in each session */
/* Before the end: what has not begun is given back, the rest is left to be redelivered. */
void dispatch_give_back (struct dispatch *d);
void dispatch_flush (struct dispatch *d);		/* spool and send what is gathered, now */
void dispatch_block_releasing (struct dispatch *d, const char *block);
void dispatch_block_lost (struct dispatch *d, const char *block, const char *why);
unsigned dispatch_block_connected (const struct dispatch *d, const char *block);	/* how many of its managers are */
unsigned dispatch_nodes_wanted (const struct dispatch *d);	/* the most that a task that waits for nodes of one block asks for; 0 = none does */
/* It is of no use to tasks that wait: its managers drain, or none of those that wait for time fits into what it has left. */
bool dispatch_block_ending (const struct dispatch *d, const char *block);
int64_t dispatch_block_idle_ms (const struct dispatch *d, const char *block);
/* Where blocks have images: what each wants; how many tasks in all that are not for nodes without an image, those
 * whose function is not here yet among them; nodes cannot get this image, why: what waits for it ends. */
enum { DISPATCH_IMAGE_MAX = 1000 };
struct scale_wish;
void dispatch_images_wanted (struct dispatch *d, void (*cb) (const struct scale_wish *w, void *arg), void *arg);
size_t dispatch_lane_tasks (const struct dispatch *d);
void dispatch_image_failed (struct dispatch *d, const char *image, const char *why);
void dispatch_figures (struct dispatch *d, unsigned blocks, unsigned pending_blocks, const char *why_waiting);	/* for CAPACITY */

struct dispatch_stats {
	size_t waiting, held, out, bytes, managers;
	size_t gang_tasks, gang_nodes;		/* of the first three, those that ask for nodes; how many they ask for */
	uint32_t slots, free_slots, window_tasks;
	uint64_t received, duplicates, done, lost, cancelled, returned, refused;
	uint64_t memoised, joined;		/* ended with another's result; waited for one */
	size_t functions; uint64_t function_bytes;
};
void dispatch_stats (const struct dispatch *d, struct dispatch_stats *out);

#endif
