/* SPDX-License-Identifier: Apache-2.0 */
/* See runtime.h. The words that docker and podman both know. `run` stays in the foreground: its end is the container's end, its exit
 * status the container's, its standard error the tool's own words and the worker's log. */
#include "endpoint/manager/containers/runtime.h"

static void mount (struct args *a, const char *src, const char *dst, bool writable)
{
	args_add (a, "--mount");
	args_addf (a, "type=bind,src=%s,dst=%s%s", src, dst, writable ? "" : ",readonly");
}

void oci_run (struct args *a, const char *program, const struct container_spec *s, const struct container_place *p, const char *const *extra)
{
	args_add (a, program);
	args_add (a, "run");
	args_add (a, "--rm");
	args_add (a, "--name");
	args_add (a, p->name);
	args_addf (a, "--label=weft.endpoint=%s", p->endpoint);
	args_addf (a, "--label=weft.manager=%s", p->owner);
	args_addf (a, "--label=weft.image=%s", p->reference);
	args_add (a, "--pull=never");
	args_add (a, "--log-driver=none");
	args_add (a, "--no-healthcheck");
	args_add (a, "--read-only");
	args_add (a, "--cap-drop=ALL");
	args_add (a, "--security-opt=no-new-privileges");
	args_addf (a, "--network=%s", s->network ? p->network : "none");
	args_addf (a, "--user=%u:%u", (unsigned) p->uid, (unsigned) p->gid);
	if (s->memory_bytes) {
		args_addf (a, "--memory=%llu", (unsigned long long) s->memory_bytes);
		args_addf (a, "--memory-swap=%llu", (unsigned long long) s->memory_bytes);	/* equal: no swap on top of it */
	}
	if (s->pids)
		args_addf (a, "--pids-limit=%u", (unsigned) s->pids);
	if (s->cpu_millis)
		args_addf (a, "--cpus=%u.%03u", (unsigned) (s->cpu_millis / 1000), (unsigned) (s->cpu_millis % 1000));
	args_add (a, "--tmpfs=/tmp:rw,nosuid,nodev,size=64m,mode=1777");
	mount (a, p->bundle, "/weft/bin", false);
	mount (a, p->run_dir, "/weft/run", false);
	mount (a, p->work_dir, "/weft/work", true);
	if (p->files_dir)
		mount (a, p->files_dir, "/weft/files", false);
	args_add (a, "--workdir=/weft/work");
	args_add (a, "--env=HOME=/tmp");
	for (; extra && *extra; extra++)
		args_add (a, *extra);
	args_addf (a, "--entrypoint=%s", p->command[0]);
	args_add (a, s->image);
	for (const char *const *w = p->command + 1; *w; w++)
		args_add (a, *w);
}

void oci_image (struct args *a, const char *program, const char *verb, const char *image)
{
	args_add (a, program);
	if (verb[0] == 'p')
		args_add (a, "pull");
	else {
		args_add (a, "image");
		args_add (a, "inspect");
		args_add (a, "--format={{.Id}}");
	}
	args_add (a, image);
}

void oci_remove (struct args *a, const char *program, const char *name)
{
	args_add (a, program);
	args_add (a, "rm");
	args_add (a, "--force");
	args_add (a, name);
}

void oci_list (struct args *a, const char *program, const char *label, const char *endpoint)
{
	args_add (a, program);
	args_add (a, "ps");
	args_add (a, "--all");
	args_addf (a, "--filter=label=weft.endpoint=%s", endpoint);
	args_addf (a, "--format={{.Names}} {{%s \"weft.manager\"}}", label);
}
