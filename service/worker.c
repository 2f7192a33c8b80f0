/* SPDX-License-Identifier: Apache-2.0 */
/* See worker.h. It takes connections only when it can answer them: until Redis is there they wait in the socket's queue, or with the worker
 * that this one replaces. A Redis that does not come holds it up for a moment only; requests are then told so. */
#include "service/worker.h"
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/spawn.h"
#include "service/app.h"
#include "service/master.h"

#define MOD "worker"
#define READY_WAIT_MS 2000
#define READY_POLL_MS 5

struct worker {
	struct loop *loop;
	struct app *app;
	struct loop_timer *start;	/* pending until it serves */
	int index, nlisten, namqp;
	unsigned slab;
	int64_t deadline_ms;
	int status;
};

static void on_stop (int signo, void *arg)
{
	struct worker *w = arg;

	(void) signo;
	loop_timer_stop (w->start);
	app_drain (w->app); /* the loop runs only with an app */
}

static void on_hup (int signo, void *arg)
{
	struct err err;

	(void) signo;
	(void) arg;
	if (log_reopen (&err) < 0)
		log_err (LOG_ERROR, MOD, "log not reopened", &err);
}

static int serve (struct worker *w, struct err *err)
{
	int rc = app_count (w->app, WORKER_METRICS_FD, w->slab, err);

	for (int i = 0; rc == 0 && i < w->nlisten; i++)
		rc = app_listen (w->app, WORKER_LISTEN_FD + i, err) < 0 ? -1 : 0;
	for (int i = 0; rc == 0 && i < w->namqp; i++)
		rc = app_listen_amqp (w->app, WORKER_LISTEN_FD + w->nlisten + i, err) < 0 ? -1 : 0;
	return rc;
}

static void on_start (void *arg)
{
	struct worker *w = arg;
	struct err err;

	if (!app_ready (w->app) && clock_now_ms () < w->deadline_ms)
		return;
	loop_timer_stop (w->start);
	if (serve (w, &err) < 0) {
		log_err (LOG_ERROR, MOD, "worker not started", &err);
		w->status = 1;
		loop_stop (w->loop);
		return;
	}
	if (write (WORKER_READY_FD, "+", 1) != 1)
		log_warn (MOD, "the master does not listen", NULL);
	close (WORKER_READY_FD);
}

/* Signals before the port: whoever may be connected to us must not be cut off. */
static int worker_up (struct worker *w, const struct config *c, struct err *err)
{
	if (!(w->loop = loop_create (err)) || loop_signal (w->loop, SIGTERM, on_stop, w, err) < 0 || loop_signal (w->loop, SIGINT, on_stop, w, err) < 0 ||
	    loop_signal (w->loop, SIGHUP, on_hup, NULL, err) < 0 || !(w->app = app_create (w->loop, c, w->index, err)))
		return -1;
	w->start = loop_timer_create (w->loop, on_start, w);
	w->deadline_ms = clock_now_ms () + READY_WAIT_MS;
	loop_timer_start (w->start, READY_POLL_MS, true);
	return 0;
}

int worker_run (int argc, char **argv)
{
	struct worker w = { .status = 1 };
	struct config c;
	struct err err;

	if (argc < 6)
		return 2;
	spawn_tie_to_parent ((pid_t) atoi (argv[1]));
	if (master_load (argv[5][0] ? argv[5] : NULL, (const char *const *) argv + 6, &c) < 0) /* argv ends with NULL */
		return 1;
	w.index = atoi (argv[0]);
	w.slab = (unsigned) atoi (argv[2]);
	w.nlisten = atoi (argv[3]);
	w.namqp = atoi (argv[4]);
	signal (SIGPIPE, SIG_IGN);
	if (log_open ("weft-service", c.log_file, (enum log_level) c.log_level, &err) < 0 || worker_up (&w, &c, &err) < 0) {
		log_err (LOG_ERROR, MOD, "worker not started", &err);
	} else {
		w.status = 0;
		loop_run (w.loop);
	}
	loop_timer_destroy (&w.start);
	app_destroy (&w.app);
	loop_destroy (&w.loop);
	config_free (&c);
	return w.status;
}
