/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: SPEC.md, section 9.1. A record begins on a page of its own, so that what is gone can be given back page by page. Its head comes
 * with its data in one call: one that is named in a message is whole, and one whose writer died stands at the end, and is not named. */
#include "proto/bulk_segment.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "proto/bulk_open.h"

#define PAGE 4096
#define SEGMENT_MAX (64 << 20)		/* a record that begins beyond it goes to the next segment */
#define SEGMENT_AGE_MS 60000		/* and one later than that, too: what is written is left alone at last */
#define AHEAD_MIN (256 << 10)		/* from so many bytes on blocks are reserved for the next records */
#define AHEAD_MAX (4 << 20)		/* how many at most */
#define NAMES_TRIED 8
#define KEPT 8				/* segments that a reader has open */
#define MAGIC "WSR1"

struct head {
	char magic[4];
	uint32_t bytes;			/* little-endian; of the data, that follows */
	uint8_t task[ID_BYTES];
	uint8_t gone;			/* 1: nobody needs it */
	uint8_t zero[7];
};
_Static_assert (sizeof (struct head) == 32, "SPEC.md, section 9.1");

struct segment_writer {
	int dir, fd;			/* fd -1: none is open */
	uint32_t segment;
	off_t end;			/* where the next record begins; whole pages */
	off_t ahead;			/* there are blocks up to here */
	int64_t made_ms;
	pid_t pid;			/* a child after fork begins one of its own */
};

struct segment_reader {
	int dir;
	struct kept { int fd; uint32_t segment; } kept[KEPT];	/* fd -1: none */
	unsigned next;			/* the place for the next one */
};

struct segment_walk {
	int fd;
	uint32_t segment;
	off_t at, size;
	bool live;			/* one was found */
};

void segment_name (char out[SEGMENT_NAME], uint32_t segment) { snprintf (out, SEGMENT_NAME, "seg-%08x", segment); }

bool segment_parse (const char *name, uint32_t *segment)
{
	char same[SEGMENT_NAME];
	unsigned n;
	if (sscanf (name, "seg-%8x", &n) != 1)
		return false;
	segment_name (same, n);
	*segment = n;
	return !strcmp (name, same);
}

static int open_segment (int dir, uint32_t segment, int flags)
{
	char name[SEGMENT_NAME];
	segment_name (name, segment);
	return bulk_open_file (dir, name, flags);
}

