/* SPDX-License-Identifier: Apache-2.0 */
/* weft status, result, cancel, tasks, trace */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client/api.h"
#include "client/cmds.h"
#include "client/outputs.h"
#include "client/results.h"
#include "client/trace.h"
#include "client/watch.h"
#include "common/clock.h"
#include "common/xmem.h"
#include "proto/msg_task.h"

struct opts {
	struct api_opts api;
	const char *endpoint, *status, *function, *cursor, *group;
	int64_t timeout_ms, limit, interval_ms;
	bool watch;
	const char *dir;
};
#define AT(f) offsetof (struct opts, f)

static json_t *arg_ids (int argc, char **argv)
{
	json_t *ids = json_array ();
	for (int i = 0; i < argc; i++)
		json_array_append_new (ids, json_string (argv[i]));
	return ids;
}

static int cmd_files (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	char *path = xasprintf ("/v3/tasks/%s", argv[0]);
	json_t *doc = api_call (&o->api, "GET", path, NULL, 0, &err);
	int n;
	(void)argc;
	free (path);
	if (!doc)
		return api_fail ("files", &err);
	n = outputs_save (&o->api, doc, o->dir, argv + 1, &err);
	if (n == 0)
		err_set (&err, ERR_NOT_FOUND, FAULT_USER, argv[1] ? "no file of this name came with the result of task %s"
								  : "no files came with the result of task %s", argv[0]);
	json_decref (doc);
	return n > 0 ? 0 : api_fail ("files", &err);
}

