/* SPDX-License-Identifier: Apache-2.0 */
/* See containers.h. */
#include "endpoint/containers.h"
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"

static const struct { const char *name, *words[3], *trouble; } known[] = {
	{ "docker", { "docker", "version", "--format={{.Server.Version}}" }, "does the daemon run, and may this user use it (group docker, or DOCKER_HOST)?" },
	{ "podman", { "podman", "info", "--format={{.Version.Version}}" },
	  "without root it needs newuidmap (package uidmap), a range for this user in /etc/subuid and /etc/subgid, and crun or runc" },
	{ "apptainer", { "apptainer", "version", NULL }, "install it, or load its module before the endpoint starts" },
	{ "singularity", { "singularity", "version", NULL }, "install it, or load its module before the endpoint starts" },
	{ "charliecloud", { "ch-run", "--version", NULL }, "install Charliecloud; it needs USER in the environment, and user namespaces" },
	{ "shifter", { "shifter", "--version", NULL }, "it is there on the nodes of sites that have it" },
};

static int find (const char *runtime)
{
	for (size_t i = 0; i < sizeof (known) / sizeof (known[0]); i++)
		if (strcmp (known[i].name, runtime) == 0)
			return (int) i;
	return -1;
}

bool containers_known (const char *runtime)
{
	return find (runtime) >= 0;
}

bool containers_version (const char *runtime, const char *words[4])
{
	int i = find (runtime);

	for (int k = 0; i >= 0 && k < 3; k++)
		words[k] = known[i].words[k];
	words[3] = NULL;
	return i >= 0;
}

const char *containers_trouble (const char *runtime)
{
	return known[find (runtime)].trouble;
}

bool containers_of_paths (const char *runtime)
{
	return strcmp (runtime, "apptainer") == 0 || strcmp (runtime, "singularity") == 0 || strcmp (runtime, "charliecloud") == 0;
}

static json_t *list_json (const struct conf_list *l)
{
	json_t *a = json_array ();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new (a, json_string (l->v[i]));
	return a;
}

void containers_describe (const struct config *c, json_t *o)
{
	bool pods = config_block_images (c);

	/* whoever runs them there, they are images of a registry */
	json_object_set_new (o, "containers", pods ? json_pack ("[s, s]", "docker", "podman") : list_json (&c->container_runtimes));
	json_object_set_new (o, "container_network", json_boolean (pods || c->container_allow_network));
	if (c->container_images.n)
		json_object_set_new (o, "container_images", list_json (&c->container_images));
}

char *containers_list (const struct conf_list *l)
{
	char *out = xstrdup (""), *next;

	for (size_t i = 0; i < l->n; i++) {
		next = xasprintf ("%s%s%s", out, i ? "," : "", l->v[i]);
		free (out);
		out = next;
	}
	return out;
}
