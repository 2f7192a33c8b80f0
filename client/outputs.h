/* SPDX-License-Identifier: Apache-2.0 */
/* Files that came with a task's result, saved here. */
#ifndef CLIENT_OUTPUTS_H
#define CLIENT_OUTPUTS_H
#include <jansson.h>
#include "client/api.h"

#define OUTPUT_HELP "bring this file of its work directory back, a name or a pattern like '*.png'"
#define KEEP_HELP "with --output: leave them in a directory of the endpoint (its files.output_dir), and say where"
/* doc: the task's. names: of those wanted, NULL-terminated; NULL or empty = all. A file that is there already is not replaced.
 * Says on standard error what was saved, and where those are that were left on the endpoint. Returns how many of both, -1 with *err. */
int outputs_save (const struct api_opts *o, const json_t *doc, const char *dir, char *const *names, struct err *err);

#endif
