/* SPDX-License-Identifier: Apache-2.0 */
/* A task's trace (GET /v3/tasks/{id}/trace) as a picture in text: a line a hop, a bar where and how long. */
#ifndef CLIENT_TRACE_H
#define CLIENT_TRACE_H
#include <jansson.h>
#include <stdio.h>

void trace_print (const json_t *trace, FILE *to);
struct api_opts;
struct err;
json_t *trace_fetch (const struct api_opts *o, const char *task, struct err *err);	/* a new reference */
/* Ask for it and show it, as JSON with --json. Returns the exit status. */
int trace_show (const struct api_opts *o, const char *task);

#endif
