/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: does the group exist, and whose is it; see to it that all its ends go into the stream (watch.h); how far was it acknowledged.
 * Then pages are read as they are used up, and when the group's channel says that there is more. */
#include "service/amqp/queue.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "common/xmem.h"
#include "proto/layout.h"
#include "service/feed.h"
#include "service/group.h"
#include "service/watch.h"

#define MOD "amqp"
#define PAGE 256		/* entries read at once */
#define SCAN_ELEMENTS 1		/* of the group's list at once; one holds up to 500 tasks */
#define AGAIN_MS 500		/* after Redis failed */

enum queue_state { QUEUE_OPENING, QUEUE_IDLE, QUEUE_READING, QUEUE_SCANNING, QUEUE_CHECKING };

struct queue {
	struct app *app;
	struct id group;
	const struct queue_ops *ops;
	void *arg;
	enum queue_state state;
	struct feed_member *member;
	struct loop_timer *again;
	struct queue_place at;			/* read up to here */
	struct queue_place acked, saved;
	bool saving, woken, dead;
	bool scanning;				/* what the stream lost is being looked for */
	long scan_index;
	struct queue_place scan_to;		/* where the stream stood when the scan began */
	int pending, checks;			/* callbacks to come; of states */
	long checked;				/* elements of the list that these are of; 0 = of the group's own task, at the end */
	bool unknown;				/* one of them failed */
	struct queue_item *items;
	size_t n, cap, taken;
};

static void read_on (struct queue *q);

/* ---- life ------------------------------------------------------------------------------------------------------- */

static void release (struct queue *q)
{
	if (!q->dead || q->pending)
		return;
	free (q->items);
	free (q);
}

/* A callback has come: false when there is nobody for it any more. */
static bool came (struct queue *q)
{
	q->pending--;
	if (!q->dead)
		return true;
	release (q);
	return false;
}

static void try_again (struct queue *q)
{
	q->state = QUEUE_IDLE;
	q->woken = true;
	loop_timer_start (q->again, AGAIN_MS, false);
}

static void on_again (void *arg)
{
	struct queue *q = arg;

	read_on (q);
}

static void add (struct queue *q, const struct id *task, const struct queue_place *p)
{
	if (q->n == q->cap) {
		q->cap = q->cap ? 2 * q->cap : PAGE;
		q->items = xrealloc (q->items, q->cap * sizeof (*q->items));
	}
	q->items[q->n++] = (struct queue_item) { *task, *p };
}

/* "N-N N", as it was acknowledged. s: NUL-terminated. */
static bool place_parse (const char *s, struct queue_place *p)
{
	size_t n = strcspn (s, " ");

	if (ends_at_parse (&p->at, s, n) < 0)
		return false;
	p->count = strtoull (s + n, NULL, 10);
	return true;
}

/* ---- what the stream lost --------------------------------------------------------------------------------------- */

static void scan_on (struct queue *q);

struct state_of { struct queue *q; struct id task; };

/* All of them once more: nothing of it was given out. */
static void check_again (struct queue *q)
{
	q->unknown = false;
	q->n = q->taken = 0;
	q->scan_index -= q->checked;
	q->scanning = true;
	try_again (q);
}

static void on_state_of (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct state_of *k = arg;
	struct queue *q = k->q;
	struct id task = k->task;
	struct err e = { 0 };

	(void) r;
	free (k);
	if (!came (q))
		return;
	q->checks--;
	if (rds_error (reply, err, &e))
		q->unknown = true;
	else if (reply->type == REDIS_REPLY_STRING && reply->len == 1 && reply->str[0] >= '0' + STATE_SUCCESS)
		add (q, &task, &q->at);
	if (q->checks)
		return;
	q->state = QUEUE_IDLE;
	if (q->unknown)
		check_again (q);
	else if (q->n > q->taken)
		q->ops->on_items (q->arg);
	else
		read_on (q);
}

static void check_states (struct queue *q, const struct redisReply *reply)
{
	char key[LAYOUT_KEY_MAX];

	for (size_t e = 0; e < reply->elements; e++) {
		const struct redisReply *ids = reply->element[e];
		size_t from = q->scan_index == 0 && e == 0 ? ids->len : 0; /* the first is no list of ids */
		for (; from + ID_BYTES <= ids->len; from += ID_BYTES) {
			struct state_of *k = xcalloc (1, sizeof (*k));
			k->q = q;
			memcpy (k->task.b, ids->str + from, ID_BYTES);
			layout_key (key, "task", &k->task, NULL);
			q->pending++;
			q->checks++;
			rds_commandf (q->app->redis, on_state_of, k, "HGET %s s", key);
		}
	}
}

