/* SPDX-License-Identifier: Apache-2.0 */
/* weft top: endpoints, their blocks, workers, queues and rates, and the newest tasks, as they change. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "client/cmds.h"
#include "client/term.h"
#include "client/watch.h"
#include "common/clock.h"
#include "common/xmem.h"

#define TASKS 10
#define ENDPOINTS "1000"

struct opts {
	struct api_opts api;
	int64_t interval_ms;
	bool once;
};
#define AT(f) offsetof (struct opts, f)

struct look { json_t *endpoints, *tasks; int64_t at_ms; struct err err; };	/* endpoints NULL: see err */

static void look_fini (struct look *l)
{
	json_decref (l->endpoints);
	json_decref (l->tasks);
	*l = (struct look){ 0 };
}

static json_int_t num (const json_t *endpoint, const char *key)
{
	return json_integer_value (json_object_get (json_object_get (endpoint, "details"), key));
}

static bool online (const json_t *e)
{
	return !strcmp (api_str (e, "status"), "online");
}

/* ---- looking ---------------------------------------------------------------------------------------------------------------- */

static int by_state_and_name (const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int d = (int)online (y) - (int)online (x);
	return d ? d : strcmp (api_str (x, "name"), api_str (y, "name"));
}

static json_t *sorted (json_t *list)
{
	size_t n = json_array_size (list), i;
	json_t **all = xcalloc (n + 1, sizeof (*all)), *out = json_array ();
	for (i = 0; i < n; i++)
		all[i] = json_array_get (list, i);
	qsort (all, n, sizeof (*all), by_state_and_name);
	for (i = 0; i < n; i++)
		json_array_append (out, all[i]);
	free (all);
	return out;
}

/* Tasks done a second since the look before; a restarted endpoint counts anew. */
static void add_rates (json_t *endpoints, const struct look *before, int64_t now_ms)
{
	json_t *e, *was;
	size_t i, k;
	double s = (double)(now_ms - before->at_ms) / 1000;
	json_array_foreach (endpoints, i, e) {
		json_array_foreach (before->endpoints, k, was) {
			json_int_t d;
			if (strcmp (api_str (e, "uuid"), api_str (was, "uuid")) || s <= 0 || !online (was) || !online (e))
				continue;
			d = num (e, "tasks_done") - num (was, "tasks_done");
			json_object_set_new (e, "tasks_per_s", json_real (d > 0 ? (double)d / s : 0));
		}
	}
}

static void look (const struct opts *o, const struct look *before, struct look *out)
{
	json_t *answer = api_call (&o->api, "GET", "/v3/endpoints?details=1&role=any&limit=" ENDPOINTS, NULL, 0, &out->err), *tasks;
	char *path = xasprintf ("/v3/tasks?limit=%d", TASKS);
	out->at_ms = clock_now_ms ();
	if (answer) {
		out->endpoints = sorted (json_object_get (answer, "endpoints"));
		add_rates (out->endpoints, before, out->at_ms);
		tasks = api_call (&o->api, "GET", path, NULL, 0, NULL);
		out->tasks = json_incref (json_object_get (tasks, "tasks"));
		json_decref (tasks);
	}
	json_decref (answer);
	free (path);
}

/* ---- showing ---------------------------------------------------------------------------------------------------------------- */

static void add_bar (struct buf *b, json_int_t busy, json_int_t all)
{
	int cells = all > 0 ? (int)((busy * 10 + all / 2) / all) : 0;
	for (int i = 0; i < 10; i++)
		buf_char (b, i < cells ? '#' : '.');
}

static const char *since (const json_t *e, char out[32])
{
	struct tm tm = { 0 };
	const char *seen = api_str (json_object_get (e, "details"), "last_seen");
	double s;
	if (!*seen || !strptime (seen, "%Y-%m-%dT%H:%M:%S", &tm))
		return "never";
	s = difftime (time (NULL), timegm (&tm));
	if (online (e))
		return "now";
	if (s < 120)
		snprintf (out, 32, "%.0f s ago", s);
	else if (s < 7200)
		snprintf (out, 32, "%.0f min ago", s / 60);
	else
		snprintf (out, 32, s < 172800 ? "%.0f h ago" : "%.0f d ago", s < 172800 ? s / 3600 : s / 86400);
	return out;
}

