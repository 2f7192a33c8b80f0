/* SPDX-License-Identifier: Apache-2.0 */
/* See route.h. */
#include "endpoint/route.h"
#include "common/ids.h"
#include "common/xmem.h"

#include <stdlib.h>

enum {
	WORD = 64,
	WORDS = ROUTE_BUCKETS / WORD,
	TIME_LOOK = 64,		/* managers looked at whose time is too short, before giving up */
};

struct row {
	struct route_node *head[ROUTE_BUCKETS + 1];	/* index = room, 1.. */
	uint64_t bits[WORDS];				/* bit room-1 */
};

struct route_lane { struct row free, ahead; };

struct route {
	enum route_mode mode;
	uint64_t lot;			/* state of the random numbers, not 0 */
	struct route_lane all;		/* but those that have a lane of their own */
	uint32_t slots, free_slots;
	uint64_t window;
};

struct route *route_create (enum route_mode mode)
{
	struct route *r = xcalloc (1, sizeof (*r));

	r->mode = mode;
	ids_random (&r->lot, sizeof (r->lot));
	r->lot |= 1;
	return r;
}

void route_destroy (struct route **r)
{
	free (*r);
	*r = NULL;
}

struct route_lane *route_lane_create (void)
{
	return xcalloc (1, sizeof (struct route_lane));
}

static struct route_lane *lane_of (struct route *r, const struct route_node *n)
{
	return n->lane ? n->lane : &r->all;
}

static void row_insert (struct row *w, int room, struct route_node *n)
{
	n->prev = NULL;
	n->next = w->head[room];
	if (n->next)
		n->next->prev = n;
	w->head[room] = n;
	w->bits[(room - 1) / WORD] |= 1ull << ((room - 1) % WORD);
}

static void row_remove (struct row *w, int room, struct route_node *n)
{
	if (n->prev)
		n->prev->next = n->next;
	else
		w->head[room] = n->next;
	if (n->next)
		n->next->prev = n->prev;
	n->prev = n->next = NULL;
	if (!w->head[room])
		w->bits[(room - 1) / WORD] &= ~(1ull << ((room - 1) % WORD));
}

/* The smallest occupied room >= from, 0 when none. */
static int row_up (const struct row *w, int from)
{
	uint64_t bits;

	if (from > ROUTE_BUCKETS)
		return 0;
	for (int i = (from - 1) / WORD; i < WORDS; i++) {
		bits = w->bits[i];
		if (i == (from - 1) / WORD)
			bits &= ~0ull << ((from - 1) % WORD);
		if (bits)
			return i * WORD + __builtin_ctzll (bits) + 1;
	}
	return 0;
}

/* The largest occupied room <= from, 0 when none. */
static int row_down (const struct row *w, int from)
{
	uint64_t bits;

	if (from < 1)
		return 0;
	for (int i = (from - 1) / WORD; i >= 0; i--) {
		bits = w->bits[i];
		if (i == (from - 1) / WORD && (from - 1) % WORD != WORD - 1)
			bits &= (1ull << ((from - 1) % WORD + 1)) - 1;
		if (bits)
			return i * WORD + WORD - 1 - __builtin_clzll (bits) + 1;
	}
	return 0;
}

static int cap (uint32_t room)
{
	return room > ROUTE_BUCKETS ? ROUTE_BUCKETS : (int) room;
}

static int bucket_of (const struct route_node *n)
{
	if (n->closed || n->reserved || n->out >= n->window)
		return 0;
	if (n->window_bytes && n->out && n->out_bytes >= n->window_bytes)
		return 0;
	if (n->out < n->slots)
		return cap (n->slots - n->out);
	return -cap (n->window - n->out);
}

static void leave (struct route *r, struct route_node *n)
{
	if (n->bucket > 0)
		row_remove (&lane_of (r, n)->free, n->bucket, n);
	else if (n->bucket < 0)
		row_remove (&lane_of (r, n)->ahead, -n->bucket, n);
	n->bucket = 0;
	r->slots -= n->counted_slots;
	r->free_slots -= n->counted_free;
	r->window -= n->counted_window;
	n->counted_slots = n->counted_free = n->counted_window = 0;
}

