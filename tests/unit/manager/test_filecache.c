/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/digest.h"
#include "common/tree.h"
#include "common/xmem.h"
#include "endpoint/manager/filecache.h"

struct rig { char dir[64]; struct filecache *c; };

static int set_up (void **state)
{
	struct rig *r = xcalloc (1, sizeof (*r));
	struct err err;

	snprintf (r->dir, sizeof (r->dir), "/tmp/weft-t-files-XXXXXX");
	assert_non_null (mkdtemp (r->dir));
	r->c = filecache_create (r->dir, 1000, &err);
	assert_non_null (r->c);
	*state = r;
	return 0;
}

static int tear_down (void **state)
{
	struct rig *r = *state;

	filecache_destroy (&r->c);
	assert_int_equal (tree_remove (r->dir), 0);
	free (r);
	return 0;
}

static void digest_of (const char *text, size_t n, uint8_t out[FILES_DIGEST])
{
	struct digest_part part = { text, n };

	assert_int_equal (digest_sha256 (&part, 1, out), 0);
}

/* A file of n times this byte; -1 when it does not find room. */
static int put (struct rig *r, char byte, size_t n, uint8_t digest[FILES_DIGEST], struct err *err)
{
	char *text = xcalloc (1, n + 1);
	struct filecache_part p;
	int fd = -1;

	memset (text, byte, n);
	digest_of (text, n, digest);
	assert_int_equal (filecache_part_open (r->c, &p, err), 0);
	if (filecache_part_room (r->c, &p, n, err) == 0) {
		assert_int_equal (pwrite (p.fd, text, n, 0), (ssize_t) n);
		fd = filecache_part_keep (r->c, &p, n, digest, err);
		assert_true (fd >= 0);
	}
	filecache_part_drop (r->c, &p);
	free (text);
	return fd;
}

static int has (struct rig *r, const uint8_t digest[FILES_DIGEST])
{
	uint64_t bytes;
	int fd = filecache_open (r->c, digest, &bytes, NULL);

	if (fd >= 0)
		close (fd);
	return fd >= 0;
}

static char *path_of (const struct rig *r, const uint8_t digest[FILES_DIGEST])
{
	char text[FILES_DIGEST_TEXT];

	return xasprintf ("%s/" FILECACHE_CONTENT "/%s", r->dir, msg_files_digest_text (digest, text));
}

static void test_what_is_kept_is_found (void **state)
{
	struct rig *r = *state;
	uint8_t digest[FILES_DIGEST], other[FILES_DIGEST];
	uint64_t bytes = 0;
	struct err err;
	struct stat st;
	char text[8];
	int fd = put (r, 'a', 5, digest, &err);

	digest_of ("x", 1, other);
	assert_int_equal (pread (fd, text, sizeof (text), 0), 5);
	assert_memory_equal (text, "aaaaa", 5);
	assert_int_equal (fstat (fd, &st), 0);
	assert_int_equal (st.st_mode & 0777, 0444);
	close (fd);
	fd = filecache_open (r->c, digest, &bytes, &err);
	assert_true (fd >= 0 && bytes == 5);
	close (fd);
	assert_int_equal (filecache_open (r->c, other, &bytes, &err), -1);
	assert_int_equal (err.code, ERR_NOT_FOUND);
}

static void test_least_recently_used_leave (void **state)
{
	struct rig *r = *state;
	uint8_t a[FILES_DIGEST], b[FILES_DIGEST], c[FILES_DIGEST];
	struct timespec t[2] = { { .tv_sec = 1000 }, { .tv_nsec = UTIME_OMIT } };
	char *path;
	struct err err;

	close (put (r, 'a', 400, a, &err));
	close (put (r, 'b', 400, b, &err));
	path = path_of (r, b);		/* b was used long ago */
	assert_int_equal (utimensat (AT_FDCWD, path, t, 0), 0);
	free (path);
	close (put (r, 'c', 400, c, &err));
	assert_true (has (r, a) && !has (r, b) && has (r, c));
}

