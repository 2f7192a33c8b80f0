/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/tally.h"
#include "common/tree.h"
#include "common/xmem.h"
#include "endpoint/manager/shelf.h"

#define MIB (1u << 20)

struct rig {
	char dir[64], out[80], room[80], call[160];
	struct id task;
	char task_text[ID_TEXT];
	struct shelf_put put;
	struct buf list, kept;
	unsigned asked, kill_at, stop_at;	/* pieces; 0 = never */
	void (*meanwhile) (struct rig *r);	/* each time that we are asked; may be NULL */
};

static void (*before_growing) (void);		/* the next time that a file gets its room; may be NULL */

int ftruncate (int fd, off_t size)
{
	void (*f) (void) = before_growing;

	before_growing = NULL;
	if (f)
		f ();
	return (int) syscall (SYS_ftruncate, fd, size);
}

static bool stop_asked (void *arg)
{
	struct rig *r = arg;

	r->asked++;
	if (r->asked == r->kill_at)
		raise (SIGKILL);
	if (r->meanwhile)
		r->meanwhile (r);
	return r->asked == r->stop_at;
}

static int set_up (void **state)
{
	struct rig *r = xcalloc (1, sizeof (*r));

	snprintf (r->dir, sizeof (r->dir), "/tmp/weft-t-shelf-XXXXXX");
	assert_non_null (mkdtemp (r->dir));
	snprintf (r->out, sizeof (r->out), "%s/out", r->dir);
	snprintf (r->room, sizeof (r->room), "%s/w0", r->dir);
	id_new (&r->task);
	snprintf (r->call, sizeof (r->call), "%s/" FILES_KEPT_DIR "%s", r->room, id_text (&r->task, r->task_text));
	assert_int_equal (mkdir (r->out, 0700) | mkdir (r->room, 0700) | mkdir (r->call, 0700), 0);
	buf_init (&r->list, 0);
	buf_init (&r->kept, FILES_KEPT_MAX);
	r->put = (struct shelf_put) { .dir = r->out, .from = r->dir, .inner = "w0", .limits.task_bytes = 16 * MIB, .task = r->task,
				      .stop = stop_asked, .arg = r };
	*state = r;
	return 0;
}

static int tear_down (void **state)
{
	struct rig *r = *state;

	assert_int_equal (tree_remove (r->dir), 0);
	buf_fini (&r->list);
	buf_fini (&r->kept);
	free (r);
	return 0;
}

/* A file that the call made, and that is to be kept. */
static void made (struct rig *r, const char *name, size_t n, mode_t mode)
{
	char *path = xasprintf ("%s/%s", r->call, name), *text = xcalloc (1, n + 1);
	int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	memset (text, name[0], n);
	assert_true (fd >= 0);
	assert_int_equal (write (fd, text, n), (ssize_t) n);
	close (fd);
	msg_files_kept_add (&r->list, wire_str (name, strlen (name)), n);
	r->put.kept = wire_str ((char *) r->list.data, r->list.len);
	free (text);
	free (path);
}

static void name_only (struct rig *r, const char *name)
{
	msg_files_kept_add (&r->list, wire_str (name, strlen (name)), 1);
	r->put.kept = wire_str ((char *) r->list.data, r->list.len);
}

static const char *below (const char *dir, const char *name)
{
	static char path[4][400];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf (path[i], sizeof (path[i]), "%s/%s", dir, name);
	return path[i];
}

/* A file of what a task left. */
static const char *left_at (struct rig *r, const char *task_dir, const char *name)
{
	static char path[500];

	snprintf (path, sizeof (path), "%s/%s/%s", r->out, task_dir, name);
	return path;
}

/* Names in DIR, but for the directory of what is being written, which must have `parts` entries. */
static unsigned names (struct rig *r, unsigned parts)
{
	unsigned n = 0;
	struct dirent *e;
	DIR *d = opendir (r->out);

	while ((e = readdir (d))) {
		if (strncmp (e->d_name, ".weft-", 6) == 0) {
			DIR *p = opendir (below (r->out, e->d_name));
			unsigned k = 0;
			while ((e = readdir (p)))
				k += e->d_name[0] != '.';
			closedir (p);
			assert_int_equal (k, parts);
		} else
			n += e->d_name[0] != '.';
	}
	closedir (d);
	return n;
}

