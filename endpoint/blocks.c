/* SPDX-License-Identifier: Apache-2.0 */
/* See blocks.h. */
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/blocks_internal.h"
#include "endpoint/takeover.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	STEADY_MS = 30000,	/* a block that was up for so long clears the back-off */
	LOGS_KEPT = 100,	/* of the latest blocks */
};

void blocks_changed (struct blocks *b)
{
	if (b->o.ops->changed)
		b->o.ops->changed (b->o.arg);
}

static struct block *find (struct blocks *b, const char *id)
{
	for (struct block *k = b->list; k; k = k->next)
		if (strcmp (k->id, id) == 0)
			return k;
	return NULL;
}

static void set_state (struct blocks *b, struct block *k, enum block_state s)
{
	k->state = s;
	k->since_ms = clock_now_ms ();
	blocks_changed (b);
}

static void block_remove (struct blocks *b, struct block *k)
{
	for (struct block **p = &b->list; *p; p = &(*p)->next)
		if (*p == k) {
			*p = k->next;
			break;
		}
	free (k);
	blocks_changed (b);
}

static void on_ended (struct blocks *b, struct block *k, enum provider_state state, bool failed, const char *text)
{
	struct fleet *f = k->fleet;
	char why[512];
	/* Without having been of any use: else one whose job ends well and at once would be started again for ever. */
	bool useless = !k->up_ms && k->state != BLOCK_STOPPING, counted = false;

	if (k->doomed || useless || (failed && k->state != BLOCK_STOPPING)) {
		if (k->up_ms && clock_now_ms () - k->up_ms >= STEADY_MS)
			f->attempt = 0;
		if (!k->doomed) {
			snprintf (why, sizeof (why), "%.480s%s", *text ? text : "it ended by itself", useless && !failed ? " before a manager connected" : "");
			fleet_failed (b, k, state == PROVIDER_NO_IMAGE, why);
			counted = true;
		}
	} else {
		snprintf (why, sizeof (why), "%.511s", *text && k->state != BLOCK_STOPPING ? text : "it was released");
		log_info ("blocks", "block released", "block=%s why=%s", k->id, why);
	}
	b->o.ops->lost (k->id, k->doomed ? k->doomed : why, b->o.arg);
	block_remove (b, k);
	if (counted)
		fleet_tell_no_image (b, f);
	/* started again with the back-off, not with the next period: tasks may wait */
	loop_defer_schedule (b->poke);
}

static void on_block (const char *id, enum provider_state state, bool failed, const char *text, void *arg)
{
	struct blocks *b = arg;
	struct block *k = find (b, id);

	if (!k)
		return;
	if (state >= PROVIDER_ENDED) {
		on_ended (b, k, state, failed, text);
		return;
	}
	if (strcmp (k->text, text) != 0) {
		snprintf (k->text, sizeof (k->text), "%s", text);
		blocks_changed (b);
	}
	if (state == PROVIDER_RUNNING && k->state == BLOCK_PENDING)
		set_state (b, k, BLOCK_STARTING);
	else if (state == PROVIDER_PENDING && k->state == BLOCK_STARTING)
		set_state (b, k, BLOCK_PENDING);	/* the scheduler queued it again */
}

static void argv_free (char ***argv, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		for (size_t k = 0; argv[i] && argv[i][k]; k++)
			free (argv[i][k]);
		free (argv[i]);
	}
	free (argv);
}

/* Ids begin anew with each run, so what an earlier run left under this one goes too. */
static void remove_logs (struct blocks *b, uint64_t number)
{
	for (unsigned i = 0; i < b->o.nodes; i++) {
		char *path = xasprintf ("%s/block-b%" PRIu64 "-%u.log", b->log_dir, number, i);
		unlink (path);
		free (path);
	}
}

