/* SPDX-License-Identifier: Apache-2.0 */
/* See blocks.h. */
#include "endpoint/blocks.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/logtail.h"
#include "endpoint/takeover.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	HOUR_MS = 3600 * 1000,
	BACKOFF_BASE_MS = 500,
	BACKOFF_CAP_MS = 60000,
	STEADY_MS = 30000,	/* a block that was up for so long clears the back-off */
	LOGS_KEPT = 100,	/* of the latest blocks */
	TAIL_BYTES = 600,	/* of a lost block's log in the error */
	STARVED_MS = 30000,	/* a fleet without any block, for so long, while others have all that there may be and are never idle */
	FLEETS_MAX = 1024,	/* over it, those without blocks and tasks are forgotten, with their failures */
};

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
	struct loop_defer *poke;
	bool on;
	unsigned wanted;		/* nodes of one block, at the last tick; see nodes_wanted */
	bool lacking;			/* no block that is up has so many; at the last tick */
	uint64_t number, nstarted, nfailed;
	struct fleet *fleets;
};

const char *blocks_state_name (enum block_state s)
{
	static const char *const name[] = { "?", "pending", "starting", "up", "stopping" };

	return name[s <= BLOCK_STOPPING ? s : 0];
}

static void changed (struct blocks *b)
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
	changed (b);
}

static unsigned failures_last_hour (const struct blocks *b, const struct fleet *f)
{
	int64_t now = clock_now_ms ();
	unsigned n = 0;

	for (int64_t i = 0; i < b->o.max_failures_per_hour; i++)
		n += f->failures[i] && now - f->failures[i] < HOUR_MS;
	return n;
}

static void count_failure (struct blocks *b, const struct block *k, bool no_image, const char *why)
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

static void block_remove (struct blocks *b, struct block *k)
{
	for (struct block **p = &b->list; *p; p = &(*p)->next)
		if (*p == k) {
			*p = k->next;
			break;
		}
	free (k);
	changed (b);
}

static bool any_up (const struct blocks *b, const struct fleet *f)
{
	for (const struct block *k = b->list; k; k = k->next)
		if (k->fleet == f && k->state == BLOCK_UP)
			return true;
	return false;
}

/* Those who wait for it hear it; while a block of it is there, its tasks run. */
static void tell_no_image (struct blocks *b, const struct fleet *f)
{
	if (*f->image && f->no_image && b->o.ops->image_failed && !any_up (b, f))
		b->o.ops->image_failed (f->image, f->error, b->o.arg);
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
			count_failure (b, k, state == PROVIDER_NO_IMAGE, why);
			counted = true;
		}
	} else {
		snprintf (why, sizeof (why), "%.511s", *text && k->state != BLOCK_STOPPING ? text : "it was released");
		log_info ("blocks", "block released", "block=%s why=%s", k->id, why);
	}
	b->o.ops->lost (k->id, k->doomed ? k->doomed : why, b->o.arg);
	block_remove (b, k);
	if (counted)
		tell_no_image (b, f);
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
		changed (b);
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

static int start_block (struct blocks *b, struct fleet *f)
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
		count_failure (b, k, false, err.text);
		block_remove (b, k);
		return -1;
	}
	b->nstarted++;
	log_info ("blocks", "block started", "block=%s nodes=%u image=%s", k->id, b->o.nodes, f->image);
	changed (b);
	return 0;
}

static void stop_block (struct blocks *b, struct block *k, int64_t grace_ms)
{
	char id[sizeof (k->id)];

	if (k->state == BLOCK_STOPPING)
		return;
	memcpy (id, k->id, sizeof (id));
	b->o.ops->releasing (id, b->o.arg);
	set_state (b, k, BLOCK_STOPPING);
	b->o.provider->cancel (b->provider, id, grace_ms);	/* may end it at once */
}

static unsigned connected (const struct blocks *b, const struct block *k)
{
	return b->o.ops->connected ? b->o.ops->connected (k->id, b->o.arg) : b->o.nodes;
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

/* Of one fleet, or of all (NULL): those that are not on their way out. */
static int64_t active (const struct blocks *b, const struct fleet *f)
{
	int64_t n = 0;

	for (const struct block *k = b->list; k; k = k->next)
		n += (!f || k->fleet == f) && k->state != BLOCK_STOPPING;
	return n;
}

static bool may_start (struct blocks *b, struct fleet *f)
{
	int64_t wait = f->not_before_ms - clock_now_ms ();

	if (wait > 0) {
		/* sooner than the period, when the back-off ends sooner */
		if (wait < b->o.period_ms)
			loop_timer_start (b->tick, wait + 1, false);
		return false;
	}
	if (failures_last_hour (b, f) >= (unsigned) b->o.max_failures_per_hour) {
		if (!strstr (f->error, "no more are started")) {
			snprintf (f->error + strlen (f->error), sizeof (f->error) - strlen (f->error),
				  "; %d blocks failed within an hour (scaling.max_failures_per_hour), no more are started for now",
				  (int) b->o.max_failures_per_hour);
			changed (b);
		}
		tell_no_image (b, f);
		return false;
	}
	return true;
}

/* One that is not leaving, fewer blocks, a longer wait. */
static bool goes_before (const struct blocks *b, const struct fleet *f, const struct fleet *g)
{
	int64_t n = active (b, f) - active (b, g);

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
		if (!next || active (b, NULL) >= b->o.limits.max_blocks)
			return;
		next->want = start_block (b, next) == 0 ? next->want - 1 : 0;
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
		stop_block (b, k, b->o.stop_grace_ms);
	}
}

