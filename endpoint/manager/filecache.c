/* SPDX-License-Identifier: Apache-2.0 */
/* See filecache.h. */
#include "endpoint/manager/filecache.h"
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
#include "common/digest.h"
#include "common/log.h"
#include "common/xmem.h"

#define MOD "files"
#define SEAL_S 946684800	/* 2000-01-01T00:00Z; no file that was just written has it */
#define READ_BYTES (1u << 20)

struct filecache {
	char *dir, *content;
	int dir_fd, content_fd, part_fd;
	uint64_t max_bytes;
};

static const char *name_of (const uint8_t digest[FILES_DIGEST], char out[FILES_DIGEST_TEXT])
{
	return msg_files_digest_text (digest, out);
}

/* ---- life ---- */

static int sub_dir (struct filecache *c, const char *name, mode_t mode, int *fd, struct err *err)
{
	if (mkdirat (c->dir_fd, name, mode) < 0 && errno != EEXIST)
		return err_errno (err, "making the directory %s/%s", c->dir, name);
	*fd = openat (c->dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0 || fchmod (*fd, mode) < 0)
		return err_errno (err, "opening the directory %s/%s", c->dir, name);
	return 0;
}

static int open_dir (struct filecache *c, const char *dir, struct err *err)
{
	char path[PATH_MAX];
	struct stat st;

	if (mkdir (dir, 0700) < 0 && errno != EEXIST)
		return err_errno (err, "making the directory %s", dir);
	c->dir_fd = open (dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c->dir_fd < 0 || fstat (c->dir_fd, &st) < 0 || !realpath (dir, path))
		return err_errno (err, "opening the directory %s", dir);
	if (st.st_uid != geteuid ())
		return err_set (err, ERR_FORBIDDEN, FAULT_SITE, "the directory %s for files belongs to user %u, not to %u: set files.cache_dir to another",
				dir, (unsigned) st.st_uid, (unsigned) geteuid ());
	if (fchmod (c->dir_fd, 0700) < 0)
		return err_errno (err, "closing %s to others", dir);
	c->dir = xstrdup (path);
	c->content = xasprintf ("%s/" FILECACHE_CONTENT, path);
	return 0;
}

