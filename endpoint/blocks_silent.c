/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that are of no use though their jobs run: without managers, or with fewer than tasks wait for. */
#include "common/clock.h"
#include "endpoint/blocks_internal.h"

#include <stdio.h>
#include <string.h>

static const char SHORT[] = "not all of its managers are connected, and tasks wait for more nodes than are (weft-endpoint logs --blocks)";

static bool too_long (const struct blocks *b, int64_t *since_ms, bool so, int64_t now)
{
	if (!so)
		*since_ms = 0;
	else if (!*since_ms)
		*since_ms = now ? now : 1;
	return so && now - *since_ms >= b->o.connect_timeout_ms;
}

/* It serves tasks that want one node each as well as another block. */
static void keep_short (struct blocks *b, const struct block *k)
{
	struct fleet *f = k->fleet;

	if (strstr (f->error, "kept for smaller tasks"))
		return;		/* of one of them it says enough */
	snprintf (f->error, sizeof (f->error), "block %s: %s; it is kept for smaller tasks, since no other could be started in its place: so many have "
		  "failed within the hour (scaling.max_failures_per_hour, %d)", k->id, SHORT, (int) b->o.max_failures_per_hour);
	blocks_changed (b);
}

/* Managers that never call are a failure too: a wrong address, a missing program on the node. And those that are gone while the scheduler
 * goes on with their job: a node that hangs. What they held up is needed elsewhere. */
static const char *silent (struct blocks *b, struct block *k, int64_t now)
{
	unsigned n = k->state == BLOCK_UP ? block_connected (b, k) : b->o.nodes;
	bool is_short = too_long (b, &k->short_ms, n < b->o.nodes, now);

	if (k->state == BLOCK_STARTING && now - k->since_ms >= b->o.connect_timeout_ms)
		return "its managers did not connect in time";
	if (too_long (b, &k->alone_ms, !n, now))
		return "its managers are gone, and did not come back in time";
	if (!is_short || n >= b->wanted || *k->fleet->image)
		return NULL;
	if (fleet_failures (b, k->fleet) + 1 < (unsigned) b->o.max_failures_per_hour)
		return SHORT;
	keep_short (b, k);
	return NULL;
}

void blocks_give_up_silent (struct blocks *b)
{
	int64_t now = clock_now_ms ();

	for (struct block *k = b->list; k; k = k->next)
		if (!k->doomed && (k->doomed = silent (b, k, now))) {
			fleet_failed (b, k, false, k->doomed);
			k->retiring = k->doomed == SHORT;	/* what it has to do ends first */
			if (!k->retiring)
				block_stop (b, k, b->o.stop_grace_ms);
			else
				blocks_changed (b);
			return;	/* the list may have changed; the next tick takes the next one */
		}
}

/* Blocks are up, but none has as many managers as a task wants. */
bool blocks_lack (const struct blocks *b)
{
	bool up = false;

	for (const struct block *k = b->list; k; k = k->next) {
		if (k->state != BLOCK_UP || *k->fleet->image)
			continue;
		up = true;
		if (!k->retiring && block_connected (b, k) >= b->wanted)
			return false;
	}
	return up && b->wanted;
}

void blocks_look_for_lack (struct blocks *b)
{
	bool lacking;

	b->wanted = b->o.ops->nodes_wanted ? b->o.ops->nodes_wanted (b->o.arg) : 0;
	lacking = blocks_lack (b);
	if (lacking != b->lacking)
		blocks_changed (b);
	b->lacking = lacking;
}