static off_t pages (off_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

static off_t record_bytes (uint32_t bytes) { return (off_t) sizeof (struct head) + bytes; }

/* preadv or pwritev until all is done; v is used up. -1 with errno, 0 in it when nothing more goes. */
static int whole (ssize_t (*call) (int, const struct iovec *, int, off_t), int fd, struct iovec *v, int count, off_t at)
{
	while (count) {
		ssize_t n = call (fd, v, count, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n ? errno : 0;
			return -1;
		}
		at += n;
		for (; count && (size_t) n >= v->iov_len; v++, count--)
			n -= (ssize_t) v->iov_len;
		if (count) {
			v->iov_base = (char *) v->iov_base + n;
			v->iov_len -= (size_t) n;
		}
	}
	return 0;
}

/* ---- writing ---- */

struct segment_writer *segment_writer_create (int dir)
{
	struct segment_writer *w = xcalloc (1, sizeof (*w));
	w->dir = dir;
	w->fd = -1;
	return w;
}

/* What is reserved beyond its end goes back; from a child of its writer it is only closed. */
static void leave (struct segment_writer *w)
{
	struct stat st;
	if (w->fd < 0)
		return;
	if (w->ahead && w->pid == getpid () && (fstat (w->fd, &st) < 0 || ftruncate (w->fd, st.st_size) < 0))
		errno = 0;		/* with the file */
	close (w->fd);
	w->fd = -1;
}

void segment_writer_destroy (struct segment_writer **wp)
{
	if (!*wp)
		return;
	leave (*wp);
	free (*wp);
	*wp = NULL;
}

static int begin (struct segment_writer *w)
{
	for (int i = 0; i < NAMES_TRIED && w->fd < 0; i++) {
		ids_random (&w->segment, sizeof (w->segment));
		w->fd = open_segment (w->dir, w->segment, O_RDWR | O_CREAT | O_EXCL);
		if (w->fd < 0 && errno != EEXIST)
			return -1;
	}
	if (w->fd < 0)
		return -1;
	flock (w->fd, LOCK_EX | LOCK_NB);	/* where there are no locks nothing is removed, either */
	w->end = w->ahead = 0;
	w->made_ms = clock_now_ms ();
	w->pid = getpid ();
	return 0;
}

/* Somebody may have removed it, and what is written then nobody finds. */
static bool usable (const struct segment_writer *w)
{
	struct stat st;
	return w->fd >= 0 && w->end < SEGMENT_MAX && w->pid == getpid () && clock_now_ms () - w->made_ms < SEGMENT_AGE_MS &&
	       fstat (w->fd, &st) == 0 && st.st_nlink;
}

/* At most as much again as the segment has: to find blocks page by page is a quarter of the time of writing. */
static void make_room (struct segment_writer *w, off_t bytes)
{
	off_t ahead = w->end < AHEAD_MAX ? w->end : AHEAD_MAX;
	if (w->end < AHEAD_MIN || w->end + bytes <= w->ahead)
		return;
	w->ahead = w->end + (ahead > bytes ? ahead : bytes);
	if (fallocate (w->fd, FALLOC_FL_KEEP_SIZE, w->end, w->ahead - w->end) < 0)
		errno = 0;		/* or not: writing says so when the disk is full */
}

int segment_put (struct segment_writer *w, const struct id *task, const void *p, uint32_t bytes, uint32_t *segment, uint32_t *page)
{
	struct head h = { .magic = MAGIC, .bytes = htole32 (bytes) };
	struct iovec v[2] = { { &h, sizeof (h) }, { (void *) p, bytes } };
	int saved;
	if (!usable (w)) {
		leave (w);
		if (begin (w) < 0)
			return -1;
	}
	memcpy (h.task, task->b, ID_BYTES);
	make_room (w, record_bytes (bytes));
	if (whole (pwritev, w->fd, v, 2, w->end) < 0) {
		saved = errno ? errno : ENOSPC;
		if (ftruncate (w->fd, w->end) < 0)
			leave (w);
		errno = saved;
		return -1;
	}
	*segment = w->segment;
	*page = (uint32_t) (w->end / PAGE);
	w->end += pages (record_bytes (bytes));
	return 0;
}

/* ---- reading ---- */

static int read_whole (int fd, struct iovec *v, int count, off_t at)
{
	if (whole (preadv, fd, v, count, at) == 0)
		return 0;
	if (!errno || errno == ESPIPE || errno == EISDIR)	/* too short, or no file at all */
		errno = EILSEQ;
	return -1;
}

/* 0: such a record stands there, and is not gone; -1 with errno. */
static int check_head (struct head *h, const struct id *task)
{
	h->bytes = le32toh (h->bytes);
	errno = memcmp (h->magic, MAGIC, sizeof (h->magic)) || memcmp (h->task, task->b, ID_BYTES) ? EILSEQ : h->gone ? ENOENT : 0;
	return errno ? -1 : 0;
}

/* What is dropped is marked first, then its pages go: data is good when its record is not marked after it was read. */
static int read_record (int fd, off_t size, off_t at, const struct id *task, uint32_t bytes, void *out)
{
	struct head h;
	struct iovec whole[2] = { { &h, sizeof (h) }, { out, bytes } }, head = whole[0];
	if (out && read_whole (fd, whole, 2, at) < 0)
		return -1;
	if (read_whole (fd, &head, 1, at) < 0 || check_head (&h, task) < 0)
		return -1;
	errno = EILSEQ;
	return h.bytes == bytes && at + record_bytes (bytes) <= size ? 0 : -1;
}

static int open_to_read (int dir, uint32_t segment, int flags)
{
	int fd = open_segment (dir, segment, flags);
	if (fd < 0 && errno == ELOOP)
		errno = EILSEQ;
	return fd;
}

struct segment_reader *segment_reader_create (int dir)
{
	struct segment_reader *r = xcalloc (1, sizeof (*r));
	r->dir = dir;
	for (int i = 0; i < KEPT; i++)
		r->kept[i].fd = -1;
	return r;
}

static void forget (struct kept *k)
{
	if (k->fd >= 0)
		close (k->fd);
	k->fd = -1;
}

void segment_reader_destroy (struct segment_reader **rp)
{
	if (!*rp)
		return;
	for (int i = 0; i < KEPT; i++)
		forget (&(*rp)->kept[i]);
	free (*rp);
	*rp = NULL;
}

/* -1 with errno. Somebody may have removed one that is open: then it is not there. */
static int fd_of (struct segment_reader *r, uint32_t segment, struct stat *st)
{
	struct kept *k = r->kept, *end = k + KEPT;
	while (k < end && (k->fd < 0 || k->segment != segment))
		k++;
	if (k < end && fstat (k->fd, st) == 0 && st->st_nlink)
		return k->fd;
	if (k == end)
		k = &r->kept[r->next++ % KEPT];
	forget (k);
	k->segment = segment;
	if ((k->fd = open_to_read (r->dir, segment, O_RDONLY)) < 0 || fstat (k->fd, st) < 0)
		return -1;
	return k->fd;
}

int segment_get (struct segment_reader *r, uint32_t segment, uint32_t page, const struct id *task, uint32_t bytes, void *out)
{
	struct stat st;
	int fd = fd_of (r, segment, &st);
	return fd < 0 ? -1 : read_record (fd, st.st_size, (off_t) page * PAGE, task, bytes, out);
}

/* The page with the head stays: the walk goes from head to head. */
void segment_drop (int dir, uint32_t segment, uint32_t page, const struct id *task)
{
	off_t at = (off_t) page * PAGE, length;
	struct head h;
	uint8_t gone = 1;
	int fd = open_to_read (dir, segment, O_RDWR);
	if (fd >= 0 && pread (fd, &h, sizeof (h), at) == (ssize_t) sizeof (h) && check_head (&h, task) == 0 &&
	    pwrite (fd, &gone, 1, at + (off_t) offsetof (struct head, gone)) == 1) {
		length = pages (record_bytes (h.bytes)) - PAGE;
		if (length > 0)
			fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at + PAGE, length);	/* where the file system can */
	}
	if (fd >= 0)
		close (fd);
}

