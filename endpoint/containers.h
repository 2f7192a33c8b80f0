/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent knows of containers: which runtimes the configuration names, and what it says of them to the service. What runs them is
 * the manager (manager/containers/). */
#ifndef ENDPOINT_CONTAINERS_H
#define ENDPOINT_CONTAINERS_H
#include <jansson.h>
#include "endpoint/config.h"

#define CONTAINERS_NAMES "docker, podman, apptainer, singularity, charliecloud, shifter"

bool containers_known (const char *runtime);
/* For doctor: the command that says whether it works (4 words with the NULL), and what to look at when it does not. */
bool containers_version (const char *runtime, const char *words[4]);
const char *containers_trouble (const char *runtime);
bool containers_of_paths (const char *runtime);		/* its images are files and directories of the node */
/* {"containers": ["docker", ...], "container_network": bool, "container_images": [patterns] (when restricted)} put into o. */
void containers_describe (const struct config *c, json_t *o);
char *containers_list (const struct conf_list *l);	/* with commas; owned by the caller */

#endif
