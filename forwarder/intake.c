/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/intake.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "common/xmem.h"

#define MOD "intake"
#define GROUP "forwarder"
#define BLOCK_MS "20000"	/* a read that long without news is repeated: it shows that the connection lives */
#define CLAIM_EVERY_MS 5000
#define CLAIM_COUNT "500"
#define LEFT_MS "5000"		/* read that long ago and still pending: whoever read it does not take it */
#define AGAIN_MS 500		/* pause after Redis refused: no group (flushed), read-only, no disk */
#define CHANGES_COUNT 1000
#define FINISH_BATCH 256
#define FINISH_ENTRY 44

struct intake {
	struct rds *cmd, *tasks, *control;
	struct intake_opts o;
	char *consumer;
	char tasks_key[LAYOUT_KEY_MAX], control_key[LAYOUT_KEY_MAX];
	bool started, reading, listening, claiming, caught_up;
	bool reclaim;			/* control: all that is pending, however short a time; the connection is new */
	char changes_from[FINISH_ENTRY];	/* of the control stream: what has not been looked through for changes */
	bool taken;			/* by the last read of tasks: the look at the control stream behind it settles that */
	unsigned unsettled, unlooked;	/* reads that wait for such a look; of these, whose look failed */
	struct loop_timer *claim_timer;
	struct loop_defer *finish;
	char (*finished)[FINISH_ENTRY];
	size_t nfinished, finished_cap;
};

static void read_tasks (struct intake *i);
static void read_control (struct intake *i);

/* ---- entries ---------------------------------------------------------------------------------------------------- */

static const struct redisReply *field (const struct redisReply *kv, const char *name)
{
	if (kv->type != REDIS_REPLY_ARRAY)
		return NULL;
	for (size_t k = 0; k + 1 < kv->elements; k += 2)
		if (kv->element[k]->type == REDIS_REPLY_STRING && !strcmp (kv->element[k]->str, name) &&
		    kv->element[k + 1]->type == REDIS_REPLY_STRING)
			return kv->element[k + 1];
	return NULL;
}

static bool is_entry (const struct redisReply *e)
{
	return e->type == REDIS_REPLY_ARRAY && e->elements == 2 && e->element[0]->type == REDIS_REPLY_STRING;
}

static void take_task (struct intake *i, const struct redisReply *e, bool claimed)
{
	const struct redisReply *v;
	struct layout_queued q;
	struct err err = { 0 };
	if (!is_entry (e))
		return;
	v = field (e->element[1], "t");
	if (!v)
		err_set (&err, ERR_INVALID, FAULT_SITE, "queue entry without the field t");
	if (!v || layout_queued_decode (&q, v->str, v->len, &err) < 0) {
		bool named = v && layout_queued_task (v->str, v->len, &q.task) == 0;
		i->o.ops->on_unreadable (named ? &q.task : NULL, e->element[0]->str, e->element[0]->len, &err, i->o.arg);
		return;
	}
	i->o.ops->on_task (&q, e->element[0]->str, e->element[0]->len, claimed, i->o.arg);
}

/* XREADGROUP of one stream: nil (time over) or [[key, [entry, ...]]]. */
static const struct redisReply *entries_of (const struct redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 1 || reply->element[0]->type != REDIS_REPLY_ARRAY ||
	    reply->element[0]->elements != 2 || reply->element[0]->element[1]->type != REDIS_REPLY_ARRAY)
		return NULL;
	return reply->element[0]->element[1];
}

static void on_group (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	(void)r;
	(void)arg;
	if (!err && reply->type == REDIS_REPLY_ERROR && strncmp (reply->str, "BUSYGROUP", 9))
		log_warn (MOD, "making the consumer group failed", "err=%s", reply->str);
}

static void make_groups (struct intake *i)
{
	/* BUSYGROUP when it is there: what we want. MKSTREAM: the endpoint may have no task yet. */
	rds_commandf (i->cmd, on_group, NULL, "XGROUP CREATE %s " GROUP " 0 MKSTREAM", i->tasks_key);
	rds_commandf (i->cmd, on_group, NULL, "XGROUP CREATE %s " GROUP " 0 MKSTREAM", i->control_key);
}

