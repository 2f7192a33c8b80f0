/* SPDX-License-Identifier: Apache-2.0 */
#include "service/epstate.h"
#include <hiredis/hiredis.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/map.h"
#include "common/xmem.h"

#define FRESH_MS 1000
#define ENTRIES_MAX 20000

struct entry { bool online; int64_t read_ms; char *reason; };

struct epstate { struct rds *redis; int64_t stale_ms; struct map *all; };

struct refresh { struct epstate *e; size_t left; loop_f *done; void *arg; };
struct one { struct refresh *r; struct id id; };

static void free_entry (void *v)
{
	free (((struct entry *) v)->reason);
	free (v);
}

struct epstate *epstate_create (struct rds *redis, int64_t stale_ms)
{
	struct epstate *e = xcalloc (1, sizeof (*e));

	e->redis = redis;
	e->stale_ms = stale_ms;
	e->all = map_create ();
	return e;
}

void epstate_destroy (struct epstate **ep)
{
	if (!*ep)
		return;
	map_destroy_owned (&(*ep)->all, free_entry);
	free (*ep);
	*ep = NULL;
}

bool epstate_judge (const struct epstate *e, const struct redisReply *up, const struct redisReply *seen, const struct redisReply *locked)
{
	int64_t now = clock_real_ns () / 1000000;

	if (up->type != REDIS_REPLY_STRING || seen->type != REDIS_REPLY_STRING || strcmp (up->str, "1"))
		return false;
	if (locked->type == REDIS_REPLY_STRING && strtoll (locked->str, NULL, 10) > now) /* its forwarder may not have heard it yet */
		return false;
	return now - strtoll (seen->str, NULL, 10) < e->stale_ms;
}

bool epstate_online (const struct epstate *e, const struct id *endpoint)
{
	const struct entry *x = map_get (e->all, endpoint);

	return x && x->online;
}

const char *epstate_waiting_reason (const struct epstate *e, const struct id *endpoint)
{
	const struct entry *x = map_get (e->all, endpoint);

	return x && x->online ? x->reason : NULL;
}

/* Out of the figures that the forwarder wrote; most have none. */
static char *reason_of (const struct redisReply *cap)
{
	json_t *o;
	char *reason;

	if (cap->type != REDIS_REPLY_STRING || !strstr (cap->str, "\"waiting_reason\""))
		return NULL;
	o = json_loadb (cap->str, cap->len, JSON_REJECT_DUPLICATES, NULL);
	reason = xstrdup (json_string_value (json_object_get (o, "waiting_reason")));
	json_decref (o);
	return reason;
}

static void keep (struct epstate *e, const struct id *id, bool online, char *reason)
{
	struct entry *x = map_get (e->all, id);

	if (!x) {
		if (map_size (e->all) >= ENTRIES_MAX)
			map_empty (&e->all, free_entry);
		x = xcalloc (1, sizeof (*x));
		map_put (e->all, id, x);
	}
	x->online = online;
	free (x->reason);
	x->reason = reason;
	x->read_ms = clock_now_ms ();
}

static void finish (struct refresh *r)
{
	if (--r->left)
		return;
	r->done (r->arg);
	free (r);
}

static void on_hash (struct rds *rds, struct redisReply *reply, const struct err *err, void *arg)
{
	struct one *o = arg;

	(void) rds;
	if (!err && reply->type == REDIS_REPLY_ARRAY && reply->elements == 4)
		keep (o->r->e, &o->id, epstate_judge (o->r->e, reply->element[0], reply->element[1], reply->element[2]),
		      reason_of (reply->element[3]));
	finish (o->r);
	free (o);
}

void epstate_refresh (struct epstate *e, const struct id *ids, size_t n, loop_f *done, void *arg)
{
	struct refresh *r = xcalloc (1, sizeof (*r));
	int64_t now = clock_now_ms ();

	*r = (struct refresh) { e, 1, done, arg };
	for (size_t i = 0; i < n; i++) {
		const struct entry *x = map_get (e->all, &ids[i]);
		char key[LAYOUT_KEY_MAX];
		struct one *o;
		if (x && now - x->read_ms < FRESH_MS)
			continue;
		o = xcalloc (1, sizeof (*o));
		*o = (struct one) { r, ids[i] };
		r->left++;
		layout_key (key, "ep", &ids[i], NULL);
		rds_commandf (e->redis, on_hash, o, "HMGET %s up seen locked cap", key);
	}
	finish (r);
}
