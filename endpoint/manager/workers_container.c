/* SPDX-License-Identifier: Apache-2.0 */
/* Workers in containers: finding or pulling the image, starting, and what the runtime keeps after an end that was not clean.
 *
 * A container is the foreground process of the runtime's `run`: its end is the container's. What that process says on standard error (the
 * tool's words, the worker's log) goes to DIR/c<k>.log, whose end is the reason given when it does not come up.
 *
 *     dies here          left                     ended by
 *     the worker         nothing                  its end is the container's (monitored: and `remove`, since we may end before the monitor has)
 *     `run` (kill -9)    the container            `remove`, at once
 *     the manager        the container            the worker itself (--orphan-timeout); `list` and `remove` of the next manager
 *     the daemon         maybe the container      the session stays or ends; then as above */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "endpoint/manager/containers/identity.h"
#include "endpoint/manager/containers/node.h"
#include "endpoint/manager/rooms.h"
#include "endpoint/manager/workers_internal.h"
#include "proto/link.h"

enum { TOOL_MS = 30000, TOOL_BYTES = 65536, LOG_TAIL = 4096, WORKER_ARGS = 32, ORPHAN_MIN_MS = 5000 };

/* ---- running the tools ---- */

struct step {				/* of one start; the slot may belong to another one when it ends */
	struct workers *ws;
	unsigned index;
	struct id id;
};

static void capture (struct workers *ws, struct args *a, int64_t timeout_ms, spawn_capture_f *cb, void *arg)
{
	struct err err = { 0 };

	if (spawn_capture (ws->loop, (const char *const *) a->v, NULL, timeout_ms, TOOL_BYTES, cb, arg, &err) < 0)
		cb (-1, "", 0, "", 0, &err, arg);
	args_fini (a);
}

static struct worker *step_worker (struct step *s)
{
	struct worker *w = &s->ws->v[s->index];
	bool same = w->state == WORKER_PREPARING && id_eq (&w->id, &s->id);

	free (s);
	return same ? w : NULL;
}

static struct step *step_of (struct worker *w)
{
	struct step *s = xcalloc (1, sizeof (*s));

	s->ws = w->all;
	s->index = w->index;
	s->id = w->id;
	return s;
}

/* Of a tool that failed. */
static void set_why (struct container *c, const char *what, int status, const char *errout, size_t n, const struct err *err)
{
	char words[300];

	if (status == -1)
		snprintf (c->why, sizeof (c->why), "%s: %.300s", what, err ? err->text : "it did not run");
	else
		snprintf (c->why, sizeof (c->why), "%s: %s", what, runtime_words (errout, n, words, sizeof (words)));
}

void container_tell (struct worker *w, enum container_state s, const char *text)
{
	w->all->o.ops->container (w, s, text, w->all->o.arg);
}

/* It never ran: tells the dispatcher, and the slot is free. */
static void give_up (struct worker *w)
{
	struct workers *ws = w->all;

	w->state = WORKER_DOWN;
	w->status = -1;
	map_del (ws->by_id, &w->id);
	ws->o.ops->lost (w, w->status, ws->o.arg);
	container_forget (w);
}

/* ---- starting ---- */

/* NULL: the container has none, and fails tasks that want files. */
static const char *files_dir (const struct worker *w)
{
	const char *dir = w->all->o.files_dir;

	return dir && access (dir, X_OK) == 0 ? dir : NULL;
}

/* The command inside, its paths below the runtime's base. */
static void worker_command (const struct worker *w, struct container_place *p, struct args *a)
{
	const struct workers *ws = w->all;
	const char *base = w->container->rt->base;
	int64_t orphan = ws->o.threshold_ms > ORPHAN_MIN_MS ? ws->o.threshold_ms : ORPHAN_MIN_MS;
	char id[ID_TEXT];

	args_addf (a, "%s/bin/ld.so", base);
	args_add (a, "--library-path");
	args_addf (a, "%s/bin/lib", base);
	args_addf (a, "%s/bin/weft-worker", base);
	args_add (a, "--connect");
	args_addf (a, "ipc://%s/run/w.sock", base);
	args_add (a, "--worker-id");
	args_add (a, id_text (&w->id, id));
	if (w->container->digest) {
		args_add (a, "--image");
		args_add (a, id_text (&w->container->image_id, id));
	}
	args_add (a, "--node");
	args_add (a, ws->o.node);
	args_add (a, "--dir");
	args_addf (a, "%s/work/w", base);
	args_add (a, "--orphan-timeout");
	args_addf (a, "%lldms", (long long) orphan);
	args_add (a, "--log-level");
	args_add (a, ws->o.log_level);
	if (ws->o.retries_on_kill) {
		args_add (a, "--retries-on-kill");
		args_add (a, ws->o.retries_on_kill);
	}
	if (p->files_dir) {
		args_add (a, "--files-dir");
		args_addf (a, "%s/files", base);
	}
	p->command = (const char *const *) a->v;
}

