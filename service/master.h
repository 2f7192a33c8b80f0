/* SPDX-License-Identifier: Apache-2.0 */
/* The master process: starts the workers on one port, restarts those that die, replaces all of them on SIGHUP without losing a
 * request, stops them on SIGTERM. */
#ifndef SERVICE_MASTER_H
#define SERVICE_MASTER_H
#include "common/cli.h"

int master_run (const char *config, const struct cli_strings *sets);	/* config NULL: defaults. The exit status */
/* The configuration, or all its problems on standard error and -1. */
struct config;
int master_load (const char *path, const char *const *sets, struct config *c);

#endif