static void is_there (struct rig *r, const char *task_dir, const char *name, off_t size)
{
	struct stat st;
	char first = 0;
	int fd = open (left_at (r, task_dir, name), O_RDONLY | O_NOFOLLOW);

	assert_true (fd >= 0);
	assert_int_equal (fstat (fd, &st), 0);
	assert_int_equal (st.st_size, size);
	assert_int_equal (size ? pread (fd, &first, 1, size - 1) : 0, size ? 1 : 0);
	assert_int_equal (first, size ? name[0] : 0);
	close (fd);
}

static void fails (struct rig *r, const char *word, enum err_fault fault)
{
	struct err err = { 0 };

	assert_int_equal (shelf_put (&r->put, &r->kept, &err), -1);
	assert_int_equal (err.code, ERR_TASK_FILE);
	assert_int_equal (err.fault, fault);
	if (!strstr (err.text, word))
		fail_msg ("'%s' is not in '%s'", word, err.text);
	assert_int_equal (r->kept.len, 0);
	assert_int_equal (names (r, 0), 0);
}

static void test_files_stand_there_whole (void **state)
{
	struct rig *r = *state;
	struct wire_str list;
	struct msg_kept k;
	struct err err;

	made (r, "a", 3 * MIB + 5, 0600);
	made (r, "empty", 0, 0600);
	made (r, "script", 9, 0700);
	made (r, "more", 7, 0600);
	r->list.len -= 10 + 4;		/* "more" is not to be kept */
	r->put.kept.n = r->list.len;
	assert_int_equal (shelf_put (&r->put, &r->kept, &err), 0);
	assert_int_equal (names (r, 0), 1);
	is_there (r, r->task_text, "a", 3 * MIB + 5);
	is_there (r, r->task_text, "empty", 0);
	is_there (r, r->task_text, "script", 9);
	assert_int_equal (access (left_at (r, r->task_text, "script"), X_OK), 0);
	assert_int_equal (access (left_at (r, r->task_text, "more"), F_OK), -1);
	list = wire_str ((char *) r->kept.data, r->kept.len);
	assert_int_equal (msg_files_kept_next (&list, &k, &err), 1);
	assert_int_equal (k.bytes, 3 * MIB + 5);
	const char *path = left_at (r, r->task_text, "a");
	assert_int_equal (k.path.n, strlen (path));
	assert_memory_equal (k.path.p, path, k.path.n);
}

static void test_what_is_there_is_not_touched (void **state)
{
	struct rig *r = *state;
	struct err err;
	char second[60], third[60];
	int fd;

	made (r, "a", 5, 0600);
	assert_int_equal (shelf_put (&r->put, &r->kept, &err), 0);
	made (r, "a", 6, 0600);
	r->put.kept.n /= 2;
	snprintf (second, sizeof (second), "%s.2", r->task_text);
	fd = creat (below (r->out, second), 0600);	/* of somebody else: a file */
	assert_int_equal (write (fd, "mine", 4), 4);
	close (fd);
	snprintf (third, sizeof (third), "%s.3", r->task_text);
	assert_int_equal (symlink ("/etc", below (r->out, third)), 0);
	assert_int_equal (shelf_put (&r->put, &r->kept, &err), 0);
	is_there (r, r->task_text, "a", 5);
	snprintf (third, sizeof (third), "%s.4", r->task_text);
	is_there (r, third, "a", 6);
	assert_int_equal (names (r, 0), 4);
}

static void test_links_are_not_followed (void **state)
{
	struct rig *r = *state;
	char secret[100], parts[40];
	int fd;

	snprintf (secret, sizeof (secret), "%s/secret", r->dir);
	fd = creat (secret, 0600);
	assert_int_equal (write (fd, "secret", 6), 6);
	close (fd);
	assert_int_equal (symlink (secret, below (r->call, "a")), 0);
	name_only (r, "a");
	fails (r, "cannot be kept", FAULT_USER);
	assert_int_equal (unlink (below (r->call, "a")), 0);
	assert_int_equal (mkfifo (below (r->call, "a"), 0600), 0);
	fails (r, "no regular file", FAULT_USER);
	/* the directory of the call itself */
	assert_int_equal (rename (r->call, below (r->room, "moved")), 0);
	assert_int_equal (symlink (r->dir, r->call), 0);
	name_only (r, "secret");
	fails (r, "directory of the call", FAULT_SITE);
	assert_int_equal (unlink (r->call), 0);
	assert_int_equal (rename (below (r->room, "moved"), r->call), 0);
	/* and where it is written to */
	snprintf (parts, sizeof (parts), ".weft-%u", (unsigned) geteuid ());
	assert_int_equal (tree_remove (below (r->out, parts)), 0);
	assert_int_equal (symlink (r->dir, below (r->out, parts)), 0);
	r->list.len = 0;
	assert_int_equal (unlink (below (r->call, "a")), 0);
	made (r, "b", 1, 0600);
	struct err err;
	assert_int_equal (shelf_put (&r->put, &r->kept, &err), -1);
	assert_non_null (strstr (err.text, parts));
}

