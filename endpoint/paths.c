/* SPDX-License-Identifier: Apache-2.0 */
/* See paths.h. */
#include "endpoint/paths.h"
#include "common/xmem.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_MAX_CHARS = 64 };

static bool name_valid (const char *s)
{
	size_t n = strlen (s);

	if (!n || n > NAME_MAX_CHARS || !isalnum ((unsigned char) *s))
		return false;
	for (; *s; s++)
		if (!isalnum ((unsigned char) *s) && !strchr ("._-", *s))
			return false;
	return true;
}

char *paths_root (struct err *err)
{
	const char *home = getenv ("WEFT_HOME");
	struct passwd *pw;

	if (home && *home) {
		char *real = *home == '/' ? xstrdup (home) : realpath (home, NULL);
		char *root;
		if (!real) {
			err_errno (err, "WEFT_HOME %s", home);
			return NULL;
		}
		root = xasprintf ("%s/endpoints", real);
		free (real);
		return root;
	}
	home = getenv ("HOME");
	if ((!home || *home != '/') && (pw = getpwuid (getuid ())))
		home = pw->pw_dir;
	if (!home || *home != '/') {
		err_set (err, ERR_BAD_STATE, FAULT_SITE, "no home directory; set HOME or WEFT_HOME");
		return NULL;
	}
	return xasprintf ("%s/.weft/endpoints", home);
}

int paths_init (struct paths *p, const char *name, struct err *err)
{
	memset (p, 0, sizeof (*p));
	if (!name)
		name = "default";
	if (!name_valid (name))
		return err_set (err, ERR_INVALID, FAULT_USER, "'%.80s' is not a name for an endpoint: up to 64 letters, digits, "
				"'.', '_', '-', a letter or digit first", name);
	if (!(p->root = paths_root (err)))
		return -1;
	p->name = xstrdup (name);
	p->dir = xasprintf ("%s/%s", p->root, name);
	p->config = xasprintf ("%s/config.yaml", p->dir);
	p->key = xasprintf ("%s/endpoint.key", p->dir);
	p->identity = xasprintf ("%s/endpoint.json", p->dir);
	p->spool = xasprintf ("%s/spool", p->dir);
	p->memo = xasprintf ("%s/memo", p->dir);
	p->logs = xasprintf ("%s/logs", p->dir);
	p->log = xasprintf ("%s/logs/endpoint.log", p->dir);
	p->run = xasprintf ("%s/run", p->dir);
	p->pid = xasprintf ("%s/pid", p->run);
	p->status = xasprintf ("%s/status.json", p->run);
	p->control = xasprintf ("%s/control.sock", p->run);
	return 0;
}

void paths_fini (struct paths *p)
{
	char **all[] = { &p->name, &p->root, &p->dir, &p->config, &p->key, &p->identity, &p->spool, &p->memo, &p->logs, &p->log, &p->run,
			 &p->pid, &p->status, &p->control };

	for (size_t i = 0; i < sizeof (all) / sizeof (all[0]); i++) {
		free (*all[i]);
		*all[i] = NULL;
	}
}

bool paths_exist (const struct paths *p)
{
	return access (p->config, F_OK) == 0;
}

