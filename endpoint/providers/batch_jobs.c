/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs of a batch system: made, submitted within the budget of an hour, forgotten. */
#include "endpoint/providers/batch_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SCRIPT_MAX = 1 << 20 };

void batch_job_free (struct job *j)
{
	free (j->script);
	free (j->text);
	free (j);
}

struct job *batch_find_block (struct batch *b, const char *block)
{
	for (struct job *j = b->jobs; j; j = j->next)
		if (!j->ended && strcmp (j->block, block) == 0)
			return j;
	return NULL;
}

void batch_tell (struct batch *b, struct job *j, enum provider_state state)
{
	b->env.on_block (j->block, state, false, j->words, b->env.arg);
}

void batch_end (struct job *j, bool failed, const char *fmt, ...)
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

bool batch_forget_ended (struct batch *b)
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
		batch_job_free (j);
		return true;
	}
	return false;
}

bool batch_record (void *self, struct takeover_block *r)
{
	const struct job *j = batch_find_block (self, r->id);

	if (!j || j->phase != JOB_THERE || j->cancelled || strlen (j->id) >= sizeof (r->job))
		return false;
	snprintf (r->job, sizeof (r->job), "%s", j->id);
	snprintf (r->name, sizeof (r->name), "%s", j->name);
	r->nodes = j->nnodes;
	return true;
}

void batch_adopt (void *self, const struct takeover_block *r)
{
	struct batch *b = self;
	struct job *j = xcalloc (1, sizeof (*j));
	const char *run = r->name + strnlen (b->prefix, strlen (r->name));

	snprintf (j->block, sizeof (j->block), "%s", r->id);
	snprintf (j->id, sizeof (j->id), "%s", r->job);
	snprintf (j->name, sizeof (j->name), "%s", r->name);
	snprintf (j->words, sizeof (j->words), "taken over from an earlier run");
	j->nnodes = r->nodes;
	j->phase = JOB_THERE;
	j->was_up = true;	/* if it is over by now it did not fail for want of a manager */
	j->script = xasprintf ("%s/block-%s-%.*s.sh", b->env.log_dir, r->id, (int) strcspn (run, "-/"), run);
	j->next = b->jobs;
	b->jobs = j;
}

void batch_leave (void *self)
{
	struct batch *b = self;

	b->left = true;
	loop_timer_stop (b->timer);
}

void batch_job_text (void *self, const char *block_id, struct buf *out)
{
	struct batch *b = self;
	const struct job *j = batch_find_block (b, block_id);

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
	errno = ENOSPC;		/* which a short write does not say */
	if (write (fd, j->text, n) != (ssize_t) n)
		rc = err_errno (err, "writing %s", j->script);
	if (close (fd) < 0 && rc == 0)
		rc = err_errno (err, "writing %s", j->script);
	return rc;
}

void batch_fill_job (struct batch_job *bj, const struct provider_block *pb, const char *name, const char *script, char **log)
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
	batch_fill_job (&bj, pb, j->name, j->script, &log);
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
			batch_tell (b, j, PROVIDER_PENDING);
			buf_fini (&text);
			loop_timer_start (b->timer, 0, false);
			return 0;
		}
	}
	buf_fini (&text);
	batch_job_free (j);
	return -1;
}

void batch_there (struct batch *b, struct job *j, const char *id)
{
	snprintf (j->id, sizeof (j->id), "%s", id);
	j->phase = JOB_THERE;
	snprintf (j->words, sizeof (j->words), "submitted");
	log_info ("batch", "job submitted", "block=%s job=%s name=%s", j->block, j->id, j->name);
	batch_tell (b, j, PROVIDER_PENDING);
}

static void submitted (struct batch *b, struct job *j, int status, char *out, const char *said, const struct err *err)
{
	char id[BATCH_ID_MAX];
	const char *advice;

	if (status == 0 && b->s->submitted (out, id) == 0) {
		batch_there (b, j, id);
		batch_list_in (b, SOON_MS);
		return;
	}
	if (status == 0 || (err && err->code == ERR_TIMEOUT) || batch_says (said, b->s->down)) {
		/* it may have been taken all the same: its name tells, once there is a listing */
		j->phase = JOB_UNSURE;
		j->absent = 0;
		batch_in_trouble (b, "submitting", status == 0 ? "no job id in its answer" : said);
		snprintf (j->words, sizeof (j->words), "%.290s", b->trouble);
		batch_tell (b, j, PROVIDER_PENDING);
		batch_list_in (b, SOON_MS);
		return;
	}
	log_warn ("batch", "job refused", "block=%s said=%s", j->block, said);
	advice = batch_advice (b->s, said);
	batch_end (j, true, "%s refused the job: %.200s%s%s", b->s->title, said, advice ? "; " : "", advice ? advice : "");
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
	batch_tell (b, j, PROVIDER_PENDING);
}

int64_t batch_submit_next (struct batch *b, int64_t now)
{
	struct batch_args *a;
	struct batch_job bj;
	struct job *j = b->jobs;
	struct err err;
	int64_t wait = budget_wait (b, now);
	char *log;

	while (j && (j->phase != JOB_WAITING || j->ended))
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
	j->phase = JOB_SUBMITTING;
	if (batch_run (b, &b->submitting, j, a, b->s->on_stdin ? j->text : NULL, submitted, &err) < 0)
		batch_end (j, true, "%.290s", err.text);
	return -1;
}
