/* SPDX-License-Identifier: Apache-2.0 */
/* Each second the thread works on what was added in the second before; what is gone by then is left out. Many files are synced by one
 * call for the whole file system, which then is cheaper than a journal commit for each of them. */
#include "proto/bulk_sync.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/log.h"
#include "common/xmem.h"

#define EACH_MS 1000
#define SINGLE_MAX 16		/* more of them: the whole file system */
#define LIST_MAX 4096		/* more than that: the same */

struct list { char (*names)[BULK_NAME_MAX + 1]; size_t n; bool more; };

struct bulk_sync {
	const struct bulk *b;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list fresh, aged, work;	/* work: the thread's own */
	bool stop;
};

/* A failure shows when the file is read; there is nobody to tell now. */
static void sync_list (const struct bulk *b, struct list *l)
{
	size_t n = 0;
	for (size_t i = 0; i < l->n && n <= SINGLE_MAX; i++)
		if (bulk_exists (b, l->names[i]))
			memmove (l->names[n++], l->names[i], sizeof (l->names[i]));
	if (n > SINGLE_MAX || l->more)
		bulk_sync_all (b);
	else
		for (size_t i = 0; i < n; i++)
			bulk_sync_file (b, l->names[i]);
	l->n = 0;
	l->more = false;
}

static void *run (void *arg)
{
	struct bulk_sync *s = arg;
	pthread_mutex_lock (&s->lock);
	while (!s->stop || s->fresh.n || s->aged.n) {
		while (!s->stop && !s->fresh.n && !s->aged.n)
			pthread_cond_wait (&s->wake, &s->lock);
		struct timespec at;
		struct list done = s->work;
		clock_gettime (CLOCK_MONOTONIC, &at);
		at.tv_sec += EACH_MS / 1000;
		while (!s->stop && pthread_cond_timedwait (&s->wake, &s->lock, &at) != ETIMEDOUT)
			;
		s->work = s->aged;
		s->aged = s->fresh;
		s->fresh = done;
		pthread_mutex_unlock (&s->lock);
		sync_list (s->b, &s->work);
		pthread_mutex_lock (&s->lock);
	}
	pthread_mutex_unlock (&s->lock);
	return NULL;
}

static void init_wake (struct bulk_sync *s)
{
	pthread_condattr_t a;
	pthread_condattr_init (&a);
	pthread_condattr_setclock (&a, CLOCK_MONOTONIC);
	pthread_cond_init (&s->wake, &a);
	pthread_condattr_destroy (&a);
}

static void free_all (struct bulk_sync *s)
{
	pthread_cond_destroy (&s->wake);
	pthread_mutex_destroy (&s->lock);
	free (s->fresh.names);
	free (s->aged.names);
	free (s->work.names);
	free (s);
}

struct bulk_sync *bulk_sync_create (const struct bulk *b)
{
	struct bulk_sync *s = xcalloc (1, sizeof (*s));
	sigset_t all, old;
	int rc;
	s->b = b;
	s->fresh.names = xcalloc (LIST_MAX, sizeof (*s->fresh.names));
	s->aged.names = xcalloc (LIST_MAX, sizeof (*s->aged.names));
	s->work.names = xcalloc (LIST_MAX, sizeof (*s->work.names));
	pthread_mutex_init (&s->lock, NULL);
	init_wake (s);
	sigfillset (&all);
	pthread_sigmask (SIG_BLOCK, &all, &old);
	rc = pthread_create (&s->thread, NULL, run, s);
	pthread_sigmask (SIG_SETMASK, &old, NULL);
	if (rc == 0)
		return s;
	log_warn ("bulk", "no thread for fsync: the store is synced when the system does it", "err=%s", strerror (rc));
	free_all (s);
	return NULL;
}

void bulk_sync_add (struct bulk_sync *s, const char *name)
{
	if (!s)
		return;
	pthread_mutex_lock (&s->lock);
	if (!s->fresh.n && !s->aged.n)
		pthread_cond_signal (&s->wake);
	if (s->fresh.n < LIST_MAX)
		strcpy (s->fresh.names[s->fresh.n++], name);
	else
		s->fresh.more = true;
	pthread_mutex_unlock (&s->lock);
}

void bulk_sync_destroy (struct bulk_sync **sp)
{
	struct bulk_sync *s = *sp;
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
