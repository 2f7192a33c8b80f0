/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include "common/clock.h"
#include "common/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop *loop;
static struct loop_timer *deadline;
static int exits, last_status;
static bool late;

static void too_late (void *arg)
{
	(void) arg;
	late = true;
	loop_stop (loop);
}

static int setup (void **state)
{
	(void) state;
	exits = 0;
	last_status = -1;
	late = false;
	loop = loop_create (NULL);
	deadline = loop_timer_create (loop, too_late, NULL);
	loop_timer_start (deadline, 20000, false);
	return 0;
}

static int teardown (void **state)
{
	(void) state;
	loop_timer_destroy (&deadline);
	loop_destroy (&loop);
	return late ? -1 : 0;
}

static void on_exit_cb (struct spawn *s, pid_t pid, int status, const struct rusage *ru, void *arg)
{
	assert_int_equal (spawn_pid (s), pid);
	assert_non_null (ru);
	spawn_kill (s, SIGKILL); /* harmless: reaped already */
	exits++;
	last_status = status;
	if (arg && --*(int *) arg == 0)
		loop_stop (loop);
}

static struct spawn *run (const char *script, const struct spawn_opts *more, int *left)
{
	const char *argv[] = { "sh", "-c", script, NULL };
	struct spawn_opts o = more ? *more : (struct spawn_opts){ 0 };
	struct spawn *s;
	struct err e;

	o.argv = argv;
	s = spawn_start (loop, &o, on_exit_cb, left, &e);
	assert_non_null (s);
	return s;
}

static void test_many_children_each_reported_once (void **state)
{
	int left = 20;
	char t[64];
	(void) state;
	for (int i = 0; i < 20; i++)
		run ("exit 3", NULL, &left);
	loop_run (loop);
	assert_int_equal (exits, 20);
	assert_string_equal (spawn_status_text (last_status, t), "exit status 3");
}

/* Output of a command with the given options, through a pipe at its descriptor 1. */
static const char *output (const char *script, struct spawn_opts o, struct spawn_fd extra)
{
	static char text[4096];
	struct spawn_fd fds[2];
	int p[2], left = 1;
	ssize_t n, at = 0;
	assert_int_equal (pipe2 (p, O_CLOEXEC), 0);
	fds[0] = (struct spawn_fd){ p[1], 1 };
	fds[1] = extra;
	o.fds = fds;
	o.nfds = extra.to ? 2 : 1;
	run (script, &o, &left);
	close (p[1]);
	while ((n = read (p[0], text + at, sizeof (text) - 1 - (size_t) at)) > 0)
		at += n;
	text[at] = '\0';
	close (p[0]);
	loop_run (loop);
	return text;
}

static void test_only_named_descriptors_are_inherited (void **state)
{
	int leak = open ("/dev/zero", O_RDONLY), leak4 = dup2 (leak, 40); /* not CLOEXEC */
	struct spawn_opts o = { 0 };
	(void) state;
	assert_int_equal (leak4, 40);
	assert_string_equal (output ("ls /proc/$$/fd; true", o, (struct spawn_fd){ 0, 0 }), "0\n1\n2\n");
	assert_string_equal (output ("ls /proc/$$/fd; true", o, (struct spawn_fd){ leak, 7 }), "0\n1\n2\n7\n");
	assert_string_equal (output ("readlink /proc/$$/fd/7 /proc/$$/fd/0 | tr '\\n' ' '", o, (struct spawn_fd){ leak, 7 }),
			     "/dev/zero /dev/null ");
	close (leak);
	close (leak4);
}

/* Targets that are each other's sources. */
static void test_descriptors_swap (void **state)
{
	int a = open ("/dev/zero", O_RDONLY | O_CLOEXEC), b = open ("/dev/full", O_RDONLY | O_CLOEXEC), p[2], left = 1;
	char text[64];
	ssize_t n;
	(void) state;
	assert_int_equal (pipe2 (p, O_CLOEXEC), 0);
	dup3 (a, 50, O_CLOEXEC);
	dup3 (b, 51, O_CLOEXEC);
	struct spawn_fd fds[] = { { 50, 51 }, { 51, 50 }, { p[1], 1 } };
	struct spawn_opts o = { .fds = fds, .nfds = 3 };
	run ("readlink /proc/$$/fd/50 /proc/$$/fd/51 | tr '\\n' ' '", &o, &left);
	close (p[1]);
	loop_run (loop);
	n = read (p[0], text, sizeof (text) - 1);
	text[n > 0 ? n : 0] = '\0';
	assert_string_equal (text, "/dev/full /dev/zero ");
	close (p[0]); close (a); close (b); close (50); close (51);
}

