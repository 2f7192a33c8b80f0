/* SPDX-License-Identifier: Apache-2.0 */
/* The bulk store: SPEC.md, section 9. */
#include "proto/bulk.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "common/syncer.h"
#include "common/xmem.h"
#include "proto/bulk_payloads.h"
#include "proto/bulk_segment.h"

#define ID_FILE "id"
#define TMP_PREFIX ".id-"	/* an id being made */
#define LINK_PREFIX "link-"
#define LINK_IPC "ipc://"
#define SYNC_MS 1000

struct bulk {
	char *dir;
	int fd;			/* of the directory */
	struct id id;
	struct payloads *payloads;
	struct segment_writer *results;
	struct segment_reader *read;
	struct syncer *sync;	/* NULL: what comes to disk when is the system's affair */
	bool reader;
	DIR *walk;
	struct segment_walk *segment;	/* where the walk is in one */
	struct payloads_place slots;	/* where the walk is in them; file -1: in none */
};

/* ---- syncing ---- */

/* Under load nearly all that is in slots is gone when it would be synced. */
static bool wanted (int dirfd, const char *name, int64_t age_ms)
{
	int slots = payloads_file (name);
	return slots < 0 || payloads_hold (dirfd, slots, age_ms);
}

/* Where memory that nobody used for long is slow to get, as in a virtual machine, to write a result costs twice as much as into what was just
 * given back. Payloads are still to be read. */
static void forget (int fd, const char *name)
{
	uint32_t segment;
	if (segment_parse (name, &segment))
		posix_fadvise (fd, 0, 0, POSIX_FADV_DONTNEED);
}

void bulk_sync_start (struct bulk *b, bool reader)
{
	b->sync = syncer_create (b->fd, SYNC_MS, "bulk", wanted, reader ? forget : NULL);
	b->reader = reader;
}

bool bulk_syncs (const struct bulk *b) { return b && b->sync; }

void bulk_sync (const struct bulk *b, const struct bulk_ref *result)
{
	char segment[SEGMENT_NAME];
	uint32_t number, page;
	bulk_name_place (result->name, &number, &page);
	segment_name (segment, number);
	syncer_add (b->sync, segment);
}

/* ---- opening ---- */

static int check_dir (const struct bulk *b, const char *dir, struct err *err)
{
	struct stat st;
	if (fstat (b->fd, &st) < 0)
		return err_errno (err, "bulk store %s", dir);
	if (st.st_uid != geteuid ())
		return err_set (err, ERR_FORBIDDEN, FAULT_SITE, "bulk store %s belongs to another user (uid %u)", dir, (unsigned) st.st_uid);
	if (st.st_mode & 077)
		return err_set (err, ERR_FORBIDDEN, FAULT_SITE, "bulk store %s can be entered by others: chmod 700 it", dir);
	return 0;
}

/* 1 read, 0 there is none, -1. */
static int read_id (struct bulk *b, const char *dir, struct err *err)
{
	char text[ID_TEXT + 1] = "";
	int fd = openat (b->fd, ID_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n;
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno (err, "bulk store %s: its id", dir);
	n = read (fd, text, sizeof (text));
	close (fd);
	if (n < ID_TEXT - 1 || id_parse (&b->id, text, ID_TEXT - 1) < 0 || id_is_zero (&b->id))
		return err_set (err, ERR_INVALID, FAULT_SITE, "bulk store %s: the file 'id' in it holds no id", dir);
	return 1;
}

/* Several programs may start at once: the first link wins, all read it. */
static int make_id (struct bulk *b, const char *dir, struct err *err)
{
	char text[ID_TEXT + 1], tmp[sizeof (TMP_PREFIX) + ID_TEXT];
	struct id id;
	int fd, rc = -1;
	ids_random (id.b, sizeof (id.b));
	id_text (&id, text);
	snprintf (tmp, sizeof (tmp), TMP_PREFIX "%s", text);
	text[ID_TEXT - 1] = '\n';
	fd = openat (b->fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0 && write (fd, text, ID_TEXT) == ID_TEXT && (linkat (b->fd, tmp, b->fd, ID_FILE, 0) == 0 || errno == EEXIST))
		rc = 0;
	else
		err_errno (err, "bulk store %s: making its id", dir);
	if (fd >= 0)
		close (fd);
	unlinkat (b->fd, tmp, 0);
	return rc;
}

struct bulk *bulk_open (const char *dir, bool make, struct err *err)
{
	struct bulk *b = xcalloc (1, sizeof (*b));
	int have;
	b->fd = b->slots.file = -1;
	if (make && mkdir (dir, 0700) < 0 && errno != EEXIST) {
		err_errno (err, "making the bulk store %s", dir);
		goto fail;
	}
	b->fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->fd < 0) {
		err_errno (err, "bulk store %s", dir);
		goto fail;
	}
	if (check_dir (b, dir, err) < 0 || (have = read_id (b, dir, err)) < 0)
		goto fail;
	if (!have && !make) {
		err_set (err, ERR_NOT_FOUND, FAULT_SITE, "%s is no bulk store: there is no file 'id' in it", dir);
		goto fail;
	}
	if (!have && (make_id (b, dir, err) < 0 || read_id (b, dir, err) < 1))
		goto fail;
	if (!(b->dir = realpath (dir, NULL))) {
		err_errno (err, "bulk store %s", dir);
		goto fail;
	}
	b->payloads = payloads_create (b->fd);
	b->results = segment_writer_create (b->fd);
	b->read = segment_reader_create (b->fd);
	return b;
fail:
	bulk_close (&b);
	return NULL;
}

