/* SPDX-License-Identifier: Apache-2.0 */
/* The bulk store: what may be opened, what is written and read, what was changed by others, what the sweeper sees; records whose
 * references are replaced by their data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "proto/bulk_payloads.h"
#include "proto/bulk_record.h"
#include "proto/link.h"

static void (*after_read) (void);	/* once, after the next pread */

ssize_t pread (int fd, void *p, size_t n, off_t at)
{
	ssize_t got = syscall (SYS_pread64, fd, p, n, at);
	void (*then) (void) = after_read;
	after_read = NULL;
	if (then)
		then ();
	return got;
}

static struct stat forgotten;		/* what was last taken out of the system's memory, by a thread that is joined when this is read */
static unsigned forgets;

int posix_fadvise (int fd, off_t at, off_t n, int advice)
{
	assert_int_equal (fstat (fd, &forgotten), 0);
	assert_true (at == 0 && n == 0 && advice == POSIX_FADV_DONTNEED);
	forgets++;
	return 0;
}

struct rig { char *root, *dir; struct bulk *b; struct id task; };

static int up (void **state)
{
	struct rig *r = xcalloc (1, sizeof (*r));
	char root[] = "/tmp/weft-bulk-XXXXXX";
	struct err err = { 0 };
	assert_non_null (mkdtemp (root));
	r->root = xstrdup (root);
	r->dir = xasprintf ("%s/store", root);
	r->b = bulk_open (r->dir, true, &err);
	if (!r->b)
		fail_msg ("%s", err.text);
	id_new (&r->task);
	*state = r;
	return 0;
}

static int down (void **state)
{
	struct rig *r = *state;
	char *command = xasprintf ("rm -rf -- '%s'", r->root);
	bulk_close (&r->b);
	assert_int_equal (system (command), 0);
	free (command);
	free (r->root);
	free (r->dir);
	free (r);
	return 0;
}

static char *path_of (const struct rig *r, const char *name)
{
	return xasprintf ("%s/%s", r->dir, name);
}

static void test_one_store_has_one_id (void **state)
{
	struct rig *r = *state;
	struct err err = { 0 };
	struct bulk *again = bulk_open (r->dir, false, &err);
	struct stat st;
	assert_non_null (again);
	assert_true (id_eq (bulk_id (again), bulk_id (r->b)));
	assert_false (id_is_zero (bulk_id (r->b)));
	assert_int_equal (stat (r->dir, &st), 0);
	assert_int_equal (st.st_mode & 07777, 0700);
	bulk_close (&again);
	assert_null (again);
}

static void expect_refused (const char *dir, bool make, enum err_code code, const char *word)
{
	struct err err = { 0 };
	struct bulk *b = bulk_open (dir, make, &err);
	assert_null (b);
	assert_int_equal (err.code, code);
	if (!strstr (err.text, word))
		fail_msg ("\"%s\" does not say \"%s\"", err.text, word);
}

static void test_what_is_no_store_is_refused (void **state)
{
	struct rig *r = *state;
	char *other = xasprintf ("%s/other", r->root), *deep = xasprintf ("%s/none/below", r->root), *id = path_of (r, "id");
	expect_refused (other, false, ERR_IO, "No such file");
	expect_refused (deep, true, ERR_IO, "making");
	assert_int_equal (mkdir (other, 0700), 0);
	expect_refused (other, false, ERR_NOT_FOUND, "is no bulk store");
	assert_int_equal (chmod (r->dir, 0750), 0);
	expect_refused (r->dir, true, ERR_FORBIDDEN, "can be entered by others");
	assert_int_equal (chmod (r->dir, 0700), 0);
	assert_int_equal (truncate (id, 5), 0);
	expect_refused (r->dir, true, ERR_INVALID, "holds no id");
	assert_int_equal (unlink (id), 0);
	assert_int_equal (symlink ("/etc/passwd", id), 0);
	expect_refused (r->dir, true, ERR_IO, "its id");
	free (other);
	free (deep);
	free (id);
}

static void test_data_comes_back (void **state)
{
	struct rig *r = *state;
	struct bulk_ref p, q;
	char *data = xcalloc (1, 300000), *back = xcalloc (1, 300000);
	struct err err = { 0 };
	for (size_t i = 0; i < 300000; i++)
		data[i] = (char) (i * 7 + i / 256);
	bulk_ref_payload (&p, &r->task, 300000);
	assert_int_equal (bulk_put (r->b, &p, data, &err), 0);
	assert_int_equal (bulk_get (r->b, &p, back, &err), 0);
	assert_memory_equal (data, back, 300000);
	assert_int_equal (bulk_check (r->b, &p, &err), 0);
	/* the same name once more: a repeated submission */
	data[0] = 'Z';
	assert_int_equal (bulk_put (r->b, &p, data, &err), 0);
	assert_int_equal (bulk_get (r->b, &p, back, &err), 0);
	assert_int_equal (back[0], 'Z');
	/* two executions of one task */
	assert_int_equal (bulk_put_result (r->b, &r->task, "one", 3, &p, &err), 0);
	assert_int_equal (bulk_put_result (r->b, &r->task, "two", 3, &q, &err), 0);
	assert_string_not_equal (p.name, q.name);
	assert_int_equal (bulk_get (r->b, &p, back, &err), 0);
	assert_memory_equal (back, "one", 3);
	bulk_delete (r->b, p.name);
	bulk_delete (r->b, p.name);
	assert_int_equal (bulk_get (r->b, &p, back, &err), -1);
	assert_int_equal (err.code, ERR_NOT_FOUND);
	assert_int_equal (err.fault, FAULT_SELF);
	free (data);
	free (back);
}

static void put (const struct rig *r, const struct id *task, uint32_t bytes, char fill)
{
	char *data = xcalloc (1, bytes);
	struct err err = { 0 };
	struct bulk_ref p;
	memset (data, fill, bytes);
	bulk_ref_payload (&p, task, bytes);
	if (bulk_put (r->b, &p, data, &err) < 0)
		fail_msg ("%s", err.text);
	free (data);
}

