/* SPDX-License-Identifier: Apache-2.0 */
/* What `weft run` and `weft submit` share: their options, what is run, and what it gets. */
#ifndef CLIENT_SUBMIT_H
#define CLIENT_SUBMIT_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "client/api.h"
#include "common/cli.h"

#define INPUT_MAX (128u << 20)
#define EXIT_TASK_FAILED 3
#define EXIT_TIME_OVER 4

struct submit_opts {
	struct api_opts api;
	const char *endpoint, *input, *map, *resume;
	int64_t time_limit_ms, expected_ms, memory_limit_bytes, timeout_ms, repeat, nodes, ranks_per_node;
	bool trace, fresh, retry_failed;
	struct cli_strings command, files, outputs;
	bool keep_outputs;
	const char *output_dir, *launcher_options;
};

/* Function and endpoint of a command line; a file's function or a command is registered first, once by its content. */
int submit_resolve (const struct submit_opts *o, char **argv, char fn[37], char ep[37], struct err *err);
/* The request's members besides `tasks`: limits, memoize, nodes, files, outputs. New object. Files and outputs that cannot be read are left out:
 * submit_resolve has refused them. */
json_t *submit_body (const struct submit_opts *o);
/* All of a file, "-" is standard input; owned and NUL-terminated. max: bytes, whole MiB; ERR_TOO_LARGE when there are more. */
char *submit_read (const char *path, size_t max, size_t *n, struct err *err);

/* Say on standard error what a Python function gets, when the payload looks like {"args": ..., "kwargs": ...} and is not. It is sent as it is. */
void submit_check_payload (const char *text, size_t n);

#endif
