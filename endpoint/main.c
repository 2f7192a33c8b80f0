/* SPDX-License-Identifier: Apache-2.0 */
/* weft-endpoint: connects this computer to a Weft service. The commands; the agent itself is agent.c. */
#include "endpoint/cmd.h"

#include <stddef.h>

#define MINUTE 60000
#define DAY (24LL * 60 * MINUTE)
#define OPT(s, name, letter, type, field, arg, min, max, help) { name, letter, type, offsetof (struct s, field), arg, min, max, help }

static const struct cli_opt configure_opts[] = {
	OPT (cmd_configure, "url", 'u', CLI_STRING, url, "URL", 0, 0, "address of weft-service (default: WEFT_URL, else http://127.0.0.1:5000)"),
	OPT (cmd_configure, "token-file", 't', CLI_STRING, token_file, "FILE", 0, 0,
	     "file with your token, readable by you only (default: WEFT_TOKEN at start)"),
	OPT (cmd_configure, "display-name", 'd', CLI_STRING, display_name, "NAME", 0, 0, "what the service shows (default: the endpoint's name)"),
	OPT (cmd_configure, "workers", 'w', CLI_INT, workers, "N", 1, 4096, "tasks a node runs at once (default: its cores)"),
	CLI_END
};
static const struct cli_opt start_opts[] = {
	OPT (cmd_start, "foreground", 'f', CLI_FLAG, foreground, NULL, 0, 0, "stay in the foreground and log to standard error, for systemd"),
	OPT (cmd_start, "no-wait", 0, CLI_FLAG, no_wait, NULL, 0, 0, "do not wait for the connection; it is tried for ever in the background"),
	OPT (cmd_start, "timeout", 't', CLI_DURATION_MS, timeout_ms, "TIME", 100, DAY, "wait so long for the connection (default: 30s)"),
	OPT (cmd_start, "set", 's', CLI_STRINGS, set, "KEY=VALUE", 0, 0, "override the configuration, e.g. --set scaling.max_blocks=4"),
	CLI_END
};
static const struct cli_opt stop_opts[] = {
	OPT (cmd_stop, "grace", 'g', CLI_DURATION_MS, grace_ms, "TIME", 0, DAY, "let running tasks end for so long first (default: 0s)"),
	OPT (cmd_stop, "timeout", 't', CLI_DURATION_MS, timeout_ms, "TIME", 100, DAY, "kill it when it has not stopped by then (default: 15s)"),
	CLI_END
};
static const struct cli_opt restart_opts[] = {
	OPT (cmd_restart, "grace", 'g', CLI_DURATION_MS, stop.grace_ms, "TIME", 0, DAY, "let running tasks end for so long first (default: 0s)"),
	OPT (cmd_restart, "timeout", 't', CLI_DURATION_MS, start.timeout_ms, "TIME", 100, DAY, "wait so long for the connection (default: 30s)"),
	OPT (cmd_restart, "no-wait", 0, CLI_FLAG, start.no_wait, NULL, 0, 0, "do not wait for the connection"),
	OPT (cmd_restart, "set", 's', CLI_STRINGS, start.set, "KEY=VALUE", 0, 0, "override the configuration"),
	CLI_END
};
static const struct cli_opt status_opts[] = {
	OPT (cmd_status, "json", 'j', CLI_FLAG, json, NULL, 0, 0, "everything, as JSON"),
	CLI_END
};
static const struct cli_opt logs_opts[] = {
	OPT (cmd_logs, "follow", 'f', CLI_FLAG, follow, NULL, 0, 0, "go on with what is written from now on"),
	OPT (cmd_logs, "lines", 'n', CLI_INT, lines, "N", 1, 1000000, "show the last N lines (default: 50)"),
	OPT (cmd_logs, "blocks", 'b', CLI_FLAG, blocks, NULL, 0, 0, "also the logs of the blocks: managers and workers"),
	CLI_END
};
static const struct cli_opt delete_opts[] = {
	OPT (cmd_delete, "yes", 'y', CLI_FLAG, yes, NULL, 0, 0, "do not ask"),
	OPT (cmd_delete, "force", 0, CLI_FLAG, force, NULL, 0, 0, "remove the directory even when the service cannot be told"),
	CLI_END
};
static const struct cli_opt doctor_opts[] = {
	OPT (cmd_doctor, "json", 'j', CLI_FLAG, json, NULL, 0, 0, "as JSON"),
	CLI_END
};
static const struct cli_opt render_opts[] = {
	OPT (cmd_render, "set", 's', CLI_STRINGS, set, "KEY=VALUE", 0, 0, "override the configuration, e.g. --set provider.type=slurm"),
	CLI_END
};
static const struct cli_opt no_opts[] = { CLI_END };

