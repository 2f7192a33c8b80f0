/* SPDX-License-Identifier: Apache-2.0 */
/* See rooms.h. A work directory may hold millions of files: while workers run, removal is left to a child process. */
#include "endpoint/manager/rooms.h"
#include <errno.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "common/log.h"
#include "common/spawn.h"
#include "common/tree.h"
#include "common/xmem.h"

#define SOCKET_NAME "w.sock"
#define RUN_NAME "run"

struct rooms {
	struct loop *loop;	/* borrowed */
	char *dir;
	bool made;		/* by us: removed at the end, when empty */
	char *short_dir;	/* under /tmp, NULL when dir is short enough */
	char *socket;		/* "ipc://..." */
	char *run;		/* of containers; NULL until rooms_open */
	unsigned long old;	/* counts names */
};

static bool is_ours (const char *name)
{
	const char *digits = strncmp (name, "old-", 4) == 0 ? name + 4 : name[0] == 'w' ? name + 1 : NULL;

	if (strcmp (name, SOCKET_NAME) == 0 || strcmp (name, RUN_NAME) == 0)
		return true;
	if (name[0] == 'c')
		return name[1] && strcmp (name + 1 + strspn (name + 1, "0123456789"), ".log") == 0;
	return digits && *digits && digits[strspn (digits, "0123456789")] == '\0';
}

static void sweep (const struct rooms *r)
{
	DIR *d = opendir (r->dir);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir (d))) {
		char *path;

		if (!is_ours (e->d_name))
			continue;
		path = xasprintf ("%s/%s", r->dir, e->d_name);
		tree_remove (path);
		free (path);
	}
	closedir (d);
}

/* A node of a cluster may have none of the directories above it. What cannot be made is found out with the last one. */
static void make_parents (const char *dir)
{
	char *path = xstrdup (dir), *p;

	for (p = path + 1; *path && (p = strchr (p, '/')); p++) {
		*p = '\0';
		mkdir (path, 0700);
		*p = '/';
	}
	free (path);
}

static int make_dir (struct rooms *r, const char *dir, struct err *err)
{
	char absolute[PATH_MAX];
	struct stat st;

	make_parents (dir);
	if (mkdir (dir, 0700) == 0)
		r->made = true;
	else if (errno != EEXIST)
		return err_errno (err, "making the directory %s", dir);
	if (!realpath (dir, absolute) || stat (absolute, &st) < 0)
		return err_errno (err, "looking at %s", dir);
	if (!S_ISDIR (st.st_mode) || st.st_uid != geteuid ())
		return err_set (err, ERR_FORBIDDEN, FAULT_SITE, "%s is not a directory of user %d", dir, (int) geteuid ());
	if ((st.st_mode & 077) && chmod (absolute, 0700) < 0)
		return err_errno (err, "closing %s to others", dir);
	r->dir = xstrdup (absolute);
	return 0;
}

static int place_socket (struct rooms *r, struct err *err)
{
	struct sockaddr_un sa;
	char name[] = "/tmp/weft-m-XXXXXX";

	if (strlen (r->dir) + sizeof ("/" RUN_NAME "/" SOCKET_NAME) <= sizeof (sa.sun_path) - 1) {
		r->socket = xasprintf ("ipc://%s/" SOCKET_NAME, r->dir);
		return 0;
	}
	if (!mkdtemp (name))	/* 0700 */
		return err_errno (err, "making a directory under /tmp for the socket (%s is too long a path)", r->dir);
	r->short_dir = xstrdup (name);
	r->socket = xasprintf ("ipc://%s/" SOCKET_NAME, name);
	return 0;
}

struct rooms *rooms_create (struct loop *l, const char *dir, struct err *err)
{
	struct rooms *r = xcalloc (1, sizeof (*r));

	r->loop = l;
	if (make_dir (r, dir, err) < 0 || place_socket (r, err) < 0) {
		rooms_destroy (&r);
		return NULL;
	}
	sweep (r);
	return r;
}

void rooms_destroy (struct rooms **rp)
{
	struct rooms *r = *rp;
	int saved = errno;

	if (!r)
		return;
	if (r->dir) {
		sweep (r);
		if (r->made)
			rmdir (r->dir);
	}
	if (r->short_dir)
		tree_remove (r->short_dir);
	free (r->dir);
	free (r->short_dir);
	free (r->socket);
	free (r->run);
	free (r);
	*rp = NULL;
	errno = saved;
}

const char *rooms_dir (const struct rooms *r)
{
	return r->dir;
}

const char *rooms_socket (const struct rooms *r)
{
	return r->socket;
}

const char *rooms_open (struct rooms *r, struct err *err)
{
	char *run = xasprintf ("%s/" RUN_NAME, r->short_dir ? r->short_dir : r->dir);

	if ((mkdir (run, 0711) < 0 && errno != EEXIST) || chmod (run, 0711) < 0) {
		err_errno (err, "making the directory %s", run);
		free (run);
		return NULL;
	}
	free (r->run);
	r->run = run;
	return run;
}

char *rooms_path (const struct rooms *r, unsigned k) { return xasprintf ("%s/w%u", r->dir, k); }

void rooms_clear (struct rooms *r, unsigned k)
{
	char *from = rooms_path (r, k), *to = xasprintf ("%s/old-%lu", r->dir, ++r->old);

	if (rmdir (from) == 0 || errno == ENOENT)
		goto done;	/* empty, the usual case: no process needed */
	if (rename (from, to) < 0)
		log_warn ("rooms", "a work directory could not be moved away", "path=%s", from);
	else
		spawn_remove_tree (r->loop, to);
done:
	free (from);
	free (to);
}

char *rooms_work (struct rooms *r, unsigned k, struct err *err)
{
	char *path;

	rooms_clear (r, k);
	path = rooms_path (r, k);
	if (mkdir (path, 0700) < 0 && errno != EEXIST) {
		err_errno (err, "making the work directory %s", path);
		free (path);
		return NULL;
	}
	return path;
}