/* ---- claims, and consumers that are dead ---------------------------------------------------------------------------- */

/* Is it no reply of XAUTOCLAIM (cursor, entries, ...)? As rds_error. */
static const struct err *claim_error (const struct redisReply *reply, const struct err *err, struct err *room)
{
	err = rds_error (reply, err, room);
	if (err || (reply->type == REDIS_REPLY_ARRAY && reply->elements >= 2 && reply->element[0]->type == REDIS_REPLY_STRING &&
		    reply->element[1]->type == REDIS_REPLY_ARRAY))
		return err;
	err_set (room, ERR_INTERNAL, FAULT_SITE, "XAUTOCLAIM: unexpected reply");
	return room;
}

/* KEYS 1 stream; ARGV 1 group, 2 our consumer. In one step: else what a consumer is given meanwhile would go with it. One that lives all the
 * same, and is given something later, is made again by Redis. */
static struct rds_script forget_script = { .name = "forget_consumers", .body =
	"#!lua flags=allow-oom\n"
	"local n = 0\n"
	"for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do\n"
	"	if c[2] ~= ARGV[2] and c[4] == 0 then\n"
	"		n = n + redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], c[2])\n"
	"	end\n"
	"end\n"
	"return n\n" };

/* Behind a claim of all that is pending: those of dead forwarders have nothing left. */
static void forget_consumers (struct intake *i, const char *key)
{
	const char *argv[] = { key, GROUP, i->consumer };
	size_t len[3];
	for (size_t k = 0; k < 3; k++)
		len[k] = strlen (argv[k]);
	rds_script (i->cmd, &forget_script, NULL, NULL, 1, 3, argv, len);
}

/* ---- changes that come before tasks ------------------------------------------------------------------------------- */

struct look { struct intake *i; unsigned settles; };

static void look_for_changes (struct intake *i, struct rds *on, rds_f *cb, void *arg)
{
	char count[24];
	const char *argv[] = { "XRANGE", i->control_key, i->changes_from, "+", "COUNT", count };
	size_t len[6];
	snprintf (count, sizeof (count), "%d", CHANGES_COUNT);
	for (size_t k = 0; k < 6; k++)
		len[k] = strlen (argv[k]);
	if (on == i->tasks)
		rds_blocking (on, cb, arg, 6, argv, len); /* it stands behind a read that may wait */
	else
		rds_command (on, cb, arg, 6, argv, len);
}

/* The reader of the control stream does these as well, and all others; twice is no harm. 1: there may be more. -1: the look failed. */
static int take_changes (struct intake *i, const struct redisReply *reply, const struct err *err)
{
	struct err e = { 0 };
	if (rds_error (reply, err, &e) || reply->type != REDIS_REPLY_ARRAY)
		return -1;
	for (size_t k = 0; k < reply->elements; k++) {
		const struct redisReply *ent = reply->element[k], *c, *t;
		struct id function;
		if (!is_entry (ent))
			continue;
		snprintf (i->changes_from, sizeof (i->changes_from), "(%s", ent->element[0]->str);
		c = field (ent->element[1], "c");
		t = field (ent->element[1], "t");
		if (!c || strcmp (c->str, "function") || !t || t->len != ID_BYTES)
			continue;
		memcpy (function.b, t->str, ID_BYTES);
		i->o.ops->on_control (c->str, &function, i->o.arg);
	}
	return reply->elements >= CHANGES_COUNT;
}

static void settle (struct intake *i, unsigned n);

static void on_look (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct look l = *(struct look *)arg;
	int rc = take_changes (l.i, reply, err);
	(void)r;
	free (arg);
	if (!l.i->started)
		return;
	if (rc < 0)
		l.i->unlooked += l.settles;
	else if (rc > 0)
		settle (l.i, l.settles);
	else if (!(l.i->unsettled -= l.settles))
		l.i->o.ops->on_settled (l.i->o.arg);
}

/* With a look of its own, on the connection for commands. */
static void settle (struct intake *i, unsigned n)
{
	struct look *l = xcalloc (1, sizeof (*l));
	*l = (struct look) { i, n };
	look_for_changes (i, i->cmd, on_look, l);
}

