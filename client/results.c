/* SPDX-License-Identifier: Apache-2.0 */
#include "client/results.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client/names.h"
#include "client/submit.h"
#include "common/base64.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/xmem.h"

bool results_unknown (const json_t *doc)
{
	return !strcmp (api_str (doc, "status"), "Failed");	/* no status of a task, but batch_status' word for an id that it does not know */
}

bool results_good (const json_t *doc)
{
	return !strcmp (api_str (doc, "status"), "success");
}

bool results_ended (const json_t *doc)
{
	const char *s = api_str (doc, "status");
	return results_good (doc) || !strcmp (s, "failed") || !strcmp (s, "cancelled") || results_unknown (doc);
}

const char *results_reason (const json_t *doc, int *n)
{
	const char *text = *api_str (doc, "exception") ? api_str (doc, "exception") : api_str (doc, "reason"), *line = text;
	/* a traceback's last line is its point */
	if (!strncmp (text, "Traceback", 9))
		for (const char *p = text; (p = strchr (p, '\n')); p++)
			if (p[1] && p[1] != ' ' && p[1] != '\n')
				line = p + 1;
	for (*n = (int)strlen (line); *n && line[*n - 1] == '\n'; --*n)
		;
	return line;
}

static void progress (size_t done, size_t all, int64_t began_ms)
{
	if (!isatty (2) || clock_now_ms () - began_ms < 2000)
		return;
	fprintf (stderr, "\r%zu of %zu tasks done, %.0f s ", done, all, (double)(clock_now_ms () - began_ms) / 1000);
}

int results_await (const struct api_opts *o, json_t *ids, json_t *docs, int64_t timeout_ms, struct err *err)
{
	int64_t began = clock_now_ms (), left;
	size_t all = json_array_size (ids), i;
	json_t *id, *doc;
	struct id parsed;
	json_array_foreach (ids, i, id)
		if (id_parse (&parsed, json_string_value (id), json_string_length (id)) < 0)
			return err_set (err, ERR_INVALID, FAULT_USER, "'%.100s' is not a UUID", json_string_value (id));
	for (;;) {
		json_t *open = json_array (), *answer;
		char *path;
		double wait;
		const char *key;
		json_array_foreach (ids, i, id)
			if (!json_object_get (docs, json_string_value (id)))
				json_array_append (open, id);
		progress (all - json_array_size (open), all, began);
		left = timeout_ms ? timeout_ms - (clock_now_ms () - began) : (int64_t)(RESULTS_WAIT_S * 1000);
		if (!json_array_size (open) || left <= 0) {
			bool over = json_array_size (open) > 0;
			json_decref (open);
			if (isatty (2) && clock_now_ms () - began >= 2000)
				fputs ("\r\033[K", stderr);
			return over;
		}
		wait = (double)left / 1000 < RESULTS_WAIT_S ? (double)left / 1000 : RESULTS_WAIT_S;
		if (isatty (2) && wait > 2)
			wait = 2; /* so that progress moves */
		path = xasprintf ("/v3/batch_status?wait=%g", wait);
		answer = api_call (o, "POST", path, json_pack ("{s:o}", "task_ids", open), wait, err);
		free (path);
		if (!answer)
			return -1;
		json_object_foreach (json_object_get (answer, "results"), key, doc)
			if (results_ended (doc))
				json_object_set (docs, key, doc);
		json_decref (answer);
	}
}

/* Text gets a newline at its end; bytes go out as they are. */
static void print_payload (const json_t *doc)
{
	json_t *r = json_object_get (doc, "result");
	const char *s = api_str (doc, "result");
	size_t n = json_string_length (r);
	if (!strcmp (api_str (doc, "result_encoding"), "base64")) {
		struct buf b;
		buf_init (&b, 0);
		if (base64_decode (&b, s, n) == 0)
			fwrite (b.data, 1, b.len, stdout);
		buf_fini (&b);
		return;
	}
	fwrite (s, 1, n, stdout);
	if (!n || s[n - 1] != '\n')
		putchar ('\n');
}

static void print_failure (const char *id, const json_t *doc)
{
	if (results_unknown (doc)) {
		fprintf (stderr, "weft: task %s is not known: not one of yours, or its result is no longer kept\n", id);
		return;
	}
	const char *why = *api_str (doc, "exception") ? api_str (doc, "exception") : api_str (doc, "reason");
	size_t n = strlen (why);
	while (n && why[n - 1] == '\n')
		n--;
	fprintf (stderr, "weft: task %s %s: %.*s\n", id, api_str (doc, "status"), (int)n, why);
}

int results_print (const struct api_opts *o, json_t *ids, json_t *docs)
{
	json_t *id, *doc;
	size_t i;
	int rc = 0;
	json_array_foreach (ids, i, id) {
		if (!(doc = json_object_get (docs, json_string_value (id))))
			continue;
		if (!results_good (doc))
			rc = EXIT_TASK_FAILED;
		if (o->json)
			continue;
		if (results_good (doc))
			print_payload (doc);
		else
			print_failure (json_string_value (id), doc);
	}
	if (o->json)
		api_print_json (docs);
	return rc;
}

void results_say_offline (const struct api_opts *o, const char *ep)
{
	char *path = xasprintf ("/v2/endpoints/%s/status", ep);
	json_t *s = api_call (o, "GET", path, NULL, 0, NULL);
	if (!strcmp (api_str (s, "status"), "offline"))
		fprintf (stderr, "weft: endpoint %s is offline: the task waits until it connects\n", names_endpoint (o, ep));
	json_decref (s);
	free (path);
}

int results_time_over (json_t *ids)
{
	fprintf (stderr, "weft: not all tasks have ended yet; they go on, ask again with: weft result %s%s\n",
		 json_string_value (json_array_get (ids, 0)), json_array_size (ids) > 1 ? " ..." : "");
	return EXIT_TIME_OVER;
}
