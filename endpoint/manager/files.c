/* SPDX-License-Identifier: Apache-2.0 */
/* See files.h. Threads are started when they are first needed; they take jobs from `todo` and put them into `finished`. What both sides touch is under
 * `lock`; needs, entries and the map of jobs are the loop's alone. */
#include "endpoint/manager/files.h"
#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/digest.h"
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"
#include "endpoint/manager/download.h"

#define MOD "files"
#define THREADS_MAX 32
#define NAME_SHOWN 60

struct entry { struct id key; uint8_t digest[FILES_DIGEST]; uint64_t bytes; int fd; unsigned refs; };

struct want {				/* a file of a need */
	struct need *need;
	char *name;
	bool output;			/* a pattern, for the worker to know */
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
	struct files *f;
	struct id key;
	char *url;
	struct download d;
	int fd;
	struct err err;
	bool stop;			/* under the lock */
	TAILQ_HEAD (, want) waiting;
	TAILQ_ENTRY (job) link;		/* todo or finished */
};
TAILQ_HEAD (jobs, job);

struct files {
	struct loop *loop;		/* borrowed */
	struct download_opts o;
	files_f *done;
	void *arg;
	struct map *jobs, *entries;	/* under way; held */
	unsigned parallel, nthreads, idle, ntodo;
	pthread_t threads[THREADS_MAX];
	pthread_mutex_t lock;
	pthread_cond_t wake;		/* something to do, or to stop */
	struct jobs todo, finished;
	bool stop;
	int fd;				/* eventfd */
	struct event *ev;
};

/* ---- threads ---- */

static bool pause_job (int64_t ms, void *arg)
{
	struct job *j = arg;
	struct files *f = j->f;
	struct timespec until;
	bool stop;

	clock_gettime (CLOCK_MONOTONIC, &until);
	until.tv_sec += (ms + until.tv_nsec / 1000000) / 1000;
	until.tv_nsec = (ms + until.tv_nsec / 1000000) % 1000 * 1000000;
	pthread_mutex_lock (&f->lock);
	while (ms && !j->stop && !f->stop && pthread_cond_timedwait (&f->wake, &f->lock, &until) != ETIMEDOUT)
		;
	stop = j->stop || f->stop;
	pthread_mutex_unlock (&f->lock);
	return stop;
}

/* Locked. */
static void finish (struct files *f, struct job *j)
{
	uint64_t one = 1;

	TAILQ_INSERT_TAIL (&f->finished, j, link);
	if (write (f->fd, &one, sizeof (one)) < 0)
		log_error (MOD, "waking the loop failed", NULL);
}

static void *run (void *arg)
{
	struct files *f = arg;
	struct job *j;

	pthread_mutex_lock (&f->lock);
	while (!f->stop) {
		if (!(j = TAILQ_FIRST (&f->todo))) {
			f->idle++;
			pthread_cond_wait (&f->wake, &f->lock);
			f->idle--;
			continue;
		}
		TAILQ_REMOVE (&f->todo, j, link);
		f->ntodo--;
		if (!j->stop) {
			pthread_mutex_unlock (&f->lock);
			j->fd = download_run (&f->o, &j->d, &j->err);
			pthread_mutex_lock (&f->lock);
		}
		finish (f, j);
	}
	pthread_mutex_unlock (&f->lock);
	return NULL;
}

/* 0, or the reason why there is none. */
static int start_thread (struct files *f)
{
	sigset_t all, old;
	int rc;

	sigfillset (&all);
	pthread_sigmask (SIG_BLOCK, &all, &old);
	rc = pthread_create (&f->threads[f->nthreads], NULL, run, f);
	pthread_sigmask (SIG_SETMASK, &old, NULL);
	f->nthreads += rc == 0;
	return rc;
}

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

/* The same file, from the same place, with the same limit. */
static struct id job_key (const struct msg_file *m)
{
	uint8_t digest[DIGEST_SHA256_BYTES];
	struct digest_part parts[] = { { &m->flags, 1 }, { m->digest, FILES_DIGEST }, { &m->max_bytes, sizeof (m->max_bytes) }, { m->url.p, m->url.n } };

	memset (digest, 0, sizeof (digest));
	digest_sha256 (parts, sizeof (parts) / sizeof (parts[0]), digest);
	return key_of (digest);
}

