/* SPDX-License-Identifier: Apache-2.0 */
/* The runner of shared objects: `weft-worker so-runner`, see so_host.c and weft_function.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/xmem.h"
#include "worker/runners/framed.h"
#include "worker/workdir.h"

/* Path of this program; in a bundle, of its loader. */
static const char *self_path (void)
{
	static char path[4096];
	ssize_t n;

	if (path[0])
		return path;
	n = readlink ("/proc/self/exe", path, sizeof (path) - 1);
	path[n > 0 ? n : 0] = 0;
	/* replaced while we run (an upgrade): the link still leads to what we are */
	if (n <= 0 || access (path, X_OK) != 0)
		strcpy (path, "/proc/self/exe");
	return path;
}

/* Started as DIR/ld.so --library-path DIR/lib DIR/weft-worker (packaging/bundle), and so is the process made here: DIR. Else NULL. */
static char *bundle_dir (const char *exe)
{
	const char *slash = strrchr (exe, '/');

	return slash && strcmp (slash, "/ld.so") == 0 ? xasprintf ("%.*s", (int) (slash - exe), exe) : NULL;
}

static int create (void **self, const struct runner_host *h, struct err *err)
{
	char *dir = xasprintf ("%s/functions", h->dir), *bundle = bundle_dir (self_path ());
	char *lib = bundle ? xasprintf ("%s/lib", bundle) : NULL, *program = bundle ? xasprintf ("%s/weft-worker", bundle) : NULL;
	const char *bare[] = { self_path (), "so-runner", dir, NULL };
	const char *bundled[] = { self_path (), "--library-path", lib, program, "so-runner", dir, NULL };
	int rc = workdir_make (dir, err);

	if (rc == 0)
		rc = framed_create (self, h, bundle ? bundled : bare, NULL, err);
	free (dir);
	free (lib);
	free (program);
	free (bundle);
	return rc;
}

const struct runner_ops runner_sharedobject = {
	.name = "shared_object",
	.kinds = RUNNER_KIND (KIND_SHARED_OBJECT),
	.kept = true,
	.create = create,
	.destroy = framed_destroy,
	.start = NULL,			/* few workers need it: started by the first call */
	.call = framed_call,
	.batch = framed_batch,
	.flush = framed_flush,
	.kill = framed_kill,
	.pid = framed_pid,
	.tails = framed_tails,
	.news = framed_news,
};