static int lock_dir (const struct filecache *c, struct err *err)
{
	int fd = openat (c->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_errno (err, "opening %s/lock", c->dir);
	while (flock (fd, LOCK_EX) < 0)
		if (errno != EINTR) {
			err_errno (err, "locking %s/lock", c->dir);
			close (fd);
			return -1;
		}
	return fd;
}

/* Parts without a writer go. Returns the bytes of the others, but for `mine`. The directory is locked. */
static uint64_t sweep_parts (const struct filecache *c, const char *mine)
{
	int copy = openat (c->part_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir (copy);
	struct dirent *e;
	struct stat st;
	uint64_t total = 0;

	while (d && (e = readdir (d))) {
		int fd = e->d_name[0] == '.' || (mine && !strcmp (e->d_name, mine)) ? -1 : openat (c->part_fd, e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (flock (fd, LOCK_EX | LOCK_NB) == 0)
			unlinkat (c->part_fd, e->d_name, 0);
		else if (fstat (fd, &st) == 0)
			total += (uint64_t) st.st_size;
		close (fd);
	}
	if (d)
		closedir (d);
	else if (copy >= 0)
		close (copy);
	return total;
}

struct filecache *filecache_create (const char *dir, int64_t max_bytes, struct err *err)
{
	struct filecache *c = xcalloc (1, sizeof (*c));
	int lock;

	c->dir_fd = c->content_fd = c->part_fd = -1;
	c->max_bytes = (uint64_t) max_bytes;
	if (open_dir (c, dir, err) < 0 || sub_dir (c, FILECACHE_CONTENT, 0711, &c->content_fd, err) < 0 || sub_dir (c, "part", 0700, &c->part_fd, err) < 0
	    || (lock = lock_dir (c, err)) < 0) {
		filecache_destroy (&c);
		return NULL;
	}
	sweep_parts (c, NULL);
	close (lock);
	return c;
}

void filecache_destroy (struct filecache **cp)
{
	struct filecache *c = *cp;
	int saved = errno;

	if (!c)
		return;
	if (c->dir_fd >= 0)
		close (c->dir_fd);
	if (c->content_fd >= 0)
		close (c->content_fd);
	if (c->part_fd >= 0)
		close (c->part_fd);
	free (c->dir);
	free (c->content);
	free (c);
	*cp = NULL;
	errno = saved;
}

/* ---- using ---- */

static int seal (int fd)
{
	const struct timespec t[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = SEAL_S } };

	return fchmod (fd, 0444) < 0 || futimens (fd, t) < 0 ? -1 : 0;
}

static void touch (int fd)
{
	const struct timespec t[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };

	(void) futimens (fd, t);	/* at worst it leaves early */
}

/* Somebody wrote to it, or may have. */
static bool still_good (int fd, const uint8_t digest[FILES_DIGEST])
{
	struct digest_stream *d = digest_stream_create ();
	char *mem = malloc (READ_BYTES);
	uint8_t now[FILES_DIGEST];
	ssize_t n = -1;
	off_t at = 0;
	bool good;

	while (d && mem && ((n = pread (fd, mem, READ_BYTES, at)) > 0 || (n < 0 && errno == EINTR))) {
		if (n > 0 && digest_stream_add (d, mem, (size_t) n) < 0)
			break;
		at += n > 0 ? n : 0;
	}
	good = n == 0 && digest_stream_end (d, now) == 0 && memcmp (now, digest, sizeof (now)) == 0 && seal (fd) == 0;
	digest_stream_destroy (&d);
	free (mem);
	return good;
}

int filecache_open (struct filecache *c, const uint8_t digest[FILES_DIGEST], uint64_t *bytes, struct err *err)
{
	char name[FILES_DIGEST_TEXT];
	int fd = openat (c->content_fd, name_of (digest, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? err_set (err, ERR_NOT_FOUND, FAULT_NONE, "not here") : err_errno (err, "opening %s/%s", c->content, name);
	/* who holds it exclusively is about to remove it; who did has */
	if (flock (fd, LOCK_SH | LOCK_NB) < 0 || fstat (fd, &st) < 0 || st.st_nlink == 0) {
		close (fd);
		return err_set (err, ERR_NOT_FOUND, FAULT_NONE, "not here any more");
	}
	if (!S_ISREG (st.st_mode) || ((st.st_mtim.tv_sec != SEAL_S || st.st_mtim.tv_nsec || (st.st_mode & 0222)) && !still_good (fd, digest))) {
		log_warn (MOD, "a kept file was changed by somebody; it is removed", "file=%s", name);
		unlinkat (c->content_fd, name, 0);
		close (fd);
		return err_set (err, ERR_NOT_FOUND, FAULT_NONE, "no good any more");
	}
	touch (fd);
	*bytes = (uint64_t) st.st_size;
	return fd;
}

/* ---- room ---- */

struct kept { char name[FILES_DIGEST_TEXT]; uint64_t bytes; struct timespec used; };
struct kept_list { struct kept *v; size_t n, cap; uint64_t bytes; };

static int older (const void *a, const void *b)
{
	const struct timespec *x = &((const struct kept *) a)->used, *y = &((const struct kept *) b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

static void list_kept (const struct filecache *c, struct kept_list *l)
{
	int copy = openat (c->content_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir (copy);
	struct dirent *e;
	struct stat st;

	while (d && (e = readdir (d))) {
		if (strlen (e->d_name) != FILES_DIGEST_TEXT - 1 || fstatat (c->content_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (l->n == l->cap)
			l->v = xrealloc (l->v, (l->cap = l->cap ? 2 * l->cap : 64) * sizeof (*l->v));
		memcpy (l->v[l->n].name, e->d_name, FILES_DIGEST_TEXT);
		l->v[l->n].bytes = (uint64_t) st.st_size;
		l->v[l->n++].used = st.st_atim;
		l->bytes += (uint64_t) st.st_size;
	}
	if (d)
		closedir (d);
	else if (copy >= 0)
		close (copy);
}

static bool evict (const struct filecache *c, const struct kept *k)
{
	int fd = openat (c->content_fd, k->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool gone = fd < 0 ? errno == ENOENT : flock (fd, LOCK_EX | LOCK_NB) == 0 && unlinkat (c->content_fd, k->name, 0) == 0;

	if (fd >= 0)
		close (fd);
	return gone;
}

int filecache_part_room (struct filecache *c, struct filecache_part *p, uint64_t bytes, struct err *err)
{
	struct kept_list l = { NULL, 0, 0, 0 };
	uint64_t total, removed = 0;
	int lock, rc = 0;

	if (bytes > c->max_bytes)
		return err_set (err, ERR_TOO_LARGE, FAULT_SITE, "%" PRIu64 " bytes are more than all files may take on a node (files.cache_bytes, %" PRIu64
				")", bytes, c->max_bytes);
	if ((lock = lock_dir (c, err)) < 0)
		return -1;
	list_kept (c, &l);
	total = l.bytes + sweep_parts (c, p->name) + bytes;
	if (total > c->max_bytes && l.n)
		qsort (l.v, l.n, sizeof (*l.v), older);
	for (size_t i = 0; i < l.n && total > c->max_bytes; i++)
		if (evict (c, &l.v[i])) {
			total -= l.v[i].bytes;
			removed++;
		}
	if (removed)
		log_info (MOD, "room was made", "removed=%" PRIu64 " bytes=%" PRIu64, removed, total);
	if (total > c->max_bytes)
		rc = err_set (err, ERR_LIMIT, FAULT_SITE, "no room for %" PRIu64 " bytes: the other %" PRIu64 " bytes of files on the node are in use, and "
			      "files.cache_bytes is %" PRIu64, bytes, total - bytes, c->max_bytes);
	else if (ftruncate (p->fd, (off_t) bytes) < 0)
		rc = err_errno (err, "making room in %s", c->dir);
	else
		p->room = bytes;
	close (lock);
	free (l.v);
	return rc;
}

/* ---- making ---- */

int filecache_part_open (struct filecache *c, struct filecache_part *p, struct err *err)
{
	int lock = lock_dir (c, err);	/* a sweep must not see it without its lock */
	struct id id;

	memset (p, 0, sizeof (*p));
	p->fd = -1;
	if (lock < 0)
		return -1;
	id_new (&id);
	id_text (&id, p->name);
	p->fd = openat (c->part_fd, p->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (p->fd < 0 || flock (p->fd, LOCK_EX | LOCK_NB) < 0) {
		err_errno (err, "writing to %s/part", c->dir);
		filecache_part_drop (c, p);
	}
	close (lock);
	return p->fd < 0 ? -1 : 0;
}

void filecache_part_drop (struct filecache *c, struct filecache_part *p)
{
	if (p->fd < 0)
		return;
	unlinkat (c->part_fd, p->name, 0);
	close (p->fd);
	p->fd = -1;
}

int filecache_part_keep (struct filecache *c, struct filecache_part *p, uint64_t bytes, const uint8_t digest[FILES_DIGEST], struct err *err)
{
	char name[FILES_DIGEST_TEXT];
	int fd = -1;

	name_of (digest, name);
	if (ftruncate (p->fd, (off_t) bytes) < 0 || seal (p->fd) < 0 || fsync (p->fd) < 0) {
		err_errno (err, "finishing a file in %s", c->dir);
	} else if (linkat (c->part_fd, p->name, c->content_fd, name, 0) == 0) {
		/* from the exclusive lock to a shared one: nobody else can have seen it in between but to remove it, which is found out below */
		unlinkat (c->part_fd, p->name, 0);
		close (p->fd);
		p->fd = -1;
		fsync (c->content_fd);
		return filecache_open (c, digest, &bytes, err);
	} else if (errno == EEXIST) {
		fd = filecache_open (c, digest, &bytes, err);	/* somebody else was faster */
	} else {
		err_errno (err, "putting a file into %s", c->content);
	}
	filecache_part_drop (c, p);
	return fd;
}
