/* SPDX-License-Identifier: Apache-2.0 */
/* weft up, down, env */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include "client/api.h"
#include "client/target.h"
#include "client/cmds.h"
#include "client/fabric.h"
#include "common/clock.h"
#include "common/spawn.h"
#include "common/xmem.h"

struct opts {
	const char *state, *port, *profile;
	int64_t workers, processes, timeout_ms, parent_pid;
	struct cli_strings service_set, endpoint_set;
	bool detach, json;
};
#define AT(f) offsetof (struct opts, f)

struct up {
	struct fabric *fabric;
	struct loop *l;
	int report;		/* detached: the pipe to the waiting parent; else -1 */
	int status;
	bool json, told;	/* told: that it is up, or why it is not */
	const char *state;
};

/* Tell the person who started us: on the terminal, or through the pipe when detached. The first byte is the exit status. The parent waits for the
 * pipe's end: after a failure that is our own, when nothing is left that we have started. */
static void report (struct up *u, int status, const char *text)
{
	u->told = true;
	if (u->report < 0) {
		fputs (text, status ? stderr : stdout);
		fflush (stdout);
		return;
	}
	char s = (char)('0' + status);
	if (write (u->report, &s, 1) == 1 && write (u->report, text, strlen (text)) > 0)
		(void)0;
	if (status == 0) {
		close (u->report);
		u->report = -1;
	}
}

static void report_failure (struct up *u, const char *why)
{
	char *text = xasprintf ("weft: up: %s\n", why);
	u->status = 1;
	report (u, 1, text);
	free (text);
}

/* No token: `weft env` shows that. */
static char *as_json (const struct fabric *f, const char *state)
{
	const char *url = fabric_url (f), *name;
	json_t *pids = json_object (), *j;
	char *text, *line;
	pid_t pid;
	for (int i = 0; (name = fabric_program (f, i, &pid)); i++)
		json_object_set_new (pids, name, json_integer (pid));
	j = json_pack ("{s:s, s:s, s:s, s:i, s:i, s:o}", "url", url, "endpoint", fabric_endpoint (f), "state", state, "port",
		       atoi (strrchr (url, ':') + 1), "pid", (int)getpid (), "pids", pids);
	text = json_dumps (j, JSON_INDENT (2));
	line = xasprintf ("%s\n", text);
	free (text);
	json_decref (j);
	return line;
}

static void on_ready (const char *why, void *arg)
{
	struct up *u = arg;
	char *text;
	if (why) {
		report_failure (u, why);
		fabric_stop (u->fabric);
		return;
	}
	if (u->json)
		text = as_json (u->fabric, u->state);
	else
		text = xasprintf ("weft is up: %s, endpoint %s\n"
				  "see it:       weft console --state %s   (prints an address for a browser)\n"
				  "use it here:  export $(weft env --state %s)\nstop it with: weft down --state %s\n",
				  fabric_url (u->fabric), fabric_endpoint (u->fabric), u->state, u->state, u->state);
	report (u, 0, text);
	free (text);
}

static void on_signal (int signo, void *arg)
{
	struct up *u = arg;
	if (!u->told) {
		char *why = xasprintf ("stopped by %s before it was ready", signo == SIGINT ? "Ctrl-C" : "a signal");
		report_failure (u, why);
		free (why);
	}
	fabric_stop (u->fabric);
}

/* Fork before the loop and its threads exist; the parent waits until the child is ready, or has said why not and ended. Returns only in the child. */
static int detach (void)
{
	int p[2];
	char buf[4096], status = '1';
	ssize_t n;
	if (pipe2 (p, O_CLOEXEC) < 0)
		return -1;
	pid_t pid = fork ();
	if (pid < 0)
		return -1;
	if (!pid) {
		int null = open ("/dev/null", O_RDWR | O_CLOEXEC);
		close (p[0]);
		setsid ();
		for (int fd = 0; fd < 3; fd++)
			dup2 (null, fd);
		return p[1];
	}
	close (p[1]);
	if (read (p[0], &status, 1) != 1) {
		fputs ("weft: up: ended before it was ready\n", stderr);
		_exit (1);
	}
	while ((n = read (p[0], buf, sizeof (buf))) > 0)
		if (fwrite (buf, 1, (size_t)n, status == '0' ? stdout : stderr) != (size_t)n)
			break;
	fflush (stdout);
	_exit (status == '0' ? 0 : 1);
}

