/* SPDX-License-Identifier: Apache-2.0 */
/* Charliecloud: an image is a directory tree (or a squashfs file, where ch-run has it), the container a process of ours. ch-run itself
 * only changes the root; unshare (util-linux) takes network, other processes and System V IPC away. It has no limits of its own: memory is
 * what the worker's engine watches over, per function.
 *
 * ch-run makes no directories in an image: all of ours hangs below /mnt, which images have. */
#include "endpoint/manager/containers/runtime.h"

static void run (struct args *a, const struct container_spec *s, const struct container_place *p)
{
	args_add (a, "unshare");
	if (!p->root) {
		args_add (a, "--user");
		args_add (a, "--map-current-user");
	}
	args_add (a, "--pid");
	args_add (a, "--fork");
	args_add (a, "--kill-child");
	args_add (a, "--mount-proc");
	args_add (a, "--ipc");
	if (!s->network)
		args_add (a, "--net");
	args_add (a, "ch-run");
	args_add (a, "--private-tmp");
	args_add (a, "--no-passwd");	/* else a file of the host's, writable, stands over the image's own */
	args_add (a, "--unset-env=*");
	args_add (a, "--set-env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	args_add (a, "--set-env=HOME=/tmp");
	args_addf (a, "--uid=%u", (unsigned) p->uid);
	args_addf (a, "--gid=%u", (unsigned) p->gid);
	args_addf (a, "--bind=%s/mnt:/mnt", p->work_dir);
	args_addf (a, "--bind=%s:/mnt/bin", p->bundle);
	args_addf (a, "--bind=%s:/mnt/run", p->run_dir);
	if (p->files_dir)
		args_addf (a, "--bind=%s:/mnt/files", p->files_dir);
	args_add (a, s->image);
	args_add (a, "--");
	for (const char *const *w = p->command; *w; w++)
		args_add (a, *w);
}

const struct runtime runtime_charliecloud = {
	.name = "charliecloud", .program = "ch-run", .help = "Charliecloud (ch-run)", .base = "/mnt", .maps_user = true,
	.run = run,
};
