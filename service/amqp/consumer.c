/* SPDX-License-Identifier: Apache-2.0 */
/* A result's way: the queue names tasks; a few at a time are looked up in Redis, no more bytes at once than a step has (a single result may
 * be larger); each is written to the connection and remembered, until the client says that it has it. When the oldest ones are dealt with,
 * the queue is told how far.
 *
 * What a client gives back (nack) comes again after a pause, so that one that refuses everything does not turn in circles at full speed. */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/xmem.h"
#include "proto/layout.h"
#include "service/amqp/internal.h"
#include "service/taskdoc.h"

#define MOD "amqp"
#define STEP_TASKS 64
#define STEP_BYTES (1 << 20)
#define AGAIN_MS 1000
#define MESSAGE_MAX (1u << 30)

enum held_state { HELD_SENT, HELD_AGAIN, HELD_DONE };

/* A result that was handed out. */
struct held {
	struct queue_item item;
	uint64_t tag;
	int64_t due_ms;		/* HELD_AGAIN: not before */
	enum held_state state;
};

/* A result on its way from Redis. */
struct coming { struct queue_item item; uint64_t held; size_t bytes; bool again; };	/* held: number of it, when it was handed out before */

struct amqp_consumer {
	struct amqp_consumer *next;	/* of the channel */
	struct amqp_conn *conn;
	struct amqp_channel *channel;
	struct queue *queue;
	char tag[AMQP_TAG_MAX + 1], name[2 * ID_TEXT];	/* name: of the queue */
	uint16_t prefetch;
	bool no_ack, nowait, ready, dead, giving_back;
	int pending;			/* callbacks to come */
	struct held *held;		/* a ring */
	size_t cap, head, count;
	uint64_t head_number;		/* of the oldest one; they are numbered in order */
	struct coming step[STEP_TASKS];
	size_t nstep, asked, got;	/* in the step; asked for; answered */
	bool broken;			/* Redis failed in the middle of the step */
};

static void fetch (struct amqp_consumer *u);

static struct held *held_at (struct amqp_consumer *u, size_t i)
{
	return &u->held[(u->head + i) % u->cap];
}

static struct held *held_push (struct amqp_consumer *u)
{
	if (u->count == u->cap) {
		size_t cap = u->cap ? 2 * u->cap : 64;
		struct held *fresh = xcalloc (cap, sizeof (*fresh));
		for (size_t i = 0; i < u->count; i++)
			fresh[i] = *held_at (u, i);
		free (u->held);
		u->held = fresh;
		u->cap = cap;
		u->head = 0;
	}
	u->count++;
	return held_at (u, u->count - 1);
}

static void count_held (struct amqp_consumer *u, int by)
{
	u->channel->unacked += (size_t) by;
	u->conn->unacked += (size_t) by;
}

/* The oldest that are dealt with are forgotten. */
static void advance (struct amqp_consumer *u)
{
	struct queue_place place;
	bool any = false;

	for (; u->count && held_at (u, 0)->state == HELD_DONE; u->count--) {
		place = held_at (u, 0)->item.place;
		any = true;
		u->head = (u->head + 1) % u->cap;
		u->head_number++;
	}
	if (any)
		queue_acked (u->queue, &place);
}

/* ---- handing out ------------------------------------------------------------------------------------------------ */

/* The record of a task, as {m, r}; false: there is none to show. */
static bool read_record (const struct redisReply *reply, struct layout_meta *meta, struct msg_result *m, struct doc_task *t)
{
	static const char damaged[] = "the task has ended, but what is stored of its result is damaged";
	struct err err = { 0 };

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || reply->element[0]->type != REDIS_REPLY_STRING ||
	    reply->element[1]->type != REDIS_REPLY_STRING || layout_meta_decode (meta, reply->element[0]->str, reply->element[0]->len, &err) < 0)
		return false;
	if (msg_result_decode (m, reply->element[1]->str, reply->element[1]->len, &err) < 0) {
		log_err (LOG_ERROR, MOD, "stored result is damaged", &err);
		*m = (struct msg_result) { .status = STATUS_FAILED, .fault = FAULT_SELF, .code = ERR_INTERNAL, .task = t->task,
					   .error = { damaged, sizeof (damaged) - 1 } };
	}
	t->meta = meta;
	t->result = m;
	t->state = msg_status_state (m->status);
	return true;
}

