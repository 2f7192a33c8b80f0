/* SPDX-License-Identifier: Apache-2.0 */
/* weft tasks --watch: tasks as they change. */
#ifndef CLIENT_WATCH_H
#define CLIENT_WATCH_H
#include <stdbool.h>
#include <stdint.h>
#include "client/api.h"
#include "common/buf.h"

struct watch_opts {
	const struct api_opts *api;
	const char *filter;		/* of the list route: "&endpoint=...", or "" */
	const char *status;		/* only with this one; NULL = any */
	int64_t interval_ms, timeout_ms, limit;		/* 0: 1 s, for ever, 20 */
};
/* A live table on a terminal, a line (or an object) per change elsewhere. Returns the exit status. */
int watch_run (const struct watch_opts *o);
/* One task as a line of the list; no newline. Column titles when doc is NULL. */
void watch_row (struct buf *b, const struct api_opts *api, const json_t *doc);

#endif
