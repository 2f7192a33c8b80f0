/* SPDX-License-Identifier: Apache-2.0 */
#include "service/app.h"
#include <stdlib.h>
#include "common/log.h"
#include "common/metrics.h"
#include "common/xmem.h"
#include "proto/bulk.h"
#include "service/amqp/server.h"
#include "service/auth.h"
#include "service/call.h"
#include "service/fail.h"
#include "service/feed.h"
#include "service/republish.h"
#include "service/stats.h"
#include "service/streams.h"
#include "service/sweep.h"

#define MOD "app"
#define DRAIN_EARLY_MS 1000	/* those who wait are answered that long before the grace is over */

static void on_request (struct http_req *req, void *arg)
{
	call_dispatch (arg, req);
}

static void on_http_error (int status, const char *text, struct buf *body, void *arg)
{
	struct app *a = arg;

	fail_status_body (body, status, text);
	stats_request (a->stats, NULL, status, 0);
}

static void on_redis (struct rds *r, bool up, const char *why, void *arg)
{
	struct app *a = arg;

	(void) r;
	if (!up) {
		log_warn (MOD, "redis lost", "why=%s", why);
		return;
	}
	log_info (MOD, "redis up", NULL);
	if (a->catalog)
		catalog_redis_up (a->catalog);
	if (a->waiters)
		waiters_commands_up (a->waiters);
	if (a->index == 0 && a->registry)
		republish_all (a);
}

static int open_parts (struct app *a, struct err *err)
{
	const struct config *c = a->config;
	struct rds_opts ro = { .url = c->redis_url, .password_file = c->redis_password_file, .on_state = on_redis, .arg = a };

	if (registry_open (&a->registry, c->registry_path, c->registry_busy_ms, err) < 0)
		return -1;
	if (!(a->db = db_create (a->loop, c->registry_path, c->registry_busy_ms, err)))
		return -1;
	if (!(a->redis = rds_create (a->loop, &ro, err)))
		return -1;
	if (!(a->waiters = waiters_create (a->loop, a->redis, c->redis_url, c->redis_password_file, err)))
		return -1;
	if (!(a->feed = feed_create (a->loop, c->redis_url, c->redis_password_file, err)))
		return -1;
	a->streams = streams_create (a);
	a->catalog = catalog_create (a->registry, a->redis, c->catalog_cache_ms);
	a->epstate = epstate_create (a->redis, c->endpoint_stale_ms);
	a->auth = auth_create (a->registry, c->token_cache_ms, c->requests_per_s / (double) c->workers, c->request_burst);
	a->stats = stats_create (route_table);
	if (c->bulk_dir && *c->bulk_dir && !(a->bulk = bulk_open (c->bulk_dir, true, err)))
		return -1;
	if (a->bulk && c->bulk_fsync)
		bulk_sync_start (a->bulk, true);
	if (a->bulk && a->index == 0)
		a->sweep = sweep_create (a->loop, a->redis, a->bulk, c->bulk_grace_ms);
	return 0;
}

static int serve (struct app *a, struct err *err)
{
	const struct config *c = a->config;
	struct http_opts o = { .max_body_bytes = (size_t) c->body_bytes, .max_connections = (size_t) c->connections,
			       .max_buffered_bytes = (size_t) c->buffered_bytes, .on_request = on_request, .on_error = on_http_error, .arg = a };

	if (!(a->http = http_create (a->loop, &o, err)))
		return -1;
	return (a->amqp = amqp_create (a, err)) ? 0 : -1;
}

bool app_ready (const struct app *a)
{
	return rds_up (a->redis) && waiters_up (a->waiters) && feed_up (a->feed);
}

int app_count (struct app *a, int fd, unsigned slab, struct err *err)
{
	stats_start (a->stats, a->loop, a);
	return metrics_join (fd, slab, err);
}

int app_listen (struct app *a, int fd, struct err *err)
{
	int port = http_listen_fd (a->http, fd, err);

	if (port < 0)
		return -1;
	log_info (MOD, "serving", "port=%d worker=%d", port, a->index);
	return 0;
}

int app_listen_amqp (struct app *a, int fd, struct err *err)
{
	int port = amqp_listen_fd (a->amqp, fd, err);

	if (port < 0)
		return -1;
	log_info (MOD, "serving AMQP", "port=%d worker=%d", port, a->index);
	return 0;
}

struct app *app_create (struct loop *l, const struct config *c, int index, struct err *err)
{
	struct app *a = xcalloc (1, sizeof (*a));

	a->config = c;
	a->index = index;
	a->loop = l;
	if (open_parts (a, err) < 0 || serve (a, err) < 0)
		app_destroy (&a);
	return a;
}

static void on_drained (void *arg)
{
	struct app *a = arg;

	if (--a->serving == 0)
		loop_stop (a->loop);
}

static void end_waits (void *arg)
{
	struct app *a = arg;

	waiters_end_all (a->waiters);
}

void app_drain (struct app *a)
{
	int64_t grace = a->config->drain_grace_ms;
	struct loop_timer *t;

	if (a->draining)
		return;
	a->draining = true;
	log_info (MOD, "draining", "connections=%zu", http_connections (a->http));
	t = loop_timer_create (a->loop, end_waits, a); /* lives until the process ends, soon */
	loop_timer_start (t, grace > 2 * DRAIN_EARLY_MS ? grace - DRAIN_EARLY_MS : grace / 2, false);
	a->drain_timer = t;
	a->serving = 2;
	amqp_drain (a->amqp, on_drained, a);
	http_drain (a->http, grace, on_drained, a);
	feed_close (a->feed);	/* event streams end, their clients go on elsewhere */
}

/* The server goes first: calls in hand are then answered into the void, by the callbacks that destroying the other modules causes.
 * These may still ask for the Redis connection, so it is nulled afterwards. */
void app_destroy (struct app **ap)
{
	struct app *a = *ap;
	struct rds *redis;

	if (!a)
		return;
	a->draining = true;
	loop_timer_destroy (&a->drain_timer);
	http_destroy (&a->http);
	amqp_destroy (&a->amqp);
	sweep_stop (a->sweep);
	db_destroy (&a->db);
	redis = a->redis;
	rds_destroy (&redis);
	a->redis = NULL;
	sweep_destroy (&a->sweep);
	waiters_destroy (&a->waiters);
	streams_destroy (&a->streams);
	feed_destroy (&a->feed);
	catalog_destroy (&a->catalog);
	epstate_destroy (&a->epstate);
	auth_destroy (&a->auth);
	stats_destroy (&a->stats);
	bulk_close (&a->bulk);
	registry_close (&a->registry);
	free (a);
	*ap = NULL;
}