static void add_rate (struct buf *b, const json_t *rate)
{
	if (rate)
		buf_printf (b, " %8.*f", json_real_value (rate) < 10 ? 1 : 0, json_real_value (rate));
	else
		buf_printf (b, " %8s", "-");
}

static void add_endpoint (struct buf *b, const json_t *e)
{
	json_int_t all = num (e, "total_workers"), busy = all - num (e, "idle_workers");
	char blocks[32], workers[32], seen[32];
	const char *why = api_str (json_object_get (e, "details"), "waiting_reason");
	snprintf (blocks, sizeof (blocks), num (e, "pending_blocks") ? "%" PRId64 "+%" PRId64 : "%" PRId64, (int64_t)num (e, "blocks"),
		  (int64_t)num (e, "pending_blocks"));
	snprintf (workers, sizeof (workers), "%" PRId64 "/%" PRId64, (int64_t)busy, (int64_t)all);
	buf_printf (b, "%-20.20s  %-7s %7s %5" PRId64 " %9s ", api_str (e, "name"), api_str (e, "status"), blocks, (int64_t)num (e, "managers"), workers);
	add_bar (b, busy, all);
	buf_printf (b, " %8" PRId64 " %8" PRId64 " %9" PRId64, (int64_t)num (e, "pending_tasks"), (int64_t)num (e, "running"), (int64_t)num (e, "tasks_done"));
	add_rate (b, json_object_get (e, "tasks_per_s"));
	buf_printf (b, "  %s\n", since (e, seen));
	if (*why)
		buf_printf (b, "  waits: %s\n", why);
}

static void add_summary (struct buf *b, const json_t *endpoints)
{
	json_int_t up = 0, workers = 0, busy = 0, queued = 0, running = 0;
	double rate = 0;
	json_t *e;
	size_t i;
	json_array_foreach (endpoints, i, e) {
		up += online (e);
		workers += num (e, "total_workers");
		busy += num (e, "total_workers") - num (e, "idle_workers");
		queued += num (e, "pending_tasks");
		running += num (e, "running");
		rate += json_real_value (json_object_get (e, "tasks_per_s"));
	}
	buf_printf (b, "%zu endpoint%s, %" PRId64 " online; workers %" PRId64 " of %" PRId64 " busy; "
		    "tasks: %" PRId64 " queued, %" PRId64 " running, %.*f/s\n\n",
		    json_array_size (endpoints), json_array_size (endpoints) == 1 ? "" : "s", (int64_t)up, (int64_t)busy, (int64_t)workers, (int64_t)queued,
		    (int64_t)running, rate < 10 ? 1 : 0, rate);
}

static void frame (struct buf *b, const struct opts *o, const struct look *l, const char *head)
{
	json_t *e;
	char now[32];
	size_t i;
	buf_printf (b, "weft top  %s%s\n", api_time ((double)clock_real_ns () / 1e9, now), head);
	if (!l->endpoints) {
		buf_printf (b, "\n%s\n", l->err.text);
		return;
	}
	add_summary (b, l->endpoints);
	buf_printf (b, TERM_TITLE "%-20s  %-7s %7s %5s %9s %-10s %8s %8s %9s %8s  %s\n", "ENDPOINT", "STATUS", "BLOCKS", "NODES", "WORKERS", "BUSY", "QUEUED",
		    "RUNNING", "DONE", "TASKS/s", "SEEN");
	json_array_foreach (l->endpoints, i, e)
		add_endpoint (b, e);
	buf_str (b, "\n" TERM_TITLE);
	watch_row (b, &o->api, NULL);
	buf_char (b, '\n');
	json_array_foreach (l->tasks, i, e) {
		watch_row (b, &o->api, e);
		buf_char (b, '\n');
	}
}

