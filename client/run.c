/* SPDX-License-Identifier: Apache-2.0 */
/* weft run, submit */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client/inputs.h"
#include "client/outputs.h"
#include "client/cmds.h"
#include "client/command.h"
#include "client/map.h"
#include "client/results.h"
#include "client/submit.h"
#include "client/trace.h"
#include "common/xmem.h"

#define AT(f) offsetof (struct submit_opts, f)

/* The argument, --input FILE, or the input of a command; --repeat N times. A payload is sent byte for byte. NULL with *err. */
static json_t *payloads (const struct submit_opts *o, int argc, char **argv, struct err *err)
{
	json_t *list = json_array (), *one;
	size_t n;
	if (o->input) {
		char *text = submit_read (o->input, INPUT_MAX, &n, err);
		if (!text)
			goto fail;
		one = json_stringn (text, n);
		free (text);
		if (!one) {
			err_set (err, ERR_INVALID, FAULT_USER, "%s is not UTF-8 text", o->input);
			goto fail;
		}
	} else if (!(one = json_string (argc > 1 ? argv[1] : ""))) {
		err_set (err, ERR_INVALID, FAULT_USER, "the payload is not UTF-8 text");
		goto fail;
	}
	submit_check_payload (json_string_value (one), json_string_length (one));
	json_array_append_new (list, one);
	for (int64_t i = 1; i < o->repeat; i++)
		json_array_append (list, one);
	return list;
fail:
	json_decref (list);
	return NULL;
}

/* Returns the answer of the submit route; ids: borrowed from it. */
static json_t *send_tasks (struct submit_opts *o, const char *fn, const char *ep, json_t *list, double wait_s, json_t **ids, struct err *err)
{
	json_t *body = submit_body (o), *tasks = json_object (), *answer;
	char *path = wait_s > 0 ? xasprintf ("/v3/endpoints/%s/submit?wait=%g", ep, wait_s) : xasprintf ("/v3/endpoints/%s/submit", ep);
	json_object_set_new (tasks, fn, list);
	json_object_set_new (body, "tasks", tasks);
	answer = api_call (&o->api, "POST", path, body, wait_s, err);
	free (path);
	if (answer)
		*ids = json_object_get (json_object_get (answer, "tasks"), fn);
	return answer;
}

/* What does not go together on the command line; NULL when all is well. */
static char *misuse (const struct submit_opts *o, int argc, char **argv)
{
	const char *other = o->input ? "--input" : o->repeat ? "--repeat" : argc > 1 ? "a PAYLOAD" : NULL;
	if (o->command.n && argc)
		return xasprintf ("either a FUNCTION, or -- COMMAND: '%s' and '%s' are both", argv[0], o->command.v[0]);
	if (!o->command.n && !argc)
		return xstrdup ("what is to be run? FUNCTION, FILE.py::NAME, or -- COMMAND [ARG...]");
	if (o->map && other)
		return xasprintf ("--map takes the payloads from its file: it does not go with %s", other);
	if (o->input && argc > 1)
		return xstrdup ("--input FILE is the payload: it does not go with a PAYLOAD");
	if (o->command.n && o->repeat)
		return xstrdup ("--repeat does not go with -- COMMAND");
	if (!o->map && (o->resume || o->retry_failed))
		return xasprintf ("--%s goes with --map only", o->resume ? "resume" : "retry-failed");
	if (o->retry_failed && !o->resume)
		return xstrdup ("--retry-failed needs --resume FILE, which knows what has failed");
	return NULL;
}

/* What is run where. 0, or the exit status. */
static int prepare (const struct submit_opts *o, const char *what, int argc, char **argv, char fn[37], char ep[37])
{
	struct err err = { 0 };
	char *wrong = misuse (o, argc, argv);
	if (wrong) {
		fprintf (stderr, "weft: %s: %s\nTry 'weft %s --help'.\n", what, wrong, what);
		free (wrong);
		return 2;
	}
	return submit_resolve (o, argv, fn, ep, &err) < 0 ? api_fail (what, &err) : 0;
}

static int cmd_submit (void *op, int argc, char **argv)
{
	struct submit_opts *o = op;
	struct err err = { 0 };
	char fn[37], ep[37];
	json_t *ids, *id, *list, *answer;
	size_t i;
	int rc;
	if ((rc = prepare (o, "submit", argc, argv, fn, ep)))
		return rc;
	if (o->map)
		return map_run (o, fn, ep, false);
	list = o->command.n ? command_payload (o, fn, &err) : payloads (o, argc, argv, &err);
	if (!list || !(answer = send_tasks (o, fn, ep, list, 0, &ids, &err)))
		return api_fail ("submit", &err);
	if (o->api.json)
		api_print_json (answer);
	else
		json_array_foreach (ids, i, id)
			puts (json_string_value (id));
	json_decref (answer);
	return 0;
}

