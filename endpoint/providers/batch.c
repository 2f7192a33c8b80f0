/* SPDX-License-Identifier: Apache-2.0 */
/* See batch.h. Commands are in batch_call.c, jobs and their submission in batch_jobs.c, listings in batch_listing.c, cancelling in
 * batch_cancel.c; here is the turn of things. Nothing in these files waits. */
#include "endpoint/providers/batch_internal.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/xmem.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int64_t sooner (int64_t a, int64_t b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* Everything that is due, and the time of what is next. */
void batch_look (struct batch *b)
{
	int64_t now = clock_now_ms (), next = -1;

	if (b->left)
		return;
	while (batch_forget_ended (b))
		;
	next = sooner (next, batch_submit_next (b, now));
	next = sooner (next, batch_cancel_some (b, now));
	if (!b->listing && !b->asking) {
		if (now >= b->list_at_ms)
			batch_start_listing (b);
		if (!b->listing)
			next = sooner (next, b->list_at_ms > now ? b->list_at_ms - now : 0);
	}
	for (struct job *j = b->jobs; j; j = j->next)
		if (j->ended && !(b->submitting && b->submitting->job == j))
			next = 0;
	if (next >= 0)
		loop_timer_start (b->timer, next < HOUR_MS ? next + 1 : HOUR_MS, false);
}

/* A manager that went away is a reason to ask soon what has become of its job. */
void batch_poll (void *self)
{
	struct batch *b = self;
	bool gone = false;

	if (b->left)
		return;
	for (struct job *j = b->jobs; j; j = j->next) {
		bool up = batch_connected (b, j);
		gone = gone || (j->up && !up);
		j->up = up;
		j->was_up = j->was_up || up;
	}
	if (gone && !b->bad) {
		batch_list_in (b, SOON_MS);
		loop_timer_start (b->timer, SOON_MS + 1, false);
	}
}

/* ---- life --------------------------------------------------------------------------------------------------- */

static bool wanted (const struct batch *b, const char *script)
{
	for (const struct job *j = b->jobs; j; j = j->next)
		if (strcmp (j->script, script) == 0)
			return true;
	return false;
}

/* Scripts of earlier runs, but for those of jobs that were taken over. */
static void remove_scripts (const struct batch *b)
{
	const char *dir = b->env.log_dir;
	DIR *d = opendir (dir);
	struct dirent *e;

	while (d && (e = readdir (d))) {
		size_t n = strlen (e->d_name);
		if (strncmp (e->d_name, "block-", 6) == 0 && n > 3 && strcmp (e->d_name + n - 3, ".sh") == 0) {
			char *path = xasprintf ("%s/%s", dir, e->d_name);
			if (!wanted (b, path))
				unlink (path);
			free (path);
		}
	}
	if (d)
		closedir (d);
}

static void on_timer (void *arg)
{
	struct batch *b = arg;

	if (!b->swept)
		remove_scripts (b);
	b->swept = true;
	batch_look (b);
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
	b->timer = loop_timer_create (env->loop, on_timer, b);
	loop_timer_start (b->timer, 0, false);	/* the first listing finds what an earlier run left */
	return b;
}

void batch_destroy (void *self)
{
	struct batch *b = self;
	struct call *calls[] = { b->submitting, b->listing, b->asking, b->cancelling };

	for (size_t i = 0; i < sizeof (calls) / sizeof (calls[0]); i++)
		if (calls[i])
			calls[i]->b = NULL;
	if (!b->left)
		batch_cancel_rest (b);
	while (b->jobs) {
		struct job *j = b->jobs;
		b->jobs = j->next;
		if (!b->left)
			unlink (j->script);
		batch_job_free (j);
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
	batch_fill_job (&bj, pb, name, script, &log);
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
