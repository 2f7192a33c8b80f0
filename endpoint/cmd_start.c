/* SPDX-License-Identifier: Apache-2.0 */
/* start, stop, restart, drain, undrain. */
#include "common/clock.h"
#include "common/xmem.h"
#include "endpoint/addresses.h"
#include "endpoint/agent.h"
#include "endpoint/cmd.h"
#include "endpoint/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_TIMEOUT_MS = 30000, STOP_TIMEOUT_MS = 15000, POLL_MS = 50 };

static int prepare_dirs (const struct paths *p, struct err *err)
{
	if (paths_make_private (p->dir, err) < 0 || paths_make_private (p->run, err) < 0 || paths_make_private (p->logs, err) < 0)
		return -1;
	return paths_make_private (p->spool, err);
}

static int run_here (const struct paths *p, const struct config *c, bool foreground)
{
	struct err err;
	int lock = paths_lock (p, &err);

	if (lock < 0)
		return cmd_fail (&err);
	return agent_run (p, c, lock, foreground);
}

/* The child: its own session, no terminal, output to the log. Before any ZeroMQ context exists, so fork is sound. */
static void daemon_child (const struct paths *p, const struct config *c)
{
	int null = open ("/dev/null", O_RDWR), out = open (p->log, O_WRONLY | O_CREAT | O_APPEND, 0600);

	setsid ();
	dup2 (null, 0);
	dup2 (out >= 0 ? out : null, 1);
	dup2 (out >= 0 ? out : null, 2);
	close_range (3, ~0u, 0);
	if (chdir (p->dir) < 0)
		fprintf (stderr, "weft-endpoint: %s: %s\n", p->dir, strerror (errno));
	/* the exit status of a start that fails early is seen by the parent; _exit would lose what sanitizers say */
	exit (run_here (p, c, false));
}

static void say_connected (const struct paths *p, const json_t *st)
{
	printf ("Endpoint %s is connected: id %s, pid %ld.\n", p->name, cmd_text (st, "endpoint_id"), (long) cmd_int (st, "pid", NULL));
}

static void say_why (const struct paths *p, const json_t *st, int64_t waited_ms)
{
	const char *error = cmd_text (st, "error");

	if (*error)
		fprintf (stderr, "weft-endpoint: %s\n", error);
	else if (strcmp (cmd_text (st, "state"), "connecting") == 0)
		fprintf (stderr, "weft-endpoint: the forwarder at %s did not answer within %ld s: %s\n", cmd_text (st, "forwarder_address"),
			 (long) (waited_ms / 1000), addresses_unanswered (cmd_text (st, "forwarder_address"), cmd_text (st, "service_url")));
	else if (json_is_true (json_object_get (st, "registered")))
		fprintf (stderr, "weft-endpoint: registered, but no forwarder came within %ld s: is weft-forwarder supervise running?\n",
			 (long) (waited_ms / 1000));
	else
		fprintf (stderr, "weft-endpoint: the service at %s did not answer within %ld s\n", cmd_text (st, "service_url"),
			 (long) (waited_ms / 1000));
	fprintf (stderr, "weft-endpoint: endpoint %s was not started; 'weft-endpoint doctor %s' and 'weft-endpoint logs %s' show more\n",
		 p->name, p->name, p->name);
}

static int child_ended (const struct paths *p, int status)
{
	char *text;

	/* its own words, one sentence, are the last line of the log that is not a log line */
	fprintf (stderr, "weft-endpoint: the agent ended while it started (%s %d); the end of %s says why:\n",
		 WIFSIGNALED (status) ? "signal" : "status", WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status), p->log);
	text = paths_read (p->log, 1 << 22, NULL, NULL);
	if (text) {
		size_t n = strlen (text), lines = 0;
		while (n && lines < 4)
			lines += text[--n] == '\n';
		fprintf (stderr, "%s", text + n + (text[n] == '\n'));
	}
	free (text);
	return 1;
}

/* Until connected, refused or late. The agent is stopped again when it did not get there: a start that failed leaves nothing. */
static int wait_connected (const struct paths *p, pid_t pid, int64_t timeout_ms)
{
	int64_t begin = clock_now_ms (), waited = 0;
	json_t *st = NULL;
	int status, rc = 1;

	for (;;) {
		if (waitpid (pid, &status, WNOHANG) == pid) {
			json_decref (st);
			return child_ended (p, status);
		}
		json_decref (st);
		st = control_call (p->control, "status", NULL, 2000, NULL);
		waited = clock_now_ms () - begin;
		if (json_is_true (json_object_get (st, "connected"))) {
			say_connected (p, st);
			rc = 0;
			break;
		}
		if (json_is_true (json_object_get (st, "refused")) || waited >= timeout_ms) {
			say_why (p, st, waited);
			cmd_stop_agent (p, 0, STOP_TIMEOUT_MS, true, false);
			waitpid (pid, &status, 0);
			break;
		}
		cmd_sleep_ms (POLL_MS);
	}
	json_decref (st);
	return rc;
}

