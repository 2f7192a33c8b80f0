/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes.
 *
 * The table of living children is one per process, since wait() is. Each loop that starts children watches SIGCHLD
 * once. Only pids that are in the table are waited for: the children of libraries are not ours. The exception is a
 * subreaper, which inherits orphans that nobody else will ever collect: then unknown zombies are collected too.
 *
 * A pid is signalled only while its child is unreaped (alive or zombie): until then the kernel gives neither the pid
 * nor the group id to anyone else. */
#include "common/spawn.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop_internal.h"
#include "common/spawn_tied.h"
#include "common/xmem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SPAWN_FDS_MAX = 300, SPAWN_FD_HIGHEST = 511, STRAY_PIDS_MAX = 4096 };

struct spawn {
	LIST_ENTRY (spawn) link;	/* of the table */
	struct loop *loop;		/* borrowed; NULL: destroyed before the child ended */
	pid_t pid;
	bool leads_group;
	bool reaped;
	bool stopping;			/* spawn_stop was called: what is left of the group dies with its leader */
	struct loop_timer *grace;	/* owned; NULL until spawn_stop */
	spawn_exit_f *cb;		/* NULL: forgotten */
	void *arg;
};

struct watched {
	LIST_ENTRY (watched) link;
	struct loop *loop;
};

static LIST_HEAD (, spawn) table = LIST_HEAD_INITIALIZER (table);
static LIST_HEAD (, watched) loops = LIST_HEAD_INITIALIZER (loops);
static bool subreaper;

static void on_sigchld (int signo, void *arg);

/* ---- the loops we watch ---- */

static void loop_gone (void *arg)
{
	struct watched *w = arg;
	struct spawn *s;

	LIST_FOREACH (s, &table, link)
		if (s->loop == w->loop) {
			loop_timer_destroy (&s->grace);
			s->loop = NULL;
			s->cb = NULL;
		}
	LIST_REMOVE (w, link);
	free (w);
}

static int watch_loop (struct loop *l, struct err *err)
{
	struct watched *w;

	LIST_FOREACH (w, &loops, link)
		if (w->loop == l)
			return 0;
	if (loop_signal (l, SIGCHLD, on_sigchld, NULL, err) < 0)
		return -1;
	w = xcalloc (1, sizeof (*w));
	w->loop = l;
	LIST_INSERT_HEAD (&loops, w, link);
	loop_on_destroy (l, loop_gone, w);
	return 0;
}

/* ---- starting ---- */

struct plan {
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int tmp[SPAWN_FDS_MAX]; /* copies of the descriptors to hand over, above every target */
	size_t ntmp;
	bool fa_made, attr_made;
};

static void plan_fini (struct plan *p)
{
	int saved = errno;

	for (size_t i = 0; i < p->ntmp; i++)
		close (p->tmp[i]);
	if (p->fa_made)
		posix_spawn_file_actions_destroy (&p->fa);
	if (p->attr_made)
		posix_spawnattr_destroy (&p->attr);
	errno = saved;
}

static bool named (const struct spawn_opts *o, int to)
{
	for (size_t i = 0; i < o->nfds; i++)
		if (o->fds[i].to == to)
			return true;
	return false;
}

/* Each source is copied above all targets first: targets may overlap sources in any order. Returns the highest target. */
static int plan_copies (struct plan *p, const struct spawn_opts *o, struct err *err)
{
	int top = 2;

	if (o->nfds > SPAWN_FDS_MAX)
		return err_set (err, ERR_LIMIT, FAULT_SELF, "more than %d descriptors for a child", SPAWN_FDS_MAX);
	for (size_t i = 0; i < o->nfds; i++) {
		if (o->fds[i].to < 0 || o->fds[i].to > SPAWN_FD_HIGHEST)
			return err_set (err, ERR_INVALID, FAULT_SELF, "descriptor %d for a child is not within 0..%d",
					o->fds[i].to, SPAWN_FD_HIGHEST);
		if (o->fds[i].to > top)
			top = o->fds[i].to;
	}
	for (size_t i = 0; i < o->nfds; i++) {
		int fd = fcntl (o->fds[i].from, F_DUPFD_CLOEXEC, top + 1);
		if (fd < 0)
			return err_errno (err, "handing descriptor %d to a child", o->fds[i].from);
		p->tmp[p->ntmp++] = fd;
	}
	return top;
}

