/* SPDX-License-Identifier: Apache-2.0 */
/* See rundir.h. */
#include "endpoint/rundir.h"
#include "common/tree.h"
#include "common/xmem.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIR_MAX = 72 };	/* leaves room for "/b123456-1234/w.sock" within the 107 bytes of a unix socket's path */

static const char PREFIX[] = "weft-ep-";

/* The managers' part of run/: what a crashed run left. */
static void clean (const char *dir)
{
	DIR *d = opendir (dir);
	struct dirent *e;

	while (d && (e = readdir (d))) {
		char *path = xasprintf ("%s/%s", dir, e->d_name);
		if (strcmp (e->d_name, "managers.sock") == 0)
			unlink (path);
		else if (e->d_name[0] == 'b' && strchr (e->d_name, '-'))
			tree_remove (path);
		free (path);
	}
	if (d)
		closedir (d);
}

static bool is_ours (const char *dir)
{
	const char *name = strrchr (dir, '/');
	struct stat st;

	return name && strncmp (name + 1, PREFIX, sizeof (PREFIX) - 1) == 0 && lstat (dir, &st) == 0 && S_ISDIR (st.st_mode)
	       && st.st_uid == geteuid ();
}

static void clean_short (const char *note)
{
	char *dir = paths_read (note, 4096, NULL, NULL);

	if (dir && is_ours (dir))
		tree_remove (dir);
	free (dir);
	unlink (note);
}

static int make_short (struct rundir *r, struct err *err)
{
	const char *base = getenv ("XDG_RUNTIME_DIR");

	if (!base || *base != '/' || strlen (base) > 48 || access (base, W_OK) < 0)
		base = "/tmp";
	r->dir = xasprintf ("%s/%sXXXXXX", base, PREFIX);
	if (!mkdtemp (r->dir)) {
		err_errno (err, "making a directory under %s", base);
		free (r->dir);
		r->dir = NULL;
		return -1;
	}
	r->is_short = true;
	return paths_write (r->note, r->dir, strlen (r->dir), 0600, err);
}

int rundir_make (struct rundir *r, const struct paths *p, struct err *err)
{
	memset (r, 0, sizeof (*r));
	r->note = xasprintf ("%s/short", p->run);
	clean (p->run);
	if (access (r->note, F_OK) == 0)
		clean_short (r->note);
	if (strlen (p->run) > DIR_MAX)
		return make_short (r, err);
	r->dir = xstrdup (p->run);
	return 0;
}

void rundir_fini (struct rundir *r)
{
	if (r->dir)
		clean (r->dir);
	if (r->is_short) {
		tree_remove (r->dir);
		unlink (r->note);
	}
	free (r->dir);
	free (r->note);
	memset (r, 0, sizeof (*r));
}
