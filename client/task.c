/* SPDX-License-Identifier: Apache-2.0 */
/* weft run, submit, status, result, cancel, tasks, trace */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client/api.h"
#include "client/cmds.h"
#include "client/trace.h"
#include "common/clock.h"
#include "common/xmem.h"

#define WAIT_S 50.0		/* of one request; repeated until the user's own limit */
#define INPUT_MAX (128u << 20)
#define EXIT_TASK_FAILED 3

struct opts {
	struct api_opts api;
	const char *endpoint, *status, *function, *cursor, *input, *map;
	int64_t time_limit_ms, expected_ms, memory_limit_bytes, timeout_ms, limit, repeat;
	bool stdin_, trace, no_wait, fresh;
};
#define AT(f) offsetof (struct opts, f)

/* ---- input ----------------------------------------------------------------------------------------------------------- */

static char *read_all (FILE *f, const char *name, size_t *n, struct err *err)
{
	size_t cap = 65536, at = 0, k;
	char *text = malloc (cap + 1);
	while (text && (k = fread (text + at, 1, cap - at, f)) > 0) {
		at += k;
		if (at == cap) {
			char *more = cap < INPUT_MAX ? realloc (text, cap * 2 + 1) : NULL;
			if (!more) {
				free (text);
				err_set (err, ERR_TOO_LARGE, FAULT_USER, "%s is larger than 128 MiB", name);
				return NULL;
			}
			text = more;
			cap *= 2;
		}
	}
	if (!text || ferror (f)) {
		err_errno (err, "reading %s", name);
		free (text);
		return NULL;
	}
	text[at] = '\0';
	*n = at;
	return text;
}

static char *read_input (const char *path, size_t *n, struct err *err)
{
	FILE *f = strcmp (path, "-") ? fopen (path, "re") : stdin;
	char *text;
	if (!f) {
		err_errno (err, "%s", path);
		return NULL;
	}
	text = read_all (f, path, n, err);
	if (f != stdin)
		fclose (f);
	return text;
}

/* Payloads: the argument, --input FILE, or a line each of --map FILE; --repeat N times. A payload is sent byte for byte. */
static json_t *payloads (const struct opts *o, int argc, char **argv, struct err *err)
{
	json_t *list = json_array ();
	size_t n;
	if (o->map) {
		char *text = read_input (o->map, &n, err), *save = NULL;
		if (!text)
			goto fail;
		for (char *line = strtok_r (text, "\n", &save); line; line = strtok_r (NULL, "\n", &save))
			json_array_append_new (list, json_string (line));
		free (text);
	} else if (o->input) {
		char *text = read_input (o->input, &n, err);
		json_t *s = text ? json_stringn (text, n) : NULL;
		free (text);
		if (!text)
			goto fail;
		if (!s) {
			err_set (err, ERR_INVALID, FAULT_USER, "%s is not UTF-8 text", o->input);
			goto fail;
		}
		json_array_append_new (list, s);
	} else
		json_array_append_new (list, json_string (argc > 1 ? argv[1] : ""));
	for (int64_t i = 1, k = (int64_t)json_array_size (list); i < o->repeat; i++)
		for (int64_t j = 0; j < k; j++)
			json_array_append (list, json_array_get (list, (size_t)j));
	if (json_array_size (list))
		return list;
	err_set (err, ERR_INVALID, FAULT_USER, "there is no input");
fail:
	json_decref (list);
	return NULL;
}

/* ---- submission -------------------------------------------------------------------------------------------------------- */

static json_t *limits_of (const struct opts *o)
{
	json_t *l = json_object ();
	if (o->time_limit_ms)
		json_object_set_new (l, "time_limit_s", json_real ((double)o->time_limit_ms / 1000));
	if (o->expected_ms)
		json_object_set_new (l, "expected_s", json_real ((double)o->expected_ms / 1000));
	if (o->memory_limit_bytes)
		json_object_set_new (l, "memory_limit_bytes", json_integer (o->memory_limit_bytes));
	return l;
}