static int sub_dir (const char *dir, const char *name, uid_t uid, gid_t gid, bool give, struct err *err)
{
	char *path = xasprintf ("%s%s", dir, name);
	int rc = 0;

	if (*name && mkdir (path, 0700) < 0 && errno != EEXIST)
		rc = err_errno (err, "making the directory %s", path);
	if (rc == 0 && give && chown (path, uid, gid) < 0)
		rc = err_errno (err, "giving the directory %s to user %u", path, (unsigned) uid);
	free (path);
	return rc;
}

/* A fresh work directory, of the user inside; with mount points below it where the image has none. */
static char *work_dir (struct worker *w, const struct container_place *p, struct err *err)
{
	const struct runtime *rt = w->container->rt;
	bool give = p->root && !rt->maps_user;
	char *dir = rooms_work (w->all->o.rooms, w->index, err);
	int rc = dir ? sub_dir (dir, "", p->uid, p->gid, give, err) : -1;

	if (rc == 0 && strcmp (rt->base, "/mnt") == 0)
		rc = sub_dir (dir, "/mnt", 0, 0, false, err) | sub_dir (dir, "/mnt/bin", 0, 0, false, err)
		     | sub_dir (dir, "/mnt/run", 0, 0, false, err) | sub_dir (dir, "/mnt/work", 0, 0, false, err)
		     | sub_dir (dir, "/mnt/files", 0, 0, false, err);
	if (rc == 0)
		return dir;
	free (dir);
	return NULL;
}

/* As worker_command names it inside. */
const char *container_inner (const struct worker *w) { return strcmp (w->container->rt->base, "/mnt") == 0 ? "mnt/work/w" : "w"; }

static char *log_path (const struct worker *w)
{
	return xasprintf ("%s/c%u.log", rooms_dir (w->all->o.rooms), w->index);
}

static int spawn_run (struct worker *w, struct args *a, struct err *err)
{
	char *path = log_path (w);
	int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	struct spawn_fd fds[] = { { fd, 1 }, { fd, 2 } };
	struct spawn_opts o = { .argv = (const char *const *) a->v, .fds = fds, .nfds = 2 };

	if (fd < 0) {
		err_errno (err, "opening %s", path);
		free (path);
		return -1;
	}
	free (path);
	/* tools make files of their own, which our umask would close to the user inside */
	mode_t mask = umask (022);
	w->process = spawn_start (w->all->loop, &o, workers_exited, w, err);
	umask (mask);
	close (fd);
	return w->process ? 0 : -1;
}

static void run (struct worker *w)
{
	struct workers *ws = w->all;
	const struct node *node = ws->o.node_containers;
	struct container *c = w->container;
	struct container_place p = { .name = c->name, .reference = c->image, .endpoint = node->o->endpoint_id ? node->o->endpoint_id : "none",
				     .owner = node->owner, .bundle = node->o->bundle, .run_dir = ws->run_dir, .files_dir = files_dir (w),
				     .network = node->o->network, .root = node->root,
				     .limits = node_limits (node, c->rt) };
	struct args a = { .n = 0 }, inner = { .n = 0 };
	struct err err;
	char *dir;
	int rc = -1;

	node_user (node, c->rt, &p.uid, &p.gid);
	if ((dir = work_dir (w, &p, &err))) {
		p.work_dir = dir;
		if (c->runs)
			c->spec.image = c->runs;
		worker_command (w, &p, &inner);
		c->rt->run (&a, &c->spec, &p);
		rc = spawn_run (w, &a, &err);
	}
	args_fini (&a);
	args_fini (&inner);
	free (dir);
	if (rc < 0) {
		snprintf (c->why, sizeof (c->why), "%s", err.text);
		give_up (w);
		return;
	}
	c->run_ms = clock_now_ms ();
	workers_hello_deadline (w, node->o->start_ms);
	container_tell (w, CONTAINER_STARTING, "");
}

static bool says (const char *text, size_t n, const char *words)
{
	return memmem (text, n, words, strlen (words)) != NULL;
}

/* The tool works, but has no such image. */
static bool image_is_missing (const struct runtime *rt, const char *errout, size_t n)
{
	return !rt->stays || says (errout, n, "o such image") || says (errout, n, "o such object") || says (errout, n, "not known");
}