static void test_more_than_a_task_may_leave (void **state)
{
	struct rig *r = *state;

	made (r, "a", 1000, 0600);
	made (r, "b", 1001, 0600);
	r->put.limits.task_bytes = 2000;
	fails (r, "'b', have more than the 2000 bytes", FAULT_USER);
	fails (r, "files.output_max_bytes", FAULT_USER);
}

static void test_no_directory (void **state)
{
	struct rig *r = *state;
	struct err err;

	made (r, "a", 1, 0600);
	r->put.dir = "/nonexistent/weft";
	assert_int_equal (shelf_put (&r->put, &r->kept, &err), -1);
	assert_int_equal (err.code, ERR_TASK_FILE);
	assert_int_equal (err.fault, FAULT_SITE);
	assert_non_null (strstr (err.text, "/nonexistent/weft"));
}

static void test_a_full_disk_leaves_nothing (void **state)
{
	struct rig *r = *state;
	struct err err;

	if (mount ("none", r->out, "tmpfs", 0, "size=2m") < 0) {
		print_message ("nothing can be mounted here: %s\n", strerror (errno));
		skip ();
	}
	made (r, "a", MIB, 0600);
	made (r, "b", 3 * MIB, 0600);
	fails (r, "No space left on device", FAULT_SITE);
	r->put.kept.n = 11;		/* a alone */
	assert_int_equal (shelf_put (&r->put, &r->kept, &err), 0);
	is_there (r, r->task_text, "a", MIB);
	assert_int_equal (umount (r->out), 0);
}

/* As the task that comes next. */
static int put_next (struct rig *r, struct err *err)
{
	char *was = xasprintf ("%s", r->call);

	id_new (&r->task);
	r->put.task = r->task;
	snprintf (r->call, sizeof (r->call), "%s/" FILES_KEPT_DIR "%s", r->room, id_text (&r->task, r->task_text));
	assert_int_equal (rename (was, r->call), 0);
	free (was);
	r->kept.len = 0;
	return shelf_put (&r->put, &r->kept, err);
}

static uint64_t total (struct rig *r)
{
	char path[160];
	uint64_t sum = 0;

	snprintf (path, sizeof (path), "%s/" FILES_OUTPUT_PARTS "/" FILES_OUTPUT_TOTAL, r->out, (unsigned) geteuid ());
	assert_true (tally_read (path, &sum));
	return sum;
}

/* That somebody has counted just now is forgotten. */
static void may_count (struct rig *r)
{
	char name[32];
	struct tally t;
	int fd;

	snprintf (name, sizeof (name), FILES_OUTPUT_PARTS, (unsigned) geteuid ());
	assert_true ((fd = open (below (r->out, name), O_RDONLY | O_DIRECTORY)) >= 0);
	assert_int_equal (tally_lock (&t, fd, FILES_OUTPUT_TOTAL, stop_asked, r), 0);
	t.count_at_s = 0;
	assert_int_equal (tally_write_unlock (&t), 0);
	close (fd);
}

static void test_what_all_tasks_may_leave (void **state)
{
	struct rig *r = *state;
	struct err err = { 0 };
	char first[ID_TEXT];

	made (r, "a", 900, 0600);
	assert_int_equal (put_next (r, &err), 0);	/* before there was a bound */
	memcpy (first, r->task_text, sizeof (first));
	r->put.limits.total_bytes = 3000;
	made (r, "b", 100, 0600);
	assert_int_equal (put_next (r, &err), 0);
	assert_int_equal (total (r), 1900);
	assert_int_equal (put_next (r, &err), 0);
	assert_int_equal (total (r), 2900);
	assert_int_equal (put_next (r, &err), -1);
	assert_int_equal (err.code, ERR_TASK_FILE);
	assert_int_equal (err.fault, FAULT_SITE);
	assert_non_null (strstr (err.text, "files.output_dir is full: of the 3000 bytes"));
	assert_non_null (strstr (err.text, "files.output_total_bytes) 2900 are taken, and 'a' needs 900 more"));
	assert_int_equal (total (r), 2900);
	assert_int_equal (names (r, 0), 3);
	/* the operator removes the first: seen when it is counted again, and not before */
	assert_int_equal (tree_remove (below (r->out, first)), 0);
	assert_int_equal (put_next (r, &err), -1);
	may_count (r);
	assert_int_equal (put_next (r, &err), 0);
	assert_int_equal (total (r), 3000);
	assert_int_equal (names (r, 0), 3);
	/* others' things there do not count; a bound that was lifted, and is there again, counts what came between */
	assert_int_equal (mkdir (below (r->out, "mine"), 0700), 0);
	r->put.limits.total_bytes = 0;
	assert_int_equal (put_next (r, &err), 0);
	r->put.limits.total_bytes = 5000;
	assert_int_equal (put_next (r, &err), 0);
	assert_int_equal (total (r), 5000);
}

