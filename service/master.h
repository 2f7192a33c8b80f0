/* SPDX-License-Identifier: Apache-2.0 */
/* The master process: starts the workers on one port, restarts those that die, replaces all of them on SIGHUP without losing a
 * request, stops them on SIGTERM. And the worker's own main. */
#ifndef SERVICE_MASTER_H
#define SERVICE_MASTER_H
#include "common/cli.h"

/* Both return the exit status. config NULL: defaults. */
int master_run (const char *config, const struct cli_strings *sets);
/* argv: INDEX PARENT_PID ADDRESS CONFIG [KEY=VALUE...], CONFIG may be "". Says that it serves on descriptor 3. */
int worker_run (int argc, char **argv);

#endif
