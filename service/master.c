/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's life in its slot:
 *
 *   started -> ready (it wrote a byte on its pipe) -> retiring (SIGTERM: it drains) -> gone
 *
 * On SIGHUP a second worker is started in each slot; only when it is ready the first one retires. A worker that dies is replaced at once,
 * then after a pause that doubles while they keep dying young. Workers are tied to the master: they die with it.
 *
 * The listening sockets are the master's, one a slot, made once and never closed before the end: a connection that the kernel has queued for
 * a worker which retires or dies waits there for the next one. When there are fewer slots than there were, the sockets of those that are
 * gone are served by the others. */
#include "service/master.h"
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "service/address.h"
#include "service/first.h"
#include "service/worker.h"

#define MOD "master"
#define SLOTS_MAX 256		/* as many as workers may be configured */
#define SLABS (2 * SLOTS_MAX)	/* a process and the one that replaces it */
#define YOUNG_MS 10000		/* dying before that age counts as failing to start */
#define BACKOFF_MS 200
#define BACKOFF_CAP_MS 2000	/* connections wait meanwhile */
#define KILL_AFTER_MS 5000	/* beyond the drain grace */

struct master;

struct worker {
	struct worker *next;
	struct master *m;
	int slot;
	unsigned slab;			/* where it counts */
	struct spawn *proc;
	int ready_fd;
	struct event *ready_ev;
	int64_t started_ms;
	bool ready, retiring;
};

struct slot { struct master *m; int number, listen_fd, amqp_fd; unsigned failures; struct loop_timer *again; };	/* amqp_fd: -1 when it is not served */

struct master {
	struct loop *loop;
	struct config config;
	const char *path;
	const struct cli_strings *sets;
	char exe[4096], *address, *amqp_listen, *amqp_address;	/* amqp_listen: NULL when that is not served; as at the start */
	struct worker *workers;		/* the newest first */
	struct slot *slots[SLOTS_MAX];
	int nslots, made;		/* in use; ever made */
	int metrics_fd;
	bool stopping;
};

static void start_worker (struct master *m, int slot);

static void retire (struct worker *w)
{
	if (w->retiring)
		return;
	w->retiring = true;
	spawn_stop (w->proc, w->m->config.drain_grace_ms + KILL_AFTER_MS);
}

static void close_ready (struct worker *w)
{
	if (w->ready_ev)
		event_free (w->ready_ev);
	w->ready_ev = NULL;
	if (w->ready_fd >= 0)
		close (w->ready_fd);
	w->ready_fd = -1;
}

static void on_ready (evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	char byte;

	(void) what;
	w->ready = read (fd, &byte, 1) == 1;
	close_ready (w);
	if (!w->ready || w->retiring)
		return; /* it died: its exit tells; or a newer one was faster */
	w->m->slots[w->slot]->failures = 0;
	for (struct worker *o = w->next; o; o = o->next) /* the older ones */
		if (o->slot % w->m->nslots == w->slot)
			retire (o);
}

static bool slot_served (const struct master *m, int slot)
{
	for (const struct worker *w = m->workers; w; w = w->next)
		if (w->slot == slot && !w->retiring)
			return true;
	return false;
}

/* After a death: at once when it is the first in a row. */
static void start_again (struct slot *s)
{
	loop_timer_start (s->again, s->failures ? clock_backoff_ms (s->failures, BACKOFF_MS, BACKOFF_CAP_MS) : 0, false);
}

static void again (void *arg)
{
	struct slot *s = arg;

	if (!s->m->stopping && s->number < s->m->nslots && !slot_served (s->m, s->number))
		start_worker (s->m, s->number);
}

static void on_exit_of (struct spawn *s, pid_t pid, int status, const struct rusage *ru, void *arg)
{
	struct worker *w = arg, **p;
	struct master *m = w->m;
	int slot = w->slot;
	bool wanted = w->retiring, young = clock_now_ms () - w->started_ms < YOUNG_MS;
	char text[64];

	(void) s;
	(void) ru;
	spawn_status_text (status, text);
	if (wanted)
		log_info (MOD, "worker retired", "worker=%d child=%d status=%s", slot, (int) pid, text);
	else
		log_error (MOD, "worker died", "worker=%d child=%d status=%s", slot, (int) pid, text);
	for (p = &m->workers; *p != w; p = &(*p)->next)
		;
	*p = w->next;
	metrics_left (m->metrics_fd, w->slab);
	close_ready (w);
	free (w);
	if (m->stopping) {
		if (!m->workers)
			loop_stop (m->loop);
		return;
	}
	if (slot >= m->nslots || slot_served (m, slot))
		return;
	m->slots[slot]->failures = young && !wanted ? m->slots[slot]->failures + 1 : 0;
	start_again (m->slots[slot]);
}

