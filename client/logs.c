/* SPDX-License-Identifier: Apache-2.0 */
/* weft logs TASK: what a task has printed. */
#include "client/logs.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "client/cmds.h"
#include "client/results.h"
#include "common/base64.h"
#include "common/clock.h"
#include "common/xmem.h"

#define LOOK_MS 300

struct opts {
	struct api_opts api;
	bool follow;
	int64_t timeout_ms;
};
#define AT(f) offsetof (struct opts, f)

static json_t *output_of (const struct api_opts *o, const char *task, struct err *err)
{
	char *path = xasprintf ("/v3/tasks/%s/output", task);
	json_t *out = api_call (o, "GET", path, NULL, 0, err);
	free (path);
	return out;
}

static void take (struct stream *s, const json_t *doc, const char *text, const char *total)
{
	json_int_t all = json_integer_value (json_object_get (doc, total));
	size_t n = json_string_length (json_object_get (doc, text));
	if (all > 0) /* 0: nothing is known yet, or not any more */
		stream_look (s, api_str (doc, text), n, (uint64_t)all);
}

int logs_look (const struct api_opts *o, const char *task, struct stream *out, struct stream *errout, struct err *err)
{
	json_t *doc = output_of (o, task, err);
	bool ended = json_is_true (json_object_get (doc, "ended"));
	if (!doc)
		return -1;
	if (!ended) {
		take (out, doc, "stdout", "stdout_bytes");
		take (errout, doc, "stderr", "stderr_bytes");
	}
	json_decref (doc);
	return ended;
}

static void end_with (struct stream *s, const json_t *text, bool whole)
{
	size_t n = json_string_length (text);
	stream_end (s, n ? json_string_value (text) : "", n, whole || n < LOGS_KEPT - 4);
}

void logs_end (const json_t *doc, bool command, struct stream *out, struct stream *errout)
{
	struct buf b;
	buf_init (&b, 0);
	if (!command || !results_good (doc))
		end_with (out, json_object_get (doc, "stdout"), false);
	else if (!*api_str (doc, "result_encoding"))
		end_with (out, json_object_get (doc, "result"), true);
	else if (base64_decode (&b, api_str (doc, "result"), json_string_length (json_object_get (doc, "result"))) == 0)
		stream_end (out, b.data ? (const char *)b.data : "", b.len, true);
	buf_fini (&b);
	end_with (errout, json_object_get (doc, "stderr"), false);
}

/* Is the result of this task what its command printed? */
static bool of_command (const struct opts *o, const json_t *doc)
{
	char *path = xasprintf ("/v3/functions/%s", api_str (doc, "function_id"));
	json_t *f = api_call (&o->api, "GET", path, NULL, 0, NULL);
	bool yes = !strcmp (api_str (f, "kind"), "command");
	json_decref (f);
	free (path);
	return yes;
}

static json_t *task_of (const struct opts *o, const char *task, struct err *err)
{
	char *path = xasprintf ("/v3/tasks/%s", task);
	json_t *doc = api_call (&o->api, "GET", path, NULL, 0, err);
	free (path);
	return doc;
}

static int print_json (const struct opts *o, const char *task)
{
	struct err err = { 0 };
	json_t *doc = output_of (&o->api, task, &err), *whole;
	if (!doc)
		return api_fail ("logs", &err);
	if (json_is_true (json_object_get (doc, "ended")) && (whole = task_of (o, task, NULL))) {
		if (results_good (whole) && of_command (o, whole))
			json_object_set (doc, "stdout", json_object_get (whole, "result"));
		json_decref (whole);
	}
	api_print_json (doc);
	json_decref (doc);
	return 0;
}

/* Look again and again until it has ended, or once. 1 ended, 0 not, -1 error. */
static int looks (const struct opts *o, const char *task, struct stream *out, struct stream *errout, struct err *err)
{
	struct timespec pause = { 0, LOOK_MS * 1000000 };
	int64_t began = clock_now_ms (), most = o->follow ? o->timeout_ms : 1000;
	int rc;
	while ((rc = logs_look (&o->api, task, out, errout, err)) == 0 && !(most && clock_now_ms () - began > most)) {
		if (!o->follow && (out->total || errout->total))
			break;
		nanosleep (&pause, NULL);
	}
	return rc;
}

static int cmd_logs (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct stream out, errout;
	struct err err = { 0 };
	json_t *doc = NULL;
	int rc;
	(void)argc;
	if (o->api.json && !o->follow)
		return print_json (o, argv[0]);
	stream_init (&out, o->api.json ? NULL : stdout);
	stream_init (&errout, stderr);
	if (o->api.json) {
		struct api_opts *api = &o->api;
		json_t *ids = json_pack ("[s]", argv[0]), *docs = json_object ();
		rc = results_await (api, ids, docs, o->timeout_ms, &err);
		json_decref (ids);
		json_decref (docs);
		rc = rc < 0 ? api_fail ("logs", &err) : print_json (o, argv[0]);
	} else if ((rc = looks (o, argv[0], &out, &errout, &err)) < 0)
		rc = api_fail ("logs", &err);
	else if (rc > 0) {
		if ((doc = task_of (o, argv[0], &err)))
			logs_end (doc, results_good (doc) && of_command (o, doc), &out, &errout);
		rc = doc ? 0 : api_fail ("logs", &err);
	} else
		fprintf (stderr, "weft: task %s has not ended%s\n", argv[0], o->follow ? "" : "; go on with --follow");
	json_decref (doc);
	stream_fini (&out);
	stream_fini (&errout);
	return rc;
}

static const struct cli_opt logs_opts[] = {
	API_OPTS (struct opts),
	{ "follow", 'f', CLI_FLAG, AT (follow), NULL, 0, 0, "go on until it has ended" },
	{ "timeout", 't', CLI_DURATION_MS, AT (timeout_ms), "TIME", 0, 0, "with --follow: end after this; default: never" },
	CLI_END,
};

const struct cli_cmd cmds_logs[] = {
	{ "logs", "[OPTIONS] TASK",
	  "Show what a task has printed: its standard output on standard output, its standard error on standard error.\n"
	  "Of a task that runs, what it has printed so far; with --follow, what it prints, as it comes (half a second late), until it has ended.\n"
	  "Of long output the last 64 KiB of each are kept; who prints faster than some 256 KiB/s is not shown whole while it runs.\n"
	  "Programs that buffer their output when it is no terminal print late: python -u, or print (..., flush=True), in commands.\n"
	  "\n"
	  "  weft logs --follow $(weft submit train.py::fit)",
	  logs_opts, sizeof (struct opts), 1, 1, cmd_logs },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