static void print_plain (const struct opts *o, const struct look *l)
{
	struct buf b;
	buf_init (&b, 0);
	frame (&b, o, l, "");
	for (size_t i = 0; i < b.len; i++)
		if (b.data[i] != TERM_TITLE[0])
			putchar (b.data[i]);
	buf_fini (&b);
}

static void print_json (const struct look *l, bool pretty)
{
	json_t *j = json_pack ("{s:f, s:O, s:O?}", "at", (double)clock_real_ns () / 1e9, "endpoints", l->endpoints, "tasks", l->tasks);
	json_dumpf (j, stdout, pretty ? JSON_INDENT (2) : JSON_COMPACT);
	putchar ('\n');
	fflush (stdout);
	json_decref (j);
}

/* ---- the command ------------------------------------------------------------------------------------------------------------ */

static int live (const struct opts *o)
{
	struct look now = { 0 }, before = { 0 };
	char head[48];
	snprintf (head, sizeof (head), "  every %g s  q quits", (double)o->interval_ms / 1000);
	term_open ();
	do {
		struct buf b;
		look (o, &before, &now);
		buf_init (&b, 0);
		frame (&b, o, &now, head);
		term_draw (&b);
		buf_fini (&b);
		if (now.endpoints) {
			look_fini (&before);
			before = now;
		} else
			look_fini (&now);
		now = (struct look){ 0 };
	} while (term_wait (o->interval_ms) >= 0);
	term_close ();
	look_fini (&before);
	return 0;
}

/* Objects, or one frame when once; the first look is for the rates only. */
static int printed (const struct opts *o, bool once)
{
	struct look now = { 0 }, before = { 0 };
	struct timespec pause = { o->interval_ms / 1000, o->interval_ms % 1000 * 1000000 };
	int rc = 0;
	look (o, &now, &before);
	while (rc == 0) {
		if (!before.endpoints) {
			rc = api_fail ("top", &before.err);
			break;
		}
		nanosleep (&pause, NULL);
		look (o, &before, &now);
		look_fini (&before);
		before = now;
		now = (struct look){ 0 };
		if (!before.endpoints)
			continue;
		if (o->api.json)
			print_json (&before, once);
		else
			print_plain (o, &before);
		if (once || ferror (stdout))
			break;
	}
	look_fini (&before);
	return rc;
}

static int cmd_top (void *op, int argc, char **argv)
{
	struct opts *o = op;
	(void)argc;
	(void)argv;
	if (!o->interval_ms)
		o->interval_ms = o->once ? 1000 : 2000;
	if (!o->once && !o->api.json && term_possible ())
		return live (o);
	return printed (o, o->once || !o->api.json);
}

static const struct cli_opt top_opts[] = {
	API_OPTS (struct opts),
	{ "interval", 'i', CLI_DURATION_MS, AT (interval_ms), "TIME", 100, 3600000, "between two looks; default 2s" },
	{ "once", '1', CLI_FLAG, AT (once), NULL, 0, 0, "print one look and end; takes a second, for the rates" },
	CLI_END,
};

const struct cli_cmd cmds_top[] = {
	{ "top", "[OPTIONS]",
	  "Watch your endpoints: blocks, nodes, workers, queues, rates, and your newest tasks.\n"
	  "On a terminal it is a live view that follows the window's size; q or Ctrl-C ends it. Elsewhere one look is printed, as with --once.\n"
	  "--json prints an object a look, on one line, until it is stopped; with --once a single one.\n"
	  "BLOCKS are those that run, then + those that wait in the scheduler's queue. QUEUED are tasks that no worker has begun. TASKS/s are\n"
	  "those that ended since the last look.\n"
	  "\n"
	  "  weft top\n"
	  "  weft top --once --json | jq '.endpoints[] | {name, status, tasks_per_s}'",
	  top_opts, sizeof (struct opts), 0, 0, cmd_top },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