static void settle_again (struct intake *i)
{
	unsigned n = i->unlooked;
	if (!n || !rds_up (i->cmd))
		return;
	i->unlooked = 0;
	settle (i, n);
}

/* Behind a read of tasks. */
static void on_changes (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct intake *i = arg;
	int rc = take_changes (i, reply, err);
	(void)r;
	if (!i->taken || !i->started)
		return;
	i->taken = false;
	if (rc < 0) {
		i->unlooked++;
		settle_again (i); /* or on_claim_timer does it */
	} else if (rc > 0) {
		settle (i, 1);
	} else if (!--i->unsettled) {
		i->o.ops->on_settled (i->o.arg);
	}
}

bool intake_settled (const struct intake *i)
{
	return !i->unsettled;
}

/* ---- new entries -------------------------------------------------------------------------------------------------- */

/* Redis may be away, may refuse for a while (READONLY, MISCONF, BUSY) or may have lost the group (flushed). The timer tries again, with
 * a claim first: what this read was given and did not bring us is pending. */
static void read_failed (struct intake *i, const struct err *err)
{
	if (!i->started)
		return;
	if (err->code != ERR_UNAVAILABLE && err->code != ERR_TIMEOUT) {
		log_warn (MOD, "reading the stream failed", "err=%s", err->text);
		make_groups (i);
	}
	loop_timer_start (i->claim_timer, AGAIN_MS, false);
}

/* What a read brought; entries NULL: nothing until its time was over. -1: it failed, and is tried again later. */
static int read_done (struct intake *i, const struct redisReply *reply, const struct err *err, const struct redisReply **entries)
{
	struct err e = { 0 };
	err = rds_error (reply, err, &e);
	if (err) {
		read_failed (i, err);
		return -1;
	}
	*entries = entries_of (reply);
	return 0;
}

static void on_tasks (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct intake *i = arg;
	const struct redisReply *es;
	(void)r;
	i->reading = false;
	if (read_done (i, reply, err, &es) < 0)
		return;
	if (es && es->elements) {
		i->taken = true;
		i->unsettled++;
	}
	for (size_t k = 0; es && k < es->elements; k++)
		take_task (i, es->element[k], false);
	if (!es)
		i->o.ops->on_empty (i->o.arg);
	read_tasks (i);
}

static void read_stream (struct rds *r, rds_f *cb, struct intake *i, const char *key, size_t count)
{
	char n[24];
	const char *argv[] = { "XREADGROUP", "GROUP", GROUP, i->consumer, "COUNT", n, "BLOCK", BLOCK_MS, "STREAMS", key, ">" };
	size_t len[11];
	snprintf (n, sizeof (n), "%zu", count);
	for (size_t k = 0; k < 11; k++)
		len[k] = strlen (argv[k]);
	rds_blocking (r, cb, i, 11, argv, len);
}

static void read_tasks (struct intake *i)
{
	size_t room;
	if (!i->started || i->reading || !i->caught_up || !rds_up (i->tasks))
		return;
	room = i->o.ops->room (i->o.arg);
	if (!room)
		return; /* intake_wake comes */
	i->reading = true;
	read_stream (i->tasks, on_tasks, i, i->tasks_key, room < i->o.read_count ? room : i->o.read_count);
	look_for_changes (i, i->tasks, on_changes, i);
}

static void take_controls (struct intake *i, const struct redisReply *es)
{
	for (size_t k = 0; es && k < es->elements; k++) {
		const struct redisReply *ent = es->element[k], *c, *t;
		struct id task = { { 0 } };
		if (!is_entry (ent))
			continue;
		c = field (ent->element[1], "c");
		t = field (ent->element[1], "t");
		if (t && t->len == ID_BYTES)
			memcpy (task.b, t->str, ID_BYTES);
		if (c)
			i->o.ops->on_control (c->str, &task, i->o.arg); /* first: what it writes to Redis must not be lost with the entry */
		rds_commandf (i->cmd, NULL, NULL, "XACK %s " GROUP " %s", i->control_key, ent->element[0]->str);
		rds_commandf (i->cmd, NULL, NULL, "XDEL %s %s", i->control_key, ent->element[0]->str);
	}
}

