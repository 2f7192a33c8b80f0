/* SPDX-License-Identifier: Apache-2.0 */
#include "client/watch.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "client/names.h"
#include "client/results.h"
#include "client/term.h"
#include "common/clock.h"
#include "common/xmem.h"

#define PAGES_MAX 50		/* of new tasks, between two looks */
#define OPEN_MAX 1000		/* tasks without an end that are asked about one by one */

/* "2031-05-02T10:11:12.345Z" to a local time of day, or date when it is not today's. */
static void when (const json_t *doc, char out[32])
{
	struct tm tm = { 0 }, now;
	time_t t, today = time (NULL);
	if (!strptime (api_str (doc, "submitted"), "%Y-%m-%dT%H:%M:%S", &tm)) {
		snprintf (out, 32, "%.19s", api_str (doc, "submitted"));
		return;
	}
	t = timegm (&tm);
	localtime_r (&t, &tm);
	localtime_r (&today, &now);
	if (tm.tm_yday == now.tm_yday && tm.tm_year == now.tm_year)
		strftime (out, 32, "%H:%M:%S", &tm);
	else
		strftime (out, 32, "%Y-%m-%d %H:%M", &tm);
}

void watch_row (struct buf *b, const struct api_opts *api, const json_t *doc)
{
	char at[32];
	if (!doc) {
		buf_printf (b, "%-36s  %-18s  %-16s  %-20s  %s", "TASK", "STATUS", "SUBMITTED", "FUNCTION", "ENDPOINT");
		return;
	}
	when (doc, at);
	buf_printf (b, "%-36s  %-18s  %-16s  %-20.36s  %.36s", api_str (doc, "task_id"), api_str (doc, "status"), at,
		    names_function (api, api_str (doc, "function_id")), names_endpoint (api, api_str (doc, "endpoint_id")));
}

static json_t *page (const struct watch_opts *o, int64_t limit, const char *status, const char *cursor, struct err *err)
{
	char *path = xasprintf ("/v3/tasks?limit=%" PRId64 "%s%s%s%s%s", limit, o->filter, status ? "&status=" : "", status ? status : "",
				cursor && *cursor ? "&cursor=" : "", cursor ? cursor : "");
	json_t *answer = api_call (o->api, "GET", path, NULL, 0, err);
	free (path);
	return answer;
}

/* ---- on a terminal -------------------------------------------------------------------------------------------------------- */

static void table (struct buf *b, const struct watch_opts *o, const json_t *answer, const struct err *err)
{
	json_t *list = json_object_get (answer, "tasks"), *t;
	char now[32];
	size_t i;
	buf_printf (b, "weft tasks  %s  every %g s  q quits\n\n", api_time ((double)clock_real_ns () / 1e9, now), (double)o->interval_ms / 1000);
	buf_str (b, TERM_TITLE);
	watch_row (b, o->api, NULL);
	buf_char (b, '\n');
	json_array_foreach (list, i, t) {
		watch_row (b, o->api, t);
		buf_char (b, '\n');
	}
	if (!answer)
		buf_printf (b, "\n%s\n", err->text);
	else if (!json_array_size (list))
		buf_str (b, "(none)\n");
}

static int on_terminal (const struct watch_opts *o)
{
	int64_t began = clock_now_ms ();
	int rows, cols;
	term_open ();
	do {
		struct err err = { 0 };
		struct buf b;
		term_size (&rows, &cols);
		json_t *answer = page (o, rows > 4 ? rows - 3 : 1, o->status, NULL, &err);
		buf_init (&b, 0);
		table (&b, o, answer, &err);
		term_draw (&b);
		buf_fini (&b);
		json_decref (answer);
	} while (term_wait (o->interval_ms) >= 0 && !(o->timeout_ms && clock_now_ms () - began > o->timeout_ms));
	term_close ();
	return 0;
}

/* ---- elsewhere ------------------------------------------------------------------------------------------------------------ */

struct changes {
	const struct watch_opts *o;
	json_t *open;		/* id -> document as it was shown, of tasks that have not ended */
	char newest[37];	/* ids grow with time */
};

static bool wanted (const struct watch_opts *o, const json_t *doc)
{
	return !o->status || !strcmp (o->status, api_str (doc, "status")) || (!strcmp (o->status, "pending") && !results_ended (doc));
}

