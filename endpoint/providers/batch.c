/* SPDX-License-Identifier: Apache-2.0 */
/* See batch.h. One scheduler command of a kind runs at a time, each with a time limit; nothing here waits. */
#include "endpoint/providers/batch.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/spawn.h"
#include "common/utf8.h"
#include "common/xmem.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	HOUR_MS = 3600 * 1000,
	SOON_MS = 300,			/* the next listing after a change of ours */
	SLOWEST_MS = 60000,		/* between listings while the scheduler is down */
	SLOW_FACTOR = 5,		/* a listing that takes a second is asked for each five at most */
	ABSENT_MAX = 3,			/* good listings that lack a job */
	CANCEL_AGAIN_MS = 5000,
	IDS_MAX = 1000,			/* in one command */
	SEARCH_MS = 600 * 1000,		/* between looks for jobs of ours whose ids we do not have */
	SCRIPT_MAX = 1 << 20,
};
enum phase { WAITING, SUBMITTING, UNSURE, THERE };

struct job {
	char block[16], name[BATCH_NAME_MAX], id[BATCH_ID_MAX], nodes[200], words[300];
	char *script;			/* its path */
	char *text;			/* of the script, until it is submitted */
	unsigned nnodes;
	enum phase phase;
	enum batch_state state;		/* as last listed; UNKNOWN: not yet */
	bool cancelled, ended, failed;
	bool seen;			/* in some listing */
	bool asked_for, listed;		/* in the present one */
	bool up, was_up;		/* a manager was connected at the last look; at any */
	unsigned absent;		/* good listings in a row that lack it */
	int64_t unknown_since_ms, cancel_sent_ms;
	struct job *next;
};

struct batch {
	const struct batch_system *s;
	struct provider_env env;
	const struct batch_conf *conf;
	char prefix[100], run[8];	/* of job names: "weft-NAME-hhhh", and of this run */
	struct job *jobs;
	struct loop_timer *timer;
	struct call *submitting, *listing, *asking, *cancelling;
	int64_t list_at_ms, list_began_ms, search_at_ms;
	bool searching;			/* the present listing finds jobs by name */
	unsigned bad;			/* listings in a row without an answer */
	char trouble[400];
	bool no_history;
	int64_t *submits;		/* ring of times, conf->max_submits_per_hour long */
	size_t submits_at;
	char (*strays)[BATCH_ID_MAX];	/* ids of jobs of ours that nobody wants */
	size_t nstrays;
};

/* A command that runs. b: NULL when the provider is gone. */
struct call {
	struct batch *b;
	struct job *job;
	void (*done) (struct batch *b, struct job *j, int status, char *out, const char *said, const struct err *err);
	struct call **slot;
};

static void look (struct batch *b);

/* ---- commands ----------------------------------------------------------------------------------------------- */

void batch_arg (struct batch_args *a, const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;

	if (a->n == BATCH_ARGS_MAX)
		return;
	va_start (ap, fmt);
	if (vasprintf (&s, fmt, ap) < 0)
		abort ();
	va_end (ap);
	a->v[a->n++] = s;
}

void batch_args_free (struct batch_args *a)
{
	for (size_t i = 0; i < a->n; i++)
		free (a->v[i]);
	free (a);
}

bool batch_says (const char *text, const char *const *parts)
{
	for (size_t i = 0; parts && parts[i]; i++)
		if (strcasestr (text, parts[i]))
			return true;
	return false;
}

const char *batch_advice (const struct batch_system *s, const char *said)
{
	for (const struct batch_hint *h = s->hints; h && h->said; h++)
		if (strcasestr (said, h->said))
			return h->advice;
	return NULL;
}

/* What a command said, as one line for people. */
static void one_line (char *out, size_t cap, const char *text, size_t n)
{
	size_t at = 0;

	while (n && isspace ((unsigned char) text[n - 1]))
		n--;
	for (; n && isspace ((unsigned char) *text); n--)
		text++;
	for (size_t i = 0; i < n && at + 4 < cap; i++) {
		if (text[i] == '\n') {
			memcpy (out + at, " | ", 3);
			at += 3;
		} else {
			out[at++] = (unsigned char) text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i];
		}
	}
	out[at] = 0;
}

