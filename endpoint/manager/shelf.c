/* SPDX-License-Identifier: Apache-2.0 */
/* See shelf.h. A directory appears under its final name by rename(2), which never replaces one that has something in it: so no lock is needed for the
 * names, and what somebody was told of stays as it is. */
#include "endpoint/manager/shelf.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/log.h"
#include "common/tree.h"
#include "common/xmem.h"
#include "endpoint/manager/beneath.h"
#include "endpoint/manager/shelfroom.h"

#define MOD "shelf"
#define PIECE (1u << 20)
#define ATTEMPTS_MAX 100

struct writing {
	const struct shelf_put *p;
	int from, top, parts, to, lock;	/* directories, and the lock */
	char name[ID_TEXT], lock_name[ID_TEXT + 8];
	uint64_t total;
	struct shelfroom room;
};

/* ---- what is being written ---- */

/* 1: it is gone; 0: there was none; -1: it is still there. */
static int remove_part (int parts, const char *name)
{
	int fd = openat (parts, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0) {
		tree_empty (fd);
		close (fd);
	}
	return unlinkat (parts, name, AT_REMOVEDIR) == 0 ? 1 : errno == ENOENT ? 0 : -1;
}

/* A lock whose writer is gone, with what it wrote. The lock goes last: without it nothing is left; what cannot be removed now is by a later sweep. */
static void sweep_one (int parts, const char *lock_name)
{
	size_t n = strlen (lock_name);
	char name[ID_TEXT];
	int fd, removed;

	if (n != ID_TEXT - 1 + 5 || strcmp (lock_name + n - 5, ".lock"))
		return;
	snprintf (name, sizeof (name), "%.*s", ID_TEXT - 1, lock_name);
	if ((fd = openat (parts, lock_name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) < 0)
		return;
	if (flock (fd, LOCK_EX | LOCK_NB) == 0) {
		if ((removed = remove_part (parts, name)) > 0)
			log_info (MOD, "removed what a manager left half written", "part=%s", name);
		if (removed >= 0)
			unlinkat (parts, lock_name, 0);
	}
	close (fd);
}

static void sweep (int parts)
{
	int copy = openat (parts, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir (copy);
	struct dirent *e;

	while (d && (e = readdir (d)))
		sweep_one (parts, e->d_name);
	if (d)
		closedir (d);
	else if (copy >= 0)
		close (copy);
}

/* Locked, and still there: a sweep may have come between. */
static int make_lock (struct writing *w)
{
	struct stat st;

	w->lock = openat (w->parts, w->lock_name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (w->lock < 0)
		return -1;
	if (flock (w->lock, LOCK_EX | LOCK_NB) == 0 && fstat (w->lock, &st) == 0 && st.st_nlink)
		return 0;
	close (w->lock);
	w->lock = -1;
	errno = EAGAIN;
	return -1;
}

static int open_parts (struct writing *w, struct err *err)
{
	char name[32];
	struct stat st;

	snprintf (name, sizeof (name), FILES_OUTPUT_PARTS, (unsigned) geteuid ());
	if (mkdirat (w->top, name, 0700) < 0 && errno != EEXIST)
		return shelfroom_failed (err, "making the directory", name);
	w->parts = openat (w->top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (w->parts < 0 || fstat (w->parts, &st) < 0)
		return shelfroom_failed (err, "opening the directory", name);
	if (st.st_uid == geteuid ())
		return 0;
	return err_set (err, ERR_TASK_FILE, FAULT_SITE, "the directory '%s' in files.output_dir belongs to user %u; its operator must remove it", name,
			(unsigned) st.st_uid);
}

static int begin (struct writing *w, struct err *err)
{
	struct id id;

	if ((w->top = open (w->p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return shelfroom_failed (err, "opening the directory", w->p->dir);
	if (open_parts (w, err) < 0)
		return -1;
	sweep (w->parts);
	w->room = (struct shelfroom) { .p = w->p, .top = w->top, .parts = w->parts };
	for (int tries = 0; w->lock < 0; tries++) {
		id_new (&id);
		id_text (&id, w->name);
		snprintf (w->lock_name, sizeof (w->lock_name), "%s.lock", w->name);
		if (make_lock (w) < 0 && (errno != EAGAIN || tries == 10))
			return shelfroom_failed (err, "locking", w->lock_name);
	}
	/* all that the directory's access control list permits: the umask is ours where it has none */
	if (mkdirat (w->parts, w->name, 0777) < 0 || (w->to = openat (w->parts, w->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return shelfroom_failed (err, "making the directory", w->name);
	return 0;
}

static void end (struct writing *w, bool good)
{
	if (!good)
		shelfroom_drop (&w->room);
	/* renamed, when all went well */
	if (w->lock >= 0 && remove_part (w->parts, w->name) >= 0)
		unlinkat (w->parts, w->lock_name, 0);
	for (size_t i = 0; i < 5; i++) {
		int fd = (int[]){ w->from, w->top, w->parts, w->to, w->lock }[i];
		if (fd >= 0)
			close (fd);
	}
}

/* ---- copying ---- */

static int open_from (struct writing *w, struct err *err)
{
	char id[ID_TEXT], *path = xasprintf ("%s%s" FILES_KEPT_DIR "%s", w->p->inner, *w->p->inner ? "/" : "", id_text (&w->p->task, id));

	w->from = beneath_open (w->p->from, path, O_DIRECTORY);
	free (path);
	if (w->from >= 0)
		return 0;
	err_errno (err, "opening the directory of the call, to take its files");
	err->code = ERR_TASK_FILE;
	return -1;
}

static int over (const struct writing *w, const char *name, struct err *err)
{
	return err_set (err, ERR_TASK_FILE, FAULT_USER, "the kept files, with '%.*s', have more than the %" PRIu64 " bytes that a task may leave "
			"(files.output_max_bytes of the endpoint)", SHELF_NAME_SHOWN, name, w->p->limits.task_bytes);
}

static int write_all (int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = write (fd, p, n);

		if (k < 0 && errno != EINTR)
			return -1;
		p += k > 0 ? k : 0;
		n -= k > 0 ? (size_t) k : 0;
	}
	return 0;
}

/* room: what it has; it may grow while it is read. */
static int copy_piece (struct writing *w, const char *piece, size_t n, int out, const char *name, uint64_t *bytes, uint64_t *room, struct err *err)
{
	*bytes += n;
	if ((w->total += n) > w->p->limits.task_bytes)
		return over (w, name, err);
	if (w->p->stop (w->p->arg))
		return err_set (err, ERR_CANCELLED, FAULT_SITE, "the manager is stopping");
	if (*bytes > *room && shelfroom_take (&w->room, out, *room = *bytes, name, err) < 0)
		return -1;
	if (shelfroom_left (&w->room, name, err) < 0)
		return -1;
	return write_all (out, piece, n) < 0 ? shelfroom_failed (err, "writing", name) : 0;
}

static int copy_bytes (struct writing *w, int in, int out, const char *name, uint64_t *bytes, uint64_t room, struct err *err)
{
	char *piece = malloc (PIECE);
	ssize_t n = -1;
	int rc = 0;

	*bytes = 0;
	if (!piece)
		return err_set (err, ERR_TASK_FILE, FAULT_SITE, "no memory on the node to keep the file '%.*s'", SHELF_NAME_SHOWN, name);
	while (rc == 0 && ((n = read (in, piece, PIECE)) > 0 || (n < 0 && errno == EINTR)))
		rc = n > 0 ? copy_piece (w, piece, (size_t) n, out, name, bytes, &room, err) : 0;
	free (piece);
	if (rc == 0 && n < 0) {
		err_errno (err, "reading the file '%.*s' of the call", SHELF_NAME_SHOWN, name);
		err->code = ERR_TASK_FILE;
		rc = -1;
	}
	return rc == 0 && *bytes < room ? shelfroom_shrink (&w->room, out, *bytes, name, err) : rc;
}

static int copy_one (struct writing *w, const char *name, uint64_t *bytes, struct err *err)
{
	int in = openat (w->from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), out = -1, rc = -1;
	struct stat st;

	if (in < 0 || fstat (in, &st) < 0 || !S_ISREG (st.st_mode))
		err_set (err, ERR_TASK_FILE, FAULT_USER, "the file '%.*s' of the call cannot be kept: %s", SHELF_NAME_SHOWN, name,
			 in < 0 ? strerror (errno) : "it is no regular file any more");
	else if ((uint64_t) st.st_size > w->p->limits.task_bytes - w->total)
		over (w, name, err);
	else if ((out = openat (w->to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666 | (st.st_mode & 0111))) < 0)
		shelfroom_failed (err, "making", name);
	else if ((rc = shelfroom_take (&w->room, out, (uint64_t) st.st_size, name, err)) == 0
		 && (rc = copy_bytes (w, in, out, name, bytes, (uint64_t) st.st_size, err)) == 0 && fsync (out) < 0)
		rc = shelfroom_failed (err, "writing", name);
	if (in >= 0)
		close (in);
	if (out >= 0)
		close (out);
	return rc;
}

static int copy_all (struct writing *w, uint64_t bytes[FILES_MAX], struct err *err)
{
	struct wire_str list = w->p->kept;
	struct msg_kept k;
	size_t n = 0;
	int rc;

	while ((rc = msg_files_kept_next (&list, &k, err)) > 0) {
		char name[FILES_NAME_MAX + 1];

		if (n == FILES_MAX)
			return err_set (err, ERR_TASK_FILE, FAULT_USER, "more than %d files are to be kept", FILES_MAX);
		snprintf (name, sizeof (name), "%.*s", (int) k.name.n, k.name.p);
		if (copy_one (w, name, &bytes[n++], err) < 0)
			return -1;
	}
	return rc < 0 ? rc : fsync (w->to) < 0 ? shelfroom_failed (err, "writing", w->name) : 0;
}

/* ---- the final name ---- */

static int publish (struct writing *w, char name[ID_TEXT + 8], struct err *err)
{
	char id[ID_TEXT];

	id_text (&w->p->task, id);
	for (int i = 1; i <= ATTEMPTS_MAX; i++) {
		snprintf (name, ID_TEXT + 8, i > 1 ? "%s.%d" : "%s", id, i);
		if (renameat (w->parts, w->name, w->top, name) == 0) {
			fsync (w->top);
			return 0;
		}
		if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
			break;
	}
	return shelfroom_failed (err, "making the directory", name);
}

static void tell (const struct writing *w, const char *name, const uint64_t bytes[FILES_MAX], struct buf *kept)
{
	struct wire_str list = w->p->kept;
	struct msg_kept k;

	for (size_t i = 0; msg_files_kept_next (&list, &k, NULL) > 0; i++) {
		char *path = xasprintf ("%s/%s/%.*s", w->p->dir, name, (int) k.name.n, k.name.p);

		msg_files_kept_add (kept, wire_str (path, strlen (path)), bytes[i]);
		free (path);
	}
}

int shelf_put (const struct shelf_put *p, struct buf *kept, struct err *err)
{
	struct writing w = { .p = p, .from = -1, .top = -1, .parts = -1, .to = -1, .lock = -1 };
	uint64_t bytes[FILES_MAX] = { 0 };
	char name[ID_TEXT + 8];
	int rc = -1;

	if (open_from (&w, err) == 0 && begin (&w, err) == 0 && copy_all (&w, bytes, err) == 0) {
		if (p->stop (p->arg))
			err_set (err, ERR_CANCELLED, FAULT_SITE, "the manager is stopping");
		else if ((rc = publish (&w, name, err)) == 0)
			tell (&w, name, bytes, kept);
	}
	end (&w, rc == 0);
	return rc;
}
