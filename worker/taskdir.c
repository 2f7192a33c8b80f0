/* SPDX-License-Identifier: Apache-2.0 */
/* See taskdir.h. Links, not copies: a file may be large, many tasks use it, and in a container the directory of files is read-only. The manager
 * holds a file in its place while a task that wants it is in hand. */
#include "worker/taskdir.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
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
