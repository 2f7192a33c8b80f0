/* SPDX-License-Identifier: Apache-2.0 */
/* One worker process: its modules, made and taken down in mirror order. Handlers see them through struct call. */
#ifndef SERVICE_APP_H
#define SERVICE_APP_H
#include "common/http.h"
#include "common/rds.h"
#include "service/catalog.h"
#include "service/config.h"
#include "service/db.h"
#include "service/epstate.h"
#include "service/waiters.h"

struct auth;
struct feed;
struct streams;
struct stats;
struct bulk;
struct sweep;
struct amqp_server;

struct app {
	const struct config *config;	/* borrowed */
	int index;			/* which of the workers */
	struct loop *loop;		/* borrowed */
	struct registry *registry;	/* the loop's connection, for reading */
	struct db *db;			/* for changes */
	struct rds *redis;
	struct waiters *waiters;
	struct feed *feed;
	struct streams *streams;
	struct catalog *catalog;
	struct epstate *epstate;
	struct auth *auth;
	struct stats *stats;
	struct bulk *bulk;		/* NULL: no store, large data goes through Redis */
	struct sweep *sweep;		/* in one worker */
	struct http_server *http;
	struct amqp_server *amqp;
	struct loop_timer *drain_timer;
	int serving;			/* servers that have not drained */
	bool draining;
};

struct app *app_create (struct loop *l, const struct config *c, int index, struct err *err);
bool app_ready (const struct app *a);				/* what it needs is there */
int app_count (struct app *a, int fd, unsigned slab, struct err *err);	/* metrics_join, with what there is to see */
int app_listen (struct app *a, int fd, struct err *err);	/* serve on a bound socket (transferred) too */
int app_listen_amqp (struct app *a, int fd, struct err *err);	/* the same for AMQP */
/* Stop accepting, finish what is in hand, then stop the loop. */
void app_drain (struct app *a);
void app_destroy (struct app **a);

#endif
