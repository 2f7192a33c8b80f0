/* SPDX-License-Identifier: Apache-2.0 */
/* weft-manager, one per provisioned node: starts worker engines and feeds them with what the agent (weft-endpoint) sends.
 *
 *     rooms       the directory: socket, work directories
 *     upstream    the session with the agent              workers   processes and their sessions
 *     dispatch    between the two: tasks.c, functions.c, results.c, prefetch.c, window.h
 *     files       brings the files that tasks want to the node's cache (filecache.c, download.c)
 *     keep        leaves files that they make in a directory of the endpoint (shelf.c)
 *     containers/ what the node offers to functions that want a container; pools.c, workers_container.c
 *
 * Life: dial the agent; with its WELCOME (which brings the limits) the workers are started; run until SIGTERM, drained, the end of
 * the node's time, or no agent for --orphan-timeout. Then workers are stopped, what has not begun goes back, BYE. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>
#include "common/cli.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "endpoint/manager/bundle.h"
#include "endpoint/manager/containers/identity.h"
#include "endpoint/manager/containers/node.h"
#include "endpoint/manager/dispatch.h"
#include "endpoint/manager/files.h"
#include "endpoint/manager/keep.h"
#include "endpoint/manager/reach.h"
#include "endpoint/manager/rooms.h"
#include "endpoint/manager/shelf.h"
#include "endpoint/manager/upstream.h"
#include "endpoint/manager/workers.h"
#include "proto/bulk.h"

#define STOP_GRACE_MS 3000	/* workers, from SIGTERM to SIGKILL */
#define STOP_LIMIT_MS 4500	/* and then we go whatever happens; before the agent kills us, which it does after scaling.stop_grace (5 s) */
#define STRAYS_LIMIT_MS 400	/* what workers have left is killed in that time; before the agent kills us, as above */
#define LINGER_MS 1000
#define FILES_TIMEOUT_MS 1800000
#define DIR_NAME "weft-node-"
#define STALE_S 60		/* a directory of this age that nobody has locked is left over */
#define TMPDIR_MAX 64		/* a unix socket's path has 107 bytes */

/* What Podman leaves behind to hold containers: one of its own, and, without root, their root directories and networks. */
static const char *const HOLDERS[] = {
	"conmon", "catatonit", "fuse-overlayfs", "slirp4netns", "pasta", "pasta.avx2", "rootlessport", "aardvark-dns", NULL
};

struct options {
	const char *connect, *endpoint_id, *block, *node, *dir, *server_key, *key_file, *key_env, *worker_bin, *python, *log_level, *retries_on_kill;
	const char *bulk_dir, *identify, *files_dir, *files_ca, *files_output, *make_bundle;
	struct cli_strings files_from;
	int64_t files_cache, files_max, files_timeout, files_parallel, files_output_max, files_output_total, files_output_free;
	bool files_https_only;
	int64_t workers, parent_pid, time_left_s, retries_on_loss, heartbeat_ms, threshold_ms, orphan_timeout;
	bool no_retry;
	struct node_options containers;
};

struct manager {
	const struct options *o;
	struct loop *loop;
	void *zctx;
	struct bulk *bulk;		/* NULL: none */
	struct files *files;		/* NULL: none */
	struct keep *keep;		/* NULL: no file can be left */
	struct rooms *rooms;
	struct dispatch *dispatch;
	struct upstream *up;
	struct workers *workers;
	struct loop_timer *orphan, *end_of_time, *stop_limit;
	char node[256], program[PATH_MAX], worker_bin[PATH_MAX + 64], loader[PATH_MAX], lib[PATH_MAX + 64], bundle[PATH_MAX], dir[PATH_MAX];
	bool own_dir;			/* made by us: goes with us */
	int dir_lock;			/* its descriptor; held to the end */
	struct node offer;		/* containers */
	bool stopping, signalled;
	int status;
};

/* ---- the end ---- */

static void finished (void *arg)
{
	struct manager *m = arg;

	loop_stop (m->loop);
}