static int cmd_up (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	struct up u = { .report = -1, .json = o->json };
	char *state = target_state_dir (o->state);
	long cores = sysconf (_SC_NPROCESSORS_ONLN);
	struct fabric_opts fo = { .state = state, .port = o->port ? atoi (o->port) : 5000,
				  .workers = o->workers ? o->workers : cores > 0 ? cores : 1,
				  .service_processes = o->processes ? o->processes : 1, .progress = o->detach ? NULL : o->json ? stderr : stdout,
				  .service_set = o->service_set.v, .endpoint_set = o->endpoint_set.v, .on_ready = on_ready, .arg = &u };
	(void)argc;
	(void)argv;
	u.state = state;
	if (o->port && (strspn (o->port, "0123456789") != strlen (o->port) || fo.port > 65535)) {
		fprintf (stderr, "weft: up: --port: expected 0..65535, got \"%s\"\n", o->port);
		free (state);
		return 2;
	}
	if (o->detach && (u.report = detach ()) < 0) {
		fprintf (stderr, "weft: up: %s\n", strerror (errno));
		return 1;
	}
	if (o->parent_pid)
		spawn_tie_to_parent ((pid_t)o->parent_pid);
	if ((u.l = loop_create (&err)) && (u.fabric = fabric_create (u.l, &fo, &err)) &&
	    loop_signal (u.l, SIGTERM, on_signal, &u, &err) == 0 && loop_signal (u.l, SIGINT, on_signal, &u, &err) == 0)
		loop_run (u.l);
	else
		report_failure (&u, err.text);
	fabric_destroy (&u.fabric);
	loop_destroy (&u.l);
	free (state);
	return u.status;
}

static int cmd_down (void *op, int argc, char **argv)
{
	struct opts *o = op;
	char *state = target_state_dir (o->state);
	int fd, rc = 0;
	int64_t began = clock_now_ms (), limit = o->timeout_ms ? o->timeout_ms : 60000;
	bool told = false;
	pid_t pid = fabric_holder (state, &fd);
	(void)argc;
	(void)argv;
	if (pid == 0) {
		if (!o->json)
			printf ("no fabric is running in %s\n", state);
	} else if (pid < 0 || kill (pid, SIGTERM) < 0) {
		fprintf (stderr, "weft: down: stopping the fabric in %s: %s\n", state, strerror (errno));
		rc = 1;
	} else {
		/* the lock is free when it has ended, whatever happened to its pid */
		while (flock (fd, LOCK_EX | LOCK_NB) < 0) {
			struct timespec pause = { 0, 20 * 1000000 };
			if (clock_now_ms () - began > limit) {
				fprintf (stderr, "weft: down: process %d has not ended after %lld s\n", (int)pid, (long long)limit / 1000);
				rc = 1;
				break;
			}
			if (!told && clock_now_ms () - began > 2000 && isatty (2)) {
				fputs ("waiting for running tasks to be put back ...\n", stderr);
				told = true;
			}
			nanosleep (&pause, NULL);
		}
		close (fd);
	}
	if (o->json && !rc) {
		json_t *j = json_pack ("{s:s, s:b, s:o}", "state", state, "stopped", pid != 0, "pid", pid ? json_integer (pid) : json_null ());
		api_print_json (j);
		json_decref (j);
	}
	free (state);
	return rc;
}

static int cmd_env (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	char *dir = target_state_dir (o->state);
	/* without --profile the fabric, whatever else is known */
	const struct api_opts of = { .profile = o->profile, .state = o->profile ? NULL : dir };
	const struct target *t = target_find (&of, &err);
	(void)argc;
	(void)argv;
	if (!t) {
		free (dir);
		return api_fail ("env", &err);
	}
	const struct { const char *key, *value; } all[] = { { "WEFT_URL", t->p.url }, { "WEFT_TOKEN", t->p.token }, { "WEFT_ENDPOINT", t->p.endpoint },
							    { "WEFT_CA_FILE", t->p.ca_file } };
	json_t *j = json_object ();
	for (size_t i = 0; i < sizeof (all) / sizeof (all[0]); i++) {
		if (!all[i].value)
			continue;
		json_object_set_new (j, all[i].key, json_string (all[i].value));
		if (!o->json)
			printf ("%s=%s\n", all[i].key, all[i].value);
	}
	if (o->json)
		api_print_json (j);
	json_decref (j);
	if (!o->profile && fabric_absent (dir, &err))
		api_fail ("env", &err);
	free (dir);
	return 0;
}

