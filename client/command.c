/* SPDX-License-Identifier: Apache-2.0 */
#include "client/command.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client/logs.h"
#include "client/results.h"
#include "client/source.h"
#include "client/trace.h"
#include "common/base64.h"
#include "common/clock.h"
#include "common/xmem.h"

#define WAIT_S 0.4	/* then what it printed is shown, and Ctrl-C seen; an answer comes as soon as the task has ended */

#define OFFLINE_MS 2000	/* then who waits at a terminal is told when the endpoint is offline */

static volatile sig_atomic_t interrupted;

static void on_interrupt (int signo)
{
	(void)signo;
	interrupted = 1;
}

/* The same command behind a decoder. */
static int register_decoder (const struct submit_opts *o, char fn[37], struct err *err)
{
	static const char *const head[] = { "/bin/sh", "-c", "base64 -d | \"$@\"", "sh" };
	const char **argv = xcalloc (o->command.n + 4, sizeof (*argv));
	int rc;
	memcpy (argv, head, sizeof (head));
	memcpy (argv + 4, o->command.v, o->command.n * sizeof (*argv));
	rc = source_register_once (&o->api, source_command (argv, o->command.n + 4, err), fn, err);
	free (argv);
	return rc;
}

json_t *command_payload (const struct submit_opts *o, char fn[37], struct err *err)
{
	size_t n = 0;
	char *text = o->input ? submit_read (o->input, INPUT_MAX, &n, err) : isatty (0) ? xstrdup ("") : submit_read ("-", INPUT_MAX, &n, err);
	json_t *one = text ? json_stringn (text, n) : NULL;
	if (text && !one) {
		struct buf b;
		buf_init (&b, 0);
		base64_encode (&b, text, n);
		if (!buf_failed (&b) && register_decoder (o, fn, err) == 0)
			one = json_stringn ((const char *)b.data, b.len);
		buf_fini (&b);
	}
	free (text);
	return one ? json_pack ("[o]", one) : NULL;
}

struct shown { struct stream out, errout; };

/* What the command did, or why it could not. */
static int show (const struct submit_opts *o, const char *id, const json_t *doc, struct shown *v)
{
	const char *code = api_str (doc, "code");
	int detail = (int)json_integer_value (json_object_get (doc, "exit_detail"));
	bool own = !strcmp (code, "TASK_EXIT") && detail, by_signal = !strcmp (code, "TASK_SIGNAL") && detail;
	bool missing = own && detail == 127 && strstr (api_str (doc, "exception"), "cannot run '");
	int n;
	if (o->api.json)
		api_print_json (doc);
	else if (!missing) /* what it says is said below */
		logs_end (doc, true, &v->out, &v->errout);
	fflush (stdout);
	if (ferror (stdout)) {
		fprintf (stderr, "weft: run: standard output cannot be written\n");
		return COMMAND_NOT_RUN;
	}
	if (results_good (doc))
		return 0;
	if (own && !missing)
		return detail;
	if (!o->api.json) {
		const char *why = results_reason (doc, &n);
		fprintf (stderr, "weft: run: task %s %s: %.*s\n", id, api_str (doc, "status"), n, why);
	}
	return own ? detail : by_signal ? 128 + detail : COMMAND_NOT_RUN;
}

static int cancel (const struct submit_opts *o, const char *id)
{
	struct err err = { 0 };
	char *path = xasprintf ("/v3/tasks/%s", id);
	json_t *answer = api_call (&o->api, "DELETE", path, NULL, 0, &err);
	free (path);
	if (!answer) {
		api_fail ("run: cancelling", &err);
		fprintf (stderr, "weft: task %s may still run: weft cancel %s\n", id, id);
	} else
		fprintf (stderr, "weft: run: cancelled task %s\n", id);
	json_decref (answer);
	return 130;
}

static int wait_for_end (const struct submit_opts *o, const char *ep, const char *id, json_t *doc, struct shown *v)
{
	int64_t began = clock_now_ms ();
	bool told = false;
	int rc;
	while (doc && !results_ended (doc) && !interrupted && !(o->timeout_ms && clock_now_ms () - began > o->timeout_ms)) {
		if (!told && isatty (2) && clock_now_ms () - began >= OFFLINE_MS) {
			results_say_offline (&o->api, ep);
			told = true;
		}
		struct err err = { 0 };
		char *path = xasprintf ("/v3/tasks/%s?wait=%g", id, WAIT_S);
		json_decref (doc);
		if (!(doc = api_call (&o->api, "GET", path, NULL, WAIT_S, &err)))
			api_fail ("run", &err);
		else if (!o->api.json && !results_ended (doc))
			logs_look (&o->api, id, &v->out, &v->errout, NULL);
		free (path);
	}
	if (!doc)
		rc = COMMAND_NOT_RUN;
	else if (results_ended (doc))
		rc = show (o, id, doc, v);
	else if (interrupted)
		rc = cancel (o, id);
	else {
		if (!told)
			results_say_offline (&o->api, ep);
		fprintf (stderr, "weft: run: it has not ended yet, and goes on; ask again with: weft result %s\n", id);
		rc = EXIT_TIME_OVER;
	}
	json_decref (doc);
	return rc;
}

int command_run (const struct submit_opts *o, char fn[37], const char *ep)
{
	struct sigaction a = { .sa_handler = on_interrupt };
	struct err err = { 0 };
	json_t *list = command_payload (o, fn, &err), *body, *tasks, *answer, *doc;
	char *path = xasprintf ("/v3/endpoints/%s/submit?wait=%g", ep, WAIT_S), *id;
	struct shown v;
	int rc;
	if (!list) {
		free (path);
		api_fail ("run", &err);
		return COMMAND_NOT_RUN;
	}
	sigaction (SIGINT, &a, NULL);
	sigaction (SIGTERM, &a, NULL);
	body = submit_body (o);
	tasks = json_object ();
	json_object_set_new (tasks, fn, list);
	json_object_set_new (body, "tasks", tasks);
	answer = api_call (&o->api, "POST", path, body, WAIT_S, &err);
	free (path);
	if (!answer) {
		api_fail ("run", &err);
		return COMMAND_NOT_RUN;
	}
	id = xstrdup (json_string_value (json_array_get (json_object_get (json_object_get (answer, "tasks"), fn), 0)));
	doc = json_incref (json_object_get (json_object_get (answer, "results"), id ? id : ""));
	json_decref (answer);
	if (!id) {
		fprintf (stderr, "weft: run: the service named no task\n");
		json_decref (doc);
		return COMMAND_NOT_RUN;
	}
	if (!doc)
		doc = json_pack ("{s:s}", "status", "received");
	stream_init (&v.out, stdout);
	v.out.exact = true;
	v.out.stalled = !isatty (1);	/* a file or a pipe gets it whole, at the end */
	stream_init (&v.errout, stderr);
	rc = wait_for_end (o, ep, id, doc, &v);
	stream_fini (&v.out);
	stream_fini (&v.errout);
	if (o->trace && rc != 130)
		trace_show (&o->api, id);
	free (id);
	return rc;
}