/* What a command printed, as text: no zero bytes, and UTF-8, since it goes into JSON. */
static char *as_text (const char *out, size_t n)
{
	char *text = xcalloc (1, n + 1);

	memcpy (text, out, n);
	for (size_t i = 0, step; i < n; i += step) {
		step = utf8_seq ((const uint8_t *) text + i, n - i);
		if (!step || !text[i]) {
			text[i] = '?';
			step = 1;
		}
	}
	return text;
}

static void call_done (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct call *c = arg;
	struct batch *b = c->b;
	char said[400] = "";
	char *text, *words;

	if (!b) {
		free (c);
		return;
	}
	*c->slot = NULL;
	text = as_text (out, nout);
	words = as_text (errout, nerr);
	if (nerr)
		one_line (said, sizeof (said), words, nerr);
	else if (status != 0)
		one_line (said, sizeof (said), text, nout);
	free (words);
	if (err && !*said)
		snprintf (said, sizeof (said), "%s", err->text);
	else if (status != 0 && !*said)
		spawn_status_text (status, said);
	c->done (b, c->job, status, text, said, err);
	free (text);
	free (c);
	look (b);
}

static int run (struct batch *b, struct call **slot, struct job *j, struct batch_args *a, const char *input,
		void (*done) (struct batch *, struct job *, int, char *, const char *, const struct err *), struct err *err)
{
	struct call *c = xcalloc (1, sizeof (*c));
	int rc;

	*c = (struct call) { b, j, done, slot };
	rc = spawn_capture (b->env.loop, (const char *const *) a->v, input, b->conf->cmd_timeout_ms, BATCH_OUTPUT_MAX, call_done, c, err);
	batch_args_free (a);
	if (rc < 0)
		free (c);
	else
		*slot = c;
	return rc;
}

static void in_trouble (struct batch *b, const char *command, const char *said)
{
	char text[sizeof (b->trouble)];

	snprintf (text, sizeof (text), "%s does not answer: %s: %.300s", b->s->title, command, said);
	if (strcmp (text, b->trouble) != 0)
		log_warn ("batch", "the scheduler does not answer", "scheduler=%s command=%s said=%s", b->s->title, command, said);
	snprintf (b->trouble, sizeof (b->trouble), "%s", text);
}

static void list_in (struct batch *b, int64_t ms)
{
	int64_t at = clock_now_ms () + ms;

	if (at < b->list_at_ms)
		b->list_at_ms = at;
}

/* ---- jobs --------------------------------------------------------------------------------------------------- */

static void job_free (struct job *j)
{
	free (j->script);
	free (j->text);
	free (j);
}

static struct job *find_block (struct batch *b, const char *block)
{
	for (struct job *j = b->jobs; j; j = j->next)
		if (!j->ended && strcmp (j->block, block) == 0)
			return j;
	return NULL;
}

static void tell (struct batch *b, struct job *j, enum provider_state state)
{
	b->env.on_block (j->block, state, false, j->words, b->env.arg);
}

/* It is told, and forgotten, by `look`: the lists are not changed under those who walk them. */
static void end (struct job *j, bool failed, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));

static void end (struct job *j, bool failed, const char *fmt, ...)
{
	va_list ap;

	if (j->ended)
		return;
	j->ended = true;
	j->failed = failed && !j->cancelled;
	va_start (ap, fmt);
	vsnprintf (j->words, sizeof (j->words), fmt, ap);
	va_end (ap);
	if (j->cancelled)
		j->words[0] = 0;
}

static bool forget_ended (struct batch *b)
{
	for (struct job **p = &b->jobs; *p; p = &(*p)->next) {
		struct job *j = *p;
		if (!j->ended || (b->submitting && b->submitting->job == j))
			continue;
		*p = j->next;
		if (!j->failed)
			unlink (j->script);	/* that of a failed job stays for a look, until the next start */
		log_info ("batch", "job over", "block=%s job=%s failed=%d why=%s", j->block, j->id, j->failed, j->words);
		b->env.on_block (j->block, PROVIDER_ENDED, j->failed, j->words, b->env.arg);
		job_free (j);
		return true;
	}
	return false;
}