static void tell (struct changes *c, json_t *doc)
{
	const char *id = api_str (doc, "task_id");
	json_t *was = json_object_get (c->open, id);
	char at[32];
	if (was && !strcmp (api_str (was, "status"), api_str (doc, "status")))
		return;
	if (!wanted (c->o, doc))
		;
	else if (c->o->api->json) {
		json_dumpf (doc, stdout, JSON_COMPACT);
		putchar ('\n');
	} else {
		struct buf b;
		buf_init (&b, 0);
		watch_row (&b, c->o->api, doc);
		printf ("%s  %s\n", api_time ((double)clock_real_ns () / 1e9, at), (const char *)b.data);
		buf_fini (&b);
	}
	if (results_ended (doc))
		json_object_del (c->open, id);
	else
		json_object_set (c->open, id, doc);
}

/* Tasks that are newer than what was seen, told oldest first; the first time, as many as were asked for. */
static int look_new (struct changes *c, struct err *err)
{
	bool first = !*c->newest, more = true;
	int64_t limit = first ? c->o->limit : 1000;
	json_t *fresh = json_array (), *answer, *t;
	char *cursor = NULL;
	size_t i;
	int rc = 0;
	for (int pages = 0; more && pages < PAGES_MAX; pages++) {
		if (!(answer = page (c->o, limit, NULL, cursor, err))) {
			rc = -1;
			break;
		}
		json_array_foreach (json_object_get (answer, "tasks"), i, t) {
			if (!first && strcmp (api_str (t, "task_id"), c->newest) <= 0) {
				more = false;
				break;
			}
			json_array_append (fresh, t);
		}
		free (cursor);
		cursor = xstrdup (api_str (answer, "next_cursor"));
		more = more && !first && *cursor;
		json_decref (answer);
	}
	free (cursor);
	for (i = json_array_size (fresh); rc == 0 && i-- > 0;) {
		t = json_array_get (fresh, i);
		tell (c, t);
		if (strcmp (api_str (t, "task_id"), c->newest) > 0)
			snprintf (c->newest, sizeof (c->newest), "%s", api_str (t, "task_id"));
	}
	if (first && !*c->newest && rc == 0) /* none so far: all that come are new */
		snprintf (c->newest, sizeof (c->newest), "0");
	json_decref (fresh);
	return rc;
}

static int look_open (struct changes *c, struct err *err)
{
	json_t *ids = json_array (), *answer, *doc, *docs;
	const char *id;
	json_object_foreach (c->open, id, doc)
		if (json_array_size (ids) < OPEN_MAX)
			json_array_append_new (ids, json_string (id));
	if (!json_array_size (ids)) {
		json_decref (ids);
		return 0;
	}
	if (!(answer = api_call (c->o->api, "POST", "/v3/batch_status", json_pack ("{s:O}", "task_ids", ids), 0, err))) {
		json_decref (ids);
		return -1;
	}
	docs = json_object_get (answer, "results");
	for (size_t i = 0; i < json_array_size (ids); i++)
		if ((doc = json_object_get (docs, json_string_value (json_array_get (ids, i))))) {
			static const char *const large[] = { "result", "stdout", "stderr" };
			for (size_t k = 0; k < 3; k++)
				json_object_del (doc, large[k]);
			tell (c, doc);
		}
	json_decref (answer);
	json_decref (ids);
	return 0;
}

static int line_by_line (const struct watch_opts *o)
{
	struct changes c = { .o = o, .open = json_object () };
	int64_t began = clock_now_ms ();
	struct timespec pause = { o->interval_ms / 1000, o->interval_ms % 1000 * 1000000 };
	struct err err = { 0 };
	int rc = 0;
	while (rc == 0) {
		rc = look_open (&c, &err) < 0 || look_new (&c, &err) < 0 ? -1 : 0;
		fflush (stdout);
		if (ferror (stdout) || (o->timeout_ms && clock_now_ms () - began > o->timeout_ms))
			break;
		if (rc == 0)
			nanosleep (&pause, NULL);
	}
	json_decref (c.open);
	return rc < 0 ? api_fail ("tasks", &err) : 0;
}

int watch_run (const struct watch_opts *given)
{
	struct watch_opts o = *given;
	if (!o.interval_ms)
		o.interval_ms = 1000;
	if (!o.limit)
		o.limit = 20;
	return !o.api->json && term_possible () ? on_terminal (&o) : line_by_line (&o);
}
