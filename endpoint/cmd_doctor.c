/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: what an endpoint needs, checked one by one; each line says ok, warn or fail, and what to do. */
#include "common/clock.h"
#include "common/fetch.h"
#include "common/loop.h"
#include "common/spawn.h"
#include "common/tally.h"
#include "common/xmem.h"
#include "endpoint/addresses.h"
#include "endpoint/cmd.h"
#include "endpoint/containers.h"
#include "endpoint/control.h"
#include "endpoint/files.h"
#include "endpoint/mpi.h"
#include "endpoint/interpreters.h"
#include "endpoint/keys.h"
#include "endpoint/service.h"
#include "proto/bulk.h"
#include "proto/msg_files.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { OK, WARN, FAIL, CALL_MS = 5000, TOOL_MS = 15000, SKEW_WARN_S = 5, FILES_MIN = 1024 };
#define SPACE_WARN (256ull << 20)

struct doctor {
	const struct paths *p;
	struct config *c;
	struct identity who;
	char *base;
	int fails, warns;
	bool json;
	json_t *list;
};

static void say (struct doctor *d, int level, const char *what, const char *fmt, ...) __attribute__ ((format (printf, 4, 5)));

static void say (struct doctor *d, int level, const char *what, const char *fmt, ...)
{
	static const char *const name[] = { "ok", "warn", "fail" };
	char text[1024];
	va_list ap;

	va_start (ap, fmt);
	vsnprintf (text, sizeof (text), fmt, ap);
	va_end (ap);
	d->fails += level == FAIL;
	d->warns += level == WARN;
	if (d->json)
		json_array_append_new (d->list, json_pack ("{s:s, s:s, s:s}", "check", what, "level", name[level], "text", text));
	else
		printf ("%-4s  %-12s %s\n", name[level], what, text);
	fflush (stdout);
}

static void check_modes (struct doctor *d)
{
	const char *const dirs[] = { d->p->dir, d->p->run, d->p->logs, d->p->spool, d->p->memo };
	struct stat st;
	struct keys k;
	struct err err;
	bool bad = false;

	for (size_t i = 0; i < sizeof (dirs) / sizeof (dirs[0]); i++) {
		if (stat (dirs[i], &st) < 0)
			continue;	/* start makes what is missing */
		if ((st.st_mode & 077) || st.st_uid != geteuid ()) {
			say (d, FAIL, "directory", "%s can be entered by others: chmod 700 %s", dirs[i], dirs[i]);
			bad = true;
		}
	}
	if (!bad)
		say (d, OK, "directory", "%s", d->p->dir);
	if (keys_read (&k, d->p->key, &err) < 0)
		say (d, FAIL, "key", "%s", err.text);
	else
		say (d, OK, "key", "%s", k.public_key);
	explicit_bzero (&k, sizeof (k));
}

static bool check_config (struct doctor *d)
{
	struct buf report;
	struct err err;

	buf_init (&report, 1 << 16);
	d->c = config_load (d->p->config, NULL, &report, &err);
	if (d->c)
		say (d, OK, "config", "%s", d->p->config);
	else
		say (d, FAIL, "config", "%.900s", report.len ? (char *) report.data : err.text);
	buf_fini (&report);
	return d->c != NULL;
}

static char *check_token (struct doctor *d)
{
	struct err err;
	char *token = config_token (d->c, &err);

	if (token)
		say (d, OK, "token", "from %s", d->c->service_token_file && *d->c->service_token_file ? d->c->service_token_file
													  : "WEFT_TOKEN");
	else if (err.code != ERR_NONE)
		say (d, FAIL, "token", "%s", err.text);
	else
		say (d, WARN, "token", "none: set service.token_file in %s, or WEFT_TOKEN", d->p->config);
	return token;
}