static void on_controls (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct intake *i = arg;
	const struct redisReply *es;
	(void)r;
	i->listening = false;
	if (read_done (i, reply, err, &es) < 0)
		return;
	take_controls (i, es);
	read_control (i);
}

static void on_controls_claimed (struct rds *r, struct redisReply *reply, const struct err *err, void *arg);

static void claim_controls (struct intake *i, const char *cursor)
{
	rds_commandf (i->control, on_controls_claimed, i, "XAUTOCLAIM %s " GROUP " %s %s %s COUNT " CLAIM_COUNT, i->control_key,
		      i->consumer, i->reclaim ? "0" : LEFT_MS, cursor);
}

static void on_controls_claimed (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct intake *i = arg;
	struct err e = { 0 };
	(void)r;
	if (!(err = claim_error (reply, err, &e)))
		take_controls (i, reply->element[1]);
	if (err || !i->started) {
		i->listening = false;
		if (err)
			read_failed (i, err);
	} else if (strcmp (reply->element[0]->str, "0-0")) {
		claim_controls (i, reply->element[0]->str);
	} else {
		if (i->reclaim)
			forget_consumers (i, i->control_key);
		i->reclaim = false;
		read_stream (i->control, on_controls, i, i->control_key, 1000);
	}
}

/* First what was given to somebody who did not take it: a dead forwarder, or a connection of ours that was lost. */
static void read_control (struct intake *i)
{
	if (!i->started || i->listening || !rds_up (i->control))
		return;
	i->listening = true;
	claim_controls (i, "0-0");
}

static void on_reader_state (struct rds *r, bool up, const char *why, void *arg)
{
	struct intake *i = arg;
	(void)why;
	if (!up)
		return;
	if (r == i->tasks) {
		read_tasks (i);
	} else {
		i->reclaim = true;
		read_control (i);
	}
}

/* ---- entries that others left -------------------------------------------------------------------------------------- */

static void on_claimed (struct rds *r, struct redisReply *reply, const struct err *err, void *arg);

static void claim_from (struct intake *i, const char *cursor)
{
	/* The first round takes everything at once: whoever holds it is not the lease's holder. Later ones leave alone what was read
	 * a moment ago, by ourselves. */
	const char *idle = i->caught_up ? LEFT_MS : "0";
	i->claiming = true;
	rds_commandf (i->cmd, on_claimed, i, "XAUTOCLAIM %s " GROUP " %s %s %s COUNT " CLAIM_COUNT " JUSTID", i->tasks_key,
		      i->consumer, idle, cursor);
}

static void on_claimed_entry (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct intake *i = arg;
	(void)r;
	if (err || !i->started || reply->type != REDIS_REPLY_ARRAY)
		return; /* the next round takes it */
	for (size_t k = 0; k < reply->elements; k++)
		take_task (i, reply->element[k], true);
}

static void caught_up (struct intake *i)
{
	i->claiming = false;
	if (!i->caught_up) {
		i->caught_up = true;
		forget_consumers (i, i->tasks_key);
		i->o.ops->on_caught_up (i->o.arg);
	}
	loop_timer_start (i->claim_timer, CLAIM_EVERY_MS, false);
	read_tasks (i);
}

static void on_claimed (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct intake *i = arg;
	struct err e = { 0 };
	const struct redisReply *ids;
	bool any = false;
	(void)r;
	if ((err = claim_error (reply, err, &e))) {
		i->claiming = false;
		read_failed (i, err);
		return;
	}
	ids = reply->element[1];
	for (size_t k = 0; k < ids->elements; k++) {
		const struct redisReply *id = ids->element[k];
		if (id->type == REDIS_REPLY_STRING && !i->o.ops->in_hand (id->str, id->len, i->o.arg)) {
			rds_commandf (i->cmd, on_claimed_entry, i, "XRANGE %s %s %s", i->tasks_key, id->str, id->str);
			any = true;
		}
	}
	if (any) { /* behind the reads: what changed before any of them was queued is seen then */
		i->unsettled++;
		settle (i, 1);
	}
	if (strcmp (reply->element[0]->str, "0-0"))
		claim_from (i, reply->element[0]->str);
	else
		caught_up (i);
}