static void assert_holds (struct bulk *b, const struct id *task, uint32_t bytes, char fill)
{
	char *back = xcalloc (1, bytes);
	struct err err = { 0 };
	struct bulk_ref p;
	bulk_ref_payload (&p, task, bytes);
	if (bulk_get (b, &p, back, &err) < 0)
		fail_msg ("%s", err.text);
	for (uint32_t i = 0; i < bytes; i++)
		assert_int_equal (back[i], fill);
	assert_int_equal (bulk_check (b, &p, &err), 0);
	free (back);
}

static void assert_gone (struct bulk *b, const struct id *task, uint32_t bytes)
{
	char *back = xcalloc (1, bytes);
	struct err err = { 0 };
	struct bulk_ref p;
	bulk_ref_payload (&p, task, bytes);
	assert_int_equal (bulk_get (b, &p, back, &err), -1);
	assert_int_equal (err.code, ERR_NOT_FOUND);
	assert_int_equal (bulk_check (b, &p, &err), -1);
	free (back);
}

static void drop (struct bulk *b, const struct id *task)
{
	struct bulk_ref p;
	bulk_ref_payload (&p, task, 0);
	bulk_delete (b, p.name);
}

static bool has_file (const struct rig *r, const struct id *task)
{
	struct bulk_ref p;
	char *path;
	bool there;
	bulk_ref_payload (&p, task, 0);
	path = path_of (r, p.name);
	there = access (path, F_OK) == 0;
	free (path);
	return there;
}

static off_t disk_bytes (const struct rig *r, const char *name)
{
	char *path = path_of (r, name);
	struct stat st = { 0 };
	int rc = stat (path, &st);
	free (path);
	return rc < 0 ? 0 : st.st_size;
}

/* The time in the head of the task's slot: SPEC.md, section 9.2. */
static void slot_made_old (const struct rig *r, const struct id *task)
{
	char *path = path_of (r, "slots-0"), head[48];
	static const char long_ago[8] = { 1 };
	int fd = open (path, O_RDWR), found = 0;
	for (off_t at = 0; pread (fd, head, sizeof (head), at) == sizeof (head); at += (256 << 10) + 4096)
		if (!memcmp (head + 8, task->b, ID_BYTES)) {
			found++;
			assert_int_equal (pwrite (fd, long_ago, 8, at + 40), 8);
		}
	assert_int_equal (found, 1);
	close (fd);
	free (path);
}

/* More than there are slots for, from two processes' points of view, in both kinds and beyond them. */
static void test_slots_are_used_again (void **state)
{
	struct rig *r = *state;
	enum { N = 300 };
	static const uint32_t sizes[] = { 1, 100000, 256 << 10, (256 << 10) + 1, 2 << 20 };
	struct bulk *other = bulk_open (r->dir, false, NULL);
	struct id ids[N], large;
	int own = 0;
	assert_non_null (other);
	for (int i = 0; i < N; i++) {
		id_new (&ids[i]);
		put (r, &ids[i], sizes[i % 3], (char) ('a' + i % 26));
		own += has_file (r, &ids[i]);
	}
	assert_true (own >= N - 128 && own < N);
	for (int i = 0; i < N; i++)
		assert_holds (i % 2 ? other : r->b, &ids[i], sizes[i % 3], (char) ('a' + i % 26));
	for (int i = 0; i < N; i++) {
		drop (i % 3 ? other : r->b, &ids[i]);
		assert_gone (i % 2 ? other : r->b, &ids[i], sizes[i % 3]);
	}
	for (int round = 0; round < 5; round++)		/* each finds a place now */
		for (int i = 0; i < N; i++) {
			put (r, &ids[i], sizes[i % 5], (char) ('A' + (i + round) % 26));
			assert_false (has_file (r, &ids[i]));
			assert_holds (other, &ids[i], sizes[i % 5], (char) ('A' + (i + round) % 26));
			drop (other, &ids[i]);
		}
	assert_true (disk_bytes (r, "slots-0") <= 128 * ((256 << 10) + 4096));
	assert_true (disk_bytes (r, "slots-1") <= 64 * ((off_t) (2 << 20) + 4096));
	id_new (&large);
	put (r, &large, (2 << 20) + 1, 'l');
	assert_true (has_file (r, &large));
	assert_holds (other, &large, (2 << 20) + 1, 'l');
	drop (other, &large);
	assert_false (has_file (r, &large));
	bulk_close (&other);
}

static void test_a_slot_is_not_given_under_another_id (void **state)
{
	struct rig *r = *state;
	struct err err = { 0 };
	struct id next = r->task;
	struct bulk_ref p;
	char back[8], *slots;
	next.b[0] ^= 1;		/* the same places */
	put (r, &r->task, 5, 'x');
	bulk_ref_payload (&p, &r->task, 5);
	drop (r->b, &r->task);
	put (r, &next, 5, 'y');
	assert_gone (r->b, &r->task, 5);
	assert_holds (r->b, &next, 5, 'y');
	p.bytes = 4;
	put (r, &r->task, 5, 'z');
	assert_int_equal (bulk_get (r->b, &p, back, &err), -1);
	assert_int_equal (err.code, ERR_IO);
	/* removed with all that stood there: what comes is not written into what nobody finds */
	slots = path_of (r, "slots-0");
	assert_int_equal (unlink (slots), 0);
	free (slots);
	put (r, &next, 5, 'n');
	assert_holds (r->b, &next, 5, 'n');
	assert_gone (r->b, &r->task, 5);
}

