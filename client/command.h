/* SPDX-License-Identifier: Apache-2.0 */
/* weft run -- COMMAND: as if it ran here. */
#ifndef CLIENT_COMMAND_H
#define CLIENT_COMMAND_H
#include "client/submit.h"

#define COMMAND_NOT_RUN 125	/* as of env(1), timeout(1) */

/* Standard input, or that of --input, as an array of one payload. Input that is not UTF-8 changes fn to a function that takes base64. */
json_t *command_payload (const struct submit_opts *o, char fn[37], struct err *err);
/* Submit, wait, show; returns the exit status of the command, or COMMAND_NOT_RUN. */
int command_run (const struct submit_opts *o, char fn[37], const char *ep);

#endif
