/* SPDX-License-Identifier: Apache-2.0 */
/* Shifter, as NERSC has it: an image gateway, and a setuid tool that runs what it converted. It shares the host's network and has no
 * limits of its own. */
#include "endpoint/manager/containers/runtime.h"

static void run (struct args *a, const struct container_spec *s, const struct container_place *p)
{
	args_add (a, "shifter");
	args_addf (a, "--image=%s", s->image);
	args_addf (a, "--volume=%s:/weft/bin:ro", p->bundle);
	args_addf (a, "--volume=%s:/weft/run:ro", p->run_dir);
	args_addf (a, "--volume=%s:/weft/work", p->work_dir);
	if (p->files_dir)
		args_addf (a, "--volume=%s:/weft/files:ro", p->files_dir);
	args_add (a, "--workdir=/weft/work");
	args_add (a, "--clearenv");
	args_add (a, "--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	args_add (a, "--env=HOME=/tmp");
	args_add (a, "--");
	for (const char *const *w = p->command; *w; w++)
		args_add (a, *w);
}

static void exists (struct args *a, const char *image)
{
	args_add (a, "shifterimg");
	args_add (a, "lookup");
	args_add (a, image);
}

static void pull (struct args *a, const char *image)
{
	args_add (a, "shifterimg");
	args_add (a, "pull");
	args_add (a, image);
}

const struct runtime runtime_shifter = {
	.name = "shifter", .program = "shifter", .help = "Shifter", .base = "/weft", .host_network = true, .maps_user = true,
	.run = run, .exists = exists, .pull = pull,
};
