/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fabric.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "client/files.h"
#include "common/clock.h"
#include "common/conf.h"
#include "common/fetch.h"
#include "common/spawn.h"
#include "common/xmem.h"

#define POLL_MS 25
#define READY_MS 30000		/* for one part to become ready */
#define STATE_MAX 80		/* Unix socket paths end at 107 characters */
#define ENDPOINT "local"
#define HEALTHY_MS 10000
#define MAX_ARGS 64

enum part_id { PART_REDIS, PART_SERVICE, PART_FORWARDER, PART_ENDPOINT, PARTS };

struct part {
	struct fabric *f;
	enum part_id id;
	const char *name, *ready_text;
	struct spawn *proc;
	bool was_ready;
	unsigned failures;
	int64_t started_ms;
	struct loop_timer *again;
};

struct fabric {
	struct loop *l;
	struct fabric_opts o;
	char *state, *bin, *url, *redis_url, *home, *token;
	char endpoint[40];
	int lock;
	struct part parts[PARTS];
	int at;				/* the part that is being waited for; PARTS = all are ready */
	int64_t deadline_ms;
	struct loop_timer *poll;
	bool stopping, told;
	int stop_at;			/* the part that is being stopped */
};

/* ---- files -------------------------------------------------------------------------------------------------------------- */

static int sub_dir (const char *dir, const char *name, struct err *err)
{
	char *path = xasprintf ("%s/%s", dir, name);
	int rc = mkdir (path, 0700) < 0 && errno != EEXIST ? err_errno (err, "making %s", path) : 0;
	free (path);
	return rc;
}

/* The port of the last run, so that what people have exported stays right; 0 when there was none. */
static int last_port (const char *state)
{
	char *path = xasprintf ("%s/env", state), *text = conf_read_secret (path, 16384, NULL);
	const char *at = text ? strstr (text, "WEFT_URL=http://127.0.0.1:") : NULL;
	int port = at ? atoi (at + strlen ("WEFT_URL=http://127.0.0.1:")) : 0;
	free (path);
	free (text);
	return port > 0 && port < 65536 ? port : 0;
}

/* Does anybody listen there? What else hinders the service it says itself. */
static bool port_taken (int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons ((uint16_t)port), .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
	int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	bool taken = fd >= 0 && setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof (one)) == 0 &&
		     bind (fd, (struct sockaddr *)&a, sizeof (a)) < 0 && errno == EADDRINUSE;
	if (fd >= 0)
		close (fd);
	return taken;
}

/* wanted, when it is free, else any. */
static int free_port (int wanted, struct err *err)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons ((uint16_t)wanted), .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
	socklen_t n = sizeof (a);
	int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = -1, one = 1;
	if (fd >= 0 && wanted && (setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof (one)) < 0 || bind (fd, (struct sockaddr *)&a, n) < 0)) {
		close (fd);
		return free_port (0, err);
	}
	if (wanted && fd >= 0) {
		close (fd);
		return wanted;
	}
	if (fd < 0 || bind (fd, (struct sockaddr *)&a, n) < 0 || getsockname (fd, (struct sockaddr *)&a, &n) < 0)
		err_errno (err, "looking for a free port");
	else
		port = ntohs (a.sin_port);
	if (fd >= 0)
		close (fd);
	return port;
}

static int write_configs (struct fabric *f, int64_t port, struct err *err)
{
	char *redis = xasprintf ("port 0\nunixsocket %s/redis.sock\nunixsocketperm 600\ndir %s/redis\nsave \"\"\nappendonly yes\n"
				 "appendfsync everysec\nmaxmemory-policy noeviction\nhash-max-listpack-value 1024\nstream-node-max-bytes 16384\n"
				 /* Payloads pass through: a rewrite copies what lives now, so it pays only after much has gone by, and compressing
				  * what is deleted a moment later costs more than the disk that it saves. */
				 "rdbcompression no\nauto-aof-rewrite-percentage 100\nauto-aof-rewrite-min-size 512mb\n"
				 "daemonize no\nloglevel notice\n", f->state, f->state);
	char *service = xasprintf ("listen: 127.0.0.1:%" PRId64 "\nworkers: %" PRId64 "\nredis:\n  url: %s\nregistry:\n  path: %s/registry.db\n"
				   "auth:\n  token_file: %s/token\nbulk:\n  dir: %s/bulk\namqp:\n  listen: 127.0.0.1:0\n",
				   port, f->o.service_processes, f->redis_url, f->state, f->state, f->state);
	char *forwarder = xasprintf ("redis:\n  url: %s\nbulk:\n  dir: %s/bulk\n", f->redis_url, f->state);
	int rc = files_write (f->state, "redis.conf", redis, err) < 0 || files_write (f->state, "service.yaml", service, err) < 0 ||
		 files_write (f->state, "forwarder.yaml", forwarder, err) < 0 ? -1 : 0;
	free (redis);
	free (service);
	free (forwarder);
	return rc;
}

