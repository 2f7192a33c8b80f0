/* SPDX-License-Identifier: Apache-2.0 */
/* Listings: what the scheduler says of our jobs, and what its silence means. */
#include "endpoint/providers/batch_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"

#include <string.h>

enum {
	SLOWEST_MS = 60000,		/* between listings while the scheduler is down */
	SLOW_FACTOR = 5,		/* a listing that takes a second is asked for each five at most */
	ABSENT_MAX = 3,			/* good listings that lack a job */
	SEARCH_MS = 600 * 1000,		/* between looks for jobs of ours whose ids we do not have */
};

const struct batch_word *batch_find_word (const struct batch_system *s, const char *word)
{
	const struct batch_word *best = NULL;

	for (const struct batch_word *w = s->states; *w->word; w++)
		if (strncmp (word, w->word, strlen (w->word)) == 0 && (!best || strlen (w->word) > strlen (best->word)))
			best = w;
	return best;
}

bool batch_connected (struct batch *b, const struct job *j)
{
	return b->env.connected && b->env.connected (j->block, b->env.arg);
}

static void words_of (struct job *j, const struct batch_row *r, const struct batch_word *w)
{
	bool more = *r->reason && strcasecmp (r->reason, "None") != 0;

	if (w && w->state == BATCH_RUNNING)
		snprintf (j->words, sizeof (j->words), "%s", w->text);
	else
		snprintf (j->words, sizeof (j->words), "%.100s%s%.180s%s", w ? w->text : r->state, more ? " (" : "", more ? r->reason : "", more ? ")" : "");
}

static void over (struct batch *b, struct job *j, const struct batch_row *r, const struct batch_word *w)
{
	char words[sizeof (j->words)];

	words_of (j, r, w);
	memcpy (words, j->words, sizeof (words));
	batch_end (j, w->state == BATCH_FAILED, "%s job %s%s%.80s %s: %.170s", b->s->title, j->id, *j->nodes ? " on " : "", j->nodes, r->state, words);
}

/* w: NULL, or a state that it does not leave by itself. */
static void stuck (struct batch *b, struct job *j, const struct batch_row *r, const struct batch_word *w)
{
	int64_t now = clock_now_ms ();
	char words[sizeof (j->words)];

	if (!j->unknown_since_ms)
		j->unknown_since_ms = now;
	if (w)
		words_of (j, r, w);
	else
		snprintf (j->words, sizeof (j->words), "in a state that is not known here: %.60s %.180s", r->state, r->reason);
	if (now - j->unknown_since_ms < b->conf->unknown_ms || batch_connected (b, j)) {
		batch_tell (b, j, j->state == BATCH_RUNNING ? PROVIDER_RUNNING : PROVIDER_PENDING);
		return;
	}
	if (b->nstrays < IDS_MAX)
		snprintf (b->strays[b->nstrays++], BATCH_ID_MAX, "%s", j->id);
	memcpy (words, j->words, sizeof (words));
	batch_end (j, true, "%s job %s was given up after %lld s: %.220s", b->s->title, j->id, (long long) ((now - j->unknown_since_ms) / 1000), words);
}

static void take_row (struct batch *b, struct job *j, const struct batch_row *r)
{
	const struct batch_word *w = batch_find_word (b->s, r->state);

	j->seen = j->listed = true;
	j->absent = 0;
	if (*r->nodes)
		snprintf (j->nodes, sizeof (j->nodes), "%s", r->nodes);
	if (!w || w->state == BATCH_STUCK) {
		stuck (b, j, r, w);
		return;
	}
	j->unknown_since_ms = 0;
	j->state = w->state;
	if (w->state == BATCH_DONE || w->state == BATCH_FAILED || (w->state == BATCH_ENDING && j->cancelled)) {
		over (b, j, r, w);
		return;
	}
	words_of (j, r, w);
	batch_tell (b, j, w->state == BATCH_PENDING ? PROVIDER_PENDING : PROVIDER_RUNNING);
}

static bool ours (const struct batch *b, const char *name)
{
	return strncmp (name, b->prefix, strlen (b->prefix)) == 0;
}

static void on_row (const struct batch_row *r, void *arg)
{
	struct batch *b = arg;
	const struct batch_word *w = batch_find_word (b->s, r->state);
	bool live = !w || w->state <= BATCH_RUNNING;
	struct job *j = b->jobs;

	if (!ours (b, r->name))
		return;
	while (j && strcmp (j->name, r->name) != 0)
		j = j->next;
	if (j && j->phase == JOB_UNSURE && live)
		batch_there (b, j, r->id);
	if (j && j->phase == JOB_THERE && strcmp (j->id, r->id) == 0) {
		if (!j->ended)
			take_row (b, j, r);
		return;
	}
	/* while one is being submitted, its id is not known yet */
	if (!live || (j && j->phase == JOB_SUBMITTING) || b->nstrays == IDS_MAX)
		return;
	log_warn ("batch", "job of ours that nobody wants is cancelled", "job=%s name=%s state=%s", r->id, r->name, r->state);
	snprintf (b->strays[b->nstrays++], BATCH_ID_MAX, "%s", r->id);
}

static void missing (struct batch *b, struct job *j)
{
	if (j->phase == JOB_UNSURE && j->absent >= 2) {
		if (j->cancelled) {
			batch_end (j, false, "%s", "");
			return;
		}
		j->phase = JOB_WAITING;
		j->absent = 0;
		return;
	}
	if (j->phase != JOB_THERE)
		return;
	if (j->cancelled && j->seen) {
		batch_end (j, false, "%s", "");
		return;
	}
	if (batch_connected (b, j)) {
		snprintf (j->words, sizeof (j->words), "%s does not list it, but its managers are connected", b->s->title);
		batch_tell (b, j, PROVIDER_RUNNING);
		return;
	}
	/* without a history nobody can tell an end in time from a failure: one whose managers came counts as the former */
	if (j->absent >= ABSENT_MAX)
		batch_end (j, !j->was_up, "%s no longer knows job %s%s%.100s", b->s->title, j->id, *j->nodes ? ", which was on " : "", j->nodes);
}

