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
struct stats;

struct app {
	const struct config *config;	/* borrowed */
	int index;			/* which of the workers */
	struct loop *loop;		/* borrowed */
	struct registry *registry;	/* the loop's connection, for reading */
	struct db *db;			/* for changes */
	struct rds *redis;
	struct waiters *waiters;
	struct catalog *catalog;
	struct epstate *epstate;
	struct auth *auth;
	struct stats *stats;
	struct http_server *http;
	struct loop_timer *drain_timer;
	bool draining;
};

/* listen: address instead of the configured one, or NULL. Returns NULL with *err. */
struct app *app_create (struct loop *l, const struct config *c, int index, const char *listen, struct err *err);
/* Stop accepting, finish what is in hand, then stop the loop. */
void app_drain (struct app *a);
void app_destroy (struct app **a);

#endif