/* Returns the answer of the submit route; ids: borrowed from it. */
static json_t *send_tasks (struct opts *o, int argc, char **argv, double wait_s, json_t **ids, struct err *err)
{
	char fn[37], ep[37], *path;
	json_t *list, *body, *answer, *l;
	if (api_function (&o->api, argv[0], fn, err) < 0 || api_endpoint (&o->api, o->endpoint, ep, err) < 0 ||
	    !(list = payloads (o, argc, argv, err)))
		return NULL;
	body = json_pack ("{s:{s:o}, s:b}", "tasks", fn, list, "create_queue", 0);
	l = limits_of (o);
	if (json_object_size (l))
		json_object_set (body, "limits", l);
	json_decref (l);
	if (o->fresh)
		json_object_set_new (body, "memoize", json_false ());
	path = wait_s > 0 ? xasprintf ("/v3/endpoints/%s/submit?wait=%g", ep, wait_s) : xasprintf ("/v3/endpoints/%s/submit", ep);
	answer = api_call (&o->api, "POST", path, body, wait_s, err);
	free (path);
	if (answer)
		*ids = json_object_get (json_object_get (answer, "tasks"), fn);
	return answer;
}

static int cmd_submit (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	json_t *ids, *id, *answer = send_tasks (o, argc, argv, 0, &ids, &err);
	size_t i;
	if (!answer)
		return api_fail ("submit", &err);
	if (o->api.json)
		api_print_json (answer);
	else
		json_array_foreach (ids, i, id)
			puts (json_string_value (id));
	json_decref (answer);
	return 0;
}

/* ---- waiting and results ------------------------------------------------------------------------------------------------- */

static bool ended (const json_t *doc)
{
	const char *s = api_str (doc, "status");
	return !strcmp (s, "success") || !strcmp (s, "failed") || !strcmp (s, "cancelled");
}

static void progress (size_t done, size_t all, int64_t began_ms)
{
	if (!isatty (2) || clock_now_ms () - began_ms < 2000)
		return;
	fprintf (stderr, "\r%zu of %zu tasks done, %.0f s ", done, all, (double)(clock_now_ms () - began_ms) / 1000);
}

/* Ask until all ids have ended or the time is over. docs: object id -> document, filled in. Returns 0, -1 error, 1 time over. */
static int await (struct opts *o, json_t *ids, json_t *docs, struct err *err)
{
	int64_t began = clock_now_ms (), left;
	size_t all = json_array_size (ids), i;
	json_t *id, *doc;
	for (;;) {
		json_t *open = json_array (), *answer;
		char *path;
		double wait;
		const char *key;
		json_array_foreach (ids, i, id)
			if (!json_object_get (docs, json_string_value (id)))
				json_array_append (open, id);
		progress (all - json_array_size (open), all, began);
		left = o->timeout_ms ? o->timeout_ms - (clock_now_ms () - began) : (int64_t)(WAIT_S * 1000);
		if (!json_array_size (open) || left <= 0) {
			bool over = json_array_size (open) > 0;
			json_decref (open);
			if (isatty (2) && clock_now_ms () - began >= 2000)
				fputc ('\n', stderr);
			return over;
		}
		wait = (double)left / 1000 < WAIT_S ? (double)left / 1000 : WAIT_S;
		if (isatty (2) && wait > 2)
			wait = 2; /* so that progress moves */
		path = xasprintf ("/v3/batch_status?wait=%g", wait);
		answer = api_call (&o->api, "POST", path, json_pack ("{s:o}", "task_ids", open), wait, err);
		free (path);
		if (!answer)
			return -1;
		json_object_foreach (json_object_get (answer, "results"), key, doc)
			if (ended (doc))
				json_object_set (docs, key, doc);
		json_decref (answer);
	}
}

