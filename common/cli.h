/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines from one table per command: parsing, --help that teaches, shell completion, man page options.
 *
 *     weft-endpoint start [OPTIONS] [NAME]
 *
 * Long options take "--opt value" and "--opt=value"; short ones "-o value". "--" ends options. */
#ifndef COMMON_CLI_H
#define COMMON_CLI_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "common/err.h"

enum cli_type { CLI_FLAG, CLI_STRING, CLI_INT, CLI_DURATION_MS, CLI_SIZE, CLI_STRINGS /* repeatable */, CLI_REST };

struct cli_opt {
	const char *name;	/* long name, without dashes */
	char letter;		/* 0 = none */
	enum cli_type type;
	size_t offset;		/* bool | const char * | int64_t | int64_t | int64_t | struct cli_strings */
	const char *arg;	/* "DIR", "N"; NULL for flags */
	int64_t min, max;	/* both 0 = unbounded */
	const char *help;
};
/* CLI_REST: a row with the name "--": takes all that stands behind "--", which else is positional. */
struct cli_strings { const char **v; size_t n; };	/* NULL-terminated; v owned, strings borrowed from argv; all zero = not given */
#define CLI_END { NULL, 0, CLI_FLAG, 0, NULL, 0, 0, NULL }

struct cli_cmd {
	const char *name;		/* "function register"; "" for a program without subcommands */
	const char *synopsis;		/* "[OPTIONS] NAME" */
	const char *help;		/* first line: one sentence; further lines: more, with examples */
	const struct cli_opt *opts;
	size_t opts_bytes;		/* size of the option struct */
	int min_args, max_args;		/* -1 = any */
	int (*run) (void *opts, int argc, char **argv);	/* argv: the positional ones; returns the exit status */
};
struct cli_prog {
	const char *name;
	const char *help;		/* what it is, in a few lines */
	const struct cli_cmd *cmds;	/* terminated by name NULL */
	const char *footer;		/* examples, files, environment; may be NULL */
	/* Names of arguments, as synopses and options call them, that completion asks the program for: "FUNCTION ENDPOINT"; NULL: none.
	 * `PROGRAM __complete ARG WORD...` prints what they can be, safe for a shell, at once or not at all; WORD... is the line so far. */
	const char *named;
};

/* Parse and run: handles --help, --version, help, unknown commands (nearest suggested), `completion bash|zsh`.
 * Returns the exit status: 2 for usage errors, printed to stderr with a hint. */
int cli_main (const struct cli_prog *p, int argc, char **argv);
void cli_print_man (const struct cli_prog *p, FILE *to);	/* roff of all commands and options */

#endif