/* Writes, reads and drops, all in the same few slots; what is gone, which others write over meanwhile, is never given. */
static int hammer (const char *dir, unsigned seed)
{
	enum { N = 3000, BYTES = 50000 };
	struct bulk *b = bulk_open (dir, false, NULL);
	char *data = xcalloc (1, BYTES), *back = xcalloc (1, BYTES);
	struct bulk_ref p, before = { 0 };
	struct err err = { 0 };
	int bad = !b;
	for (int i = 0; i < N && !bad; i++) {
		struct id task;
		id_new (&task);
		memset (task.b + 12, 0, 4);
		memset (data, (char) (seed + (unsigned) i), BYTES);
		bulk_ref_payload (&p, &task, BYTES);
		bad = bulk_put (b, &p, data, &err) < 0 || bulk_get (b, &p, back, &err) < 0 || memcmp (data, back, BYTES) ||
		      (before.bytes && bulk_get (b, &before, back, &err) == 0);
		bulk_delete (b, p.name);
		before = p;
	}
	bulk_close (&b);
	free (data);
	free (back);
	return bad;
}

static void test_processes_share_the_slots (void **state)
{
	struct rig *r = *state;
	enum { PROCESSES = 4 };
	pid_t pids[PROCESSES];
	for (unsigned i = 0; i < PROCESSES; i++)
		if (!(pids[i] = fork ()))
			_exit (hammer (r->dir, i * 61));
	for (int i = 0; i < PROCESSES; i++) {
		int status;
		assert_int_equal (waitpid (pids[i], &status, 0), pids[i]);
		assert_int_equal (status, 0);
	}
}

static void test_what_is_gone_is_not_synced (void **state)
{
	struct rig *r = *state;
	int dir = open (r->dir, O_RDONLY | O_DIRECTORY);
	assert_false (payloads_hold (dir, 0, 0));
	put (r, &r->task, 5, 'x');
	assert_true (payloads_hold (dir, 0, 0));
	assert_false (payloads_hold (dir, 1, 0));
	assert_false (payloads_hold (dir, 0, 3600000));
	slot_made_old (r, &r->task);
	assert_true (payloads_hold (dir, 0, 3600000));
	drop (r->b, &r->task);
	assert_false (payloads_hold (dir, 0, 0));
	close (dir);
}

/* What was read as a result, and nothing else, and not where nobody reads. */
static void test_what_was_read_leaves_memory (void **state)
{
	struct rig *r = *state;
	enum { LARGE = (2 << 20) + 1 };
	struct bulk_ref read, unread, payload;
	struct stat st;
	struct id large;
	struct err err;
	char back[5], segment[BULK_NAME_MAX + 1], *path, *data = xcalloc (1, LARGE);
	id_new (&large);
	for (int reader = 0; reader < 2; reader++) {
		struct bulk *b = bulk_open (r->dir, false, NULL);
		forgets = 0;
		bulk_sync_start (b, reader);
		assert_int_equal (bulk_put_result (r->b, &r->task, "abcde", 5, &read, &err), 0);
		assert_int_equal (bulk_check (b, &read, &err), 0);
		assert_int_equal (bulk_get (b, &read, back, &err), 0);
		bulk_ref_payload (&payload, &r->task, 5);
		assert_int_equal (bulk_put (b, &payload, "xxxxx", &err), 0);
		bulk_ref_payload (&payload, &large, LARGE);
		assert_int_equal (bulk_put (b, &payload, data, &err), 0);
		assert_true (has_file (r, &large));
		assert_holds (b, &r->task, 5, 'x');
		bulk_close (&b);
		assert_int_equal (forgets, reader);
	}
	snprintf (segment, sizeof (segment), "seg-%.8s", read.name + 33);
	path = path_of (r, segment);
	assert_int_equal (stat (path, &st), 0);
	assert_int_equal (st.st_ino, forgotten.st_ino);
	free (path);
	/* read by nobody: a reader that only syncs, or looks whether it is there */
	forgets = 0;
	assert_int_equal (bulk_put_result (r->b, &r->task, "abcde", 5, &unread, &err), 0);
	bulk_sync_start (r->b, true);
	assert_int_equal (bulk_check (r->b, &unread, &err), 0);
	bulk_close (&r->b);
	assert_int_equal (forgets, 0);
	free (data);
}

static const struct rig *others;
static struct id theirs;

static void dropped_and_used_by_others (void)
{
	drop (others->b, &others->task);
	put (others, &theirs, 5, 'o');
}

static void put_once_more (void)
{
	put (others, &others->task, 5, 'x');
}

/* A submission that is made again while its first try is at work. */
static void test_the_same_payload_is_left_as_it_stands (void **state)
{
	struct rig *r = *state;
	struct bulk *b = bulk_open (r->dir, false, NULL);
	others = r;
	put (r, &r->task, 5, 'x');
	clock_set_for_test (-1, clock_real_ns () + 5000000000);	/* another time in its head, if it were written */
	after_read = put_once_more;
	assert_holds (b, &r->task, 5, 'x');
	clock_set_for_test (-1, -1);
	put (r, &r->task, 5, 'y');
	assert_holds (b, &r->task, 5, 'y');
	bulk_close (&b);
}

static void test_what_took_the_place_of_a_dropped_one_stays (void **state)
{
	struct rig *r = *state;
	struct bulk *b = bulk_open (r->dir, false, NULL);
	others = r;
	theirs = r->task;
	theirs.b[0] ^= 1;
	put (r, &r->task, 5, 'x');
	after_read = dropped_and_used_by_others;
	drop (b, &r->task);
	assert_null (after_read);
	assert_holds (r->b, &theirs, 5, 'o');
	assert_gone (r->b, &r->task, 5);
	/* and what is read then is not what was asked for */
	drop (r->b, &theirs);
	put (r, &r->task, 5, 'x');
	after_read = dropped_and_used_by_others;
	assert_gone (b, &r->task, 5);
	assert_holds (r->b, &theirs, 5, 'o');
	bulk_close (&b);
}

/* Says so before each write. */
static int write_without_end (const char *dir, const struct id *task, uint32_t bytes, int said)
{
	struct bulk *b = bulk_open (dir, false, NULL);
	char *data = xcalloc (1, bytes);
	struct bulk_ref p;
	struct err err;
	bulk_ref_payload (&p, task, bytes);
	for (int i = 0; b && write (said, "w", 1) == 1 && bulk_put (b, &p, data, &err) == 0; i++)
		memset (data, 'a' + i % 26, bytes);
	free (data);
	bulk_close (&b);
	return 1;
}