static void on_elements (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct queue *q = arg;
	struct err e = { 0 };

	(void) r;
	if (!came (q))
		return;
	if (rds_error (reply, err, &e) || reply->type != REDIS_REPLY_ARRAY) {
		try_again (q);
		return;
	}
	q->state = QUEUE_CHECKING;
	check_states (q, reply);
	q->checked = (long) reply->elements;
	q->scan_index += q->checked;
	if (!reply->elements) { /* the end; the group's own task, when it has one, stands in no list */
		struct state_of *k = xcalloc (1, sizeof (*k));
		char key[LAYOUT_KEY_MAX];
		q->scanning = false;
		q->woken = true;
		q->at = q->scan_to;
		*k = (struct state_of) { q, q->group };
		layout_key (key, "task", &q->group, NULL);
		q->pending++;
		q->checks++;
		rds_commandf (q->app->redis, on_state_of, k, "HGET %s s", key);
	} else if (!q->checks) {
		q->state = QUEUE_IDLE;
		scan_on (q);
	}
}

static void scan_on (struct queue *q)
{
	char key[LAYOUT_KEY_MAX];

	q->state = QUEUE_SCANNING;
	q->pending++;
	layout_key (key, "group", &q->group, NULL);
	rds_commandf (q->app->redis, on_elements, q, "LRANGE %s %ld %ld", key, q->scan_index, q->scan_index + SCAN_ELEMENTS - 1);
}

static void start_scan (struct queue *q, const struct queue_place *last)
{
	char t[ID_TEXT];

	log_warn (MOD, "ends of a task group were cut off before they were acknowledged, its tasks are looked at one by one", "group=%s",
		  id_text (&q->group, t));
	q->scanning = true;
	q->scan_index = 0;
	q->scan_to = *last;
	q->n = q->taken = 0;
	scan_on (q);
}

/* ---- the stream ------------------------------------------------------------------------------------------------- */

struct page { struct queue *q; struct queue_place was; size_t entries; bool failed; };	/* entries: read, also those without a task */

static void on_info (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct page *k = arg;
	struct queue *q = k->q;
	struct queue_place last, was = k->was;
	bool bad = k->failed || err;
	size_t entries = k->entries;
	struct ends_info info;

	(void) r;
	free (k);
	if (!came (q))
		return;
	q->state = QUEUE_IDLE;
	if (bad) {
		q->n = q->taken = 0;
		q->at = was;
		try_again (q);
		return;
	}
	if (ends_info_read (&info, reply)) {
		last = (struct queue_place) { info.last, info.added };
		if (info.cut > was.count && was.count <= last.count) {
			q->at = was;
			start_scan (q, &last);
			return;
		}
		if (was.count > last.count) /* the stream had expired, and is a new one */
			q->at.count = info.cut + entries;
	}
	q->woken = q->woken || entries == PAGE;
	if (q->n)
		q->ops->on_items (q->arg);
	else
		read_on (q);
}

static void on_page (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct page *k = arg;
	struct queue *q = k->q;
	struct err e = { 0 };

	(void) r;
	q->pending--; /* the other one is still to come */
	if (q->dead)
		return;
	if (rds_error (reply, err, &e) || reply->type != REDIS_REPLY_ARRAY) {
		k->failed = true;
		return;
	}
	k->entries = reply->elements;
	for (size_t i = 0; i < reply->elements; i++) {
		const struct redisReply *entry = reply->element[i], *task;
		struct id id;
		if (entry->elements != 2 || ends_at_parse (&q->at.at, entry->element[0]->str, entry->element[0]->len) < 0)
			continue;
		q->at.count++;
		task = rds_member (entry->element[1], "t");
		if (!task || task->len != ID_BYTES)
			continue;
		memcpy (id.b, task->str, ID_BYTES);
		add (q, &id, &q->at);
	}
}

static void read_page (struct queue *q)
{
	struct page *k = xcalloc (1, sizeof (*k));
	char key[LAYOUT_KEY_MAX], at[LAYOUT_POSITION_MAX + 1];

	q->state = QUEUE_READING;
	q->woken = false;
	q->n = q->taken = 0;
	*k = (struct page) { .q = q, .was = q->at };
	layout_key (key, "group", &q->group, "done");
	q->pending += 2;
	rds_commandf (q->app->redis, on_page, k, "XRANGE %s (%s + COUNT %d", key, ends_at_text (&q->at.at, at), PAGE);
	rds_commandf (q->app->redis, on_info, k, "XINFO STREAM %s", key);
}

