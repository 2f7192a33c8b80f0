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
#include <unistd.h>
#include "common/tree.h"
#include "common/xmem.h"
#include "endpoint/crc.h"
#include "endpoint/spool.h"
#include "proto/link.h"
#include "proto/msg_result.h"

static char *dir;

static int setup (void **state)
{
	(void) state;
	dir = xstrdup ("/tmp/weft-spool-XXXXXX");
	return mkdtemp (dir) ? 0 : -1;
}

static int teardown (void **state)
{
	(void) state;
	tree_remove (dir);
	free (dir);
	return 0;
}

static struct id id_of (uint32_t n)
{
	struct id id = { { 0 } };

	memcpy (id.b, &n, sizeof (n));
	return id;
}

static bool add (struct spool *s, uint32_t n, size_t bytes)
{
	char *text = calloc (1, bytes + 1);
	struct msg_result r = { .status = STATUS_SUCCESS, .task = id_of (n) };
	struct buf b;
	zmq_msg_t m;
	bool added;

	memset (text, 'a' + (int) (n % 26), bytes);
	r.result = wire_str (text, bytes);
	buf_init (&b, 0);
	msg_result_encode (&b, &r, WIRE_MAJOR);
	link_msg_from_buf (&m, &b);
	free (text);
	added = spool_add (s, &r.task, &m);
	zmq_msg_close (&m);
	return added;
}

static struct spool *reopen (struct spool *s, struct spool_opts o)
{
	struct err err;

	spool_close (&s);
	o.dir = dir;
	s = spool_open (&o, &err);
	if (!s)
		fail_msg ("%s", err.text);
	return s;
}

static struct spool_stats stats (const struct spool *s)
{
	struct spool_stats st;

	spool_stats (s, &st);
	return st;
}

static void expect_next (struct spool *s, uint32_t n, size_t bytes)
{
	struct msg_result r;
	struct id id, want = id_of (n);
	zmq_msg_t m;

	zmq_msg_init (&m);
	assert_true (spool_next (s, &id, &m));
	assert_memory_equal (&id, &want, sizeof (id));
	assert_int_equal (msg_result_decode (&r, zmq_msg_data (&m), zmq_msg_size (&m), NULL), 0);
	assert_int_equal (r.result.n, bytes);
	if (bytes)
		assert_int_equal (r.result.p[bytes - 1], 'a' + (int) (n % 26));
	zmq_msg_close (&m);
}

static void expect_end (struct spool *s)
{
	struct id id;
	zmq_msg_t m;

	zmq_msg_init (&m);
	assert_false (spool_next (s, &id, &m));
	zmq_msg_close (&m);
}

static void ack (struct spool *s, uint32_t n)
{
	struct id id = id_of (n);

	assert_true (spool_ack (s, &id));
	assert_false (spool_ack (s, &id));
}

static size_t files (char *last, size_t cap)
{
	DIR *d = opendir (dir);
	struct dirent *e;
	size_t n = 0;

	while ((e = readdir (d)))
		if (strstr (e->d_name, ".seg")) {
			n++;
			if (last)
				snprintf (last, cap, "%s/%s", dir, e->d_name);
		}
	closedir (d);
	return n;
}

static void test_crc_is_the_one_of_zlib (void **state)
{
	uint8_t big[1000];

	(void) state;
	assert_int_equal (crc_of ("123456789", 9), 0xcbf43926u);
	assert_int_equal (crc_of ("", 0), 0);
	for (size_t i = 0; i < sizeof (big); i++)
		big[i] = (uint8_t) i;
	assert_int_equal (crc_of (big, sizeof (big)), 0x74e3fb41u);
	assert_int_equal (crc_of_plain (big, sizeof (big)), 0x74e3fb41u);
	for (size_t n = 0; n < 400; n++)	/* all lengths around the steps of 8 and 64, at all alignments */
		assert_int_equal (crc_of (big + n % 16, n), crc_of_plain (big + n % 16, n));
}