/* Killed in the middle of a write: the place is free for the next, who has the same task when a client tries again. */
static void test_a_writer_is_killed_in_its_write (void **state)
{
	struct rig *r = *state;
	enum { ROUNDS = 40, BYTES = 2 << 20 };
	for (int i = 0; i < ROUNDS; i++) {
		int writes[2];
		char at_it;
		pid_t pid;
		assert_int_equal (pipe (writes), 0);
		if (!(pid = fork ()))
			_exit (close (writes[0]) || write_without_end (r->dir, &r->task, BYTES, writes[1]));
		close (writes[1]);
		for (int n = 0; n < 1 + i % 4; n++)
			assert_int_equal (read (writes[0], &at_it, 1), 1);
		assert_int_equal (kill (pid, SIGKILL), 0);
		assert_int_equal (waitpid (pid, NULL, 0), pid);
		close (writes[0]);
		put (r, &r->task, BYTES, 'p');
		assert_false (has_file (r, &r->task));
		assert_holds (r->b, &r->task, BYTES, 'p');
		drop (r->b, &r->task);
		assert_gone (r->b, &r->task, BYTES);
	}
}

/* Where a slot file cannot be, or a place is being written into by another process, a payload has its own file. */
static void test_without_a_slot (void **state)
{
	struct rig *r = *state;
	char *slots = path_of (r, "slots-0");
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd;
	assert_int_equal (mkdir (slots, 0700), 0);
	put (r, &r->task, 5, 'd');
	assert_true (has_file (r, &r->task));
	assert_holds (r->b, &r->task, 5, 'd');
	drop (r->b, &r->task);
	assert_int_equal (rmdir (slots), 0);
	fd = open (slots, O_RDWR | O_CREAT, 0600);
	assert_int_equal (fcntl (fd, F_OFD_SETLK, &all), 0);
	put (r, &r->task, 5, 'l');
	assert_true (has_file (r, &r->task));
	assert_holds (r->b, &r->task, 5, 'l');
	close (fd);
	/* but what is dropped is gone, though one that was slower to take the place has its lock for a moment */
	drop (r->b, &r->task);
	put (r, &r->task, 5, 's');
	assert_false (has_file (r, &r->task));
	fd = open (slots, O_RDWR);
	assert_int_equal (fcntl (fd, F_OFD_SETLK, &all), 0);
	drop (r->b, &r->task);
	assert_gone (r->b, &r->task, 5);
	close (fd);
	free (slots);
}

static void test_what_was_changed_is_not_given (void **state)
{
	struct rig *r = *state;
	struct bulk_ref p;
	struct err err = { 0 };
	enum { BYTES = 3 << 20 };
	char *back = xcalloc (1, BYTES), *path;
	bulk_ref_payload (&p, &r->task, BYTES);
	path = path_of (r, p.name);
	memset (back, 'x', BYTES);
	assert_int_equal (bulk_put (r->b, &p, back, &err), 0);
	assert_int_equal (truncate (path, BYTES - 1), 0);
	assert_int_equal (bulk_get (r->b, &p, back, &err), -1);
	assert_int_equal (err.code, ERR_IO);
	assert_int_equal (truncate (path, BYTES + 1), 0);
	assert_int_equal (bulk_check (r->b, &p, &err), -1);
	assert_int_equal (unlink (path), 0);
	assert_int_equal (symlink ("/etc/passwd", path), 0);
	assert_int_equal (bulk_get (r->b, &p, back, &err), -1);
	assert_int_equal (err.code, ERR_IO);
	assert_int_equal (unlink (path), 0);
	assert_int_equal (mkfifo (path, 0600), 0);
	assert_int_equal (bulk_get (r->b, &p, back, &err), -1);	/* and does not wait for a writer */
	assert_int_equal (unlink (path), 0);
	assert_int_equal (mkdir (path, 0700), 0);
	assert_int_equal (bulk_get (r->b, &p, back, &err), -1);
	assert_int_equal (bulk_put (r->b, &p, back, &err), -1);
	free (back);
	free (path);
}

static void test_a_full_disk_leaves_nothing (void **state)
{
	struct rig *r = *state;
	struct bulk_ref p;
	struct err err = { 0 };
	struct rlimit was, small = { 1000, 0 };
	char data[5000] = "", *path;
	bulk_ref_payload (&p, &r->task, sizeof (data));
	path = path_of (r, p.name);
	getrlimit (RLIMIT_FSIZE, &was);
	small.rlim_max = was.rlim_max;
	signal (SIGXFSZ, SIG_IGN);
	setrlimit (RLIMIT_FSIZE, &small);
	assert_int_equal (bulk_put (r->b, &p, data, &err), -1);
	setrlimit (RLIMIT_FSIZE, &was);
	assert_int_equal (err.code, ERR_LIMIT);
	assert_int_equal (access (path, F_OK), -1);
	free (path);
}

