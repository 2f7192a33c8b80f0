/* SPDX-License-Identifier: Apache-2.0 */
/* Making and emptying directories. What functions leave in them is hostile: links are removed, never followed, and of a great number of files the
 * manager need not wait to hear from us: a thread removes them. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/tree.h"
#include "common/xmem.h"
#include "worker/workdir.h"

enum { FEW = 500 };	/* entries that are removed at once: some milliseconds */

int workdir_make (const char *path, struct err *err)
{
	char part[4096];
	size_t i, n = strlen (path);

	if (n >= sizeof (part))
		return err_set (err, ERR_INVALID, FAULT_USER, "directory name of %zu bytes", n);
	for (i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i] != 0)
			continue;
		memcpy (part, path, i);
		part[i] = 0;
		if (mkdir (part, 0700) < 0 && errno != EEXIST)
			return err_errno (err, "making directory %s", part);
	}
	return 0;
}

/* Beside it is where later calls do not see it. */
static int leave_beside (const char *path, char *to, size_t n, struct err *err)
{
	for (int i = 1; i < 1000; i++) {
		snprintf (to, n, "%.4096s.left-%d", path, i);
		if (rename (path, to) == 0)	/* also over an empty one, which some thread is about to remove */
			return mkdir (path, 0700) < 0 ? err_errno (err, "making directory %s", path) : 0;
		if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
			break;
	}
	return err_errno (err, "emptying %s", path);
}

static void *removing (void *path)
{
	tree_remove (path);
	free (path);
	return NULL;
}

/* By a thread, which shares nothing. What it has not removed at our end goes with our directory. */
static void remove_later (const char *path)
{
	char *own = xstrdup (path);
	sigset_t all, before;
	pthread_t t;

	sigfillset (&all);
	pthread_sigmask (SIG_SETMASK, &all, &before);
	if (pthread_create (&t, NULL, removing, own) == 0)
		pthread_detach (t);
	else
		removing (own);
	pthread_sigmask (SIG_SETMASK, &before, NULL);
}

static int open_dir (const char *path)
{
	const int how = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = open (path, how);

	if (fd < 0 && errno == EACCES && chmod (path, 0700) == 0)
		fd = open (path, how);
	if (fd >= 0)
		fchmod (fd, 0700);
	return fd;
}

/* What cannot be removed, as a directory that something is mounted on, is left beside: later calls have an empty one all the same. */
int workdir_empty (const char *path, struct err *err)
{
	char beside[4200];
	int fd, rc;

	if (workdir_make (path, err) < 0)
		return -1;
	if ((fd = open_dir (path)) < 0)
		return err_errno (err, "opening %s", path);
	rc = tree_empty_few (fd, FEW);
	close (fd);
	if (rc != 0 && leave_beside (path, beside, sizeof (beside), err) < 0)
		return -1;
	if (rc > 0)
		remove_later (beside);
	return 0;
}

void workdir_remove (const char *path)
{
	int fd = open_dir (path), rc;

	if (fd < 0)
		return;
	rc = tree_empty_few (fd, FEW);
	close (fd);
	if (rc > 0)
		remove_later (path);
	else
		rmdir (path);
}

int workdir_file (const char *path, const void *p, size_t n, int mode, struct err *err)
{
	char tmp[4200];
	const char *at = p;
	int fd;

	snprintf (tmp, sizeof (tmp), "%.4096s.%d.new", path, (int) getpid ());
	unlink (tmp);
	if ((fd = open (tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)) < 0)
		return err_errno (err, "writing %s", tmp);
	while (n > 0) {
		ssize_t w = write (fd, at, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0) {
			err_errno (err, "writing %s", tmp);
			goto fail;
		}
		at += w;
		n -= (size_t) w;
	}
	if (fchmod (fd, (mode_t) mode) < 0 || rename (tmp, path) < 0) {
		err_errno (err, "writing %s", path);
		goto fail;
	}
	close (fd);
	return 0;
fail:
	close (fd);
	unlink (tmp);
	return -1;
}