void batch_job_text (void *self, const char *block_id, struct buf *out)
{
	struct batch *b = self;
	const struct job *j = find_block (b, block_id);

	if (!j || !*j->id)
		return;
	buf_printf (out, "%s job %s%s%s", b->s->title, j->id, *j->nodes ? " on " : "", j->nodes);
}

const char *batch_trouble (void *self)
{
	return ((struct batch *) self)->trouble;
}

/* ---- submitting --------------------------------------------------------------------------------------------- */

static int write_script (const struct job *j, struct err *err)
{
	int fd = open (j->script, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0700);
	size_t n = strlen (j->text);
	int rc = 0;

	if (fd < 0)
		return err_errno (err, "writing %s", j->script);
	if (write (fd, j->text, n) != (ssize_t) n)
		rc = err_errno (err, "writing %s", j->script);
	if (close (fd) < 0 && rc == 0)
		rc = err_errno (err, "writing %s", j->script);
	return rc;
}

static void fill_job (struct batch_job *bj, const struct provider_block *pb, const char *name, const char *script, char **log)
{
	*log = xasprintf ("%s/block-%s-0.log", pb->log_dir, pb->id);
	*bj = (struct batch_job) { .name = name, .block = pb->id, .endpoint = pb->endpoint, .script = script, .log_dir = pb->log_dir,
				   .log = *log, .nodes = pb->nodes, .argv = pb->argv[0] };
}

int batch_submit (void *self, const struct provider_block *pb, struct err *err)
{
	struct batch *b = self;
	struct job *j = xcalloc (1, sizeof (*j));
	struct batch_job bj;
	struct buf text;
	char *log;

	snprintf (j->block, sizeof (j->block), "%s", pb->id);
	j->nnodes = pb->nodes;
	snprintf (j->name, sizeof (j->name), "%s%s-%s", b->prefix, b->run, pb->id);
	j->script = xasprintf ("%s/block-%s-%s.sh", pb->log_dir, pb->id, b->run);
	fill_job (&bj, pb, j->name, j->script, &log);
	buf_init (&text, SCRIPT_MAX);
	script_render (b->s, b->env.conf, &bj, &text);
	free (log);
	if (buf_failed (&text)) {
		err_set (err, ERR_TOO_LARGE, FAULT_USER, "the job script is larger than %d bytes", SCRIPT_MAX);
	} else {
		j->text = xstrdup ((const char *) text.data);
		if (write_script (j, err) == 0) {
			struct job **p = &b->jobs;
			while (*p)
				p = &(*p)->next;
			*p = j;
			snprintf (j->words, sizeof (j->words), "not handed to %s yet", b->s->title);
			tell (b, j, PROVIDER_PENDING);
			buf_fini (&text);
			loop_timer_start (b->timer, 0, false);
			return 0;
		}
	}
	buf_fini (&text);
	job_free (j);
	return -1;
}

static void there (struct batch *b, struct job *j, const char *id)
{
	snprintf (j->id, sizeof (j->id), "%s", id);
	j->phase = THERE;
	snprintf (j->words, sizeof (j->words), "submitted");
	log_info ("batch", "job submitted", "block=%s job=%s name=%s", j->block, j->id, j->name);
	tell (b, j, PROVIDER_PENDING);
}

static void submitted (struct batch *b, struct job *j, int status, char *out, const char *said, const struct err *err)
{
	char id[BATCH_ID_MAX];
	const char *advice;

	if (status == 0 && b->s->submitted (out, id) == 0) {
		there (b, j, id);
		list_in (b, SOON_MS);
		return;
	}
	if (status == 0 || (err && err->code == ERR_TIMEOUT) || batch_says (said, b->s->down)) {
		/* it may have been taken all the same: its name tells, once there is a listing */
		j->phase = UNSURE;
		j->absent = 0;
		in_trouble (b, "submitting", status == 0 ? "no job id in its answer" : said);
		snprintf (j->words, sizeof (j->words), "%.290s", b->trouble);
		tell (b, j, PROVIDER_PENDING);
		list_in (b, SOON_MS);
		return;
	}
	log_warn ("batch", "job refused", "block=%s said=%s", j->block, said);
	advice = batch_advice (b->s, said);
	end (j, true, "%s refused the job: %.200s%s%s", b->s->title, said, advice ? "; " : "", advice ? advice : "");
}