static int plan_fds (struct plan *p, const struct spawn_opts *o, int top, struct err *err)
{
	int rc = 0;

	if (!named (o, 0))
		rc = posix_spawn_file_actions_addopen (&p->fa, 0, "/dev/null", O_RDONLY, 0);
	for (size_t i = 0; rc == 0 && i < o->nfds; i++)
		rc = posix_spawn_file_actions_adddup2 (&p->fa, p->tmp[i], o->fds[i].to);
	for (int fd = 3; rc == 0 && fd <= top; fd++)
		if (!named (o, fd))
			rc = posix_spawn_file_actions_addclose (&p->fa, fd);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np (&p->fa, top + 1);
	if (rc == 0 && o->cwd)
		rc = posix_spawn_file_actions_addchdir_np (&p->fa, o->cwd);
	if (rc != 0) {
		errno = rc;
		return err_errno (err, "preparing a child's descriptors");
	}
	return 0;
}

static int plan_attr (struct plan *p, const struct spawn_opts *o, struct err *err)
{
	short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
	sigset_t all, none;
	int rc;

	sigfillset (&all);
	sigemptyset (&none);
	if (o->new_session)
		flags |= POSIX_SPAWN_SETSID;
	else if (!o->same_group)
		flags |= POSIX_SPAWN_SETPGROUP;
	if ((rc = posix_spawnattr_setflags (&p->attr, flags)) != 0 ||
	    (rc = posix_spawnattr_setpgroup (&p->attr, 0)) != 0 ||
	    (rc = posix_spawnattr_setsigdefault (&p->attr, &all)) != 0 ||
	    (rc = posix_spawnattr_setsigmask (&p->attr, &none)) != 0) {
		errno = rc;
		return err_errno (err, "preparing a child's attributes");
	}
	return 0;
}

static int start (const struct spawn_opts *o, pid_t *pid, struct err *err)
{
	struct plan p = { .ntmp = 0 };
	char *const *env = o->env ? (char *const *) o->env : environ;
	int rc = -1, top, e;

	if ((top = plan_copies (&p, o, err)) < 0)
		goto out;
	if (o->tied) {
		rc = spawn_tied_start (o, p.tmp, top, env, pid, err);
		goto out;
	}
	if ((e = posix_spawn_file_actions_init (&p.fa)) != 0 || (p.fa_made = true, false) ||
	    (e = posix_spawnattr_init (&p.attr)) != 0 || (p.attr_made = true, false)) {
		errno = e;
		err_errno (err, "starting %s", o->argv[0]);
		goto out;
	}
	if (plan_fds (&p, o, top, err) < 0 || plan_attr (&p, o, err) < 0)
		goto out;
	if ((e = posix_spawnp (pid, o->argv[0], &p.fa, &p.attr, (char *const *) o->argv, env)) != 0) {
		errno = e;
		err_errno (err, "starting %s%s%s", o->argv[0], o->cwd ? " in " : "", o->cwd ? o->cwd : "");
		goto out;
	}
	rc = 0;
out:
	plan_fini (&p);
	return rc;
}

struct spawn *spawn_start (struct loop *l, const struct spawn_opts *opts, spawn_exit_f *cb, void *arg, struct err *err)
{
	struct spawn *s;
	pid_t pid;

	if (!opts->argv || !opts->argv[0] || !opts->argv[0][0]) {
		err_set (err, ERR_INVALID, FAULT_SELF, "no program to start");
		return NULL;
	}
	if (watch_loop (l, err) < 0 || start (opts, &pid, err) < 0)
		return NULL;
	/* Its SIGCHLD may have come already, but is handled by the loop, and so after this. */
	s = xcalloc (1, sizeof (*s));
	s->loop = l;
	s->pid = pid;
	s->leads_group = opts->new_session || !opts->same_group;
	s->cb = cb;
	s->arg = arg;
	LIST_INSERT_HEAD (&table, s, link);
	return s;
}

pid_t spawn_pid (const struct spawn *s)
{
	return s->pid;
}

/* ---- ending ---- */

