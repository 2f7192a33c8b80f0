/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/tally.h"
#include "common/tree.h"

struct rig { char dir[64], path[80]; int fd; struct tally held; };

static bool never (void *arg) { (void) arg; return false; }
static bool always (void *arg) { (void) arg; return true; }

static int set_up (void **state)
{
	struct rig *r = calloc (1, sizeof (*r));

	snprintf (r->dir, sizeof (r->dir), "/tmp/weft-t-tally-XXXXXX");
	assert_non_null (mkdtemp (r->dir));
	snprintf (r->path, sizeof (r->path), "%s/sum", r->dir);
	assert_true ((r->fd = open (r->dir, O_RDONLY | O_DIRECTORY)) >= 0);
	*state = r;
	return 0;
}

static int tear_down (void **state)
{
	struct rig *r = *state;

	close (r->fd);
	assert_int_equal (tree_remove (r->dir), 0);
	free (r);
	return 0;
}

static void set (struct rig *r, uint64_t sum)
{
	struct tally t;

	assert_int_equal (tally_lock (&t, r->fd, "sum", never, NULL), 0);
	t.sum = sum;
	t.count_at_s = 17;
	assert_int_equal (tally_write_unlock (&t), 0);
}

static void test_what_was_written_is_read (void **state)
{
	static const uint64_t sums[] = { 0, 1, 12345678901, UINT64_MAX, 7 };
	struct rig *r = *state;
	struct tally t;
	uint64_t sum;

	assert_false (tally_read (r->path, &sum));
	assert_int_equal (tally_lock (&t, r->fd, "sum", never, NULL), 0);
	assert_false (t.known);
	assert_int_equal (t.sum, 0);
	tally_unlock (&t);
	assert_false (tally_read (r->path, &sum));
	for (size_t i = 0; i < sizeof (sums) / sizeof (sums[0]); i++) {
		set (r, sums[i]);
		assert_true (tally_read (r->path, &sum));
		assert_true (sum == sums[i]);
		assert_int_equal (tally_lock (&t, r->fd, "sum", never, NULL), 0);
		assert_true (t.known && t.sum == sums[i] && t.count_at_s == 17);
		tally_unlock (&t);
	}
}

static void test_a_damaged_one_is_not_known (void **state)
{
	static const char *const texts[] = { "", "7\n", "00000000000000000007 00000000000000000017", "0000000000000000000x 00000000000000000017\n",
					     "00000000000000000007,00000000000000000017\n" };
	struct rig *r = *state;
	struct tally t;

	for (size_t i = 0; i < sizeof (texts) / sizeof (texts[0]); i++) {
		int fd = open (r->path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		assert_int_equal (write (fd, texts[i], strlen (texts[i])), (ssize_t) strlen (texts[i]));
		close (fd);
		assert_int_equal (tally_lock (&t, r->fd, "sum", never, NULL), 0);
		assert_false (t.known);
		assert_int_equal (t.sum, 0);
		tally_unlock (&t);
	}
	assert_int_equal (unlink (r->path) | symlink ("/etc/passwd", r->path), 0);
	assert_int_equal (tally_lock (&t, r->fd, "sum", never, NULL), -1);
	assert_int_equal (errno, ELOOP);
}

static void test_the_lock_is_waited_for_until_stopped (void **state)
{
	struct rig *r = *state;
	struct tally t, other;

	assert_int_equal (tally_lock (&t, r->fd, "sum", always, NULL), 0);	/* nobody to wait for */
	assert_int_equal (tally_lock (&other, r->fd, "sum", always, NULL), -1);
	assert_int_equal (errno, ECANCELED);
	tally_unlock (&t);
	assert_int_equal (tally_lock (&other, r->fd, "sum", always, NULL), 0);
	tally_unlock (&other);
}

/* Nobody has it: there is a new one then, not that of a file that is gone. */
static bool remove_it (void *arg)
{
	struct rig *r = arg;

	unlink (r->path);
	set (r, 5);
	tally_unlock (&r->held);
	return false;
}

static void test_a_file_that_is_removed_while_its_lock_is_waited_for (void **state)
{
	struct rig *r = *state;
	struct tally t;

	assert_int_equal (tally_lock (&r->held, r->fd, "sum", never, NULL), 0);
	assert_int_equal (tally_lock (&t, r->fd, "sum", remove_it, r), 0);
	assert_true (t.known && t.sum == 5);
	t.sum = 6;
	assert_int_equal (tally_write_unlock (&t), 0);
	assert_true (tally_read (r->path, &t.sum) && t.sum == 6);
}

static void test_it_may_be_forgotten (void **state)
{
	struct rig *r = *state;
	struct tally t;
	uint64_t sum;

	assert_int_equal (tally_forget (r->fd, "sum", never, NULL), 0);		/* there is none */
	assert_int_equal (access (r->path, F_OK), -1);
	set (r, 8);
	assert_int_equal (tally_forget (r->fd, "sum", never, NULL), 0);
	assert_false (tally_read (r->path, &sum));
	set (r, 9);
	assert_int_equal (tally_lock (&t, r->fd, "sum", never, NULL), 0);
	assert_int_equal (tally_forget (r->fd, "sum", always, NULL), -1);	/* not while somebody is at it */
	assert_int_equal (errno, ECANCELED);
	tally_unlock (&t);
	assert_true (tally_read (r->path, &sum));
}

static void test_nothing_is_lost_between_processes (void **state)
{
	struct rig *r = *state;
	uint64_t sum;

	set (r, 0);
	for (int k = 0; k < 4; k++)
		if (fork () == 0) {
			for (int i = 0; i < 50; i++) {
				struct tally t;

				if (tally_lock (&t, r->fd, "sum", never, NULL) < 0)
					_exit (1);
				t.sum += 3;
				if (tally_write_unlock (&t) < 0)
					_exit (1);
			}
			_exit (0);
		}
	for (int k = 0, status; k < 4; k++) {
		assert_true (wait (&status) > 0);
		assert_int_equal (status, 0);
	}
	assert_true (tally_read (r->path, &sum));
	assert_int_equal (sum, 600);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown (test_what_was_written_is_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_a_damaged_one_is_not_known, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_the_lock_is_waited_for_until_stopped, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_a_file_that_is_removed_while_its_lock_is_waited_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_it_may_be_forgotten, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_nothing_is_lost_between_processes, set_up, tear_down),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
