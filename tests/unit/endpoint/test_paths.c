/* SPDX-License-Identifier: Apache-2.0 */
/* Which files are brought to disk: fsync is counted by a function of its name here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/tree.h"
#include "endpoint/keys.h"
#include "endpoint/paths.h"
#include "endpoint/service.h"

static unsigned files, dirs;

int fsync (int fd)
{
	struct stat st;

	assert_int_equal (fstat (fd, &st), 0);
	if (S_ISDIR (st.st_mode))
		dirs++;
	else
		files++;
	return 0;
}

static void test_keys_and_identity_survive_a_power_failure (void **state)
{
	char dir[] = "/tmp/weft-test-paths-XXXXXX", path[100];
	struct identity who = { .known = true, .service_url = "http://x", .address = "tcp://y:1" };
	struct keys k;
	struct stat st;
	struct err err;

	(void) state;
	assert_non_null (mkdtemp (dir));
	snprintf (path, sizeof (path), "%s/file", dir);
	assert_int_equal (paths_write (path, "x", 1, 0600, &err), 0);	/* status, each second: not */
	assert_int_equal (files + dirs, 0);
	assert_int_equal (keys_new (&k, &err), 0);
	assert_int_equal (keys_write (&k, path, &err), 0);
	assert_int_equal (files, 1);
	assert_int_equal (dirs, 1);
	assert_int_equal (stat (path, &st), 0);
	assert_int_equal (st.st_mode & 0777, 0600);
	assert_int_equal (identity_save (&who, path, &err), 0);
	assert_int_equal (files, 2);
	assert_int_equal (dirs, 2);
	assert_int_equal (tree_remove (dir), 0);
}

int main (void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test (test_keys_and_identity_survive_a_power_failure) };

	return cmocka_run_group_tests (tests, NULL, NULL);
}