static void test_names (void **state)
{
	static const char *const bad[] = {
		"", "id", ".", "..", "../0123456789abcdef0123456789abcdef.p", "0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef.",
		"0123456789abcdef0123456789abcdef.q", "0123456789ABCDEF0123456789abcdef.p", "0123456789abcdef0123456789abcdef.p ",
		"0123456789abcdef0123456789abcdef@0123456789abcdef0",
		"0123456789abcdef0123456789abcdef@0123456789abcde", "0123456789abcdef0123456789abcdef@0123456789abcdeg",
		"0123456789abcdef0123456789abcdef.0123456789abcdef", "0123456789abcdef0123456789abcdef@p",
		"0123456789abcdef0123456789abcde/.p", "0123456789abcdef0123456789abcdef/p",
	};
	struct rig *r = *state;
	struct id task;
	enum bulk_kind kind;
	char *keep = path_of (r, "id");
	uint32_t segment, page;
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++) {
		assert_int_equal (bulk_name_parse (bad[i], strlen (bad[i]), &task, &kind), -1);
		bulk_delete (r->b, bad[i]);
	}
	assert_int_equal (access (keep, F_OK), 0);
	assert_int_equal (bulk_name_parse ("0123456789abcdef0123456789abcdef.p", 34, &task, &kind), 0);
	assert_int_equal (kind, BULK_PAYLOAD);
	assert_int_equal (task.b[1], 0x23);
	assert_int_equal (bulk_name_parse ("0123456789abcdef0123456789abcdef@0123456789abcdef", 49, &task, &kind), 0);
	assert_int_equal (kind, BULK_RESULT);
	bulk_name_place ("0123456789abcdef0123456789abcdef@0123456789abcdef", &segment, &page);
	assert_int_equal (segment, 0x01234567);
	assert_int_equal (page, 0x89abcdef);
	free (keep);
}

static void make_old (const struct rig *r, const char *name)
{
	struct timespec old[2] = { { 1000000000, 0 }, { 1000000000, 0 } };
	char *path = path_of (r, name);
	assert_int_equal (utimensat (AT_FDCWD, path, old, 0), 0);
	free (path);
}

/* The file in which a result stands. */
static char *segment_of (const struct bulk_ref *q)
{
	uint32_t segment, page;
	bulk_name_place (q->name, &segment, &page);
	return xasprintf ("seg-%08x", segment);
}

static int walk (const struct rig *r, struct bulk *b, const char *expected)
{
	struct id task;
	enum bulk_kind kind;
	char name[BULK_NAME_MAX + 1];
	int found = 0, rc;
	while ((rc = bulk_old (b, 60000, 1, name, &task, &kind)) != 0)
		if (rc == 1) {
			found++;
			assert_true (strstr (expected, name) != NULL);
			assert_int_equal (kind, strchr (name, '@') ? BULK_RESULT : BULK_PAYLOAD);
			assert_true (id_eq (&task, &r->task));
		}
	return found;
}

static void test_the_walk_sees_old_data_of_ours (void **state)
{
	struct rig *r = *state;
	struct bulk_ref p, q, fresh;
	struct err err = { 0 };
	struct id other;
	char *path = path_of (r, "somebody's"), *segment, *names;
	int fd = open (path, O_WRONLY | O_CREAT, 0600);
	assert_true (fd >= 0);
	close (fd);
	free (path);
	make_old (r, "somebody's");
	id_new (&other);
	bulk_ref_payload (&p, &r->task, 1);
	bulk_ref_payload (&fresh, &other, 1);
	assert_int_equal (bulk_put (r->b, &p, "x", &err), 0);
	assert_int_equal (bulk_put (r->b, &fresh, "x", &err), 0);
	assert_int_equal (bulk_put_result (r->b, &r->task, "x", 1, &q, &err), 0);
	assert_int_equal (walk (r, r->b, ""), 0);
	slot_made_old (r, &r->task);
	segment = segment_of (&q);
	make_old (r, segment);
	names = xasprintf ("%s %s", p.name, q.name);
	for (int round = 0; round < 2; round++)
		assert_int_equal (walk (r, r->b, names), 2);
	free (names);
	free (segment);
}

/* To note when a file was read is a change of its inode for each read. */
static void test_reading_is_not_noted (void **state)
{
	struct rig *r = *state;
	struct bulk_ref p, q;
	struct err err = { 0 };
	struct stat st;
	char back, *segment;
	bulk_ref_payload (&p, &r->task, 1);
	assert_int_equal (bulk_put (r->b, &p, "x", &err), 0);
	assert_int_equal (bulk_put_result (r->b, &r->task, "x", 1, &q, &err), 0);
	segment = segment_of (&q);
	for (int i = 0; i < 2; i++) {
		const char *name = i ? segment : "slots-0";
		char *path = path_of (r, name);
		make_old (r, name);
		assert_int_equal (bulk_get (r->b, i ? &q : &p, &back, &err), 0);
		assert_int_equal (stat (path, &st), 0);
		assert_int_equal (st.st_atime, 1000000000);
		free (path);
	}
	free (segment);
}

static int listen_at (const char *address)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf (sa.sun_path, sizeof (sa.sun_path), "%s", address + strlen ("ipc://"));
	assert_int_equal (bind (fd, (struct sockaddr *)&sa, sizeof (sa)), 0);
	assert_int_equal (listen (fd, 5), 0);
	return fd;
}

/* Of two that are old the one that nobody has any more goes, and never a young one. */
static void test_links (void **state)
{
	struct rig *r = *state;
	struct id e[3];
	char *address[3];
	int fd[3];
	for (int i = 0; i < 3; i++) {
		id_new (&e[i]);
		address[i] = bulk_link (r->b, &e[i]);
		fd[i] = listen_at (address[i]);
		if (i < 2)
			make_old (r, strrchr (address[i], '/') + 1);
	}
	close (fd[1]);
	close (fd[2]);
	assert_int_equal (walk (r, r->b, ""), 0);
	assert_int_equal (access (address[0] + strlen ("ipc://"), F_OK), 0);
	assert_int_equal (access (address[1] + strlen ("ipc://"), F_OK), -1);
	assert_int_equal (access (address[2] + strlen ("ipc://"), F_OK), 0);
	close (fd[0]);
	for (int i = 0; i < 3; i++)
		free (address[i]);
}

static void test_long_names_have_no_link (void **state)
{
	struct rig *r = *state;
	struct err err = { 0 };
	struct bulk *b;
	char *dir = xasprintf ("%s/%070d", r->dir, 1);
	assert_non_null (b = bulk_open (dir, true, &err));
	assert_null (bulk_link (b, &r->task));
	bulk_close (&b);
	free (dir);
}

