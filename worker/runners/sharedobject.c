/* SPDX-License-Identifier: Apache-2.0 */
/* The runner of shared objects: `weft-worker so-runner`, see so_host.c and weft_function.h. */
#include <stdlib.h>
#include "common/xmem.h"
#include "worker/launch.h"
#include "worker/runners/framed.h"
#include "worker/workdir.h"

static int create (void **self, const struct runner_host *h, struct err *err)
{
	char *dir = xasprintf ("%s/functions", h->dir);
	const char *argv[] = { launch_self (), "so-runner", dir, NULL };
	int rc = workdir_make (dir, err);

	if (rc == 0)
		rc = framed_create (self, h, "shared_object", argv, err);
	free (dir);
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
	.flush = framed_flush,
	.kill = framed_kill,
	.pid = framed_pid,
	.tails = framed_tails,
};
