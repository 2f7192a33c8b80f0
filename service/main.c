/* SPDX-License-Identifier: Apache-2.0 */
/* weft-service: the web service. Commands and options; see README.md for what lies where. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "proto/bulk.h"
#include "service/admin.h"
#include "service/config.h"
#include "service/master.h"
#include "service/worker.h"

#define AT(field) offsetof (struct admin_opts, field)
#define CONFIG_OPTS                                                                                                                         \
	{ "config", 'c', CLI_STRING, AT (config), "FILE", 0, 0, "configuration; default: /etc/weft/service.yaml when it is there" },        \
	{ "set", 's', CLI_STRINGS, AT (sets), "KEY=VALUE", 0, 0, "override one key of the configuration" }

static int run (void *opts, int argc, char **argv)
{
	struct admin_opts *o = opts;

	(void) argc;
	(void) argv;
	return master_run (admin_config_path (o->config), &o->sets);
}

/* The service makes what is not there yet, the last level of it. */
static int check_bulk (const char *dir)
{
	struct bulk *b;
	struct err err;

	if (!dir || !*dir || access (dir, F_OK) < 0)
		return 0;
	b = bulk_open (dir, false, &err);
	if (b || err.code == ERR_NOT_FOUND) {	/* or no id in it yet */
		bulk_close (&b);
		return 0;
	}
	fprintf (stderr, "weft-service: bulk.dir: %s\n", err.text);
	return 1;
}

static int check_config (void *opts, int argc, char **argv)
{
	struct admin_opts *o = opts;
	struct config c;
	int rc;

	(void) argc;
	(void) argv;
	if (admin_config (o->config, &o->sets, &c) < 0)
		return 1;
	rc = check_bulk (c.bulk_dir);
	config_free (&c);
	if (rc == 0)
		printf ("configuration is good\n");
	return rc;
}

static int print_config (void *opts, int argc, char **argv)
{
	(void) opts;
	(void) argc;
	(void) argv;
	conf_print_example (config_table, "weft-service: the web service", stdout);
	return 0;
}

static const struct cli_opt config_opts[] = { CONFIG_OPTS, CLI_END };
static const struct cli_opt no_opts[] = { CLI_END };
static const struct cli_opt create_opts[] = {
	CONFIG_OPTS,
	{ "user", 'u', CLI_STRING, AT (user), "NAME", 0, 0, "whose token it is" },
	{ "expires", 'e', CLI_DURATION_MS, AT (expires_ms), "D", 1000, 315360000000, "after that long it is worthless, such as 30d; default: never" },
	{ "scopes", 0, CLI_STRING, AT (scopes), "LIST", 0, 0, "read, submit, register, or all, which is the default" },
	{ "label", 0, CLI_STRING, AT (label), "TEXT", 0, 0, "what it is for" },
	CLI_END,
};
static const struct cli_opt list_opts[] = {
	CONFIG_OPTS,
	{ "user", 'u', CLI_STRING, AT (user), "NAME", 0, 0, "only this user's" },
	CLI_END,
};

#define BYTES sizeof (struct admin_opts)
static const struct cli_cmd cmds[] = {
	{ "run", "[OPTIONS]", "Serve, until SIGTERM; SIGHUP reloads the configuration and replaces the workers one by one.", config_opts, BYTES, 0, 0, run },
	{ "check-config", "[OPTIONS]", "Read the configuration and report every problem in it.", config_opts, BYTES, 0, 0, check_config },
	{ "print-config", "", "Print a commented example of the configuration.", no_opts, BYTES, 0, 0, print_config },
	{ "token create", "[OPTIONS] --user NAME", "Make a token and print it; only its hash is kept.", create_opts, BYTES, 0, 0, admin_token_create },
	{ "token list", "[OPTIONS]", "List the tokens: id, user, scopes, made, expires, label.", list_opts, BYTES, 0, 0, admin_token_list },
	{ "token revoke", "[OPTIONS] ID", "Remove a token; running services forget it within seconds.", config_opts, BYTES, 1, 1, admin_token_revoke },
	{ "user add", "[OPTIONS] NAME", "Add a user.", config_opts, BYTES, 1, 1, admin_user_add },
	{ "user list", "[OPTIONS]", "List the users: id, name.", config_opts, BYTES, 0, 0, admin_user_list },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};

static const struct cli_prog prog = {
	"weft-service",
	"The web service of Weft: takes functions and tasks over HTTP, hands tasks to endpoints through Redis, gives results back.",
	cmds,
	"Files: /etc/weft/service.yaml (configuration), see 'weft-service print-config'.",
	NULL,
};

int main (int argc, char **argv)
{
	/* The master starts its workers so; not for people. */
	if (argc > 1 && !strcmp (argv[1], "--worker"))
		return worker_run (argc - 2, argv + 2);
	return cli_main (&prog, argc, argv);
}