static void stop (struct manager *m, const char *why, int status)
{
	if (m->stopping)
		return;
	log_info ("main", "stopping", "why=%s", why);
	m->stopping = true;
	m->status = status;
	loop_timer_stop (m->orphan);
	loop_timer_stop (m->end_of_time);
	loop_timer_start (m->stop_limit, STOP_LIMIT_MS, false);
	dispatch_stop (m->dispatch);
	if (m->workers)
		workers_stop (m->workers, STOP_GRACE_MS);
	else
		loop_stop (m->loop);
}

/* The second signal means at once. The first one that finds us stopping does not: an agent that ends drains us, and then sends SIGTERM. */
static void on_signal (int signo, void *arg)
{
	struct manager *m = arg;

	if (m->signalled)
		loop_stop (m->loop);
	m->signalled = true;
	stop (m, signo == SIGINT ? "SIGINT" : "SIGTERM", 0);
}

static void orphaned (void *arg)
{
	stop (arg, "no session with the agent", 1);
}

static void drained (void *arg)
{
	stop (arg, "drained", 0);
}

/* Early enough that calls which are running can end, late enough not to waste the node. */
static int64_t drain_before_ms (int64_t whole_ms)
{
	return whole_ms / 10 < 60000 ? whole_ms / 10 : 60000;
}

static void time_ends (void *arg)
{
	struct manager *m = arg;

	dispatch_drain (m->dispatch, (uint32_t) drain_before_ms (m->o->time_left_s * 1000));
}

/* ---- the session with the agent ---- */

static void start_workers (struct manager *m, const struct msg_welcome *welcome)
{
	const struct options *o = m->o;
	const struct workers_opts wo = {
		.n = (unsigned) o->workers, .containers = m->offer.n ? (unsigned) o->containers.max : 0, .node_containers = &m->offer,
		.bin = m->worker_bin, .loader = *m->loader ? m->loader : NULL, .lib = m->lib, .python = o->python ? o->python : "python3", .node = m->node,
		.log_level = o->log_level ? o->log_level : "info", .retries_on_kill = o->retries_on_kill,
		.heartbeat_ms = o->heartbeat_ms, .threshold_ms = o->threshold_ms,
		.max_payload_bytes = welcome->max_payload_bytes, .max_result_bytes = welcome->max_result_bytes,
		.bulk = m->bulk, .files_dir = m->files ? files_content (m->files) : NULL, .rooms = m->rooms, .ops = &dispatch_workers_ops, .arg = m->dispatch,
	};
	struct err err;

	m->workers = workers_create (m->loop, m->zctx, &wo, &err);
	if (!m->workers) {
		log_err (LOG_ERROR, "main", "cannot listen for workers", &err);
		stop (m, "cannot listen for workers", 1);
		return;
	}
	dispatch_connect (m->dispatch, m->up, m->workers);
}

static void session (bool up, const struct msg_welcome *welcome, void *arg)
{
	struct manager *m = arg;

	if (m->stopping)
		return;
	if (!up) {
		loop_timer_start (m->orphan, m->o->orphan_timeout, false);
		return;
	}
	loop_timer_stop (m->orphan);
	if (m->workers)
		workers_set_limits (m->workers, welcome->max_payload_bytes, welcome->max_result_bytes);
	else
		start_workers (m, welcome);
}

/* ---- start ---- */

static int dial (struct manager *m, struct err *err)
{
	const struct options *o = m->o;
	char public_key[41], secret_key[41], address[REACH_TEXT];
	struct upstream_opts uo = {
		.address = address, .node = m->node, .block = o->block ? o->block : "", .server_key = o->server_key,
		.slots = (unsigned) o->workers, .heartbeat_ms = o->heartbeat_ms, .threshold_ms = o->threshold_ms,
		.bulk = m->bulk ? bulk_id (m->bulk) : NULL, .ops = &dispatch_upstream_ops, .arg = m->dispatch,
	};

	if (o->server_key) {
		if (!o->key_file == !o->key_env)
			return err_set (err, ERR_INVALID, FAULT_USER, "--server-key needs --key-file or --key-env");
		if (o->key_file ? upstream_read_key (o->key_file, public_key, secret_key, err) < 0
				: upstream_take_key (o->key_env, public_key, secret_key, err) < 0)
			return -1;
		uo.public_key = public_key;
		uo.secret_key = secret_key;
	}
	if (reach_first (o->connect, o->orphan_timeout, address, err) < 0)
		return -1;
	m->up = upstream_create (m->loop, m->zctx, &uo, err);
	if (!m->up)
		return -1;
	dispatch_connect (m->dispatch, m->up, NULL);
	loop_timer_start (m->orphan, o->orphan_timeout, false);
	if (o->time_left_s)
		loop_timer_start (m->end_of_time, o->time_left_s * 1000 - drain_before_ms (o->time_left_s * 1000), false);
	return 0;
}