static void test_results_share_a_segment (void **state)
{
	struct rig *r = *state;
	enum { N = 5, BYTES = 50000 };
	struct bulk_ref q[N], bad;
	struct err err = { 0 };
	char *data = xcalloc (1, BYTES), *back = xcalloc (1, BYTES), *segment, *path;
	struct id other;
	struct stat st;
	for (int i = 0; i < N; i++) {
		memset (data, 'a' + i, BYTES);
		assert_int_equal (bulk_put_result (r->b, &r->task, data, BYTES - (uint32_t) i, &q[i], &err), 0);
	}
	segment = segment_of (&q[0]);
	path = path_of (r, segment);
	for (int i = 0; i < N; i++) {
		char *same = segment_of (&q[i]);
		assert_string_equal (same, segment);
		free (same);
		memset (data, 'a' + i, BYTES);
		assert_int_equal (bulk_check (r->b, &q[i], &err), 0);
		assert_int_equal (bulk_get (r->b, &q[i], back, &err), 0);
		assert_memory_equal (back, data, q[i].bytes);
	}
	/* another size, another task, another page */
	bad = q[1];
	bad.bytes--;
	assert_int_equal (bulk_get (r->b, &bad, back, &err), -1);
	assert_int_equal (err.code, ERR_IO);
	id_new (&other);
	bulk_ref_result (&bad, &other, q[1].bytes, (uint32_t) strtoul (segment + 4, NULL, 16), 0);
	assert_int_equal (bulk_get (r->b, &bad, back, &err), -1);
	bulk_delete (r->b, bad.name);		/* does nothing */
	bulk_ref_result (&bad, &r->task, q[0].bytes, (uint32_t) strtoul (segment + 4, NULL, 16), 1);
	assert_int_equal (bulk_get (r->b, &bad, back, &err), -1);
	bulk_delete (r->b, bad.name);
	for (int i = 0; i < N; i++)
		assert_int_equal (bulk_check (r->b, &q[i], &err), 0);
	/* one is gone, and the others stand */
	assert_int_equal (stat (path, &st), 0);
	blkcnt_t before = st.st_blocks;
	bulk_delete (r->b, q[2].name);
	assert_int_equal (bulk_get (r->b, &q[2], back, &err), -1);
	assert_int_equal (err.code, ERR_NOT_FOUND);
	assert_int_equal (bulk_get (r->b, &q[1], back, &err), 0);
	assert_int_equal (bulk_get (r->b, &q[3], back, &err), 0);
	assert_int_equal (back[q[3].bytes - 1], 'd');
	assert_int_equal (stat (path, &st), 0);
	assert_true (st.st_blocks <= before);
	free (data);
	free (back);
	free (path);
	free (segment);
}

static size_t bytes_beyond_the_end (const char *path)
{
	struct stat st;
	off_t held, whole;
	assert_int_equal (stat (path, &st), 0);
	held = (off_t) st.st_blocks * 512;
	whole = (st.st_size + 4095) / 4096 * 4096;
	return held > whole ? (size_t) (held - whole) : 0;
}

/* Blocks are reserved ahead where the file system can, never more than there are, and go back at the end; a child that ends gives back nothing. */
static void test_a_segment_has_room_ahead (void **state)
{
	struct rig *r = *state;
	enum { N = 10, BYTES = 100000 };
	struct bulk_ref q[N];
	struct err err = { 0 };
	char *data = xcalloc (1, BYTES), *segment, *path;
	size_t ahead;
	int fd, can, status;
	pid_t child;
	path = path_of (r, "probe");
	fd = open (path, O_RDWR | O_CREAT, 0600);
	can = fallocate (fd, FALLOC_FL_KEEP_SIZE, 0, 4096) == 0;
	close (fd);
	unlink (path);
	free (path);
	for (int i = 0; i < N; i++)
		assert_int_equal (bulk_put_result (r->b, &r->task, data, BYTES, &q[i], &err), 0);
	segment = segment_of (&q[0]);
	path = path_of (r, segment);
	ahead = bytes_beyond_the_end (path);
	assert_true (can ? ahead > 0 && ahead <= N * (BYTES + 4096) : ahead == 0);
	if ((child = fork ()) == 0) {
		bulk_close (&r->b);
		_exit (0);
	}
	assert_int_equal (waitpid (child, &status, 0), child);
	assert_int_equal (bytes_beyond_the_end (path), ahead);
	bulk_close (&r->b);
	assert_true (bytes_beyond_the_end (path) < 65536);	/* of the file system itself */
	assert_non_null (r->b = bulk_open (r->dir, true, &err));
	for (int i = 0; i < N; i++)
		assert_int_equal (bulk_get (r->b, &q[i], data, &err), 0);
	free (data);
	free (segment);
	free (path);
}

static void test_a_segment_goes_when_nothing_is_left_and_nobody_writes (void **state)
{
	struct rig *r = *state;
	struct bulk *sweeper;
	struct bulk_ref q[2];
	struct err err = { 0 };
	char *segment, *path;
	struct stat st;
	int fd;
	sweeper = bulk_open (r->dir, false, &err);
	assert_non_null (sweeper);
	for (int i = 0; i < 2; i++)
		assert_int_equal (bulk_put_result (r->b, &r->task, "abc", 3, &q[i], &err), 0);
	segment = segment_of (&q[0]);
	path = path_of (r, segment);
	bulk_delete (sweeper, q[0].name);
	make_old (r, segment);
	assert_int_equal (walk (r, sweeper, q[1].name), 1);
	bulk_delete (sweeper, q[1].name);
	make_old (r, segment);
	assert_int_equal (walk (r, sweeper, ""), 0);
	assert_int_equal (access (path, F_OK), 0);	/* more may come */
	assert_int_equal (bulk_put_result (r->b, &r->task, "def", 3, &q[0], &err), 0);
	assert_int_equal (bulk_check (sweeper, &q[0], &err), 0);
	bulk_delete (sweeper, q[0].name);
	bulk_close (&r->b);				/* its writer dies */
	fd = open (path, O_WRONLY | O_APPEND);		/* in the middle of a record */
	assert_int_equal (ftruncate (fd, 5 * 4096), 0);
	assert_int_equal (write (fd, "WSR1\x00\x10\x00\x00 and so on, until it ends...", 36), 36);
	close (fd);
	make_old (r, segment);
	fd = open (path, O_RDONLY);
	assert_int_equal (walk (r, sweeper, ""), 0);
	assert_int_equal (access (path, F_OK), -1);
	assert_int_equal (fstat (fd, &st), 0);		/* who has it open keeps nothing on disk */
	assert_int_equal (st.st_size, 0);
	close (fd);
	r->b = sweeper;
	free (segment);
	free (path);
}

