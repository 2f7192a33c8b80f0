/* SPDX-License-Identifier: Apache-2.0 */
/* See segment.h. */
#include "endpoint/segment.h"
#include "common/xmem.h"
#include "endpoint/crc.h"
#include "proto/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const uint8_t HEAD[SEGMENT_HEAD] = { 'W', 'f', 's', 'p', 1, 0, 0, 0 };

static void put32 (uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t) (v >> (8 * i));
}

static uint32_t get32 (const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static int read_full (int fd, void *p, size_t n, uint64_t at)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = pread (fd, (char *) p + done, n - done, (off_t) (at + done));
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			if (!r)
				errno = ENODATA;
			return -1;
		}
		done += (size_t) r;
	}
	return 0;
}

char *segment_path (const char *dir, uint64_t number)
{
	return xasprintf ("%s/%016" PRIx64 ".seg", dir, number);
}

static struct segment *segment_new (const char *dir, uint64_t number)
{
	struct segment *s = xcalloc (1, sizeof (*s));

	s->number = number;
	s->path = segment_path (dir, number);
	return s;
}

static int compare (const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

	return x < y ? -1 : x > y;
}

int segment_list (const char *dir, uint64_t **numbers, size_t *n, struct err *err)
{
	DIR *d = opendir (dir);
	size_t cap = 0;
	struct dirent *de;

	*numbers = NULL;
	*n = 0;
	if (!d)
		return err_errno (err, "reading %s", dir);
	while ((de = readdir (d))) {
		uint64_t v;
		char end[8];
		if (strlen (de->d_name) != 20 || sscanf (de->d_name, "%16" SCNx64 "%7s", &v, end) != 2 || strcmp (end, ".seg") != 0)
			continue;
		if (*n == cap)
			*numbers = xrealloc (*numbers, (cap = cap ? 2 * cap : 64) * sizeof (**numbers));
		(*numbers)[(*n)++] = v;
	}
	closedir (d);
	if (*n)
		qsort (*numbers, *n, sizeof (**numbers), compare);
	return 0;
}

struct segment *segment_create (const char *dir, uint64_t number, struct err *err)
{
	struct segment *s = segment_new (dir, number);
	ssize_t n;

	s->fd = open (s->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (s->fd < 0) {
		err_errno (err, "creating %s", s->path);
		segment_close (&s, false);
		return NULL;
	}
	n = pwrite (s->fd, HEAD, SEGMENT_HEAD, 0);
	if (n != SEGMENT_HEAD) {
		if (n >= 0)
			errno = ENOSPC;
		err_errno (err, "writing %s", s->path);
		segment_close (&s, true);
		return NULL;
	}
	s->bytes = SEGMENT_HEAD;
	return s;
}

struct segment *segment_open (const char *dir, uint64_t number, struct err *err)
{
	struct segment *s = segment_new (dir, number);
	uint8_t head[SEGMENT_HEAD];
	struct stat st;