static void test_order_rewind_and_ack (void **state)
{
	struct spool *s = reopen (NULL, (struct spool_opts){ 0 });

	(void) state;
	for (uint32_t i = 1; i <= 3; i++)
		assert_true (add (s, i, 100));
	assert_false (add (s, 2, 5));
	spool_commit (s);
	for (uint32_t i = 1; i <= 3; i++)
		expect_next (s, i, 100);
	expect_end (s);
	ack (s, 2);
	spool_rewind (s);
	expect_next (s, 1, 100);
	ack (s, 3);		/* the one the cursor stands on */
	expect_end (s);
	ack (s, 1);
	assert_int_equal (stats (s).results, 0);
	spool_tick (s);
	assert_int_equal (stats (s).disk_bytes, 8);	/* truncated, used again */
	add (s, 9, 10);
	spool_commit (s);
	spool_close (&s);
	s = reopen (s, (struct spool_opts){ 0 });
	expect_next (s, 9, 10);
	spool_close (&s);
}

static void test_recovery_after_a_crash (void **state)
{
	struct spool *s = reopen (NULL, (struct spool_opts){ .segment_bytes = 4096 });

	(void) state;
	for (uint32_t i = 1; i <= 40; i++) {
		add (s, i, 500);
		if (i % 4 == 0)
			spool_commit (s);
	}
	for (uint32_t i = 1; i <= 12; i++)
		ack (s, i);
	size_t before = files (NULL, 0);
	assert_true (before > 2);
	s = reopen (s, (struct spool_opts){ .segment_bytes = 4096 });
	/* acknowledged ones may come again when others in their file were not: the forwarder drops them */
	assert_true (stats (s).results >= 28 && stats (s).results < 40);
	for (uint32_t i = 40 - (uint32_t) stats (s).results + 1; i <= 40; i++)
		expect_next (s, i, 500);
	expect_end (s);
	for (uint32_t i = 40 - (uint32_t) stats (s).results + 1; i <= 40; i++)
		ack (s, i);
	assert_true (files (NULL, 0) <= 1);
	spool_close (&s);
	assert_int_equal (files (NULL, 0), 0);
}

static void test_torn_tail_is_cut (void **state)
{
	char path[400];
	struct stat st;

	(void) state;
	for (off_t cut = 1; cut < 700; cut += 37) {
		struct spool *s = reopen (NULL, (struct spool_opts){ 0 });
		for (uint32_t i = 1; i <= 3; i++)
			add (s, i, 500);
		spool_commit (s);
		spool_close (&s);
		assert_int_equal (files (path, sizeof (path)), 1);
		assert_int_equal (stat (path, &st), 0);
		assert_int_equal (truncate (path, st.st_size - cut), 0);
		s = reopen (NULL, (struct spool_opts){ 0 });
		assert_int_equal (stats (s).results, 2);
		assert_int_equal (stats (s).corrupt, 1);
		expect_next (s, 1, 500);
		expect_next (s, 2, 500);
		add (s, 7, 20);		/* goes on behind the cut */
		spool_commit (s);
		s = reopen (s, (struct spool_opts){ 0 });
		assert_int_equal (stats (s).results, 3);
		ack (s, 1);
		ack (s, 2);
		ack (s, 7);
		spool_close (&s);
		assert_int_equal (files (NULL, 0), 0);
	}
}

static void test_bad_checksum_loses_one_record (void **state)
{
	struct spool *s = reopen (NULL, (struct spool_opts){ 0 });
	char path[400];
	int fd;

	(void) state;
	for (uint32_t i = 1; i <= 3; i++)
		add (s, i, 500);
	spool_commit (s);
	spool_close (&s);
	files (path, sizeof (path));
	fd = open (path, O_WRONLY);
	assert_int_equal (pwrite (fd, "X", 1, 8 + 8 + 300), 1);
	close (fd);
	s = reopen (NULL, (struct spool_opts){ 0 });
	assert_int_equal (stats (s).results, 2);
	assert_int_equal (stats (s).corrupt, 1);
	expect_next (s, 2, 500);
	expect_next (s, 3, 500);
	spool_close (&s);
}

