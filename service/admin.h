/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that work on the registry: tokens and users. */
#ifndef SERVICE_ADMIN_H
#define SERVICE_ADMIN_H
#include "common/cli.h"

struct config;

struct admin_opts {
	const char *config;
	struct cli_strings sets;
	const char *user, *scopes, *label;
	int64_t expires_ms;
};
int admin_token_create (void *opts, int argc, char **argv);
int admin_token_list (void *opts, int argc, char **argv);
int admin_token_revoke (void *opts, int argc, char **argv);
int admin_user_add (void *opts, int argc, char **argv);
int admin_user_list (void *opts, int argc, char **argv);
/* The configuration of a command; prints what is wrong with it. */
int admin_config (const char *path, const struct cli_strings *sets, struct config *out);
/* --config, or the installed file if there is one, or NULL. */
const char *admin_config_path (const char *given);

#endif