int block_start (struct blocks *b, struct fleet *f)
{
	struct block *k = xcalloc (1, sizeof (*k));
	char ***argv = xcalloc (b->o.nodes, sizeof (*argv));
	struct provider_block pb = { .nodes = b->o.nodes, .log_dir = b->log_dir, .endpoint = b->o.endpoint,
				    .identity = b->o.identity, .image = *f->image ? f->image : NULL };
	struct err err;
	int rc;

	snprintf (k->id, sizeof (k->id), "b%" PRIu64, ++b->number);
	remove_logs (b, b->number);
	if (b->number > LOGS_KEPT)
		remove_logs (b, b->number - LOGS_KEPT);
	k->fleet = f;
	k->state = BLOCK_PENDING;
	k->since_ms = k->created_ms = clock_now_ms ();
	k->next = b->list;
	b->list = k;
	for (unsigned i = 0; i < b->o.nodes; i++)
		argv[i] = b->o.ops->argv (k->id, i, b->o.nodes, b->o.arg);
	pb.id = k->id;
	pb.argv = (const char *const *const *) argv;
	rc = b->o.provider->submit (b->provider, &pb, &err);
	argv_free (argv, b->o.nodes);
	if (rc < 0) {
		fleet_failed (b, k, false, err.text);
		block_remove (b, k);
		return -1;
	}
	b->nstarted++;
	log_info ("blocks", "block started", "block=%s nodes=%u image=%s", k->id, b->o.nodes, f->image);
	blocks_changed (b);
	return 0;
}

void block_stop (struct blocks *b, struct block *k, int64_t grace_ms)
{
	char id[sizeof (k->id)];

	if (k->state == BLOCK_STOPPING)
		return;
	memcpy (id, k->id, sizeof (id));
	b->o.ops->releasing (id, b->o.arg);
	set_state (b, k, BLOCK_STOPPING);
	b->o.provider->cancel (b->provider, id, grace_ms);	/* may end it at once */
}

unsigned block_connected (const struct blocks *b, const struct block *k)
{
	return b->o.ops->connected ? b->o.ops->connected (k->id, b->o.arg) : b->o.nodes;
}

void blocks_look_within (struct blocks *b, int64_t ms)
{
	int64_t at_ms = clock_now_ms () + ms;

	if (b->look_at_ms && b->look_at_ms <= at_ms)
		return;
	b->look_at_ms = at_ms;
	loop_timer_start (b->tick, ms, false);
}

static void on_tick (void *arg)
{
	struct blocks *b = arg;

	b->look_at_ms = 0;
	blocks_look_within (b, b->o.period_ms);
	if (b->o.provider->poll)
		b->o.provider->poll (b->provider);
	blocks_look_for_lack (b);
	blocks_give_up_silent (b);
	for (struct block *k = b->list; k; k = k->next)
		if (k->state == BLOCK_UP && clock_now_ms () - k->up_ms >= STEADY_MS)
			k->fleet->attempt = 0;
	blocks_strategy (b);
}

static void on_poke (void *arg)
{
	blocks_strategy (arg);
}

static bool is_connected (const char *id, void *arg)
{
	struct blocks *b = arg;

	return b->o.ops->connected && b->o.ops->connected (id, b->o.arg) > 0;
}

static void adopt (struct blocks *b, const struct takeover *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct block *k = xcalloc (1, sizeof (*k));

		snprintf (k->id, sizeof (k->id), "%s", t->v[i].id);
		k->fleet = b->fleets;
		k->state = BLOCK_PENDING;
		k->since_ms = k->created_ms = k->up_ms = clock_now_ms ();
		k->next = b->list;
		b->list = k;
		b->o.provider->adopt (b->provider, &t->v[i]);
		log_info ("blocks", "block taken over", "block=%s job=%s", k->id, t->v[i].job);
	}
	b->number = t->number;
	b->fleets->started = t->n > 0;		/* what the run before had started; losses are replaced as tasks need it */
}