/* When all that was read is used up. */
static void read_on (struct queue *q)
{
	if (q->state != QUEUE_IDLE || q->taken < q->n)
		return;
	q->n = q->taken = 0;
	if (q->scanning)
		scan_on (q);
	else if (q->woken)
		read_page (q);
}

static void on_wake (void *arg)
{
	struct queue *q = arg;

	q->woken = true;
	read_on (q);
}

size_t queue_take (struct queue *q, struct queue_item *out, size_t max)
{
	size_t n = q->n - q->taken < max ? q->n - q->taken : max;

	if (q->state != QUEUE_IDLE)
		return 0; /* a page is being put together */
	memcpy (out, q->items + q->taken, n * sizeof (*out));
	q->taken += n;
	if (q->taken == q->n)
		read_on (q);
	return n;
}

/* ---- acknowledging ---------------------------------------------------------------------------------------------- */

static void on_saved (struct rds *r, struct redisReply *reply, const struct err *err, void *arg);

static void save (struct queue *q)
{
	layout_acked_send (q->app->redis, &q->group, q->acked.at.ms, q->acked.at.seq, q->acked.count, q->app->config->retention_ms, on_saved, q);
	q->saved = q->acked;
	q->saving = true;
	q->pending++;
}

static void on_saved (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct queue *q = arg;
	struct err e = { 0 };

	(void) r;
	q->saving = false;
	if (!came (q) || rds_error (reply, err, &e))
		return; /* the next acknowledgement saves this one too; until then results may come again */
	if (ends_at_after (&q->acked.at, &q->saved.at))
		save (q);
}

void queue_acked (struct queue *q, const struct queue_place *p)
{
	if (!ends_at_after (&p->at, &q->acked.at))
		return;
	q->acked = *p;
	if (!q->saving)
		save (q);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static void opened (struct queue *q, bool known, bool forbidden, const struct err *err)
{
	q->ops->on_open (known, forbidden, err, q->arg);
}

static void on_acked (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct queue *q = arg;
	struct err e = { 0 };

	(void) r;
	if (!came (q))
		return;
	if ((err = rds_error (reply, err, &e))) {
		opened (q, false, false, err);
		return;
	}
	if (reply->type == REDIS_REPLY_STRING && place_parse (reply->str, &q->at))
		q->acked = q->saved = q->at;
	q->state = QUEUE_IDLE;
	q->woken = true;
	read_on (q);
	opened (q, true, false, NULL);
}

static void on_ended (const struct layout_ended *e, void *arg)
{
	(void) e;
	on_wake (arg);
}

/* The connection is asked to go elsewhere by others. */
static void on_close (void *arg)
{
	struct queue *q = arg;

	feed_leave (&q->member);
}

static const struct feed_ops feed_ops = { on_wake, on_ended, on_close };

static void on_watched (const struct err *err, void *arg)
{
	struct queue *q = arg;
	char key[LAYOUT_KEY_MAX];

	if (!came (q))
		return;
	if (err) {
		opened (q, false, false, err);
		return;
	}
	q->member = feed_join (q->app->feed, &q->group, &feed_ops, q);
	q->pending++;
	layout_key (key, "group", &q->group, "acked");
	rds_commandf (q->app->redis, on_acked, q, "GET %s", key);
}

static void on_group (enum group_state state, int64_t created_ns, const struct err *err, void *arg)
{
	struct queue *q = arg;

	(void) created_ns;
	if (!came (q))
		return;
	if (err || state == GROUP_UNKNOWN || state == GROUP_FORBIDDEN) {
		opened (q, false, state == GROUP_FORBIDDEN, err);
		return;
	}
	q->pending++;
	watch_group (q->app, &q->group, on_watched, q);
}

struct queue *queue_create (struct app *a, const struct id *owner, const struct id *group, const struct queue_ops *ops, void *arg)
{
	struct queue *q = xcalloc (1, sizeof (*q));

	*q = (struct queue) { .app = a, .group = *group, .ops = ops, .arg = arg, .state = QUEUE_OPENING };
	q->again = loop_timer_create (a->loop, on_again, q);
	q->pending++;
	group_check (a, owner, group, on_group, q);
	return q;
}

void queue_destroy (struct queue **qp)
{
	struct queue *q = *qp;

	if (!q)
		return;
	*qp = NULL;
	if (ends_at_after (&q->acked.at, &q->saved.at))
		save (q);
	feed_leave (&q->member);
	loop_timer_destroy (&q->again);
	q->dead = true;
	release (q);
}
