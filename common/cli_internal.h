/* SPDX-License-Identifier: Apache-2.0 */
/* What cli.c and cli_help.c share. */
#ifndef COMMON_CLI_INTERNAL_H
#define COMMON_CLI_INTERNAL_H
#include "common/cli.h"

/* Group: the first word of two-word commands. */
bool cli_is_group (const struct cli_prog *p, const char *word, size_t n);
void cli_help_prog (const struct cli_prog *p, FILE *to);
void cli_help_group (const struct cli_prog *p, const char *word, FILE *to);
void cli_help_cmd (const struct cli_prog *p, const struct cli_cmd *c, FILE *to);
int cli_completion (const struct cli_prog *p, const char *shell, FILE *to);	/* -1: not a known shell */

#endif