/* How long until another job may be handed over, by the budget of an hour. */
static int64_t budget_wait (const struct batch *b, int64_t now)
{
	int64_t oldest = b->submits[b->submits_at];

	return oldest && now - oldest < HOUR_MS ? oldest + HOUR_MS - now : 0;
}

static void say_budget (struct batch *b, struct job *j, int64_t wait)
{
	char words[sizeof (j->words)];

	snprintf (words, sizeof (words), "waits %lld min: %d jobs were handed to %s within an hour (max_submits_per_hour)",
		  (long long) (wait / 60000 + 1), (int) b->conf->max_submits_per_hour, b->s->title);
	if (strcmp (words, j->words) == 0)
		return;
	memcpy (j->words, words, sizeof (j->words));
	tell (b, j, PROVIDER_PENDING);
}

static int64_t submit_next (struct batch *b, int64_t now)
{
	struct batch_args *a;
	struct batch_job bj;
	struct job *j = b->jobs;
	struct err err;
	int64_t wait = budget_wait (b, now);
	char *log;

	while (j && (j->phase != WAITING || j->ended))
		j = j->next;
	if (!j || b->submitting)
		return -1;
	if (*b->trouble)
		return -1;	/* the next good listing goes on */
	if (wait > 0) {
		say_budget (b, j, wait);
		return wait;
	}
	b->submits[b->submits_at] = now ? now : 1;
	b->submits_at = (b->submits_at + 1) % (size_t) b->conf->max_submits_per_hour;
	log = xasprintf ("%s/block-%s-0.log", b->env.log_dir, j->block);
	bj = (struct batch_job) { .name = j->name, .block = j->block, .endpoint = b->env.endpoint, .script = j->script,
				  .log_dir = b->env.log_dir, .log = log, .nodes = j->nnodes };
	a = xcalloc (1, sizeof (*a));
	b->s->submit (b->env.conf, &bj, a);
	free (log);
	j->phase = SUBMITTING;
	if (run (b, &b->submitting, j, a, b->s->on_stdin ? j->text : NULL, submitted, &err) < 0)
		end (j, true, "%.290s", err.text);
	return -1;
}

/* ---- listing ------------------------------------------------------------------------------------------------ */

const struct batch_word *batch_find_word (const struct batch_system *s, const char *word)
{
	const struct batch_word *best = NULL;

	for (const struct batch_word *w = s->states; *w->word; w++)
		if (strncmp (word, w->word, strlen (w->word)) == 0 && (!best || strlen (w->word) > strlen (best->word)))
			best = w;
	return best;
}

static bool connected (struct batch *b, const struct job *j)
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
	end (j, w->state == BATCH_FAILED, "%s job %s%s%.80s %s: %.170s", b->s->title, j->id, *j->nodes ? " on " : "", j->nodes, r->state, words);
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
	if (now - j->unknown_since_ms < b->conf->unknown_ms || connected (b, j)) {
		tell (b, j, j->state == BATCH_RUNNING ? PROVIDER_RUNNING : PROVIDER_PENDING);
		return;
	}
	if (b->nstrays < IDS_MAX)
		snprintf (b->strays[b->nstrays++], BATCH_ID_MAX, "%s", j->id);
	memcpy (words, j->words, sizeof (words));
	end (j, true, "%s job %s was given up after %lld s: %.220s", b->s->title, j->id, (long long) ((now - j->unknown_since_ms) / 1000), words);
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
	tell (b, j, w->state == BATCH_PENDING ? PROVIDER_PENDING : PROVIDER_RUNNING);
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
	if (j && j->phase == UNSURE && live)
		there (b, j, r->id);
	if (j && j->phase == THERE && strcmp (j->id, r->id) == 0) {
		if (!j->ended)
			take_row (b, j, r);
		return;
	}
	/* while one is being submitted, its id is not known yet */
	if (!live || (j && j->phase == SUBMITTING) || b->nstrays == IDS_MAX)
		return;
	log_warn ("batch", "job of ours that nobody wants is cancelled", "job=%s name=%s state=%s", r->id, r->name, r->state);
	snprintf (b->strays[b->nstrays++], BATCH_ID_MAX, "%s", r->id);
}