static void print_text (const char *s)
{
	size_t n = strlen (s);
	fputs (s, stdout);
	if (!n || s[n - 1] != '\n')
		putchar ('\n');
}

static int print_result (const char *id, const json_t *doc)
{
	if (!strcmp (api_str (doc, "status"), "success")) {
		print_text (api_str (doc, "result"));
		return 0;
	}
	fprintf (stderr, "weft: task %s %s: %s\n", id, api_str (doc, "status"),
		 *api_str (doc, "exception") ? api_str (doc, "exception") : api_str (doc, "reason"));
	return EXIT_TASK_FAILED;
}

static int print_results (struct opts *o, json_t *ids, json_t *docs)
{
	json_t *id, *doc;
	size_t i;
	int rc = 0;
	json_array_foreach (ids, i, id) {
		doc = json_object_get (docs, json_string_value (id));
		if (doc && strcmp (api_str (doc, "status"), "success"))
			rc = EXIT_TASK_FAILED;
		if (!o->api.json && doc)
			print_result (json_string_value (id), doc);
	}
	if (o->api.json)
		api_print_json (docs);
	return rc;
}

static int time_over (json_t *ids)
{
	fprintf (stderr, "weft: not all tasks have ended yet; they go on, ask again with: weft result %s%s\n",
		 json_string_value (json_array_get (ids, 0)), json_array_size (ids) > 1 ? " ..." : "");
	return 4;
}

static int show_trace (struct opts *o, const char *id)
{
	struct err err = { 0 };
	char *path = xasprintf ("/v3/tasks/%s/trace", id);
	json_t *t = api_call (&o->api, "GET", path, NULL, 0, &err);
	free (path);
	if (!t)
		return api_fail ("trace", &err);
	if (o->api.json)
		api_print_json (t);
	else
		trace_print (t, stdout);
	json_decref (t);
	return 0;
}

static int cmd_run (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	double wait = o->timeout_ms && o->timeout_ms < (int64_t)(WAIT_S * 1000) ? (double)o->timeout_ms / 1000 : isatty (2) ? 2 : WAIT_S;
	json_t *ids, *answer = send_tasks (o, argc, argv, wait, &ids, &err), *docs, *doc;
	const char *key;
	int rc;
	if (!answer)
		return api_fail ("run", &err);
	docs = json_object ();
	json_object_foreach (json_object_get (answer, "results"), key, doc)
		if (ended (doc))
			json_object_set (docs, key, doc);
	rc = await (o, ids, docs, &err);
	if (rc < 0)
		rc = api_fail ("run", &err);
	else {
		int over = rc;
		rc = print_results (o, ids, docs);
		if (over)
			rc = time_over (ids);
		else if (o->trace)
			show_trace (o, json_string_value (json_array_get (ids, 0)));
	}
	json_decref (docs);
	json_decref (answer);
	return rc;
}

static json_t *arg_ids (int argc, char **argv)
{
	json_t *ids = json_array ();
	for (int i = 0; i < argc; i++)
		json_array_append_new (ids, json_string (argv[i]));
	return ids;
}

static int cmd_result (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	json_t *ids = arg_ids (argc, argv), *docs = json_object ();
	int rc = await (o, ids, docs, &err);
	if (rc < 0)
		rc = api_fail ("result", &err);
	else {
		int over = rc;
		rc = print_results (o, ids, docs);
		if (over)
			rc = time_over (ids);
	}
	json_decref (ids);
	json_decref (docs);
	return rc;
}

