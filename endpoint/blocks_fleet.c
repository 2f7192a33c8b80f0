/* SPDX-License-Identifier: Apache-2.0 */
/* Fleets, the blocks of one image: how many there should be, which fleet's turn it is while there is room, whose block goes when there is
 * none; what failed, and when the next one may be tried. */
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/blocks_internal.h"
#include "endpoint/logtail.h"

#include <stdlib.h>
#include <string.h>

enum {
	HOUR_MS = 3600 * 1000,
	BACKOFF_BASE_MS = 500,
	BACKOFF_CAP_MS = 60000,
	TAIL_BYTES = 600,	/* of a lost block's log in the error */
	STARVED_MS = 30000,	/* a fleet without any block, for so long, while others have all that there may be and are never idle */
	FLEETS_MAX = 1024,	/* over it, those without blocks and tasks are forgotten, with their failures */
};

struct fleet *fleet_get (struct blocks *b, const char *image)
{
	struct fleet **at = &b->fleets;

	while (*at && strcmp ((*at)->image, image) != 0)
		at = &(*at)->next;
	if (!*at) {
		*at = xcalloc (1, sizeof (**at));
		(*at)->image = xstrdup (image);
		(*at)->failures = xcalloc ((size_t) b->o.max_failures_per_hour, sizeof (int64_t));
	}
	return *at;
}

void fleet_free (struct fleet *f)
{
	free (f->image);
	free (f->failures);
	free (f);
}

bool fleet_is_up (const struct blocks *b, const struct fleet *f)
{
	for (const struct block *k = b->list; k; k = k->next)
		if (k->fleet == f && k->state == BLOCK_UP)
			return true;
	return false;
}

/* Of one fleet, or of all (NULL): those that are not on their way out. */
int64_t fleet_active (const struct blocks *b, const struct fleet *f)
{
	int64_t n = 0;

	for (const struct block *k = b->list; k; k = k->next)
		n += (!f || k->fleet == f) && k->state != BLOCK_STOPPING;
	return n;
}

static bool has_block (const struct blocks *b, const struct fleet *f)
{
	for (const struct block *k = b->list; k; k = k->next)
		if (k->fleet == f)
			return true;
	return false;
}

/* ---- failures ------------------------------------------------------------------------------------------------- */

unsigned fleet_failures (const struct blocks *b, const struct fleet *f)
{
	int64_t now = clock_now_ms ();
	unsigned n = 0;

	for (int64_t i = 0; i < b->o.max_failures_per_hour; i++)
		n += f->failures[i] && now - f->failures[i] < HOUR_MS;
	return n;
}

void fleet_failed (struct blocks *b, const struct block *k, bool no_image, const char *why)
{
	struct fleet *f = k->fleet;
	int64_t now = clock_now_ms ();
	char *path = xasprintf ("%s/block-%s-0.log", b->log_dir, k->id);
	char tail[TAIL_BYTES];

	logtail_read (path, tail, sizeof (tail));
	free (path);
	f->failures[f->failures_at] = now ? now : 1;
	f->failures_at = (f->failures_at + 1) % (size_t) b->o.max_failures_per_hour;
	b->nfailed++;
	f->started = false;
	f->no_image = no_image;
	f->not_before_ms = now + clock_backoff_ms (f->attempt, BACKOFF_BASE_MS, BACKOFF_CAP_MS);
	if (f->attempt < 20)
		f->attempt++;
	snprintf (f->error, sizeof (f->error), "block %s%s%.100s: %s%s%s", k->id, *f->image ? " of image " : "", f->image, why,
		  *tail ? "; its log ends: " : "", tail);
	log_warn ("blocks", "block failed", "block=%s reason=%s log=%s next_ms=%lld", k->id, why, tail,
		  (long long) (f->not_before_ms - now));
}

/* Those who wait for it hear it; while a block of it is there, its tasks run. */
void fleet_tell_no_image (struct blocks *b, const struct fleet *f)
{
	if (*f->image && f->no_image && b->o.ops->image_failed && !fleet_is_up (b, f))
		b->o.ops->image_failed (f->image, f->error, b->o.arg);
}