/* One that nobody has; they share the last when, after many restarts, as many drain. */
static unsigned free_slab (const struct master *m)
{
	const struct worker *w;

	for (unsigned i = 0; i < SLABS - 1; i++) {
		for (w = m->workers; w && w->slab != i; w = w->next)
			;
		if (!w)
			return i;
	}
	return SLABS - 1;
}

static struct spawn *spawn_worker (struct worker *w, int ready_fd, struct err *err)
{
	struct master *m = w->m;
	const char **argv = xcalloc (m->sets->n + 10, sizeof (*argv));
	char index[16], ppid[24], slab[16], count[16], amqp[16];
	struct spawn_fd fds[2 + 2 * SLOTS_MAX] = { { ready_fd, WORKER_READY_FD }, { m->metrics_fd, WORKER_METRICS_FD } };
	struct spawn_opts o = { .argv = argv, .fds = fds, .nfds = 2 };
	struct spawn *proc;
	size_t n = 0;
	int nlisten;

	for (int i = w->slot; i < m->made; i += m->nslots, o.nfds++)
		fds[o.nfds] = (struct spawn_fd) { m->slots[i]->listen_fd, WORKER_LISTEN_FD + (int) o.nfds - 2 };
	nlisten = (int) o.nfds - 2;
	snprintf (count, sizeof (count), "%d", nlisten);
	for (int i = w->slot; i < m->made && m->slots[i]->amqp_fd >= 0; i += m->nslots, o.nfds++)
		fds[o.nfds] = (struct spawn_fd) { m->slots[i]->amqp_fd, WORKER_LISTEN_FD + (int) o.nfds - 2 };
	snprintf (amqp, sizeof (amqp), "%d", (int) o.nfds - 2 - nlisten);
	snprintf (index, sizeof (index), "%d", w->slot);
	snprintf (slab, sizeof (slab), "%u", w->slab);
	snprintf (ppid, sizeof (ppid), "%d", (int) getpid ());
	argv[n++] = m->exe;
	argv[n++] = "--worker";
	argv[n++] = index;
	argv[n++] = ppid;
	argv[n++] = slab;
	argv[n++] = count;
	argv[n++] = amqp;
	argv[n++] = m->path ? m->path : "";
	for (size_t i = 0; i < m->sets->n; i++)
		argv[n++] = m->sets->v[i];
	proc = spawn_start (m->loop, &o, on_exit_of, w, err);
	free (argv);
	return proc;
}

static void start_worker (struct master *m, int slot)
{
	struct worker *w = xcalloc (1, sizeof (*w));
	struct err err;
	int fds[2];

	w->m = m;
	w->slot = slot;
	w->slab = free_slab (m);
	w->ready_fd = -1;
	w->started_ms = clock_now_ms ();
	if (pipe2 (fds, O_CLOEXEC) < 0) {
		log_error (MOD, "no pipe for a worker", NULL);
		goto fail;
	}
	w->ready_fd = fds[0];
	w->proc = spawn_worker (w, fds[1], &err);
	close (fds[1]);
	if (!w->proc) {
		log_err (LOG_ERROR, MOD, "worker not started", &err);
		goto fail;
	}
	w->ready_ev = event_new (loop_base (m->loop), w->ready_fd, EV_READ, on_ready, w);
	event_add (w->ready_ev, NULL);
	w->next = m->workers;
	m->workers = w;
	log_info (MOD, "worker started", "worker=%d child=%d", slot, (int) spawn_pid (w->proc));
	return;
fail:
	close_ready (w);
	free (w);
	m->slots[slot]->failures++;
	start_again (m->slots[slot]);
}

/* The first one finds out what the address is. */
static int bind_one (const char *listen, char **address, struct err *err)
{
	return *address ? address_bind (*address, NULL, err) : address_bind (listen, address, err);
}

/* Have at least n; on failure those that there were. */
static int make_slots (struct master *m, int n, struct err *err)
{
	for (; m->made < n; m->made++) {
		int fd = bind_one (m->config.listen, &m->address, err), amqp = -1;
		struct slot *s;

		if (fd < 0)
			return -1;
		if (m->amqp_listen && (amqp = bind_one (m->amqp_listen, &m->amqp_address, err)) < 0) {
			err_prefix (err, "amqp");
			close (fd);
			return -1;
		}
		s = m->slots[m->made] = xcalloc (1, sizeof (*s));
		*s = (struct slot) { m, m->made, fd, amqp, 0, loop_timer_create (m->loop, again, s) };
	}
	return 0;
}

static void start_workers (struct master *m)
{
	m->nslots = (int) m->config.workers;
	for (int i = 0; i < m->nslots; i++)
		start_worker (m, i);
}

