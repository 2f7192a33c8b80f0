/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks of this endpoint: starts and releases them through a provider as scale.c decides, and knows why one was lost.
 *
 *     state      | entered when                        | left when
 *     PENDING    | submitted                           | the provider says it runs -> STARTING
 *     STARTING   | its nodes run                       | its first manager connects -> UP; connect_timeout -> cancelled as failed
 *     UP         | a manager connected                 | ended by itself -> gone; released, no manager for connect_timeout -> STOPPING;
 *                |                                     | for so long fewer than tasks wait for -> nothing new, when it is idle STOPPING
 *     STOPPING   | released or cancelled               | the provider says it ended -> gone
 *
 * A block that fails, or that ends before any manager connected, counts against the failure budget, and the next start waits (back-off)
 * until one has been up.
 *
 * Where the provider makes blocks for images that functions name, those of an image are a fleet: scaling, back-off and budget are each
 * fleet's own, max_blocks holds for all together. The fleet with fewest blocks goes first; when there is no room, an idle block of another
 * fleet goes for it, and for one that has none for long, a busy one after its tasks. */
#ifndef ENDPOINT_BLOCKS_H
#define ENDPOINT_BLOCKS_H
#include "common/loop.h"
#include "endpoint/providers/provider.h"
#include "endpoint/scale.h"

enum block_state { BLOCK_PENDING = 1, BLOCK_STARTING, BLOCK_UP, BLOCK_STOPPING };
const char *blocks_state_name (enum block_state s);

typedef void blocks_wish_f (const struct scale_wish *w, void *arg);
struct blocks_ops {
	/* The command of node `node` of a block, a NULL-terminated vector of owned strings. */
	char **(*argv) (const char *block, unsigned node, unsigned nodes, void *arg);
	int64_t (*tasks) (void *arg);			/* in hand, without those of images */
	/* What the images that functions name want; what waits for this one ends, nodes cannot get it. Both NULL: there are none. */
	void (*images) (blocks_wish_f *cb, void *cb_arg, void *arg);
	void (*image_failed) (const char *image, const char *why, void *arg);
	/* How many of its managers are connected? May be NULL: nobody asks. */
	unsigned (*connected) (const char *block, void *arg);
	/* Of one block, that is for no image: what the tasks that wait for whole nodes need at most, 0 = none does. May be NULL. */
	unsigned (*nodes_wanted) (void *arg);
	/* Of no use to tasks that wait: near its end. May be NULL. */
	bool (*ending) (const char *block, void *arg);
	/* Idle for how long (ms), -1 = it has work or no manager yet. */
	int64_t (*idle_ms) (const char *block, void *arg);
	/* It is about to be released: give its managers nothing more. */
	void (*releasing) (const char *block, void *arg);
	/* Its managers are gone, or will be in a moment. why: for people. */
	void (*lost) (const char *block, const char *why, void *arg);
	void (*changed) (void *arg);			/* figures changed; may be NULL */
};
struct blocks_opts {
	const struct provider *provider;
	const void *provider_conf;
	const char *log_dir;			/* copied */
	const char *endpoint, *identity;	/* its name, its public key; borrowed for life */
	struct scale_limits limits;
	unsigned nodes;
	int64_t period_ms, max_failures_per_hour, connect_timeout_ms, stop_grace_ms;
	const struct takeover *takeover;	/* blocks of the run before; may be NULL, or empty */
	const struct blocks_ops *ops;
	void *arg;
};
struct takeover;
struct takeover_block;
struct blocks;
struct blocks *blocks_create (struct loop *l, const struct blocks_opts *o, struct err *err);
void blocks_destroy (struct blocks **b);		/* kills what is left */
void blocks_run (struct blocks *b, bool on);		/* strategy on or off; nothing is stopped by it */
void blocks_poke (struct blocks *b);			/* tasks came: if no block is there, do not wait for the period */
void blocks_manager_up (struct blocks *b, const char *block);
void blocks_leave (struct blocks *b);			/* their jobs outlive us: nothing is cancelled any more */
uint64_t blocks_number (const struct blocks *b);	/* of the last one */
/* Those that a next run can take over. */
void blocks_records (struct blocks *b, void (*cb) (const struct takeover_block *k, void *arg), void *arg);
void blocks_stop_all (struct blocks *b, int64_t grace_ms);
void blocks_slots (struct blocks *b, unsigned per_node);	/* as managers said, where the configuration does not */
const char *blocks_image (struct blocks *b, const char *block);	/* "" = it is made for none; NULL = there is no such block */
size_t blocks_count (const struct blocks *b);		/* with those that are stopping */

struct blocks_stats {
	unsigned active, pending, up, stopping;
	unsigned failures_last_hour;
	uint64_t started, failed;
	const char *error, *scheduler;	/* borrowed, "" when fine; scheduler: what is wrong with it */
};
void blocks_stats (struct blocks *b, struct blocks_stats *out);
/* One block, borrowed. job: the scheduler's, for people; text: what the scheduler says of it; image: that it is made for; all "" when there is nothing to
 * say. */
struct blocks_view { const char *id, *job, *text, *image; enum block_state state; int64_t age_ms; };
typedef void blocks_f (const struct blocks_view *v, void *arg);
/* Why tasks wait for nodes: nothing is up, or nothing with as many managers as a task wants, and what stands in the way. "" when there is nothing to say. */
void blocks_why_waiting (struct blocks *b, struct buf *out);
/* "b7 (Slurm job 123 on node1)" to the end of out. */
void blocks_describe (struct blocks *b, const char *block, struct buf *out);
void blocks_each (struct blocks *b, blocks_f *cb, void *arg);

#endif
