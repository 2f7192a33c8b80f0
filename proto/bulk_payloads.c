/* SPDX-License-Identifier: Apache-2.0 */
/* Slots: SPEC.md, section 9.2. The head comes with the data in one call, before it on the file: whoever read a byte of what came later sees
 * another head afterwards. */
#include "proto/bulk_payloads.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "proto/bulk_open.h"

#define MAGIC "WPS1"
enum { WAYS = 8, DATA_AT = 64, HEAD_ROOM = 4096 };

/* Few, so that a place is likely still in the processor's cache when it is written into again: that is three times as fast then. */
static const struct kind { const char *name; uint32_t n, max; } kinds[SLOT_FILES] = {
	{ "slots-0", 128, 256 << 10 },
	{ "slots-1", 64, 2 << 20 },
};

struct head {
	char magic[4];
	uint32_t bytes;			/* little-endian; of the data, which begins at DATA_AT */
	uint8_t task[ID_BYTES];
	uint8_t gone[ID_BYTES];		/* the same as task: nothing stands here any more */
	uint64_t written_ms;		/* little-endian; since 1970 */
};
_Static_assert (sizeof (struct head) == 48 && sizeof (struct head) <= DATA_AT, "SPEC.md, section 9.2");

struct payloads { int dir, fd[SLOT_FILES]; };

struct payloads *payloads_create (int dir)
{
	struct payloads *s = xcalloc (1, sizeof (*s));
	s->dir = dir;
	for (int i = 0; i < SLOT_FILES; i++)
		s->fd[i] = -1;
	return s;
}

static void leave (struct payloads *s, int file)
{
	if (s->fd[file] >= 0)
		close (s->fd[file]);
	s->fd[file] = -1;
}

void payloads_destroy (struct payloads **sp)
{
	if (!*sp)
		return;
	for (int i = 0; i < SLOT_FILES; i++)
		leave (*sp, i);
	free (*sp);
	*sp = NULL;
}

int payloads_file (const char *name)
{
	for (int i = 0; i < SLOT_FILES; i++)
		if (!strcmp (name, kinds[i].name))
			return i;
	return -1;
}

static int open_file (int dir, int file, int flags)
{
	struct stat st;
	int fd = bulk_open_file (dir, kinds[file].name, flags);
	if (fd >= 0 && (fstat (fd, &st) < 0 || !S_ISREG (st.st_mode))) {
		close (fd);
		fd = -1;
	}
	return fd;
}

/* Kept open. Somebody may have removed it, and what is written then nobody finds. */
static int fd_of (struct payloads *s, int file, int flags)
{
	struct stat st;
	if (s->fd[file] >= 0 && fstat (s->fd[file], &st) == 0 && st.st_nlink)
		return s->fd[file];
	leave (s, file);
	return s->fd[file] = open_file (s->dir, file, O_RDWR | flags);
}

static int file_for (uint32_t bytes)
{
	int i = 0;
	while (i < SLOT_FILES && bytes > kinds[i].max)
		i++;
	return i;
}

static off_t slot_at (int file, uint32_t slot) { return (off_t) slot * ((off_t) kinds[file].max + HEAD_ROOM); }

static off_t way (int file, const struct id *task, uint32_t i)
{
	uint32_t n;
	memcpy (&n, task->b + ID_BYTES - sizeof (n), sizeof (n));
	return slot_at (file, (le32toh (n) % kinds[file].n + i) % kinds[file].n);
}

/* Whether something stands there. */
static bool read_head (int fd, off_t at, struct head *h)
{
	if (pread (fd, h, sizeof (*h), at) != (ssize_t) sizeof (*h) || memcmp (h->magic, MAGIC, sizeof (h->magic)) ||
	    !memcmp (h->gone, h->task, ID_BYTES))
		return false;
	h->bytes = le32toh (h->bytes);
	h->written_ms = le64toh (h->written_ms);
	return true;
}

static bool is_of (const struct head *h, const struct id *task) { return !memcmp (h->task, task->b, ID_BYTES); }

/* Needs no lock: when the place is another's by now, that one's id is another. */
static void empty (int fd, off_t at, const struct id *task)
{
	if (pwrite (fd, task->b, ID_BYTES, at + (off_t) offsetof (struct head, gone)) != ID_BYTES)
		return;		/* it is swept */
}

static int read_data (int fd, off_t at, char *out, size_t bytes)
{
	while (bytes) {
		ssize_t n = pread (fd, out, bytes, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n ? errno : EILSEQ;
			return -1;
		}
		at += n;
		out += n;
		bytes -= (size_t) n;
	}
	return 0;
}

/* ---- writing ---- */

static bool lock (int fd, off_t at, short type)
{
	struct flock f = { .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };
	return fcntl (fd, F_OFD_SETLK, &f) == 0;
}