/* ---- walking ---- */

struct segment_walk *segment_walk_open (int dir, const char *name)
{
	struct segment_walk *w;
	uint32_t segment;
	struct stat st;
	int fd;
	if (!segment_parse (name, &segment) || (fd = open_segment (dir, segment, O_RDWR)) < 0)
		return NULL;
	if (fstat (fd, &st) < 0 || !S_ISREG (st.st_mode)) {
		close (fd);
		return NULL;
	}
	w = xcalloc (1, sizeof (*w));
	w->fd = fd;
	w->segment = segment;
	w->size = st.st_size;
	return w;
}

static bool is_record (const struct segment_walk *w, const struct head *h)
{
	return !memcmp (h->magic, MAGIC, sizeof (h->magic)) && w->at + record_bytes (le32toh (h->bytes)) <= w->size;
}

int segment_walk_next (struct segment_walk *w, struct id *task, uint32_t *bytes, uint32_t *segment, uint32_t *page)
{
	struct head h;
	for (off_t at; (at = w->at) < w->size && pread (w->fd, &h, sizeof (h), at) == (ssize_t) sizeof (h);) {
		if (!is_record (w, &h)) {
			w->at += PAGE;		/* torn, or lost with the power: the next head is looked for */
			continue;
		}
		w->at += pages (record_bytes (le32toh (h.bytes)));
		if (h.gone)
			continue;
		w->live = true;
		memcpy (task->b, h.task, ID_BYTES);
		*bytes = le32toh (h.bytes);
		*segment = w->segment;
		*page = (uint32_t) (at / PAGE);
		return 1;
	}
	return 0;
}

void segment_walk_close (struct segment_walk **wp, int dir, int remove)
{
	struct segment_walk *w = *wp;
	char name[SEGMENT_NAME];
	struct stat st;
	if (!w)
		return;
	segment_name (name, w->segment);
	if (remove && !w->live && flock (w->fd, LOCK_EX | LOCK_NB) == 0 && fstat (w->fd, &st) == 0 && st.st_size == w->size &&
	    unlinkat (dir, name, 0) == 0 && ftruncate (w->fd, 0) < 0)
		errno = 0;		/* readers may have it open, and it is on disk as long */
	close (w->fd);
	free (w);
	*wp = NULL;
}
