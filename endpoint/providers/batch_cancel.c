/* SPDX-License-Identifier: Apache-2.0 */
/* Cancelling jobs that are not wanted any more, and those of ours that nobody wants. */
#include "endpoint/providers/batch_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/spawn.h"
#include "common/xmem.h"

enum { CANCEL_AGAIN_MS = 5000 };

void batch_cancel (void *self, const char *block_id, int64_t grace_ms)
{
	struct batch *b = self;
	struct job *j = batch_find_block (b, block_id);

	(void) grace_ms;	/* batch systems have a grace of their own between SIGTERM and SIGKILL */
	if (!j)
		return;
	j->cancelled = true;
	if (j->phase == JOB_WAITING)
		batch_end (j, false, "%s", "");
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
			batch_in_trouble (b, "cancelling jobs", said);
	}
	batch_list_in (b, SOON_MS);
}

int64_t batch_cancel_some (struct batch *b, int64_t now)
{
	const char *ids[IDS_MAX];
	struct batch_args *a;
	size_t n = 0;
	int64_t wait = -1;

	if (b->cancelling)
		return -1;
	for (struct job *j = b->jobs; j && n < IDS_MAX; j = j->next) {
		int64_t due = j->cancel_sent_ms ? j->cancel_sent_ms + CANCEL_AGAIN_MS - now : 0;
		if (!j->cancelled || j->ended || j->phase != JOB_THERE)
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
	batch_run (b, &b->cancelling, NULL, a, NULL, cancelled, NULL);
	return -1;
}

static void cancel_and_go (struct batch *b, const char *const *ids, size_t n)
{
	struct batch_args *a = xcalloc (1, sizeof (*a));
	struct spawn_opts o = { .argv = (const char *const *) a->v };
	struct spawn *child;
	struct err err;

	b->s->cancel (b->env.conf, ids, n, a);
	if ((child = spawn_start (b->env.loop, &o, NULL, NULL, &err)))
		spawn_forget (&child);
	else
		log_err (LOG_WARN, "batch", "cannot run the cancel command", &err);
	batch_args_free (a);
}

void batch_cancel_rest (struct batch *b)
{
	const char *ids[IDS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < b->nstrays; i++)
		ids[n++] = b->strays[i];
	for (struct job *j = b->jobs; j; j = j->next) {
		if (j->phase != JOB_THERE || j->ended)
			continue;
		if (n == IDS_MAX) {
			cancel_and_go (b, ids, n);
			n = 0;
		}
		log_warn ("batch", "job left at the end, cancelled without waiting", "job=%s", j->id);
		ids[n++] = j->id;
	}
	if (n)
		cancel_and_go (b, ids, n);
}