/* What is queued on them is left to the workers, who close them too when they drain. */
static void close_slots (struct master *m)
{
	for (int i = 0; i < m->made; i++) {
		if (m->slots[i]->listen_fd >= 0)
			close (m->slots[i]->listen_fd);
		m->slots[i]->listen_fd = -1;
		if (m->slots[i]->amqp_fd >= 0)
			close (m->slots[i]->amqp_fd);
		m->slots[i]->amqp_fd = -1;
	}
}

/* ---- signals ---------------------------------------------------------------------------------------------------- */

static void on_hup (int signo, void *arg)
{
	struct master *m = arg;
	struct config fresh;
	struct buf report;
	struct err err;

	(void) signo;
	if (m->stopping)
		return;
	if (log_reopen (&err) < 0)
		log_err (LOG_ERROR, MOD, "log not reopened", &err);
	buf_init (&report, 1 << 20);
	if (config_load (m->path, m->sets->v, &fresh, &report, &err) < 0) {
		log_error (MOD, "new configuration refused, the old one stays", "problems=%s", report.len ? (char *) report.data : err.text);
		buf_fini (&report);
		return;
	}
	buf_fini (&report);
	if (make_slots (m, (int) fresh.workers, &err) < 0) {
		log_err (LOG_ERROR, MOD, "new configuration refused, the old one stays", &err);
		config_free (&fresh);
		return;
	}
	if (strcmp (fresh.listen, m->config.listen) || !fresh.amqp_listen != !m->amqp_listen ||
	    (m->amqp_listen && strcmp (fresh.amqp_listen, m->amqp_listen)))
		log_warn (MOD, "a changed listen address takes effect with a restart only", "listen=%s amqp=%s", fresh.listen,
			  fresh.amqp_listen);
	log_info (MOD, "replacing the workers", NULL);
	config_free (&m->config);
	m->config = fresh;
	start_workers (m);
}

static void on_stop (int signo, void *arg)
{
	struct master *m = arg;

	if (m->stopping)
		return;
	log_info (MOD, "stopping", "signal=%d", signo);
	m->stopping = true;
	close_slots (m);
	if (!m->workers)
		loop_stop (m->loop);
	for (struct worker *w = m->workers; w; w = w->next)
		retire (w);
}

/* ---- main ------------------------------------------------------------------------------------------------------- */

int master_load (const char *path, const char *const *sets, struct config *c)
{
	struct buf report;
	struct err err;

	buf_init (&report, 1 << 20);
	if (config_load (path, sets, c, &report, &err) == 0) {
		buf_fini (&report);
		return 0;
	}
	conf_say_problems ("weft-service", &report, &err, stderr);
	buf_fini (&report);
	return -1;
}

static int master_up (struct master *m, struct err *err)
{
	ssize_t n = readlink ("/proc/self/exe", m->exe, sizeof (m->exe) - 1);

	if (n <= 0)
		return err_errno (err, "finding our own program");
	m->exe[n] = 0;
	if (first_start (&m->config, err) < 0)
		return -1;
	m->amqp_listen = xstrdup (m->config.amqp_listen);
	if ((m->metrics_fd = metrics_area (SLABS, err)) < 0 || !(m->loop = loop_create (err)) || make_slots (m, (int) m->config.workers, err) < 0)
		return -1;
	if (loop_signal (m->loop, SIGHUP, on_hup, m, err) < 0 || loop_signal (m->loop, SIGTERM, on_stop, m, err) < 0 ||
	    loop_signal (m->loop, SIGINT, on_stop, m, err) < 0)
		return -1;
	start_workers (m);
	return 0;
}

static void master_down (struct master *m)
{
	close_slots (m);
	for (int i = 0; i < m->made; i++) {
		loop_timer_destroy (&m->slots[i]->again);
		free (m->slots[i]);
	}
	loop_destroy (&m->loop);
	if (m->metrics_fd >= 0)
		close (m->metrics_fd);
	config_free (&m->config);
	free (m->address);
	free (m->amqp_listen);
	free (m->amqp_address);
}

int master_run (const char *path, const struct cli_strings *sets)
{
	struct master m = { .path = path, .sets = sets, .metrics_fd = -1 };
	struct err err;
	int status = 1;

	if (master_load (path, sets->v, &m.config) < 0)
		return 1;
	signal (SIGPIPE, SIG_IGN);
	if (log_open ("weft-service", m.config.log_file, (enum log_level) m.config.log_level, &err) < 0 || master_up (&m, &err) < 0) {
		fprintf (stderr, "weft-service: %s\n", err.text);
		log_err (LOG_ERROR, MOD, "not started", &err);
	} else {
		log_info (MOD, "started", "version=%s address=%s amqp=%s workers=%d", WEFT_VERSION, m.address, m.amqp_address,
			  m.nslots);
		loop_run (m.loop);
		log_info (MOD, "stopped", NULL);
		status = 0;
	}
	master_down (&m);
	return status;
}
