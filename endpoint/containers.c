/* SPDX-License-Identifier: Apache-2.0 */
/* See containers.h. */
#include "endpoint/containers.h"
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"

static const struct { const char *name, *program; } known[] = {
	{ "docker", "docker" },	    { "podman", "podman" },	  { "apptainer", "apptainer" },
	{ "singularity", "singularity" }, { "charliecloud", "ch-run" }, { "shifter", "shifter" },
};

const char *containers_program (const char *runtime)
{
	for (size_t i = 0; i < sizeof (known) / sizeof (known[0]); i++)
		if (strcmp (known[i].name, runtime) == 0)
			return known[i].program;
	return NULL;
}

bool containers_known (const char *runtime)
{
	return containers_program (runtime) != NULL;
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
	json_object_set_new (o, "containers", list_json (&c->container_runtimes));
	json_object_set_new (o, "container_network", json_boolean (c->container_allow_network));
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
