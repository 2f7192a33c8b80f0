/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "common/tree.h"
#include "common/xmem.h"
#include "endpoint/memo.h"

enum { MIB = 1 << 20 };
static char *dir;

static int setup (void **state)
{
	(void) state;
	dir = xstrdup ("/tmp/weft-memo-XXXXXX");
	return mkdtemp (dir) ? 0 : -1;
}

static int teardown (void **state)
{
	(void) state;
	tree_remove (dir);
	free (dir);
	return 0;
}

static struct memo *start (uint64_t max_bytes, int64_t max_age_ms)
{
	struct memo_opts o = { .dir = dir, .max_bytes = max_bytes, .max_age_ms = max_age_ms };
	struct err err;
	struct memo *m = memo_open (&o, &err);

	if (!m)
		fail_msg ("%s", err.text);
	return m;
}

static void key_of (uint32_t n, uint8_t key[MEMO_KEY_BYTES])
{
	memset (key, 0x5a, MEMO_KEY_BYTES);
	memcpy (key, &n, sizeof (n));
}

static void put (struct memo *m, uint32_t n, size_t bytes)
{
	uint8_t key[MEMO_KEY_BYTES];
	char *text = malloc (bytes + 1);

	memset (text, 'a' + (int) (n % 26), bytes + 1);
	key_of (n, key);
	memo_put (m, key, text, bytes);
	free (text);
}

/* Bytes of what is remembered; 0 = nothing. */
static size_t get (struct memo *m, uint32_t n)
{
	uint8_t key[MEMO_KEY_BYTES];
	struct wire_str s = { NULL, 0 };
	zmq_msg_t held;

	key_of (n, key);
	zmq_msg_init (&held);
	if (memo_get (m, key, &held, &s)) {
		assert_true (s.n > 0);
		assert_int_equal (s.p[0], 'a' + (int) (n % 26));
		assert_int_equal (s.p[s.n - 1], 'a' + (int) (n % 26));
	}
	zmq_msg_close (&held);
	return s.n;
}

static struct memo_stats stats (const struct memo *m)
{
	struct memo_stats st;

	memo_stats (m, &st);
	return st;
}

static uint64_t bytes_on_disk (void)
{
	DIR *d = opendir (dir);
	struct dirent *e;
	struct stat st;
	uint64_t n = 0;

	while ((e = readdir (d)))
		if (fstatat (dirfd (d), e->d_name, &st, 0) == 0 && S_ISREG (st.st_mode))
			n += (uint64_t) st.st_size;
	closedir (d);
	return n;
}

static void test_before_and_after_writing (void **state)
{
	struct memo *m = start (MIB, 0);

	(void) state;
	assert_int_equal (get (m, 1), 0);
	put (m, 1, 100);
	assert_int_equal (get (m, 1), 100);
	memo_commit (m);
	assert_int_equal (get (m, 1), 100);
	put (m, 1, 50);		/* replaces */
	assert_int_equal (get (m, 1), 50);
	memo_commit (m);
	assert_int_equal (get (m, 1), 50);
	assert_int_equal (stats (m).entries, 1);
	assert_int_equal (stats (m).disk_bytes, bytes_on_disk ());
	memo_close (&m);
	assert_null (m);
}

static void test_all_of_the_key_counts (void **state)
{
	struct memo *m = start (MIB, 0);
	uint8_t key[MEMO_KEY_BYTES];
	struct wire_str s;
	zmq_msg_t held;

	(void) state;
	put (m, 1, 10);
	key_of (1, key);
	key[MEMO_KEY_BYTES - 1] ^= 1;
	zmq_msg_init (&held);
	assert_false (memo_get (m, key, &held, &s));
	memo_commit (m);
	assert_false (memo_get (m, key, &held, &s));
	zmq_msg_close (&held);
	memo_close (&m);
}

static void test_outlives_a_restart (void **state)
{
	struct memo *m = start (8 * MIB, 0);

	(void) state;
	for (uint32_t i = 0; i < 1000; i++)
		put (m, i, 1000 + i);
	memo_commit (m);
	put (m, 5000, 10);	/* not committed: as a crash leaves it */
	memo_close (&m);
	m = start (8 * MIB, 0);
	assert_int_equal (stats (m).entries, 1000);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal (get (m, i), 1000 + i);
	assert_int_equal (get (m, 5000), 0);
	assert_int_equal (stats (m).corrupt, 0);
	put (m, 1, 77);
	memo_commit (m);
	memo_close (&m);
	m = start (8 * MIB, 0);
	assert_int_equal (get (m, 1), 77);
	memo_close (&m);
}

static void test_least_recently_used_leaves (void **state)
{
	struct memo *m = start (MIB, 0);

	(void) state;
	for (uint32_t i = 0; i < 70; i++) {
		put (m, i, 10000);
		memo_commit (m);
	}
	assert_int_equal (get (m, 0), 10000);	/* used: it stays */
	for (uint32_t i = 100; i < 140; i++) {
		put (m, i, 10000);
		memo_commit (m);
	}
	assert_int_equal (get (m, 0), 10000);
	assert_int_equal (get (m, 1), 0);
	assert_int_equal (get (m, 139), 10000);
	assert_true (stats (m).evicted >= 30);
	assert_true (bytes_on_disk () <= MIB);
	memo_close (&m);
}

