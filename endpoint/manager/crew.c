/* SPDX-License-Identifier: Apache-2.0 */
/* See crew.h. Threads take jobs from `todo` and put them into `finished`; both lists are under `lock`. */
#include "endpoint/manager/crew.h"
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "common/log.h"
#include "common/xmem.h"

#define THREADS_MAX 32

TAILQ_HEAD (jobs, crew_job);

struct crew {
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

bool crew_pause (struct crew_job *j, int64_t ms)
{
	struct crew *c = j->crew;
	struct timespec until;
	bool stop;

	clock_gettime (CLOCK_MONOTONIC, &until);
	until.tv_sec += (ms + until.tv_nsec / 1000000) / 1000;
	until.tv_nsec = (ms + until.tv_nsec / 1000000) % 1000 * 1000000;
	pthread_mutex_lock (&c->lock);
	while (ms && !j->stop && !c->stop && pthread_cond_timedwait (&c->wake, &c->lock, &until) != ETIMEDOUT)
		;
	stop = j->stop || c->stop;
	pthread_mutex_unlock (&c->lock);
	return stop;
}

/* Locked. */
static void finish (struct crew *c, struct crew_job *j)
{
	uint64_t one = 1;

	TAILQ_INSERT_TAIL (&c->finished, j, link);
	if (write (c->fd, &one, sizeof (one)) < 0)
		log_error ("crew", "waking the loop failed", NULL);
}

static void *work (void *arg)
{
	struct crew *c = arg;
	struct crew_job *j;

	pthread_mutex_lock (&c->lock);
	while (!c->stop) {
		if (!(j = TAILQ_FIRST (&c->todo))) {
			c->idle++;
			pthread_cond_wait (&c->wake, &c->lock);
			c->idle--;
			continue;
		}
		TAILQ_REMOVE (&c->todo, j, link);
		c->ntodo--;
		if (!j->stop) {
			pthread_mutex_unlock (&c->lock);
			j->run (j);
			pthread_mutex_lock (&c->lock);
		}
		finish (c, j);
	}
	pthread_mutex_unlock (&c->lock);
	return NULL;
}

/* 0, or the reason why there is none. */
static int start_thread (struct crew *c)
{
	sigset_t all, old;
	int rc;

	sigfillset (&all);
	pthread_sigmask (SIG_BLOCK, &all, &old);
	rc = pthread_create (&c->threads[c->nthreads], NULL, work, c);
	pthread_sigmask (SIG_SETMASK, &old, NULL);
	c->nthreads += rc == 0;
	return rc;
}

/* ---- jobs ---- */

void crew_do (struct crew *c, struct crew_job *j)
{
	int rc = 0;

	j->crew = c;
	pthread_mutex_lock (&c->lock);
	if (c->ntodo >= c->idle && c->nthreads < c->parallel)
		rc = start_thread (c);
	if (c->nthreads) {
		TAILQ_INSERT_TAIL (&c->todo, j, link);
		c->ntodo++;
		pthread_cond_broadcast (&c->wake);	/* those that pause wait there too */
	} else {
		j->trouble = rc;
		finish (c, j);
	}
	pthread_mutex_unlock (&c->lock);
}

void crew_stop (struct crew_job *j)
{
	struct crew *c = j->crew;

	pthread_mutex_lock (&c->lock);
	j->stop = true;
	pthread_cond_broadcast (&c->wake);
	pthread_mutex_unlock (&c->lock);
}

static void on_finished (evutil_socket_t fd, short what, void *arg)
{
	struct crew *c = arg;
	struct crew_job *j;
	uint64_t n;

	(void) what;
	if (read (fd, &n, sizeof (n)) < 0 && errno == EAGAIN)
		return;
	for (;;) {
		pthread_mutex_lock (&c->lock);
		if ((j = TAILQ_FIRST (&c->finished)))
			TAILQ_REMOVE (&c->finished, j, link);
		pthread_mutex_unlock (&c->lock);
		if (!j)
			return;
		j->done (j);
	}
}

/* ---- life ---- */

struct crew *crew_create (struct loop *l, unsigned parallel, struct err *err)
{
	struct crew *c = xcalloc (1, sizeof (*c));
	pthread_condattr_t attr;

	c->parallel = parallel < 1 ? 1 : parallel > THREADS_MAX ? THREADS_MAX : parallel;
	TAILQ_INIT (&c->todo);
	TAILQ_INIT (&c->finished);
	pthread_mutex_init (&c->lock, NULL);
	pthread_condattr_init (&attr);
	pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
	pthread_cond_init (&c->wake, &attr);
	pthread_condattr_destroy (&attr);
	if ((c->fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 || !(c->ev = event_new (loop_base (l), c->fd, EV_READ | EV_PERSIST, on_finished, c))
	    || event_add (c->ev, NULL) < 0) {
		err_errno (err, "making an eventfd");
		crew_destroy (&c);
	}
	return c;
}

static void drop_all (struct jobs *list)
{
	struct crew_job *j;

	while ((j = TAILQ_FIRST (list))) {
		TAILQ_REMOVE (list, j, link);
		j->drop (j);
	}
}

void crew_destroy (struct crew **cp)
{
	struct crew *c = *cp;

	if (!c)
		return;
	pthread_mutex_lock (&c->lock);
	c->stop = true;
	pthread_cond_broadcast (&c->wake);
	pthread_mutex_unlock (&c->lock);
	for (unsigned i = 0; i < c->nthreads; i++)
		pthread_join (c->threads[i], NULL);
	drop_all (&c->todo);
	drop_all (&c->finished);
	if (c->ev)
		event_free (c->ev);
	if (c->fd >= 0)
		close (c->fd);
	pthread_mutex_destroy (&c->lock);
	pthread_cond_destroy (&c->wake);
	free (c);
	*cp = NULL;
}
