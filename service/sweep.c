/* SPDX-License-Identifier: Apache-2.0 */
/* Which files go: SPEC.md, section 9. A payload's, when its task has ended or is unknown. A result's, when its task is unknown, or has ended
 * with another result. As long as a task has not ended nothing of it goes: an endpoint without connection may hold its result. */
#include "service/sweep.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "proto/bulk.h"
#include "proto/layout.h"

#define MOD "sweep"
#define STEP_MS 20
#define STEP_ENTRIES 256	/* looked at in a step */
#define STEP_ASKED 64		/* of them asked Redis about */
#define ROUND_MS 60000		/* from one round to the next, unless the grace is shorter */

struct sweep {
	struct rds *r;
	struct bulk *b;
	int64_t grace_ms;
	struct loop_timer *timer;
	size_t asked, removed;
	bool over, failed, stopped;	/* over: the walk is at its end */
};

struct file { struct sweep *s; enum bulk_kind kind; struct id task; char name[BULK_NAME_MAX + 1]; };

static int64_t pause_ms (const struct sweep *s)
{
	return s->grace_ms < ROUND_MS ? s->grace_ms : ROUND_MS;
}

static void step_done (struct sweep *s)
{
	if (s->asked || s->stopped)
		return;
	if (s->over && s->removed)
		log_info (MOD, "files that no task names were removed", "files=%zu", s->removed);
	if (s->over)
		s->removed = 0;
	loop_timer_start (s->timer, s->over || s->failed ? pause_ms (s) : STEP_MS, false);
	s->failed = false;
}

static bool names (const struct redisReply *record, const struct file *f)
{
	struct msg_result m;
	struct err err;

	return record->type == REDIS_REPLY_STRING && msg_result_decode (&m, record->str, record->len, &err) == 0 && (m.flags & RESULT_BULK) &&
	       !strcmp (m.bulk.name, f->name);
}

/* {s, r}: nothing for an unknown task. */
static bool needed (const struct redisReply *reply, const struct file *f)
{
	const struct redisReply *state = reply->element[0];

	if (state->type != REDIS_REPLY_STRING || state->len != 1)
		return false;
	if (!msg_state_ended (state->str[0] - '0'))
		return true;
	return f->kind == BULK_RESULT && names (reply->element[1], f);
}

static void on_task (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct file *f = arg;
	struct sweep *s = f->s;
	struct err e = { 0 };

	(void) r;
	s->asked--;
	if (rds_error (reply, err, &e) || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
		s->failed = true; /* Redis is away or loading: it says nothing about tasks */
	else if (!needed (reply, f)) {
		bulk_delete (s->b, f->name);
		s->removed++;
	}
	free (f);
	step_done (s);
}

static void ask (struct sweep *s, const struct file *f)
{
	struct file *copy = xcalloc (1, sizeof (*copy));
	char key[LAYOUT_KEY_MAX];

	*copy = *f;
	copy->s = s;
	s->asked++;
	layout_key (key, "task", &f->task, NULL);
	/* of a payload's task the record, which may be large, says nothing */
	rds_commandf (s->r, on_task, copy, f->kind == BULK_RESULT ? "HMGET %s s r" : "HMGET %s s none", key);
}

static void step (void *arg)
{
	struct sweep *s = arg;
	struct file f;
	int left = STEP_ENTRIES, found = -1;

	s->over = false;
	if (!rds_up (s->r)) {
		s->failed = true;
		step_done (s);
		return;
	}
	s->asked = 1; /* until all are asked: answers may come at once */
	while (left-- > 0 && s->asked <= STEP_ASKED && found != 0)
		if ((found = bulk_old (s->b, s->grace_ms, 1, f.name, &f.task, &f.kind)) > 0)
			ask (s, &f);
	s->over = found == 0;
	s->asked--;
	step_done (s);
}

struct sweep *sweep_create (struct loop *l, struct rds *r, struct bulk *b, int64_t grace_ms)
{
	struct sweep *s = xcalloc (1, sizeof (*s));

	s->r = r;
	s->b = b;
	s->grace_ms = grace_ms;
	s->timer = loop_timer_create (l, step, s);
	loop_timer_start (s->timer, pause_ms (s), false);
	return s;
}

void sweep_stop (struct sweep *s)
{
	if (!s)
		return;
	s->stopped = true;
	loop_timer_stop (s->timer);
}

void sweep_destroy (struct sweep **sp)
{
	struct sweep *s = *sp;

	if (!s)
		return;
	loop_timer_destroy (&s->timer);
	free (s);
	*sp = NULL;
}
