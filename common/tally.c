/* SPDX-License-Identifier: Apache-2.0 */
/* See tally.h. The text has always the same length: nothing of an earlier one stays behind it. */
#include "common/tally.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TEXT 42			/* two numbers of 20 digits, a space, a newline */
#define POLL_NS 5000000

static bool digits (const char *p)
{
	return strspn (p, "0123456789") >= 20;
}

static bool parse (int fd, uint64_t *sum, int64_t *count_at_s)
{
	char text[TEXT + 1] = "";

	return pread (fd, text, TEXT, 0) == TEXT && digits (text) && text[20] == ' ' && digits (text + 21) && text[TEXT - 1] == '\n'
	       && sscanf (text, "%20" SCNu64 " %20" SCNd64, sum, count_at_s) == 2;
}

static int lock (int fd, bool (*stop) (void *arg), void *arg)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };

	while (flock (fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -1;
		if (stop (arg)) {
			errno = ECANCELED;
			return -1;
		}
		nanosleep (&pause, NULL);
	}
	return 0;
}

static bool removed (int fd)
{
	struct stat st;

	return fstat (fd, &st) == 0 && st.st_nlink == 0;
}

/* Whoever waits for the lock may get that of a file that somebody has removed meanwhile, beside one that the others use now. */
static int open_locked (int dir, const char *name, int flags, bool (*stop) (void *arg), void *arg)
{
	int fd, saved;

	while ((fd = openat (dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600)) >= 0) {
		if (lock (fd, stop, arg) < 0) {
			saved = errno;
			close (fd);
			errno = saved;
			return -1;
		}
		if (!removed (fd))
			return fd;
		close (fd);
	}
	return -1;
}

int tally_lock (struct tally *t, int dir, const char *name, bool (*stop) (void *arg), void *arg)
{
	*t = (struct tally) { .fd = open_locked (dir, name, O_CREAT, stop, arg) };
	if (t->fd < 0)
		return -1;
	if (!(t->known = parse (t->fd, &t->sum, &t->count_at_s)))
		t->sum = 0;
	return 0;
}

void tally_unlock (struct tally *t)
{
	close (t->fd);
	t->fd = -1;
}

int tally_write_unlock (struct tally *t)
{
	char text[TEXT + 1];
	int saved = 0;

	snprintf (text, sizeof (text), "%020" PRIu64 " %020" PRId64 "\n", t->sum, t->count_at_s < 0 ? 0 : t->count_at_s);
	/* what is summed up may be synced: after a loss of power the sum must not be older */
	if (pwrite (t->fd, text, TEXT, 0) != TEXT || fdatasync (t->fd) < 0) {
		saved = errno ? errno : EIO;
		if (ftruncate (t->fd, 0) < 0)
			saved = errno;
	}
	tally_unlock (t);
	errno = saved;
	return saved ? -1 : 0;
}

int tally_forget (int dir, const char *name, bool (*stop) (void *arg), void *arg)
{
	int fd = open_locked (dir, name, 0, stop, arg), rc, saved;

	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	rc = ftruncate (fd, 0);
	saved = errno;
	close (fd);
	errno = saved;
	return rc;
}

bool tally_read (const char *path, uint64_t *sum)
{
	int fd = open (path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int64_t count_at_s;
	bool known = fd >= 0 && parse (fd, sum, &count_at_s);

	if (fd >= 0)
		close (fd);
	return known;
}