static int run_function (struct submit_opts *o, const char *fn, const char *ep, int argc, char **argv)
{
	double most = isatty (2) ? 2 : RESULTS_WAIT_S, wait = (double)o->timeout_ms / 1000;
	struct err err = { 0 };
	json_t *ids, *answer, *docs, *doc, *list = payloads (o, argc, argv, &err);
	const char *key;
	bool told;
	int rc;
	if (!o->timeout_ms || wait > most)
		wait = most;
	if (!list || !(answer = send_tasks (o, fn, ep, list, wait, &ids, &err)))
		return api_fail ("run", &err);
	docs = json_object ();
	json_object_foreach (json_object_get (answer, "results"), key, doc)
		if (results_ended (doc))
			json_object_set (docs, key, doc);
	told = isatty (2) && wait >= 2 && json_object_size (docs) < json_array_size (ids);
	if (told)
		results_say_offline (&o->api, ep);
	rc = results_await (&o->api, ids, docs, o->timeout_ms, &err);
	if (rc > 0 && !told)
		results_say_offline (&o->api, ep);
	if (rc < 0)
		rc = api_fail ("run", &err);
	else {
		int over = rc;
		const char *first = json_string_value (json_array_get (ids, 0));
		json_t *trace = o->trace && o->api.json && !over ? trace_fetch (&o->api, first, &err) : NULL;
		if (trace) /* one document, for programs */
			json_object_set_new (json_object_get (docs, first), "trace", trace);
		rc = results_print (&o->api, ids, docs);
		if (!rc && o->outputs.n && json_array_size (ids) == 1
		    && outputs_save (&o->api, json_object_get (docs, json_string_value (json_array_get (ids, 0))), o->output_dir, NULL, &err) < 0)
			rc = api_fail ("run", &err);
		if (over)
			rc = results_time_over (ids);
		else if (o->trace && !trace)
			trace_show (&o->api, first);
	}
	json_decref (docs);
	json_decref (answer);
	return rc;
}

static int cmd_run (void *op, int argc, char **argv)
{
	struct submit_opts *o = op;
	char fn[37], ep[37];
	int rc = prepare (o, "run", argc, argv, fn, ep);
	if (rc)
		return o->command.n && !o->map && rc == 1 ? COMMAND_NOT_RUN : rc;
	if (o->map)
		return map_run (o, fn, ep, true);
	return o->command.n ? command_run (o, fn, ep) : run_function (o, fn, ep, argc, argv);
}

#define SUBMIT_OPTS \
	API_OPTS (struct submit_opts), \
	{ "endpoint", 'e', CLI_STRING, AT (endpoint), "ENDPOINT", 0, 0, "id or name; default WEFT_ENDPOINT, then your only one" }, \
	{ "input", 'i', CLI_STRING, AT (input), "FILE", 0, 0, "take the payload from a file, - for standard input" }, \
	{ "map", 'm', CLI_STRING, AT (map), "FILE", 0, 0, "one task per line of the file, - for standard input" }, \
	{ "resume", 0, CLI_STRING, AT (resume), "FILE", 0, 0, "with --map: keep a record there; the same command again goes on from it" }, \
	{ "repeat", 0, CLI_INT, AT (repeat), "N", 1, 100000, "submit the payload N times" }, \
	{ "time-limit", 0, CLI_DURATION_MS, AT (time_limit_ms), "TIME", 0, 0, "longest run of each task, like 30s" }, \
	{ "expected", 0, CLI_DURATION_MS, AT (expected_ms), "TIME", 0, 0, "how long each may take: not started on nodes that end before" }, \
	{ "nodes", 0, CLI_INT, AT (nodes), "N", 1, 1024, "whole nodes of a block for each task; PARSL_MPI_PREFIX starts a program on them" }, \
	{ "ranks-per-node", 0, CLI_INT, AT (ranks_per_node), "N", 1, 65536, "of that program; default 1" }, \
	{ "launcher-options", 0, CLI_STRING, AT (launcher_options), "TEXT", 0, 0, "for what starts it" }, \
	{ "memory-limit", 0, CLI_SIZE, AT (memory_limit_bytes), "SIZE", 0, 0, "most memory of each task, like 512MiB" }, \
	{ "file", 0, CLI_STRINGS, AT (files), "NAME=URL", 0, 0, FILE_HELP }, \
	{ "output", 0, CLI_STRINGS, AT (outputs), "PATTERN", 0, 0, OUTPUT_HELP }, \
	{ "keep-outputs", 0, CLI_FLAG, AT (keep_outputs), NULL, 0, 0, KEEP_HELP }, \
	{ "fresh", 0, CLI_FLAG, AT (fresh), NULL, 0, 0, "run it, even where an earlier result of a memoised function is known" }
