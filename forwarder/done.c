/* SPDX-License-Identifier: Apache-2.0 */
/* An item is in `sent` while a command for it is in flight, in `retry` otherwise. After a refusal (Redis full, read-only, away) a few are
 * tried each RETRY_MS; each success brings two more on the way, so that a Redis that is back is fed as fast as it takes them and
 * one that refuses is not hammered. */
#include "forwarder/done.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "proto/layout.h"
#include "proto/link.h"
#include "proto/usage.h"

#define MOD "done"
#define RETRY_MS 200
#define USAGE_MS 1000	/* how long ends are counted here before Redis gets the sum */
#define PROBES 8	/* tried after each pause */
#define ITEM_COST 512	/* memory of an item beside its record, rounded up */

struct item {
	struct done *owner;
	struct id task;
	int state;
	bool waiting;		/* in `retry` */
	bool verify;		/* is the task our endpoint's? */
	zmq_msg_t record;
	TAILQ_ENTRY (item) link;
};

TAILQ_HEAD (item_list, item);

struct done {
	struct rds *r;
	struct id endpoint;
	int64_t retention_ms;
	done_f *cb;
	void *arg;
	size_t bytes;
	struct loop_timer *again, *count;
	struct usage usage;
	struct item_list sent, retry;
};

static void free_item (struct item *it)
{
	TAILQ_REMOVE (it->waiting ? &it->owner->retry : &it->owner->sent, it, link);
	it->owner->bytes -= zmq_msg_size (&it->record) + ITEM_COST;
	zmq_msg_close (&it->record);
	free (it);
}

/* Stays here until Redis takes it: the endpoint was not told that it is stored. */
static void put_back (struct item *it, const struct err *err)
{
	struct done *d = it->owner;
	log_warn (MOD, "result not stored, will retry", "err=%s", err->text);
	TAILQ_REMOVE (&d->sent, it, link);
	TAILQ_INSERT_TAIL (&d->retry, it, link);
	it->waiting = true;
	if (!loop_timer_pending (d->again))
		loop_timer_start (d->again, RETRY_MS, false);
}

static void send_item (struct item *it);

static void retry_some (struct done *d, size_t n)
{
	while (n-- && !TAILQ_EMPTY (&d->retry)) {
		struct item *it = TAILQ_FIRST (&d->retry);
		TAILQ_REMOVE (&d->retry, it, link);
		TAILQ_INSERT_TAIL (&d->sent, it, link);
		it->waiting = false;
		send_item (it);
	}
}

static void count (struct done *d, zmq_msg_t *record)
{
	struct msg_result m;
	if (msg_result_decode (&m, zmq_msg_data (record), zmq_msg_size (record), NULL) < 0)
		return;
	usage_count (&d->usage, &m);
	if (!loop_timer_pending (d->count))
		loop_timer_start (d->count, USAGE_MS, false);
}

static void end_item (struct item *it, int stored)
{
	struct done *d = it->owner;
	struct id task = it->task;
	if (stored == 1)
		count (d, &it->record);
	free_item (it);
	retry_some (d, 2);
	d->cb (&task, stored, d->arg);
}

static void on_stored (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct item *it = arg;
	struct err e = { 0 };
	(void)r;
	err = rds_error (reply, err, &e);
	if (err)
		put_back (it, err);
	else
		end_item (it, (int)reply->integer);
}

static void on_meta (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct item *it = arg;
	struct layout_meta m;
	struct err e = { 0 };
	char id[ID_TEXT];
	(void)r;
	err = rds_error (reply, err, &e);
	if (err) {
		put_back (it, err);
		return;
	}
	if (reply->type == REDIS_REPLY_STRING && layout_meta_decode (&m, reply->str, reply->len, &e) == 0 &&
	    id_eq (&m.endpoint, &it->owner->endpoint)) {
		it->verify = false;
		send_item (it);
		return;
	}
	if (reply->type == REDIS_REPLY_STRING)
		log_warn (MOD, "result of a task that is not this endpoint's dropped", "task=%s", id_text (&it->task, id));
	end_item (it, -1);
}

