/* SPDX-License-Identifier: Apache-2.0 */
/* See tree.h. */
#include "common/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 256 };	/* a descriptor each */

struct emptying {
	int top;
	dev_t dev;
	unsigned hoisted;	/* directories so far that stood too deep, and are in `top` now */
	unsigned left;		/* entries that may still be removed; UINT_MAX: all */
};

/* Deeper than descriptors last: moved to the top, for the next round. */
static int hoist (struct emptying *e, int parent, const char *name)
{
	char to[32];

	snprintf (to, sizeof (to), "deep-%u", e->hoisted);
	while (faccessat (e->top, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		snprintf (to, sizeof (to), "deep-%u", ++e->hoisted);
	if (renameat (parent, name, e->top, to) < 0)
		return -1;
	e->hoisted++;
	return 0;
}

static int remove_dir (struct emptying *e, int parent, const char *name, int depth);

static int empty_at (struct emptying *em, int fd, int depth)
{
	DIR *dir = fdopendir (fd);	/* takes fd */
	struct dirent *e;
	int rc = 0;

	if (!dir) {
		close (fd);
		return -1;
	}
	while ((e = readdir (dir))) {
		if (strcmp (e->d_name, ".") == 0 || strcmp (e->d_name, "..") == 0)
			continue;
		if (em->left == 0) {
			rc = -1;
			break;
		}
		em->left -= em->left < UINT_MAX;
		if (unlinkat (dirfd (dir), e->d_name, 0) < 0 && remove_dir (em, dirfd (dir), e->d_name, depth) < 0)
			rc = -1;
	}
	closedir (dir);
	return rc;
}

static int remove_dir (struct emptying *e, int parent, const char *name, int depth)
{
	int sub = openat (parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (sub < 0 && errno == EACCES && fchmodat (parent, name, 0700, 0) == 0)
		sub = openat (parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub < 0)
		return -1;
	/* another file system may be somebody's data */
	if (fstat (sub, &st) < 0 || st.st_dev != e->dev || fchmod (sub, 0700) < 0) {
		close (sub);
		return -1;
	}
	if (depth >= DEPTH_MAX) {
		close (sub);
		return hoist (e, parent, name);
	}
	if (empty_at (e, sub, depth + 1) < 0)
		return -1;
	return unlinkat (parent, name, AT_REMOVEDIR);
}

int tree_empty (int top) { return tree_empty_few (top, UINT_MAX); }

int tree_empty_few (int top, unsigned most)
{
	struct emptying e = { .top = top, .left = most };
	unsigned before;
	struct stat st;
	int rc, fd;

	if (fstat (top, &st) < 0)
		return -1;
	e.dev = st.st_dev;
	do {	/* round by round, until nothing stood too deep */
		before = e.hoisted;
		if ((fd = openat (top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
			return -1;
		rc = empty_at (&e, fd, 0);
	} while (rc == 0 && e.hoisted != before);
	return rc < 0 && e.left == 0 ? 1 : rc;
}

int tree_remove (const char *path)
{
	int fd, rc;

	if (unlink (path) == 0 || errno == ENOENT)
		return 0;
	chmod (path, 0700);
	if ((fd = open (path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return -1;
	rc = tree_empty (fd);
	close (fd);
	return rmdir (path) < 0 ? -1 : rc;
}
