/* SPDX-License-Identifier: Apache-2.0 */
#include "client/files.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/xmem.h"

int files_write (const char *dir, const char *name, const char *text, struct err *err)
{
	char *tmp = xasprintf ("%s/%s.new", dir, name), *path = xasprintf ("%s/%s", dir, name);
	int fd = open (tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), rc = -1;
	size_t n = strlen (text);
	if (fd < 0 || write (fd, text, n) != (ssize_t)n || rename (tmp, path) < 0)
		err_errno (err, "writing %s", path);
	else
		rc = 0;
	if (fd >= 0)
		close (fd);
	free (tmp);
	free (path);
	return rc;
}

int files_make_dirs (char *path, struct err *err)
{
	for (char *p = path + 1; ; p++) {
		char c = *p;
		if (c != '/' && c)
			continue;
		*p = '\0';
		if (mkdir (path, 0700) < 0 && errno != EEXIST)
			return err_errno (err, "making %s", path);
		*p = c;
		if (!c)
			return 0;
	}
}
