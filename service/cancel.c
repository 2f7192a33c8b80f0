/* SPDX-License-Identifier: Apache-2.0 */
#include "service/cancel.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "proto/usage.h"

struct cancel {
	struct app *app;
	struct id owner, task, endpoint;
	cancel_f *cb;
	void *arg;
};

static void end (struct cancel *k, int outcome, const struct err *err)
{
	k->cb (outcome, err, k->arg);
	free (k);
}

static void on_stored (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct cancel *k = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (err) {
		end (k, 0, err);
		return;
	}
	if (reply->integer == 1) {
		struct usage u = { { [USAGE_ENDED] = 1, [USAGE_CANCELLED] = 1 } };
		usage_write (k->app->redis, &k->endpoint, clock_real_ns () / 1000000, &u);
	}
	end (k, reply->integer > 0 ? 1 : (int) reply->integer, NULL);
}

static void store (struct cancel *k)
{
	static const char why[] = "the task was cancelled on request";
	struct msg_result m = { .status = STATUS_CANCELLED, .fault = FAULT_USER, .code = ERR_CANCELLED, .task = k->task,
				.error = { why, sizeof (why) - 1 } };
	struct buf b;

	m.stamps[STAMP_FORWARDER_RESULT] = clock_real_ns (); /* here it is the service that hands it to Redis */
	buf_init (&b, 0);
	msg_result_encode (&b, &m, WIRE_MAJOR);
	layout_cancel_send (k->app->redis, &k->task, &k->endpoint, wire_str ((char *) b.data, b.len), k->app->config->retention_ms, on_stored, k);
	buf_fini (&b);
}

static void on_meta (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct cancel *k = arg;
	struct layout_meta m;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (err) {
		end (k, 0, err);
		return;
	}
	if (reply->type != REDIS_REPLY_STRING || layout_meta_decode (&m, reply->str, reply->len, &e) < 0 || !id_eq (&m.owner, &k->owner)) {
		end (k, -1, NULL);
		return;
	}
	k->endpoint = m.endpoint;
	store (k);
}

void cancel_task (struct app *a, const struct id *owner, const struct id *task, cancel_f *cb, void *arg)
{
	struct cancel *k = xcalloc (1, sizeof (*k));
	char key[LAYOUT_KEY_MAX];

	*k = (struct cancel) { .app = a, .owner = *owner, .task = *task, .cb = cb, .arg = arg };
	layout_key (key, "task", task, NULL);
	rds_commandf (a->redis, on_meta, k, "HGET %s m", key);
}