static void look (struct worker *w);

static void pulled (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct worker *w = step_worker (arg);

	(void) out;
	(void) nout;
	if (!w)
		return;
	w->container->pull_ms = clock_now_ms () - w->container->asked_ms;
	if (status == 0) {
		log_info ("containers", "image pulled", "image=%s ms=%lld", w->container->image, (long long) w->container->pull_ms);
		w->container->pulled = true;
		look (w);
		return;
	}
	w->container->image_fault = status != -1 && !says (errout, nerr, "Cannot connect");
	set_why (w->container, "the image cannot be had", status, errout, nerr, err);
	give_up (w);
}

static void note_digest (struct container *c, const char *out, size_t n)
{
	char digest[IDENTITY_MAX];
	size_t k = 0;

	identity_read (out, n, digest);
	if (!*digest)
		return;
	c->digest = xstrdup (digest);
	c->image_id = identity_id (digest);
	while (k < n && (unsigned char) out[k] > ' ')
		k++;
	if (c->rt->runs_ids)
		c->runs = xasprintf ("%.*s", (int) k, out);
}

static void looked (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct worker *w = step_worker (arg);
	struct args a = { .n = 0 };
	const struct node *node;

	if (!w)
		return;
	node = w->all->o.node_containers;
	if (status == 0) {
		note_digest (w->container, out, nout);
		run (w);
	} else if (!w->container->rt->exists) {
		run (w);	/* it says best what is wrong with a path */
	} else if (status == -1 || !image_is_missing (w->container->rt, errout, nerr)) {
		set_why (w->container, w->container->rt->program, status, errout, nerr, err);
		give_up (w);
	} else if (node->o->no_pull || !w->container->rt->pull || w->container->pulled) {
		w->container->image_fault = true;
		set_why (w->container, "the image is not on the node, and the endpoint pulls none", status, errout, nerr, err);
		give_up (w);
	} else {
		container_tell (w, CONTAINER_PULLING, "");
		w->container->rt->pull (&a, w->container->image);
		capture (w->all, &a, node->o->pull_ms, pulled, step_of (w));
	}
}

static void look (struct worker *w)
{
	const struct node *node = w->all->o.node_containers;
	struct args a = { .n = 0 };

	if (identity_command (w->container->rt, w->container->image, node->program, &a))
		capture (w->all, &a, TOOL_MS, looked, step_of (w));
	else
		run (w);
}

struct worker *workers_start_container (struct workers *ws, struct pool *pool, const struct runtime *rt, const struct container_spec *spec)
{
	struct worker *w = NULL;
	struct container *c;
	char id[ID_TEXT];

	for (unsigned k = ws->o.n; k < ws->o.n + ws->o.containers && !w; k++)
		if (ws->v[k].state == WORKER_DOWN && !ws->v[k].container)
			w = &ws->v[k];
	if (!w || ws->stopping || ws->draining)
		return NULL;
	id_new (&w->id);
	c = w->container = xcalloc (1, sizeof (*c));
	c->rt = rt;
	c->spec = *spec;
	c->spec.image = c->image = xstrdup (spec->image);
	c->name = xasprintf ("weft-%s", id_text (&w->id, id));
	c->asked_ms = clock_now_ms ();
	w->pool = pool;
	w->state = WORKER_PREPARING;
	w->up_since_ms = 0;
	w->retire = false;
	w->served = 0;
	map_put (ws->by_id, &w->id, w);
	look (w);
	return w;
}

struct question { workers_digest_f *cb; void *arg; };

static void answered (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct question q = *(struct question *) arg;
	char digest[IDENTITY_MAX] = "";

	(void) errout;
	(void) nerr;
	(void) err;
	free (arg);
	if (status == 0)
		identity_read (out, nout, digest);
	q.cb (digest, q.arg);
}

void workers_digest (struct workers *ws, const struct runtime *rt, const char *image, workers_digest_f *cb, void *arg)
{
	struct args a = { .n = 0 };
	struct question *q;

	if (!identity_command (rt, image, ws->o.node_containers->program, &a)) {
		cb ("", arg);
		return;
	}
	q = xcalloc (1, sizeof (*q));
	*q = (struct question) { cb, arg };
	capture (ws, &a, TOOL_MS, answered, q);
}

/* ---- the end ---- */

