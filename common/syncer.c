/* SPDX-License-Identifier: Apache-2.0 */
/* See syncer.h. */
#include "common/syncer.h"
#include "common/log.h"
#include "common/xmem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	SINGLE_MAX = 16,		/* more files than that: the whole file system */
	LIST_MAX = 4096,		/* more than that: the same */
	RECENT = 8,			/* so many added last are not added again */
};

struct list { char (*names)[SYNCER_NAME_MAX + 1]; size_t n; bool more; };

struct syncer {
	int dirfd;
	int64_t delay_ms;
	const char *what;
	syncer_wanted_f *wanted;
	syncer_synced_f *synced;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list fresh, aged, work;	/* work: the thread's own */
	bool stop;
};

static void failed (const struct syncer *s, const char *name)
{
	log_warn ("syncer", "a file is not certainly on disk", "what=%s file=%s err=%s", s->what, name, strerror (errno));
}

/* A file that is gone needs no syncing. The directory holds its name, so that is synced too. */
static void sync_file (const struct syncer *s, const char *name)
{
	int fd = openat (s->dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		if (errno != ENOENT)
			failed (s, name);
		return;
	}
	if (fdatasync (fd) < 0)
		failed (s, name);
	else if (s->synced)
		s->synced (fd, name);
	close (fd);
}

/* All that was added before the last pass stands there almost as long as the time between two. */
static bool is_wanted (const struct syncer *s, const char *name, bool all)
{
	return faccessat (s->dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (!s->wanted || s->wanted (s->dirfd, name, all ? 0 : s->delay_ms * 9 / 10));
}

static void sync_list (const struct syncer *s, struct list *l, bool all)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n && n <= SINGLE_MAX; i++)
		if (is_wanted (s, l->names[i], all))
			memmove (l->names[n++], l->names[i], sizeof (l->names[i]));
	if (n > SINGLE_MAX || l->more) {
		if (syncfs (s->dirfd) < 0)
			failed (s, ".");
	} else if (n) {
		for (size_t i = 0; i < n; i++)
			sync_file (s, l->names[i]);
		if (fsync (s->dirfd) < 0)
			failed (s, ".");
	}
	l->n = 0;
	l->more = false;
}

/* Until the delay is over; lock held. */
static void pause_ms (struct syncer *s)
{
	struct timespec at;

	clock_gettime (CLOCK_MONOTONIC, &at);
	at.tv_sec += s->delay_ms / 1000;
	at.tv_nsec += s->delay_ms % 1000 * 1000000;
	if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	while (!s->stop && pthread_cond_timedwait (&s->wake, &s->lock, &at) != ETIMEDOUT)
		;
}

static void *run (void *arg)
{
	struct syncer *s = arg;
	char name[16];
	bool stop;

	snprintf (name, sizeof (name), "sync-%.10s", s->what);
	pthread_setname_np (pthread_self (), name);
	pthread_mutex_lock (&s->lock);
	while (!s->stop || s->fresh.n || s->aged.n) {
		struct list done = s->work;
		if (!s->fresh.n && !s->aged.n) {
			pthread_cond_wait (&s->wake, &s->lock);
			continue;
		}
		if (s->delay_ms) {
			pause_ms (s);
			s->work = s->aged;
			s->aged = s->fresh;
		} else {
			s->work = s->fresh;
		}
		s->fresh = done;
		stop = s->stop;
		pthread_mutex_unlock (&s->lock);
		sync_list (s, &s->work, stop);
		pthread_mutex_lock (&s->lock);
	}
	pthread_mutex_unlock (&s->lock);
	return NULL;
}

static void init_wake (struct syncer *s)
{
	pthread_condattr_t a;

	pthread_condattr_init (&a);
	pthread_condattr_setclock (&a, CLOCK_MONOTONIC);
	pthread_cond_init (&s->wake, &a);
	pthread_condattr_destroy (&a);
}

static void free_all (struct syncer *s)
{
	pthread_cond_destroy (&s->wake);
	pthread_mutex_destroy (&s->lock);
	if (s->dirfd >= 0)
		close (s->dirfd);
	free (s->fresh.names);
	free (s->aged.names);
	free (s->work.names);
	free (s);
}

/* Signals are the main thread's. 0, or an errno. */
static int start (struct syncer *s)
{
	sigset_t all, old;
	int rc;

	sigfillset (&all);
	pthread_sigmask (SIG_BLOCK, &all, &old);
	rc = pthread_create (&s->thread, NULL, run, s);
	pthread_sigmask (SIG_SETMASK, &old, NULL);
	return rc;
}

struct syncer *syncer_create (int dirfd, int64_t delay_ms, const char *what, syncer_wanted_f *wanted, syncer_synced_f *synced)
{
	struct syncer *s = xcalloc (1, sizeof (*s));
	int rc;

	s->delay_ms = delay_ms;
	s->what = what;
	s->wanted = wanted;
	s->synced = synced;
	s->fresh.names = xcalloc (LIST_MAX, sizeof (*s->fresh.names));
	s->aged.names = xcalloc (LIST_MAX, sizeof (*s->aged.names));
	s->work.names = xcalloc (LIST_MAX, sizeof (*s->work.names));
	pthread_mutex_init (&s->lock, NULL);
	init_wake (s);
	s->dirfd = fcntl (dirfd, F_DUPFD_CLOEXEC, 0);
	rc = s->dirfd < 0 ? errno : start (s);
	if (rc) {
		log_warn ("syncer", "no thread for fsync: files are synced when the system does it", "what=%s err=%s", what, strerror (rc));
		free_all (s);
		return NULL;
	}
	return s;
}

/* Files that grow are added again and again, a few of them in turn. */
static bool just_added (const struct list *l, const char *name)
{
	for (size_t i = l->n; i > 0 && i + RECENT > l->n; i--)
		if (!strcmp (l->names[i - 1], name))
			return true;
	return false;
}

void syncer_add (struct syncer *s, const char *name)
{
	if (!s)
		return;
	assert (strlen (name) <= SYNCER_NAME_MAX);
	pthread_mutex_lock (&s->lock);
	if (!s->fresh.n && !s->aged.n)
		pthread_cond_signal (&s->wake);
	if (just_added (&s->fresh, name))
		;
	else if (s->fresh.n < LIST_MAX)
		strcpy (s->fresh.names[s->fresh.n++], name);
	else
		s->fresh.more = true;
	pthread_mutex_unlock (&s->lock);
}

void syncer_destroy (struct syncer **sp)
{
	struct syncer *s = *sp;

	if (!s)
		return;
	pthread_mutex_lock (&s->lock);
	s->stop = true;
	pthread_cond_signal (&s->wake);
	pthread_mutex_unlock (&s->lock);
	pthread_join (s->thread, NULL);
	free_all (s);
	*sp = NULL;
}
