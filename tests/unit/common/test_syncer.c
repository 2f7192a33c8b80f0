/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that bring data to disk are counted by functions of the same names here. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/syncer.h"

static char dir[] = "/tmp/weft-test-syncer-XXXXXX";
static int dirfd_;
static unsigned files, dirs, systems;	/* written by the thread; read after syncer_destroy has joined it */
static char last[300];

static bool is_dir (int fd)
{
	struct stat st;
	assert_int_equal (fstat (fd, &st), 0);
	return S_ISDIR (st.st_mode);
}

int fdatasync (int fd)
{
	char link[40];
	ssize_t n;
	snprintf (link, sizeof (link), "/proc/self/fd/%d", fd);
	n = readlink (link, last, sizeof (last) - 1);
	last[n > 0 ? n : 0] = 0;
	files++;
	return 0;
}

int fsync (int fd)
{
	assert_true (is_dir (fd));
	dirs++;
	return 0;
}

int syncfs (int fd)
{
	assert_true (is_dir (fd));
	systems++;
	return 0;
}

static int setup (void **state)
{
	(void) state;
	strcpy (strrchr (dir, '-') + 1, "XXXXXX");
	assert_non_null (mkdtemp (dir));
	dirfd_ = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	files = dirs = systems = 0;
	last[0] = 0;
	return dirfd_ < 0;
}

static int teardown (void **state)
{
	(void) state;
	close (dirfd_);
	return rmdir (dir);	/* each test removes its files */
}

static void make (const char *name)
{
	int fd = openat (dirfd_, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true (fd >= 0);
	close (fd);
}

static void numbered (char name[16], int i) { snprintf (name, 16, "f%d", i); }

static void test_what_was_added_is_on_disk_when_it_ends (void **state)
{
	struct syncer *s = syncer_create (dirfd_, 60000, "test", NULL, NULL);
	(void) state;
	make ("a");
	syncer_add (s, "a");
	syncer_destroy (&s);	/* does not wait for the delay */
	assert_null (s);
	assert_int_equal (files, 1);
	assert_int_equal (dirs, 1);
	assert_string_equal (last + strlen (dir), "/a");
	unlinkat (dirfd_, "a", 0);
}

static void test_files_that_are_gone_cost_nothing (void **state)
{
	struct syncer *s = syncer_create (dirfd_, 60000, "test", NULL, NULL);
	char name[16];
	(void) state;
	for (int i = 0; i < 100; i++) {
		numbered (name, i);
		syncer_add (s, name);
	}
	syncer_destroy (&s);
	assert_int_equal (files + dirs + systems, 0);
}

static void test_many_files_are_one_call (void **state)
{
	struct syncer *s = syncer_create (dirfd_, 60000, "test", NULL, NULL);
	char name[16];
	(void) state;
	for (int i = 0; i < 20; i++) {
		numbered (name, i);
		make (name);
		syncer_add (s, name);
	}
	syncer_destroy (&s);
	assert_int_equal (files, 0);
	assert_int_equal (systems, 1);
	for (int i = 0; i < 20; i++) {
		numbered (name, i);
		unlinkat (dirfd_, name, 0);
	}
}

static void test_more_names_than_are_kept_are_one_call (void **state)
{
	struct syncer *s = syncer_create (dirfd_, 60000, "test", NULL, NULL);
	char name[16];
	(void) state;
	for (int i = 0; i < 5000; i++) {
		numbered (name, i);
		syncer_add (s, name);
	}
	syncer_destroy (&s);
	assert_int_equal (systems, 1);
}

static void test_files_that_grow_are_added_once (void **state)
{
	struct syncer *s = syncer_create (dirfd_, 60000, "test", NULL, NULL);
	(void) state;
	make ("a");
	make ("b");
	for (int i = 0; i < 10000; i++)
		syncer_add (s, i % 2 ? "a" : "b");
	syncer_destroy (&s);
	assert_int_equal (files, 2);
	assert_int_equal (systems, 0);
	unlinkat (dirfd_, "a", 0);
	unlinkat (dirfd_, "b", 0);
}

static void test_without_delay_and_a_link (void **state)
{
	struct syncer *s = syncer_create (dirfd_, 0, "test", NULL, NULL);
	(void) state;
	make ("a");
	assert_int_equal (symlinkat ("/etc/passwd", dirfd_, "link"), 0);
	syncer_add (s, "link");		/* not followed */
	syncer_add (s, "a");
	syncer_destroy (&s);
	assert_int_equal (files, 1);
	assert_string_equal (last + strlen (dir), "/a");
	unlinkat (dirfd_, "a", 0);
	unlinkat (dirfd_, "link", 0);
}

static bool only_b (int dirfd, const char *name, int64_t age_ms)
{
	assert_int_equal (dirfd == dirfd_, 0);	/* its own */
	assert_int_equal (age_ms, 0);		/* at the end: all of it */
	return !strcmp (name, "b");
}

static unsigned told;

static void synced (int fd, const char *name)
{
	assert_int_equal (files, 1);		/* not before it is on disk */
	assert_false (is_dir (fd));
	assert_string_equal (name, "b");
	told++;
}

static void test_only_what_is_wanted (void **state)
{
	struct syncer *s = syncer_create (dirfd_, 60000, "test", only_b, synced);
	(void) state;
	make ("a");
	make ("b");
	syncer_add (s, "a");
	syncer_add (s, "b");
	syncer_destroy (&s);
	assert_int_equal (files, 1);
	assert_int_equal (told, 1);
	assert_string_equal (last + strlen (dir), "/b");
	unlinkat (dirfd_, "a", 0);
	unlinkat (dirfd_, "b", 0);
}

static void test_without_a_directory_there_is_none (void **state)
{
	struct syncer *s = syncer_create (-1, 0, "test", NULL, NULL);
	(void) state;
	assert_null (s);
	syncer_add (s, "a");
	syncer_destroy (&s);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown (test_what_was_added_is_on_disk_when_it_ends, setup, teardown),
		cmocka_unit_test_setup_teardown (test_files_that_are_gone_cost_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown (test_many_files_are_one_call, setup, teardown),
		cmocka_unit_test_setup_teardown (test_more_names_than_are_kept_are_one_call, setup, teardown),
		cmocka_unit_test_setup_teardown (test_files_that_grow_are_added_once, setup, teardown),
		cmocka_unit_test_setup_teardown (test_without_delay_and_a_link, setup, teardown),
		cmocka_unit_test_setup_teardown (test_only_what_is_wanted, setup, teardown),
		cmocka_unit_test_setup_teardown (test_without_a_directory_there_is_none, setup, teardown),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