/* What managers that were killed on this node left, as at the end of a wall time: ours, not locked, and not just being made. */
static void remove_stale (struct manager *m, const char *base)
{
	DIR *d = opendir (base);
	struct dirent *e;
	struct stat st;

	while (d && (e = readdir (d))) {
		int fd = strncmp (e->d_name, DIR_NAME, strlen (DIR_NAME)) ? -1
									  : openat (dirfd (d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (fstat (fd, &st) == 0 && st.st_uid == geteuid () && time (NULL) - st.st_mtime > STALE_S && flock (fd, LOCK_EX | LOCK_NB) == 0) {
			char *path = xasprintf ("%s/%s", base, e->d_name);
			spawn_remove_tree (m->loop, path);
			free (path);
		}
		close (fd);
	}
	if (d)
		closedir (d);
}

/* Where what is of this node alone goes. */
static const char *tmp_base (void)
{
	const char *base = getenv ("TMPDIR");

	return base && *base == '/' && access (base, W_OK) == 0 ? base : "/tmp";
}

/* Where we are told; else a private directory of this node, on its own disk, locked while we live. */
static int make_dir (struct manager *m, struct err *err)
{
	const char *base = tmp_base ();

	if (m->o->dir) {
		snprintf (m->dir, sizeof (m->dir), "%s", m->o->dir);
		return 0;
	}
	if (strlen (base) > TMPDIR_MAX)
		base = "/tmp";
	remove_stale (m, base);
	snprintf (m->dir, sizeof (m->dir), "%s/" DIR_NAME "XXXXXX", base);
	if (!mkdtemp (m->dir))
		return err_errno (err, "making a directory under %s", base);
	m->own_dir = true;
	m->dir_lock = open (m->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->dir_lock < 0 || flock (m->dir_lock, LOCK_EX | LOCK_NB) < 0)
		return err_errno (err, "locking %s", m->dir);
	return 0;
}

/* This node may be another host than the agent's: then large data travels in messages. */
static void open_bulk (struct manager *m)
{
	struct err err;

	if (m->o->bulk_dir && !(m->bulk = bulk_open (m->o->bulk_dir, false, &err)))
		log_err (LOG_INFO, "main", "no bulk store on this node: large data travels in messages", &err);
}

/* Without a usable directory the node serves tasks that want no files. */
static void open_files (struct manager *m)
{
	const struct options *o = m->o;
	struct files_opts fo = { .dir = o->files_dir, .ca_file = o->files_ca, .from = o->files_from.v, .cache_bytes = o->files_cache,
				 .max_bytes = o->files_max ? o->files_max : o->files_cache,
				 .timeout_ms = o->files_timeout ? o->files_timeout : FILES_TIMEOUT_MS,
				 .parallel = o->files_parallel ? (unsigned) o->files_parallel : 4, .http = !o->files_https_only, .keeps = o->files_output };
	const struct shelf_limits limits = { .task_bytes = o->files_output_max ? (uint64_t) o->files_output_max : UINT64_MAX,
					     .total_bytes = (uint64_t) o->files_output_total, .free_bytes = (uint64_t) o->files_output_free };
	char *own = NULL;
	struct err err;

	if (!o->files_cache)
		return;
	if (!fo.dir)
		fo.dir = own = xasprintf ("%s/weft-files-%u", tmp_base (), (unsigned) geteuid ());
	if (!(m->files = files_create (m->loop, &fo, &err)))
		log_err (LOG_ERROR, "main", "tasks that want files will fail on this node", &err);
	if (m->files && o->files_output && !(m->keep = keep_create (m->loop, o->files_output, &limits, &err))) {
		log_err (LOG_ERROR, "main", "tasks that want files will fail on this node", &err);
		files_destroy (&m->files);
	}
	free (own);
}

static int prepare (struct manager *m, struct err *err)
{
	const struct options *o = m->o;
	struct dispatch_opts d = {
		.containers = m->offer.n ? &m->offer : NULL, .node = m->node, .retries_on_loss = (unsigned) o->retries_on_loss, .missing_ms = o->threshold_ms,
		.time_left_ms = o->time_left_s * 1000, .session = session, .empty = drained, .stopped = finished, .arg = m,
	};

	if (!(m->loop = loop_create (err)) || loop_signal (m->loop, SIGTERM, on_signal, m, err) < 0
	    || loop_signal (m->loop, SIGINT, on_signal, m, err) < 0 || spawn_become_subreaper (err) < 0)
		return -1;
	if (!(m->zctx = zmq_ctx_new ()))
		return err_errno (err, "making a ZeroMQ context");
	if (make_dir (m, err) < 0 || !(m->rooms = rooms_create (m->loop, m->dir, err)))
		return -1;
	m->orphan = loop_timer_create (m->loop, orphaned, m);
	m->end_of_time = loop_timer_create (m->loop, time_ends, m);
	m->stop_limit = loop_timer_create (m->loop, finished, m);
	open_bulk (m);
	d.bulk = m->bulk;
	open_files (m);
	d.files = m->files;
	d.keep = m->keep;
	m->dispatch = dispatch_create (m->loop, &d);
	return dial (m, err);
}

static void tear_down (struct manager *m)
{
	workers_destroy (&m->workers, 0);
	spawn_spare (NULL);
	spawn_sweep_wait (STRAYS_LIMIT_MS);
	if (m->dispatch)
		dispatch_connect (m->dispatch, NULL, NULL);
	upstream_destroy (&m->up, LINGER_MS);
	dispatch_destroy (&m->dispatch);
	keep_destroy (&m->keep);
	files_destroy (&m->files);
	if (m->loop) {
		loop_timer_destroy (&m->orphan);
		loop_timer_destroy (&m->end_of_time);
		loop_timer_destroy (&m->stop_limit);
	}
	rooms_destroy (&m->rooms);
	if (m->own_dir && rmdir (m->dir) < 0)
		log_warn ("main", "cannot remove the directory", "dir=%s errno=%d", m->dir, errno);
	bulk_close (&m->bulk);
	if (m->zctx)
		zmq_ctx_term (m->zctx);
	loop_destroy (&m->loop);
}

/* The directory of this program; "" when it cannot be told. loader: set to what started it, where that is in a bundle with it. */
static void own_dir (char out[PATH_MAX], char loader[PATH_MAX])
{
	ssize_t n = readlink ("/proc/self/exe", out, PATH_MAX - 1);
	char *slash;

	out[n > 0 ? n : 0] = '\0';
	if (bundle_loader (out))
		snprintf (loader, PATH_MAX, "%s", out);
	if ((slash = strrchr (out, '/')))
		*slash = '\0';
}

/* The worker beside this program, and its bundle; as installed or as built. Else the worker from PATH. */
static void find_worker (struct manager *m)
{
	char dir[PATH_MAX], path[PATH_MAX + 64];

	own_dir (dir, m->loader);
	snprintf (m->lib, sizeof (m->lib), "%s/lib", dir);
	snprintf (m->program, sizeof (m->program), "%.*s/weft-manager", PATH_MAX - 20, dir);
	snprintf (m->worker_bin, sizeof (m->worker_bin), "%s", m->o->worker_bin ? m->o->worker_bin : "weft-worker");
	snprintf (path, sizeof (path), "%s/weft-worker", dir);
	if (!m->o->worker_bin && access (path, X_OK) == 0)
		snprintf (m->worker_bin, sizeof (m->worker_bin), "%s", path);
	snprintf (path, sizeof (path), "%s/../lib/weft/bundle", dir);
	if (!realpath (path, m->bundle)) {
		snprintf (path, sizeof (path), "%s/../bundle", dir);
		if (!realpath (path, m->bundle))
			m->bundle[0] = '\0';
	}
}

static void complete_containers (struct options *o, struct manager *m)
{
	struct node_options *c = &o->containers;

	c->endpoint_id = o->endpoint_id;
	if (!c->bundle && m->bundle[0])
		c->bundle = m->bundle;
	if (!c->max)
		c->max = o->workers;
	if (!c->warm_ms)
		c->warm_ms = 300000;
	if (!c->start_ms)
		c->start_ms = 60000;
	if (!c->pull_ms)
		c->pull_ms = 600000;
	if (!c->recheck_ms)
		c->recheck_ms = 1000;
	setenv ("USER", "weft", 0);	/* ch-run does not start without */
}

/* Those that we may use: a batch system gives a job some of a node's. */
static int64_t processors (void)
{
	cpu_set_t set;

	if (sched_getaffinity (0, sizeof (set), &set) == 0 && CPU_COUNT (&set) > 0)
		return CPU_COUNT (&set);
	return sysconf (_SC_NPROCESSORS_ONLN) > 0 ? sysconf (_SC_NPROCESSORS_ONLN) : 1;
}

static int complete_options (struct options *o, struct manager *m, struct err *err)
{
	struct id id;

	if (!o->connect)
		return err_set (err, ERR_INVALID, FAULT_USER, "--connect is needed; see --help");
	if (o->endpoint_id && id_parse (&id, o->endpoint_id, strlen (o->endpoint_id)) < 0)
		return err_set (err, ERR_INVALID, FAULT_USER, "--endpoint-id: '%s' is not a UUID", o->endpoint_id);
	if (o->retries_on_kill && (!*o->retries_on_kill || o->retries_on_kill[strspn (o->retries_on_kill, "0123456789")]))
		return err_set (err, ERR_INVALID, FAULT_USER, "--retries-on-kill: expected a number, got '%s'", o->retries_on_kill);
	if (o->node)
		snprintf (m->node, sizeof (m->node), "%s", o->node);
	else if (gethostname (m->node, sizeof (m->node) - 1) < 0)
		return err_errno (err, "reading the host's name");
	if (!o->workers)
		o->workers = processors ();
	if (!o->retries_on_loss)
		o->retries_on_loss = 5;
	if (o->no_retry)
		o->retries_on_loss = 0;
	if (!o->orphan_timeout)
		o->orphan_timeout = 30000;
	find_worker (m);
	complete_containers (o, m);
	if (node_init (&m->offer, &o->containers, err) < 0)
		return -1;
	m->offer.program = m->program;
	return 0;
}

static int identify (const char *path)
{
	char digest[IDENTITY_MAX];
	struct err err;

	if (identity_of_path (path, digest, &err) < 0) {
		fprintf (stderr, "weft-manager: %s\n", err.text);
		return 1;
	}
	puts (digest);
	return 0;
}

static int make_bundle (const char *dir)
{
	struct err err;

	umask (022);
	if (bundle_make (dir, &err) < 0) {
		fprintf (stderr, "weft-manager: %s\n", err.text);
		return 1;
	}
	return 0;
}

static int run (void *opts, int argc, char **argv)
{
	struct options *o = opts;
	struct manager m = { .o = o };
	enum log_level level = LOG_INFO;
	struct err err;

	(void) argc;
	(void) argv;
	if (o->identify)
		return identify (o->identify);
	if (o->make_bundle)
		return make_bundle (o->make_bundle);
	if (o->parent_pid)
		spawn_tie_to_parent ((pid_t) o->parent_pid);
	if (o->log_level && log_level_parse (o->log_level, &level) < 0) {
		fprintf (stderr, "weft-manager: --log-level: expected debug, info, warn or error, got '%s'\n", o->log_level);
		return 2;
	}
	log_open ("weft-manager", NULL, level, NULL);
	signal (SIGPIPE, SIG_IGN);
	umask (077);
	if (complete_options (o, &m, &err) < 0) {
		fprintf (stderr, "weft-manager: %s\n", err.text);
		return 2;
	}
	if (prepare (&m, &err) < 0) {
		log_err (LOG_ERROR, "main", "cannot start", &err);
		m.status = 1;
	} else {
		spawn_spare (m.offer.n ? HOLDERS : NULL);
		log_info ("main", "started", "endpoint=%s block=%s node=%s workers=%d", o->endpoint_id, o->block, m.node, (int) o->workers);
		loop_run (m.loop);
	}
	tear_down (&m);
	return m.status;
}

#define OPT(name, type, field, arg, min, max, help) { name, 0, type, offsetof (struct options, field), arg, min, max, help }
static const struct cli_opt options[] = {
	OPT ("connect", CLI_STRING, connect, "URI,...", 0, 0, "where the agent listens; of several the first that answers is taken (needed)"),
	OPT ("endpoint-id", CLI_STRING, endpoint_id, "UUID", 0, 0, "the endpoint that this node belongs to"),
	OPT ("block", CLI_STRING, block, "ID", 0, 0, "the block (scheduler's job) that this node belongs to"),
	OPT ("node", CLI_STRING, node, "NAME", 0, 0, "name of this node (default: the host's)"),
	OPT ("workers", CLI_INT, workers, "N", 1, 4096, "workers to run (default: one for each processor that this process may use)"),
	OPT ("dir", CLI_STRING, dir, "DIR", 0, 0, "directory for socket and work directories (default: one under TMPDIR or /tmp, removed at the end)"),
	OPT ("parent-pid", CLI_INT, parent_pid, "PID", 0, INT_MAX, "end when this process, our parent, does"),
	OPT ("server-key", CLI_STRING, server_key, "Z85", 0, 0, "the agent's CURVE public key"),
	OPT ("key-file", CLI_STRING, key_file, "FILE", 0, 0, "file with our CURVE secret key"),
	OPT ("key-env", CLI_STRING, key_env, "NAME", 0, 0, "environment variable with our CURVE secret key instead, wiped once it is read"),
	OPT ("worker-bin", CLI_STRING, worker_bin, "PATH", 0, 0, "the worker's program (default: weft-worker beside this one)"),
	OPT ("python", CLI_STRING, python, "PATH", 0, 0, "interpreter of the workers, or several: 3.11=PATH,3.9=PATH (default: python3)"),
	OPT ("time-left-s", CLI_INT, time_left_s, "N", 0, 1 << 30, "seconds until this node is taken away (0, the default: unlimited)"),
	OPT ("retries-on-kill", CLI_STRING, retries_on_kill, "N", 0, 0, "passed on to the workers"),
	OPT ("retries-on-loss", CLI_INT, retries_on_loss, "N", 1, 100, "how often a task is run again whose worker was lost (default: 5)"),
	OPT ("no-retry", CLI_FLAG, no_retry, NULL, 0, 0, "do not run a task again whose worker was lost"),
	OPT ("heartbeat-ms", CLI_INT, heartbeat_ms, "N", 10, 3600000, "pause between heartbeats (default: 2000)"),
	OPT ("threshold-ms", CLI_INT, threshold_ms, "N", 50, 3600000, "silence that ends a session (default: 10000)"),
	OPT ("orphan-timeout", CLI_DURATION_MS, orphan_timeout, "TIME", 100, 86400000, "end after so long without the agent (default: 30s)"),
	OPT ("containers", CLI_STRING, containers.runtimes, "LIST", 0, 0, "container runtimes that functions may use: " RUNTIME_NAMES),
	OPT ("container-images", CLI_STRING, containers.images, "LIST", 0, 0, "patterns of the only images that may run (default: any)"),
	OPT ("container-network", CLI_STRING, containers.network, "NAME", 0, 0,
	     "network for functions that ask for one, as bridge or host (default: none may have it)"),
	OPT ("container-no-pull", CLI_FLAG, containers.no_pull, NULL, 0, 0, "only images that are on the node"),
	OPT ("max-containers", CLI_INT, containers.max, "N", 1, 4096, "containers at once, warm ones included (default: as many as workers)"),
	OPT ("container-cpus", CLI_INT, containers.cpu_millis, "MILLI", 0, 4096000, "thousandths of a CPU of a container (0, the default: no limit)"),
	OPT ("container-pids", CLI_INT, containers.pids, "N", 0, 65536, "processes and threads of a container (0, the default: no limit)"),
	OPT ("container-memory", CLI_SIZE, containers.memory_bytes, "SIZE", 0, INT64_MAX,
	     "memory of a container whose function does not say (default: no limit)"),
	OPT ("container-max-memory", CLI_SIZE, containers.max_memory_bytes, "SIZE", 0, INT64_MAX, "most that a function may ask for (default: no bound)"),
	OPT ("container-warm", CLI_DURATION_MS, containers.warm_ms, "TIME", 1, 604800000, "an idle container is kept so long (default: 5m)"),
	OPT ("container-start", CLI_DURATION_MS, containers.start_ms, "TIME", 100, 3600000, "a container must be up after so long (default: 60s)"),
	OPT ("container-pull", CLI_DURATION_MS, containers.pull_ms, "TIME", 100, 86400000, "an image must have come after so long (default: 10m)"),
	OPT ("container-recheck", CLI_DURATION_MS, containers.recheck_ms, "TIME", 1, 86400000,
	     "which image a reference leads to is looked up anew after so long (default: 1s)"),
	OPT ("identify", CLI_STRING, identify, "PATH", 0, 0, "print what identifies this image, a file or a directory, and end"),
	OPT ("make-bundle", CLI_STRING, make_bundle, "DIR", 0, 0,
	     "put this program and its worker there, with their libraries and their loader, so that they start in any image, and end"),
	OPT ("bundle", CLI_STRING, containers.bundle, "DIR", 0, 0, "the worker's bundle for containers (default: as installed or built)"),
	OPT ("bulk-dir", CLI_STRING, bulk_dir, "DIR", 0, 0, "the bulk store of this host, if it has one; passed on to the workers"),
	OPT ("files-cache", CLI_SIZE, files_cache, "SIZE", 0, INT64_MAX, "bring files that tasks want, and keep so much of them (0, the default: none)"),
	OPT ("files-dir", CLI_STRING, files_dir, "DIR", 0, 0, "where they are kept (default: weft-files-UID under TMPDIR or /tmp)"),
	OPT ("files-max", CLI_SIZE, files_max, "SIZE", 1, INT64_MAX, "the largest one (default: all of it)"),
	OPT ("files-timeout", CLI_DURATION_MS, files_timeout, "TIME", 1, 604800000, "bringing one may take so long (default: 30m)"),
	OPT ("files-parallel", CLI_INT, files_parallel, "N", 1, 32, "brought at once (default: 4)"),
	OPT ("files-https-only", CLI_FLAG, files_https_only, NULL, 0, 0, "no http:// URLs"),
	OPT ("files-ca", CLI_STRING, files_ca, "FILE", 0, 0, "certificates that sign those of the servers (default: the system's)"),
	OPT ("files-from", CLI_STRINGS, files_from, "DIR", 0, 0, "file:// URLs may name what is below"),
	OPT ("files-output", CLI_STRING, files_output, "DIR", 0, 0, "where tasks may leave files that they make (default: they may not)"),
	OPT ("files-output-max", CLI_SIZE, files_output_max, "SIZE", 1, INT64_MAX, "those of a task together (default: no bound)"),
	OPT ("files-output-total", CLI_SIZE, files_output_total, "SIZE", 0, INT64_MAX, "all of them together (0, the default: no bound)"),
	OPT ("files-output-free", CLI_SIZE, files_output_free, "SIZE", 0, INT64_MAX, "none is left when less than this would be free there (default: 0)"),
	OPT ("log-level", CLI_STRING, log_level, "LEVEL", 0, 0, "debug, info, warn or error (default: info)"),
	CLI_END,
};

static const struct cli_cmd cmds[] = {
	{ "", "[OPTIONS]", "Start and feed the workers of one node.\nStarted by weft-endpoint, or by the block script on a cluster's node.",
	  options, sizeof (struct options), 0, 0, run },
	{ .name = NULL },
};

int main (int argc, char **argv)
{
	static const struct cli_prog prog = {
		.name = "weft-manager", .help = "Runs on each node of an endpoint: starts workers, hands them tasks, hands on their results.",
		.cmds = cmds,
		NULL,
	};
	return cli_main (&prog, argc, argv);
}