static void test_environment_directory_signals_and_group (void **state)
{
	const char *env[] = { "PATH=/usr/bin:/bin", "COLOUR=blue", NULL };
	struct spawn_opts o = { .env = env, .cwd = "/usr" };
	sigset_t s, old;
	unsigned long long ignored;
	char want[64];
	(void) state;
	assert_string_equal (output ("echo $COLOUR $HOME $PWD", o, (struct spawn_fd){ 0, 0 }), "blue /usr\n");
	sigemptyset (&s);
	sigaddset (&s, SIGTERM);
	sigprocmask (SIG_BLOCK, &s, &old);
	signal (SIGUSR2, SIG_IGN);
	assert_string_equal (output ("exec grep SigBlk /proc/self/status", o, (struct spawn_fd){ 0, 0 }),
			     "SigBlk:\t0000000000000000\n");
	ignored = strtoull (output ("grep SigIgn /proc/$$/status | cut -f2", o, (struct spawn_fd){ 0, 0 }), NULL, 16);
	assert_int_equal (ignored & ~(3ull << 31), 0); /* glibc ignores its own signals 32 and 33 there */
	sigprocmask (SIG_SETMASK, &old, NULL);
	signal (SIGUSR2, SIG_DFL);
	o.same_group = true;
	snprintf (want, sizeof (want), "%d\n", (int) getpgrp ());
	assert_string_equal (output ("cut -d' ' -f5 /proc/$$/stat", o, (struct spawn_fd){ 0, 0 }), want);
}

static void test_failure_to_start (void **state)
{
	static const char *const none[] = { "/nonexistent/program", NULL }, *const ok[] = { "true", NULL },
				       *const empty[] = { NULL };
	struct spawn_fd high = { 0, 5000 }, closed = { 999, 3 };
	struct spawn_opts o = { .argv = none };
	struct err e;
	(void) state;
	assert_null (spawn_start (loop, &o, on_exit_cb, NULL, &e));
	assert_int_equal (e.code, ERR_IO);
	assert_non_null (strstr (e.text, "/nonexistent/program: No such file"));
	o.argv = empty;
	assert_null (spawn_start (loop, &o, on_exit_cb, NULL, &e));
	o.argv = ok;
	o.cwd = "/nonexistent";
	assert_null (spawn_start (loop, &o, on_exit_cb, NULL, &e));
	o.cwd = NULL;
	o.nfds = 1;
	o.fds = &high;
	assert_null (spawn_start (loop, &o, on_exit_cb, NULL, &e));
	assert_int_equal (e.code, ERR_INVALID);
	o.fds = &closed;
	assert_null (spawn_start (loop, &o, on_exit_cb, NULL, &e));
}

static bool gone (pid_t pid)
{
	return kill (pid, 0) < 0 && errno == ESRCH;
}

/* A child that ignores SIGTERM, with a grandchild that does too. */
static void test_stop_kills_the_group (void **state)
{
	struct spawn_fd fd;
	struct spawn_opts o = { .fds = &fd, .nfds = 1 };
	int p[2], left = 1;
	char text[32], c;
	ssize_t n;
	(void) state;
	assert_int_equal (pipe2 (p, O_CLOEXEC), 0);
	fd = (struct spawn_fd){ p[1], 1 };
	struct spawn *s = run ("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000", &o, &left);
	close (p[1]);
	n = read (p[0], text, sizeof (text) - 1);
	assert_true (n > 0);
	text[n] = '\0';
	assert_false (gone (atoi (text)));
	spawn_stop (s, 50);
	loop_run (loop);
	assert_true (WIFSIGNALED (last_status) && WTERMSIG (last_status) == SIGKILL);
	assert_int_equal (read (p[0], &c, 1), 0); /* the grandchild has let go of the pipe too */
	close (p[0]);
}

