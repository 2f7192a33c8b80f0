/* SPDX-License-Identifier: Apache-2.0 */
/* Podman, as root and rootless. Rootless, the user is mapped to itself inside: neither root there, nor a stranger to the work
 * directory. Limits need control groups v2 there, and those controllers that systemd delegates to the user (node.c). */
#include "endpoint/manager/containers/runtime.h"

static void run (struct args *a, const struct container_spec *s, const struct container_place *p)
{
	static const char *const rootless[] = { "--read-only-tmpfs=false", "--userns=keep-id", NULL };
	static const char *const rootful[] = { "--read-only-tmpfs=false", NULL };
	const struct container_spec held = runtime_held (s, p);

	oci_run (a, "podman", &held, p, p->root ? rootful : rootless);
}

static void exists (struct args *a, const char *image)
{
	oci_image (a, "podman", "exists", image);
}

static void pull (struct args *a, const char *image)
{
	oci_image (a, "podman", "pull", image);
}

static void remove_ (struct args *a, const char *name)
{
	oci_remove (a, "podman", name);
}

static void list (struct args *a, const char *endpoint)
{
	oci_list (a, "podman", "index .Labels", endpoint);
}

const struct runtime runtime_podman = {
	.name = "podman", .program = "podman", .help = "Podman, as root or rootless", .base = "/weft", .stays = true, .monitored = true, .limits = true,
	.of_user = true, .runs_ids = true,
	.run = run, .exists = exists, .pull = pull, .remove = remove_, .list = list,
};
