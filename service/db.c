/* SPDX-License-Identifier: Apache-2.0 */
#include "service/db.h"
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/xmem.h"

#define MOD "db"
#define AUDIT_FLUSH_MS 200
#define AUDIT_MAX 10000		/* rows that may wait; more are dropped and counted */
#define AUDIT_LOOKBACK 32	/* rows searched for an equal one */

struct job { struct job *next; db_work_f *work; loop_f *done; void *arg; };
struct queue { struct job *first, **tail; size_t n; };

struct db {
	struct registry *r;		/* the thread's */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct queue todo, finished;	/* under lock */
	bool stop, running;
	int fd;				/* eventfd: something finished */
	struct event *ev;
	struct loop_timer *flush;
	struct reg_audit *audit;	/* the loop's */
	size_t naudit;
	bool audit_busy;
	struct metric *m_dropped, *m_audit;
};

static void push (struct queue *q, struct job *j)
{
	j->next = NULL;
	if (!q->first)
		q->tail = &q->first;
	*q->tail = j;
	q->tail = &j->next;
	q->n++;
}

static struct job *take_all (struct queue *q)
{
	struct job *j = q->first;

	q->first = NULL;
	q->n = 0;
	return j;
}

static void *thread_main (void *arg)
{
	struct db *d = arg;
	uint64_t one = 1;

	pthread_mutex_lock (&d->lock);
	for (;;) {
		struct job *j = d->todo.first;
		if (!j && d->stop)
			break;
		if (!j) {
			pthread_cond_wait (&d->wake, &d->lock);
			continue;
		}
		if (!(d->todo.first = j->next))
			d->todo.tail = &d->todo.first;
		d->todo.n--;
		pthread_mutex_unlock (&d->lock);
		j->work (d->r, j->arg);
		pthread_mutex_lock (&d->lock);
		push (&d->finished, j);
		if (write (d->fd, &one, sizeof (one)) < 0)
			log_error (MOD, "waking the loop failed", NULL);
	}
	pthread_mutex_unlock (&d->lock);
	return NULL;
}

static void run_finished (struct db *d)
{
	struct job *j, *next;

	pthread_mutex_lock (&d->lock);
	j = take_all (&d->finished);
	pthread_mutex_unlock (&d->lock);
	for (; j; j = next) {
		next = j->next;
		if (j->done)
			j->done (j->arg);
		free (j);
	}
}

static void on_finished (evutil_socket_t fd, short what, void *arg)
{
	uint64_t n;
	ssize_t got = read (fd, &n, sizeof (n));

	(void) what;
	(void) got; /* only a wake-up; the list says what is there */
	run_finished (arg);
}

void db_run (struct db *d, db_work_f *work, loop_f *done, void *arg)
{
	struct job *j = xcalloc (1, sizeof (*j));

	*j = (struct job) { NULL, work, done, arg };
	pthread_mutex_lock (&d->lock);
	push (&d->todo, j);
	pthread_cond_signal (&d->wake);
	pthread_mutex_unlock (&d->lock);
}

size_t db_waiting (struct db *d)
{
	size_t n;

	pthread_mutex_lock (&d->lock);
	n = d->todo.n;
	pthread_mutex_unlock (&d->lock);
	return n;
}

/* ---- audit ------------------------------------------------------------------------------------------------------ */

struct audit_job { struct db *db; struct reg_audit *rows; size_t n; int rc; struct err err; };

static void audit_work (struct registry *r, void *arg)
{
	struct audit_job *a = arg;

	a->rc = registry_audit (r, a->rows, a->n, &a->err);
}

static void audit_done (void *arg)
{
	struct audit_job *a = arg;

	a->db->audit_busy = false;
	if (a->rc < 0) {
		log_err (LOG_ERROR, MOD, "audit log not written", &a->err);
		metric_add (a->db->m_dropped, (int64_t) a->n);
	} else
		metric_add (a->db->m_audit, (int64_t) a->n);
	if (a->db->naudit && !loop_timer_pending (a->db->flush))
		loop_timer_start (a->db->flush, AUDIT_FLUSH_MS, false);
	free (a->rows);
	free (a);
}

