/* SPDX-License-Identifier: Apache-2.0 */
/* See files.h. Threads (crew.h) bring; needs, entries and the map of jobs are the loop's alone. */
#include "endpoint/manager/files.h"
#include <curl/curl.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/digest.h"
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"
#include "endpoint/manager/crew.h"
#include "endpoint/manager/download.h"

#define MOD "files"
#define NAME_SHOWN 60
#define FULL_MAX 16384

struct entry { struct id key; uint8_t digest[FILES_DIGEST]; uint64_t bytes; int fd; unsigned refs; };

struct want {				/* a file of a need */
	struct need *need;
	char *name;
	uint8_t kind;			/* outputs have a pattern, for the worker to know */
	struct job *job;		/* while it is being brought */
	struct entry *entry;		/* once it is here */
	TAILQ_ENTRY (want) link;	/* in job->waiting */
};

struct need {
	struct files *f;
	void *owner;
	struct want *v;
	size_t n, left;
	struct need_told told;
	int64_t since_ms;
};

struct job {
	struct crew_job crew;
	struct files *f;
	struct id key;
	char *url;
	struct download d;
	int fd;
	struct err err;
	TAILQ_HEAD (, want) waiting;
};

struct files {
	struct download_opts o;
	files_f *done;
	void *arg;
	struct crew *crew;
	bool keeps;
	char *dir, *content;		/* of the cache, which is made when it is first wanted */
	int64_t cache_bytes;
	struct map *jobs, *entries;	/* under way; held */
	size_t full;			/* so many of both, a descriptor each */
};

/* ---- entries ---- */

static struct id key_of (const uint8_t digest[FILES_DIGEST])
{
	struct id id;

	memcpy (id.b, digest, ID_BYTES);
	return id;
}

static struct entry *find_entry (struct files *f, const uint8_t digest[FILES_DIGEST])
{
	struct id key = key_of (digest);
	struct entry *e = map_get (f->entries, &key);

	return e && memcmp (e->digest, digest, FILES_DIGEST) == 0 ? e : NULL;
}

/* fd: taken over. */
static struct entry *add_entry (struct files *f, const uint8_t digest[FILES_DIGEST], uint64_t bytes, int fd)
{
	struct entry *e = find_entry (f, digest);

	if (e) {
		close (fd);
		return e;
	}
	e = xcalloc (1, sizeof (*e));
	memcpy (e->digest, digest, FILES_DIGEST);
	e->key = key_of (digest);
	e->bytes = bytes;
	e->fd = fd;
	if (!map_get (f->entries, &e->key))
		map_put (f->entries, &e->key, e);
	return e;
}

static void release_entry (struct files *f, struct entry *e)
{
	if (--e->refs)
		return;
	if (map_get (f->entries, &e->key) == e)
		map_del (f->entries, &e->key);
	close (e->fd);
	free (e);
}

/* ---- jobs ---- */

static void free_job (struct job *j)
{
	free (j->url);
	free (j);
}

static struct job *job_of (struct crew_job *c) { return (struct job *) ((char *) c - offsetof (struct job, crew)); }

static bool pause_job (int64_t ms, void *arg)
{
	struct job *j = arg;

	return crew_pause (&j->crew, ms);
}

static void run_job (struct crew_job *c)
{
	struct job *j = job_of (c);

	j->fd = download_run (&j->f->o, &j->d, &j->err);
}

static void drop_job (struct crew_job *c)
{
	struct job *j = job_of (c);

	if (j->fd >= 0)
		close (j->fd);
	free_job (j);
}

static void end_job (struct crew_job *c);

/* The same file, from the same place, with the same limit. */
static struct id job_key (const struct msg_file *m)
{
	uint8_t digest[DIGEST_SHA256_BYTES];
	struct digest_part parts[] = { { &m->flags, 1 }, { m->digest, FILES_DIGEST }, { &m->max_bytes, sizeof (m->max_bytes) }, { m->url.p, m->url.n } };

	memset (digest, 0, sizeof (digest));
	digest_sha256 (parts, sizeof (parts) / sizeof (parts[0]), digest);
	return key_of (digest);
}

static void join (struct files *f, struct want *w, const struct msg_file *m)
{
	struct id key = job_key (m);
	struct job *j = map_get (f->jobs, &key);

	w->need->left++;
	if (!j) {
		j = xcalloc (1, sizeof (*j));
		j->f = f;
		j->key = key;
		j->fd = -1;
		j->url = strndup (m->url.p, m->url.n);
		j->d = (struct download) { .url = j->url, .has_digest = m->flags & FILE_HAS_DIGEST, .max_bytes = m->max_bytes, .pause = pause_job, .arg = j };
		memcpy (j->d.digest, m->digest, FILES_DIGEST);
		TAILQ_INIT (&j->waiting);
		map_put (f->jobs, &j->key, j);
		j->crew.run = run_job;
		j->crew.done = end_job;
		j->crew.drop = drop_job;
		crew_do (f->crew, &j->crew);
	}
	w->job = j;
	TAILQ_INSERT_TAIL (&j->waiting, w, link);
}

