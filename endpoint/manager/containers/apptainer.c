/* SPDX-License-Identifier: Apache-2.0 */
/* Apptainer, and Singularity, whose words are the same. Containers are processes of ours and end with them. An image is a SIF file, a
 * directory, or a URI that it fetches itself (docker://, oras://, library://). */
#include "endpoint/manager/containers/runtime.h"
#include <string.h>

static void bind (struct args *a, const char *src, const char *dst, bool writable)
{
	args_add (a, "--bind");
	args_addf (a, "%s:%s:%s", src, dst, writable ? "rw" : "ro");
}

static void run (struct args *a, const char *program, const struct container_spec *s, const struct container_place *p)
{
	const struct container_spec held = runtime_held (s, p);

	args_add (a, program);
	args_add (a, "--silent");
	args_add (a, "exec");
	args_add (a, "--containall");
	args_add (a, "--cleanenv");
	args_add (a, "--no-home");
	args_add (a, "--no-privs");
	if (!s->network) {
		args_add (a, "--net");
		args_add (a, "--network");
		args_add (a, "none");
	}
	if (p->root) {
		args_add (a, "--security");
		args_addf (a, "uid:%u", (unsigned) p->uid);
		args_add (a, "--security");
		args_addf (a, "gid:%u", (unsigned) p->gid);
	}
	if (held.memory_bytes) {
		args_add (a, "--memory");
		args_addf (a, "%llu", (unsigned long long) held.memory_bytes);
	}
	if (held.pids) {
		args_add (a, "--pids-limit");
		args_addf (a, "%u", (unsigned) held.pids);
	}
	if (held.cpu_millis) {
		args_add (a, "--cpus");
		args_addf (a, "%u.%03u", (unsigned) (held.cpu_millis / 1000), (unsigned) (held.cpu_millis % 1000));
	}
	bind (a, p->bundle, "/weft/bin", false);
	bind (a, p->run_dir, "/weft/run", false);
	bind (a, p->work_dir, "/weft/work", true);
	if (p->files_dir)
		bind (a, p->files_dir, "/weft/files", false);
	args_add (a, "--pwd");
	args_add (a, "/weft/work");
	args_add (a, s->image);
	for (const char *const *w = p->command; *w; w++)
		args_add (a, *w);
}

static void run_apptainer (struct args *a, const struct container_spec *s, const struct container_place *p)
{
	run (a, "apptainer", s, p);
}

static void run_singularity (struct args *a, const struct container_spec *s, const struct container_place *p)
{
	run (a, "singularity", s, p);
}

const struct runtime runtime_apptainer = {
	.name = "apptainer", .program = "apptainer", .help = "Apptainer", .base = "/weft", .limits = true, .of_user = true,
	.run = run_apptainer,
};
const struct runtime runtime_singularity = {
	.name = "singularity", .program = "singularity", .help = "SingularityCE", .base = "/weft", .limits = true, .of_user = true,
	.run = run_singularity,
};