static void print_doc (const json_t *d)
{
	static const char *const keys[] = { "task_id", "status", "function_id", "endpoint_id", "task_group_id", "submitted", "node",
					    "code", "fault", "exit_detail", "reason", "waiting_reason", "memoised", NULL };
	for (const char *const *k = keys; *k; k++) {
		json_t *v = json_object_get (d, *k);
		char *text = json_is_string (v) ? xstrdup (json_string_value (v)) : v && !json_is_null (v) ? json_dumps (v, JSON_ENCODE_ANY) : NULL;
		if (text && *text && strcmp (text, "false"))
			printf ("%-14s %s\n", *k, text);
		free (text);
	}
	if (*api_str (d, "stdout"))
		printf ("--- stdout\n%s\n", api_str (d, "stdout"));
	if (*api_str (d, "stderr"))
		printf ("--- stderr\n%s\n", api_str (d, "stderr"));
	if (*api_str (d, "exception"))
		printf ("--- exception\n%s\n", api_str (d, "exception"));
}

static int each_task (struct opts *o, const char *what, const char *method, int argc, char **argv)
{
	int rc = 0;
	for (int i = 0; i < argc; i++) {
		struct err err = { 0 };
		char *path = xasprintf ("/v3/tasks/%s", argv[i]);
		json_t *d = api_call (&o->api, method, path, NULL, 0, &err);
		free (path);
		if (!d) {
			rc = api_fail (what, &err);
			continue;
		}
		if (o->api.json)
			api_print_json (d);
		else
			print_doc (d);
		json_decref (d);
	}
	return rc;
}

static int cmd_status (void *op, int argc, char **argv)
{
	return each_task (op, "status", "GET", argc, argv);
}

static int cmd_cancel (void *op, int argc, char **argv)
{
	return each_task (op, "cancel", "DELETE", argc, argv);
}

static int cmd_tasks (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	char ep[37] = "", fn[37] = "", *path, when[32];
	json_t *answer, *t;
	size_t i;
	(void)argc;
	(void)argv;
	if ((o->endpoint && api_endpoint (&o->api, o->endpoint, ep, &err) < 0) ||
	    (o->function && api_function (&o->api, o->function, fn, &err) < 0))
		return api_fail ("tasks", &err);
	path = xasprintf ("/v3/tasks?limit=%" PRId64 "%s%s%s%s%s%s%s%s", o->limit ? o->limit : 20, *ep ? "&endpoint=" : "", ep,
			  *fn ? "&function=" : "", fn, o->status ? "&status=" : "", o->status ? o->status : "",
			  o->cursor ? "&cursor=" : "", o->cursor ? o->cursor : "");
	answer = api_call (&o->api, "GET", path, NULL, 0, &err);
	free (path);
	if (!answer)
		return api_fail ("tasks", &err);
	if (o->api.json)
		api_print_json (answer);
	else {
		printf ("%-36s  %-18s  %-19s  %s\n", "TASK", "STATUS", "SUBMITTED", "FUNCTION");
		json_array_foreach (json_object_get (answer, "tasks"), i, t) {
			json_t *s = json_object_get (t, "submitted");
			printf ("%-36s  %-18s  %-19s  %s\n", api_str (t, "task_id"), api_str (t, "status"),
				json_is_number (s) ? api_time (json_number_value (s), when) : api_str (t, "submitted"),
				api_str (t, "function_id"));
		}
		if (*api_str (answer, "next_cursor"))
			printf ("more: weft tasks --cursor %s\n", api_str (answer, "next_cursor"));
	}
	json_decref (answer);
	return 0;
}

static int cmd_trace (void *op, int argc, char **argv)
{
	(void)argc;
	return show_trace (op, argv[0]);
}

#define SUBMIT_OPTS \
	API_OPTS (struct opts), \
	{ "endpoint", 'e', CLI_STRING, AT (endpoint), "ENDPOINT", 0, 0, "id or name; default WEFT_ENDPOINT, then your only one" }, \
	{ "input", 'i', CLI_STRING, AT (input), "FILE", 0, 0, "take the payload from a file, - for standard input" }, \
	{ "map", 'm', CLI_STRING, AT (map), "FILE", 0, 0, "one task per line of the file" }, \
	{ "repeat", 0, CLI_INT, AT (repeat), "N", 1, 100000, "submit each payload N times" }, \
	{ "time-limit", 0, CLI_DURATION_MS, AT (time_limit_ms), "TIME", 0, 0, "longest run of each task, like 30s" }, \
	{ "expected", 0, CLI_DURATION_MS, AT (expected_ms), "TIME", 0, 0, "how long each may take: not started on nodes that end before" }, \
	{ "memory-limit", 0, CLI_SIZE, AT (memory_limit_bytes), "SIZE", 0, 0, "most memory of each task, like 512MiB" }, \
	{ "fresh", 0, CLI_FLAG, AT (fresh), NULL, 0, 0, "run it, even where an earlier result of a memoised function is known" }