static void flush_audit (void *arg)
{
	struct db *d = arg;
	struct audit_job *a;

	if (!d->naudit || d->audit_busy)
		return;
	a = xcalloc (1, sizeof (*a));
	*a = (struct audit_job) { .db = d, .rows = d->audit, .n = d->naudit };
	d->audit = NULL;
	d->naudit = 0;
	d->audit_busy = true;
	db_run (d, audit_work, audit_done, a);
}

static struct reg_audit *same_submission (struct db *d, const struct id *actor, const char *action, const char *object)
{
	size_t low = d->naudit > AUDIT_LOOKBACK ? d->naudit - AUDIT_LOOKBACK : 0;

	for (size_t i = d->naudit; i > low; i--) {
		struct reg_audit *a = &d->audit[i - 1];
		if (a->action == action && id_eq (&a->actor, actor) && !strcmp (a->object, object))
			return a;
	}
	return NULL;
}

void db_audit (struct db *d, const struct id *actor, const char *action, const char *object, const char *peer, size_t peer_n, int64_t items)
{
	struct reg_audit *a = same_submission (d, actor, action, object);

	if (a) {
		a->requests++;
		a->items += items;
		return;
	}
	if (d->naudit >= AUDIT_MAX) {
		metric_add (d->m_dropped, 1);
		log_error (MOD, "audit log falls behind, entries dropped", NULL);
		return;
	}
	if (!d->audit)
		d->audit = xcalloc (AUDIT_MAX, sizeof (*d->audit)); /* pages are touched as they are used */
	a = &d->audit[d->naudit++];
	*a = (struct reg_audit) { .at_ms = clock_real_ns () / 1000000, .actor = *actor, .action = action, .requests = 1, .items = items };
	snprintf (a->object, sizeof (a->object), "%s", object);
	snprintf (a->peer, sizeof (a->peer), "%.*s", (int) peer_n, peer ? peer : "");
	if (!loop_timer_pending (d->flush))
		loop_timer_start (d->flush, AUDIT_FLUSH_MS, false);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

struct db *db_create (struct loop *l, const char *path, int64_t busy_timeout_ms, struct err *err)
{
	struct db *d = xcalloc (1, sizeof (*d));

	d->fd = -1;
	pthread_mutex_init (&d->lock, NULL);
	pthread_cond_init (&d->wake, NULL);
	if (registry_open (&d->r, path, busy_timeout_ms, err) < 0)
		goto fail;
	if ((d->fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
		err_errno (err, "eventfd");
		goto fail;
	}
	d->ev = event_new (loop_base (l), d->fd, EV_READ | EV_PERSIST, on_finished, d);
	event_add (d->ev, NULL);
	d->flush = loop_timer_create (l, flush_audit, d);
	d->m_dropped = metrics_counter ("weft_audit_dropped_total", NULL, "Audit rows that could not be written");
	d->m_audit = metrics_counter ("weft_audit_rows_total", NULL, "Audit rows written");
	if (pthread_create (&d->thread, NULL, thread_main, d)) {
		err_set (err, ERR_INTERNAL, FAULT_SELF, "starting the registry thread failed");
		goto fail;
	}
	d->running = true;
	return d;
fail:
	db_destroy (&d);
	return NULL;
}

void db_destroy (struct db **dp)
{
	struct db *d = *dp;

	if (!d)
		return;
	if (d->running) {
		d->audit_busy = false;
		flush_audit (d);
		pthread_mutex_lock (&d->lock);
		d->stop = true;
		pthread_cond_signal (&d->wake);
		pthread_mutex_unlock (&d->lock);
		pthread_join (d->thread, NULL);
		run_finished (d);
	}
	loop_timer_destroy (&d->flush);
	if (d->ev)
		event_free (d->ev);
	if (d->fd >= 0)
		close (d->fd);
	registry_close (&d->r);
	free (d->audit);
	pthread_mutex_destroy (&d->lock);
	pthread_cond_destroy (&d->wake);
	free (d);
	*dp = NULL;
}
