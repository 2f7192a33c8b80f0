/* SPDX-License-Identifier: Apache-2.0 */
/* See syncer.h. */
#include "endpoint/syncer.h"
#include "common/log.h"
#include "common/xmem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WAITING_MAX = 64 };

struct syncer {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int fds[WAITING_MAX];
	int n;
	bool stop, running;
};

static void *run (void *arg)
{
	struct syncer *s = arg;

	pthread_mutex_lock (&s->lock);
	while (!s->stop || s->n) {
		int fd;
		if (!s->n) {
			pthread_cond_wait (&s->wake, &s->lock);
			continue;
		}
		fd = s->fds[--s->n];
		pthread_mutex_unlock (&s->lock);
		/* a failure shows at the next write of the spool, which is the one that matters */
		while (fdatasync (fd) < 0 && errno == EINTR)
			;
		close (fd);
		pthread_mutex_lock (&s->lock);
	}
	pthread_mutex_unlock (&s->lock);
	return NULL;
}

struct syncer *syncer_create (void)
{
	struct syncer *s = xcalloc (1, sizeof (*s));
	sigset_t all, old;
	int rc;

	pthread_mutex_init (&s->lock, NULL);
	pthread_cond_init (&s->wake, NULL);
	sigfillset (&all);
	pthread_sigmask (SIG_BLOCK, &all, &old);
	rc = pthread_create (&s->thread, NULL, run, s);
	pthread_sigmask (SIG_SETMASK, &old, NULL);
	s->running = rc == 0;
	if (rc)
		log_warn ("spool", "no thread for fsync, the spool is not synced", "err=%s", strerror (rc));
	return s;
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
	if (s->running)
		pthread_join (s->thread, NULL);
	pthread_cond_destroy (&s->wake);
	pthread_mutex_destroy (&s->lock);
	free (s);
	*sp = NULL;
}

bool syncer_add (struct syncer *s, int fd)
{
	bool taken = false;
	int copy = s->running ? fcntl (fd, F_DUPFD_CLOEXEC, 0) : -1;

	if (copy < 0)
		return false;
	pthread_mutex_lock (&s->lock);
	if (s->n < WAITING_MAX) {
		s->fds[s->n++] = copy;
		taken = true;
		pthread_cond_signal (&s->wake);
	}
	pthread_mutex_unlock (&s->lock);
	if (!taken)
		close (copy);
	return taken;
}