struct blocks *blocks_create (struct loop *l, const struct blocks_opts *o, struct err *err)
{
	struct blocks *b = xcalloc (1, sizeof (*b));
	struct provider_env env = { .loop = l, .conf = o->provider_conf, .on_block = on_block, .connected = is_connected, .arg = b,
				    .endpoint = o->endpoint, .identity = o->identity };

	b->loop = l;
	b->o = *o;
	b->log_dir = xstrdup (o->log_dir);
	env.log_dir = b->log_dir;
	fleet_get (b, "");
	b->tick = loop_timer_create (l, on_tick, b);
	b->poke = loop_defer_create (l, on_poke, b);
	if (!(b->provider = o->provider->create (&env, err)))
		blocks_destroy (&b);
	else if (o->takeover && o->provider->adopt)
		adopt (b, o->takeover);
	return b;
}

void blocks_destroy (struct blocks **bp)
{
	struct blocks *b = *bp;

	if (!b)
		return;
	if (b->provider)
		b->o.provider->destroy (b->provider);
	while (b->list) {
		struct block *k = b->list;
		b->list = k->next;
		free (k);
	}
	loop_timer_destroy (&b->tick);
	loop_defer_destroy (&b->poke);
	while (b->fleets) {
		struct fleet *f = b->fleets;
		b->fleets = f->next;
		fleet_free (f);
	}
	free (b->log_dir);
	free (b);
	*bp = NULL;
}

void blocks_run (struct blocks *b, bool on)
{
	b->on = on;
	if (on)
		on_tick (b);
}

struct poke { struct blocks *b; bool needed; };

static void poke_for (const struct scale_wish *w, void *arg)
{
	struct poke *p = arg;

	p->needed |= w->tasks > 0 && !fleet_active (p->b, fleet_get (p->b, w->image));
}

void blocks_poke (struct blocks *b)
{
	struct poke p = { b, false };

	if (!b->on)
		return;
	if (b->o.ops->images)
		b->o.ops->images (poke_for, &p, b->o.arg);
	if (p.needed || (!fleet_active (b, b->fleets) && b->o.ops->tasks (b->o.arg) > 0))
		loop_defer_schedule (b->poke);
}

void blocks_manager_up (struct blocks *b, const char *block)
{
	struct block *k = find (b, block);

	if (!k || k->state == BLOCK_STOPPING)
		return;
	if (block_connected (b, k) >= b->o.nodes)
		k->fleet->error[0] = 0;
	if (k->state == BLOCK_UP)
		return;
	k->up_ms = clock_now_ms ();
	k->fleet->no_image = false;
	set_state (b, k, BLOCK_UP);
}

void blocks_leave (struct blocks *b)
{
	b->on = false;
	b->o.provider->leave (b->provider);
}

uint64_t blocks_number (const struct blocks *b)
{
	return b->number;
}

void blocks_records (struct blocks *b, void (*cb) (const struct takeover_block *k, void *arg), void *arg)
{
	struct takeover_block r;

	for (const struct block *k = b->list; k; k = k->next) {
		memset (&r, 0, sizeof (r));
		snprintf (r.id, sizeof (r.id), "%s", k->id);
		if (k->state != BLOCK_STOPPING && b->o.provider->record (b->provider, &r))
			cb (&r, arg);
	}
}

void blocks_stop_all (struct blocks *b, int64_t grace_ms)
{
	b->on = false;
	for (;;) {
		struct block *k = b->list;
		while (k && k->state == BLOCK_STOPPING)
			k = k->next;
		if (!k)
			return;
		block_stop (b, k, grace_ms);
	}
}

void blocks_slots (struct blocks *b, unsigned per_node)
{
	if (per_node)
		b->o.limits.slots_per_block = (int64_t) b->o.nodes * per_node;
}

const char *blocks_image (struct blocks *b, const char *block)
{
	struct block *k = find (b, block);

	return k ? k->fleet->image : NULL;
}

size_t blocks_count (const struct blocks *b)
{
	size_t n = 0;

	for (struct block *k = b->list; k; k = k->next)
		n++;
	return n;
}