static void test_forget_is_still_reaped (void **state)
{
	int left = 1;
	struct spawn *s = run ("exit 0", NULL, NULL);
	pid_t pid = spawn_pid (s);
	(void) state;
	spawn_forget (&s);
	assert_null (s);
	run ("sleep 0.05", NULL, &left);
	loop_run (loop);
	assert_int_equal (exits, 1);
	assert_true (gone (pid));
}

/* An unknown child, as of a library, is left alone as long as we are no subreaper. */
static void test_children_of_others_are_left (void **state)
{
	int left = 1, status = 0;
	pid_t pid = fork ();
	(void) state;
	if (pid == 0)
		_exit (9);
	run ("sleep 0.05", NULL, &left);
	loop_run (loop);
	assert_int_equal (waitpid (pid, &status, 0), pid);
	assert_int_equal (WEXITSTATUS (status), 9);
}

struct captured { int calls, status; char out[256], err[256]; size_t nout; enum err_code code; };

static void on_capture (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err,
			void *arg)
{
	struct captured *c = arg;
	(void) nerr;
	c->calls++;
	c->status = status;
	c->nout = nout;
	snprintf (c->out, sizeof (c->out), "%s", out);
	snprintf (c->err, sizeof (c->err), "%s", errout);
	c->code = err ? err->code : ERR_NONE;
	loop_stop (loop);
}

static struct captured capture (const char *script, const char *input, int64_t ms, size_t max)
{
	const char *argv[] = { "sh", "-c", script, NULL };
	struct captured c = { 0 };
	assert_int_equal (spawn_capture (loop, argv, input, ms, max, on_capture, &c, NULL), 0);
	loop_run (loop);
	assert_int_equal (c.calls, 1);
	return c;
}

static void test_capture (void **state)
{
	static const char *const none[] = { "/nonexistent/program", NULL };
	struct captured c;
	struct err e;
	char *big = malloc (1000001);
	(void) state;
	c = capture ("cat; echo bad >&2; exit 4", "hello", 5000, 1000);
	assert_string_equal (c.out, "hello");
	assert_string_equal (c.err, "bad\n");
	assert_int_equal (WEXITSTATUS (c.status), 4);
	assert_int_equal (c.code, ERR_NONE);
	c = capture ("head -c 1000000 /dev/zero | tr '\\0' x", NULL, 5000, 100);
	assert_int_equal (c.nout, 100);
	assert_int_equal (c.status, 0);
	assert_int_equal (c.code, ERR_TOO_LARGE);
	memset (big, 'y', 1000000);
	big[1000000] = '\0';
	c = capture ("wc -c", big, 5000, 100);
	assert_int_equal (atoi (c.out), 1000000);
	c = capture ("exec 0<&-; sleep 0.05; echo done", big, 5000, 100); /* does not read its input */
	assert_string_equal (c.out, "done\n");
	free (big);
	c = capture ("echo some; sleep 1000 & sleep 1000", NULL, 1500, 100);
	assert_int_equal (c.status, -1);
	assert_int_equal (c.code, ERR_TIMEOUT);
	assert_string_equal (c.out, "some\n");
	c = capture ("sleep 12 & echo $$", NULL, 10000, 100); /* a grandchild keeps the pipes open */
	assert_int_equal (c.status, 0);
	assert_int_equal (spawn_capture (loop, none, NULL, 1000, 100, on_capture, &c, &e), -1);
	assert_non_null (strstr (e.text, "No such file"));
}