void spawn_kill (struct spawn *s, int signo)
{
	if (!s->reaped)
		kill (s->leads_group ? -s->pid : s->pid, signo);
}

void spawn_forget (struct spawn **s)
{
	if (!*s)
		return;
	(*s)->cb = NULL;
	*s = NULL;
}

static void grace_over (void *arg)
{
	spawn_kill (arg, SIGKILL);
}

void spawn_stop (struct spawn *s, int64_t grace_ms)
{
	if (s->reaped)
		return;
	s->stopping = true;
	if (grace_ms <= 0 || !s->loop) {
		spawn_kill (s, SIGKILL);
		return;
	}
	spawn_kill (s, SIGTERM);
	spawn_kill (s, SIGCONT); /* a stopped process cannot hear SIGTERM */
	if (!s->grace)
		s->grace = loop_timer_create (s->loop, grace_over, s);
	if (!loop_timer_pending (s->grace))
		loop_timer_start (s->grace, grace_ms, false);
}

static void spawn_free (struct spawn *s)
{
	LIST_REMOVE (s, link);
	loop_timer_destroy (&s->grace);
	free (s);
}

/* Has it ended? The zombie stays, and with it the right to its pid and group id. */
static bool is_dead (pid_t pid)
{
	siginfo_t si = { .si_pid = 0 };

	return waitid (P_PID, (id_t) pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid == pid;
}

static void ended (struct spawn *s)
{
	struct rusage ru;
	int status = 0;

	if (s->stopping && s->leads_group)
		kill (-s->pid, SIGKILL);
	memset (&ru, 0, sizeof (ru));
	if (wait4 (s->pid, &status, WNOHANG, &ru) != s->pid)
		return;
	s->reaped = true;
	if (s->cb)
		s->cb (s, s->pid, status, &ru, s->arg);
	spawn_free (s);
}

static struct spawn *find (pid_t pid)
{
	struct spawn *s;

	LIST_FOREACH (s, &table, link)
		if (s->pid == pid && !s->reaped)
			return s;
	return NULL;
}

/* One child that has ended, NULL when none. Callbacks change the table, so the search begins anew each time. */
static struct spawn *next_dead (void)
{
	struct spawn *s;

	LIST_FOREACH (s, &table, link)
		if (!s->reaped && is_dead (s->pid))
			return s;
	return NULL;
}

static void reap_orphans (void)
{
	siginfo_t si;

	for (int i = 0; i < STRAY_PIDS_MAX; i++) {
		si.si_pid = 0;
		if (waitid (P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
			return;
		struct spawn *s = find (si.si_pid);
		if (s) {
			ended (s);
			continue;
		}
		waitpid (si.si_pid, NULL, WNOHANG);
		log_debug ("spawn", "collected an orphan", "pid=%d", (int) si.si_pid);
	}
}

static void on_sigchld (int signo, void *arg)
{
	struct spawn *s;

	(void) signo;
	(void) arg;
	while ((s = next_dead ()))
		ended (s);
	if (subreaper)
		reap_orphans ();
}

bool spawn_stopping (void)
{
	struct spawn *s;

	LIST_FOREACH (s, &table, link)
		if (s->stopping && !s->reaped && !is_dead (s->pid))
			return true;
	return false;
}

/* ---- strays ---- */

int spawn_become_subreaper (struct err *err)
{
	if (prctl (PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) < 0)
		return err_errno (err, "becoming the reaper of orphaned processes");
	subreaper = true;
	return 0;
}

static size_t children_of_thread (const char *tid, pid_t *pids, size_t n, size_t max)
{
	char path[64];
	FILE *f;
	int pid;

	snprintf (path, sizeof (path), "/proc/self/task/%.20s/children", tid);
	if (!(f = fopen (path, "re")))
		return n;
	while (n < max && fscanf (f, "%d", &pid) == 1)
		pids[n++] = pid;
	fclose (f);
	return n;
}

static size_t children (pid_t *pids, size_t max)
{
	DIR *d = opendir ("/proc/self/task");
	struct dirent *e;
	size_t n = 0;

	if (!d)
		return 0;
	while ((e = readdir (d)))
		if (e->d_name[0] != '.')
			n = children_of_thread (e->d_name, pids, n, max);
	closedir (d);
	return n;
}

static bool group_is_known (pid_t pgid)
{
	struct spawn *s;

	if (pgid == getpgrp ())
		return true;
	LIST_FOREACH (s, &table, link)
		if (s->leads_group && !s->reaped && s->pid == pgid)
			return true;
	return false;
}

bool spawn_has_strays (void)
{
	static pid_t pids[STRAY_PIDS_MAX];
	char self[32];
	size_t n;

	snprintf (self, sizeof (self), "/proc/self/task/%d/children", (int) getpid ());
	if (!subreaper || access (self, R_OK) != 0)
		return true;	/* they would not be among our children, or those cannot be listed */
	n = children (pids, STRAY_PIDS_MAX);
	for (size_t i = 0; i < n; i++)
		if (!find (pids[i]))
			return true;
	return false;
}

static const char *const *spared;

void spawn_spare (const char *const *programs)
{
	spared = programs;
}

static bool is_spared (pid_t pid)
{
	static const char gone[] = " (deleted)";	/* as after an upgrade */
	char link[32], exe[4096];
	const char *base;
	ssize_t n;

	if (!spared)
		return false;
	snprintf (link, sizeof (link), "/proc/%d/exe", (int) pid);
	if ((n = readlink (link, exe, sizeof (exe) - 1)) <= 0)
		return false;
	exe[n] = '\0';
	if ((size_t) n >= sizeof (gone) && strcmp (exe + n - (sizeof (gone) - 1), gone) == 0)
		exe[n - (ssize_t) (sizeof (gone) - 1)] = '\0';
	base = strrchr (exe, '/');
	base = base ? base + 1 : exe;
	for (size_t i = 0; spared[i]; i++)
		if (strcmp (base, spared[i]) == 0)
			return true;
	return false;
}

/* Kills the groups of strays, but not ours nor that of a child we started; what is left by then is collected when it
 * dies. Descendants of a stray come to us when it dies: spawn_sweep.c calls this until nobody is left. */
int spawn_kill_strays (void)
{
	pid_t *pids = xcalloc (STRAY_PIDS_MAX, sizeof (*pids));
	size_t n = children (pids, STRAY_PIDS_MAX);
	int killed = 0;

	for (size_t i = 0; i < n; i++) {
		pid_t pgid;
		if (find (pids[i]))
			continue;
		if (is_dead (pids[i])) {
			waitpid (pids[i], NULL, WNOHANG);
			continue;
		}
		if (is_spared (pids[i]))
			continue;
		pgid = getpgid (pids[i]);
		if (pgid > 1 && !group_is_known (pgid))
			kill (-pgid, SIGKILL);
		if (kill (pids[i], SIGKILL) == 0)
			killed++;
	}
	free (pids);
	return killed;
}

void spawn_tie_to_parent (pid_t parent_pid)
{
	prctl (PR_SET_PDEATHSIG, (long) SIGKILL, 0L, 0L, 0L);
	/* It may have died before that. A parent outside our pid namespace shows as 0. */
	if (parent_pid > 0 && getppid () != parent_pid && getppid () != 0)
		raise (SIGKILL);
}

char *spawn_status_text (int status, char out[64])
{
	if (WIFEXITED (status))
		snprintf (out, 64, "exit status %d", WEXITSTATUS (status));
	else if (WIFSIGNALED (status))
		snprintf (out, 64, "killed by signal %d (%.32s)", WTERMSIG (status), strsignal (WTERMSIG (status)));
	else
		snprintf (out, 64, "wait status %d", status);
	return out;
}

static void tree_removed (struct spawn *s, pid_t pid, int status, const struct rusage *ru, void *arg)
{
	char text[64];

	(void) s;
	(void) pid;
	(void) ru;
	(void) arg;
	if (status)
		log_warn ("spawn", "a directory could not be removed", "rm=%s", spawn_status_text (status, text));
}

void spawn_remove_tree (struct loop *l, const char *path)
{
	const char *const argv[] = { "rm", "-rf", "--", path, NULL };
	const struct spawn_opts o = { .argv = argv };
	struct err err;

	if (!spawn_start (l, &o, tree_removed, NULL, &err))
		log_err (LOG_WARN, "spawn", "a directory could not be removed", &err);
}