static const struct cli_cmd cmds[] = {
	{ "configure", "[OPTIONS] [NAME]",
	  "Make an endpoint: its directory, a commented configuration, a key.\n"
	  "Example; the file has your token, and you make it: (umask 077; mkdir -p ~/.weft; cat > ~/.weft/token)\n"
	  "  weft-endpoint configure --url https://weft.example.org --token-file ~/.weft/token laptop",
	  configure_opts, sizeof (struct cmd_configure), 0, 1, cmd_configure },
	{ "start", "[OPTIONS] [NAME]",
	  "Start an endpoint and wait until it is connected.\n"
	  "It says in one sentence why it could not be, and then leaves nothing running. An endpoint that runs already is left alone.",
	  start_opts, sizeof (struct cmd_start), 0, 1, cmd_start },
	{ "stop", "[OPTIONS] [NAME]",
	  "Stop an endpoint: what has not begun is given back to the service.\n"
	  "Results that the service has not got yet stay on disk and are sent with the next start.\n"
	  "While it waits for running tasks another stop, with a shorter --grace or none, ends that.",
	  stop_opts, sizeof (struct cmd_stop), 0, 1, cmd_stop },
	{ "restart", "[OPTIONS] [NAME]",
	  "Stop, then start; a configuration with a mistake is found first.\n"
	  "Jobs of a batch system go on, and are taken over, unless --grace is given or their configuration has changed.",
	  restart_opts, sizeof (struct cmd_restart), 0, 1, cmd_restart },
	{ "drain", "[NAME]", "Take no new tasks, finish what runs; the endpoint stays connected.", no_opts, 0, 0, 1, cmd_drain },
	{ "undrain", "[NAME]", "Take tasks again.", no_opts, 0, 0, 1, cmd_undrain },
	{ "list", "[OPTIONS]", "List the endpoints of this user on this computer.", status_opts, sizeof (struct cmd_status), 0, 0, cmd_list },
	{ "status", "[OPTIONS] [NAME]", "Show connection, queue, blocks, managers and spool.\nExit status: 0 connected, 3 not.", status_opts,
	  sizeof (struct cmd_status), 0, 1, cmd_status },
	{ "logs", "[OPTIONS] [NAME]", "Show the log.", logs_opts, sizeof (struct cmd_logs), 0, 1, cmd_logs },
	{ "doctor", "[OPTIONS] [NAME]", "Check everything that an endpoint needs, and say what to do.", doctor_opts,
	  sizeof (struct cmd_doctor), 0, 1, cmd_doctor },
	{ "check-config", "[NAME]", "Check the configuration; each problem with file, line and key.", no_opts, 0, 0, 1, cmd_check },
	{ "print-config", "", "Print a commented example configuration.", no_opts, 0, 0, 0, cmd_print_config },
	{ "render", "[OPTIONS] [NAME]",
	  "Print what a block would run, or the script that would be submitted, and how; nothing is run.", render_opts, sizeof (struct cmd_render), 0, 1,
	  cmd_render },
	{ "register", "[NAME]", "Register with the service without starting; also tells it a new name or key.", no_opts, 0, 0, 1, cmd_register },
	{ "delete", "[OPTIONS] [NAME]", "Stop an endpoint, deregister it, remove its directory.", delete_opts, sizeof (struct cmd_delete), 0, 1,
	  cmd_delete },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL }
};

static const struct cli_prog prog = {
	.name = "weft-endpoint",
	.help = "Connects this computer, or a cluster that it can reach, to a Weft service: functions that are sent to the endpoint\n"
		"run here. It dials out only; nothing has to be opened to the inside. NAME is \"default\" when not given.",
	.cmds = cmds,
	.footer = "A first run, with a token from the operator of the service (weft-service token create), in a file that only you can read:\n"
		  "  (umask 077; mkdir -p ~/.weft; cat > ~/.weft/token)      # paste the token, Enter, Ctrl-D\n"
		  "  weft-endpoint configure --url https://weft.example.org --token-file ~/.weft/token\n"
		  "  weft-endpoint doctor\n"
		  "  weft-endpoint start\n\n"
		  "Files: ~/.weft/endpoints/NAME/ (or $WEFT_HOME/endpoints/NAME/): config.yaml, logs/, spool/\n"
		  "Environment: WEFT_HOME, WEFT_URL, WEFT_TOKEN",
		NULL,
};

int main (int argc, char **argv)
{
	return cli_main (&prog, argc, argv);
}