static void test_damaged_head_is_set_aside (void **state)
{
	struct spool *s = reopen (NULL, (struct spool_opts){ .segment_bytes = 512 });
	char path[400], aside[420];
	int fd;

	(void) state;
	add (s, 1, 500);
	spool_commit (s);
	files (path, sizeof (path));
	add (s, 2, 500);
	spool_commit (s);
	spool_close (&s);
	assert_int_equal (files (NULL, 0), 2);
	fd = open (path, O_WRONLY);
	assert_int_equal (pwrite (fd, "\0\0\0\0\0\0\0\0", 8, 0), 8);
	close (fd);
	s = reopen (NULL, (struct spool_opts){ .segment_bytes = 512 });
	assert_int_equal (stats (s).corrupt, 1);
	assert_int_equal (stats (s).results, 1);
	snprintf (aside, sizeof (aside), "%s.damaged", path);
	assert_int_equal (access (path, F_OK), -1);
	assert_int_equal (access (aside, F_OK), 0);
	add (s, 1, 500);	/* it ran again */
	spool_commit (s);
	s = reopen (s, (struct spool_opts){ .segment_bytes = 512 });
	assert_int_equal (stats (s).corrupt, 0);
	expect_next (s, 2, 500);
	expect_next (s, 1, 500);
	spool_close (&s);
}

static void test_bodies_are_read_back (void **state)
{
	struct spool *s = reopen (NULL, (struct spool_opts){ .memory_bytes = 5000, .segment_bytes = 8192 });

	(void) state;
	for (uint32_t i = 1; i <= 100; i++) {
		add (s, i, 1000);
		spool_commit (s);
	}
	assert_true (stats (s).memory_bytes <= 5000);
	for (uint32_t i = 1; i <= 100; i++)
		expect_next (s, i, 1000);
	spool_close (&s);
}

static unsigned nlost;
static struct id last_lost;

static void note_lost (const struct id *task, void *arg)
{
	assert_ptr_equal (arg, &nlost);
	last_lost = *task;
	nlost++;
}

/* The disk gives back something else: the task has to run again, and somebody must hear of it. */
static void test_a_result_that_cannot_be_read_back_is_told (void **state)
{
	struct spool *s = reopen (NULL, (struct spool_opts){ .memory_bytes = 1, .lost = note_lost, .arg = &nlost });
	char *path = xasprintf ("%s/%016x.seg", dir, 1);
	struct id id, second = id_of (2);
	zmq_msg_t m;
	int fd;

	(void) state;
	for (uint32_t i = 1; i <= 3; i++) {
		add (s, i, 1000);
		spool_commit (s);
	}
	assert_true ((fd = open (path, O_WRONLY)) >= 0);
	assert_int_equal (pwrite (fd, "damaged", 7, 1500), 7);	/* within the second */
	close (fd);
	free (path);
	nlost = 0;
	expect_next (s, 1, 1000);
	expect_next (s, 3, 1000);
	assert_int_equal (nlost, 1);
	assert_true (id_eq (&last_lost, &second));
	assert_false (spool_has (s, &second));
	zmq_msg_init (&m);
	assert_false (spool_next (s, &id, &m));
	zmq_msg_close (&m);
	spool_close (&s);
}

static void test_many_in_one_burst (void **state)
{
	struct spool *s = reopen (NULL, (struct spool_opts){ .segment_bytes = 65536 });

	(void) state;
	for (uint32_t i = 1; i <= 3000; i++)
		add (s, i, 100);
	spool_commit (s);
	assert_int_equal (stats (s).unspooled, 0);
	s = reopen (s, (struct spool_opts){ 0 });
	for (uint32_t i = 1; i <= 3000; i++)
		expect_next (s, i, 100);
	spool_close (&s);
}