#define COMMAND_OPT \
	{ "--", 0, CLI_REST, AT (command), "COMMAND [ARG...]", 0, 0, "run this on the endpoint, without a shell" }

static const struct cli_opt run_opts[] = {
	SUBMIT_OPTS,
	{ "timeout", 't', CLI_DURATION_MS, AT (timeout_ms), "TIME", 0, 0, "give up waiting after this (the tasks go on); default: never" },
	{ "retry-failed", 0, CLI_FLAG, AT (retry_failed), NULL, 0, 0, "with --resume: lines that have failed are submitted once more" },
	{ "trace", 0, CLI_FLAG, AT (trace), NULL, 0, 0, "show where the time went" },
	{ "output-dir", 0, CLI_STRING, AT (output_dir), "DIR", 0, 0, "save the files of --output there; default: the current directory" },
	COMMAND_OPT, CLI_END,
};
static const struct cli_opt submit_opts[] = { SUBMIT_OPTS, COMMAND_OPT, CLI_END };

const struct cli_cmd cmds_run[] = {
	{ "run", "[OPTIONS] FUNCTION [PAYLOAD] | [OPTIONS] -- COMMAND [ARG...]",
	  "Run a function, or a command, on an endpoint; wait, and print the result.\n"
	  "FUNCTION is FILE.py::NAME or FILE.so[::SYMBOL], default ::weft_function (registered for you, once for each content of the file),\n"
	  "or the id or name of a registered one.\n"
	  "PAYLOAD is sent as it is: JSON for Python functions ({\"args\": [...], \"kwargs\": {...}}, or a single value, which an object with\n"
	  "any other key is), standard input for commands. Without it: no arguments, empty input.\n"
	  "\n"
	  "  weft run stats.py::mean '[1, 2, 6]'\n"
	  "  weft run stats.py::mean --map samples.jsonl > means.jsonl\n"
	  "  weft run count.py::words --file words.txt=https://example.org/words.txt#sha256=6fea...\n"
	  "\n"
	  "--map submits a task per line that is not blank, and prints a line of JSON for each, in their order, as they come: what the function\n"
	  "returned, or null when it failed; failures are told on standard error with the number of the line. With --json each line is an\n"
	  "object: line, task_id, status, result or exception, stdout, stderr, node. Text that is no JSON is printed as a JSON string. Any\n"
	  "number of lines: 10,000 are in hand at a time. With --resume FILE, a run that was cut off goes on with the same command: nothing is\n"
	  "submitted twice, and the output is printed from the beginning.\n"
	  "\n"
	  "  weft run stats.py::mean --map samples.jsonl --resume samples.run > means.jsonl\n"
	  "  zcat lines.gz | weft run --map - --json -- wc -w\n"
	  "\n"
	  "A COMMAND gets standard input when that is no terminal, and its output is shown as it comes; its exit status is passed on, 128+N for\n"
	  "signal N, 125 when it could not be run or ended by a limit. Of one that fails, the last 64 KiB of output are kept. Ctrl-C cancels it.\n"
	  "\n"
	  "  weft run -- nvidia-smi\n"
	  "  weft run --time-limit 5m -- sort -u < words > sorted\n"
	  "\n"
	  "Exit status otherwise: 0 success, 1 an error, 2 the command line is wrong, 3 a task failed, 4 the time to wait was over.",
	  run_opts, sizeof (struct submit_opts), 0, 2, cmd_run },
	{ "submit", "[OPTIONS] FUNCTION [PAYLOAD] | [OPTIONS] -- COMMAND [ARG...]",
	  "Submit without waiting; prints the task id (one a line).\n"
	  "Takes what `weft run` takes. `weft result ID` waits for the result.",
	  submit_opts, sizeof (struct submit_opts), 0, 2, cmd_submit },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