static void test_a_segment_that_was_removed_is_left (void **state)
{
	struct rig *r = *state;
	struct bulk_ref q[2];
	struct err err = { 0 };
	struct rlimit was, small = { 1000, 0 };
	char *segment, *path, back[3], *big = xcalloc (1, 5000);
	assert_int_equal (bulk_put_result (r->b, &r->task, "abc", 3, &q[0], &err), 0);
	segment = segment_of (&q[0]);
	path = path_of (r, segment);
	assert_int_equal (unlink (path), 0);
	assert_int_equal (bulk_put_result (r->b, &r->task, "def", 3, &q[1], &err), 0);
	assert_int_equal (bulk_get (r->b, &q[1], back, &err), 0);
	assert_memory_equal (back, "def", 3);
	assert_int_equal (bulk_get (r->b, &q[0], back, &err), -1);
	assert_int_equal (err.code, ERR_NOT_FOUND);
	/* what cannot be written whole is cut off, and the next one stands in its place */
	getrlimit (RLIMIT_FSIZE, &was);
	small.rlim_cur = 8192;
	small.rlim_max = was.rlim_max;
	signal (SIGXFSZ, SIG_IGN);
	setrlimit (RLIMIT_FSIZE, &small);
	assert_int_equal (bulk_put_result (r->b, &r->task, big, 5000, &q[0], &err), -1);
	setrlimit (RLIMIT_FSIZE, &was);
	assert_int_equal (err.code, ERR_LIMIT);
	assert_int_equal (bulk_put_result (r->b, &r->task, "ghi", 3, &q[0], &err), 0);
	assert_int_equal (bulk_get (r->b, &q[0], back, &err), 0);
	assert_memory_equal (back, "ghi", 3);
	assert_memory_equal (q[0].name, q[1].name, 41);
	free (big);
	free (path);
	free (segment);
}

/* How many descriptors we have of files of the store whose name begins with this; removed: of those that were removed. */
static int held (const struct rig *r, const char *name, bool removed)
{
	char path[64], *begin = path_of (r, name), to[500];
	int n = 0;
	for (int fd = 0; fd < 64; fd++) {
		ssize_t len;
		snprintf (path, sizeof (path), "/proc/self/fd/%d", fd);
		len = readlink (path, to, sizeof (to) - 1);
		to[len < 0 ? 0 : len] = 0;
		n += !strncmp (to, begin, strlen (begin)) && (!removed || strstr (to, " (deleted)"));
	}
	free (begin);
	return n;
}

