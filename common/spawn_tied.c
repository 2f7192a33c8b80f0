/* SPDX-License-Identifier: Apache-2.0 */
/* A child that dies with its parent, without a helper program in between (which costs an exec and a round of dynamic linking).
 *
 * The child of vfork runs in our memory while we stand still, as with posix_spawn: all that it needs is laid out before, it
 * calls nothing but system calls, and it writes to one variable only. Signals are blocked over it, so that no handler of ours
 * runs there. */
#include "common/spawn_tied.h"
#include "common/xmem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct tied {
	const struct spawn_opts *o;
	const int *tmp;
	int top;
	bool named[3];
	char *const *env;
	char **paths;			/* where the program may be, in order */
	char **script;			/* argv of /bin/sh, for a file without a format; [1] is set by the child */
	pid_t parent;
	rlim_t nofile;
	volatile int error;		/* errno of what failed before exec */
};

static const char *env_get (char *const *env, const char *name)
{
	size_t n = strlen (name);

	for (; *env; env++)
		if (strncmp (*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

/* As execvp does it, with the PATH that the child gets. */
static char **paths_of (const char *program, char *const *env)
{
	const char *path = env_get (env, "PATH"), *end;
	char **out;
	size_t n = 0, room = 2;

	if (!path)
		path = "/usr/local/bin:/bin:/usr/bin";
	for (end = path; *end; end++)
		room += *end == ':';
	out = xcalloc (room + 1, sizeof (*out));
	if (strchr (program, '/')) {
		out[0] = xstrdup (program);
		return out;
	}
	for (;; path = end + 1) {
		end = strchrnul (path, ':');
		out[n++] = end == path ? xasprintf ("./%s", program) : xasprintf ("%.*s/%s", (int) (end - path), path, program);
		if (!*end)
			return out;
	}
}

static int child_fds (const struct tied *t)
{
	const struct spawn_opts *o = t->o;

	if (!t->named[0]) {
		int fd = open ("/dev/null", O_RDONLY);
		if (fd > 0) {
			dup2 (fd, 0);
			close (fd);
		}
	}
	for (size_t i = 0; i < o->nfds; i++)
		if (dup2 (t->tmp[i], o->fds[i].to) < 0)
			return -1;
	for (int fd = 3; fd <= t->top; fd++) {
		bool keep = false;
		for (size_t i = 0; i < o->nfds; i++)
			keep |= o->fds[i].to == fd;
		if (!keep)
			close (fd);
	}
	if (close_range ((unsigned) t->top + 1, ~0u, 0) < 0)	/* Linux < 5.9 */
		for (rlim_t fd = (rlim_t) t->top + 1; fd < t->nofile; fd++)
			close ((int) fd);
	return 0;
}

static int child_prepare (const struct tied *t)
{
	const struct spawn_opts *o = t->o;
	const struct rlimit none = { 0, 0 };
	struct sigaction dfl;

	memset (&dfl, 0, sizeof (dfl));
	dfl.sa_handler = SIG_DFL;
	for (int s = 1; s <= SIGRTMAX; s++)
		sigaction (s, &dfl, NULL);
	if (o->new_session ? setsid () < 0 : !o->same_group && setpgid (0, 0) < 0)
		return -1;
	if (child_fds (t) < 0 || (o->cwd && chdir (o->cwd) < 0))
		return -1;
	prctl (PR_SET_PDEATHSIG, (long) SIGKILL, 0L, 0L, 0L);
	if (getppid () != t->parent)	/* it died before that */
		_exit (SPAWN_CANNOT_RUN);
	setrlimit (RLIMIT_CORE, &none);
	umask (077);
	return 0;
}

static void say (const char *s)
{
	if (write (2, s, strlen (s)) < 0)
		return;
}

static void child_exec (const struct tied *t)
{
	int error = ENOENT;

	for (char **p = t->paths; *p; p++) {
		execve (*p, (char *const *) t->o->argv, t->env);
		if (errno == ENOEXEC) {
			t->script[1] = *p;
			execve ("/bin/sh", t->script, t->env);
		}
		if (errno != ENOENT && errno != ENOTDIR && error != EACCES)
			error = errno;
		if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
			break;
	}
	say ("cannot run '");
	say (t->o->argv[0]);
	say ("': ");
	say (strerrordesc_np (error));
	say ("\n");
}

static pid_t __attribute__ ((noinline)) run (struct tied *t)
{
	sigset_t none;
	pid_t pid;

	sigemptyset (&none);
	pid = vfork ();
	if (pid != 0)
		return pid;
	if (child_prepare (t) < 0) {
		t->error = errno;
		_exit (SPAWN_CANNOT_RUN);
	}
	sigprocmask (SIG_SETMASK, &none, NULL);
	child_exec (t);
	_exit (SPAWN_CANNOT_RUN);
}

int spawn_tied_start (const struct spawn_opts *o, const int *tmp, int top, char *const *env, pid_t *pid, struct err *err)
{
	struct tied t = { .o = o, .tmp = tmp, .top = top, .env = env, .parent = getpid () };
	struct rlimit nofile = { 1024, 1024 };
	sigset_t all, old;
	size_t argc = 0;
	int failed;

	for (size_t i = 0; i < o->nfds; i++)
		if (o->fds[i].to < 3)
			t.named[o->fds[i].to] = true;
	while (o->argv[argc])
		argc++;
	t.script = xcalloc (argc + 2, sizeof (*t.script));
	t.script[0] = (char *) "/bin/sh";
	for (size_t i = 1; i < argc; i++)
		t.script[i + 1] = (char *) o->argv[i];
	t.paths = paths_of (o->argv[0], env);
	getrlimit (RLIMIT_NOFILE, &nofile);
	t.nofile = nofile.rlim_cur < 1 << 20 ? nofile.rlim_cur : 1 << 20;
	sigfillset (&all);
	pthread_sigmask (SIG_SETMASK, &all, &old);
	*pid = run (&t);
	failed = *pid < 0 ? errno : t.error;
	pthread_sigmask (SIG_SETMASK, &old, NULL);
	for (char **p = t.paths; *p; p++)
		free (*p);
	free (t.paths);
	free (t.script);
	if (!failed)
		return 0;
	if (*pid > 0)
		waitpid (*pid, NULL, 0);
	errno = failed;
	return err_errno (err, "starting %s%s%s", o->argv[0], o->cwd ? " in " : "", o->cwd ? o->cwd : "");
}
