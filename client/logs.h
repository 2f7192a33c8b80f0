/* SPDX-License-Identifier: Apache-2.0 */
/* What a task prints, shown while it runs. */
#ifndef CLIENT_LOGS_H
#define CLIENT_LOGS_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "client/api.h"
#include "client/stream.h"

#define LOGS_KEPT 65536		/* bytes of a stream that are kept of a task */

/* Look once. 1: it has ended, 0: not yet, -1 with *err. */
int logs_look (const struct api_opts *o, const char *task, struct stream *out, struct stream *errout, struct err *err);
/* The rest of an ended task, from its document (GET /v3/tasks/{id}). command: its result is its standard output. */
void logs_end (const json_t *doc, bool command, struct stream *out, struct stream *errout);

#endif
