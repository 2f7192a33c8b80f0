/* SPDX-License-Identifier: Apache-2.0 */
/* See bundle.h. The loader itself says which libraries it would take (ld.so --list), as ldd does. */
#include "endpoint/manager/bundle.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/loop.h"
#include "common/spawn.h"
#include "common/xmem.h"

enum { LIST_MS = 30000, LIST_BYTES = 65536, COPY_BYTES = 65536 };
#define LOADER "ld.so"

const char *bundle_loader (const char *own)
{
	const char *slash = strrchr (own, '/');

	return slash && strcmp (slash + 1, LOADER) == 0 ? own : NULL;
}

/* ---- copying ------------------------------------------------------------------------------------------------- */

static int copy_bytes (int in, int out)
{
	char mem[COPY_BYTES];
	ssize_t n, k, done;

	while ((n = read (in, mem, sizeof (mem))) > 0 || (n < 0 && errno == EINTR))
		for (done = 0; done < n; done += k)
			if ((k = write (out, mem + done, (size_t) (n - done))) < 0) {
				if (errno != EINTR)
					return -1;
				k = 0;
			}
	return n < 0 ? -1 : 0;
}

static int copy (const char *from, const char *dir, const char *name, mode_t mode, struct err *err)
{
	char *to = xasprintf ("%s/%s", dir, name);
	int in = open (from, O_RDONLY | O_CLOEXEC), out = -1, rc = 0;

	if (in < 0)
		rc = err_errno (err, "opening %s", from);
	else if ((unlink (to) < 0 && errno != ENOENT) || (out = open (to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)) < 0)
		rc = err_errno (err, "making %s", to);
	else if (copy_bytes (in, out) < 0)
		rc = err_errno (err, "copying %s to %s", from, to);
	if (in >= 0)
		close (in);
	if (out >= 0 && close (out) < 0 && rc == 0)
		rc = err_errno (err, "copying %s to %s", from, to);
	free (to);
	return rc;
}

/* ---- libraries ----------------------------------------------------------------------------------------------- */

static int is_loader (struct dl_phdr_info *info, size_t size, void *out)
{
	(void) size;
	if (info->dlpi_addr != getauxval (AT_BASE) || !info->dlpi_name || *info->dlpi_name != '/')
		return 0;
	snprintf (out, PATH_MAX, "%s", info->dlpi_name);
	return 1;
}

struct listing { struct loop *loop; const char *program, *lib; struct err *err; int rc; };

/* "	libzmq.so.5 => /lib/libzmq.so.5 (0x...)"; what has no arrow is the kernel's, or the loader. */
static int take_line (const struct listing *l, char *line)
{
	char *arrow = strstr (line, " => "), *end;

	line += strspn (line, " \t");
	if (!arrow)
		return 0;
	*arrow = 0;
	arrow += 4;
	if ((end = strstr (arrow, " (0x")))
		*end = 0;
	if (*arrow != '/' || strchr (line, '/'))
		return err_set (l->err, ERR_INTERNAL, FAULT_SITE, "%s needs %s, which is not installed", l->program, line);
	return copy (arrow, l->lib, line, 0644, l->err);
}

static void on_list (int status, const char *out, size_t n, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct listing *l = arg;
	char *text = xcalloc (1, n + 1), *save = NULL;

	memcpy (text, out, n);
	if (status != 0)
		l->rc = err_set (l->err, ERR_INTERNAL, FAULT_SITE, "the libraries of %s cannot be told: %.300s", l->program,
				 err ? err->text : nerr ? errout : "the loader failed");
	for (char *line = strtok_r (text, "\n", &save); line && l->rc == 0; line = strtok_r (NULL, "\n", &save))
		l->rc = take_line (l, line);
	free (text);
	loop_stop (l->loop);
}

static int copy_libraries (const char *loader, const char *program, const char *lib, struct err *err)
{
	const char *argv[] = { loader, "--list", program, NULL };
	struct listing l = { .program = program, .lib = lib, .err = err };

	if (!(l.loop = loop_create (err)))
		return -1;
	if ((l.rc = spawn_capture (l.loop, argv, NULL, LIST_MS, LIST_BYTES, on_list, &l, err)) == 0)
		loop_run (l.loop);
	loop_destroy (&l.loop);
	return l.rc;
}

static int make_dir (const char *dir, struct err *err)
{
	return mkdir (dir, 0755) < 0 && errno != EEXIST ? err_errno (err, "making the directory %s", dir) : 0;
}

int bundle_make (const char *dir, struct err *err)
{
	static const char *const programs[] = { "weft-manager", "weft-worker" };
	char own[PATH_MAX], loader[PATH_MAX], *lib = xasprintf ("%s/lib", dir), *slash;
	ssize_t n = readlink ("/proc/self/exe", own, sizeof (own) - 1);
	int rc = -1;

	own[n > 0 ? n : 0] = '\0';
	if (!(slash = strrchr (own, '/')) || !dl_iterate_phdr (is_loader, loader)) {
		err_set (err, ERR_INTERNAL, FAULT_SITE, "a bundle cannot be made of this program: it does not know where it, or its loader, is");
	} else if (make_dir (dir, err) == 0 && make_dir (lib, err) == 0 && copy (loader, dir, LOADER, 0755, err) == 0) {
		*slash = '\0';
		rc = 0;
		for (size_t i = 0; i < sizeof (programs) / sizeof (programs[0]) && rc == 0; i++) {
			char *path = xasprintf ("%s/%s", own, programs[i]);
			if ((rc = copy (path, dir, programs[i], 0755, err)) == 0)
				rc = copy_libraries (loader, path, lib, err);
			free (path);
		}
	}
	free (lib);
	return rc;
}