/* ---- children ------------------------------------------------------------------------------------------------------------- */

static void start_part (struct part *p);

static void tell (struct fabric *f, const char *line)
{
	if (!f->o.progress)
		return;
	fprintf (f->o.progress, "%s\n", line);
	fflush (f->o.progress);
}

static void finish (struct fabric *f, const char *why)
{
	if (f->told)
		return;
	f->told = true;
	f->o.on_ready (why, f->o.arg);
}

static char *log_path (const struct part *p)
{
	return xasprintf ("%s/log/%s.log", p->f->state, p->name);
}

/* The last line of a part's log, for the sentence that says why it did not start. */
static void log_tail (const struct part *p, char out[256])
{
	char *path = log_path (p), text[2048];
	FILE *f = fopen (path, "re");
	size_t n = 0;
	if (f) {
		if (fseek (f, -(long)(sizeof (text) - 1), SEEK_END) < 0)
			rewind (f);
		n = fread (text, 1, sizeof (text) - 1, f);
		fclose (f);
	}
	free (path);
	while (n && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	char *line = strrchr (text, '\n');
	snprintf (out, 256, "%.255s", line ? line + 1 : text);
}

static void stop_next (struct fabric *f)
{
	while (f->stop_at >= 0 && !f->parts[f->stop_at].proc)
		f->stop_at--;
	if (f->stop_at < 0) {
		loop_stop (f->l);
		return;
	}
	spawn_stop (f->parts[f->stop_at].proc, 15000);
}

static void on_exit_part (struct spawn *s, pid_t pid, int status, const struct rusage *ru, void *arg)
{
	struct part *p = arg;
	struct fabric *f = p->f;
	char how[64], line[256], why[512];
	(void)s;
	(void)pid;
	(void)ru;
	p->proc = NULL;
	if (f->stopping) {
		stop_next (f);
		return;
	}
	if (!p->was_ready) { /* the first start must succeed: say why it did not */
		log_tail (p, line);
		snprintf (why, sizeof (why), "%s ended at its start (%s): %s", p->name, spawn_status_text (status, how), line);
		finish (f, why);
		return;
	}
	p->failures = clock_now_ms () - p->started_ms > HEALTHY_MS ? 0 : p->failures + 1;
	snprintf (why, sizeof (why), "%s ended (%s), starting it again", p->name, spawn_status_text (status, how));
	tell (f, why);
	/* the first restart at once: everything else waits for it */
	loop_timer_start (p->again, p->failures > 1 ? clock_backoff_ms (p->failures - 2, 100, 10000) : 1, false);
}

static int open_log (const struct part *p, struct err *err)
{
	char *path = log_path (p);
	int fd = open (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		err_errno (err, "%s", path);
	free (path);
	return fd;
}

static void on_again (void *arg)
{
	start_part (arg);
}

static void start_part (struct part *p)
{
	struct fabric *f = p->f;
	struct err err = { 0 };
	const char *argv[MAX_ARGS];
	char *program = NULL, *config = NULL, *tie = NULL, *url = NULL, *workers = NULL, *bulk = NULL, pid[16];
	int n = 0, log = open_log (p, &err);
	struct spawn_fd fds[2] = { { log, 1 }, { log, 2 } };
	struct spawn_opts o = { .argv = argv, .fds = fds, .nfds = 2, .cwd = f->state, .new_session = true };
	if (f->stopping)
		goto out;
	/* our own binary ties itself to us and becomes the part: none of them outlives us, not even redis-server */
	snprintf (pid, sizeof (pid), "%d", (int)getpid ());
	argv[n++] = tie = xasprintf ("%s/weft", f->bin);
	argv[n++] = "__tie";
	argv[n++] = pid;
	switch (p->id) {
	case PART_REDIS:
		argv[n++] = "redis-server";
		argv[n++] = config = xasprintf ("%s/redis.conf", f->state);
		break;
	case PART_SERVICE:
	case PART_FORWARDER:
		argv[n++] = program = xasprintf ("%s/weft-%s", f->bin, p->name);
		argv[n++] = p->id == PART_SERVICE ? "run" : "supervise";
		argv[n++] = "--config";
		argv[n++] = config = xasprintf ("%s/%s.yaml", f->state, p->name);
		for (const char *const *kv = p->id == PART_SERVICE ? f->o.service_set : NULL; kv && *kv && n < MAX_ARGS - 4; kv++) {
			argv[n++] = "--set";
			argv[n++] = *kv;
		}
		break;
	default:
		argv[n++] = program = xasprintf ("%s/weft-endpoint", f->bin);
		argv[n++] = "start";
		argv[n++] = ENDPOINT;
		argv[n++] = "--foreground";
		argv[n++] = "--set";
		argv[n++] = url = xasprintf ("service.url=%s", f->url);
		argv[n++] = "--set";
		argv[n++] = workers = xasprintf ("workers_per_node=%" PRId64, f->o.workers);
		argv[n++] = "--set";
		argv[n++] = bulk = xasprintf ("bulk.dir=%s/bulk", f->state);
		argv[n++] = "--set";
		argv[n++] = "scaling.min_blocks=1"; /* this machine is here to serve: its one block stays */
		for (const char *const *kv = f->o.endpoint_set; kv && *kv && n < MAX_ARGS - 4; kv++) {
			argv[n++] = "--set";
			argv[n++] = *kv;
		}
	}
	argv[n] = NULL;
	p->started_ms = clock_now_ms ();
	if (log >= 0 && (p->proc = spawn_start (f->l, &o, on_exit_part, p, &err)))
		goto out;
	if (p->was_ready)
		loop_timer_start (p->again, clock_backoff_ms (++p->failures, 100, 10000), false);
	else
		finish (f, err.text);
out:
	if (log >= 0)
		close (log);
	free (program);
	free (config);
	free (tie);
	free (url);
	free (workers);
	free (bulk);
}

/* ---- readiness -------------------------------------------------------------------------------------------------------------- */

static bool redis_ready (struct fabric *f)
{
	struct timeval limit = { 0, 200000 };
	char *path = xasprintf ("%s/redis.sock", f->state);
	redisContext *c = redisConnectUnixWithTimeout (path, limit);
	redisReply *r = c && !c->err ? redisCommand (c, "PING") : NULL;
	bool ok = r && r->type == REDIS_REPLY_STATUS;
	if (r && r->type == REDIS_REPLY_ERROR && !strncmp (r->str, "LOADING", 7)) /* much was queued: it comes along */
		f->deadline_ms = clock_now_ms () + READY_MS;
	freeReplyObject (r);
	if (c)
		redisFree (c);
	free (path);
	return ok;
}

static bool get_ok (struct fabric *f, const char *path, const char *bearer, char **body)
{
	char *url = xasprintf ("%s%s", f->url, path), *text = NULL;
	struct fetch_args a = { .method = "GET", .url = url, .bearer = bearer, .timeout_ms = 1000 };
	size_t n;
	int status = fetch_sync (&a, NULL, &text, &n, NULL);
	free (url);
	if (body)
		*body = text;
	else
		free (text);
	return status == 200;
}

static bool endpoint_ready (struct fabric *f)
{
	char *path = xasprintf ("%s/endpoints/" ENDPOINT "/endpoint.json", f->home), *url, *text = NULL;
	json_t *j = json_load_file (path, 0, NULL), *s;
	const char *id = json_string_value (json_object_get (j, "endpoint_id"));
	bool ok = false;
	free (path);
	if (!id)
		id = json_string_value (json_object_get (j, "id"));
	if (id && f->token) {
		snprintf (f->endpoint, sizeof (f->endpoint), "%s", id);
		url = xasprintf ("/v2/endpoints/%s/status", id);
		if (get_ok (f, url, f->token, &text) && (s = json_loads (text, 0, NULL))) {
			const char *status = json_string_value (json_object_get (s, "status"));
			json_int_t workers = json_integer_value (json_object_get (json_object_get (s, "details"), "total_workers"));
			ok = status && !strcmp (status, "online") && workers > 0;
			json_decref (s);
		}
		free (text);
		free (url);
	}
	json_decref (j);
	return ok;
}

/* Ours, that is: another fabric's service, which has the port already, does not know our token. */
static bool service_ready (struct fabric *f)
{
	char *path;
	if (!get_ok (f, "/readyz", NULL, NULL))
		return false;
	path = xasprintf ("%s/token", f->state);
	free (f->token);
	f->token = conf_read_secret (path, 4096, NULL);
	free (path);
	return f->token && get_ok (f, "/v3/whoami", f->token, NULL);
}

static bool part_ready (struct part *p)
{
	struct fabric *f = p->f;
	switch (p->id) {
	case PART_REDIS: return redis_ready (f);
	case PART_SERVICE: return service_ready (f);
	case PART_FORWARDER: return p->proc != NULL; /* it shows with the endpoint */
	default: return endpoint_ready (f);
	}
}

static void begin (struct fabric *f);

static void on_configured (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct fabric *f = arg;
	char why[512];
	(void)out;
	(void)nout;
	if (status == 0) {
		begin (f);
		return;
	}
	snprintf (why, sizeof (why), "weft-endpoint configure: %.*s", (int)(nerr ? nerr : strlen (err ? err->text : "failed")),
		  nerr ? errout : err ? err->text : "failed");
	finish (f, why);
}

/* The endpoint's directory: made once, by weft-endpoint itself, so that its format has one home. What can change from start to start
 * (our port, the number of workers) is overridden at each start. */
static int configure_endpoint (struct fabric *f, struct err *err)
{
	char *config = xasprintf ("%s/endpoints/" ENDPOINT "/config.yaml", f->home), *program = xasprintf ("%s/weft-endpoint", f->bin);
	char *token = xasprintf ("%s/token", f->state);
	const char *argv[] = { program, "configure", "--token-file", token, ENDPOINT, NULL };
	int rc = 0;
	loop_timer_stop (f->poll);
	if (access (config, F_OK) == 0)
		begin (f);
	else
		rc = spawn_capture (f->l, argv, NULL, READY_MS, 65536, on_configured, f, err);
	free (config);
	free (program);
	free (token);
	return rc;
}

static int write_env (struct fabric *f, struct err *err)
{
	char *text = xasprintf ("WEFT_URL=%s\nWEFT_TOKEN=%s\nWEFT_ENDPOINT=%s\n", f->url, f->token, f->endpoint);
	int rc = files_write (f->state, "env", text, err);
	free (text);
	return rc;
}

static void on_poll (void *arg)
{
	struct fabric *f = arg;
	struct part *p = &f->parts[f->at];
	struct err err = { 0 };
	char why[512], line[256];
	if (f->stopping || f->told)
		return;
	if (!part_ready (p)) {
		if (clock_now_ms () < f->deadline_ms)
			return;
		log_tail (p, line);
		snprintf (why, sizeof (why), "%s is not ready after %d s; its log %s/log/%s.log ends with: %s", p->name, READY_MS / 1000,
			  f->state, p->name, line);
		finish (f, why);
		return;
	}
	p->was_ready = true;
	tell (f, p->ready_text);
	f->at++;
	if (f->at == PART_ENDPOINT) {
		if (configure_endpoint (f, &err) < 0)
			finish (f, err.text);
		return;
	}
	if (f->at < PARTS) {
		begin (f);
		return;
	}
	loop_timer_stop (f->poll);
	finish (f, write_env (f, &err) < 0 ? err.text : NULL);
}

static void begin (struct fabric *f)
{
	f->deadline_ms = clock_now_ms () + READY_MS;
	start_part (&f->parts[f->at]);
	loop_timer_start (f->poll, POLL_MS, true);
}

/* ---- life ---------------------------------------------------------------------------------------------------------------------- */

static int take_lock (struct fabric *f, struct err *err)
{
	char *path = xasprintf ("%s/up.pid", f->state), pid[16];
	int rc = 0;
	f->lock = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (f->lock < 0)
		rc = err_errno (err, "%s", path);
	else if (flock (f->lock, LOCK_EX | LOCK_NB) < 0)
		rc = err_set (err, ERR_CONFLICT, FAULT_USER, "a fabric is running in %s already; stop it with: weft down --state %s", f->state,
			      f->state);
	else if (ftruncate (f->lock, 0) < 0 ||
		 write (f->lock, pid, (size_t)snprintf (pid, sizeof (pid), "%d\n", (int)getpid ())) < 0)
		rc = err_errno (err, "%s", path);
	free (path);
	return rc;
}

static char *own_directory (struct err *err)
{
	char path[4096];
	ssize_t n = readlink ("/proc/self/exe", path, sizeof (path) - 1);
	if (n < 0) {
		err_errno (err, "finding this program");
		return NULL;
	}
	path[n] = '\0';
	*strrchr (path, '/') = '\0';
	return xstrdup (path);
}

struct fabric *fabric_create (struct loop *l, const struct fabric_opts *o, struct err *err)
{
	static const struct { const char *name, *ready; } about[PARTS] = {
		{ "redis", "redis is up" }, { "service", "service is up" }, { "forwarder", "forwarder is up" },
		{ "endpoint", "endpoint is connected" },
	};
	struct fabric *f = xcalloc (1, sizeof (*f));
	int64_t port = o->port;
	f->l = l;
	f->o = *o;
	f->lock = -1;
	f->state = xstrdup (o->state);
	f->poll = loop_timer_create (l, on_poll, f);
	for (int i = 0; i < PARTS; i++) {
		f->parts[i] = (struct part){ .f = f, .id = (enum part_id)i, .name = about[i].name, .ready_text = about[i].ready };
		f->parts[i].again = loop_timer_create (l, on_again, &f->parts[i]);
	}
	if (strlen (f->state) > STATE_MAX) {
		err_set (err, ERR_INVALID, FAULT_USER, "the state directory's path has %zu characters, sockets in it allow %d: choose a shorter "
			 "--state", strlen (f->state), STATE_MAX);
		goto fail;
	}
	if (files_make_dirs (f->state, err) < 0 || sub_dir (f->state, "redis", err) < 0 || sub_dir (f->state, "log", err) < 0 ||
	    take_lock (f, err) < 0 || !(f->bin = own_directory (err)))
		goto fail;
	if (!port && (port = free_port (last_port (f->state), err)) < 0)
		goto fail;
	if (o->port && port_taken ((int)port)) {
		err_set (err, ERR_CONFLICT, FAULT_USER, "port %" PRId64 " is in use by another program: choose one with --port N, or let any free one be "
			 "taken with --port 0", port);
		goto fail;
	}
	f->url = xasprintf ("http://127.0.0.1:%" PRId64, port);
	f->redis_url = xasprintf ("unix://%s/redis.sock", f->state);
	f->home = xstrdup (f->state);
	setenv ("WEFT_HOME", f->home, 1); /* for weft-endpoint: its endpoints live in our state directory */
	unsetenv ("WEFT_URL");
	unsetenv ("WEFT_TOKEN");
	if (write_configs (f, port, err) < 0)
		goto fail;
	begin (f);
	return f;
fail:
	fabric_destroy (&f);
	return NULL;
}

pid_t fabric_holder (const char *state, int *fd)
{
	char *path = xasprintf ("%s/up.pid", state), text[16] = "";
	pid_t pid = -1;
	*fd = open (path, O_RDWR | O_CLOEXEC);
	free (path);
	if (*fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (flock (*fd, LOCK_EX | LOCK_NB) == 0)
		pid = 0;
	else if (read (*fd, text, sizeof (text) - 1) > 0 && atoi (text) > 1)
		return (pid_t)atoi (text);
	close (*fd);
	return pid;
}

bool fabric_absent (const char *state, struct err *err)
{
	int fd;
	pid_t pid = fabric_holder (state, &fd);
	if (pid > 0)
		close (fd);
	if (pid == 0)
		err_set (err, ERR_UNAVAILABLE, FAULT_USER, "no fabric is running in %s: run weft up --detach --state %s", state, state);
	return pid == 0;
}

void fabric_stop (struct fabric *f)
{
	if (f->stopping)
		return;
	f->stopping = true;
	loop_timer_stop (f->poll);
	f->stop_at = PARTS - 1;
	stop_next (f);
}

void fabric_destroy (struct fabric **fp)
{
	struct fabric *f = *fp;
	if (!f)
		return;
	for (int i = 0; i < PARTS; i++)
		loop_timer_destroy (&f->parts[i].again);
	loop_timer_destroy (&f->poll);
	if (f->lock >= 0) {
		char *path = xasprintf ("%s/up.pid", f->state), *sock = xasprintf ("%s/redis.sock", f->state);
		if (f->stopping) {
			unlink (path);
			unlink (sock);
		}
		free (path);
		free (sock);
		close (f->lock);
	}
	free (f->state);
	free (f->bin);
	free (f->url);
	free (f->redis_url);
	free (f->home);
	free (f->token);
	free (f);
	*fp = NULL;
}

const char *fabric_url (const struct fabric *f)
{
	return f->url;
}

const char *fabric_endpoint (const struct fabric *f)
{
	return f->endpoint;
}

const char *fabric_program (const struct fabric *f, int i, pid_t *pid)
{
	if (i < 0 || i >= PARTS)
		return NULL;
	*pid = f->parts[i].proc ? spawn_pid (f->parts[i].proc) : 0;
	return f->parts[i].name;
}