static bool may_start (struct blocks *b, struct fleet *f)
{
	int64_t wait = f->not_before_ms - clock_now_ms ();

	if (wait > 0) {
		blocks_look_within (b, wait + 1);
		return false;
	}
	if (fleet_failures (b, f) >= (unsigned) b->o.max_failures_per_hour) {
		if (!strstr (f->error, "no more are started")) {
			snprintf (f->error + strlen (f->error), sizeof (f->error) - strlen (f->error),
				  "; %d blocks failed within an hour (scaling.max_failures_per_hour), no more are started for now",
				  (int) b->o.max_failures_per_hour);
			blocks_changed (b);
		}
		fleet_tell_no_image (b, f);
		return false;
	}
	return true;
}

/* ---- what is wanted ------------------------------------------------------------------------------------------- */

/* Failures of an hour are remembered, as long as they are not those of very many images. */
static void forget_fleets (struct blocks *b)
{
	size_t n = 0;

	for (struct fleet *f = b->fleets; f; f = f->next)
		n++;
	for (struct fleet **at = &b->fleets->next; *at;) {
		struct fleet *f = *at;

		if (has_block (b, f) || f->wish.tasks || f->wish.nodes || (fleet_failures (b, f) && n <= FLEETS_MAX)) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		fleet_free (f);
		n--;
	}
}

static void take_wish (const struct scale_wish *w, void *arg)
{
	fleet_get (arg, w->image)->wish = *w;
}

static void take_wishes (struct blocks *b)
{
	for (struct fleet *f = b->fleets; f; f = f->next)
		f->wish = (struct scale_wish) { .tasks = 0 };
	b->fleets->wish.tasks = b->o.ops->tasks (b->o.arg);
	if (b->o.ops->images)
		b->o.ops->images (take_wish, b, b->o.arg);
}

static struct scale_limits limits_of (const struct blocks *b, const struct fleet *f)
{
	struct scale_limits l = b->o.limits;

	if (*f->image)
		l.init_blocks = l.min_blocks = (f->wish.nodes + b->o.nodes - 1) / (int64_t) b->o.nodes;
	return l;
}

static bool is_idle (struct blocks *b, const struct block *k)
{
	return k->state == BLOCK_UP && b->o.ops->idle_ms (k->id, b->o.arg) >= (k->fleet->wish.leaving ? 0 : b->o.limits.idle_timeout_ms);
}

static void look (struct blocks *b, const struct fleet *f, struct scale_input *in)
{
	memset (in, 0, sizeof (*in));
	for (struct block *k = b->list; k; k = k->next) {
		if (k->fleet != f || k->retiring)
			continue;
		in->blocks += k->state != BLOCK_STOPPING;
		in->idle_blocks += is_idle (b, k);
		in->ending += k->state == BLOCK_UP && b->o.ops->ending && b->o.ops->ending (k->id, b->o.arg);
	}
	in->tasks = f->wish.tasks;
	in->started = f->started;
}

/* ---- whose turn it is ----------------------------------------------------------------------------------------- */

/* One that is not leaving, fewer blocks, a longer wait. */
static bool goes_before (const struct blocks *b, const struct fleet *f, const struct fleet *g)
{
	int64_t n = fleet_active (b, f) - fleet_active (b, g);

	if (f->wish.leaving != g->wish.leaving)
		return g->wish.leaving;
	return n ? n < 0 : f->starved_ms && (!g->starved_ms || f->starved_ms < g->starved_ms);
}

/* While there is room. */
static void start_wanted (struct blocks *b)
{
	for (;;) {
		struct fleet *next = NULL;

		for (struct fleet *f = b->fleets; f; f = f->next)
			if (f->want > 0 && (!next || goes_before (b, f, next)))
				next = f;
		if (!next || fleet_active (b, NULL) >= b->o.limits.max_blocks)
			return;
		next->want = block_start (b, next) == 0 ? next->want - 1 : 0;
	}
}