static struct rig *counting;

/* Another manager, which has a bound, counts, and puts a file there. */
static void another_counts (void)
{
	struct shelf_put other = counting->put;
	struct buf kept;
	struct err err;

	other.limits.total_bytes = 5000;
	buf_init (&kept, FILES_KEPT_MAX);
	assert_int_equal (shelf_put (&other, &kept, &err), 0);
	buf_fini (&kept);
	assert_int_equal (total (counting), 900);
}

static void test_one_without_a_bound_beside_one_that_has_one (void **state)
{
	struct rig *r = counting = *state;
	struct err err;

	made (r, "a", 900, 0600);
	before_growing = another_counts;
	assert_int_equal (put_next (r, &err), 0);
	assert_int_equal (names (r, 0), 2);
	r->put.limits.total_bytes = 5000;
	assert_int_equal (put_next (r, &err), 0);
	assert_int_equal (total (r), 2700);
}

/* What a killed one took is counted until somebody counts. */
static void test_total_after_a_kill (void **state)
{
	struct rig *r = *state;
	struct err err;
	int status;
	pid_t pid;

	r->put.limits.total_bytes = 5 * MIB;
	made (r, "a", 3 * MIB, 0600);
	if ((pid = fork ()) == 0) {
		r->kill_at = 4;		/* pieces, and two names that are counted first */
		shelf_put (&r->put, &r->kept, &err);
		_exit (0);
	}
	assert_int_equal (waitpid (pid, &status, 0), pid);
	assert_true (WIFSIGNALED (status));
	assert_int_equal (total (r), 3 * MIB);
	may_count (r);
	assert_int_equal (put_next (r, &err), 0);
	assert_int_equal (total (r), 3 * MIB);
	assert_int_equal (names (r, 0), 1);
}

/* Room is taken for what there is, not for what was announced; what fails gives it back. */
static void test_total_is_what_was_written (void **state)
{
	struct rig *r = *state;
	struct err err;

	r->put.limits.total_bytes = 5 * MIB;
	made (r, "a", 2 * MIB, 0600);
	name_only (r, "none");
	assert_int_equal (put_next (r, &err), -1);
	assert_int_equal (total (r), 0);
	r->asked = 0;
	r->stop_at = 2;
	r->put.kept.n = 11;		/* a alone */
	assert_int_equal (put_next (r, &err), -1);
	assert_int_equal (err.code, ERR_CANCELLED);
	assert_int_equal (total (r), 0);
	r->stop_at = 0;
	assert_int_equal (put_next (r, &err), 0);
	assert_int_equal (total (r), 2 * MIB);
}

/* Before the first piece is read the file becomes shorter; before all gets its final name another manager counts. */
static void shorter_and_counted (struct rig *r)
{
	struct shelf_put other = r->put;
	char name[60];
	struct err err;
	pid_t pid;
	int status;

	if (r->asked == 1)
		assert_int_equal (truncate (below (r->call, "a"), MIB), 0);
	if (r->asked != 4)		/* two names that are counted, the piece */
		return;
	snprintf (name, sizeof (name), FILES_OUTPUT_PARTS "/" FILES_OUTPUT_TOTAL, (unsigned) geteuid ());
	assert_int_equal (unlink (below (r->out, name)), 0);
	if ((pid = fork ()) == 0) {
		r->meanwhile = NULL;
		made (r, "b", 10, 0600);
		other.kept = wire_str ((char *) r->list.data + 11, r->list.len - 11);
		_exit (shelf_put (&other, &r->kept, &err) == 0 ? 0 : 1);
	}
	assert_int_equal (waitpid (pid, &status, 0), pid);
	assert_int_equal (status, 0);
}

