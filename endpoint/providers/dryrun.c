/* SPDX-License-Identifier: Apache-2.0 */
/* Starts nothing: what a block would run is written to its log, and the block waits as one in a batch system's queue. For looking at
 * a configuration, and for tests of the scaling. */
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/providers/provider.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct dryrun { struct provider_env env; };

static void *dryrun_create (const struct provider_env *env, struct err *err)
{
	struct dryrun *d = xcalloc (1, sizeof (*d));

	(void) err;
	d->env = *env;
	return d;
}

static void dryrun_destroy (void *self)
{
	free (self);
}

static void dryrun_describe (const void *conf, const struct provider_block *b, struct buf *out)
{
	(void) conf;
	buf_printf (out, "# dry run: block of %u node(s), nothing is started\n", b->nodes);
	for (unsigned i = 0; i < b->nodes; i++)
		provider_render_argv (b->argv[i], out);
}

static int dryrun_submit (void *self, const struct provider_block *b, struct err *err)
{
	struct dryrun *d = self;
	char *log = xasprintf ("%s/block-%s-0.log", b->log_dir, b->id);
	int fd = open (log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	struct buf text;
	int rc = 0;

	buf_init (&text, 1 << 20);
	dryrun_describe (NULL, b, &text);
	if (fd < 0 || write (fd, text.data, text.len) != (ssize_t) text.len)
		rc = err_errno (err, "writing %s", log);
	if (fd >= 0)
		close (fd);
	buf_fini (&text);
	free (log);
	if (rc == 0)
		d->env.on_block (b->id, PROVIDER_PENDING, false, "dry run", d->env.arg);
	return rc;
}

static void dryrun_cancel (void *self, const char *block_id, int64_t grace_ms)
{
	struct dryrun *d = self;

	(void) grace_ms;
	d->env.on_block (block_id, PROVIDER_ENDED, false, "", d->env.arg);
}

const struct provider provider_dryrun = {
	.name = "dryrun", .help = "renders the command of a block, starts nothing",
	.create = dryrun_create, .destroy = dryrun_destroy, .submit = dryrun_submit, .cancel = dryrun_cancel, .describe = dryrun_describe,
};
