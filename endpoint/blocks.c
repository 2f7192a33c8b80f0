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
};

struct block {
	char id[16];
	enum block_state state;
	int64_t since_ms, created_ms, up_ms;
	int64_t alone_ms;	/* up, and since then without a manager; 0: it has one */
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
	bool on, started;
	uint64_t number, nstarted, nfailed;
	int64_t *failures;		/* ring of times, o.max_failures_per_hour long */
	size_t failures_at;
	unsigned attempt;		/* failures in a row */
	int64_t not_before_ms;
	char error[1024];
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

static unsigned failures_last_hour (const struct blocks *b)
{
	int64_t now = clock_now_ms ();
	unsigned n = 0;

	for (int64_t i = 0; i < b->o.max_failures_per_hour; i++)
		n += b->failures[i] && now - b->failures[i] < HOUR_MS;
	return n;
}

static void count_failure (struct blocks *b, const char *id, const char *why)
{
	int64_t now = clock_now_ms ();
	char *path = xasprintf ("%s/block-%s-0.log", b->log_dir, id);
	char tail[TAIL_BYTES];

	logtail_read (path, tail, sizeof (tail));
	free (path);
	b->failures[b->failures_at] = now ? now : 1;
	b->failures_at = (b->failures_at + 1) % (size_t) b->o.max_failures_per_hour;
	b->nfailed++;
	b->started = false;
	b->not_before_ms = now + clock_backoff_ms (b->attempt, BACKOFF_BASE_MS, BACKOFF_CAP_MS);
	if (b->attempt < 20)
		b->attempt++;
	snprintf (b->error, sizeof (b->error), "block %s: %s%s%s", id, why, *tail ? "; its log ends: " : "", tail);
	log_warn ("blocks", "block failed", "block=%s reason=%s log=%s next_ms=%lld", id, why, tail,
		  (long long) (b->not_before_ms - now));
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

static void on_ended (struct blocks *b, struct block *k, bool failed, const char *text)
{
	char why[512];
	/* Without having been of any use: else one whose job ends well and at once would be started again for ever. */
	bool useless = !k->up_ms && k->state != BLOCK_STOPPING;

	if (k->doomed || useless || (failed && k->state != BLOCK_STOPPING)) {
		if (k->up_ms && clock_now_ms () - k->up_ms >= STEADY_MS)
			b->attempt = 0;
		if (!k->doomed) {
			snprintf (why, sizeof (why), "%.480s%s", *text ? text : "it ended by itself", useless && !failed ? " before a manager connected" : "");
			count_failure (b, k->id, why);
		}
	} else {
		snprintf (why, sizeof (why), "%.511s", *text && k->state != BLOCK_STOPPING ? text : "it was released");
		log_info ("blocks", "block released", "block=%s why=%s", k->id, why);
	}
	b->o.ops->lost (k->id, k->doomed ? k->doomed : why, b->o.arg);
	block_remove (b, k);
	/* started again with the back-off, not with the next period: tasks may wait */
	loop_defer_schedule (b->poke);
}

static void on_block (const char *id, enum provider_state state, bool failed, const char *text, void *arg)
{
	struct blocks *b = arg;
	struct block *k = find (b, id);

	if (!k)
		return;
	if (state == PROVIDER_ENDED) {
		on_ended (b, k, failed, text);
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

static int start_block (struct blocks *b)
{
	struct block *k = xcalloc (1, sizeof (*k));
	char ***argv = xcalloc (b->o.nodes, sizeof (*argv));
	struct provider_block pb = { .nodes = b->o.nodes, .log_dir = b->log_dir, .endpoint = b->o.endpoint,
				    .identity = b->o.identity };
	struct err err;
	int rc;

	snprintf (k->id, sizeof (k->id), "b%" PRIu64, ++b->number);
	remove_logs (b, b->number);
	if (b->number > LOGS_KEPT)
		remove_logs (b, b->number - LOGS_KEPT);
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
		count_failure (b, k->id, err.text);
		block_remove (b, k);
		return -1;
	}
	b->nstarted++;
	log_info ("blocks", "block started", "block=%s nodes=%u", k->id, b->o.nodes);
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

static bool is_idle (struct blocks *b, const struct block *k)
{
	return k->state == BLOCK_UP && b->o.ops->idle_ms (k->id, b->o.arg) >= b->o.limits.idle_timeout_ms;
}

static void look (struct blocks *b, struct scale_input *in)
{
	memset (in, 0, sizeof (*in));
	for (struct block *k = b->list; k; k = k->next) {
		in->blocks += k->state != BLOCK_STOPPING;
		in->idle_blocks += is_idle (b, k);
		in->ending += k->state == BLOCK_UP && b->o.ops->ending && b->o.ops->ending (k->id, b->o.arg);
	}
	in->tasks = b->o.ops->tasks (b->o.arg);
	in->started = b->started;
}

static void start_some (struct blocks *b, int64_t n)
{
	int64_t wait = b->not_before_ms - clock_now_ms ();

	if (wait > 0) {
		/* sooner than the period, when the back-off ends sooner */
		if (wait < b->o.period_ms)
			loop_timer_start (b->tick, wait + 1, false);
		return;
	}
	if (failures_last_hour (b) >= (unsigned) b->o.max_failures_per_hour) {
		if (!strstr (b->error, "no more are started")) {
			snprintf (b->error + strlen (b->error), sizeof (b->error) - strlen (b->error),
				  "; %d blocks failed within an hour (scaling.max_failures_per_hour), no more are started for now",
				  (int) b->o.max_failures_per_hour);
			changed (b);
		}
		return;
	}
	while (n-- > 0 && start_block (b) == 0)
		;
}

static void release_some (struct blocks *b, int64_t n)
{
	while (n-- > 0) {
		struct block *k = b->list;
		while (k && !is_idle (b, k))
			k = k->next;
		if (!k)
			return;
		stop_block (b, k, b->o.stop_grace_ms);
	}
}

/* Managers that never call are a failure too: a wrong address, a missing program on the node. And those that are gone while the scheduler
 * goes on with their job: a node that hangs. What they held up is needed elsewhere. */
static const char *silent (struct blocks *b, struct block *k, int64_t now)
{
	if (k->state == BLOCK_STARTING)
		return now - k->since_ms >= b->o.connect_timeout_ms ? "its managers did not connect in time" : NULL;
	if (k->state != BLOCK_UP || !b->o.ops->connected || b->o.ops->connected (k->id, b->o.arg))
		k->alone_ms = 0;
	else if (!k->alone_ms)
		k->alone_ms = now ? now : 1;
	return k->alone_ms && now - k->alone_ms >= b->o.connect_timeout_ms ? "its managers are gone, and did not come back in time" : NULL;
}

static void give_up_silent (struct blocks *b)
{
	int64_t now = clock_now_ms ();

	for (struct block *k = b->list; k; k = k->next)
		if (!k->doomed && (k->doomed = silent (b, k, now))) {
			count_failure (b, k->id, k->doomed);
			stop_block (b, k, b->o.stop_grace_ms);
			return;	/* the list may have changed; the next tick takes the next one */
		}
}

/* init_blocks are wanted until so many were up: one that fails before, or is lost later, is replaced even when no task waits. */
static void note_started (struct blocks *b)
{
	int64_t up = 0;

	for (struct block *k = b->list; k; k = k->next)
		up += k->state == BLOCK_UP;
	if (up >= b->o.limits.init_blocks || up >= b->o.limits.max_blocks)
		b->started = true;
}

static void strategy (struct blocks *b)
{
	struct scale_input in;
	int64_t n;

	if (!b->on)
		return;
	look (b, &in);
	n = scale_decide (&b->o.limits, &in);
	if (n > 0)
		start_some (b, n);
	else if (n < 0)
		release_some (b, -n);
	note_started (b);
}

static void on_tick (void *arg)
{
	struct blocks *b = arg;

	loop_timer_start (b->tick, b->o.period_ms, false);
	if (b->o.provider->poll)
		b->o.provider->poll (b->provider);
	give_up_silent (b);
	for (struct block *k = b->list; k; k = k->next)
		if (k->state == BLOCK_UP && clock_now_ms () - k->up_ms >= STEADY_MS)
			b->attempt = 0;
	strategy (b);
}

static void on_poke (void *arg)
{
	strategy (arg);
}

static bool is_connected (const char *id, void *arg)
{
	struct blocks *b = arg;

	return b->o.ops->connected && b->o.ops->connected (id, b->o.arg);
}

static void adopt (struct blocks *b, const struct takeover *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct block *k = xcalloc (1, sizeof (*k));

		snprintf (k->id, sizeof (k->id), "%s", t->v[i].id);
		k->state = BLOCK_PENDING;
		k->since_ms = k->created_ms = k->up_ms = clock_now_ms ();
		k->next = b->list;
		b->list = k;
		b->o.provider->adopt (b->provider, &t->v[i]);
		log_info ("blocks", "block taken over", "block=%s job=%s", k->id, t->v[i].job);
	}
	b->number = t->number;
	b->started = t->n > 0;		/* what the run before had started; losses are replaced as tasks need it */
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
	b->failures = xcalloc ((size_t) o->max_failures_per_hour, sizeof (*b->failures));
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
	free (b->failures);
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

void blocks_poke (struct blocks *b)
{
	if (!b->on)
		return;
	for (struct block *k = b->list; k; k = k->next)
		if (k->state != BLOCK_STOPPING)
			return;
	loop_defer_schedule (b->poke);
}

void blocks_manager_up (struct blocks *b, const char *block)
{
	struct block *k = find (b, block);

	if (!k || k->state == BLOCK_UP || k->state == BLOCK_STOPPING)
		return;
	k->up_ms = clock_now_ms ();
	b->error[0] = 0;
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
	out->failures_last_hour = failures_last_hour (b);
	out->started = b->nstarted;
	out->failed = b->nfailed;
	out->error = b->error;
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

void blocks_why_waiting (struct blocks *b, struct buf *out)
{
	const char *trouble = b->o.provider->trouble && b->provider ? b->o.provider->trouble (b->provider) : "";
	const struct block *pending = NULL;

	for (struct block *k = b->list; k; k = k->next) {
		if (k->state == BLOCK_UP)
			return;
		if (k->state != BLOCK_STOPPING)
			pending = k;	/* the oldest stands last */
	}
	if (*b->error)
		buf_str (out, b->error);
	else if (*trouble)
		buf_str (out, trouble);
	if (!pending || (out->len && !*pending->text))
		return;
	buf_str (out, out->len ? "; now block " : "block ");
	blocks_describe (b, pending->id, out);
	buf_printf (out, " is %s%s%s", blocks_state_name (pending->state), *pending->text ? ": " : "", pending->text);
}

void blocks_each (struct blocks *b, blocks_f *cb, void *arg)
{
	struct buf job;

	buf_init (&job, 4096);
	for (struct block *k = b->list; k; k = k->next) {
		buf_clear (&job);
		if (b->o.provider->job)
			b->o.provider->job (b->provider, k->id, &job);
		cb (&(struct blocks_view) { k->id, job.len ? (const char *) job.data : "", k->text, k->state, clock_now_ms () - k->created_ms }, arg);
	}
	buf_fini (&job);
}