static void read_tail (const struct worker *w, char *out, size_t room)
{
	char *path = log_path (w), text[LOG_TAIL];
	int fd = open (path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? 0 : lseek (fd, 0, SEEK_END);
	ssize_t n = fd < 0 ? 0 : pread (fd, text, sizeof (text), size > LOG_TAIL ? size - LOG_TAIL : 0);

	runtime_words (text, n > 0 ? (size_t) n : 0, out, room);
	if (fd >= 0)
		close (fd);
	free (path);
}

struct removal { struct workers *ws; char *name; };

static void removed (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct removal *r = arg;
	char words[300];

	(void) out;
	(void) nout;
	if (status != 0 && !memmem (errout, nerr, "o such container", 16))
		log_warn ("containers", "a container could not be removed", "name=%s why=%s", r->name,
			  status == -1 && err ? err->text : runtime_words (errout, nerr, words, sizeof (words)));
	r->ws->removing--;
	workers_check_stopped (r->ws);
	free (r->name);
	free (r);
}

static void remove_by_name (struct workers *ws, const struct runtime *rt, const char *name)
{
	struct args a = { .n = 0 };
	struct removal *r = xcalloc (1, sizeof (*r));

	r->ws = ws;
	r->name = xstrdup (name);
	ws->removing++;
	rt->remove (&a, name);
	capture (ws, &a, TOOL_MS, removed, r);
}

void container_ended (struct worker *w)
{
	struct container *c = w->container;
	char words[300], how[64];

	if (!w->up_since_ms && w->state != WORKER_LEAVING) {
		read_tail (w, words, sizeof (words));
		snprintf (c->why, sizeof (c->why), "%s, %s", words, spawn_status_text (w->status, how));
	} else if (w->state == WORKER_LEAVING && !w->up_since_ms) {
		snprintf (c->why, sizeof (c->why), "the worker inside did not report within %lld s",
			  (long long) w->all->o.node_containers->o->start_ms / 1000);
	}
	if (c->rt->monitored || (c->rt->stays && !(WIFEXITED (w->status) && WEXITSTATUS (w->status) == 0)))
		remove_by_name (w->all, c->rt, c->name);
}

void container_abandon (struct worker *w)
{
	struct args a = { .n = 0 };
	const struct spawn_opts o = { .argv = (const char *const *) a.v };
	struct spawn *s;

	if (!w->container || !w->container->rt->stays)
		return;
	w->container->rt->remove (&a, w->container->name);
	if ((s = spawn_start (w->all->loop, &o, NULL, NULL, NULL)))
		spawn_forget (&s);
	args_fini (&a);
}

void container_forget (struct worker *w)
{
	struct container *c = w->container;

	if (!c)
		return;
	w->container = NULL;
	w->pool = NULL;
	w->retire = false;
	free (c->image);
	free (c->name);
	free (c->digest);
	free (c->runs);
	free (c);
}

void workers_retire (struct worker *w, const char *why)
{
	if (w->state != WORKER_UP || !w->container)
		return;
	log_info ("containers", "container stopped", "name=%s image=%s why=%s calls=%llu", w->container->name, w->container->image, why,
		  (unsigned long long) w->served);
	container_tell (w, CONTAINER_STOPPED, why);
	workers_leave (w, 2000);
}

/* ---- what other managers left ---- */

struct sweep { struct workers *ws; const struct runtime *rt; };

static void listed (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct sweep *s = arg;
	char *text = xasprintf ("%.*s", (int) nout, out), *save = NULL, name[128], owner[64], words[300];

	if (status != 0)
		log_warn ("containers", "what an earlier manager left cannot be looked for", "runtime=%s why=%s", s->rt->name,
			  status == -1 && err ? err->text : runtime_words (errout, nerr, words, sizeof (words)));
	for (char *line = status == 0 ? strtok_r (text, "\n", &save) : NULL; line; line = strtok_r (NULL, "\n", &save)) {
		if (sscanf (line, "%127s %63s", name, owner) != 2 || strncmp (name, "weft-", 5) != 0 || runtime_alive (owner))
			continue;
		log_info ("containers", "removing a container that a manager left", "name=%s owner=%s", name, owner);
		remove_by_name (s->ws, s->rt, name);
	}
	free (text);
	free (s);
}

void container_sweep (struct workers *ws)
{
	const struct node *node = ws->o.node_containers;

	for (size_t i = 0; node->o->endpoint_id && i < node->n; i++) {
		struct sweep *s;
		struct args a = { .n = 0 };

		if (!node->runtimes[i]->list)
			continue;
		s = xcalloc (1, sizeof (*s));
		s->ws = ws;
		s->rt = node->runtimes[i];
		s->rt->list (&a, node->o->endpoint_id);
		capture (ws, &a, TOOL_MS, listed, s);
	}
}