static void test_what_is_held_stays (void **state)
{
	struct rig *r = *state;
	uint8_t a[FILES_DIGEST], b[FILES_DIGEST], c[FILES_DIGEST];
	struct err err;
	int fa = put (r, 'a', 600, a, &err), fb;

	assert_int_equal (put (r, 'b', 600, b, &err), -1);
	assert_int_equal (err.code, ERR_LIMIT);
	assert_true (has (r, a));
	fb = put (r, 'b', 400, b, &err);
	assert_true (fb >= 0);
	close (fa);
	close (put (r, 'c', 600, c, &err));
	assert_true (!has (r, a) && has (r, b) && has (r, c));
	close (fb);
	assert_int_equal (put (r, 'd', 1001, a, &err), -1);
	assert_int_equal (err.code, ERR_TOO_LARGE);
	assert_true (has (r, b) && has (r, c));
}

static void test_parts_count_and_go_with_their_writer (void **state)
{
	struct rig *r = *state;
	struct filecache_part p, q;
	struct err err;
	char *path;

	assert_int_equal (filecache_part_open (r->c, &p, &err), 0);
	assert_int_equal (filecache_part_open (r->c, &q, &err), 0);
	assert_int_equal (filecache_part_room (r->c, &p, 700, &err), 0);
	assert_int_equal (filecache_part_room (r->c, &q, 301, &err), -1);
	assert_int_equal (filecache_part_room (r->c, &q, 300, &err), 0);
	path = xasprintf ("%s/part/%s", r->dir, p.name);
	close (p.fd);		/* its process died */
	assert_int_equal (access (path, F_OK), 0);
	assert_int_equal (filecache_part_room (r->c, &q, 1000, &err), 0);
	assert_int_equal (access (path, F_OK), -1);
	free (path);
	filecache_part_drop (r->c, &q);
}

static void test_the_first_of_two_stays (void **state)
{
	struct rig *r = *state;
	uint8_t a[FILES_DIGEST];
	struct stat first, second;
	struct err err;
	int one = put (r, 'a', 100, a, &err), two = put (r, 'a', 100, a, &err);

	assert_int_equal (fstat (one, &first) | fstat (two, &second), 0);
	assert_true (first.st_ino == second.st_ino);
	close (one);
	close (two);
}

static void test_what_was_changed_is_no_good (void **state)
{
	struct rig *r = *state;
	uint8_t a[FILES_DIGEST];
	struct err err;
	char *path;
	int fd;

	close (put (r, 'a', 100, a, &err));
	path = path_of (r, a);
	/* opened for writing, but the same: looked at, and taken again */
	assert_int_equal (chmod (path, 0644), 0);
	assert_true ((fd = open (path, O_WRONLY)) >= 0);
	assert_int_equal (pwrite (fd, "a", 1, 0), 1);
	close (fd);
	assert_true (has (r, a));
	assert_int_equal (chmod (path, 0644), 0);
	assert_true ((fd = open (path, O_WRONLY)) >= 0);
	assert_int_equal (pwrite (fd, "b", 1, 50), 1);
	close (fd);
	assert_false (has (r, a));
	assert_int_equal (access (path, F_OK), -1);
	/* a link in its place is not followed */
	assert_int_equal (symlink ("/etc/passwd", path), 0);
	assert_false (has (r, a));
	free (path);
}

static void test_others_directories_are_refused (void **state)
{
	struct err err;

	(void) state;
	assert_null (filecache_create ("/tmp/weft-none/deep", 1000, &err));
	if (geteuid ())
		assert_null (filecache_create ("/usr", 1000, &err));
}

int main (void)
{
#define T(f) cmocka_unit_test_setup_teardown (f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T (test_what_is_kept_is_found), T (test_least_recently_used_leave), T (test_what_is_held_stays),
		T (test_parts_count_and_go_with_their_writer), T (test_the_first_of_two_stays), T (test_what_was_changed_is_no_good),
		cmocka_unit_test (test_others_directories_are_refused),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
