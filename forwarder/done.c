/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/done.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <sys/queue.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "proto/layout.h"
#include "proto/link.h"

#define MOD "done"
#define RETRY_MS 200	/* pause after Redis refused (full, read-only) */

struct item {
	struct done *owner;
	struct id task;
	int state;
	bool waiting;		/* in `retry` */
	zmq_msg_t record;
	TAILQ_ENTRY (item) link;
};

TAILQ_HEAD (item_list, item);

struct done {
	struct rds *r;
	int64_t retention_ms;
	done_f *cb;
	void *arg;
	size_t bytes;
	struct loop_timer *again;
	struct item_list sent, retry;
};

static void free_item (struct item *it)
{
	TAILQ_REMOVE (it->waiting ? &it->owner->retry : &it->owner->sent, it, link);
	it->owner->bytes -= zmq_msg_size (&it->record);
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

static void on_stored (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct item *it = arg;
	struct err e = { 0 };
	(void)r;
	if (!err && rds_reply_error (reply, &e) < 0)
		err = &e;
	if (err) {
		put_back (it, err);
		return;
	}
	struct done *d = it->owner;
	struct id task = it->task;
	free_item (it);
	d->cb (&task, (int)reply->integer, d->arg);
}

static void send_item (struct item *it)
{
	struct done *d = it->owner;
	layout_store_send (d->r, &it->task, it->state, wire_str (zmq_msg_data (&it->record), zmq_msg_size (&it->record)),
			   d->retention_ms, on_stored, it);
}

static void retry_all (void *arg)
{
	struct done *d = arg;
	size_t budget = 512;
	if (!rds_up (d->r))
		return; /* done_redis_up comes */
	while (!TAILQ_EMPTY (&d->retry) && budget--) {
		struct item *it = TAILQ_FIRST (&d->retry);
		TAILQ_REMOVE (&d->retry, it, link);
		TAILQ_INSERT_TAIL (&d->sent, it, link);
		it->waiting = false;
		send_item (it);
	}
	if (!TAILQ_EMPTY (&d->retry))
		loop_timer_start (d->again, RETRY_MS, false);
}

struct done *done_create (struct loop *l, struct rds *r, int64_t retention_ms, done_f *cb, void *arg)
{
	struct done *d = xcalloc (1, sizeof (*d));
	d->r = r;
	d->retention_ms = retention_ms;
	d->cb = cb;
	d->arg = arg;
	d->again = loop_timer_create (l, retry_all, d);
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
	free (d);
	*dp = NULL;
}

void done_store (struct done *d, const struct id *task, int state, zmq_msg_t *record)
{
	struct item *it = xcalloc (1, sizeof (*it));
	it->owner = d;
	it->task = *task;
	it->state = state;
	zmq_msg_init (&it->record);
	zmq_msg_move (&it->record, record);
	d->bytes += zmq_msg_size (&it->record);
	if (!rds_up (d->r)) {
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
	done_store (d, task, STATE_FAILED, &record);
}

size_t done_pending_bytes (const struct done *d)
{
	return d->bytes;
}

void done_redis_up (struct done *d)
{
	retry_all (d);
}