/* A file size limit makes writes fail as a full disk does, in the middle of a record. */
static void limit_files (rlim_t n)
{
	struct rlimit r;

	signal (SIGXFSZ, SIG_IGN);
	getrlimit (RLIMIT_FSIZE, &r);
	r.rlim_cur = n;
	assert_int_equal (setrlimit (RLIMIT_FSIZE, &r), 0);
}

static void test_full_disk (void **state)
{
	struct spool *s = reopen (NULL, (struct spool_opts){ 0 });

	(void) state;
	limit_files (5000);
	for (uint32_t i = 1; i <= 10; i++)
		add (s, i, 1000);
	spool_commit (s);
	struct spool_stats st = stats (s);
	bool full = st.full;
	size_t unspooled = st.unspooled;
	add (s, 11, 1000);
	spool_commit (s);	/* is not tried again for each burst */
	size_t more = stats (s).unspooled;
	spool_tick (s);
	bool still = stats (s).full;
	limit_files (RLIM_INFINITY);
	assert_true (full && still);
	assert_int_equal (unspooled, 6);
	assert_int_equal (more, 7);
	assert_true (strlen (st.error) > 0);
	for (uint32_t i = 1; i <= 11; i++)
		expect_next (s, i, 1000);	/* sent all the same */
	ack (s, 8);
	spool_tick (s);		/* room again */
	assert_false (stats (s).full);
	assert_int_equal (stats (s).unspooled, 0);
	s = reopen (s, (struct spool_opts){ 0 });
	assert_int_equal (stats (s).results, 10);
	assert_int_equal (stats (s).corrupt, 0);
	spool_close (&s);
}

static void test_own_limit_and_recovery (void **state)
{
	struct spool *s = reopen (NULL, (struct spool_opts){ .max_bytes = 4000, .segment_bytes = 1500 });

	(void) state;
	for (uint32_t i = 1; i <= 6; i++) {
		add (s, i, 1000);
		spool_commit (s);
	}
	assert_true (stats (s).full);
	assert_true (stats (s).disk_bytes <= 6000);
	for (uint32_t i = 1; i <= 6; i++)
		ack (s, i);
	spool_tick (s);
	assert_false (stats (s).full);
	assert_int_equal (stats (s).unspooled_bytes, 0);
	add (s, 20, 1000);
	spool_commit (s);
	assert_int_equal (stats (s).unspooled, 0);
	spool_close (&s);
}

static void test_sync_thread (void **state)
{
	struct spool *s = reopen (NULL, (struct spool_opts){ .fsync = SPOOL_FSYNC_INTERVAL });

	(void) state;
	for (uint32_t i = 1; i <= 20; i++) {
		add (s, i, 100);
		spool_commit (s);
		spool_tick (s);
	}
	spool_close (&s);
	s = reopen (NULL, (struct spool_opts){ 0 });
	assert_int_equal (stats (s).results, 20);
	spool_close (&s);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_crc_is_the_one_of_zlib),
		cmocka_unit_test_setup_teardown (test_order_rewind_and_ack, setup, teardown),
		cmocka_unit_test_setup_teardown (test_recovery_after_a_crash, setup, teardown),
		cmocka_unit_test_setup_teardown (test_torn_tail_is_cut, setup, teardown),
		cmocka_unit_test_setup_teardown (test_damaged_head_is_set_aside, setup, teardown),
		cmocka_unit_test_setup_teardown (test_bad_checksum_loses_one_record, setup, teardown),
		cmocka_unit_test_setup_teardown (test_bodies_are_read_back, setup, teardown),
		cmocka_unit_test_setup_teardown (test_a_result_that_cannot_be_read_back_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown (test_many_in_one_burst, setup, teardown),
		cmocka_unit_test_setup_teardown (test_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown (test_own_limit_and_recovery, setup, teardown),
		cmocka_unit_test_setup_teardown (test_sync_thread, setup, teardown),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
