/* SPDX-License-Identifier: Apache-2.0 */
/* weft-worker: the engine inside each container, or on a bare node. Its hidden command is the process that loads shared objects
 * (runners/so_host.c). */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>
#include "common/cli.h"
#include "common/log.h"
#include "common/pythons.h"
#include "common/spawn.h"
#include "proto/bulk.h"
#include "worker/engine.h"
#include "worker/runners/so_host.h"
#include "worker/workdir.h"

struct options {
	const char *connect, *worker_id, *image, *node, *dir, *python, *log_level, *retries_on_kill, *bulk_dir, *files_dir;
	int64_t parent_pid, orphan_ms;
};

struct worker {
	struct loop *loop;
	void *zctx;
	struct bulk *bulk;		/* NULL: none */
	struct pythons pythons;
	struct engine *engine;
	char node[256], dir[PATH_MAX];
	struct id image;
	unsigned retries_on_kill;
};

enum { RETRIES_DEFAULT = 2, RETRIES_MAX = 100 };

static int parse_retries (const struct options *o, struct worker *w, struct err *err)
{
	char *end;
	long n = RETRIES_DEFAULT;

	if (o->retries_on_kill)
		n = strtol (o->retries_on_kill, &end, 10);
	if (o->retries_on_kill && (end == o->retries_on_kill || *end || n < 0 || n > RETRIES_MAX))
		return err_set (err, ERR_INVALID, FAULT_USER, "--retries-on-kill: expected 0..%d, got '%s'", RETRIES_MAX,
				o->retries_on_kill);
	w->retries_on_kill = (unsigned) n;
	return 0;
}

static int complete (struct options *o, struct worker *w, struct id *id, struct err *err)
{
	if (!o->connect || !o->dir)
		return err_set (err, ERR_INVALID, FAULT_USER, "--connect and --dir are needed");
	if (!o->worker_id)
		id_new (id);
	else if (id_parse (id, o->worker_id, strlen (o->worker_id)) < 0)
		return err_set (err, ERR_INVALID, FAULT_USER, "--worker-id: expected a UUID, got '%s'", o->worker_id);
	if (o->image && id_parse (&w->image, o->image, strlen (o->image)) < 0)
		return err_set (err, ERR_INVALID, FAULT_USER, "--image: expected a UUID, got '%s'", o->image);
	if (o->node)
		snprintf (w->node, sizeof (w->node), "%s", o->node);
	else if (gethostname (w->node, sizeof (w->node) - 1) < 0)
		return err_errno (err, "asking for the host's name");
	if (pythons_parse (&w->pythons, o->python ? o->python : "python3", err) < 0) {
		err_prefix (err, "--python");
		return -1;
	}
	if (parse_retries (o, w, err) < 0 || workdir_make (o->dir, err) < 0)
		return -1;
	if (!realpath (o->dir, w->dir))
		return err_errno (err, "directory %s", o->dir);
	return 0;
}

static void on_signal (int signo, void *arg)
{
	struct worker *w = arg;

	log_info ("main", "stopping", "signal=%d", signo);
	if (w->engine)
		engine_stop (w->engine);
	else
		loop_stop (w->loop);
}

static int up (struct options *o, struct worker *w, const struct id *id, struct err *err)
{
	struct engine_opts eo = { .connect = o->connect, .id = *id, .node = w->node, .dir = w->dir, .pythons = &w->pythons,
				  .retries_on_kill = w->retries_on_kill, .image = w->image, .orphan_ms = o->orphan_ms, .files_dir = o->files_dir };

	if (!(w->loop = loop_create (err)))
		return -1;
	if (loop_signal (w->loop, SIGTERM, on_signal, w, err) < 0 || loop_signal (w->loop, SIGINT, on_signal, w, err) < 0)
		return -1;
	if (spawn_become_subreaper (err) < 0)
		return -1;
	if (!(w->zctx = zmq_ctx_new ()))
		return err_errno (err, "making a ZeroMQ context");
	if (o->bulk_dir && !(w->bulk = bulk_open (o->bulk_dir, false, err)))
		log_err (LOG_INFO, "main", "no bulk store here: large data travels in messages", err);
	eo.bulk = w->bulk;
	w->engine = engine_create (w->loop, w->zctx, &eo, err);
	return w->engine ? 0 : -1;
}

