/* SPDX-License-Identifier: Apache-2.0 */
/* Work directories: emptied whatever functions left there, and nothing beside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "worker/workdir.h"

static char base[64];

static char *at (const char *name)
{
	static char path[4][300];
	static int i;

	i = (i + 1) % 4;
	snprintf (path[i], sizeof (path[i]), "%s/%s", base, name);
	return path[i];
}

static int set_up (void **state)
{
	(void) state;
	strcpy (base, "/tmp/weft-test-workdir-XXXXXX");
	return mkdtemp (base) ? 0 : -1;
}

/* What a thread removes. */
static void until_gone (const char *path)
{
	for (int i = 0; access (path, F_OK) == 0; i++) {
		assert_true (i < 3000);
		usleep (10000);
	}
}

static int tear_down (void **state)
{
	(void) state;
	workdir_empty (base, NULL);
	return rmdir (base);
}

static void test_empty_takes_all_and_follows_no_link (void **state)
{
	struct err err;

	(void) state;
	assert_int_equal (workdir_make (at ("w/a/b/c"), &err), 0);
	assert_int_equal (workdir_make (at ("keep"), &err), 0);
	assert_int_equal (workdir_file (at ("keep/f"), "x", 1, 0600, &err), 0);
	assert_int_equal (workdir_file (at ("w/a/f"), "x", 1, 0400, &err), 0);
	assert_int_equal (symlink (at ("keep"), at ("w/link")), 0);
	assert_int_equal (symlink ("/nonexistent", at ("w/a/dangling")), 0);
	assert_int_equal (mkfifo (at ("w/fifo"), 0600), 0);
	assert_int_equal (chmod (at ("w/a/b"), 0), 0);
	assert_int_equal (chmod (at ("w"), 0500), 0);
	assert_int_equal (workdir_empty (at ("w"), &err), 0);
	assert_int_equal (rmdir (at ("w")), 0);
	assert_int_equal (access (at ("keep/f"), F_OK), 0);
	assert_int_equal (workdir_empty (at ("new"), &err), 0);
	assert_int_equal (access (at ("new"), F_OK), 0);
}

/* Deeper than there may be open files, and than a path may be long. A worker that could not remove it would refuse all calls from then on. */
static void test_empty_takes_what_is_deep (void **state)
{
	static const char name[] = "a-directory-of-some-length";
	struct err err;
	int fd, next;

	(void) state;
	assert_int_equal (workdir_make (at ("w/deep-0"), &err), 0);
	fd = open (at ("w"), O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 2000; i++) {
		assert_int_equal (mkdirat (fd, name, 0700), 0);
		if (i == 600)
			assert_int_equal (mkdirat (fd, "closed", 0), 0);
		assert_true ((next = openat (fd, name, O_RDONLY | O_DIRECTORY)) >= 0);
		close (fd);
		fd = next;
	}
	close (fd);
	assert_int_equal (workdir_empty (at ("w"), &err), 0);
	assert_int_equal (rmdir (at ("w")), 0);
	until_gone (at ("w.left-1"));
}

static void fill (const char *dir, int n)
{
	struct err err;
	char name[300];

	assert_int_equal (workdir_make (dir, &err), 0);
	for (int i = 0; i < n; i++) {
		snprintf (name, sizeof (name), "%s/%d", dir, i);
		assert_int_equal (mkdir (name, 0700), 0);
	}
}

static void test_many_are_removed_by_a_thread (void **state)
{
	struct err err;

	(void) state;
	fill (at ("w"), 500);
	assert_int_equal (workdir_empty (at ("w"), &err), 0);
	assert_int_equal (access (at ("w.left-1"), F_OK), -1);
	fill (at ("w"), 3000);
	fill (at ("kept"), 501);
	fill (at ("w.left-1/full"), 0);			/* as when the one before is not removed yet */
	assert_int_equal (workdir_empty (at ("w"), &err), 0);
	assert_int_equal (rmdir (at ("w")), 0);		/* empty at once */
	workdir_remove (at ("kept"));
	workdir_remove (at ("none"));
	until_gone (at ("w.left-2"));
	until_gone (at ("kept"));
	assert_int_equal (access (at ("w.left-1/full"), F_OK), 0);
}

static void test_what_cannot_be_removed_is_left_beside (void **state)
{
	struct err err;

	(void) state;
	assert_int_equal (workdir_make (at ("w/mounted"), &err), 0);
	if (mount ("none", at ("w/mounted"), "tmpfs", 0, NULL) < 0) {
		print_message ("nothing can be mounted here: %s\n", strerror (errno));
		skip ();
	}
	assert_int_equal (workdir_file (at ("w/mounted/f"), "x", 1, 0600, &err), 0);
	assert_int_equal (workdir_empty (at ("w"), &err), 0);
	assert_int_equal (access (at ("w/mounted"), F_OK), -1);
	assert_int_equal (access (at ("w.left-1/mounted/f"), F_OK), 0);
	assert_int_equal (umount (at ("w.left-1/mounted")), 0);
}

static void test_empty_refuses_a_link (void **state)
{
	struct err err;

	(void) state;
	assert_int_equal (workdir_make (at ("target"), &err), 0);
	assert_int_equal (symlink (at ("target"), at ("w")), 0);
	assert_int_equal (workdir_empty (at ("w"), &err), -1);
}

static void test_file_replaces_whole (void **state)
{
	struct err err;
	struct stat st;
	char text[8] = "";
	int fd;

	(void) state;
	assert_int_equal (workdir_file (at ("f"), "first", 5, 0600, &err), 0);
	assert_int_equal (workdir_file (at ("f"), "two", 3, 0700, &err), 0);
	assert_true ((fd = open (at ("f"), O_RDONLY)) >= 0);
	assert_int_equal (read (fd, text, sizeof (text)), 3);
	close (fd);
	assert_string_equal (text, "two");
	assert_int_equal (stat (at ("f"), &st), 0);
	assert_int_equal (st.st_mode & 0777, 0700);
	assert_int_equal (workdir_file (at ("none/f"), "x", 1, 0600, &err), -1);
	assert_non_null (strstr (err.text, "none/f"));
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown (test_empty_takes_all_and_follows_no_link, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_empty_takes_what_is_deep, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_many_are_removed_by_a_thread, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_what_cannot_be_removed_is_left_beside, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_empty_refuses_a_link, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_file_replaces_whole, set_up, tear_down),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
