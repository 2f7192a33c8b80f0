/* SPDX-License-Identifier: Apache-2.0 */
/* Making and emptying directories. What functions leave in them is hostile: links are removed, never followed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/tree.h"
#include "worker/workdir.h"

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

/* What cannot be removed, as a directory that something is mounted on, is left beside: later calls have an empty one all the same. */
static int leave_beside (const char *path, struct err *err)
{
	char to[4200];

	for (int i = 1; i < 1000; i++) {
		snprintf (to, sizeof (to), "%.4096s.left-%d", path, i);
		if (renameat2 (AT_FDCWD, path, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
			return mkdir (path, 0700) < 0 ? err_errno (err, "making directory %s", path) : 0;
		if (errno != EEXIST)
			break;
	}
	return err_errno (err, "emptying %s", path);
}

int workdir_empty (const char *path, struct err *err)
{
	int fd, rc;

	if (workdir_make (path, err) < 0)
		return -1;
	chmod (path, 0700);
	if ((fd = open (path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return err_errno (err, "opening %s", path);
	rc = tree_empty (fd);
	close (fd);
	return rc < 0 ? leave_beside (path, err) : 0;
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
