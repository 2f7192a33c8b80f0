/* SPDX-License-Identifier: Apache-2.0 */
/* LOOK   does the key say that all is done? Then it only lives on
 * MARK   the watch key is set: tasks submitted from here on carry the flag
 * PAGE   some elements of the group's list, or its lone task
 * FLAG   the tasks of a page, LAYOUT_WATCH_CHUNK in one script, one script at a time; then the next page
 * DONE   the key says that this need not be done again
 *
 * Two may do this at once, and one may die in the middle: a task is flagged once, whoever does it. */
#include "service/watch.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"

#define PAGE 16			/* elements: of up to LAYOUT_SUBMIT_CHUNK tasks each */

struct watch {
	struct app *app;
	struct id group;
	watch_f *cb;
	void *arg;
	long long at;			/* the page's first element */
	bool last;			/* it is the last page */
	struct id *ids;			/* of the page */
	size_t n, next;
};

static void end (struct watch *w, const struct err *err)
{
	w->cb (err, w->arg);
	free (w->ids);
	free (w);
}

static char *watch_key (const struct id *group, char key[LAYOUT_KEY_MAX])
{
	layout_key (key, "group", group, "watch");
	return key;
}

/* ---- pages ------------------------------------------------------------------------------------------------------ */

static void next_page (struct watch *w);

static void on_finished (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	end (arg, err);
}

static void flag_some (struct watch *w);

static void on_flagged (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct watch *w = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (err)
		end (w, err);
	else
		flag_some (w);
}

static void flag_some (struct watch *w)
{
	size_t n = w->n - w->next < LAYOUT_WATCH_CHUNK ? w->n - w->next : LAYOUT_WATCH_CHUNK;
	const struct id *ids = w->ids + w->next;
	char key[LAYOUT_KEY_MAX];

	if (n) {
		w->next += n;
		layout_watch_send (w->app->redis, &w->group, ids, n, w->app->config->retention_ms, on_flagged, w);
	} else if (!w->last)
		next_page (w);
	else
		rds_commandf (w->app->redis, on_finished, w, "SET %s " LAYOUT_WATCH_ALL " PX %" PRId64, watch_key (&w->group, key),
			      w->app->config->retention_ms);
}

static void on_page (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct watch *w = arg;
	struct err e = { 0 };
	size_t total = 0;

	(void) r;
	err = rds_error (reply, err, &e);
	if (err) {
		end (w, err);
		return;
	}
	for (size_t i = 0; i < reply->elements; i++)
		total += reply->element[i]->len / ID_BYTES;
	w->ids = xrealloc (w->ids, (total + 1) * sizeof (*w->ids));
	w->n = w->next = 0;
	if (w->at == 1) /* a task that was alone first stands in no list: the group has its id */
		w->ids[w->n++] = w->group;
	for (size_t i = 0; i < reply->elements; i++)
		for (size_t at = 0; at + ID_BYTES <= reply->element[i]->len; at += ID_BYTES)
			memcpy (w->ids[w->n++].b, reply->element[i]->str + at, ID_BYTES);
	w->last = reply->elements < PAGE;
	w->at += PAGE;
	flag_some (w);
}

static void next_page (struct watch *w)
{
	char key[LAYOUT_KEY_MAX];

	layout_key (key, "group", &w->group, NULL);
	rds_commandf (w->app->redis, on_page, w, "LRANGE %s %lld %lld", key, w->at, w->at + PAGE - 1);
}

/* ---- the mark --------------------------------------------------------------------------------------------------- */

static void on_mark (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct watch *w = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	if (err)
		end (w, err);
	else
		next_page (w);
}

static void on_looked (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct watch *w = arg;
	struct err e = { 0 };
	char key[LAYOUT_KEY_MAX];

	(void) r;
	err = rds_error (reply, err, &e);
	if (err || (reply->type == REDIS_REPLY_STRING && !strcmp (reply->str, LAYOUT_WATCH_ALL)))
		end (w, err);
	else
		rds_commandf (w->app->redis, on_mark, w, "SET %s " LAYOUT_WATCH_NEW " NX PX %" PRId64, watch_key (&w->group, key),
			      w->app->config->retention_ms);
}

/* A SET is refused by a full Redis, whatever it would do. GETEX is not: who only reads what is there is not held up. */
void watch_group (struct app *a, const struct id *group, watch_f *cb, void *arg)
{
	struct watch *w = xcalloc (1, sizeof (*w));
	char key[LAYOUT_KEY_MAX];

	*w = (struct watch) { .app = a, .group = *group, .cb = cb, .arg = arg, .at = 1 };
	rds_commandf (a->redis, on_looked, w, "GETEX %s PX %" PRId64, watch_key (group, key), a->config->retention_ms);
}

void watch_undo (struct app *a, const struct id *group)
{
	char key[LAYOUT_KEY_MAX];

	rds_commandf (a->redis, NULL, NULL, "UNLINK %s", watch_key (group, key));
}

/* ---- asking ----------------------------------------------------------------------------------------------------- */

struct ask { watched_f *cb; void *arg; };

static void on_asked (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct ask *k = arg;
	struct err e = { 0 };

	(void) r;
	err = rds_error (reply, err, &e);
	k->cb (!err && reply->integer == 1, err, k->arg);
	free (k);
}

void watch_ask (struct app *a, const struct id *group, watched_f *cb, void *arg)
{
	struct ask *k = xcalloc (1, sizeof (*k));
	char key[LAYOUT_KEY_MAX];

	*k = (struct ask) { cb, arg };
	rds_commandf (a->redis, on_asked, k, "EXISTS %s", watch_key (group, key));
}
