/* SPDX-License-Identifier: Apache-2.0 */
/* See taskdir.h. Links, not copies: a file may be large, many tasks use it, and in a container the directory of files is read-only. The manager
 * holds a file in its place while a task that wants it is in hand. */
#include "worker/taskdir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/ids.h"
#include "common/xmem.h"
#include "worker/workdir.h"

static int place (const char *dir, const char *files_dir, const struct msg_file *f, struct err *err)
{
	char digest[FILES_DIGEST_TEXT];
	char *path = xasprintf ("%s/%.*s", dir, (int) f->name.n, f->name.p);
	char *target = xasprintf ("%s/%s", files_dir, msg_files_digest_text (f->digest, digest));
	struct stat st;
	int rc = 0;

	if (stat (target, &st) < 0 || !S_ISREG (st.st_mode))
		rc = err_set (err, ERR_TASK_FILE, FAULT_SITE, "input file '%.*s' is not in the node's directory of files (%s)", (int) f->name.n, f->name.p,
			      target);
	else if (symlink (target, path) < 0) {
		rc = err_errno (err, "placing the input file '%.*s'", (int) f->name.n, f->name.p);
		err->code = ERR_TASK_FILE;
	}
	free (path);
	free (target);
	return rc;
}

int taskdir_make (const char *path, const char *files_dir, struct wire_str files, struct err *err)
{
	struct msg_file f;

	if (!files_dir)
		return err_set (err, ERR_TASK_FILE, FAULT_SITE, "the task wants files, and its worker has no directory of them");
	if (msg_files_check (files, err) < 0 || workdir_empty (path, err) < 0)
		return -1;
	while (msg_files_next (&files, &f, NULL) > 0)
		if (f.kind == FILE_INPUT && place (path, files_dir, &f, err) < 0)
			return -1;
	return 0;
}

/* ---- outputs ---- */

/* The pattern of an output as text; its bytes are checked, and have no NUL. */
static void pattern_of (const struct msg_file *f, char out[FILES_NAME_MAX + 1]) { snprintf (out, FILES_NAME_MAX + 1, "%.*s", (int) f->name.n, f->name.p); }

/* As what: 0 = as nothing. To keep it goes before sending it. */
static int wanted (struct wire_str files, const char *name)
{
	char pattern[FILES_NAME_MAX + 1];
	struct msg_file f;
	int kind = 0;

	while (kind != FILE_KEEP && msg_files_next (&files, &f, NULL) > 0) {
		pattern_of (&f, pattern);
		if ((f.kind == FILE_OUTPUT || f.kind == FILE_KEEP) && fnmatch (pattern, name, FNM_PERIOD) == 0)
			kind = f.kind;
	}
	return kind;
}

static int too_large (struct err *err, const char *name, size_t max_bytes)
{
	return err_set (err, ERR_TASK_FILE, FAULT_USER, "the output files, with '%.80s', have more than the %zu bytes that can come with a result", name,
			max_bytes);
}

static int take_file (int fd, const char *name, size_t size, size_t max_bytes, struct buf *out, struct err *err)
{
	char *data = malloc (size + 1);
	size_t got = 0;
	ssize_t n = 1;
	int rc = 0;

	while (data && got < size && ((n = pread (fd, data + got, size - got, (off_t) got)) > 0 || (n < 0 && errno == EINTR)))
		got += n > 0 ? (size_t) n : 0;
	if (!data)
		rc = err_set (err, ERR_TASK_FILE, FAULT_SITE, "no memory for the output file '%.80s'", name);
	else if (n < 0) {
		rc = err_errno (err, "reading the output file '%.80s'", name);
		err->code = ERR_TASK_FILE;
	} else {
		msg_files_data_add (out, wire_str (name, strlen (name)), wire_str (data, got));
		if (buf_failed (out) || out->len > max_bytes)
			rc = too_large (err, name, max_bytes);
	}
	free (data);
	return rc;
}

static int take_one (int dir, const char *name, size_t max_bytes, struct buf *out, struct buf *kept, struct err *err)
{
	int fd = openat (dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), rc = 0;
	struct stat st;

	if (fd < 0)
		return 0;		/* a link, as an input is, or gone */
	if (fstat (fd, &st) < 0 || !S_ISREG (st.st_mode) || msg_files_name_ok (wire_str (name, strlen (name)), NULL) < 0)
		rc = 0;
	else if (kept)
		msg_files_kept_add (kept, wire_str (name, strlen (name)), (uint64_t) st.st_size);
	else
		rc = (size_t) st.st_size > max_bytes - out->len ? too_large (err, name, max_bytes)
							       : take_file (fd, name, (size_t) st.st_size, max_bytes, out, err);
	close (fd);
	return rc;
}

static bool same (struct wire_str a, const char *name) { return a.n == strlen (name) && memcmp (a.p, name, a.n) == 0; }

static bool has_file (const struct buf *out, const struct buf *kept, const char *name)
{
	struct wire_str sent = wire_str ((char *) out->data, out->len), left = wire_str ((char *) kept->data, kept->len), n, d;
	struct msg_kept k;

	while (msg_files_data_next (&sent, &n, &d, NULL) > 0)
		if (same (n, name))
			return true;
	while (msg_files_kept_next (&left, &k, NULL) > 0)
		if (same (k.name, name))
			return true;
	return false;
}

/* An output that is no pattern has to be there. */
static int check_all (struct wire_str files, const struct buf *out, const struct buf *kept, struct err *err)
{
	char name[FILES_NAME_MAX + 1];
	struct msg_file f;

	while (msg_files_next (&files, &f, NULL) > 0) {
		pattern_of (&f, name);
		if ((f.kind == FILE_OUTPUT || f.kind == FILE_KEEP) && !strpbrk (name, "*?[\\") && !has_file (out, kept, name))
			return err_set (err, ERR_TASK_FILE, FAULT_USER, "the call made no output file '%.200s' in its work directory", name);
	}
	return 0;
}

int taskdir_take (const char *path, struct wire_str files, size_t max_bytes, struct buf *out, struct buf *kept, struct err *err)
{
	DIR *d = opendir (path);
	struct dirent *e;
	unsigned n = 0;
	int rc = 0, kind;

	if (!d)
		return err_errno (err, "opening the directory of the call");
	while (rc == 0 && (e = readdir (d))) {
		if (!(kind = wanted (files, e->d_name)))
			continue;
		rc = take_one (dirfd (d), e->d_name, max_bytes, out, kind == FILE_KEEP ? kept : NULL, err);
		if (rc == 0 && ++n > FILES_MAX)
			rc = err_set (err, ERR_TASK_FILE, FAULT_USER, "the call made more than %d output files", FILES_MAX);
	}
	closedir (d);
	return rc < 0 ? rc : check_all (files, out, kept, err);
}

/* ---- files that are kept ---- */

static char *kept_path (const char *dir, const struct id *task)
{
	char id[ID_TEXT];

	return xasprintf ("%s/" FILES_KEPT_DIR "%s", dir, id_text (task, id));
}

int taskdir_keep (const char *path, const char *dir, const struct id *task, struct err *err)
{
	char *to = kept_path (dir, task);
	int rc = rename (path, to);

	if (rc < 0) {
		rc = err_errno (err, "putting the directory of the call aside");
		err->code = ERR_TASK_FILE;
	}
	free (to);
	return rc;
}

void taskdir_drop (const char *dir, const struct id *task)
{
	char *path = kept_path (dir, task);

	workdir_remove (path);
	free (path);
}