/* Not more than a few are; and what was removed is not read. */
static void test_a_segment_that_is_read_is_kept_open (void **state)
{
	struct rig *r = *state;
	enum { N = 10, KEPT = 8 };
	struct bulk_ref q[N];
	struct err err = { 0 };
	struct bulk *reader = bulk_open (r->dir, false, &err);
	char back[3], *segment, *path;
	assert_non_null (reader);
	for (int i = 0; i < N; i++) {
		bulk_close (&r->b);	/* the next one begins another */
		assert_non_null (r->b = bulk_open (r->dir, false, &err));
		assert_int_equal (bulk_put_result (r->b, &r->task, "abc", 3, &q[i], &err), 0);
	}
	bulk_close (&r->b);
	assert_int_equal (held (r, "seg-", false), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal (bulk_get (reader, &q[0], back, &err), 0);
	assert_int_equal (held (r, "seg-", false), 1);
	for (int i = 0; i < 2 * N; i++)
		assert_int_equal (bulk_get (reader, &q[i % N], back, &err), 0);
	assert_int_equal (held (r, "seg-", false), KEPT);
	for (int i = N - KEPT; i < N; i++) {
		segment = segment_of (&q[i]);
		path = path_of (r, segment);
		assert_int_equal (bulk_check (reader, &q[i], &err), 0);
		assert_int_equal (i % 2 ? unlink (path) : truncate (path, 34), 0);
		assert_int_equal (bulk_check (reader, &q[i], &err), -1);
		assert_int_equal (err.code, i % 2 ? ERR_NOT_FOUND : ERR_IO);
		assert_int_equal (bulk_get (reader, &q[i], back, &err), -1);
		assert_int_equal (err.code, i % 2 ? ERR_NOT_FOUND : ERR_IO);
		free (segment);
		free (path);
	}
	assert_int_equal (held (r, "seg-", true), 0);
	bulk_close (&reader);
	assert_int_equal (held (r, "seg-", false), 0);
}

/* ---- records ---- */

static void task_record (const struct rig *r, zmq_msg_t *out, const struct bulk_ref *ref)
{
	struct msg_task m = { .task = r->task, .function = r->task, .flags = TASK_JSON | TASK_BULK, .time_limit_ms = 77 };
	uint8_t text[BULK_REF_MAX];
	struct buf b;
	m.payload = wire_str ((char *) text, bulk_ref_encode (ref, text));
	buf_init (&b, 0);
	msg_task_encode (&b, &m, WIRE_MAJOR);
	link_msg_from_buf (out, &b);
}

static void test_tasks_get_their_data (void **state)
{
	struct rig *r = *state;
	struct bulk_ref p;
	struct err err = { 0 };
	struct msg_task m;
	zmq_msg_t record;
	bulk_ref_payload (&p, &r->task, 6);
	task_record (r, &record, &p);
	assert_int_equal (msg_task_decode (&m, zmq_msg_data (&record), zmq_msg_size (&record), &err), 0);
	assert_int_equal (m.payload_bytes, 6);
	assert_int_equal (bulk_record_task (r->b, &record, &err), -1);
	assert_int_equal (err.code, ERR_NOT_FOUND);
	assert_int_equal (bulk_record_task (NULL, &record, &err), -1);
	assert_non_null (strstr (err.text, "bulk.dir"));
	assert_int_equal (bulk_put (r->b, &p, "[1, 2]", &err), 0);
	for (int i = 0; i < 2; i++) {	/* the second time there is nothing to do */
		assert_int_equal (bulk_record_task (r->b, &record, &err), 0);
		assert_int_equal (msg_task_decode (&m, zmq_msg_data (&record), zmq_msg_size (&record), &err), 0);
		assert_int_equal (m.flags, TASK_JSON);
		assert_int_equal (m.time_limit_ms, 77);
		assert_int_equal (m.payload.n, 6);
		assert_memory_equal (m.payload.p, "[1, 2]", 6);
	}
	zmq_msg_close (&record);
}

static void test_results_get_their_data_or_say_that_it_is_lost (void **state)
{
	struct rig *r = *state;
	struct msg_result m = { .status = STATUS_SUCCESS, .task = r->task, .flags = RESULT_BULK | RESULT_BASE64, .out = WIRE_STR ("printed") };
	struct bulk_ref p;
	struct err err = { 0 };
	uint8_t text[BULK_REF_MAX];
	zmq_msg_t record, lost;
	struct buf b;
	assert_int_equal (bulk_put_result (r->b, &r->task, "/w==", 4, &p, &err), 0);
	bulk_delete (r->b, p.name);
	m.result = wire_str ((char *) text, bulk_ref_encode (&p, text));
	buf_init (&b, 0);
	msg_result_encode (&b, &m, WIRE_MAJOR);
	link_msg_from_buf (&record, &b);
	zmq_msg_init (&lost);
	zmq_msg_copy (&lost, &record);
	bulk_record_result (r->b, &lost);
	assert_int_equal (msg_result_decode (&m, zmq_msg_data (&lost), zmq_msg_size (&lost), &err), 0);
	assert_int_equal (m.status, STATUS_FAILED);
	assert_int_equal (m.fault, FAULT_SELF);
	assert_int_equal (m.flags, 0);
	assert_int_equal (m.result.n, 0);
	assert_memory_equal (m.out.p, "printed", 7);
	zmq_msg_close (&record);
	assert_int_equal (bulk_put_result (r->b, &r->task, "/w==", 4, &p, &err), 0);
	m = (struct msg_result){ .status = STATUS_SUCCESS, .task = r->task, .flags = RESULT_BULK | RESULT_BASE64 };
	m.result = wire_str ((char *) text, bulk_ref_encode (&p, text));
	buf_init (&b, 0);
	msg_result_encode (&b, &m, WIRE_MAJOR);
	link_msg_from_buf (&record, &b);
	bulk_record_result (r->b, &record);
	assert_int_equal (msg_result_decode (&m, zmq_msg_data (&record), zmq_msg_size (&record), &err), 0);
	assert_int_equal (m.status, STATUS_SUCCESS);
	assert_int_equal (m.flags, RESULT_BASE64);
	assert_int_equal (m.result.n, 4);
	assert_memory_equal (m.result.p, "/w==", 4);
	zmq_msg_close (&record);
	zmq_msg_close (&lost);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown (test_one_store_has_one_id, up, down),
		cmocka_unit_test_setup_teardown (test_what_is_no_store_is_refused, up, down),
		cmocka_unit_test_setup_teardown (test_data_comes_back, up, down),
		cmocka_unit_test_setup_teardown (test_slots_are_used_again, up, down),
		cmocka_unit_test_setup_teardown (test_a_slot_is_not_given_under_another_id, up, down),
		cmocka_unit_test_setup_teardown (test_what_took_the_place_of_a_dropped_one_stays, up, down),
		cmocka_unit_test_setup_teardown (test_the_same_payload_is_left_as_it_stands, up, down),
		cmocka_unit_test_setup_teardown (test_without_a_slot, up, down),
		cmocka_unit_test_setup_teardown (test_a_writer_is_killed_in_its_write, up, down),
		cmocka_unit_test_setup_teardown (test_processes_share_the_slots, up, down),
		cmocka_unit_test_setup_teardown (test_what_is_gone_is_not_synced, up, down),
		cmocka_unit_test_setup_teardown (test_what_was_read_leaves_memory, up, down),
		cmocka_unit_test_setup_teardown (test_what_was_changed_is_not_given, up, down),
		cmocka_unit_test_setup_teardown (test_a_full_disk_leaves_nothing, up, down),
		cmocka_unit_test_setup_teardown (test_names, up, down),
		cmocka_unit_test_setup_teardown (test_the_walk_sees_old_data_of_ours, up, down),
		cmocka_unit_test_setup_teardown (test_links, up, down),
		cmocka_unit_test_setup_teardown (test_reading_is_not_noted, up, down),
		cmocka_unit_test_setup_teardown (test_long_names_have_no_link, up, down),
		cmocka_unit_test_setup_teardown (test_results_share_a_segment, up, down),
		cmocka_unit_test_setup_teardown (test_a_segment_has_room_ahead, up, down),
		cmocka_unit_test_setup_teardown (test_a_segment_goes_when_nothing_is_left_and_nobody_writes, up, down),
		cmocka_unit_test_setup_teardown (test_a_segment_that_was_removed_is_left, up, down),
		cmocka_unit_test_setup_teardown (test_a_segment_that_is_read_is_kept_open, up, down),
		cmocka_unit_test_setup_teardown (test_tasks_get_their_data, up, down),
		cmocka_unit_test_setup_teardown (test_results_get_their_data_or_say_that_it_is_lost, up, down),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
