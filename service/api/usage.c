/* SPDX-License-Identifier: Apache-2.0 */
/* How much endpoints were used, by the hour: one of them, or all that one owns together. Read from what proto/usage.c counts. */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "proto/usage.h"
#include "service/api/api.h"
#include "service/call.h"

#define ENDPOINTS_MAX 50	/* each costs a read a day */

struct report {
	struct call *c;
	int64_t first_day;
	size_t hours, endpoints, left;
	bool truncated;
	struct err err;
	struct usage by_hour[];
};
struct day { struct report *r; size_t at; };

static void answer (struct report *r)
{
	json_t *list = json_array ();
	char t[32];

	for (size_t i = 0; i < r->hours; i++) {
		const int64_t *n = r->by_hour[i].n;
		if (!n[USAGE_ENDED])
			continue;
		json_array_append_new (list, json_pack ("{s:s, s:I, s:I, s:I, s:I, s:o}", "hour",
							clock_iso ((r->first_day * 24 + (int64_t) i) * USAGE_HOUR_MS * 1000000, t), "tasks",
							(json_int_t) n[USAGE_ENDED], "failed", (json_int_t) n[USAGE_FAILED], "cancelled",
							(json_int_t) n[USAGE_CANCELLED], "ran", (json_int_t) n[USAGE_RAN], "mean_s",
							n[USAGE_RAN] ? json_real ((double) n[USAGE_RUN_US] / 1e6 / (double) n[USAGE_RAN]) : json_null ()));
	}
	if (r->err.code) {
		json_decref (list);
		call_fail_err (r->c, &r->err, FAIL_ENDPOINT_NOT_FOUND);
	} else
		call_json (r->c, json_pack ("{s:s, s:i, s:b, s:o}", "from", clock_iso (r->first_day * USAGE_DAY_MS * 1000000, t), "endpoints",
					    (int) r->endpoints, "truncated", (int) r->truncated, "hours", list));
	free (r);
}

static void done (struct report *r)
{
	if (--r->left == 0)
		answer (r);
}

static void on_day (struct rds *rds, struct redisReply *reply, const struct err *err, void *arg)
{
	struct day *d = arg;
	struct report *r = d->r;
	struct err e = { 0 };
	enum usage_what what;
	int hour;

	(void) rds;
	err = rds_error (reply, err, &e);
	if (err)
		r->err = *err;
	else if (reply->type == REDIS_REPLY_ARRAY)
		for (size_t i = 0; i + 1 < reply->elements; i += 2) {
			const struct redisReply *k = reply->element[i], *v = reply->element[i + 1];
			int64_t n = v->type == REDIS_REPLY_STRING ? strtoll (v->str, NULL, 10) : 0;
			if (k->type == REDIS_REPLY_STRING && n > 0 && usage_field (k->str, k->len, &hour, &what))
				r->by_hour[d->at + (size_t) hour].n[what] += n;
		}
	free (d);
	done (r);
}

static void read_all (struct report *r, const struct id *ids, size_t n)
{
	char key[LAYOUT_KEY_MAX];

	r->endpoints = n;
	r->left = 1;
	for (size_t i = 0; i < n; i++)
		for (size_t at = 0; at < r->hours; at += 24) {
			struct day *d = xcalloc (1, sizeof (*d));
			*d = (struct day) { r, at };
			r->left++;
			usage_key (key, &ids[i], r->first_day + (int64_t) at / 24);
			rds_commandf (r->c->app->redis, on_day, d, "HGETALL %s", key);
		}
	done (r);
}

/* Those that the caller owns, ENDPOINTS_MAX at most. -1: answered. */
static int own_endpoints (struct call *c, struct id ids[ENDPOINTS_MAX], size_t *n, bool *truncated)
{
	struct reg_endpoint *rows;
	struct err err;

	if (registry_endpoints (c->app->registry, &c->who.user, REG_OWNER, NULL, ENDPOINTS_MAX + 1, &rows, n, &err) < 0) {
		call_fail_err (c, &err, FAIL_ENDPOINT_NOT_FOUND);
		return -1;
	}
	for (size_t i = 0; i < *n; i++) {
		if (i < ENDPOINTS_MAX)
			ids[i] = rows[i].id;
		reg_endpoint_fini (&rows[i]);
	}
	free (rows);
	*truncated = *n > ENDPOINTS_MAX;
	if (*truncated)
		*n = ENDPOINTS_MAX;
	return 0;
}

void api_usage (struct call *c)
{
	struct id ids[ENDPOINTS_MAX];
	struct report *r;
	enum fail why;
	struct err err;
	int64_t days;
	size_t n = 1;
	bool one, truncated = false;

	if (call_query_int (c, "days", 1, USAGE_DAYS, 2, &days) < 0 || call_query_id (c, "endpoint", &ids[0], &one) < 0 || call_need_redis (c) < 0)
		return;
	if (one && catalog_endpoint (c->app->catalog, &ids[0], &c->who.user, &why, &err) < 0) {
		call_fail (c, why, "%s", err.text);
		return;
	}
	if (!one && own_endpoints (c, ids, &n, &truncated) < 0)
		return;
	r = xcalloc (1, sizeof (*r) + (size_t) days * 24 * sizeof (r->by_hour[0]));
	r->c = c;
	r->hours = (size_t) days * 24;
	r->truncated = truncated;
	r->first_day = clock_real_ns () / 1000000 / USAGE_DAY_MS - days + 1;
	read_all (r, ids, n);
}
