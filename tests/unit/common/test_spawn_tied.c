/* SPDX-License-Identifier: Apache-2.0 */
/* Children with spawn_opts.tied: the same promises as without, and those of the last step before code of others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include "common/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop *loop;
static int last_status;
static char text[8192];

static void on_end (struct spawn *s, pid_t pid, int status, const struct rusage *ru, void *arg)
{
	(void) s;
	(void) pid;
	(void) ru;
	(void) arg;
	last_status = status;
	loop_stop (loop);
}

static void on_deadline (void *arg)
{
	(void) arg;
	fail_msg ("the child does not end");
}

static int setup (void **state)
{
	(void) state;
	return (loop = loop_create (NULL)) ? 0 : -1;
}

static int teardown (void **state)
{
	(void) state;
	loop_destroy (&loop);
	return 0;
}

/* Runs it to its end; its standard output and error are in `text`. */
static int run (const char *const *argv, struct spawn_opts o)
{
	struct spawn_fd fds[2];
	struct loop_timer *deadline = loop_timer_create (loop, on_deadline, NULL);
	struct err e;
	size_t n = 0;
	ssize_t r;
	int p[2];

	assert_int_equal (pipe2 (p, O_CLOEXEC), 0);
	fds[0] = (struct spawn_fd){ p[1], 1 };
	fds[1] = (struct spawn_fd){ p[1], 2 };
	o.argv = argv;
	o.tied = true;
	o.fds = fds;
	o.nfds = 2;
	loop_timer_start (deadline, 20000, false);
	if (!spawn_start (loop, &o, on_end, NULL, &e))
		fail_msg ("%s", e.text);
	close (p[1]);
	loop_run (loop);
	while ((r = read (p[0], text + n, sizeof (text) - 1 - n)) > 0)
		n += (size_t) r;
	text[n] = 0;
	close (p[0]);
	loop_timer_destroy (&deadline);
	return last_status;
}

static const char *sh (const char *script, struct spawn_opts o)
{
	const char *argv[] = { "sh", "-c", script, NULL };

	assert_int_equal (run (argv, o), 0);
	return text;
}

static void test_surroundings (void **state)
{
	const char *env[] = { "PATH=/usr/bin:/bin", "COLOUR=blue", NULL };
	struct spawn_opts o = { .env = env, .cwd = "/usr", .new_session = true };
	sigset_t s, old;
	unsigned long long ignored;
	(void) state;
	assert_string_equal (sh ("echo $COLOUR $HOME $PWD", o), "blue /usr\n");
	assert_string_equal (sh ("umask; ulimit -c; ulimit -Hc", o), "0077\n0\n0\n");
	assert_string_equal (sh ("cat; echo $(ls /proc/self/fd)", o), "0 1 2 3\n");	/* 3: of ls itself */
	assert_string_equal (sh ("[ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo leads", o), "leads\n");
	sigemptyset (&s);
	sigaddset (&s, SIGTERM);
	sigprocmask (SIG_BLOCK, &s, &old);
	signal (SIGUSR2, SIG_IGN);
	assert_string_equal (sh ("exec grep SigBlk /proc/self/status", o), "SigBlk:\t0000000000000000\n");
	ignored = strtoull (sh ("grep SigIgn /proc/$$/status | cut -f2", o), NULL, 16);
	assert_int_equal (ignored & ~(3ull << 31), 0);
	/* ours are as they were */
	assert_ptr_equal (signal (SIGUSR2, SIG_DFL), SIG_IGN);
	sigprocmask (SIG_SETMASK, &old, &s);
	assert_true (sigismember (&s, SIGTERM));
	assert_false (sigismember (&s, SIGUSR1));
}

static void test_what_cannot_be_run (void **state)
{
	static const char *const none[] = { "no-such-program", "x", NULL }, *const dir[] = { "/usr", NULL };
	struct spawn_opts o = { .cwd = "/nonexistent", .argv = dir, .tied = true };
	struct err e;
	(void) state;
	assert_int_equal (run (none, (struct spawn_opts){ 0 }), SPAWN_CANNOT_RUN << 8);
	assert_string_equal (text, "cannot run 'no-such-program': No such file or directory\n");
	assert_int_equal (run (dir, (struct spawn_opts){ 0 }), SPAWN_CANNOT_RUN << 8);
	assert_string_equal (text, "cannot run '/usr': Permission denied\n");
	assert_null (spawn_start (loop, &o, on_end, NULL, &e));
	assert_non_null (strstr (e.text, "starting /usr in /nonexistent: No such file"));
	assert_int_equal (waitpid (-1, NULL, WNOHANG), -1);		/* nothing is left of it */
	assert_int_equal (errno, ECHILD);
}

