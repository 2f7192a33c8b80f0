/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the blocks share; nobody else includes it.
 *
 *   blocks.c         the blocks, what the provider says of them, starting and stopping them; life
 *   blocks_fleet.c   how many of which image there should be; failures
 *   blocks_silent.c  those that are of no use though their jobs run
 *   blocks_say.c     what people are told */
#ifndef ENDPOINT_BLOCKS_INTERNAL_H
#define ENDPOINT_BLOCKS_INTERNAL_H
#include "endpoint/blocks.h"

/* The blocks of one image. */
struct fleet {
	char *image;		/* "" = of none; that fleet is always there, and first */
	struct scale_wish wish;	/* .image is not used */
	bool started;		/* init_blocks were up */
	int64_t *failures;	/* ring of times, o.max_failures_per_hour long */
	size_t failures_at;
	unsigned attempt;	/* failures in a row */
	int64_t not_before_ms;
	bool no_image;		/* the last failure was that nodes cannot get it */
	char error[1024];
	int64_t want;		/* blocks that are to be started; while the strategy runs */
	int64_t starved_ms;	/* since when it wants some and has none; 0 = it does not */
	struct fleet *next;
};

struct block {
	char id[16];
	struct fleet *fleet;
	bool retiring;		/* it takes nothing new, and goes when it is idle */
	enum block_state state;
	int64_t since_ms, created_ms, up_ms;
	int64_t alone_ms, short_ms;	/* up, and since then without a manager, with fewer than nodes; 0: it is not */
	const char *doomed;	/* we cancelled it because of this failure of its own */
	char text[512];		/* what the provider said last */
	struct block *next;
};

struct blocks {
	struct loop *loop;
	struct blocks_opts o;
	char *log_dir;
	void *provider;
	struct block *list;
	struct loop_timer *tick;
	int64_t look_at_ms;		/* when the tick comes; 0 = it does not */
	struct loop_defer *poke;
	bool on;
	unsigned wanted;		/* nodes of one block, at the last tick; see nodes_wanted */
	bool lacking;			/* no block that is up has so many; at the last tick */
	uint64_t number, nstarted, nfailed;
	struct fleet *fleets;
};

/* blocks.c */
void blocks_changed (struct blocks *b);
void blocks_look_within (struct blocks *b, int64_t ms);	/* the next tick comes so soon, or sooner */
int block_start (struct blocks *b, struct fleet *f);
void block_stop (struct blocks *b, struct block *k, int64_t grace_ms);	/* the list may change */
unsigned block_connected (const struct blocks *b, const struct block *k);	/* how many of its managers are */

/* blocks_fleet.c */
struct fleet *fleet_get (struct blocks *b, const char *image);
void fleet_free (struct fleet *f);
bool fleet_is_up (const struct blocks *b, const struct fleet *f);	/* a block of it is */
int64_t fleet_active (const struct blocks *b, const struct fleet *f);
unsigned fleet_failures (const struct blocks *b, const struct fleet *f);	/* within the last hour */
void fleet_failed (struct blocks *b, const struct block *k, bool no_image, const char *why);
void fleet_tell_no_image (struct blocks *b, const struct fleet *f);
void blocks_strategy (struct blocks *b);		/* start and stop what the tasks want; nothing while it is off */

/* blocks_silent.c */
void blocks_look_for_lack (struct blocks *b);
bool blocks_lack (const struct blocks *b);
void blocks_give_up_silent (struct blocks *b);

#endif