static int write_slot (int fd, off_t at, const struct id *task, const void *p, uint32_t bytes)
{
	struct head h = { .magic = MAGIC, .bytes = htole32 (bytes), .written_ms = htole64 ((uint64_t) clock_real_ns () / 1000000) };
	static const char gap[DATA_AT - sizeof (struct head)];
	struct iovec v[] = { { &h, sizeof (h) }, { (void *) gap, sizeof (gap) }, { (void *) p, bytes } };
	memcpy (h.task, task->b, ID_BYTES);
	if (pwritev (fd, v, 3, at) == (ssize_t) (DATA_AT + bytes))
		return 0;
	empty (fd, at, task);	/* the disk is full: a file of its own says so */
	return -1;
}

/* From an earlier try, whose task may be reading it right now: it is left as it is. */
static bool stands (int fd, off_t at, const struct head *h, const char *p, uint32_t bytes)
{
	char part[4096];
	bool same = h->bytes == bytes;
	for (uint32_t done = 0, n; same && done < bytes; done += n) {
		n = bytes - done < sizeof (part) ? bytes - done : (uint32_t) sizeof (part);
		same = read_data (fd, at + DATA_AT + done, part, n) == 0 && memcmp (part, p + done, n) == 0;
	}
	return same;
}

int payloads_put (struct payloads *s, const struct id *task, const void *p, uint32_t bytes)
{
	int file = file_for (bytes), fd = file < SLOT_FILES ? fd_of (s, file, O_CREAT) : -1, rc = -1;
	bool done = fd < 0;
	struct head h;
	for (uint32_t i = 0; i < WAYS && !done; i++) {
		off_t at = way (file, task, i);
		bool held = read_head (fd, at, &h);
		if (held && is_of (&h, task) && stands (fd, at, &h, p, bytes))
			return 0;
		if ((held && !is_of (&h, task)) || !lock (fd, at, F_WRLCK))
			continue;
		if (!read_head (fd, at, &h) || is_of (&h, task)) {	/* nobody was faster */
			rc = write_slot (fd, at, task, p, bytes);
			done = true;
		}
		lock (fd, at, F_UNLCK);
	}
	return rc;
}

/* ---- reading ---- */

/* Where the task's payload stands in this file; -1: nowhere. */
static off_t find (int fd, int file, const struct id *task, struct head *h)
{
	for (uint32_t i = 0; i < WAYS; i++) {
		off_t at = way (file, task, i);
		if (read_head (fd, at, h) && is_of (h, task))
			return at;
	}
	return -1;
}

int payloads_get (struct payloads *s, const struct id *task, uint32_t bytes, void *out)
{
	int file = file_for (bytes), fd = file < SLOT_FILES ? fd_of (s, file, 0) : -1;
	struct head h, now;
	off_t at;
	if (fd < 0 || (at = find (fd, file, task, &h)) < 0) {
		errno = ENOENT;
		return -1;
	}
	if (h.bytes != bytes) {
		errno = EILSEQ;
		return -1;
	}
	if (!out)
		return 0;
	if (read_data (fd, at + DATA_AT, out, bytes) < 0)
		return -1;
	if (read_head (fd, at, &now) && !memcmp (&h, &now, sizeof (h)))
		return 0;
	errno = ENOENT;		/* another's meanwhile */
	return -1;
}

bool payloads_drop (struct payloads *s, const struct id *task)
{
	struct head h;
	for (int file = 0; file < SLOT_FILES; file++) {
		int fd = fd_of (s, file, 0);
		off_t at = fd < 0 ? -1 : find (fd, file, task, &h);
		if (at < 0)
			continue;
		empty (fd, at, task);
		return true;
	}
	return false;
}

/* ---- walking ---- */

const char *payloads_name (uint32_t bytes)
{
	int file = file_for (bytes);
	return file < SLOT_FILES ? kinds[file].name : NULL;
}

bool payloads_old (int dir, struct payloads_place *at, int64_t age_ms, struct id *task)
{
	int64_t now = clock_real_ns () / 1000000;
	int fd = open_file (dir, at->file, O_RDONLY);
	bool found = false;
	struct head h;
	while (fd >= 0 && !found && at->slot < kinds[at->file].n)
		found = read_head (fd, slot_at (at->file, at->slot++), &h) && now - (int64_t) h.written_ms >= age_ms;
	if (fd >= 0)
		close (fd);
	if (found)
		memcpy (task->b, h.task, ID_BYTES);
	return found;
}

bool payloads_hold (int dir, int file, int64_t age_ms)
{
	struct payloads_place at = { .file = file };
	struct id task;
	return payloads_old (dir, &at, age_ms, &task);
}
