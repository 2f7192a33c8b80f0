/* SPDX-License-Identifier: Apache-2.0 */
/* weft-forwarder: between Redis and the endpoints.
 *
 *   supervise   one process a host: starts `run` for each endpoint whose lease it gets
 *   run         one process an endpoint: forward.c joins intake, hand, bodies, done, presence and the link */
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/cli.h"
#include "common/log.h"
#include "common/spawn.h"
#include "forwarder/forward.h"
#include "forwarder/supervise.h"

struct opts {
	const char *config;
	struct cli_strings set;
	const char *endpoint, *lease_owner;
	int64_t parent_pid;
};
#define AT(field) offsetof (struct opts, field)
#define INSTALLED "/etc/weft/forwarder.yaml"
#define CONFIG_OPTS \
	{ "config", 'c', CLI_STRING, AT (config), "FILE", 0, 0, "configuration (YAML); default: " INSTALLED " when it is there" }, \
	{ "set", 's', CLI_STRINGS, AT (set), "KEY=VALUE", 0, 0, "override one key of the configuration" }

static const struct cli_opt config_opts[] = { CONFIG_OPTS, CLI_END };
static const struct cli_opt supervise_opts[] = {
	CONFIG_OPTS,
	{ "parent-pid", 0, CLI_INT, AT (parent_pid), "PID", 1, 1 << 30, "die with this process" },
	CLI_END,
};
static const struct cli_opt run_opts[] = {
	CONFIG_OPTS,
	{ "endpoint", 'e', CLI_STRING, AT (endpoint), "UUID", 0, 0, "the endpoint to serve (required)" },
	{ "lease-owner", 0, CLI_STRING, AT (lease_owner), "NAME", 0, 0, "who holds the lease; default: a name of its own" },
	{ "parent-pid", 0, CLI_INT, AT (parent_pid), "PID", 1, 1 << 30, "die with this process" },
	CLI_END,
};

static int load (struct opts *o, struct config *c)
{
	struct buf report;
	struct err err = { 0 };
	buf_init (&report, 0);
	o->config = conf_path (o->config, INSTALLED);
	if (conf_load (config_table, o->config, o->set.v, c, &report, &err) < 0) {
		conf_say_problems ("weft-forwarder", &report, &err, stderr);
		buf_fini (&report);
		return -1;
	}
	buf_fini (&report);
	if (log_open ("weft-forwarder", c->log_file, (enum log_level)c->log_level, &err) < 0) {
		fprintf (stderr, "weft-forwarder: %s\n", err.text);
		conf_free (config_table, c);
		return -1;
	}
	return 0;
}

static int fail (struct config *c, const struct err *err)
{
	fprintf (stderr, "weft-forwarder: %s\n", err->text);
	conf_free (config_table, c);
	return 1;
}

static void on_reopen (int signo, void *arg)
{
	(void)signo;
	(void)arg;
	log_reopen (NULL);
}

static void on_term_run (int signo, void *arg)
{
	(void)signo;
	forward_stop (arg);
}

static void on_term_supervise (int signo, void *arg)
{
	(void)signo;
	supervise_stop (arg);
}

static int signals (struct loop *l, loop_signal_f *term, void *arg, struct err *err)
{
	return loop_signal (l, SIGTERM, term, arg, err) < 0 || loop_signal (l, SIGINT, term, arg, err) < 0 ||
	       loop_signal (l, SIGHUP, on_reopen, NULL, err) < 0 ? -1 : 0;
}