void bulk_close (struct bulk **bp)
{
	struct bulk *b = *bp;
	int saved = errno;
	if (!b)
		return;
	syncer_destroy (&b->sync);
	segment_reader_destroy (&b->read);
	segment_writer_destroy (&b->results);
	payloads_destroy (&b->payloads);
	segment_walk_close (&b->segment, b->fd, false);
	if (b->walk)
		closedir (b->walk);
	if (b->fd >= 0)
		close (b->fd);
	free (b->dir);
	free (b);
	*bp = NULL;
	errno = saved;
}

const struct id *bulk_id (const struct bulk *b) { return &b->id; }

const char *bulk_dir (const struct bulk *b) { return b->dir; }

/* ---- files ---- */

/* Of a payload for which there is no slot. */
static int create (const struct bulk *b, const char *name)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, fd = openat (b->fd, name, flags, 0600);
	if (fd < 0 && errno == EEXIST) {
		/* left by an earlier try that nobody was told of; not written into: somebody may read it */
		unlinkat (b->fd, name, 0);
		fd = openat (b->fd, name, flags, 0600);
	}
	return fd;
}

static int write_whole (int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t done = write (fd, p, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			errno = done ? errno : ENOSPC;
			return -1;
		}
		p += done;
		n -= (size_t) done;
	}
	return 0;
}

static int cannot_write (const struct bulk *b, struct err *err)
{
	if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
		return err_set (err, ERR_LIMIT, FAULT_SITE, "bulk store %s: %s", b->dir, strerror (errno));
	return err_errno (err, "writing to the bulk store %s", b->dir);
}

static struct id task_of (const char *name)
{
	enum bulk_kind kind;
	struct id task = { { 0 } };
	bulk_name_parse (name, strlen (name), &task, &kind);
	return task;
}

int bulk_put (const struct bulk *b, const struct bulk_ref *r, const void *p, struct err *err)
{
	struct id task = task_of (r->name);
	int fd, rc, saved;
	if (payloads_put (b->payloads, &task, p, r->bytes) == 0) {
		syncer_add (b->sync, payloads_name (r->bytes));
		return 0;
	}
	fd = create (b, r->name);
	rc = fd < 0 ? -1 : write_whole (fd, p, r->bytes);
	saved = errno;
	if (fd >= 0 && close (fd) < 0 && rc == 0) {
		rc = -1;
		saved = errno;
	}
	if (rc == 0) {
		syncer_add (b->sync, r->name);
		return 0;
	}
	if (fd >= 0)
		unlinkat (b->fd, r->name, 0);
	errno = saved;
	return cannot_write (b, err);
}

int bulk_put_result (const struct bulk *b, const struct id *task, const void *p, uint32_t bytes, struct bulk_ref *r, struct err *err)
{
	uint32_t segment, page;
	if (segment_put (b->results, task, p, bytes, &segment, &page) < 0)
		return cannot_write (b, err);
	bulk_ref_result (r, task, bytes, segment, page);
	return 0;
}

