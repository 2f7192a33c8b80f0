/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP out, over libcurl's multi-socket interface on the loop. Redirects are not followed; TLS is verified. */
#ifndef COMMON_FETCH_H
#define COMMON_FETCH_H
#include <stddef.h>
#include <stdint.h>
#include "common/loop.h"

struct fetch;		/* a client with its connection pool */
struct fetch_req;
struct fetch_opts { const char *ca_file; size_t max_connections; /* 0 = 8 */ };
struct fetch_args {
	const char *method, *url;
	const char *bearer;		/* NULL = no Authorization */
	const char *content_type;	/* NULL = application/json when there is a body */
	const char *const *headers;	/* further "Name: value" lines, NULL-terminated, or NULL */
	const void *body; size_t body_bytes;	/* copied */
	int64_t timeout_ms;		/* 0 = 60,000 */
	size_t max_reply_bytes;		/* 0 = 64 MiB */
};
/* status: HTTP status; 0 when there was no answer, and err says why. body: borrowed during the call, NUL-terminated. */
typedef void fetch_f (int status, const char *body, size_t n, const struct err *err, void *arg);

struct fetch *fetch_create (struct loop *l, const struct fetch_opts *o, struct err *err);
void fetch_destroy (struct fetch **f);
struct fetch_req *fetch_start (struct fetch *f, const struct fetch_args *a, fetch_f *cb, void *arg, struct err *err);
void fetch_cancel (struct fetch_req **q);		/* no callback */
/* Blocking, for command-line tools. Returns the status (0: see err); *out owned by the caller. */
int fetch_sync (const struct fetch_args *a, const char *ca_file, char **out, size_t *n, struct err *err);

#endif