static int say_running (const struct paths *p, pid_t pid)
{
	json_t *st = control_call (p->control, "status", NULL, 2000, NULL);

	printf ("Endpoint %s is already running (pid %ld, %s).\n", p->name, (long) pid, st ? cmd_text (st, "state") : "starting");
	json_decref (st);
	return 0;
}

int cmd_start_agent (const struct paths *p, const struct cmd_start *o)
{
	pid_t pid = paths_running (p);
	struct config *c;
	struct err err;
	int rc;

	if (pid)
		return say_running (p, pid);
	if (!(c = cmd_config (p, o->set.v)))
		return 1;
	if (prepare_dirs (p, &err) < 0) {
		rc = cmd_fail (&err);
	} else if (o->foreground) {
		rc = run_here (p, c, true);
	} else {
		fflush (NULL);
		pid = fork ();
		if (pid == 0)
			daemon_child (p, c);
		if (pid < 0) {
			fprintf (stderr, "weft-endpoint: fork: %s\n", strerror (errno));
			rc = 1;
		} else if (o->no_wait) {
			printf ("Endpoint %s is starting (pid %ld).\n", p->name, (long) pid);
			rc = 0;
		} else {
			rc = wait_connected (p, pid, o->timeout_ms ? o->timeout_ms : START_TIMEOUT_MS);
		}
	}
	config_free (&c);
	return rc;
}

int cmd_start (void *opts, int argc, char **argv)
{
	struct paths p;
	int rc = cmd_open (&p, argc, argv);

	if (rc)
		return rc;
	rc = cmd_start_agent (&p, opts);
	paths_fini (&p);
	return rc;
}

int cmd_stop (void *opts, int argc, char **argv)
{
	const struct cmd_stop *o = opts;
	struct paths p;
	int rc = cmd_open (&p, argc, argv);

	if (rc)
		return rc;
	rc = cmd_stop_agent (&p, o->grace_ms, o->timeout_ms ? o->timeout_ms : STOP_TIMEOUT_MS, false, false);
	paths_fini (&p);
	return rc;
}

int cmd_restart (void *opts, int argc, char **argv)
{
	const struct cmd_restart *o = opts;
	struct paths p;
	struct config *c;
	int rc = cmd_open (&p, argc, argv);

	if (rc)
		return rc;
	/* a configuration with a mistake must not take a running endpoint down */
	c = cmd_config (&p, o->start.set.v);
	rc = c ? 0 : 1;
	config_free (&c);
	if (rc == 0)
		rc = cmd_stop_agent (&p, o->stop.grace_ms, o->stop.timeout_ms ? o->stop.timeout_ms : STOP_TIMEOUT_MS, true,
				     !o->stop.grace_ms);
	if (rc == 0)
		rc = cmd_start_agent (&p, &o->start);
	paths_fini (&p);
	return rc;
}

static int simple (const char *cmd, const char *done, int argc, char **argv)
{
	struct paths p;
	struct err err;
	json_t *reply;
	int rc = cmd_open (&p, argc, argv);

	if (rc)
		return rc;
	if (!paths_running (&p)) {
		fprintf (stderr, "weft-endpoint: endpoint %s is not running\n", p.name);
		rc = 1;
	} else if (!(reply = control_call (p.control, cmd, NULL, 5000, &err))) {
		rc = cmd_fail (&err);
	} else {
		if (!strcmp (cmd, "undrain") && json_is_true (json_object_get (reply, "draining")))
			done = "stays drained: the service asked for that too (its owner locked it); it ends when the endpoint registers again, at a restart";
		printf ("Endpoint %s %s.\n", p.name, done);
		json_decref (reply);
	}
	paths_fini (&p);
	return rc;
}

int cmd_drain (void *opts, int argc, char **argv)
{
	(void) opts;
	return simple ("drain", "takes no new tasks; what waits was given back, what runs is finished", argc, argv);
}

int cmd_undrain (void *opts, int argc, char **argv)
{
	(void) opts;
	return simple ("undrain", "takes tasks again", argc, argv);
}