static void stop_when_childless (void *arg)
{
	siginfo_t si;
	(void) arg;
	if (waitid (P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == -1 && errno == ECHILD)
		loop_stop (loop);
}

/* In a process of its own: being a subreaper cannot be undone. */
static int subreaper_case (void)
{
	int left = 1;
	if (spawn_become_subreaper (NULL) < 0)
		return 10;
	if (!(loop = loop_create (NULL)))
		return 11;
	/* the shell ends and leaves an orphan in a session of its own, and one that ends at once */
	run ("setsid sleep 1000 & sleep 0.01 & exit 0", NULL, &left);
	loop_run (loop);
	int64_t end = clock_now_ms () + 60000;
	int killed = spawn_kill_strays ();
	for (int n = killed; n != 0; n = spawn_kill_strays ()) {
		killed += n;
		if (clock_now_ms () > end)
			return 12;
	}
	/* a child of ours is not a stray */
	struct spawn *s = run ("sleep 1000", NULL, &left);
	left = 1;
	if (spawn_kill_strays () != 0)
		return 13;
	if (kill (spawn_pid (s), 0) < 0)
		return 14;
	spawn_stop (s, 0);
	loop_run (loop);
	/* what was killed above takes a moment to die; the loop collects it */
	struct loop_timer *look = loop_timer_create (loop, stop_when_childless, NULL);
	loop_timer_start (look, 5, true);
	loop_run (loop); /* alarm () bounds it */
	loop_timer_destroy (&look);
	loop_destroy (&loop);
	if (waitpid (-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		return 15;
	return killed >= 1 ? 0 : 16;
}

static int kill_all_strays (void)
{
	int64_t end = clock_now_ms () + 60000;
	int killed = 0;
	for (int n = 1; n != 0 && clock_now_ms () < end; killed += n)
		n = spawn_kill_strays ();
	return killed;
}

/* The same: two orphans, of which one holds something that others use. */
static int spared_case (void)
{
	static const char *const holders[] = { "nobody", "weft-test-holder", NULL };
	int left = 1;
	if (spawn_become_subreaper (NULL) < 0 || !(loop = loop_create (NULL)))
		return 10;
	run ("d=$(mktemp -d) || exit; cp $(command -v sleep) $d/weft-test-holder; setsid $d/weft-test-holder 1000 & setsid sleep 1000 & sleep 0.2; rm -r $d",
	     NULL, &left);
	loop_run (loop);
	spawn_spare (holders);
	if (kill_all_strays () < 1)
		return 11;
	if (kill_all_strays () != 0)
		return 12;
	spawn_spare (NULL);
	return kill_all_strays () >= 1 ? 0 : 13;
}

static int wait_for (pid_t pid)
{
	int status = 0;
	assert_int_equal (waitpid (pid, &status, 0), pid);
	return status;
}

static void test_subreaper_kills_strays (void **state)
{
	(void) state;
	fflush (NULL);
	pid_t pid = fork ();
	if (pid == 0) {
		alarm (30);
		_exit (subreaper_case ());
	}
	assert_int_equal (wait_for (pid), 0);
	pid = fork ();
	if (pid == 0) {
		alarm (30);
		_exit (spared_case ());
	}
	assert_int_equal (wait_for (pid), 0);
}

/* parent -> child, tied; the parent dies, the child must too: then its end of the pipe closes. */
static void test_tied_child_dies_with_parent (void **state)
{
	int p[2];
	char c;
	pid_t pid;
	(void) state;
	assert_int_equal (pipe (p), 0);
	pid = fork ();
	if (pid == 0) {
		pid_t me = getpid ();
		if (fork () == 0) {
			spawn_tie_to_parent (me);
			if (write (p[1], "x", 1) != 1)
				_exit (1);
			alarm (30);
			for (;;)
				pause ();
		}
		for (;;)
			pause ();
	}
	assert_int_equal (read (p[0], &c, 1), 1);
	close (p[1]);
	kill (pid, SIGKILL);
	wait_for (pid);
	assert_int_equal (read (p[0], &c, 1), 0);
	close (p[0]);
	pid = fork ();
	if (pid == 0) {
		spawn_tie_to_parent (getppid () + 1); /* "it is dead already" */
		_exit (0);
	}
	int status = wait_for (pid);
	assert_true (WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL);
}

int main (void)
{
#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T (test_many_children_each_reported_once), T (test_only_named_descriptors_are_inherited),
		T (test_descriptors_swap), T (test_environment_directory_signals_and_group), T (test_failure_to_start),
		T (test_stop_kills_the_group), T (test_forget_is_still_reaped), T (test_children_of_others_are_left),
		T (test_capture), cmocka_unit_test (test_subreaper_kills_strays),
		cmocka_unit_test (test_tied_child_dies_with_parent),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
