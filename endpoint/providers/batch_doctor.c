/* SPDX-License-Identifier: Apache-2.0 */
/* What a batch system needs of this host, for `weft-endpoint doctor`: each line says what is wrong in the scheduler's words, and what to do. */
#include "common/clock.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "endpoint/providers/batch.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

struct answer { struct loop *loop; int status; char said[400]; int64_t ms; };

static void say (struct buf *out, const char *level, const char *what, const char *fmt, ...) __attribute__ ((format (printf, 4, 5)));

static void say (struct buf *out, const char *level, const char *what, const char *fmt, ...)
{
	char text[900];
	va_list ap;

	va_start (ap, fmt);
	vsnprintf (text, sizeof (text), fmt, ap);
	va_end (ap);
	for (char *p = text; *p; p++)
		if ((unsigned char) *p < ' ')
			*p = ' ';
	buf_printf (out, "%s|%s|%s\n", level, what, text);
}

static void over (int status, const char *o, size_t no, const char *e, size_t ne, const struct err *err, void *arg)
{
	struct answer *a = arg;
	const char *text = ne ? e : o;
	size_t n = ne ? ne : no;

	a->status = status;
	while (n && isspace ((unsigned char) text[n - 1]))
		n--;
	snprintf (a->said, sizeof (a->said), "%.*s", (int) (n < 390 ? n : 390), text);
	if (err)
		snprintf (a->said, sizeof (a->said), "%.390s", err->text);
	for (char *p = a->said; *p; p++)
		if (*p == '\n')
			*p = ';';
	loop_stop (a->loop);
}

/* Runs a command on a loop of its own, with the time limit of the configuration. */
static void ask (struct answer *a, const struct batch_conf *c, const char *const *argv)
{
	struct err err = { 0 };
	int64_t began = clock_now_ms ();

	memset (a, 0, sizeof (*a));
	a->status = -1;
	if (!(a->loop = loop_create (&err)) || spawn_capture (a->loop, argv, NULL, c->cmd_timeout_ms, 1 << 20, over, a, &err) < 0)
		snprintf (a->said, sizeof (a->said), "%.390s", err.text);
	else
		loop_run (a->loop);
	loop_destroy (&a->loop);
	a->ms = clock_now_ms () - began;
}

static void wrong (const struct batch_system *s, struct buf *out, const char *what, const char *command, const char *said)
{
	const char *advice = batch_advice (s, said);

	say (out, "fail", what, "%s: %s%s%s", command, said, advice ? ". " : "", advice ? advice : "");
}

static bool on_path (const char *name)
{
	const char *path = getenv ("PATH");
	bool found = false;

	for (const char *p = path ? path : "/usr/bin:/bin"; *p && !found; p += strcspn (p, ":"), p += *p == ':') {
		char *full = xasprintf ("%.*s/%s", (int) strcspn (p, ":"), p, name);
		found = access (full, X_OK) == 0;
		free (full);
	}
	return found;
}

static bool check_commands (const struct batch_system *s, struct buf *out, const struct batch_args *submit, const struct batch_args *status)
{
	const char *const names[] = { submit->v[0], status->v[0] };

	for (size_t i = 0; i < 2; i++)
		if (!on_path (names[i])) {
			say (out, "fail", "scheduler", "%s is not on PATH: install %s's commands here, or start the endpoint where its module is loaded",
			     names[i], s->title);
			return false;
		}
	return true;
}

static bool check_status (const struct batch_system *s, const struct batch_conf *c, struct buf *out, const struct batch_args *status)
{
	struct answer a;

	ask (&a, c, (const char *const *) status->v);
	if (a.status == 0 || batch_says (a.said, s->none)) {
		say (out, a.ms > 5000 ? "warn" : "ok", "scheduler", "%s answers %s in %lld ms", s->title, status->v[0], (long long) a.ms);
		return true;
	}
	wrong (s, out, "scheduler", status->v[0], a.said);
	return false;
}

