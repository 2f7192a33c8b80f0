/* SPDX-License-Identifier: Apache-2.0 */
#include "service/stats.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/metrics.h"
#include "common/xmem.h"
#include "service/app.h"

#define LOOK_MS 1000
#define PROCESS_EVERY 15	/* looks: counting descriptors takes a moment when there are many */

struct by_route { const char *name; struct metric *count[6], *latency; };	/* count[n]: status nxx */

struct stats {
	const struct app *app;		/* borrowed */
	struct loop_timer *timer;
	unsigned looks;
	const struct route *table;
	size_t nroutes, nnames;
	struct by_route *names;		/* one per name, the last for unknown paths */
	uint16_t *index;		/* route -> names */
	struct metric *submitted, *waited, *waiters, *connections, *redis_up, *db_queue, *workers;
};

static void register_name (struct by_route *b, const char *name)
{
	char labels[96];

	b->name = name;
	for (int class = 2; class <= 5; class++) {
		if (class == 3)
			continue;
		snprintf (labels, sizeof (labels), "route=\"%s\",status=\"%dxx\"", name, class);
		b->count[class] = metrics_counter ("weft_service_requests_total", labels, "Requests answered");
	}
	b->count[3] = b->count[2];
	snprintf (labels, sizeof (labels), "route=\"%s\"", name);
	b->latency = metrics_histogram ("weft_service_request_seconds", labels, "From the request's first byte to its answer");
}

struct stats *stats_create (const struct route *table)
{
	struct stats *s = xcalloc (1, sizeof (*s));
	size_t i, j;

	s->table = table;
	while (table[s->nroutes].pattern)
		s->nroutes++;
	s->names = xcalloc (s->nroutes + 1, sizeof (*s->names));
	s->index = xcalloc (s->nroutes + 1, sizeof (*s->index));
	for (i = 0; i < s->nroutes; i++) {
		for (j = 0; j < s->nnames && strcmp (s->names[j].name, table[i].name); j++)
			;
		if (j == s->nnames)
			register_name (&s->names[s->nnames++], table[i].name);
		s->index[i] = (uint16_t) j;
	}
	register_name (&s->names[s->nnames], "none");
	s->index[s->nroutes] = (uint16_t) s->nnames;
	s->submitted = metrics_counter ("weft_service_tasks_submitted_total", NULL, "Tasks accepted");
	s->waited = metrics_counter ("weft_service_tasks_waited_total", NULL, "Results given to requests that waited for them");
	s->waiters = metrics_gauge ("weft_service_waiters", NULL, "Requests that wait for tasks");
	s->connections = metrics_gauge ("weft_service_connections", NULL, "Open HTTP connections");
	s->redis_up = metrics_gauge_least ("weft_service_redis_up", NULL, "1 when Redis answers all worker processes");
	s->workers = metrics_gauge ("weft_service_workers", NULL, "Worker processes that serve, or finish what they have in hand");
	s->db_queue = metrics_gauge ("weft_service_registry_queue", NULL, "Changes that wait for the registry");
	return s;
}

void stats_destroy (struct stats **sp)
{
	if (!*sp)
		return;
	loop_timer_destroy (&(*sp)->timer);
	free ((*sp)->names);
	free ((*sp)->index);
	free (*sp);
	*sp = NULL;
}

void stats_request (struct stats *s, const struct route *route, int status, int64_t took_ns)
{
	struct by_route *b = &s->names[s->index[route ? (size_t) (route - s->table) : s->nroutes]];
	int class = status / 100;

	metric_add (b->count[class >= 2 && class <= 5 ? class : 5], 1);
	metric_observe_ns (b->latency, took_ns);
}

void stats_tasks (struct stats *s, int64_t submitted, int64_t ended_in_wait)
{
	metric_add (s->submitted, submitted);
	metric_add (s->waited, ended_in_wait);
}

static void look (struct stats *s)
{
	metric_set (s->waiters, (double) waiters_count (s->app->waiters));
	metric_set (s->connections, (double) http_connections (s->app->http));
	metric_set (s->redis_up, rds_up (s->app->redis) ? 1 : 0);
	metric_set (s->db_queue, (double) db_waiting (s->app->db));
	metric_set (s->workers, 1);
}

/* For whichever process is asked next. */
static void on_look (void *arg)
{
	struct stats *s = arg;

	look (s);
	if (s->looks++ % PROCESS_EVERY == 0)
		metrics_process ();
}

void stats_start (struct stats *s, struct loop *l, const struct app *a)
{
	s->app = a;
	s->timer = loop_timer_create (l, on_look, s);
	loop_timer_start (s->timer, LOOK_MS, true);
	look (s);
}

void stats_render (struct stats *s, struct buf *out)
{
	look (s);
	metrics_render (out);
}
