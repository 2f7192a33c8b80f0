/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent knows of the files of tasks: the configuration, and what it says of it to the service. What brings them is the manager
 * (manager/files.h). */
#ifndef ENDPOINT_FILES_H
#define ENDPOINT_FILES_H
#include <jansson.h>
#include "endpoint/config.h"

/* The directory of the nodes' cache, owned by the caller; own_dir: of the endpoint. NULL: each node decides. */
char *files_cache_dir (const struct config *c, const char *own_dir);
int files_check_config (const struct config *c, struct err *err);
/* {"files": {"max_bytes": n, "http": bool, "directories": bool, "keep_max_bytes": n}} put into o, unless there are none; the last one where tasks
 * may leave files. */
void files_describe (const struct config *c, json_t *o);

#endif