static void hand_out (struct files *f, struct job *j)
{
	int rc = 0;

	pthread_mutex_lock (&f->lock);
	if (f->ntodo >= f->idle && f->nthreads < f->parallel)
		rc = start_thread (f);
	if (f->nthreads) {
		TAILQ_INSERT_TAIL (&f->todo, j, link);
		f->ntodo++;
		pthread_cond_broadcast (&f->wake);	/* those that pause wait there too */
	} else {
		err_set (&j->err, ERR_TASK_FILE, FAULT_SITE, "no thread can be started to bring it: %s", strerror (rc));
		finish (f, j);
	}
	pthread_mutex_unlock (&f->lock);
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
		hand_out (f, j);
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
	pthread_mutex_lock (&f->lock);
	j->stop = true;
	pthread_cond_broadcast (&f->wake);
	pthread_mutex_unlock (&f->lock);
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

static void end_job (struct files *f, struct job *j)
{
	struct entry *e = NULL;
	struct want *w;
	char shown[200];

	if (map_get (f->jobs, &j->key) == j)
		map_del (f->jobs, &j->key);
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

static void on_finished (evutil_socket_t fd, short what, void *arg)
{
	struct files *f = arg;
	struct job *j;
	uint64_t n;

	(void) what;
	if (read (fd, &n, sizeof (n)) < 0 && errno == EAGAIN)
		return;
	for (;;) {
		pthread_mutex_lock (&f->lock);
		if ((j = TAILQ_FIRST (&f->finished)))
			TAILQ_REMOVE (&f->finished, j, link);
		pthread_mutex_unlock (&f->lock);
		if (!j)
			return;
		end_job (f, j);
	}
}

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
	if (m->kind == FILE_OUTPUT)
		return 0;
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
	w->output = m->kind == FILE_OUTPUT;
	n->n++;
	if (w->output)
		return 0;
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

bool need_ready (const struct need *n) { return n->left == 0; }

void need_list (const struct need *n, struct buf *list)
{
	for (size_t i = 0; i < n->n; i++) {
		struct msg_file m = { .kind = n->v[i].output ? FILE_OUTPUT : FILE_INPUT, .name = wire_str (n->v[i].name, strlen (n->v[i].name)) };
		if (!n->v[i].output) {
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
	pthread_condattr_t attr;

	f->loop = l;
	f->fd = -1;
	f->jobs = map_create ();
	f->entries = map_create ();
	f->parallel = o->parallel < 1 ? 1 : o->parallel > THREADS_MAX ? THREADS_MAX : o->parallel;
	TAILQ_INIT (&f->todo);
	TAILQ_INIT (&f->finished);
	pthread_mutex_init (&f->lock, NULL);
	pthread_condattr_init (&attr);
	pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
	pthread_cond_init (&f->wake, &attr);
	pthread_condattr_destroy (&attr);
	f->o = (struct download_opts) { .max_bytes = o->max_bytes, .timeout_ms = o->timeout_ms, .http = o->http, .ca_file = o->ca_file, .from = o->from };
	if (curl_global_init (CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		err_set (err, ERR_INTERNAL, FAULT_SITE, "libcurl cannot be set up");
		goto fail;
	}
	if (!(f->o.cache = filecache_create (o->dir, o->cache_bytes, err)))
		goto fail;
	if ((f->fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 || !(f->ev = event_new (loop_base (l), f->fd, EV_READ | EV_PERSIST, on_finished, f))
	    || event_add (f->ev, NULL) < 0) {
		err_errno (err, "making an eventfd");
		goto fail;
	}
	return f;
fail:
	files_destroy (&f);
	return NULL;
}

static void drop_jobs (struct jobs *list)
{
	struct job *j;

	while ((j = TAILQ_FIRST (list))) {
		TAILQ_REMOVE (list, j, link);
		if (j->fd >= 0)
			close (j->fd);
		free_job (j);
	}
}

void files_destroy (struct files **fp)
{
	struct files *f = *fp;

	if (!f)
		return;
	pthread_mutex_lock (&f->lock);
	f->stop = true;
	pthread_cond_broadcast (&f->wake);
	pthread_mutex_unlock (&f->lock);
	for (unsigned i = 0; i < f->nthreads; i++)
		pthread_join (f->threads[i], NULL);
	drop_jobs (&f->todo);
	drop_jobs (&f->finished);
	if (f->ev)
		event_free (f->ev);
	if (f->fd >= 0)
		close (f->fd);
	filecache_destroy (&f->o.cache);
	map_destroy (&f->jobs);
	map_destroy (&f->entries);
	pthread_mutex_destroy (&f->lock);
	pthread_cond_destroy (&f->wake);
	free (f);
	*fp = NULL;
}

void files_connect (struct files *f, files_f *done, void *arg)
{
	f->done = done;
	f->arg = arg;
}

const char *files_content (const struct files *f) { return filecache_content (f->o.cache); }
