/* SPDX-License-Identifier: Apache-2.0 */
/* The running endpoint: makes the modules, connects them, and takes them down in mirror order. */
#ifndef ENDPOINT_AGENT_H
#define ENDPOINT_AGENT_H
#include "endpoint/config.h"
#include "endpoint/paths.h"

/* Runs until stopped (SIGTERM, SIGINT, control socket). lock: descriptor of paths_lock, kept open. Returns the exit status. */
int agent_run (const struct paths *p, const struct config *c, int lock, bool foreground);

/* The command of one node, a NULL-terminated vector of owned strings; also used by `render`. */
struct agent_command {
	const struct config *config;
	const char *address, *endpoint_id, *dir, *server_key, *key_file;	/* keys: NULL for ipc */
	const char *bulk_dir;			/* NULL = none */
	const char *own_dir;			/* of the endpoint */
	long parent_pid;
};
char **agent_argv (const struct agent_command *a, const char *block, unsigned node, unsigned nodes);

#endif