static void send_item (struct item *it)
{
	struct done *d = it->owner;
	char key[LAYOUT_KEY_MAX];
	if (it->verify) {
		layout_key (key, "task", &it->task, NULL);
		rds_commandf (d->r, on_meta, it, "HGET %s m", key);
		return;
	}
	layout_store_send (d->r, &it->task, it->state, wire_str (zmq_msg_data (&it->record), zmq_msg_size (&it->record)),
			   d->retention_ms, on_stored, it);
}

static void retry_timer (void *arg)
{
	struct done *d = arg;
	if (!rds_up (d->r))
		return; /* done_redis_up comes */
	retry_some (d, PROBES);
	if (!TAILQ_EMPTY (&d->retry))
		loop_timer_start (d->again, RETRY_MS, false);
}

void done_flush (struct done *d)
{
	if (rds_up (d->r))
		usage_write (d->r, &d->endpoint, clock_real_ns () / 1000000, &d->usage);
}

static void on_count (void *arg)
{
	done_flush (arg);	/* Redis away: with the next ends */
}

struct done *done_create (struct loop *l, struct rds *r, const struct id *endpoint, int64_t retention_ms, done_f *cb, void *arg)
{
	struct done *d = xcalloc (1, sizeof (*d));
	d->r = r;
	d->endpoint = *endpoint;
	d->retention_ms = retention_ms;
	d->cb = cb;
	d->arg = arg;
	d->again = loop_timer_create (l, retry_timer, d);
	d->count = loop_timer_create (l, on_count, d);
	TAILQ_INIT (&d->sent);
	TAILQ_INIT (&d->retry);
	return d;
}

/* Called after rds_destroy, which answered everything that was in flight. */
void done_destroy (struct done **dp)
{
	struct done *d = *dp;
	if (!d)
		return;
	while (!TAILQ_EMPTY (&d->retry))
		free_item (TAILQ_FIRST (&d->retry));
	while (!TAILQ_EMPTY (&d->sent))
		free_item (TAILQ_FIRST (&d->sent));
	loop_timer_destroy (&d->again);
	loop_timer_destroy (&d->count);
	free (d);
	*dp = NULL;
}

void done_store (struct done *d, const struct id *task, int state, zmq_msg_t *record, bool verify)
{
	struct item *it = xcalloc (1, sizeof (*it));
	it->owner = d;
	it->task = *task;
	it->state = state;
	it->verify = verify;
	zmq_msg_init (&it->record);
	zmq_msg_move (&it->record, record);
	d->bytes += zmq_msg_size (&it->record) + ITEM_COST;
	if (!rds_up (d->r) || !TAILQ_EMPTY (&d->retry)) { /* behind those that wait already */
		it->waiting = true;
		TAILQ_INSERT_TAIL (&d->retry, it, link);
		return;
	}
	TAILQ_INSERT_TAIL (&d->sent, it, link);
	send_item (it);
}

void done_fail (struct done *d, const struct id *task, enum err_code code, enum err_fault fault, const char *text)
{
	struct msg_result m = { .status = STATUS_FAILED, .fault = (uint8_t)fault, .code = (uint16_t)code, .task = *task };
	struct buf b;
	zmq_msg_t record;
	m.error = wire_str (text, strlen (text));
	m.stamps[STAMP_FORWARDER_RESULT] = clock_real_ns ();
	buf_init (&b, 0);
	msg_result_encode (&b, &m, WIRE_MAJOR);
	link_msg_from_buf (&record, &b);
	done_store (d, task, STATE_FAILED, &record, false);
}

size_t done_pending_bytes (const struct done *d)
{
	return d->bytes;
}

void done_redis_up (struct done *d)
{
	retry_timer (d);
}
