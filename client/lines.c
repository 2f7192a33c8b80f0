/* SPDX-License-Identifier: Apache-2.0 */
#include "client/lines.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/xmem.h"

#define CHUNK 262144

struct lines {
	int fd;
	char *path, *buf;
	size_t start, len, cap, max, scanned;	/* scanned: bytes behind start without a newline */
	uint64_t number, taken, size;		/* size: of a regular file, else 0 */
	bool file, eof;
};

struct lines *lines_open (const char *path, size_t max_bytes, struct err *err)
{
	struct lines *l = xcalloc (1, sizeof (*l));
	struct stat st;
	l->path = xstrdup (strcmp (path, "-") ? path : "standard input");
	l->max = max_bytes;
	l->fd = strcmp (path, "-") ? open (path, O_RDONLY | O_CLOEXEC) : dup (0);
	if (l->fd < 0 || fstat (l->fd, &st) < 0) {
		err_errno (err, "%s", l->path);
		lines_close (&l);
		return NULL;
	}
	if (S_ISDIR (st.st_mode)) {
		err_set (err, ERR_INVALID, FAULT_USER, "%s is a directory", l->path);
		lines_close (&l);
		return NULL;
	}
	l->file = S_ISREG (st.st_mode);
	l->size = l->file ? (uint64_t)st.st_size : 0;
	return l;
}

void lines_close (struct lines **lp)
{
	struct lines *l = *lp;
	if (!l)
		return;
	*lp = NULL;
	if (l->fd >= 0)
		close (l->fd);
	free (l->path);
	free (l->buf);
	free (l);
}

double lines_part (const struct lines *l)
{
	return l->size ? (double)l->taken / (double)l->size : -1;
}

bool lines_is_file (const struct lines *l)
{
	return l->file;
}

/* More bytes: LINES_ONE some came, LINES_END there are no more, LINES_LATER not now. */
static enum lines_got more (struct lines *l, bool block, struct err *err)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };
	ssize_t k;
	int ready;
	if (l->start) {
		memmove (l->buf, l->buf + l->start, l->len);
		l->start = 0;
	}
	if (l->len + CHUNK > l->cap) {
		char *buf = realloc (l->buf, l->len * 2 + CHUNK);
		if (!buf)
			return (enum lines_got)err_set (err, ERR_INTERNAL, FAULT_SITE, "%s: no memory for a line of %zu bytes", l->path, l->len);
		l->buf = buf;
		l->cap = l->len * 2 + CHUNK;
	}
	while ((ready = poll (&p, 1, block ? -1 : 0)) < 0 && errno == EINTR)
		;
	if (!ready)
		return LINES_LATER;
	while ((k = read (l->fd, l->buf + l->len, CHUNK)) < 0 && errno == EINTR)
		;
	if (k < 0 && errno == EAGAIN)
		return LINES_LATER;
	if (k < 0)
		return (enum lines_got)err_errno (err, "reading %s", l->path);
	l->len += (size_t)k;
	l->eof = k == 0;
	return k ? LINES_ONE : LINES_END;
}

static bool blank (const char *p, size_t n)
{
	while (n && strchr (" \t\r", *p) && *p) {
		p++;
		n--;
	}
	return n == 0;
}

enum lines_got lines_next (struct lines *l, bool block, const char **line, size_t *n, uint64_t *number, struct err *err)
{
	for (;;) {
		char *at = l->buf ? l->buf + l->start : NULL, *end = NULL;
		if (l->len > l->scanned)
			end = memchr (at + l->scanned, '\n', l->len - l->scanned);
		if (!end && !l->eof) {
			enum lines_got got;
			l->scanned = l->len;
			if (l->len > l->max)
				return (enum lines_got)err_set (err, ERR_TOO_LARGE, FAULT_USER, "%s: line %llu is longer than %zu MiB", l->path,
								(unsigned long long)l->number + 1, l->max >> 20);
			got = more (l, block, err);
			if (got == LINES_ERROR || got == LINES_LATER)
				return got;
			continue;
		}
		if (!end && !l->len)
			return LINES_END;
		*line = at;
		*n = end ? (size_t)(end - at) : l->len;
		size_t used = *n + (end ? 1 : 0);
		l->start += used;
		l->len -= used;
		l->taken += used;
		l->scanned = 0;
		*number = ++l->number;
		if (*n && (*line)[*n - 1] == '\r')
			--*n;
		if (!blank (*line, *n))
			return LINES_ONE;
	}
}