	s->fd = open (s->path, O_RDWR | O_CLOEXEC);
	if (s->fd < 0 || fstat (s->fd, &st) < 0) {
		err_errno (err, "opening %s", s->path);
		segment_close (&s, false);
		return NULL;
	}
	s->bytes = (uint64_t) st.st_size;
	/* a crash right after creation leaves less than a head: nothing was in it */
	if (s->bytes >= SEGMENT_HEAD
	    && (read_full (s->fd, head, SEGMENT_HEAD, 0) < 0 || memcmp (head, HEAD, SEGMENT_HEAD) != 0)) {
		err_set (err, ERR_INVALID, FAULT_SITE, "%s does not begin as a file of this program does", s->path);
		segment_close (&s, false);
		return NULL;
	}
	return s;
}

void segment_close (struct segment **sp, bool remove)
{
	struct segment *s = *sp;
	int saved = errno;

	if (!s)
		return;
	if (remove)
		unlink (s->path);
	if (s->fd >= 0)
		close (s->fd);
	free (s->path);
	free (s);
	*sp = NULL;
	errno = saved;
}

size_t segment_append (struct segment *s, zmq_msg_t *const *records, size_t n, uint64_t *offsets, struct err *err)
{
	uint8_t heads[SEGMENT_BATCH][SEGMENT_RECORD_HEAD];
	struct iovec iov[2 * SEGMENT_BATCH];
	uint64_t at = s->bytes;
	size_t whole = 0;
	ssize_t wrote;
	int saved = 0;

	if (n > SEGMENT_BATCH)
		n = SEGMENT_BATCH;
	for (size_t i = 0; i < n; i++) {
		size_t len = zmq_msg_size (records[i]);
		put32 (heads[i], (uint32_t) len);
		put32 (heads[i] + 4, crc_of (zmq_msg_data (records[i]), len));
		iov[2 * i] = (struct iovec){ heads[i], SEGMENT_RECORD_HEAD };
		iov[2 * i + 1] = (struct iovec){ zmq_msg_data (records[i]), len };
		offsets[i] = at + SEGMENT_RECORD_HEAD;
		at += SEGMENT_RECORD_HEAD + len;
	}
	do
		wrote = pwritev (s->fd, iov, (int) (2 * n), (off_t) s->bytes);
	while (wrote < 0 && errno == EINTR);
	saved = wrote < 0 ? errno : ENOSPC;
	at = s->bytes + (wrote > 0 ? (uint64_t) wrote : 0);
	while (whole < n && offsets[whole] + zmq_msg_size (records[whole]) <= at) {
		s->bytes = offsets[whole] + zmq_msg_size (records[whole]);
		whole++;
	}
	if (whole)
		s->dirty = true;
	if (whole < n) {
		/* what is torn would be cut at the next start; better now */
		if (ftruncate (s->fd, (off_t) s->bytes) < 0 && !saved)
			saved = errno;
		errno = saved;
		err_errno (err, "writing %s", s->path);
	}
	return whole;
}

int segment_read (const struct segment *s, uint64_t offset, size_t n, zmq_msg_t *out, struct err *err)
{
	uint8_t head[SEGMENT_RECORD_HEAD];

	zmq_msg_close (out);
	if (zmq_msg_init_size (out, n) < 0) {
		zmq_msg_init (out);
		return err_errno (err, "reading %zu bytes of %s", n, s->path);
	}
	if (read_full (s->fd, head, sizeof (head), offset - SEGMENT_RECORD_HEAD) < 0
	    || read_full (s->fd, zmq_msg_data (out), n, offset) < 0)
		return err_errno (err, "reading %s", s->path);
	if (get32 (head) != n || get32 (head + 4) != crc_of (zmq_msg_data (out), n))
		return err_set (err, ERR_IO, FAULT_SITE, "%s has a bad checksum at %" PRIu64, s->path, offset);
	return 0;
}

int segment_truncate (struct segment *s, struct err *err)
{
	if (ftruncate (s->fd, SEGMENT_HEAD) < 0)
		return err_errno (err, "truncating %s", s->path);
	s->bytes = SEGMENT_HEAD;
	return 0;
}

int segment_scan (struct segment *s, segment_f *cb, void *arg, size_t *bad, struct err *err)
{
	uint64_t at = SEGMENT_HEAD, end = s->bytes;
	uint8_t head[SEGMENT_RECORD_HEAD];
	uint8_t *body = NULL;
	size_t cap = 0;
	int rc = 0;

	while (at + SEGMENT_RECORD_HEAD <= end) {
		size_t n;
		if (read_full (s->fd, head, sizeof (head), at) < 0) {
			rc = err_errno (err, "reading %s", s->path);
			break;
		}
		n = get32 (head);
		if (!n || n > WIRE_MAX_RECORD || at + SEGMENT_RECORD_HEAD + n > end)
			break;	/* torn */
		if (n > cap) {
			uint8_t *more = realloc (body, n);
			if (!more) {
				rc = err_errno (err, "reading a record of %zu bytes of %s", n, s->path);
				break;
			}
			body = more;
			cap = n;
		}
		if (read_full (s->fd, body, n, at + SEGMENT_RECORD_HEAD) < 0) {
			rc = err_errno (err, "reading %s", s->path);
			break;
		}
		if (crc_of (body, n) == get32 (head + 4))
			cb (s, at + SEGMENT_RECORD_HEAD, body, n, arg);
		else
			++*bad;
		at += SEGMENT_RECORD_HEAD + n;
	}
	free (body);
	if (!rc && at < end) {
		++*bad;
		s->bytes = at;
		if (ftruncate (s->fd, (off_t) at) < 0)
			rc = err_errno (err, "cutting the torn end of %s", s->path);
	}
	return rc;
}