/* ---- fleets -------------------------------------------------------------------------------------------------- */

static struct fleet *fleet_get (struct blocks *b, const char *image)
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

static void fleet_free (struct fleet *f)
{
	free (f->image);
	free (f->failures);
	free (f);
}

static bool has_block (const struct blocks *b, const struct fleet *f)
{
	for (const struct block *k = b->list; k; k = k->next)
		if (k->fleet == f)
			return true;
	return false;
}

/* Failures of an hour are remembered, as long as they are not those of very many images. */
static void forget_fleets (struct blocks *b)
{
	size_t n = 0;

	for (struct fleet *f = b->fleets; f; f = f->next)
		n++;
	for (struct fleet **at = &b->fleets->next; *at;) {
		struct fleet *f = *at;

		if (has_block (b, f) || f->wish.tasks || f->wish.nodes || (failures_last_hour (b, f) && n <= FLEETS_MAX)) {
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

/* A block of another fleet whose place f can have: an idle one that need not be kept; or any, when f has waited long. */
static struct block *spare (struct blocks *b, const struct fleet *f, bool busy)
{
	struct block *best = NULL;

	for (struct block *k = b->list; k; k = k->next) {
		struct fleet *g = k->fleet;

		if (g == f || k->state != BLOCK_UP || k->retiring || (!busy && b->o.ops->idle_ms (k->id, b->o.arg) < 0)
		    || (!busy && !g->wish.leaving && active (b, g) <= limits_of (b, g).min_blocks))
			continue;
		if (!best || active (b, g) > active (b, best->fleet))
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
		stop_block (b, k, b->o.stop_grace_ms);
	} else if (!active (b, f) && now - f->starved_ms >= STARVED_MS && (k = spare (b, f, true))) {
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
		if (!connected (b, k) || b->o.ops->idle_ms (k->id, b->o.arg) >= 0) {
			stop_block (b, k, b->o.stop_grace_ms);
			return;		/* the list may have changed */
		}
		b->o.ops->releasing (k->id, b->o.arg);	/* each time: a manager may have come since */
	}
}

/* ---- those that are of no use --------------------------------------------------------------------------------- */

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
	changed (b);
}

/* Managers that never call are a failure too: a wrong address, a missing program on the node. And those that are gone while the scheduler
 * goes on with their job: a node that hangs. What they held up is needed elsewhere. */
static const char *silent (struct blocks *b, struct block *k, int64_t now)
{
	unsigned n = k->state == BLOCK_UP ? connected (b, k) : b->o.nodes;
	bool is_short = too_long (b, &k->short_ms, n < b->o.nodes, now);

	if (k->state == BLOCK_STARTING && now - k->since_ms >= b->o.connect_timeout_ms)
		return "its managers did not connect in time";
	if (too_long (b, &k->alone_ms, !n, now))
		return "its managers are gone, and did not come back in time";
	if (!is_short || n >= b->wanted || *k->fleet->image)
		return NULL;
	if (failures_last_hour (b, k->fleet) + 1 < (unsigned) b->o.max_failures_per_hour)
		return SHORT;
	keep_short (b, k);
	return NULL;
}

static void give_up_silent (struct blocks *b)
{
	int64_t now = clock_now_ms ();

	for (struct block *k = b->list; k; k = k->next)
		if (!k->doomed && (k->doomed = silent (b, k, now))) {
			count_failure (b, k, false, k->doomed);
			k->retiring = k->doomed == SHORT;	/* what it has to do ends first */
			if (!k->retiring)
				stop_block (b, k, b->o.stop_grace_ms);
			else
				changed (b);
			return;	/* the list may have changed; the next tick takes the next one */
		}
}

/* Blocks are up, but none has as many managers as a task wants. */
static bool is_lacking (const struct blocks *b)
{
	bool up = false;

	for (const struct block *k = b->list; k; k = k->next) {
		if (k->state != BLOCK_UP || *k->fleet->image)
			continue;
		up = true;
		if (!k->retiring && connected (b, k) >= b->wanted)
			return false;
	}
	return up && b->wanted;
}

static void look_for_lack (struct blocks *b)
{
	bool lacking;

	b->wanted = b->o.ops->nodes_wanted ? b->o.ops->nodes_wanted (b->o.arg) : 0;
	lacking = is_lacking (b);
	if (lacking != b->lacking)
		changed (b);
	b->lacking = lacking;
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

static void strategy (struct blocks *b)
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

static void on_tick (void *arg)
{
	struct blocks *b = arg;

	loop_timer_start (b->tick, b->o.period_ms, false);
	if (b->o.provider->poll)
		b->o.provider->poll (b->provider);
	look_for_lack (b);
	give_up_silent (b);
	for (struct block *k = b->list; k; k = k->next)
		if (k->state == BLOCK_UP && clock_now_ms () - k->up_ms >= STEADY_MS)
			k->fleet->attempt = 0;
	strategy (b);
}

static void on_poke (void *arg)
{
	strategy (arg);
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

	p->needed |= w->tasks > 0 && !active (p->b, fleet_get (p->b, w->image));
}

void blocks_poke (struct blocks *b)
{
	struct poke p = { b, false };

	if (!b->on)
		return;
	if (b->o.ops->images)
		b->o.ops->images (poke_for, &p, b->o.arg);
	if (p.needed || (!active (b, b->fleets) && b->o.ops->tasks (b->o.arg) > 0))
		loop_defer_schedule (b->poke);
}

void blocks_manager_up (struct blocks *b, const char *block)
{
	struct block *k = find (b, block);

	if (!k || k->state == BLOCK_STOPPING)
		return;
	if (connected (b, k) >= b->o.nodes)
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
		stop_block (b, k, grace_ms);
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

void blocks_stats (struct blocks *b, struct blocks_stats *out)
{
	memset (out, 0, sizeof (*out));
	for (struct block *k = b->list; k; k = k->next) {
		out->active += k->state != BLOCK_STOPPING;
		out->pending += k->state == BLOCK_PENDING || k->state == BLOCK_STARTING;
		out->up += k->state == BLOCK_UP;
		out->stopping += k->state == BLOCK_STOPPING;
	}
	out->started = b->nstarted;
	out->failed = b->nfailed;
	out->error = "";
	for (const struct fleet *f = b->fleets; f; f = f->next) {
		out->failures_last_hour += failures_last_hour (b, f);
		if (!*out->error)
			out->error = f->error;
	}
	out->scheduler = b->o.provider->trouble ? b->o.provider->trouble (b->provider) : "";
}

void blocks_describe (struct blocks *b, const char *block, struct buf *out)
{
	size_t at;

	buf_str (out, *block ? block : "unknown");
	if (!b->o.provider->job)
		return;
	buf_str (out, " (");
	at = out->len;
	b->o.provider->job (b->provider, block, out);
	if (out->len == at)
		buf_str (out, "no job");
	buf_char (out, ')');
}

static void say_lack (struct blocks *b, struct buf *out, const char *after)
{
	const char *before = "block ";

	for (struct block *k = b->list; k; k = k->next)
		if (k->state == BLOCK_UP && !*k->fleet->image) {
			buf_str (out, before);
			blocks_describe (b, k->id, out);
			buf_printf (out, " has %u of its %u managers", connected (b, k), b->o.nodes);
			before = ", block ";
		}
	buf_printf (out, ", and a task wants %u nodes of one%s", b->wanted, after);
}

static void why_waiting (struct blocks *b, const struct fleet *f, const char *trouble, struct buf *out)
{
	bool lacking = !*f->image && is_lacking (b);
	const struct block *pending = NULL;
	size_t at;

	if (any_up (b, f) && !lacking)
		return;
	for (struct block *k = b->list; k; k = k->next)
		if (k->fleet == f && (k->state == BLOCK_PENDING || k->state == BLOCK_STARTING))
			pending = k;	/* the oldest stands last */
	if (!*f->error && !*trouble && !pending && !lacking)
		return;
	if (out->len)
		buf_str (out, "; ");
	if (*f->image)
		buf_printf (out, "image %.200s: ", f->image);
	at = out->len;
	if (lacking)
		say_lack (b, out, *f->error || *trouble ? "; " : "");
	buf_str (out, *f->error ? f->error : trouble);
	if (!pending || (out->len > at && !*pending->text))
		return;
	buf_str (out, out->len > at ? "; now block " : "block ");
	blocks_describe (b, pending->id, out);
	buf_printf (out, " is %s%s%s", blocks_state_name (pending->state), *pending->text ? ": " : "", pending->text);
}

void blocks_why_waiting (struct blocks *b, struct buf *out)
{
	const char *trouble = b->o.provider->trouble && b->provider ? b->o.provider->trouble (b->provider) : "";

	for (struct fleet *f = b->fleets; f; f = f->next)
		if (f == b->fleets || f->wish.tasks)
			why_waiting (b, f, trouble, out);
}

void blocks_each (struct blocks *b, blocks_f *cb, void *arg)
{
	struct buf job;

	buf_init (&job, 4096);
	for (struct block *k = b->list; k; k = k->next) {
		buf_clear (&job);
		if (b->o.provider->job)
			b->o.provider->job (b->provider, k->id, &job);
		cb (&(struct blocks_view) { k->id, job.len ? (const char *) job.data : "", k->text, k->fleet->image, k->state,
					    clock_now_ms () - k->created_ms }, arg);
	}
	buf_fini (&job);
}
