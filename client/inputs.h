/* SPDX-License-Identifier: Apache-2.0 */
/* Files on the command line. --file: NAME=URL, with what must hold of it behind a '#': NAME=URL#sha256=HEX&max_bytes=SIZE.
 * --output: a name or a pattern. */
#ifndef CLIENT_INPUTS_H
#define CLIENT_INPUTS_H
#include <jansson.h>
#include "common/cli.h"

#define FILE_HELP "bring this file to the work directory; NAME=URL, better NAME=URL#sha256=HEX (and &max_bytes=SIZE)"
/* As the API has them; a new reference, NULL with *err. */
json_t *inputs_of (const struct cli_strings *s, struct err *err);
json_t *outputs_of (const struct cli_strings *s, bool keep, struct err *err);	/* keep: they are left on the endpoint */

#endif