static void on_claim_timer (void *arg)
{
	struct intake *i = arg;
	if (i->started && !i->claiming && rds_up (i->cmd))
		claim_from (i, "0-0"); /* else intake_redis_up does it */
	settle_again (i);
	read_tasks (i);
	read_control (i);
}

/* ---- entries that are done ----------------------------------------------------------------------------------------- */

static void flush_finished (void *arg)
{
	struct intake *i = arg;
	const char *argv[FINISH_BATCH + 3];
	size_t len[FINISH_BATCH + 3], at = 0;
	if (!rds_up (i->cmd)) { /* they stay pending; the claim finds them, and that they have ended */
		i->nfinished = 0;
		return;
	}
	while (at < i->nfinished) { /* a failure leaves them pending, too */
		size_t n = i->nfinished - at < FINISH_BATCH ? i->nfinished - at : FINISH_BATCH;
		argv[0] = "XACK";
		argv[1] = i->tasks_key;
		argv[2] = GROUP;
		for (size_t k = 0; k < n; k++)
			argv[3 + k] = i->finished[at + k];
		for (size_t k = 0; k < n + 3; k++)
			len[k] = strlen (argv[k]);
		rds_command (i->cmd, NULL, NULL, (int)n + 3, argv, len);
		argv[1] = "XDEL";
		argv[2] = i->tasks_key;
		len[1] = 4;
		len[2] = strlen (i->tasks_key);
		rds_command (i->cmd, NULL, NULL, (int)n + 2, argv + 1, len + 1);
		at += n;
	}
	i->nfinished = 0;
}

void intake_finish (struct intake *i, const char *entry)
{
	if (i->nfinished == i->finished_cap) {
		i->finished_cap = i->finished_cap ? i->finished_cap * 2 : 64;
		i->finished = xrealloc (i->finished, i->finished_cap * FINISH_ENTRY);
	}
	snprintf (i->finished[i->nfinished++], FINISH_ENTRY, "%s", entry);
	loop_defer_schedule (i->finish);
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

struct intake *intake_create (struct loop *l, struct rds *commands, const struct intake_opts *o, struct err *err)
{
	struct intake *i = xcalloc (1, sizeof (*i));
	struct rds_opts ro = { .url = o->redis_url, .password_file = o->redis_password_file, .on_state = on_reader_state, .arg = i };
	i->cmd = commands;
	i->o = *o;
	i->consumer = xstrdup (o->consumer);
	layout_key (i->tasks_key, "ep", &o->endpoint, "tasks");
	layout_key (i->control_key, "ep", &o->endpoint, "control");
	snprintf (i->changes_from, sizeof (i->changes_from), "-");
	i->claim_timer = loop_timer_create (l, on_claim_timer, i);
	i->finish = loop_defer_create (l, flush_finished, i);
	if (!(i->tasks = rds_create (l, &ro, err)) || !(i->control = rds_create (l, &ro, err)))
		intake_destroy (&i);
	return i;
}

/* Called after the command connection's rds_destroy, which answered what was in flight to us. */
void intake_destroy (struct intake **ip)
{
	struct intake *i = *ip;
	if (!i)
		return;
	i->started = false;
	rds_destroy (&i->tasks);
	rds_destroy (&i->control);
	loop_timer_destroy (&i->claim_timer);
	loop_defer_destroy (&i->finish);
	free (i->finished);
	free (i->consumer);
	free (i);
	*ip = NULL;
}

void intake_start (struct intake *i)
{
	if (i->started)
		return;
	i->started = true;
	make_groups (i);
	claim_from (i, "0-0");
	read_control (i);
}

void intake_redis_up (struct intake *i)
{
	if (!i->started)
		return;
	make_groups (i);
	if (!i->claiming)
		claim_from (i, "0-0");
}

void intake_stop (struct intake *i)
{
	if (i)
		i->started = false;
}

void intake_wake (struct intake *i)
{
	read_tasks (i);
}