static int cmd_result (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	json_t *ids = arg_ids (argc, argv), *docs = json_object ();
	int rc = results_await (&o->api, ids, docs, o->timeout_ms, &err);
	if (rc < 0)
		rc = api_fail ("result", &err);
	else {
		int over = rc;
		rc = results_print (&o->api, ids, docs);
		if (over)
			rc = results_time_over (ids);
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

/* As JSON, the document of one; of several, an object of them by id. */
static int each_task (struct opts *o, const char *what, const char *method, int argc, char **argv)
{
	json_t *docs = o->api.json && argc > 1 ? json_object () : NULL;
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
		if (docs)
			json_object_set (docs, argv[i], d);
		else if (o->api.json)
			api_print_json (d);
		else
			print_doc (d);
		json_decref (d);
	}
	if (docs)
		api_print_json (docs);
	json_decref (docs);
	return rc;
}

static int cmd_status (void *op, int argc, char **argv)
{
	return each_task (op, "status", "GET", argc, argv);
}

/* What has not ended of a group, one after another. */
static int cancel_group (struct opts *o)
{
	struct err err = { 0 };
	char *path = xasprintf ("/v2/taskgroup/%s", o->group);
	json_t *answer = api_call (&o->api, "GET", path, NULL, 0, &err), *t, *d;
	size_t i, n = 0, ended = 0;
	int rc = 0;
	free (path);
	if (!answer)
		return api_fail ("cancel", &err);
	json_array_foreach (json_object_get (answer, "tasks"), i, t) {
		path = xasprintf ("/v3/tasks/%s", api_str (t, "id"));
		if (!(d = api_call (&o->api, "DELETE", path, NULL, 0, &err)))
			rc = api_fail ("cancel", &err);
		n += !strcmp (api_str (d, "status"), "cancelled");
		ended += d && strcmp (api_str (d, "status"), "cancelled");
		json_decref (d);
		free (path);
		if (rc)
			break;
	}
	json_decref (answer);
	if (o->api.json)
		printf ("{\"cancelled\":%zu,\"ended_before\":%zu}\n", n, ended);
	else
		printf ("%zu cancelled, %zu had ended\n", n, ended);
	return rc;
}

static int cmd_cancel (void *op, int argc, char **argv)
{
	struct opts *o = op;
	if (!o->group && !argc) {
		fputs ("weft: cancel: which tasks? give their ids, or --group GROUP\n", stderr);
		return 2;
	}
	return o->group ? cancel_group (o) : each_task (op, "cancel", "DELETE", argc, argv);
}

/* All that --status takes. */
static bool status_known (const char *given)
{
	bool known = !strcmp (given, "pending");
	for (int s = STATE_RECEIVED; s <= STATE_CANCELLED && !known; s++)
		known = !strcmp (given, msg_state_name (s));
	if (known)
		return true;
	fprintf (stderr, "weft: tasks: --status: there is no '%s'; there are ", given);
	for (int s = STATE_RECEIVED; s <= STATE_CANCELLED; s++)
		fprintf (stderr, "%s, ", msg_state_name (s));
	fputs ("and pending: all that have not ended\n", stderr);
	return false;
}

static int cmd_tasks (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	char ep[37] = "", fn[37] = "", *path, *filter;
	json_t *answer, *t;
	size_t i;
	int rc;
	(void)argc;
	(void)argv;
	if (o->status && !status_known (o->status))
		return 2;
	if ((o->endpoint && api_endpoint (&o->api, o->endpoint, ep, &err) < 0) ||
	    (o->function && api_function (&o->api, o->function, fn, &err) < 0))
		return api_fail ("tasks", &err);
	filter = xasprintf ("%s%s%s%s%s%s", *ep ? "&endpoint=" : "", ep, *fn ? "&function=" : "", fn, o->group ? "&group=" : "", o->group ? o->group : "");
	if (o->watch) {
		struct watch_opts w = { &o->api, filter, o->status, o->interval_ms, o->timeout_ms, o->limit };
		rc = watch_run (&w);
		free (filter);
		return rc;
	}
	path = xasprintf ("/v3/tasks?limit=%" PRId64 "%s%s%s%s%s", o->limit ? o->limit : 20, filter, o->status ? "&status=" : "",
			  o->status ? o->status : "", o->cursor ? "&cursor=" : "", o->cursor ? o->cursor : "");
	answer = api_call (&o->api, "GET", path, NULL, 0, &err);
	free (path);
	free (filter);
	if (!answer)
		return api_fail ("tasks", &err);
	if (o->api.json)
		api_print_json (answer);
	else {
		struct buf b;
		buf_init (&b, 0);
		watch_row (&b, &o->api, NULL);
		buf_char (&b, '\n');
		json_array_foreach (json_object_get (answer, "tasks"), i, t) {
			watch_row (&b, &o->api, t);
			buf_char (&b, '\n');
		}
		fwrite (b.data, 1, b.len, stdout);
		buf_fini (&b);
		if (*api_str (answer, "next_cursor"))
			printf ("more: weft tasks --cursor %s\n", api_str (answer, "next_cursor"));
	}
	json_decref (answer);
	return 0;
}

static int cmd_trace (void *op, int argc, char **argv)
{
	struct opts *o = op;
	(void)argc;
	return trace_show (&o->api, argv[0]);
}

#define TIMEOUT_OPT \
	{ "timeout", 't', CLI_DURATION_MS, AT (timeout_ms), "TIME", 0, 0, "give up waiting after this (the tasks go on); default: never" }

static const struct cli_opt result_opts[] = { API_OPTS (struct opts), TIMEOUT_OPT, CLI_END };
static const struct cli_opt cancel_opts[] = {
	API_OPTS (struct opts),
	{ "group", 'g', CLI_STRING, AT (group), "GROUP", 0, 0, "all tasks of this group that have not ended" },
	CLI_END,
};
static const struct cli_opt files_opts[] = {
	API_OPTS (struct opts),
	{ "dir", 'd', CLI_STRING, AT (dir), "DIR", 0, 0, "where to; default: the current directory" },
	CLI_END,
};
static const struct cli_opt plain_opts[] = { API_OPTS (struct opts), CLI_END };
static const struct cli_opt tasks_opts[] = {
	API_OPTS (struct opts),
	{ "endpoint", 'e', CLI_STRING, AT (endpoint), "ENDPOINT", 0, 0, "only of this endpoint" },
	{ "function", 'f', CLI_STRING, AT (function), "FUNCTION", 0, 0, "only of this function" },
	{ "status", 's', CLI_STRING, AT (status), "STATUS", 0, 0, "only with this status, like running, failed; pending: without an end" },
	{ "group", 'g', CLI_STRING, AT (group), "GROUP", 0, 0, "only of this task group" },
	{ "limit", 'n', CLI_INT, AT (limit), "N", 1, 1000, "how many; default 20" },
	{ "cursor", 0, CLI_STRING, AT (cursor), "CURSOR", 0, 0, "go on where an earlier list ended" },
	{ "watch", 'w', CLI_FLAG, AT (watch), NULL, 0, 0, "go on, and show what changes" },
	{ "interval", 'i', CLI_DURATION_MS, AT (interval_ms), "TIME", 100, 3600000, "with --watch: between two looks; default 1s" },
	{ "timeout", 't', CLI_DURATION_MS, AT (timeout_ms), "TIME", 0, 0, "with --watch: end after this; default: never" },
	CLI_END,
};

const struct cli_cmd cmds_task[] = {
	{ "status", "[OPTIONS] TASK...",
	  "Show tasks: state, where they ran, output, errors.\n"
	  "With --json the object of the task; of several tasks one object, TASK to that of each that is known.", plain_opts, sizeof (struct opts), 1, -1,
	  cmd_status },
	{ "result", "[OPTIONS] TASK...",
	  "Wait for tasks and print their results.\n"
	  "With --json one object, TASK to the object of each, of one task too.", result_opts, sizeof (struct opts), 1, -1, cmd_result },
	{ "cancel", "[OPTIONS] TASK... | --group GROUP",
	  "Cancel tasks: queued ones never run, running ones are killed.\n"
	  "With --json the task's id and state; of several tasks one object, TASK to that of each that is known.", cancel_opts,
	  sizeof (struct opts), 0, -1, cmd_cancel },
	{ "tasks", "[OPTIONS]",
	  "List your tasks, newest first.\n"
	  "With --watch on a terminal, a table that is kept up to date; q or Ctrl-C ends it. Elsewhere a line (with --json an object) for each change\n"
	  "of a task's status, those that are listed first.\n"
	  "\n"
	  "  weft tasks --status failed --limit 100\n"
	  "  weft tasks --watch",
	  tasks_opts, sizeof (struct opts), 0, 0, cmd_tasks },
	{ "files", "[OPTIONS] TASK [NAME...]",
	  "Save the files that came with a task's result: all, or those named.\n"
	  "They are asked for with --output of `weft run`, `weft submit` or `weft function register`. What is there already is not written over.",
	  files_opts, sizeof (struct opts), 1, -1, cmd_files },
	{ "trace", "[OPTIONS] TASK",
	  "Show where one task's time went, hop by hop.\nweft(1), TRACES, says what each hop is: accept, queue, route, place, start, collect, ...\n"
	  "The last is from_endpoint, when Redis was given the result: how long it took to store it is not stored.",
	  plain_opts, sizeof (struct opts), 1, 1, cmd_trace },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
