/* SPDX-License-Identifier: Apache-2.0 */
/* Which manager gets the next task, at a cost that does not grow with their number.
 *
 * Managers stand in buckets by how many slots they have free; those without a free slot stand in a second row of buckets, by how
 * many tasks they still take ahead of time (prefetch). A bitmap over each row finds the first or last occupied bucket.
 *
 * pack: a free slot on the fullest manager that has one, so that the others can go idle and be released; spread: on the
 * emptiest. Prefetch always goes to the manager with the most room. random: by lot, first among those with a free slot; it looks at all of
 * them and is there to compare with.
 *
 * Managers that only take tasks of one image stand in a lane of their own; all others share one. */
#ifndef ENDPOINT_ROUTE_H
#define ENDPOINT_ROUTE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum route_mode { ROUTE_PACK, ROUTE_SPREAD, ROUTE_RANDOM };
enum { ROUTE_BUCKETS = 1024 };	/* managers with more room than this share the last one */

struct route_lane;
/* Embedded in the manager. The caller changes the first part and then calls route_update. */
struct route_node {
	uint32_t slots;		/* tasks it runs at once */
	uint32_t window;	/* tasks it takes in hand at most */
	uint64_t window_bytes;	/* and their payloads; 0 = no bound. One task always fits */
	uint32_t out;		/* tasks it has */
	uint64_t out_bytes;
	bool closed;		/* draining, congested: gets nothing */
	bool reserved;		/* nothing either, but its slots are there: one task has it whole, or will */
	int64_t ends_ms;	/* monotonic end of its time; 0 = unlimited */
	struct route_lane *lane;	/* NULL = that of all others; does not change while it is added */
	/* private */
	int bucket;		/* 0 = in none; > 0 free slots; < 0 prefetch room */
	struct route_node *prev, *next;
	bool counted;
	uint32_t counted_slots, counted_free, counted_window;
};

struct route;
struct route *route_create (enum route_mode mode);
void route_destroy (struct route **r);			/* nodes are borrowed: not touched */
struct route_lane *route_lane_create (void);		/* freed with free (), when nobody stands in it */
void route_add (struct route *r, struct route_node *n);
void route_update (struct route *r, struct route_node *n);
void route_remove (struct route *r, struct route_node *n);
/* Who in this lane (NULL = that of those without one) can take a task that needs expected_ms (0 = unknown)? NULL: nobody now.
 * *time_short: somebody could, but for the time they have left. */
struct route_node *route_pick (struct route *r, const struct route_lane *lane, uint32_t expected_ms, int64_t now_ms, bool *time_short);
uint32_t route_slots (const struct route *r);		/* of all that are open */
uint32_t route_free_slots (const struct route *r);
uint64_t route_window (const struct route *r);		/* tasks that they take in hand, all together */

#endif