static int run (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct config c;
	struct err err = { 0 };
	struct loop *l = NULL;
	struct forward *f = NULL;
	struct id ep, me;
	char own[ID_TEXT];
	int status;
	(void)argc;
	(void)argv;
	if (!o->endpoint || id_parse (&ep, o->endpoint, strlen (o->endpoint)) < 0) {
		fprintf (stderr, "weft-forwarder: run: --endpoint UUID is required, see weft-forwarder run --help\n");
		return 2;
	}
	if (o->parent_pid)
		spawn_tie_to_parent ((pid_t)o->parent_pid);
	if (load (o, &c) < 0)
		return 1;
	id_new (&me);
	if (!(l = loop_create (&err)) ||
	    !(f = forward_create (l, &c, &ep, o->lease_owner ? o->lease_owner : id_text (&me, own), &err)) ||
	    signals (l, on_term_run, f, &err) < 0) {
		forward_destroy (&f);
		loop_destroy (&l);
		return fail (&c, &err);
	}
	loop_run (l);
	status = forward_exit_status (f);
	forward_destroy (&f);
	loop_destroy (&l);
	conf_free (config_table, &c);
	return status;
}

static int supervise (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct config c;
	struct err err = { 0 };
	struct loop *l = NULL;
	struct supervise *s = NULL;
	static char exe[4096]; /* the children run this very program, under its own name */
	const char **args = calloc (o->set.n * 2 + 3, sizeof (*args));
	size_t n = 0;
	(void)argc;
	(void)argv;
	if (o->parent_pid)
		spawn_tie_to_parent ((pid_t)o->parent_pid);
	if (!args || load (o, &c) < 0) {
		free (args);
		return 1;
	}
	if (o->config) {
		args[n++] = "--config";
		args[n++] = o->config;
	}
	for (size_t i = 0; i < o->set.n; i++) {
		args[n++] = "--set";
		args[n++] = o->set.v[i];
	}
	if (readlink ("/proc/self/exe", exe, sizeof (exe) - 1) < 0)
		err_errno (&err, "finding this program");
	else if ((l = loop_create (&err)))
		s = supervise_create (l, &c, exe, args, &err);
	if (!s ||
	    signals (l, on_term_supervise, s, &err) < 0) {
		supervise_destroy (&s);
		loop_destroy (&l);
		free (args);
		return fail (&c, &err);
	}
	loop_run (l);
	supervise_destroy (&s);
	loop_destroy (&l);
	conf_free (config_table, &c);
	free (args);
	return 0;
}

static int check_config (void *op, int argc, char **argv)
{
	struct config c;
	(void)argc;
	(void)argv;
	if (load (op, &c) < 0)
		return 1;
	conf_free (config_table, &c);
	printf ("ok\n");
	return 0;
}

static int print_config (void *op, int argc, char **argv)
{
	(void)op;
	(void)argc;
	(void)argv;
	conf_print_example (config_table, "weft-forwarder: between Redis and the endpoints", stdout);
	return 0;
}

static const struct cli_cmd cmds[] = {
	{ "supervise", "[OPTIONS]",
	  "Start and keep alive one forwarder per registered endpoint.\n"
	  "Run one on each host that serves endpoints; they share the work through leases in Redis and take over from each other.",
	  supervise_opts, sizeof (struct opts), 0, 0, supervise },
	{ "run", "--endpoint UUID [OPTIONS]",
	  "Serve one endpoint.\nUsually started by supervise; by hand for debugging, with log.level=debug.",
	  run_opts, sizeof (struct opts), 0, 0, run },
	{ "check-config", "[OPTIONS]", "Check the configuration and say every problem found.", config_opts, sizeof (struct opts), 0, 0,
	  check_config },
	{ "print-config", "", "Print a commented example configuration.", NULL, sizeof (struct opts), 0, 0, print_config },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};

int main (int argc, char **argv)
{
	static const struct cli_prog prog = {
		"weft-forwarder",
		"Carries tasks from Redis to endpoints over ZeroMQ, and results back.\n"
		"Endpoints dial in, over TCP with CURVE or, on this host, at a socket in bulk.dir; only the key that an endpoint registered with gets in.",
		cmds,
		"Signals: SIGTERM stops gracefully (the endpoints reconnect elsewhere), SIGHUP reopens the log.\n"
		"Files: " INSTALLED " (configuration), see 'weft-forwarder print-config'.",
		NULL,
	};
	return cli_main (&prog, argc, argv);
}
