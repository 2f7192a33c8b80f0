/* SPDX-License-Identifier: Apache-2.0 */
/* weft: the command line of Weft. One file per group of commands: up.c, function.c, task.c, endpoint.c. */
#include <string.h>
#include "client/cmds.h"

#define MAX_COMMANDS 64

static int gather (struct cli_cmd *to, int n, const struct cli_cmd *from)
{
	for (; from->name && n < MAX_COMMANDS; from++)
		to[n++] = *from;
	return n;
}

int main (int argc, char **argv)
{
	static struct cli_cmd all[MAX_COMMANDS + 1];
	static const struct cli_prog prog = {
		"weft",
		"Run functions on your own computers and clusters.\n"
		"\n"
		"  weft up --detach                     start a whole fabric on this machine\n"
		"  weft function register add.py::add   register a Python function\n"
		"  weft run add '{\"args\": [1, 2]}'      call it and print the result",
		all,
		"Environment: WEFT_URL, WEFT_TOKEN, WEFT_ENDPOINT (`weft env` prints them), WEFT_HOME (default ~/.weft).\n"
		"Completion: source <(weft completion bash)",
	};
	int n = gather (all, 0, cmds_up);
	n = gather (all, n, cmds_function);
	n = gather (all, n, cmds_task);
	n = gather (all, n, cmds_endpoint);
	memset (&all[n], 0, sizeof (all[n]));
	return cli_main (&prog, argc, argv);
}