/* The service's clock, from its Date header. A call of its own: fetch gives bodies only. */
static int64_t service_time (const char *url, const char *ca_file)
{
	CURL *h = curl_easy_init ();
	struct curl_header *date;
	int64_t t = -1;

	if (!h)
		return -1;
	curl_easy_setopt (h, CURLOPT_URL, url);
	curl_easy_setopt (h, CURLOPT_NOBODY, 1L);
	curl_easy_setopt (h, CURLOPT_TIMEOUT_MS, (long) CALL_MS);
	curl_easy_setopt (h, CURLOPT_NOSIGNAL, 1L);
	if (ca_file && *ca_file)
		curl_easy_setopt (h, CURLOPT_CAINFO, ca_file);
	if (curl_easy_perform (h) == CURLE_OK && curl_easy_header (h, "Date", 0, CURLH_HEADER, -1, &date) == CURLHE_OK)
		t = (int64_t) curl_getdate (date->value, NULL);
	curl_easy_cleanup (h);
	return t;
}

/* The version is told to anybody: is the token good, and for what? */
static void check_account (struct doctor *d, const char *token)
{
	char *url = xasprintf ("%s/v3/whoami", d->base), *out = NULL;
	struct fetch_args a = { .method = "GET", .url = url, .bearer = token, .timeout_ms = CALL_MS };
	struct err cause = { 0 }, err;
	size_t n = 0;
	int status = fetch_sync (&a, d->c->service_ca_file, &out, &n, &cause);
	json_t *me = status == 200 ? json_loadb (out, n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const char *name = json_string_value (json_object_get (me, "name")), *scopes = json_string_value (json_object_get (me, "scopes"));

	if (status == 401 || status == 403) {
		service_error (status, out, n, d->base, &cause, &err);
		say (d, FAIL, "account", "%s; the service's operator makes another with 'weft-service token create'", err.text);
	} else if (name && scopes && !strstr (scopes, "register") && strcmp (scopes, "all"))
		say (d, FAIL, "account", "the token of %s has the scopes %s, and not register, which endpoints need", name, scopes);
	else if (name)
		say (d, OK, "account", "%s, with the scopes %s", name, scopes ? scopes : "?");
	json_decref (me);
	free (out);
	free (url);
}

static void check_service (struct doctor *d, const char *token)
{
	char *url = xasprintf ("%s/v2/version?service=all", d->base), *out = NULL, id[ID_TEXT];
	struct fetch_args a = { .method = "GET", .url = url, .bearer = token, .timeout_ms = CALL_MS };
	struct err cause = { 0 }, err;
	size_t n = 0;
	int status = fetch_sync (&a, d->c->service_ca_file, &out, &n, &cause);
	int64_t there;

	if (!status) {
		service_error (0, NULL, 0, d->base, &cause, &err);
		say (d, FAIL, "service", "%s; check service.url and that weft-service runs", err.text);
	} else if (status / 100 == 2) {
		say (d, OK, "service", "%s answers: %.*s", d->base, (int) (n < 120 ? n : 120), out);
		check_account (d, token);
	} else {
		service_error (status, out, n, d->base, NULL, &err);
		say (d, status == 401 ? FAIL : WARN, "service", "%s", err.text);
	}
	free (out);
	out = NULL;
	if (status && (there = service_time (url, d->c->service_ca_file)) >= 0) {
		int64_t skew = clock_real_ns () / 1000000000 - there;
		say (d, skew > SKEW_WARN_S || skew < -SKEW_WARN_S ? WARN : OK, "clock", "%+" PRId64 " s from the service's%s", skew,
		     skew > SKEW_WARN_S || skew < -SKEW_WARN_S ? "; times of tasks will be wrong: set up NTP" : "");
	}
	free (url);
	if (!status || !d->who.known)
		goto end;
	url = xasprintf ("%s/v3/endpoints/%s/forwarder", d->base, id_text (&d->who.id, id));
	a.url = url;
	status = fetch_sync (&a, d->c->service_ca_file, &out, &n, &cause);
	if (status / 100 == 2)
		say (d, OK, "registered", "%s", id);
	else if (service_error (status, out, n, d->base, &cause, &err))
		say (d, status == 401 || status == 403 ? FAIL : WARN, "registered", "%s", err.text);
	free (out);
	free (url);
end:
	if (!d->who.known)
		say (d, WARN, "registered", "not yet; 'weft-endpoint start %s' does it", d->p->name);
}

static int connect_tcp (const char *host, const char *port, int timeout_ms)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	int rc = getaddrinfo (host, port, &hints, &list);

	if (rc) {
		errno = EHOSTUNREACH;
		return -1;
	}
	rc = -1;
	for (struct addrinfo *a = list; a && rc < 0; a = a->ai_next) {
		int e = 0, fd = socket (a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		socklen_t n = sizeof (e);
		struct pollfd pf = { .fd = fd, .events = POLLOUT };
		if (fd < 0)
			continue;
		if (connect (fd, a->ai_addr, a->ai_addrlen) == 0)
			rc = 0;
		else if (errno == EINPROGRESS && poll (&pf, 1, timeout_ms) == 1 && getsockopt (fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && !e)
			rc = 0;
		else
			errno = e ? e : errno == EINPROGRESS ? ETIMEDOUT : errno;
		e = errno;
		close (fd);
		errno = e;
	}
	freeaddrinfo (list);
	return rc;
}

/* Where the agent tries first. */
static bool check_forwarder_here (struct doctor *d)
{
	struct bulk *b = d->who.known && d->c->bulk_dir && *d->c->bulk_dir ? bulk_open (d->c->bulk_dir, false, NULL) : NULL;
	char *address = b ? bulk_link (b, &d->who.id) : NULL;
	bool is = address && bulk_link_knock (address) == 0;

	if (is)
		say (d, OK, "forwarder", "%s can be reached", address);
	free (address);
	bulk_close (&b);
	return is;
}

static void check_forwarder (struct doctor *d)
{
	const char *set = d->c->forwarder_address;
	const char *address = set && *set ? set : d->who.address;
	bool here = !(set && *set) && check_forwarder_here (d);
	char host[256], *colon;

	if (strncmp (address, "tcp://", 6) != 0) {
		say (d, WARN, "forwarder", "its address is not known yet");
		return;
	}
	snprintf (host, sizeof (host), "%s", address + 6);
	if (!(colon = strrchr (host, ':'))) {
		say (d, FAIL, "forwarder", "%s has no port", address);
		return;
	}
	*colon = 0;
	if (connect_tcp (host[0] == '[' ? strtok (host, "[]") : host, colon + 1, CALL_MS) == 0)
		say (d, OK, "forwarder", "%s can be reached", address);
	else
		say (d, here ? WARN : FAIL, "forwarder", "%s: %s; %s", address, strerror (errno), addresses_unanswered (address, d->base));
}

struct answer { struct loop *loop; char *out; size_t cap; bool good; };

static void take_answer (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct answer *a = arg;

	a->good = status == 0;
	if (status == -1 && err)
		snprintf (a->out, a->cap, "%s", err->text);
	else
		snprintf (a->out, a->cap, "%.*s%.*s", (int) nout, out, (int) nerr, errout);
	loop_stop (a->loop);
}

/* What a command says, which may hang as its daemon does; NULL: it failed, out says why. */
static char *output_of (const char *const *argv, char *out, size_t cap)
{
	struct answer a = { .out = out, .cap = cap };
	struct err err;

	if (!(a.loop = loop_create (&err)) || spawn_capture (a.loop, argv, NULL, TOOL_MS, cap, take_answer, &a, &err) < 0)
		snprintf (out, cap, "%s", err.text);
	else
		loop_run (a.loop);
	loop_destroy (&a.loop);
	return a.good ? out : NULL;
}

static void check_interpreter (struct doctor *d, const struct python *p)
{
	const char *argv[4];
	struct interpreter_says says;
	char out[256] = "", wanted[8];

	interpreters_words (p->path, argv);
	if (!output_of (argv, out, sizeof (out)) || interpreters_said (out, &says) < 0)
		say (d, FAIL, "python", "%s does not run: install Python 3.6 or newer, or set 'python' in %s", p->path, d->p->config);
	else if (python_version (says.version) < 0x306)
		say (d, FAIL, "python", "%s is version %s; 3.6 or newer is needed", p->path, says.version);
	else if (p->version && python_version (says.version) != p->version)
		say (d, FAIL, "python", "%s is version %s, and 'python' in %s says that it is %s", p->path, says.version, d->p->config,
		     python_version_text (p->version, wanted));
	else if (strcmp (says.dill, "-") == 0)
		say (d, WARN, "python", "%s, version %s, has no dill, which functions of Globus Compute and the Python SDK need: %s -m pip install dill",
		     p->path, says.version, p->path);
	else
		say (d, OK, "python", "%s, version %s, dill %s", p->path, says.version, says.dill);
}

/* On this host: that of a cluster's nodes is seen only there. */
static void check_python (struct doctor *d)
{
	struct pythons p;
	struct err err;

	if (interpreters_read (d->c, &p, &err) < 0) {
		say (d, FAIL, "python", "%s", err.text);
		return;
	}
	for (size_t i = 0; i < p.n; i++)
		check_interpreter (d, &p.v[i]);
	pythons_fini (&p);
}

static void check_program (struct doctor *d, const char *set, const char *name)
{
	char *program = paths_program (set, name);

	if (paths_program_exists (program))
		say (d, OK, name, "%s", program);
	else
		say (d, FAIL, name, "%s is not there; it belongs beside weft-endpoint or on PATH", program);
	free (program);
}

static void ask_provider (const struct provider_block *b, void *arg)
{
	static const char *const levels[] = { "ok", "warn", "fail" };
	struct doctor *d = arg;
	const struct provider *p = config_provider (d->c);
	char *line, *save = NULL;
	struct buf out;

	buf_init (&out, 1 << 20);
	p->doctor (config_of_provider (d->c, p), b, &out);
	for (line = out.len ? strtok_r ((char *) out.data, "\n", &save) : NULL; line; line = strtok_r (NULL, "\n", &save)) {
		char *what = strchr (line, '|'), *text = what ? strchr (what + 1, '|') : NULL;
		int level = FAIL;
		if (!text)
			continue;
		*what++ = *text++ = 0;
		for (int i = OK; i <= FAIL; i++)
			if (strcmp (line, levels[i]) == 0)
				level = i;
		say (d, level, what, "%s", text);
	}
	buf_fini (&out);
}

static void check_containers (struct doctor *d)
{
	for (size_t i = 0; i < d->c->container_runtimes.n; i++) {
		const char *name = d->c->container_runtimes.v[i], *words[4];
		char out[1024] = "", *nl;

		if (!containers_version (name, words))
			continue;
		if (containers_of_paths (name) && !d->c->container_images.n)
			say (d, WARN, "containers.images", "with %s functions may name any file or directory of the node as their image, and read "
			     "all in it that this user can; name the images that are meant", name);
		if (output_of (words, out, sizeof (out))) {
			out[strcspn (out, "\n")] = 0;
			say (d, OK, name, "version %s", out);
			continue;
		}
		while ((nl = strrchr (out, '\n')) && !nl[1])
			*nl = 0;
		nl = strrchr (out, '\n');
		say (d, FAIL, name, "does not work here: %s; %s", nl ? nl + 1 : *out ? out : "not installed", containers_trouble (name));
	}
	if (d->c->container_runtimes.n && config_provider (d->c)->local == false)
		say (d, WARN, "containers", "looked at on this host; the nodes of provider %s need them too", config_provider (d->c)->name);
}

/* Without it all works, more slowly. */
static void check_bulk (struct doctor *d)
{
	const char *dir = d->c->bulk_dir;
	struct bulk *b;
	struct err err;

	if (!dir || !*dir)
		return;
	if ((b = bulk_open (dir, false, &err)))
		say (d, OK, "bulk", "%s", bulk_dir (b));
	else
		say (d, WARN, "bulk", "%s; large data travels in messages. bulk.dir must be that of the service, on this host and of this user", err.text);
	bulk_close (&b);
}

/* A directory of this host. what: the key that names it; write: it must take files. */
static void check_directory (struct doctor *d, const char *key, const char *path, bool write)
{
	struct stat st;
	struct statvfs v;

	if (stat (path, &st) < 0)
		say (d, FAIL, key, "%s: %s", path, strerror (errno));
	else if (!S_ISDIR (st.st_mode))
		say (d, FAIL, key, "%s is no directory", path);
	else if (access (path, (write ? W_OK : R_OK) | X_OK) < 0)
		say (d, FAIL, key, "%s: %s; this user must be able to %s it", path, strerror (errno), write ? "write to" : "read");
	else if (!write || statvfs (path, &v) < 0)
		say (d, OK, key, "%s", path);
	else
		say (d, OK, key, "%s, %llu MiB free", path, ((unsigned long long) v.f_bavail * v.f_frsize) >> 20);
}

/* What tasks left there, as far as this user's managers have counted. */
static void check_output_room (struct doctor *d, const char *dir)
{
	const struct config *c = d->c;
	char *path = xasprintf ("%s/" FILES_OUTPUT_PARTS "/" FILES_OUTPUT_TOTAL, dir, (unsigned) geteuid ());
	uint64_t max = (uint64_t) c->files_output_total_bytes, keep = (uint64_t) c->files_output_free_bytes, left = 0, free_bytes;
	bool near;
	struct statvfs v;

	if (max && tally_read (path, &left)) {
		near = left > max - max / 10;
		say (d, near ? WARN : OK, "files.output_dir", "tasks have left at most %" PRIu64 " of %" PRIu64 " MiB%s", left >> 20, max >> 20,
		     near ? "; at the bound (files.output_total_bytes) such tasks fail: remove old results" : "");
	}
	if (statvfs (dir, &v) == 0 && (free_bytes = (uint64_t) v.f_bavail * v.f_frsize) < keep)
		say (d, WARN, "files.output_dir", "%" PRIu64 " MiB free, and files.output_free_bytes keeps %" PRIu64
		     " MiB so: tasks that leave files fail; make room", free_bytes >> 20, keep >> 20);
	free (path);
}

/* Where the files of tasks are kept, and come from. */
static void check_task_files (struct doctor *d)
{
	const struct config *c = d->c;
	char *own = NULL;
	struct stat st;

	if (!c->files_cache_bytes)
		return;
	if (!(own = files_cache_dir (c, d->p->dir)))
		say (d, OK, "files.cache_dir", "weft-files-%u under TMPDIR or /tmp of each node", (unsigned) geteuid ());
	else if (stat (own, &st) < 0 && errno == ENOENT) {
		char *slash = strrchr (own, '/');
		say (d, OK, "files.cache_dir", "%s will be made", own);
		if (slash > own)
			*slash = 0;
		check_directory (d, "files.cache_dir", own, true);
	} else if (stat (own, &st) == 0 && st.st_uid != geteuid ())
		say (d, FAIL, "files.cache_dir", "%s belongs to user %u, not to this one; name another directory", own, (unsigned) st.st_uid);
	else
		check_directory (d, "files.cache_dir", own, true);
	if (c->files_output_dir && *c->files_output_dir) {
		check_directory (d, "files.output_dir", c->files_output_dir, true);
		check_output_room (d, c->files_output_dir);
	}
	for (size_t i = 0; i < c->files_directories.n; i++)
		check_directory (d, "files.directories", c->files_directories.v[i], false);
	if (c->files_ca_file && *c->files_ca_file && access (c->files_ca_file, R_OK) < 0)
		say (d, FAIL, "files.ca_file", "%s: %s", c->files_ca_file, strerror (errno));
	if (!config_provider (c)->local && (c->files_directories.n || own || (c->files_output_dir && *c->files_output_dir)))
		say (d, WARN, "files", "looked at on this host; the nodes of provider %s need these directories too", config_provider (c)->name);
	free (own);
}

/* The nodes need it; those of a cluster are mostly set up as this host is, so a lack of it here is worth a look. */
static void check_mpi (struct doctor *d)
{
	enum mpi_launcher launcher = (enum mpi_launcher) d->c->mpi_launcher;
	const char *name = mpi_program (launcher), *argv[] = { name, "--version", NULL }, *other;
	int bad = config_provider (d->c)->local ? FAIL : WARN;
	char *path = name ? paths_on_path (name) : NULL, version[1024] = "";

	if (name && !path)
		say (d, bad, "mpi_launcher", "%s is not on PATH on this host; tasks that ask for nodes need it there", name);
	else if (path && output_of (argv, version, sizeof (version)) && (other = mpi_other (launcher, version)))
		say (d, bad, "mpi_launcher", "%s is not the one that takes such a command line; with it 'mpi_launcher' has to be %s in %s", path, other,
		     d->p->config);
	else if (path)
		say (d, OK, "mpi_launcher", "%s is %s", name, path);
	free (path);
}

static void check_space (struct doctor *d)
{
	struct statvfs v;
	unsigned long long free_bytes;

	if (statvfs (d->p->dir, &v) < 0) {
		say (d, FAIL, "disk", "%s: %s", d->p->dir, strerror (errno));
		return;
	}
	free_bytes = (unsigned long long) v.f_bavail * v.f_frsize;
	if (free_bytes < SPACE_WARN)
		say (d, WARN, "disk", "%llu MiB free for the spool in %s; make room", free_bytes >> 20, d->p->dir);
	else
		say (d, OK, "disk", "%llu MiB free for the spool", free_bytes >> 20);
}

static void check_files (struct doctor *d)
{
	struct rlimit r;

	if (getrlimit (RLIMIT_NOFILE, &r) < 0)
		return;
	if (r.rlim_cur != RLIM_INFINITY && r.rlim_cur < FILES_MIN)
		say (d, WARN, "files", "only %llu open files allowed; raise it: ulimit -n %d", (unsigned long long) r.rlim_cur, FILES_MIN);
	else
		say (d, OK, "files", "%llu open files allowed", (unsigned long long) r.rlim_cur);
}

static void check_agent (struct doctor *d)
{
	pid_t pid = paths_running (d->p);
	json_t *st = pid ? control_call (d->p->control, "status", NULL, 3000, NULL) : NULL;

	if (!pid)
		say (d, WARN, "agent", "not running; start it with: weft-endpoint start %s", d->p->name);
	else if (!st)
		say (d, FAIL, "agent", "pid %ld runs but does not answer; see: weft-endpoint logs %s", (long) pid, d->p->name);
	else if (json_is_true (json_object_get (st, "connected")))
		say (d, OK, "agent", "connected, pid %ld", (long) pid);
	else
		say (d, WARN, "agent", "%s: %s", cmd_text (st, "state"), cmd_text (st, "error"));
	json_decref (st);
}

int cmd_doctor (void *opts, int argc, char **argv)
{
	const struct cmd_doctor *o = opts;
	struct paths p;
	struct doctor d = { .p = &p, .json = o->json };
	char *token;
	int rc = cmd_open (&p, argc, argv);

	if (rc)
		return rc;
	d.list = json_array ();
	check_modes (&d);
	if (check_config (&d)) {
		d.base = xstrdup (config_service_url (d.c));
		for (size_t n = strlen (d.base); n && d.base[n - 1] == '/'; n--)
			d.base[n - 1] = 0;
		identity_load (&d.who, p.identity, NULL);
		token = check_token (&d);
		check_service (&d, token);
		check_forwarder (&d);
		check_python (&d);
		check_containers (&d);
		check_bulk (&d);
		check_task_files (&d);
		check_mpi (&d);
		check_program (&d, d.c->manager_bin, "weft-manager");
		check_program (&d, d.c->worker_bin, "weft-worker");
		if (config_provider (d.c)->doctor)
			cmd_block (&p, d.c, ask_provider, &d);
		free (token);
		free (d.base);
	}
	check_space (&d);
	check_files (&d);
	check_agent (&d);
	if (d.json) {
		json_dumpf (d.list, stdout, JSON_INDENT (2));
		putchar ('\n');
	} else {
		printf ("%d failed, %d to look at\n", d.fails, d.warns);
	}
	json_decref (d.list);
	config_free (&d.c);
	paths_fini (&p);
	return d.fails ? 1 : 0;
}