static void release_some (struct blocks *b, const struct fleet *f, int64_t n)
{
	while (n-- > 0) {
		struct block *k = b->list;
		while (k && !(k->fleet == f && is_idle (b, k)))
			k = k->next;
		if (!k)
			return;
		block_stop (b, k, b->o.stop_grace_ms);
	}
}

/* A block of another fleet whose place f can have: an idle one that need not be kept; or any, when f has waited long. */
static struct block *spare (struct blocks *b, const struct fleet *f, bool busy)
{
	struct block *best = NULL;

	for (struct block *k = b->list; k; k = k->next) {
		struct fleet *g = k->fleet;

		if (g == f || k->state != BLOCK_UP || k->retiring || (!busy && b->o.ops->idle_ms (k->id, b->o.arg) < 0)
		    || (!busy && !g->wish.leaving && fleet_active (b, g) <= limits_of (b, g).min_blocks))
			continue;
		if (!best || fleet_active (b, g) > fleet_active (b, best->fleet))
			best = k;
	}
	return best;
}

static bool any_retires (const struct blocks *b)
{
	for (const struct block *k = b->list; k; k = k->next)
		if (k->retiring && k->state != BLOCK_STOPPING)
			return true;
	return false;
}

/* All that there may be are there, and f wants one more: one at a time, so that it is up before the next one goes. */
static void make_room (struct blocks *b, struct fleet *f)
{
	int64_t now = clock_now_ms ();
	struct block *k;

	for (k = b->list; k; k = k->next)
		if (k->fleet == f && k->state < BLOCK_UP)
			return;
	if (!f->starved_ms)
		f->starved_ms = now ? now : 1;
	if (any_retires (b)) {
		return;
	} else if ((k = spare (b, f, false))) {
		log_info ("blocks", "an idle block goes, another image needs its place", "block=%s for=%s", k->id, f->image);
		block_stop (b, k, b->o.stop_grace_ms);
	} else if (!fleet_active (b, f) && now - f->starved_ms >= STARVED_MS && (k = spare (b, f, true))) {
		log_info ("blocks", "a busy block goes after its tasks, another image has waited long", "block=%s for=%s", k->id, f->image);
		k->retiring = true;
		b->o.ops->releasing (k->id, b->o.arg);
	}
}

static void stop_retired (struct blocks *b)
{
	for (struct block *k = b->list; k; k = k->next) {
		if (!k->retiring || k->state != BLOCK_UP)
			continue;
		if (!block_connected (b, k) || b->o.ops->idle_ms (k->id, b->o.arg) >= 0) {
			block_stop (b, k, b->o.stop_grace_ms);
			return;		/* the list may have changed */
		}
		b->o.ops->releasing (k->id, b->o.arg);	/* each time: a manager may have come since */
	}
}

/* init_blocks are wanted until so many were up: one that fails before, or is lost later, is replaced even when no task waits. */
static void note_started (struct blocks *b)
{
	int64_t up = 0;

	for (struct block *k = b->list; k; k = k->next)
		up += k->state == BLOCK_UP && k->fleet == b->fleets;
	if (up >= b->o.limits.init_blocks || up >= b->o.limits.max_blocks)
		b->fleets->started = true;
}

void blocks_strategy (struct blocks *b)
{
	if (!b->on)
		return;
	take_wishes (b);
	stop_retired (b);
	for (struct fleet *f = b->fleets; f; f = f->next) {
		struct scale_limits l = limits_of (b, f);
		struct scale_input in;
		int64_t n;

		look (b, f, &in);
		n = scale_decide (&l, &in);
		if (n < 0)
			release_some (b, f, -n);
		f->want = n > 0 && may_start (b, f) ? n : 0;
	}
	start_wanted (b);
	for (struct fleet *f = b->fleets; f; f = f->next)
		if (f->want > 0 && !f->wish.leaving)
			make_room (b, f);
		else
			f->starved_ms = 0;
	note_started (b);
	forget_fleets (b);
}
