/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the weft CLI, grouped by what they are about; main.c lists them. */
#ifndef CLIENT_CMDS_H
#define CLIENT_CMDS_H
#include "common/cli.h"

/* Each array ends with a row whose name is NULL. */
extern const struct cli_cmd cmds_up[];		/* up, down, env */
extern const struct cli_cmd cmds_function[];	/* function register|list|show|update|delete */
extern const struct cli_cmd cmds_run[];		/* run, submit */
extern const struct cli_cmd cmds_task[];	/* status, result, cancel, tasks, files, trace */
extern const struct cli_cmd cmds_console[];	/* console */
extern const struct cli_cmd cmds_endpoint[];	/* endpoint list|show, whoami */

extern const struct cli_cmd cmds_logs[];		/* logs */
extern const struct cli_cmd cmds_top[];		/* top */
extern const struct cli_cmd cmds_login[];	/* login, logout, profile list|use */

#endif