static void write_file (const char *path, const char *content, mode_t mode)
{
	FILE *f = fopen (path, "w");
	assert_non_null (f);
	fputs (content, f);
	fclose (f);
	assert_int_equal (chmod (path, mode), 0);
}

/* The PATH of the child counts, not ours; files that cannot be run are passed over, scripts without a first line are run by sh. */
static void test_search (void **state)
{
	char dir[] = "/tmp/test_spawn_tied.XXXXXX", path[128], env_path[128];
	const char *env[] = { env_path, NULL };
	static const char *const argv[] = { "greet", "you", NULL };
	struct spawn_opts o = { .env = env };
	(void) state;
	assert_non_null (mkdtemp (dir));
	snprintf (path, sizeof (path), "%s/a", dir);
	mkdir (path, 0700);
	snprintf (path, sizeof (path), "%s/a/greet", dir);
	mkdir (path, 0700);			/* EACCES */
	snprintf (path, sizeof (path), "%s/greet", dir);
	write_file (path, "echo hello $1\n", 0700);
	snprintf (env_path, sizeof (env_path), "PATH=%s/missing:%s/a:%s", dir, dir, dir);
	assert_int_equal (run (argv, o), 0);
	assert_string_equal (text, "hello you\n");
	snprintf (env_path, sizeof (env_path), "PATH=%s/missing:", dir);
	o.cwd = dir;				/* an empty part is the work directory */
	assert_int_equal (run (argv, o), 0);
	assert_string_equal (text, "hello you\n");
	unlink (path);
	snprintf (env_path, sizeof (env_path), "PATH=%s/missing:%s/a", dir, dir);
	assert_int_equal (run (argv, o), SPAWN_CANNOT_RUN << 8);
	assert_string_equal (text, "cannot run 'greet': Permission denied\n");
	snprintf (path, sizeof (path), "%s/a/greet", dir);
	rmdir (path);
	snprintf (path, sizeof (path), "%s/a", dir);
	rmdir (path);
	rmdir (dir);
}

/* Our child starts one and is killed: the other end of the pipe closes only when both are gone. */
static void test_dies_with_parent (void **state)
{
	int p[2];
	char c;
	pid_t pid;
	(void) state;
	assert_int_equal (pipe (p), 0);
	pid = fork ();
	if (pid == 0) {
		static const char *const argv[] = { "sh", "-c", "printf x; exec sleep 30", NULL };
		struct spawn_fd fd = { p[1], 1 };
		struct spawn_opts o = { .argv = argv, .fds = &fd, .nfds = 1, .new_session = true, .tied = true };
		struct err e;
		if (!spawn_start (loop_create (NULL), &o, on_end, NULL, &e))
			_exit (1);
		for (;;)
			pause ();
	}
	close (p[1]);
	assert_int_equal (read (p[0], &c, 1), 1);
	kill (pid, SIGKILL);
	assert_int_equal (waitpid (pid, NULL, 0), pid);
	alarm (60);
	assert_int_equal (read (p[0], &c, 1), 0);
	alarm (0);
	close (p[0]);
}

static void test_strays_are_seen (void **state)
{
	static const char *const leaves[] = { "sh", "-c", "setsid sleep 30 >/dev/null 2>&1 & true", NULL };
	struct err e;
	(void) state;
	assert_true (spawn_has_strays ());	/* nobody can tell */
	assert_int_equal (spawn_become_subreaper (&e), 0);
	assert_int_equal (run (leaves, (struct spawn_opts){ .new_session = true }), 0);
	assert_true (spawn_has_strays ());
	while (spawn_kill_strays () > 0)
		;
	if (access ("/proc/thread-self/children", R_OK) == 0)
		while (spawn_has_strays ())
			spawn_kill_strays ();
	prctl (PR_SET_CHILD_SUBREAPER, 0L, 0L, 0L, 0L);
}

int main (void)
{
#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T (test_surroundings), T (test_what_cannot_be_run), T (test_search), T (test_dies_with_parent), T (test_strays_are_seen),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
