/* SPDX-License-Identifier: Apache-2.0 */
/* weft: the command line of Weft. One file per group of commands: cmds.h has them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client/cmds.h"
#include "client/complete.h"
#include "common/spawn.h"

#define MAX_COMMANDS 64

static int gather (struct cli_cmd *to, int n, const struct cli_cmd *from)
{
	for (; from->name && n < MAX_COMMANDS; from++)
		to[n++] = *from;
	return n;
}

/* weft __tie PID PROGRAM [ARG...]: become a program that dies with PID. For children of `weft up` that cannot do it themselves. */
static int tie (char **argv)
{
	spawn_tie_to_parent ((pid_t)atoi (argv[0]));
	execvp (argv[1], argv + 1);
	perror (argv[1]);
	return 127;
}

int main (int argc, char **argv)
{
	static struct cli_cmd all[MAX_COMMANDS + 1];
	static const struct cli_prog prog = {
		"weft",
		"Run functions on your own computers and clusters.\n"
		"\n"
		"  weft up --detach                        start a whole fabric on this machine; or, for one that runs elsewhere,\n"
		"  weft login https://weft.example.org     say where it is, and who you are\n"
		"  weft run add.py::add '{\"args\": [1, 2]}'  call a Python function there and print the result\n"
		"  weft run add.py::add --map in.jsonl     once for each line of a file\n"
		"  weft run -- hostname                    run a command there",
		all,
		"Environment: WEFT_URL, WEFT_TOKEN, WEFT_ENDPOINT (`weft env` prints them), WEFT_PROFILE, WEFT_CA_FILE, WEFT_HOME (default ~/.weft).\n"
		"`weft login --help` says which counts when several say where the service is.\n"
		"Completion, of names of functions, endpoints and profiles too: source <(weft completion bash)",
		COMPLETE_NAMED,
	};
	if (argc >= 4 && !strcmp (argv[1], "__tie"))
		return tie (argv + 2);
	if (argc >= 3 && !strcmp (argv[1], "__complete"))
		return complete_main (argv[2], argv + 3);
	int n = gather (all, 0, cmds_up);
	n = gather (all, n, cmds_function);
	n = gather (all, n, cmds_run);
	n = gather (all, n, cmds_task);
	n = gather (all, n, cmds_endpoint);
	n = gather (all, n, cmds_console);
	n = gather (all, n, cmds_logs);
	n = gather (all, n, cmds_top);
	n = gather (all, n, cmds_login);
	memset (&all[n], 0, sizeof (all[n]));
	return cli_main (&prog, argc, argv);
}