/* Nobody waits for it any more: a new need makes a new job. */
static void abandon (struct job *j)
{
	struct files *f = j->f;

	if (map_get (f->jobs, &j->key) == j)
		map_del (f->jobs, &j->key);
	crew_stop (&j->crew);
}

static void here (struct files *f, struct want *w, struct job *j, struct entry *e)
{
	struct need *n = w->need;

	w->entry = e;
	e->refs++;
	if (j->d.fetched) {
		n->told.fetched++;
		n->told.bytes += e->bytes;
	}
	if (--n->left == 0) {
		n->told.ms = clock_now_ms () - n->since_ms;
		f->done (n->owner, NULL, f->arg);
	}
}

static void end_job (struct crew_job *c)
{
	struct job *j = job_of (c);
	struct files *f = j->f;
	struct entry *e = NULL;
	struct want *w;
	char shown[200];

	if (map_get (f->jobs, &j->key) == j)
		map_del (f->jobs, &j->key);
	if (c->trouble)
		err_set (&j->err, ERR_TASK_FILE, FAULT_SITE, "no thread can be started to bring it: %s", strerror (c->trouble));
	if (j->fd >= 0) {
		e = add_entry (f, j->d.digest, j->d.bytes, j->fd);
		e->refs++;	/* until all that wait have theirs */
	}
	if (!TAILQ_EMPTY (&j->waiting) && (j->d.fetched || !e))
		log_info (MOD, e ? "file brought" : "file cannot be had", "url=%s bytes=%llu why=%s",
			  msg_files_url_text (wire_str (j->url, strlen (j->url)), shown, sizeof (shown)), (unsigned long long) j->d.bytes,
			  e ? "" : j->err.text);
	while ((w = TAILQ_FIRST (&j->waiting))) {
		TAILQ_REMOVE (&j->waiting, w, link);
		w->job = NULL;
		if (e) {
			here (f, w, j, e);
		} else {
			struct err err = j->err;
			err_prefix (&err, "input file '%.*s'", NAME_SHOWN, w->name);
			f->done (w->need->owner, &err, f->arg);
		}
	}
	if (e)
		release_entry (f, e);
	free_job (j);
}

/* ---- the cache ---- */

int files_use (struct files *f, struct err *err)
{
	return f->o.cache || (f->o.cache = filecache_create (f->dir, f->cache_bytes, err)) ? 0 : -1;
}

/* As the cache will say it. What is above it is there; a link in its own place is refused later. */
static char *absolute (const char *dir)
{
	char *copy = xstrdup (dir), *slash, parent[PATH_MAX], *out;
	size_t n = strlen (copy);

	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	slash = strrchr (copy, '/');
	if (slash)
		*slash = '\0';
	if (realpath (!slash ? "." : *copy ? copy : "/", parent))
		out = xasprintf ("%s/%s", parent[1] ? parent : "", slash ? slash + 1 : copy);
	else
		out = xstrdup (dir);
	free (copy);
	return out;
}

const char *files_content (const struct files *f) { return f->content; }

/* ---- needs ---- */

static bool same_name (struct wire_str list, struct wire_str name)
{
	struct msg_file f;

	while (msg_files_next (&list, &f, NULL) > 0)
		if (f.name.n == name.n && memcmp (f.name.p, name.p, name.n) == 0)
			return true;
	return false;
}

static int check_one (struct files *f, const struct msg_file *m, struct err *err)
{
	if (m->kind == FILE_OUTPUT || (m->kind == FILE_KEEP && f->keeps))
		return 0;
	if (m->kind == FILE_KEEP)
		return err_set (err, ERR_TASK_FILE, FAULT_SITE, "output '%.*s': it is to be kept, and the node has no directory for it (files.output_dir "
				"of the endpoint)", (int) (m->name.n < NAME_SHOWN ? m->name.n : NAME_SHOWN), m->name.p);
	if (m->kind != FILE_INPUT)
		return err_set (err, ERR_TASK_FILE, FAULT_SITE, "file '%.*s': this endpoint's version does not know files of kind %u", (int) m->name.n,
				m->name.p, m->kind);
	if (m->url.n && download_allowed (&f->o, m->url, err) == 0)
		return 0;
	if (!m->url.n)
		err_set (err, ERR_TASK_FILE, FAULT_USER, "it has no URL");
	return err_prefix (err, "input file '%.*s'", (int) (m->name.n < NAME_SHOWN ? m->name.n : NAME_SHOWN), m->name.p);
}