#define STATE_OPT { "state", 0, CLI_STRING, AT (state), "DIR", 0, 0, "state directory; default $WEFT_HOME/up, then ~/.weft/up" }
static const struct cli_opt up_opts[] = {
	STATE_OPT,
	{ "port", 'p', CLI_STRING, AT (port), "N", 0, 0, "port of the service on 127.0.0.1; default 5000, 0 = any free one" },
	{ "workers", 'w', CLI_INT, AT (workers), "N", 1, 4096, "tasks that run at once; default: the number of cores" },
	{ "processes", 0, CLI_INT, AT (processes), "N", 1, 256, "service processes; default 1" },
	{ "service-set", 0, CLI_STRINGS, AT (service_set), "KEY=VALUE", 0, 0,
	  "override a key of the service's configuration (weft-service.yaml(5))" },
	{ "endpoint-set", 0, CLI_STRINGS, AT (endpoint_set), "KEY=VALUE", 0, 0,
	  "override a key of the endpoint's configuration (weft-endpoint.yaml(5))" },
	{ "detach", 'd', CLI_FLAG, AT (detach), NULL, 0, 0, "return when it is ready, and go on in the background" },
	{ "json", 'j', CLI_FLAG, AT (json), NULL, 0, 0,
	  "when all is up, print one JSON object: url, endpoint, state, port, pid, pids; progress goes to standard error" },
	{ "parent-pid", 0, CLI_INT, AT (parent_pid), "PID", 1, 1 << 30, "die with this process" },
	CLI_END,
};
static const struct cli_opt down_opts[] = {
	STATE_OPT,
	{ "timeout", 't', CLI_DURATION_MS, AT (timeout_ms), "TIME", 0, 0, "how long to wait for its end; default 60s" },
	{ "json", 'j', CLI_FLAG, AT (json), NULL, 0, 0, "print a JSON object: state, stopped, pid" },
	CLI_END,
};
static const struct cli_opt env_opts[] = {
	STATE_OPT,
	{ "profile", 0, CLI_STRING, AT (profile), "PROFILE", 0, 0, "of this login, instead" },
	{ "json", 'j', CLI_FLAG, AT (json), NULL, 0, 0, "print JSON" },
	CLI_END,
};

const struct cli_cmd cmds_up[] = {
	{ "up", "[OPTIONS]",
	  "Start a whole fabric on this machine: Redis, service, forwarder and a local endpoint.\n"
	  "Everything lives in the state directory and ends with Ctrl-C, or `weft down` when detached. What was queued goes on\n"
	  "with the next start. Its Redis writes to disk each second (appendonly yes, appendfsync everysec): a power failure may lose the\n"
	  "last second or two. weft-service(8), DURABILITY, tells what to set where that matters.\n"
	  "\n"
	  "  weft up --detach && export $(weft env)\n"
	  "\n"
	  "With --json the object names the processes too; the token is shown by `weft env --json` only. Exit 1 when it was stopped before\n"
	  "it was ready.",
	  up_opts, sizeof (struct opts), 0, 0, cmd_up },
	{ "down", "[OPTIONS]", "Stop the fabric of a state directory and wait until all its processes have ended.", down_opts,
	  sizeof (struct opts), 0, 0, cmd_down },
	{ "env", "[OPTIONS]", "Print WEFT_URL, WEFT_TOKEN, WEFT_ENDPOINT and, where there is one, WEFT_CA_FILE lines for a shell: export $(weft env)\n"
	  "Of the fabric that `weft up` has started, or of a login with --profile. Of one that does not run any more too: that is told\n"
	  "on standard error.", env_opts,
	  sizeof (struct opts), 0, 0, cmd_env },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
