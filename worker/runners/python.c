/* SPDX-License-Identifier: Apache-2.0 */
/* The Python runner: kinds globus and python. Its program is embedded here, so that an image needs an interpreter only. */
#include <stdlib.h>
#include "common/xmem.h"
#include "worker/runners/framed.h"
#include "worker/workdir.h"

static const unsigned char program[] = {
#include "worker/runners/python_runner.py.inc"
};

static const unsigned char plain_text[] = {
#include "worker/runners/plain_text.so.inc"
};

/* glibc gives memory back to the kernel after each call that had large values, and has it filled with zeros again for the next
 * one: a third of the time of a call with 1 MB. These are the bounds that it would reach by itself in time. The runner takes them out of
 * its environment. */
static const char *const env[] = { "WEFT_MALLOC=1", "MALLOC_TRIM_THRESHOLD_=67108864", "MALLOC_MMAP_THRESHOLD_=33554432", NULL };

/* Whoever has set some himself is left alone. */
static bool malloc_is_tuned (void)
{
	return getenv ("MALLOC_TRIM_THRESHOLD_") || getenv ("MALLOC_MMAP_THRESHOLD_") || getenv ("GLIBC_TUNABLES");
}

static int create (void **self, const struct runner_host *h, struct err *err)
{
	char *path = xasprintf ("%s/python_runner.py", h->dir);
	const char *argv[] = { h->python, path, NULL };
	char *helper = xasprintf ("%s/plain_text.so", h->dir);
	int rc = workdir_file (path, program, sizeof (program), 0600, err);

	if (rc == 0)
		rc = workdir_file (helper, plain_text, sizeof (plain_text), 0700, err);
	if (rc == 0)
		rc = framed_create (self, h, argv, malloc_is_tuned () ? NULL : env, err);
	free (helper);
	free (path);
	return rc;
}

const struct runner_ops runner_python = {
	.name = "python",
	.kinds = RUNNER_KIND (KIND_GLOBUS) | RUNNER_KIND (KIND_PYTHON),
	.kept = true,
	.create = create,
	.destroy = framed_destroy,
	.start = framed_start,
	.call = framed_call,
	.batch = framed_batch,
	.flush = framed_flush,
	.kill = framed_kill,
	.pid = framed_pid,
	.tails = framed_tails,
	.news = framed_news,
};