static void deliver (struct amqp_consumer *u, const struct coming *w, struct held *h, const struct doc_task *t)
{
	struct amqp_conn *c = u->conn;
	struct amqp_delivery d = { .consumer = { u->tag, strlen (u->tag) }, .queue = { u->name, strlen (u->name) }, .redelivered = w->again };
	struct buf body, out;
	int64_t completed_ns;

	buf_init (&body, MESSAGE_MAX);
	buf_init (&out, MESSAGE_MAX);
	completed_ns = doc_message (&body, t);
	d.tag = h->tag = ++u->channel->last_tag;
	d.timestamp_s = (uint64_t) (completed_ns / 1000000000);
	h->state = u->no_ack ? HELD_DONE : HELD_SENT;
	amqp_put_delivery (&out, u->channel->number, &d, body.data, body.len, c->frame_max);
	if (buf_failed (&body) || buf_failed (&out)) { /* memory: it comes again */
		h->state = HELD_AGAIN;
		h->due_ms = clock_now_ms () + AGAIN_MS;
		u->giving_back = true;
		buf_fini (&out);
	} else {
		metric_add (c->server->m_delivered, 1);
		amqp_conn_send (c, &out);
	}
	buf_fini (&body);
}

static void on_record (struct amqp_consumer *u, const struct coming *w, const struct redisReply *reply)
{
	struct held *h = w->again ? held_at (u, (size_t) (w->held - u->head_number)) : held_push (u);
	struct doc_task t = { .task = w->item.task, .bulk = u->conn->server->app->bulk };
	struct layout_meta meta;
	struct msg_result m;

	if (!w->again) {
		*h = (struct held) { .item = w->item };
		count_held (u, 1);
	}
	if (read_record (reply, &meta, &m, &t))
		deliver (u, w, h, &t);
	else
		h->state = HELD_DONE; /* it has expired meanwhile */
	if (h->state == HELD_DONE)
		count_held (u, -1);
}

/* ---- a step ----------------------------------------------------------------------------------------------------- */

static bool came (struct amqp_consumer *u)
{
	u->pending--;
	if (u->dead && !u->pending)
		free (u);
	else if (!u->dead)
		return true;
	return false;
}

static void step_done (struct amqp_consumer *u)
{
	u->nstep = u->asked = u->got = 0;
	advance (u);
	amqp_consumer_pump (u);
}

static void on_hmget (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct amqp_consumer *u = arg;
	struct err e = { 0 };

	(void) r;
	if (!came (u))
		return;
	if (rds_error (reply, err, &e))
		u->broken = true;
	if (!u->broken)
		on_record (u, &u->step[u->got++], reply);
	if (u->pending)
		return;
	u->asked = u->got; /* after a failure the clock asks again for the rest */
	if (u->got == u->nstep)
		step_done (u);
	else if (!u->broken)
		amqp_consumer_pump (u);
}

/* As many as fit, one at least. */
static void fetch (struct amqp_consumer *u)
{
	char key[LAYOUT_KEY_MAX];
	size_t bytes = 0;

	u->broken = false;
	while (u->asked < u->nstep && (u->asked == u->got || bytes + u->step[u->asked].bytes <= STEP_BYTES)) {
		bytes += u->step[u->asked].bytes;
		layout_key (key, "task", &u->step[u->asked++].item.task, NULL);
		u->pending++;
		rds_commandf (u->conn->server->app->redis, on_hmget, u, "HMGET %s m r", key);
	}
}

static void on_strlen (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct amqp_consumer *u = arg;

	(void) r;
	if (!came (u))
		return;
	u->step[u->asked++].bytes = !err && reply->type == REDIS_REPLY_INTEGER ? (size_t) reply->integer : STEP_BYTES;
	if (u->pending)
		return;
	u->asked = 0;
	fetch (u);
}

static void start_step (struct amqp_consumer *u)
{
	char key[LAYOUT_KEY_MAX];

	u->asked = u->got = 0;
	for (size_t i = 0; i < u->nstep; i++) {
		layout_key (key, "task", &u->step[i].item.task, NULL);
		u->pending++;
		rds_commandf (u->conn->server->app->redis, on_strlen, u, "HSTRLEN %s r", key);
	}
}

/* Those that were given back and are due. */
static size_t take_again (struct amqp_consumer *u)
{
	int64_t now = clock_now_ms ();
	size_t n = 0;

	if (!u->giving_back)
		return 0;
	u->giving_back = false;
	for (size_t i = 0; i < u->count; i++) {
		struct held *h = held_at (u, i);
		if (h->state != HELD_AGAIN)
			continue;
		if (n == STEP_TASKS || h->due_ms > now) {
			u->giving_back = true;
			continue;
		}
		u->step[n++] = (struct coming) { .item = h->item, .held = u->head_number + i, .again = true };
	}
	return n;
}

static size_t may_send (const struct amqp_consumer *u)
{
	size_t most = STEP_TASKS, left = AMQP_UNACKED_MAX > u->conn->unacked ? AMQP_UNACKED_MAX - u->conn->unacked : 0;

	if (left < most)
		most = left;
	if (u->channel->prefetch) {
		left = u->channel->prefetch > u->channel->unacked ? u->channel->prefetch - u->channel->unacked : 0;
		most = left < most ? left : most;
	}
	if (u->prefetch) {
		left = u->prefetch > u->count ? u->prefetch - u->count : 0;
		most = left < most ? left : most;
	}
	return most;
}