int paths_make_private (const char *dir, struct err *err)
{
	char *copy = xstrdup (dir);
	struct stat st;
	int rc = 0;

	/* parents get the usual mode; only the last part is private */
	for (char *s = strchr (copy + 1, '/'); s; s = strchr (s + 1, '/')) {
		*s = 0;
		if (mkdir (copy, 0755) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
			rc = -1;
		*s = '/';
	}
	if (rc == 0 && mkdir (copy, 0700) < 0 && errno != EEXIST)
		rc = -1;
	if (rc == 0 && lstat (copy, &st) < 0)
		rc = -1;
	if (rc < 0)
		err_errno (err, "making the directory %s", dir);
	else if (!S_ISDIR (st.st_mode) || st.st_uid != geteuid ())
		rc = err_set (err, ERR_FORBIDDEN, FAULT_SITE, "%s is not a directory of ours", dir);
	else if ((st.st_mode & 077) && chmod (copy, 0700) < 0)
		rc = err_errno (err, "making %s private", dir);
	free (copy);
	return rc;
}

pid_t paths_running (const struct paths *p)
{
	int fd = open (p->pid, O_RDONLY | O_CLOEXEC);
	char text[32] = "";
	ssize_t n;
	pid_t pid = 0;

	if (fd < 0)
		return 0;
	if (flock (fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
		n = read (fd, text, sizeof (text) - 1);
		pid = n > 0 ? (pid_t) strtol (text, NULL, 10) : 0;
		/* locked, number not yet written: it is starting */
		if (pid <= 0)
			pid = 1;
	}
	close (fd);
	return pid;
}

int paths_lock (const struct paths *p, struct err *err)
{
	int fd = open (p->pid, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char text[32];
	int n = snprintf (text, sizeof (text), "%ld\n", (long) getpid ());

	if (fd < 0)
		return err_errno (err, "opening %s", p->pid);
	if (flock (fd, LOCK_EX | LOCK_NB) < 0) {
		close (fd);
		return err_set (err, ERR_CONFLICT, FAULT_USER, "endpoint %s is already running (pid %ld)", p->name,
				(long) paths_running (p));
	}
	if (ftruncate (fd, 0) < 0 || pwrite (fd, text, (size_t) n, 0) != n) {
		err_errno (err, "writing %s", p->pid);
		close (fd);
		return -1;
	}
	return fd;
}

/* The name too: it stands in the directory. */
static int sync_dir (const char *path)
{
	char *dir = xstrdup (path), *slash = strrchr (dir, '/');
	int fd, rc;

	if (slash)
		*slash = 0;
	fd = open (slash && *dir ? dir : slash ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd < 0 ? -1 : fsync (fd);
	if (fd >= 0)
		close (fd);
	free (dir);
	return rc;
}

static int write_file (const char *path, const void *data, size_t n, mode_t mode, bool durable, struct err *err)
{
	char *tmp = xasprintf ("%s.%ld.tmp", path, (long) getpid ());
	int fd = open (tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	size_t done = 0;
	int rc = -1;

	while (fd >= 0 && done < n) {
		ssize_t w = write (fd, (const char *) data + done, n - done);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			break;
		done += (size_t) w;
	}
	if (fd >= 0 && done == n && fchmod (fd, mode) == 0 && (!durable || fsync (fd) == 0) && rename (tmp, path) == 0
	    && (!durable || sync_dir (path) == 0))
		rc = 0;
	if (rc < 0) {
		err_errno (err, "writing %s", path);
		unlink (tmp);
	}
	if (fd >= 0)
		close (fd);
	free (tmp);
	return rc;
}

int paths_write (const char *path, const void *data, size_t n, mode_t mode, struct err *err)
{
	return write_file (path, data, n, mode, false, err);
}

int paths_write_durable (const char *path, const void *data, size_t n, mode_t mode, struct err *err)
{
	return write_file (path, data, n, mode, true, err);
}

char *paths_read (const char *path, size_t max, size_t *n, struct err *err)
{
	int fd = open (path, O_RDONLY | O_CLOEXEC);
	char *text = NULL;
	size_t len = 0;
	ssize_t r = -1;

	if (fd >= 0 && (text = malloc (max + 1)))
		while (len < max && ((r = read (fd, text + len, max - len)) > 0 || (r < 0 && errno == EINTR)))
			len += r > 0 ? (size_t) r : 0;
	if (fd < 0 || !text || r < 0) {
		err_errno (err, "reading %s", path);
		free (text);
		text = NULL;
	} else {
		text[len] = 0;
		if (n)
			*n = len;
	}
	if (fd >= 0)
		close (fd);
	return text;
}

char *paths_program (const char *set, const char *name)
{
	char self[PATH_MAX];
	ssize_t n;
	char *slash, *path;

	if (set && *set)
		return xstrdup (set);
	n = readlink ("/proc/self/exe", self, sizeof (self) - 1);
	if (n > 0) {
		self[n] = 0;
		if ((slash = strrchr (self, '/'))) {
			*slash = 0;
			path = xasprintf ("%s/%s", self, name);
			if (access (path, X_OK) == 0)
				return path;
			free (path);
		}
	}
	return xstrdup (name);
}

char *paths_on_path (const char *program)
{
	const char *dirs = getenv ("PATH");

	if (strchr (program, '/'))
		return access (program, X_OK) == 0 ? xstrdup (program) : NULL;
	if (!dirs)
		dirs = "/usr/local/bin:/usr/bin:/bin";
	while (*dirs) {
		size_t n = strcspn (dirs, ":");
		char *path = xasprintf ("%.*s/%s", (int) n, dirs, program);
		if (n && access (path, X_OK) == 0)
			return path;
		free (path);
		dirs += n + (dirs[n] == ':');
	}
	return NULL;
}

bool paths_program_exists (const char *program)
{
	char *path = paths_on_path (program);
	bool there = path != NULL;

	free (path);
	return there;
}
