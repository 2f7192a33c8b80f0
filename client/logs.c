/* SPDX-License-Identifier: Apache-2.0 */
/* weft logs TASK: what a task has printed. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client/cmds.h"
#include "client/results.h"
#include "common/xmem.h"

#define WAIT_S 50.0

struct opts {
	struct api_opts api;
	bool follow;
};
#define AT(f) offsetof (struct opts, f)

static void put (FILE *to, const char *s, size_t n)
{
	fwrite (s, 1, n, to);
	if (n && s[n - 1] != '\n' && to == stdout)
		putchar ('\n');
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

static int show (const struct opts *o, json_t *doc)
{
	json_t *out = json_object_get (doc, "stdout");
	if (results_good (doc) && !json_string_length (out) && !*api_str (doc, "result_encoding") && of_command (o, doc))
		out = json_object_get (doc, "result");
	if (o->api.json) {
		json_t *j = json_pack ("{s:s, s:s, s:O?, s:O?}", "task_id", api_str (doc, "task_id"), "status", api_str (doc, "status"), "stdout", out,
				       "stderr", json_object_get (doc, "stderr"));
		api_print_json (j);
		json_decref (j);
		return 0;
	}
	put (stdout, json_string_value (out) ? json_string_value (out) : "", json_string_length (out));
	fflush (stdout);
	put (stderr, api_str (doc, "stderr"), json_string_length (json_object_get (doc, "stderr")));
	if (!results_ended (doc))
		fprintf (stderr, "weft: task %s has not ended (%s): its output is known then; wait for it with --follow\n", api_str (doc, "task_id"),
			 api_str (doc, "status"));
	return 0;
}

static int cmd_logs (void *op, int argc, char **argv)
{
	struct opts *o = op;
	double wait = o->follow ? WAIT_S : 0;
	char *path = o->follow ? xasprintf ("/v3/tasks/%s?wait=%g", argv[0], wait) : xasprintf ("/v3/tasks/%s", argv[0]);
	struct err err = { 0 };
	json_t *doc;
	int rc;
	(void)argc;
	while ((doc = api_call (&o->api, "GET", path, NULL, wait, &err)) && o->follow && !results_ended (doc))
		json_decref (doc);
	rc = doc ? show (o, doc) : api_fail ("logs", &err);
	json_decref (doc);
	free (path);
	return rc;
}

static const struct cli_opt logs_opts[] = {
	API_OPTS (struct opts),
	{ "follow", 'f', CLI_FLAG, AT (follow), NULL, 0, 0, "wait until it has ended" },
	CLI_END,
};

const struct cli_cmd cmds_logs[] = {
	{ "logs", "[OPTIONS] TASK",
	  "Show what a task has printed: its standard output on standard output, its standard error on standard error.\n"
	  "Of long output the last 64 KiB of each are kept. The output of a task is known when it has ended: with --follow it is waited for.\n"
	  "\n"
	  "  weft logs --follow $(weft submit train.py::fit)",
	  logs_opts, sizeof (struct opts), 1, 1, cmd_logs },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