void amqp_consumer_pump (struct amqp_consumer *u)
{
	struct queue_item items[STEP_TASKS];
	size_t n;

	if (!u->ready || u->pending || u->conn->state != CONN_OPEN || u->channel->closing || u->channel->paused || !amqp_conn_room (u->conn))
		return;
	if (u->nstep) { /* in the middle of a step */
		fetch (u);
		return;
	}
	if (!(u->nstep = take_again (u))) {
		u->nstep = n = queue_take (u->queue, items, may_send (u));
		for (size_t i = 0; i < n; i++)
			u->step[i] = (struct coming) { .item = items[i] };
	}
	if (u->nstep)
		start_step (u);
}

/* ---- acknowledging ---------------------------------------------------------------------------------------------- */

static void settle (struct amqp_consumer *u, struct held *h, enum consumer_verdict v)
{
	if (v == CONSUMER_REQUEUE) {
		h->state = HELD_AGAIN;
		h->due_ms = clock_now_ms () + AGAIN_MS;
		u->giving_back = true;
		return;
	}
	h->state = HELD_DONE;
	count_held (u, -1);
	metric_add (u->conn->server->m_acked, 1);
}

bool amqp_consumer_settle (struct amqp_consumer *u, uint64_t tag, bool multiple, enum consumer_verdict v)
{
	bool any = false;

	for (size_t i = 0; i < u->count; i++) {
		struct held *h = held_at (u, i);
		if (h->state != HELD_SENT || (multiple ? tag && h->tag > tag : h->tag != tag))
			continue;
		settle (u, h, v);
		any = true;
		if (!multiple)
			break;
	}
	advance (u);
	return any;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static void on_items (void *arg)
{
	amqp_consumer_pump (arg);
}

static void on_open (bool known, bool forbidden, const struct err *err, void *arg)
{
	struct amqp_consumer *u = arg;
	struct buf b;

	if (err)
		amqp_channel_fail (u->conn, u->channel, AMQP_RESOURCE_ERROR, AMQP_BASIC_CONSUME, "queue '%s' cannot be read right now: %s", u->name, err->text);
	else if (forbidden)
		amqp_channel_fail (u->conn, u->channel, AMQP_ACCESS_REFUSED, AMQP_BASIC_CONSUME, "task group of queue '%s' belongs to someone else", u->name);
	else if (!known)
		amqp_channel_fail (u->conn, u->channel, AMQP_NOT_FOUND, AMQP_BASIC_CONSUME, "no queue '%s': there is no such task group", u->name);
	else {
		u->ready = true;
		if (!u->nowait) {
			buf_init (&b, 0);
			amqp_put_tag (&b, u->channel->number, AMQP_BASIC_CONSUME_OK, (struct amqp_str) { u->tag, strlen (u->tag) });
			amqp_conn_send (u->conn, &b);
		}
		amqp_consumer_pump (u);
	}
}

struct amqp_consumer *amqp_consumer_create (struct amqp_conn *c, struct amqp_channel *ch, const struct id *group, const struct amqp_method *m)
{
	static const struct queue_ops ops = { on_items, on_open };
	struct amqp_consumer *u = xcalloc (1, sizeof (*u));

	u->conn = c;
	u->channel = ch;
	u->no_ack = m->consume.no_ack;
	u->nowait = m->consume.nowait;
	u->prefetch = ch->next_prefetch;
	memcpy (u->name, m->consume.queue.p, m->consume.queue.n);
	memcpy (u->tag, m->consume.tag.p, m->consume.tag.n);
	if (!u->tag[0]) {
		memcpy (u->tag, "weft-", 5);
		char *secret = ids_secret (12);
		strcpy (u->tag + 5, secret);
		free (secret);
	}
	u->next = ch->consumers;
	ch->consumers = u;
	c->nconsumers++;
	u->queue = queue_create (c->server->app, &c->user->id, group, &ops, u);
	return u;
}

void amqp_consumer_destroy (struct amqp_consumer *u)
{
	struct amqp_consumer **p = &u->channel->consumers;

	while (*p != u)
		p = &(*p)->next;
	*p = u->next;
	u->conn->nconsumers--;
	for (size_t i = 0; i < u->count; i++)
		if (held_at (u, i)->state != HELD_DONE)
			count_held (u, -1);
	queue_destroy (&u->queue);
	free (u->held);
	u->held = NULL;
	u->dead = true;
	if (!u->pending)
		free (u);
}

struct amqp_consumer *amqp_consumer_next (const struct amqp_consumer *u)
{
	return u->next;
}

bool amqp_consumer_named (const struct amqp_consumer *u, struct amqp_str tag)
{
	return strlen (u->tag) == tag.n && !memcmp (u->tag, tag.p, tag.n);
}
