/* SPDX-License-Identifier: Apache-2.0 */
/* Docker, through its command line: DOCKER_HOST and contexts work as everywhere. */
#include "endpoint/manager/containers/runtime.h"

static void run (struct args *a, const struct container_spec *s, const struct container_place *p)
{
	oci_run (a, "docker", s, p, NULL);
}

static void exists (struct args *a, const char *image)
{
	oci_image (a, "docker", "exists", image);
}

static void pull (struct args *a, const char *image)
{
	oci_image (a, "docker", "pull", image);
}

static void remove_ (struct args *a, const char *name)
{
	oci_remove (a, "docker", name);
}

static void list (struct args *a, const char *endpoint)
{
	oci_list (a, "docker", ".Label", endpoint);
}

const struct runtime runtime_docker = {
	.name = "docker", .program = "docker", .help = "Docker Engine", .base = "/weft", .stays = true, .limits = true,
	.runs_ids = true,
	.run = run, .exists = exists, .pull = pull, .remove = remove_, .list = list,
};