#define TIMEOUT_OPT \
	{ "timeout", 't', CLI_DURATION_MS, AT (timeout_ms), "TIME", 0, 0, "give up waiting after this (the tasks go on); default: never" }

static const struct cli_opt run_opts[] = {
	SUBMIT_OPTS, TIMEOUT_OPT,
	{ "trace", 0, CLI_FLAG, AT (trace), NULL, 0, 0, "show where the time went" },
	CLI_END,
};
static const struct cli_opt submit_opts[] = { SUBMIT_OPTS, CLI_END };
static const struct cli_opt result_opts[] = { API_OPTS (struct opts), TIMEOUT_OPT, CLI_END };
static const struct cli_opt plain_opts[] = { API_OPTS (struct opts), CLI_END };
static const struct cli_opt tasks_opts[] = {
	API_OPTS (struct opts),
	{ "endpoint", 'e', CLI_STRING, AT (endpoint), "ENDPOINT", 0, 0, "only of this endpoint" },
	{ "function", 'f', CLI_STRING, AT (function), "FUNCTION", 0, 0, "only of this function" },
	{ "status", 's', CLI_STRING, AT (status), "STATUS", 0, 0, "only with this status, like running, failed" },
	{ "limit", 'n', CLI_INT, AT (limit), "N", 1, 1000, "how many; default 20" },
	{ "cursor", 0, CLI_STRING, AT (cursor), "CURSOR", 0, 0, "go on where an earlier list ended" },
	CLI_END,
};

const struct cli_cmd cmds_task[] = {
	{ "run", "[OPTIONS] FUNCTION [PAYLOAD]",
	  "Submit and wait: prints the result. Exit status 3 when the task failed, 4 when the time to wait was over.\n"
	  "FUNCTION is an id or a name. PAYLOAD is sent as it is: JSON for Python functions ({\"args\": [...], \"kwargs\": {...}}, or a\n"
	  "single value), standard input for commands. Without it: no arguments, empty input.\n"
	  "\n"
	  "  weft run add '{\"args\": [1, 2]}'\n"
	  "  weft run predict --map images.jsonl --timeout 5m",
	  run_opts, sizeof (struct opts), 1, 2, cmd_run },
	{ "submit", "[OPTIONS] FUNCTION [PAYLOAD]", "Submit without waiting; prints the task id (one a line).", submit_opts,
	  sizeof (struct opts), 1, 2, cmd_submit },
	{ "status", "[OPTIONS] TASK...", "Show tasks: state, where they ran, output, errors.", plain_opts, sizeof (struct opts), 1, -1,
	  cmd_status },
	{ "result", "[OPTIONS] TASK...", "Wait for tasks and print their results.", result_opts, sizeof (struct opts), 1, -1, cmd_result },
	{ "cancel", "[OPTIONS] TASK...", "Cancel tasks: queued ones never run, running ones are killed.", plain_opts, sizeof (struct opts),
	  1, -1, cmd_cancel },
	{ "tasks", "[OPTIONS]", "List your tasks, newest first.", tasks_opts, sizeof (struct opts), 0, 0, cmd_tasks },
	{ "trace", "[OPTIONS] TASK", "Show where one task's time went, hop by hop.", plain_opts, sizeof (struct opts), 1, 1, cmd_trace },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
