/* SPDX-License-Identifier: Apache-2.0 */
/* See shelfroom.h. The total is a tally (common/tally.h) that all managers share. Operators remove files and tell nobody: when it says that the bound is
 * reached what stands there is counted, but not all the time: that may take long, and the others wait. */
#include "endpoint/manager/shelfroom.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/tally.h"

#define COUNT_PAUSE_S 10
#define COUNT_SHARE 10			/* of the time one part in so many, at most, is spent with counting */

int shelfroom_failed (struct err *err, const char *what, const char *name)
{
	int why = errno;

	if (why == ECANCELED)
		return err_set (err, ERR_CANCELLED, FAULT_SITE, "the manager is stopping");
	err_errno (err, "%s '%.*s' in files.output_dir", what, SHELF_NAME_SHOWN, name);
	err->code = ERR_TASK_FILE;
	err->fault = FAULT_SITE;
	errno = why;
	return -1;
}

/* ---- counting ---- */

/* What is gone, or others', takes nothing of ours; but what cannot be looked at for want of something else is not nothing. */
static int count_files (int at, const char *name, uint64_t *sum)
{
	int fd = openat (at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir (fd);
	struct dirent *e;
	struct stat st;

	if (!d) {
		int saved = errno;
		if (fd >= 0)
			close (fd);
		errno = saved;
		return saved == EMFILE || saved == ENFILE || saved == ENOMEM ? -1 : 0;
	}
	if (fstat (fd, &st) == 0 && st.st_uid == geteuid ())
		while ((e = readdir (d)))
			if (fstatat (fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG (st.st_mode))
				*sum += (uint64_t) st.st_size;
	closedir (d);
	return 0;
}

/* <id>, <id>.2, ... */
static bool of_a_task (const char *name)
{
	struct id id;
	size_t n = strlen (name);

	return n >= ID_TEXT - 1 && id_parse (&id, name, ID_TEXT - 1) == 0 && (n == ID_TEXT - 1 || name[ID_TEXT - 1] == '.');
}

static int count_below (const struct shelfroom *r, int dir, uint64_t *sum)
{
	int copy = openat (dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir (copy);
	struct dirent *e;
	int why = d ? 0 : errno;

	while (!why && (e = readdir (d)))
		if (of_a_task (e->d_name)) {
			if (count_files (dir, e->d_name, sum) < 0)
				why = errno;
			else if (r->p->stop (r->p->arg))
				why = ECANCELED;
		}
	if (d)
		closedir (d);
	else if (copy >= 0)
		close (copy);
	errno = why;
	return why ? -1 : 0;
}

/* What is written first: it may get its final name meanwhile, and better counts twice than never. */
static int count (const struct shelfroom *r, struct tally *t)
{
	int64_t began_s = clock_real_ns () / 1000000000, end_s;
	uint64_t sum = 0;

	if (count_below (r, r->parts, &sum) < 0 || count_below (r, r->top, &sum) < 0)
		return -1;
	end_s = clock_real_ns () / 1000000000;
	log_info ("shelf", "what tasks left was counted", "dir=%s bytes=%" PRIu64 " was=%" PRId64 " s=%" PRId64, r->p->dir, sum,
		  t->known ? (int64_t) t->sum : -1, end_s - began_s);
	t->known = true;
	t->sum = sum;
	t->count_at_s = end_s + COUNT_PAUSE_S + (end_s - began_s) * COUNT_SHARE;
	return 0;
}

/* A clock that was set back must not keep us from counting. */
static bool may_count (const struct tally *t)
{
	int64_t now_s = clock_real_ns () / 1000000000;

	return now_s >= t->count_at_s || t->count_at_s - now_s > 24 * 3600;
}

/* ---- the bounds ---- */

static bool fits (const struct tally *t, uint64_t more, uint64_t max) { return t->sum <= max && more <= max - t->sum; }

static int total_allows (const struct shelfroom *r, struct tally *t, uint64_t more, const char *name, struct err *err)
{
	uint64_t max = r->p->limits.total_bytes;

	if ((!t->known || (!fits (t, more, max) && may_count (t))) && count (r, t) < 0)
		return shelfroom_failed (err, "counting what tasks left, for", name);
	if (fits (t, more, max))
		return 0;
	return err_set (err, ERR_TASK_FILE, FAULT_SITE,
			"files.output_dir is full: of the %" PRIu64 " bytes that tasks may leave there (files.output_total_bytes) %" PRIu64
			" are taken, and '%.*s' needs %" PRIu64 " more. Remove old results there, or ask the endpoint's administrator",
			max, t->sum, SHELF_NAME_SHOWN, name, more);
}

static int disk_allows (const struct shelfroom *r, uint64_t more, const char *name, struct err *err)
{
	uint64_t keep = r->p->limits.free_bytes, free_bytes;
	struct statvfs v;

	if (!keep)
		return 0;
	if (fstatvfs (r->top, &v) < 0)
		return shelfroom_failed (err, "looking for room for", name);
	free_bytes = (uint64_t) v.f_bavail * v.f_frsize;
	if (free_bytes >= keep && more <= free_bytes - keep)
		return 0;
	return err_set (err, ERR_TASK_FILE, FAULT_SITE,
			"the disk of files.output_dir is full: it has %" PRIu64 " bytes free, %" PRIu64 " of which must stay so "
			"(files.output_free_bytes), and '%.*s' needs %" PRIu64 " more. "
			"Remove old results there, or ask the endpoint's administrator",
			free_bytes, keep, SHELF_NAME_SHOWN, name, more);
}

static int grow (const struct shelfroom *r, int fd, uint64_t size, uint64_t more, const char *name, struct err *err)
{
	if (disk_allows (r, more, name, err) < 0)
		return -1;
	return ftruncate (fd, (off_t) size) < 0 ? shelfroom_failed (err, "making room for", name) : 0;
}

/* Another manager may have a bound. In this order: what it counts before we are through is forgotten, what it counts later has it. */
static int grow_untold (const struct shelfroom *r, int fd, uint64_t size, uint64_t more, const char *name, struct err *err)
{
	if (grow (r, fd, size, more, name, err) < 0)
		return -1;
	if (tally_forget (r->parts, FILES_OUTPUT_TOTAL, r->p->stop, r->p->arg) < 0)
		return shelfroom_failed (err, "locking the sum, for", name);
	return 0;
}

int shelfroom_take (struct shelfroom *r, int fd, uint64_t size, const char *name, struct err *err)
{
	struct tally t;
	struct stat st;
	uint64_t more;
	int rc = -1;

	if (fstat (fd, &st) < 0)
		return shelfroom_failed (err, "looking at", name);
	more = size > (uint64_t) st.st_size ? size - (uint64_t) st.st_size : 0;
	if (!r->p->limits.total_bytes)
		return grow_untold (r, fd, size, more, name, err);
	if (tally_lock (&t, r->parts, FILES_OUTPUT_TOTAL, r->p->stop, r->p->arg) < 0)
		return shelfroom_failed (err, "locking the sum, for", name);
	if (total_allows (r, &t, more, name, err) == 0)
		rc = grow (r, fd, size, more, name, err);
	if (rc == 0) {
		t.sum += more;
		r->taken += more;
	}
	if (!t.known)
		tally_unlock (&t);
	else if (tally_write_unlock (&t) < 0 && rc == 0)
		rc = shelfroom_failed (err, "writing the sum, for", name);
	return rc;
}

int shelfroom_left (const struct shelfroom *r, const char *name, struct err *err) { return disk_allows (r, 0, name, err); }

/* Under the lock: whoever counts sees the file with its new size, and the sum without what it had more. */
static int give_back (struct shelfroom *r, struct tally *t, uint64_t less)
{
	if (less > r->taken)
		less = r->taken;
	r->taken -= less;
	t->sum -= less < t->sum ? less : t->sum;
	if (t->known)
		return tally_write_unlock (t);
	tally_unlock (t);
	return 0;
}

int shelfroom_shrink (struct shelfroom *r, int fd, uint64_t size, const char *name, struct err *err)
{
	struct tally t = { .fd = -1 };
	struct stat st;
	int rc;

	if (fstat (fd, &st) < 0)
		return shelfroom_failed (err, "looking at", name);
	if (r->p->limits.total_bytes && tally_lock (&t, r->parts, FILES_OUTPUT_TOTAL, r->p->stop, r->p->arg) < 0)
		return shelfroom_failed (err, "locking the sum, for", name);
	rc = ftruncate (fd, (off_t) size) < 0 ? shelfroom_failed (err, "writing", name) : 0;
	if (t.fd >= 0 && give_back (r, &t, rc == 0 && (uint64_t) st.st_size > size ? (uint64_t) st.st_size - size : 0) < 0 && rc == 0)
		rc = shelfroom_failed (err, "writing the sum, for", name);
	return rc;
}

void shelfroom_drop (struct shelfroom *r)
{
	struct tally t;

	if (r->taken && tally_lock (&t, r->parts, FILES_OUTPUT_TOTAL, r->p->stop, r->p->arg) == 0)
		give_back (r, &t, r->taken);	/* else it is too high, until somebody counts */
}