static int add_want (struct need *n, const struct msg_file *m, struct err *err)
{
	struct want *w = &n->v[n->n];
	struct files *f = n->f;
	struct entry *e = m->flags & FILE_HAS_DIGEST ? find_entry (f, m->digest) : NULL;
	char shown[160];

	if (check_one (f, m, err) < 0)
		return -1;
	w->need = n;
	w->name = strndup (m->name.p, m->name.n);
	w->kind = m->kind;
	n->n++;
	if (w->kind != FILE_INPUT)
		return 0;
	if (files_use (f, err) < 0) {
		err->code = ERR_TASK_FILE;
		return err_prefix (err, "node directory of files (files.cache_dir)");
	}
	if (!e) {
		join (f, w, m);
		return 0;
	}
	if (e->bytes > download_limit (&f->o, m->max_bytes))
		return download_too_large (&f->o, m->max_bytes, msg_files_url_text (m->url, shown, sizeof (shown)), e->bytes, err);
	w->entry = e;
	e->refs++;
	return 0;
}

struct need *need_create (struct files *f, struct wire_str function, struct wire_str task, void *owner, struct err *err)
{
	struct need *n;
	struct wire_str list;
	struct msg_file m;

	if (msg_files_check (function, err) < 0 || msg_files_check (task, err) < 0) {
		err->code = ERR_TASK_FILE;
		return NULL;
	}
	n = xcalloc (1, sizeof (*n));
	n->f = f;
	n->owner = owner;
	n->since_ms = clock_now_ms ();
	n->v = xcalloc (2 * FILES_MAX, sizeof (*n->v));
	for (list = function; msg_files_next (&list, &m, NULL) > 0;)
		if (!same_name (task, m.name) && add_want (n, &m, err) < 0)
			goto fail;
	for (list = task; msg_files_next (&list, &m, NULL) > 0;)
		if (add_want (n, &m, err) < 0)
			goto fail;
	return n;
fail:
	need_drop (&n);
	return NULL;
}

void need_drop (struct need **np)
{
	struct need *n = *np;

	if (!n)
		return;
	for (size_t i = 0; i < n->n; i++) {
		struct want *w = &n->v[i];
		struct job *j = w->job;

		if (j) {
			TAILQ_REMOVE (&j->waiting, w, link);
			if (TAILQ_EMPTY (&j->waiting))
				abandon (j);
		}
		if (w->entry)
			release_entry (n->f, w->entry);
		free (w->name);
	}
	free (n->v);
	free (n);
	*np = NULL;
}

bool files_full (const struct files *f) { return map_size (f->jobs) + map_size (f->entries) >= f->full; }

bool need_ready (const struct need *n) { return n->left == 0; }

void need_list (const struct need *n, struct buf *list)
{
	for (size_t i = 0; i < n->n; i++) {
		struct msg_file m = { .kind = n->v[i].kind, .name = wire_str (n->v[i].name, strlen (n->v[i].name)) };
		if (m.kind == FILE_INPUT) {
			m.flags = FILE_HAS_DIGEST;
			memcpy (m.digest, n->v[i].entry->digest, FILES_DIGEST);
		}
		msg_files_add (list, &m);
	}
}

void need_tell (const struct need *n, struct need_told *out) { *out = n->told; }

/* ---- life ---- */

struct files *files_create (struct loop *l, const struct files_opts *o, struct err *err)
{
	struct files *f = xcalloc (1, sizeof (*f));
	struct rlimit r;

	f->keeps = o->keeps;
	f->dir = absolute (o->dir);
	f->content = xasprintf ("%s/" FILECACHE_CONTENT, f->dir);
	f->cache_bytes = o->cache_bytes;
	f->full = getrlimit (RLIMIT_NOFILE, &r) < 0 || r.rlim_cur > 2 * FULL_MAX ? FULL_MAX : r.rlim_cur / 2;
	f->jobs = map_create ();
	f->entries = map_create ();
	f->o = (struct download_opts) { .max_bytes = o->max_bytes, .timeout_ms = o->timeout_ms, .http = o->http, .ca_file = o->ca_file, .from = o->from };
	if (curl_global_init (CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		err_set (err, ERR_INTERNAL, FAULT_SITE, "libcurl cannot be set up");
		goto fail;
	}
	if (!(f->crew = crew_create (l, o->parallel, err)))
		goto fail;
	return f;
fail:
	files_destroy (&f);
	return NULL;
}

void files_destroy (struct files **fp)
{
	struct files *f = *fp;

	if (!f)
		return;
	crew_destroy (&f->crew);
	filecache_destroy (&f->o.cache);
	map_destroy (&f->jobs);
	map_destroy (&f->entries);
	free (f->dir);
	free (f->content);
	free (f);
	*fp = NULL;
}

void files_connect (struct files *f, files_f *done, void *arg)
{
	f->done = done;
	f->arg = arg;
}