void route_update (struct route *r, struct route_node *n)
{
	if (!n->counted)
		return;
	leave (r, n);
	n->bucket = bucket_of (n);
	if (n->bucket > 0)
		row_insert (&lane_of (r, n)->free, n->bucket, n);
	else if (n->bucket < 0)
		row_insert (&lane_of (r, n)->ahead, -n->bucket, n);
	if (!n->closed) {
		n->counted_slots = n->slots;
		n->counted_free = !n->reserved && n->out < n->slots ? n->slots - n->out : 0;
		n->counted_window = n->window;
		r->window += n->counted_window;
		r->slots += n->counted_slots;
		r->free_slots += n->counted_free;
	}
}

void route_add (struct route *r, struct route_node *n)
{
	n->counted = true;
	route_update (r, n);
}

void route_remove (struct route *r, struct route_node *n)
{
	leave (r, n);
	n->counted = false;
}

static bool in_time (const struct route_node *n, uint32_t expected_ms, int64_t now_ms)
{
	return !n->ends_ms || n->ends_ms - now_ms > (int64_t) expected_ms;
}

static struct route_node *row_pick (const struct row *w, bool up, uint32_t expected_ms, int64_t now_ms, int *looks)
{
	int room = up ? row_up (w, 1) : row_down (w, ROUTE_BUCKETS);

	while (room) {
		for (struct route_node *n = w->head[room]; n; n = n->next) {
			if (in_time (n, expected_ms, now_ms))
				return n;
			if (--*looks <= 0)
				return NULL;
		}
		room = up ? row_up (w, room + 1) : row_down (w, room - 1);
	}
	return NULL;
}

static uint64_t draw (struct route *r, uint64_t of)
{
	r->lot ^= r->lot << 13;		/* xorshift64 */
	r->lot ^= r->lot >> 7;
	r->lot ^= r->lot << 17;
	return r->lot % of;
}

static struct route_node *row_random (struct route *r, const struct row *w, uint32_t expected_ms, int64_t now_ms, bool *time_short)
{
	struct route_node *picked = NULL;
	uint64_t seen = 0;

	for (int room = row_up (w, 1); room; room = row_up (w, room + 1))
		for (struct route_node *n = w->head[room]; n; n = n->next) {
			if (!in_time (n, expected_ms, now_ms))
				*time_short = true;
			else if (draw (r, ++seen) == 0)
				picked = n;
		}
	return picked;
}

static struct route_node *pick_random (struct route *r, const struct route_lane *lane, uint32_t expected_ms, int64_t now_ms, bool *time_short)
{
	struct route_node *n;

	*time_short = false;
	if (!(n = row_random (r, &lane->free, expected_ms, now_ms, time_short)))
		n = row_random (r, &lane->ahead, expected_ms, now_ms, time_short);
	*time_short = *time_short && !n;
	return n;
}

struct route_node *route_pick (struct route *r, const struct route_lane *lane, uint32_t expected_ms, int64_t now_ms, bool *time_short)
{
	int looks = TIME_LOOK;
	struct route_node *n;

	if (!lane)
		lane = &r->all;
	if (r->mode == ROUTE_RANDOM)
		return pick_random (r, lane, expected_ms, now_ms, time_short);
	n = row_pick (&lane->free, r->mode == ROUTE_PACK, expected_ms, now_ms, &looks);
	if (!n)
		n = row_pick (&lane->ahead, false, expected_ms, now_ms, &looks);
	*time_short = !n && looks < TIME_LOOK;
	return n;
}

uint32_t route_slots (const struct route *r)
{
	return r->slots;
}

uint64_t route_window (const struct route *r)
{
	return r->window;
}

uint32_t route_free_slots (const struct route *r)
{
	return r->free_slots;
}