static void test_total_when_one_is_shorter_and_another_counts (void **state)
{
	struct rig *r = *state;
	struct err err;

	r->put.limits.total_bytes = 5 * MIB;
	made (r, "a", 2 * MIB, 0600);
	r->meanwhile = shorter_and_counted;
	assert_int_equal (put_next (r, &err), 0);
	assert_int_equal (total (r), MIB + 10);
	assert_int_equal (names (r, 0), 2);
}

/* What cannot be looked at for want of a descriptor is not taken for nothing. */
static void test_total_without_descriptors (void **state)
{
	struct rig *r = *state;
	struct rlimit before, now;
	struct err err = { 0 };

	made (r, "a", 2 * MIB, 0600);
	assert_int_equal (put_next (r, &err), 0);
	r->put.limits.total_bytes = 3 * MIB;
	assert_int_equal (getrlimit (RLIMIT_NOFILE, &before), 0);
	now = before;
	for (now.rlim_cur = 3; now.rlim_cur < 30; now.rlim_cur++) {
		assert_int_equal (setrlimit (RLIMIT_NOFILE, &now), 0);
		int rc = put_next (r, &err);
		assert_int_equal (setrlimit (RLIMIT_NOFILE, &before), 0);
		assert_int_equal (rc, -1);
	}
	assert_non_null (strstr (err.text, "files.output_dir is full"));
	assert_int_equal (total (r), 2 * MIB);
	assert_int_equal (names (r, 0), 1);	/* what could not be removed was by the next one */
}

static void test_what_stays_free (void **state)
{
	struct rig *r = *state;
	struct err err;

	if (mount ("none", r->out, "tmpfs", 0, "size=4m") < 0) {
		print_message ("nothing can be mounted here: %s\n", strerror (errno));
		skip ();
	}
	r->put.limits.free_bytes = 2 * MIB;
	made (r, "a", MIB, 0600);
	made (r, "b", MIB + 1, 0600);
	fails (r, "the disk of files.output_dir is full: it has", FAULT_SITE);
	fails (r, "2097152 of which must stay so (files.output_free_bytes), and 'b' needs 1048577 more", FAULT_SITE);
	r->put.kept.n = 11;		/* a alone */
	assert_int_equal (shelf_put (&r->put, &r->kept, &err), 0);
	is_there (r, r->task_text, "a", MIB);
	assert_int_equal (umount (r->out), 0);
}

static void test_asked_to_stop (void **state)
{
	struct rig *r = *state;
	struct err err;

	made (r, "a", 5 * MIB, 0600);
	for (r->stop_at = 3; r->stop_at; r->stop_at = r->stop_at == 3 ? 6 : 0) {	/* in between, and when all is copied */
		r->asked = 0;
		assert_int_equal (shelf_put (&r->put, &r->kept, &err), -1);
		assert_int_equal (err.code, ERR_CANCELLED);
		assert_int_equal (names (r, 0), 0);
	}
}

static void test_killed_at_each_piece (void **state)
{
	struct rig *r = *state;
	struct err err;
	int status;

	made (r, "a", 2 * MIB, 0600);
	made (r, "b", 2 * MIB, 0600);
	for (unsigned k = 1; k <= 5; k++) {
		pid_t pid = fork ();

		if (pid == 0) {
			r->kill_at = k;
			shelf_put (&r->put, &r->kept, &err);
			_exit (0);
		}
		assert_int_equal (waitpid (pid, &status, 0), pid);
		assert_true (WIFSIGNALED (status));
		assert_int_equal (names (r, 2), 0);	/* a part and its lock, of this one alone: no final name */
	}
	r->asked = 0;
	assert_int_equal (shelf_put (&r->put, &r->kept, &err), 0);
	assert_int_equal (names (r, 0), 1);
	is_there (r, r->task_text, "a", 2 * MIB);
	is_there (r, r->task_text, "b", 2 * MIB);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown (test_files_stand_there_whole, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_what_is_there_is_not_touched, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_links_are_not_followed, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_more_than_a_task_may_leave, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_no_directory, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_a_full_disk_leaves_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_what_all_tasks_may_leave, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_total_after_a_kill, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_total_is_what_was_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_one_without_a_bound_beside_one_that_has_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_total_when_one_is_shorter_and_another_counts, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_total_without_descriptors, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_what_stays_free, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_asked_to_stop, set_up, tear_down),
		cmocka_unit_test_setup_teardown (test_killed_at_each_piece, set_up, tear_down),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