/* Entries that are used all the time stand in each file: files are rewritten to stay under the bound, and nothing used is lost. */
static void test_files_are_rewritten (void **state)
{
	struct memo *m = start (2 * MIB, 0);
	uint32_t next = 1000;

	(void) state;
	for (int round = 0; round < 400; round++) {
		if (round < 100)
			put (m, (uint32_t) round, 2000);
		for (int i = 0; i < 10; i++)
			put (m, next++, 3000);
		memo_commit (m);
		for (uint32_t k = 0; k < 100 && k <= (uint32_t) round; k++)
			assert_int_equal (get (m, k), 2000);
		assert_int_equal (stats (m).disk_bytes, bytes_on_disk ());
		assert_true (bytes_on_disk () <= 2 * MIB + (128 << 10));
	}
	memo_close (&m);
	m = start (2 * MIB, 0);
	for (uint32_t k = 0; k < 100; k++)
		assert_int_equal (get (m, k), 2000);
	memo_close (&m);
	m = start (MIB, 0);	/* a smaller bound */
	assert_true (bytes_on_disk () <= MIB + (64 << 10));
	memo_close (&m);
}

static void test_age (void **state)
{
	struct memo *m = start (MIB, 1);
	struct timespec t = { 0, 20000000 };

	(void) state;
	put (m, 1, 100);
	memo_commit (m);
	nanosleep (&t, NULL);
	assert_int_equal (get (m, 1), 0);
	assert_int_equal (stats (m).expired, 1);
	assert_int_equal (stats (m).entries, 0);
	memo_close (&m);
}

static void test_too_large_is_not_kept (void **state)
{
	struct memo *m = start (MIB, 0);

	(void) state;
	put (m, 1, MIB / 8 + 1);
	assert_int_equal (stats (m).entries, 0);
	put (m, 2, MIB / 8);
	memo_commit (m);
	assert_int_equal (get (m, 2), MIB / 8);
	memo_close (&m);
}

static char *first_file (void)
{
	return xasprintf ("%s/%016x.seg", dir, 1);
}

static void damage (long at, const char *bytes)
{
	char *path = first_file ();
	FILE *f = fopen (path, "r+");

	assert_non_null (f);
	fseek (f, at, at < 0 ? SEEK_END : SEEK_SET);
	fputs (bytes, f);
	fclose (f);
	free (path);
}

static void three (void)
{
	struct memo *m = start (MIB, 0);

	for (uint32_t i = 1; i <= 3; i++)
		put (m, i, 100);
	memo_commit (m);
	memo_close (&m);
}

static void test_damaged_record (void **state)
{
	struct memo *m;

	(void) state;
	three ();
	damage (-50, "?");
	m = start (MIB, 0);
	assert_int_equal (stats (m).corrupt, 1);
	assert_int_equal (get (m, 1), 100);
	assert_int_equal (get (m, 2), 100);
	assert_int_equal (get (m, 3), 0);
	memo_close (&m);
}

static void test_damaged_while_it_runs (void **state)
{
	struct memo *m;

	(void) state;
	three ();
	m = start (MIB, 0);
	damage (-50, "?");
	assert_int_equal (get (m, 3), 0);
	assert_int_equal (get (m, 2), 100);
	assert_int_equal (stats (m).corrupt, 1);
	assert_int_equal (stats (m).entries, 2);
	memo_close (&m);
}

static void test_torn_file (void **state)
{
	char *path = first_file ();
	struct memo *m;
	struct stat st;

	(void) state;
	three ();
	assert_int_equal (stat (path, &st), 0);
	assert_int_equal (truncate (path, st.st_size - 1), 0);
	free (path);
	m = start (MIB, 0);
	assert_int_equal (get (m, 2), 100);
	assert_int_equal (get (m, 3), 0);
	put (m, 4, 100);
	memo_commit (m);
	assert_int_equal (stats (m).disk_bytes, bytes_on_disk ());
	memo_close (&m);
	m = start (MIB, 0);
	assert_int_equal (get (m, 4), 100);
	memo_close (&m);
}

static void test_foreign_file (void **state)
{
	struct memo *m;

	(void) state;
	three ();
	damage (0, "not ours");
	m = start (MIB, 0);
	assert_int_equal (stats (m).entries, 0);
	assert_int_equal (bytes_on_disk (), 0);
	put (m, 1, 100);
	memo_commit (m);
	assert_int_equal (get (m, 1), 100);
	memo_close (&m);
}

static void test_full_disk (void **state)
{
	struct memo *m = start (MIB, 0);
	struct rlimit was, small = { 0 };

	(void) state;
	signal (SIGXFSZ, SIG_IGN);
	put (m, 1, 1000);
	memo_commit (m);
	assert_int_equal (getrlimit (RLIMIT_FSIZE, &was), 0);
	small = was;
	small.rlim_cur = 2000;
	setrlimit (RLIMIT_FSIZE, &small);
	for (uint32_t i = 2; i < 6; i++)
		put (m, i, 1000);
	memo_commit (m);
	setrlimit (RLIMIT_FSIZE, &was);
	assert_int_equal (get (m, 1), 1000);
	assert_int_equal (get (m, 5), 0);
	assert_true (stats (m).failed >= 3);
	put (m, 7, 1000);
	memo_commit (m);
	assert_int_equal (get (m, 7), 1000);
	memo_close (&m);
	m = start (MIB, 0);
	assert_int_equal (get (m, 7), 1000);
	memo_close (&m);
}

int main (void)
{
#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T (test_before_and_after_writing), T (test_all_of_the_key_counts), T (test_outlives_a_restart), T (test_least_recently_used_leaves),
		T (test_files_are_rewritten), T (test_age), T (test_too_large_is_not_kept), T (test_damaged_record), T (test_damaged_while_it_runs),
		T (test_torn_file), T (test_foreign_file), T (test_full_disk),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