static void settle_missing (struct batch *b)
{
	for (struct job *j = b->jobs; j; j = j->next)
		if (j->asked_for && !j->listed && !j->ended)
			missing (b, j);
}

static void asked (struct batch *b, struct job *none, int status, char *out, const char *said, const struct err *err)
{
	(void) none;
	(void) err;
	if (batch_says (said, b->s->no_history)) {
		b->no_history = true;	/* this site keeps none: not asked again */
		log_info ("batch", "the scheduler keeps no history", "scheduler=%s said=%s", b->s->title, said);
	}
	if (status == 0 || batch_says (said, b->s->none))
		b->s->history_rows (out, on_row, b);
	settle_missing (b);
}

/* Of those that the present listing is to tell of and has not told of yet. */
static size_t unlisted (const struct batch *b, const char **ids)
{
	size_t n = 0;

	for (const struct job *j = b->jobs; j && n < IDS_MAX; j = j->next)
		if (j->phase == JOB_THERE && !j->ended && j->asked_for && !j->listed)
			ids[n++] = j->id;
	return n;
}

/* The jobs that a good listing lacks: the history is asked for those that it can know. */
static void look_for_missing (struct batch *b)
{
	const char *ids[IDS_MAX];
	struct batch_args *a;
	size_t n;

	for (struct job *j = b->jobs; j; j = j->next)
		j->absent += j->asked_for && !j->listed && !j->ended;
	n = unlisted (b, ids);
	if (n && b->s->history && !b->no_history && !b->asking) {
		a = xcalloc (1, sizeof (*a));
		b->s->history (b->env.conf, ids, n, a);
		if (batch_run (b, &b->asking, NULL, a, NULL, asked, NULL) == 0)
			return;
	}
	settle_missing (b);
}

static void listed (struct batch *b, struct job *none, int status, char *out, const char *said, const struct err *err)
{
	int64_t now = clock_now_ms (), took = now - b->list_began_ms, wait = b->conf->poll_ms;
	/* it may list some and know nothing of others */
	bool none_there = status != 0 && batch_says (said, b->s->none) && !batch_says (said, b->s->down);
	int rc = 0;

	(void) none;
	b->nstrays = 0;
	if (status == 0 || none_there)
		rc = b->s->rows (out, on_row, b);
	if (rc < 0 || (status != 0 && !none_there)) {
		for (unsigned i = 0; i < b->bad && wait < SLOWEST_MS; i++)
			wait *= 2;
		b->bad++;
		batch_in_trouble (b, "listing jobs", rc < 0 ? "its answer is not understood" : err && err->code == ERR_TIMEOUT ? err->text : said);
		if (wait > SLOWEST_MS && wait > b->conf->poll_ms)
			wait = SLOWEST_MS;
	} else {
		if (*b->trouble)
			log_info ("batch", "the scheduler answers again", "scheduler=%s", b->s->title);
		b->bad = 0;
		b->trouble[0] = 0;
		if (b->searching)
			b->search_at_ms = b->nstrays ? 0 : now + SEARCH_MS;	/* once more: are they gone? */
		look_for_missing (b);
	}
	if (wait < took * SLOW_FACTOR)
		wait = took * SLOW_FACTOR;
	b->list_at_ms = clock_now_ms () + wait;
	for (struct job *j = b->jobs; j; j = j->next)
		if (!b->bad && !j->ended && (j->phase == JOB_UNSURE || (j->cancelled && j->phase == JOB_THERE)))
			batch_list_in (b, 2 * SOON_MS);
}

/* Which jobs the listing is to tell of. A command that names them names IDS_MAX at most: the others are asked for next time. */
static void choose (struct batch *b)
{
	bool all = !b->s->search || b->searching;
	size_t there = 0, n = 0;

	for (struct job *j = b->jobs; j; j = j->next) {
		bool has_id = !j->ended && j->phase == JOB_THERE;
		bool turn = has_id && (all || (there >= b->list_from && n < IDS_MAX));
		j->listed = false;
		j->asked_for = turn || (!j->ended && j->phase == JOB_UNSURE);
		there += has_id;
		n += turn;
	}
	b->list_from = !all && b->list_from + n < there ? b->list_from + n : 0;
}

void batch_start_listing (struct batch *b)
{
	const char *ids[IDS_MAX];
	struct batch_args *a;
	struct err err;
	size_t n;

	b->searching = b->s->search && (*b->trouble || clock_now_ms () >= b->search_at_ms);
	for (struct job *j = b->jobs; j; j = j->next)
		b->searching = b->searching || (b->s->search && j->phase == JOB_UNSURE);
	choose (b);
	b->list_began_ms = clock_now_ms ();
	n = unlisted (b, ids);
	if (b->s->search && !b->searching && !n) {
		b->list_at_ms = b->list_began_ms + b->conf->poll_ms;	/* nothing to ask for */
		return;
	}
	b->list_at_ms = INT64_MAX;
	a = xcalloc (1, sizeof (*a));
	(b->searching ? b->s->search : b->s->status) (b->env.conf, ids, n, a);
	if (batch_run (b, &b->listing, NULL, a, NULL, listed, &err) < 0)
		listed (b, NULL, -1, (char[1]){ 0 }, err.text, &err);
}