static void missing (struct batch *b, struct job *j)
{
	if (j->phase == UNSURE && j->absent >= 2) {
		if (j->cancelled) {
			end (j, false, "%s", "");
			return;
		}
		j->phase = WAITING;
		j->absent = 0;
		return;
	}
	if (j->phase != THERE)
		return;
	if (j->cancelled && j->seen) {
		end (j, false, "%s", "");
		return;
	}
	if (connected (b, j)) {
		snprintf (j->words, sizeof (j->words), "%s does not list it, but its managers are connected", b->s->title);
		tell (b, j, PROVIDER_RUNNING);
		return;
	}
	/* without a history nobody can tell an end in time from a failure: one whose managers came counts as the former */
	if (j->absent >= ABSENT_MAX)
		end (j, !j->was_up, "%s no longer knows job %s%s%.100s", b->s->title, j->id, *j->nodes ? ", which was on " : "", j->nodes);
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

static size_t known_ids (const struct batch *b, const char **ids, bool missing_only)
{
	size_t n = 0;

	for (const struct job *j = b->jobs; j && n < IDS_MAX; j = j->next)
		if (j->phase == THERE && !j->ended && (!missing_only || (j->asked_for && !j->listed)))
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
	n = known_ids (b, ids, true);
	if (n && b->s->history && !b->no_history && !b->asking) {
		a = xcalloc (1, sizeof (*a));
		b->s->history (b->env.conf, ids, n, a);
		if (run (b, &b->asking, NULL, a, NULL, asked, NULL) == 0)
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
		in_trouble (b, "listing jobs", rc < 0 ? "its answer is not understood" : err && err->code == ERR_TIMEOUT ? err->text : said);
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
		if (!b->bad && !j->ended && (j->phase == UNSURE || (j->cancelled && j->phase == THERE)))
			list_in (b, 2 * SOON_MS);
}

static void start_listing (struct batch *b)
{
	const char *ids[IDS_MAX];
	struct batch_args *a;
	struct err err;
	size_t n;

	b->searching = b->s->search && (*b->trouble || clock_now_ms () >= b->search_at_ms);
	for (struct job *j = b->jobs; j; j = j->next) {
		j->asked_for = !j->ended && (j->phase == THERE || j->phase == UNSURE);
		j->listed = false;
		b->searching = b->searching || (b->s->search && j->phase == UNSURE);
	}
	b->list_began_ms = clock_now_ms ();
	n = known_ids (b, ids, false);
	if (b->s->search && !b->searching && !n) {
		b->list_at_ms = b->list_began_ms + b->conf->poll_ms;	/* nothing to ask for */
		return;
	}
	b->list_at_ms = INT64_MAX;
	a = xcalloc (1, sizeof (*a));
	(b->searching ? b->s->search : b->s->status) (b->env.conf, ids, n, a);
	if (run (b, &b->listing, NULL, a, NULL, listed, &err) < 0)
		listed (b, NULL, -1, (char[1]){ 0 }, err.text, &err);
}

/* ---- cancelling --------------------------------------------------------------------------------------------- */

void batch_cancel (void *self, const char *block_id, int64_t grace_ms)
{
	struct batch *b = self;
	struct job *j = find_block (b, block_id);

	(void) grace_ms;	/* batch systems have a grace of their own between SIGTERM and SIGKILL */
	if (!j)
		return;
	j->cancelled = true;
	if (j->phase == WAITING)
		end (j, false, "%s", "");
	loop_timer_start (b->timer, 0, false);
}

static void cancelled (struct batch *b, struct job *none, int status, char *out, const char *said, const struct err *err)
{
	(void) none;
	(void) out;
	(void) err;
	if (status != 0 && !batch_says (said, b->s->none)) {
		log_warn ("batch", "cancelling failed", "scheduler=%s said=%s", b->s->title, said);
		if (batch_says (said, b->s->down))
			in_trouble (b, "cancelling jobs", said);
	}
	list_in (b, SOON_MS);
}

static int64_t cancel_some (struct batch *b, int64_t now)
{
	const char *ids[IDS_MAX];
	struct batch_args *a;
	size_t n = 0;
	int64_t wait = -1;

	if (b->cancelling)
		return -1;
	for (struct job *j = b->jobs; j && n < IDS_MAX; j = j->next) {
		int64_t due = j->cancel_sent_ms ? j->cancel_sent_ms + CANCEL_AGAIN_MS - now : 0;
		if (!j->cancelled || j->ended || j->phase != THERE)
			continue;
		if (due <= 0) {
			ids[n++] = j->id;
			j->cancel_sent_ms = now ? now : 1;
		} else if (wait < 0 || due < wait) {
			wait = due;
		}
	}
	for (size_t i = 0; i < b->nstrays && n < IDS_MAX; i++)
		ids[n++] = b->strays[i];
	if (!n)
		return wait;
	a = xcalloc (1, sizeof (*a));
	b->s->cancel (b->env.conf, ids, n, a);
	b->nstrays = 0;
	run (b, &b->cancelling, NULL, a, NULL, cancelled, NULL);
	return -1;
}

/* ---- the turn of things ------------------------------------------------------------------------------------- */

static int64_t sooner (int64_t a, int64_t b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* Everything that is due, and the time of what is next. */
static void look (struct batch *b)
{
	int64_t now = clock_now_ms (), next = -1;

	while (forget_ended (b))
		;
	next = sooner (next, submit_next (b, now));
	next = sooner (next, cancel_some (b, now));
	if (!b->listing && !b->asking) {
		if (now >= b->list_at_ms)
			start_listing (b);
		if (!b->listing)
			next = sooner (next, b->list_at_ms > now ? b->list_at_ms - now : 0);
	}
	for (struct job *j = b->jobs; j; j = j->next)
		if (j->ended && !(b->submitting && b->submitting->job == j))
			next = 0;
	if (next >= 0)
		loop_timer_start (b->timer, next < HOUR_MS ? next + 1 : HOUR_MS, false);
}

static void on_timer (void *arg)
{
	look (arg);
}

/* A manager that went away is a reason to ask soon what has become of its job. */
void batch_poll (void *self)
{
	struct batch *b = self;
	bool gone = false;

	for (struct job *j = b->jobs; j; j = j->next) {
		bool up = connected (b, j);
		gone = gone || (j->up && !up);
		j->up = up;
		j->was_up = j->was_up || up;
	}
	if (gone && !b->bad) {
		list_in (b, SOON_MS);
		loop_timer_start (b->timer, SOON_MS + 1, false);
	}
}

/* ---- life --------------------------------------------------------------------------------------------------- */

/* Scripts of earlier runs. */
static void remove_scripts (const char *dir)
{
	DIR *d = opendir (dir);
	struct dirent *e;

	while (d && (e = readdir (d))) {
		size_t n = strlen (e->d_name);
		if (strncmp (e->d_name, "block-", 6) == 0 && n > 3 && strcmp (e->d_name + n - 3, ".sh") == 0) {
			char *path = xasprintf ("%s/%s", dir, e->d_name);
			unlink (path);
			free (path);
		}
	}
	if (d)
		closedir (d);
}

static void make_prefix (struct batch *b)
{
	uint32_t h = 2166136261u;	/* FNV-1a of where this endpoint lives: another with its name has other jobs */

	for (const char *p = b->env.log_dir; *p; p++)
		h = (h ^ (unsigned char) *p) * 16777619u;
	snprintf (b->prefix, sizeof (b->prefix), "weft-%.64s-%04x", b->env.endpoint, (unsigned) ((h >> 16 ^ h) & 0xffff));
}

void *batch_create (const struct batch_system *s, const struct provider_env *env, struct err *err)
{
	struct batch *b = xcalloc (1, sizeof (*b));
	uint16_t run_number;

	(void) err;
	b->s = s;
	b->env = *env;
	b->conf = env->conf;
	b->submits = xcalloc ((size_t) b->conf->max_submits_per_hour, sizeof (*b->submits));
	b->strays = xcalloc (IDS_MAX, sizeof (*b->strays));
	make_prefix (b);
	ids_random (&run_number, sizeof (run_number));
	snprintf (b->run, sizeof (b->run), "%04x", (unsigned) run_number);
	remove_scripts (env->log_dir);
	b->timer = loop_timer_create (env->loop, on_timer, b);
	loop_timer_start (b->timer, 0, false);	/* the first listing finds what an earlier run left */
	return b;
}

/* Without waiting: the agent goes. */
static void cancel_rest (struct batch *b)
{
	extern char **environ;
	const char *ids[IDS_MAX];
	struct batch_args *a;
	posix_spawn_file_actions_t fa;
	size_t n = known_ids (b, ids, false);
	pid_t pid;

	for (size_t i = 0; i < b->nstrays && n < IDS_MAX; i++)
		ids[n++] = b->strays[i];
	if (!n)
		return;
	a = xcalloc (1, sizeof (*a));
	b->s->cancel (b->env.conf, ids, n, a);
	for (size_t i = 0; i < n; i++)
		log_warn ("batch", "job left at the end, cancelled without waiting", "job=%s", ids[i]);
	posix_spawn_file_actions_init (&fa);
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_addopen (&fa, fd, "/dev/null", O_RDWR, 0);
	if (posix_spawnp (&pid, a->v[0], &fa, NULL, a->v, environ) != 0)
		log_warn ("batch", "cannot run the cancel command", "command=%s", a->v[0]);
	posix_spawn_file_actions_destroy (&fa);
	batch_args_free (a);
}

void batch_destroy (void *self)
{
	struct batch *b = self;
	struct call *calls[] = { b->submitting, b->listing, b->asking, b->cancelling };

	for (size_t i = 0; i < sizeof (calls) / sizeof (calls[0]); i++)
		if (calls[i])
			calls[i]->b = NULL;
	cancel_rest (b);
	while (b->jobs) {
		struct job *j = b->jobs;
		b->jobs = j->next;
		unlink (j->script);
		job_free (j);
	}
	loop_timer_destroy (&b->timer);
	free (b->submits);
	free (b->strays);
	free (b);
}

int64_t batch_walltime_s (const void *conf)
{
	return ((const struct batch_conf *) conf)->walltime_s;
}

/* ---- without a job ------------------------------------------------------------------------------------------ */

void batch_describe (const struct batch_system *s, const void *conf, const struct provider_block *pb, struct buf *out)
{
	char name[BATCH_NAME_MAX], *script = xasprintf ("%s/block-%s.sh", pb->log_dir, pb->id), *log;
	struct batch_args *a = xcalloc (1, sizeof (*a));
	struct batch_job bj;

	snprintf (name, sizeof (name), "weft-%.64s-%s", pb->endpoint, pb->id);
	fill_job (&bj, pb, name, script, &log);
	s->submit (conf, &bj, a);
	script_render (s, conf, &bj, out);
	buf_str (out, "# submitted with: ");
	provider_render_argv ((const char *const *) a->v, out);
	batch_args_free (a);
	free (script);
	free (log);
}

int batch_check_text (const char *key, const char *name, const char *value, bool lines, struct err *err)
{
	for (const char *p = value ? value : ""; *p; p++)
		if (((unsigned char) *p < ' ' && !(lines && (*p == '\n' || *p == '\t' || *p == '\r'))) || *p == 0x7f)
			return err_set (err, ERR_INVALID, FAULT_USER, "provider.%s.%s: a %s cannot stand there", key, name,
					*p == '\n' ? "line end" : "control character");
	return 0;
}

int batch_check (const char *key, const struct batch_conf *c, unsigned nodes, struct err *err)
{
	if (c->launcher == LAUNCH_SINGLE && nodes > 1)
		return err_set (err, ERR_INVALID, FAULT_USER,
				"provider.%s.launcher: single starts one node, scaling.nodes_per_block is %u: set srun, mpiexec or ssh", key, nodes);
	if (batch_check_text (key, "worker_init", c->worker_init, true, err) < 0
	    || batch_check_text (key, "scheduler_options", c->scheduler_options, true, err) < 0)
		return -1;
	return batch_check_text (key, "launcher_options", c->launcher_options, false, err);
}