static int cannot_read (const struct bulk *b, struct err *err)
{
	if (errno == ENOENT)
		return err_set (err, ERR_NOT_FOUND, FAULT_SELF, "its data is not in the bulk store %s any more", b->dir);
	if (errno == EILSEQ)
		return err_set (err, ERR_IO, FAULT_SELF, "its data in the bulk store %s was changed", b->dir);
	return err_set (err, ERR_IO, FAULT_SELF, "its data in the bulk store %s cannot be read: %s", b->dir, strerror (errno));
}

/* Of a payload in no slot. */
static int open_own (const struct bulk *b, const struct bulk_ref *r, struct err *err)
{
	int fd = openat (b->fd, r->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	if (fd < 0 || fstat (fd, &st) < 0) {
		cannot_read (b, err);
		if (fd >= 0)
			close (fd);
		return -1;
	}
	if (!S_ISREG (st.st_mode) || st.st_size != (off_t) r->bytes) {
		close (fd);
		return err_set (err, ERR_IO, FAULT_SELF, "its data in the bulk store %s has %lld bytes, not %u: it was changed", b->dir,
				(long long) st.st_size, r->bytes);
	}
	return fd;
}

/* 1: done; 0: it is in no slot; -1. */
static int from_slot (const struct bulk *b, const struct bulk_ref *r, void *out, struct err *err)
{
	struct id task = task_of (r->name);
	if (payloads_get (b->payloads, &task, r->bytes, out) == 0)
		return 1;
	return errno == ENOENT ? 0 : cannot_read (b, err);
}

/* Of a result: all there is to do. out NULL: it is only looked for. */
static int read_result (const struct bulk *b, const struct bulk_ref *r, void *out, struct err *err)
{
	uint32_t segment, page;
	enum bulk_kind kind;
	struct id task;
	bulk_name_parse (r->name, strlen (r->name), &task, &kind);
	bulk_name_place (r->name, &segment, &page);
	if (segment_get (b->read, segment, page, &task, r->bytes, out) < 0)
		return cannot_read (b, err);
	if (b->reader && out)
		bulk_sync (b, r);
	return 0;
}

static bool is_result (const char *name) { return strlen (name) == BULK_NAME_MAX; }

int bulk_check (const struct bulk *b, const struct bulk_ref *r, struct err *err)
{
	int rc, fd;
	if (is_result (r->name))
		return read_result (b, r, NULL, err);
	if ((rc = from_slot (b, r, NULL, err)) != 0)
		return rc < 0 ? -1 : 0;
	if ((fd = open_own (b, r, err)) >= 0)
		close (fd);
	return fd < 0 ? -1 : 0;
}

int bulk_get (const struct bulk *b, const struct bulk_ref *r, void *out, struct err *err)
{
	int fd, rc = 0;
	size_t got = 0;
	if (is_result (r->name))
		return read_result (b, r, out, err);
	if ((rc = from_slot (b, r, out, err)) != 0)
		return rc < 0 ? -1 : 0;
	if ((fd = open_own (b, r, err)) < 0)
		return -1;
	while (got < r->bytes && rc == 0) {
		ssize_t n = read (fd, (char *) out + got, r->bytes - got);
		if (n > 0)
			got += (size_t) n;
		else if (n == 0)
			rc = err_set (err, ERR_IO, FAULT_SELF, "its data in the bulk store %s became shorter", b->dir);
		else if (errno != EINTR)
			rc = cannot_read (b, err);
	}
	close (fd);
	return rc;
}

void bulk_delete (const struct bulk *b, const char *name)
{
	uint32_t segment, page;
	struct id task;
	enum bulk_kind kind;
	if (bulk_name_parse (name, strlen (name), &task, &kind) < 0)
		return;
	if (kind == BULK_PAYLOAD) {
		if (!payloads_drop (b->payloads, &task))
			unlinkat (b->fd, name, 0);
		return;
	}
	bulk_name_place (name, &segment, &page);
	segment_drop (b->fd, segment, page, &task);
}

/* ---- walking ---- */

static DIR *open_walk (const struct bulk *b)
{
	int fd = openat (b->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir (fd);
	if (!d && fd >= 0)
		close (fd);
	return d;
}

static bool old_enough (const struct bulk *b, const char *name, int64_t min_age_ms)
{
	struct timespec now;
	struct stat st;
	clock_gettime (CLOCK_REALTIME, &now);
	if (fstatat (b->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	return (now.tv_sec - st.st_mtim.tv_sec) * INT64_C (1000) + (now.tv_nsec - st.st_mtim.tv_nsec) / 1000000 > min_age_ms;
}

/* The next record of the segment that the walk is in. */
static bool next_result (struct bulk *b, char name[BULK_NAME_MAX + 1], struct id *task)
{
	struct bulk_ref r;
	uint32_t bytes, segment, page;
	if (!segment_walk_next (b->segment, task, &bytes, &segment, &page)) {
		segment_walk_close (&b->segment, b->fd, true);
		return false;
	}
	bulk_ref_result (&r, task, bytes, segment, page);
	strcpy (name, r.name);
	return true;
}

/* The next payload of the slots that the walk is in. */
static bool next_payload (struct bulk *b, int64_t min_age_ms, char name[BULK_NAME_MAX + 1], struct id *task)
{
	struct bulk_ref r;
	if (!payloads_old (b->fd, &b->slots, min_age_ms, task)) {
		b->slots.file = -1;
		return false;
	}
	bulk_ref_payload (&r, task, 0);
	strcpy (name, r.name);
	return true;
}

/* A socket whose forwarder was killed, and whose endpoint has not got another. Looked at once more: it may just have got one, which does not
 * listen yet. */
static void remove_if_deserted (const struct bulk *b, const char *name, int64_t min_age_ms)
{
	char *address = xasprintf (LINK_IPC "%s/%s", b->dir, name);
	if (bulk_link_knock (address) < 0 && errno == ECONNREFUSED && old_enough (b, name, min_age_ms))
		unlinkat (b->fd, name, 0);
	free (address);
}

int bulk_old (struct bulk *b, int64_t min_age_ms, int budget, char name[BULK_NAME_MAX + 1], struct id *task, enum bulk_kind *kind)
{
	if (!b->walk && !(b->walk = open_walk (b)))
		return 0;
	while (budget-- > 0) {
		const struct dirent *de;
		size_t n;
		if (b->segment) {
			*kind = BULK_RESULT;
			if (next_result (b, name, task))
				return 1;
			continue;
		}
		if (b->slots.file >= 0) {
			*kind = BULK_PAYLOAD;
			if (next_payload (b, min_age_ms, name, task))
				return 1;
			continue;
		}
		if (!(de = readdir (b->walk))) {
			closedir (b->walk);
			b->walk = NULL;
			return 0;
		}
		n = strlen (de->d_name);
		b->slots = (struct payloads_place) { .file = payloads_file (de->d_name) };
		if (n == SEGMENT_NAME - 1 && old_enough (b, de->d_name, min_age_ms))
			b->segment = segment_walk_open (b->fd, de->d_name);
		if (strncmp (de->d_name, LINK_PREFIX, strlen (LINK_PREFIX)) == 0 && old_enough (b, de->d_name, min_age_ms))
			remove_if_deserted (b, de->d_name, min_age_ms);
		if (n >= BULK_NAME_MAX || bulk_name_parse (de->d_name, n, task, kind) < 0 || !old_enough (b, de->d_name, min_age_ms))
			continue;
		memcpy (name, de->d_name, n + 1);
		return 1;
	}
	return -1;
}

char *bulk_link (const struct bulk *b, const struct id *endpoint)
{
	char id[ID_TEXT], *address = xasprintf (LINK_IPC "%s/" LINK_PREFIX "%s", b->dir, id_text (endpoint, id));
	if (strlen (address + strlen (LINK_IPC)) < sizeof (((struct sockaddr_un *)NULL)->sun_path))
		return address;
	free (address);
	return NULL;
}

int bulk_link_knock (const char *address)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int n = snprintf (sa.sun_path, sizeof (sa.sun_path), "%s", address + strlen (LINK_IPC)), fd, rc, saved;
	errno = ENAMETOOLONG;
	if (n < 0 || (size_t)n >= sizeof (sa.sun_path) || (fd = socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0)
		return -1;
	rc = connect (fd, (struct sockaddr *)&sa, sizeof (sa));
	saved = errno;
	close (fd);
	errno = saved;
	return rc;
}
