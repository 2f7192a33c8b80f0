/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of weft-endpoint: one cmd_*.c each or a few that belong together; main.c has the table. */
#ifndef ENDPOINT_CMD_H
#define ENDPOINT_CMD_H
#include <jansson.h>
#include "common/cli.h"
#include "endpoint/config.h"
#include "endpoint/paths.h"

struct cmd_configure { const char *url, *token_file, *display_name; int64_t workers; };
struct cmd_start { bool foreground, no_wait; int64_t timeout_ms; struct cli_strings set; };
struct cmd_stop { int64_t grace_ms, timeout_ms; };
struct cmd_restart { struct cmd_stop stop; struct cmd_start start; };
struct cmd_status { bool json; };
struct cmd_logs { bool follow; int64_t lines; bool blocks; };
struct cmd_delete { bool force, yes; };
struct cmd_doctor { bool json; };
struct cmd_render { struct cli_strings set; };

int cmd_configure (void *opts, int argc, char **argv);
int cmd_start (void *opts, int argc, char **argv);
int cmd_stop (void *opts, int argc, char **argv);
int cmd_restart (void *opts, int argc, char **argv);
int cmd_drain (void *opts, int argc, char **argv);
int cmd_undrain (void *opts, int argc, char **argv);
int cmd_list (void *opts, int argc, char **argv);
int cmd_status (void *opts, int argc, char **argv);
int cmd_logs (void *opts, int argc, char **argv);
int cmd_delete (void *opts, int argc, char **argv);
int cmd_doctor (void *opts, int argc, char **argv);
int cmd_render (void *opts, int argc, char **argv);
int cmd_register (void *opts, int argc, char **argv);
int cmd_check (void *opts, int argc, char **argv);
int cmd_print_config (void *opts, int argc, char **argv);

/* What they share. Failures are printed and give the exit status 1. */
int cmd_fail (const struct err *err);
int cmd_open (struct paths *p, int argc, char **argv);		/* name from argv[0]; must be configured. 0, or the exit status */
struct config *cmd_config (const struct paths *p, const char *const *overrides);	/* problems are printed; NULL */
typedef void cmd_block_f (const struct provider_block *b, void *arg);
void cmd_block (const struct paths *p, const struct config *c, cmd_block_f *use, void *arg);	/* a block as the agent would make it */
/* leave: its jobs are for the next run, where the provider can do that. */
int cmd_stop_agent (const struct paths *p, int64_t grace_ms, int64_t timeout_ms, bool quiet, bool leave);
int cmd_start_agent (const struct paths *p, const struct cmd_start *o);
const char *cmd_text (const json_t *j, const char *key);	/* "" when absent */
int64_t cmd_int (const json_t *j, const char *key, const char *sub);
void cmd_sleep_ms (int64_t ms);

#endif