static void down (struct worker *w)
{
	engine_destroy (&w->engine);
	bulk_close (&w->bulk);
	pythons_fini (&w->pythons);
	if (w->zctx)
		zmq_ctx_term (w->zctx);
	loop_destroy (&w->loop);
}

static int run (void *opts, int argc, char **argv)
{
	struct options *o = opts;
	struct worker w = { .loop = NULL };
	enum log_level level = LOG_INFO;
	struct err err;
	struct id id;
	int status = 0;

	(void) argc;
	(void) argv;
	if (o->log_level && log_level_parse (o->log_level, &level) < 0) {
		fprintf (stderr, "weft-worker: --log-level: expected debug, info, warn or error, got '%s'\n", o->log_level);
		return 2;
	}
	log_open ("weft-worker", NULL, level, NULL);
	if (o->parent_pid)
		spawn_tie_tree_to_parent ((pid_t) o->parent_pid);
	signal (SIGPIPE, SIG_IGN);
	umask (077);
	if (complete (o, &w, &id, &err) < 0) {
		fprintf (stderr, "weft-worker: %s\n", err.text);
		down (&w);
		return 2;
	}
	setenv ("WEFT_NODE", w.node, 1);	/* runners name it in their errors */
	if (up (o, &w, &id, &err) < 0) {
		log_err (LOG_ERROR, "main", "cannot start", &err);
		status = 1;
	} else {
		log_info ("main", "started", "node=%s dir=%s", w.node, w.dir);
		loop_run (w.loop);
	}
	down (&w);
	return status;
}

#define OPT(name, type, field, arg, min, max, help) { name, 0, type, offsetof (struct options, field), arg, min, max, help }
static const struct cli_opt options[] = {
	OPT ("connect", CLI_STRING, connect, "URI", 0, 0, "where the manager listens (needed)"),
	OPT ("worker-id", CLI_STRING, worker_id, "UUID", 0, 0, "the id that the manager gave us (default: a new one)"),
	OPT ("image", CLI_STRING, image, "UUID", 0, 0, "id of the image of the container that this is in; stands in its results"),
	OPT ("node", CLI_STRING, node, "NAME", 0, 0, "name of this node (default: the host's)"),
	OPT ("dir", CLI_STRING, dir, "DIR", 0, 0, "directory for runners and their work directories (needed)"),
	OPT ("python", CLI_STRING, python, "PATH", 0, 0, "interpreter for Python functions, or several: 3.11=PATH,3.9=PATH (default: python3)"),
	OPT ("parent-pid", CLI_INT, parent_pid, "PID", 0, INT_MAX, "end when this process, our parent, does, and kill all calls"),
	OPT ("orphan-timeout", CLI_DURATION_MS, orphan_ms, "TIME", 100, 86400000,
	     "end after so long without the manager, as in containers (default: never)"),
	OPT ("bulk-dir", CLI_STRING, bulk_dir, "DIR", 0, 0, "the bulk store of this host, if it has one"),
	OPT ("files-dir", CLI_STRING, files_dir, "DIR", 0, 0, "where the files of tasks stand, if the node has any"),
	OPT ("log-level", CLI_STRING, log_level, "LEVEL", 0, 0, "debug, info, warn or error (default: info)"),
	OPT ("retries-on-kill", CLI_STRING, retries_on_kill, "N", 0, 0,
	     "call again so often when somebody else kills the process, as the system does without memory (default: 2)"),
	CLI_END,
};

static const struct cli_cmd cmds[] = {
	{ "", "[OPTIONS]", "Call functions for a manager, one at a time.\nStarted by weft-manager.", options,
	  sizeof (struct options), 0, 0, run },
	{ .name = NULL },
};

int main (int argc, char **argv)
{
	static const struct cli_prog prog = {
		.name = "weft-worker",
		.help = "Runs the functions of tasks: Python, commands and shared objects, each in a process of its own.",
		.cmds = cmds,
		NULL,
	};

	if (argc > 1 && strcmp (argv[1], "so-runner") == 0)
		return so_host_main (argc - 2, argv + 2);
	return cli_main (&prog, argc, argv);
}