/* File systems that one host alone has. Not certain: a warning. */
static const char *private_type (const char *path)
{
	static const struct { unsigned long magic; const char *name; } types[] = {
		{ 0x01021994, "tmpfs" }, { 0xef53, "ext4" }, { 0x58465342, "xfs" }, { 0x9123683e, "btrfs" }, { 0x794c7630, "overlay" }, { 0x2fc12fc1, "zfs" },
	};
	struct statfs st;

	if (statfs (path, &st) < 0)
		return NULL;
	for (size_t i = 0; i < sizeof (types) / sizeof (types[0]); i++)
		if (((unsigned long) st.f_type & 0xffffffff) == types[i].magic)
			return types[i].name;
	return NULL;
}

static void check_shared (struct buf *out, const char *what, const char *path)
{
	const char *type = private_type (path);

	if (type)
		say (out, "warn", "shared", "%s %s is on %s, which other hosts may not see; nodes must have it under "
		     "the same path: set WEFT_HOME, or install there", what, path, type);
	else
		say (out, "ok", "shared", "%s %s", what, path);
}

static void check_address (struct buf *out, const char *const *argv)
{
	for (size_t i = 0; argv[i]; i++)
		if (strcmp (argv[i], "--connect") == 0 && argv[i + 1]) {
			if (strncmp (argv[i + 1], "tcp://127.", 10) == 0)
				say (out, "warn", "address", "nodes are told to connect to %s, which only this host reaches: set manager_address", argv[i + 1]);
			else
				say (out, "ok", "address", "nodes connect to %s", argv[i + 1]);
			return;
		}
}

static void check_script (const struct batch_system *s, const struct batch_conf *c, const struct batch_job *j, struct buf *out)
{
	const char *argv[] = { "/bin/bash", "-n", j->script, NULL };
	struct batch_args *trial;
	struct answer a;

	ask (&a, c, argv);
	if (a.status != 0)
		say (out, "fail", "script", "the job script is not good for bash; look at worker_init, scheduler_options and launcher_options: %s", a.said);
	if (!s->trial)
		return;
	trial = xcalloc (1, sizeof (*trial));
	s->trial (c, j, trial);
	ask (&a, c, (const char *const *) trial->v);
	if (a.status == 0 && !strcasestr (a.said, "allocation failure"))
		say (out, "ok", "job", "%s would take a job: %s", s->title, *a.said ? a.said : "it has no objection");
	else
		wrong (s, out, "job", trial->v[0], a.said);
	batch_args_free (trial);
}

static void try_script (const struct batch_system *s, const void *conf, const struct provider_block *pb, struct buf *out)
{
	char *path = xasprintf ("%s/doctor-XXXXXX", pb->log_dir), *log = xasprintf ("%s/block-doctor-0.log", pb->log_dir);
	struct batch_job j = { .name = "weft-doctor", .block = pb->id, .endpoint = pb->endpoint, .script = path, .log_dir = pb->log_dir, .log = log,
			       .nodes = pb->nodes, .argv = pb->argv[0] };
	int fd = mkstemp (path);
	struct buf text;

	buf_init (&text, 1 << 20);
	script_render (s, conf, &j, &text);
	if (fd < 0 || fchmod (fd, 0700) < 0 || write (fd, text.data, text.len) != (ssize_t) text.len)
		say (out, "fail", "script", "cannot write %s: %s", path, strerror (errno));
	else
		check_script (s, conf, &j, out);
	if (fd >= 0) {
		close (fd);
		unlink (path);
	}
	buf_fini (&text);
	free (path);
	free (log);
}

void batch_doctor (const struct batch_system *s, const void *conf, const struct provider_block *pb, struct buf *out)
{
	struct batch_job j = { .name = "weft-doctor", .script = "", .log_dir = pb->log_dir, .log = "", .block = pb->id, .endpoint = pb->endpoint };
	struct batch_args *submit = xcalloc (1, sizeof (*submit)), *status = xcalloc (1, sizeof (*status));

	s->submit (conf, &j, submit);
	s->status (conf, NULL, 0, status);
	if (check_commands (s, out, submit, status) && check_status (s, conf, out, status))
		try_script (s, conf, pb, out);
	check_shared (out, "the endpoint's directory", pb->log_dir);
	check_shared (out, "weft-manager", pb->argv[0][0]);
	check_address (out, pb->argv[0]);
	batch_args_free (submit);
	batch_args_free (status);
}
