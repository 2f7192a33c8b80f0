/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP out, over libcurl's multi-socket interface on the loop. Redirects are not followed; TLS is verified. */
#ifndef COMMON_FETCH_H
#define COMMON_FETCH_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/loop.h"

struct fetch;		/* a client with its connection pool */
struct fetch_req;
/* TLS with texts in PEM, not files; all copied. key_pem belongs to cert_pem, which shows who we are. */
struct fetch_tls { const char *ca_pem, *cert_pem, *key_pem; };
struct fetch_opts {
	const char *ca_file;
	size_t max_connections;		/* 0 = 8 */
	const struct fetch_tls *tls;	/* NULL = ca_file, or the system's authorities, and no certificate of ours */
	bool http1;			/* a connection a request: one that hangs does not hold the others */
};
/* A part of a body, as it comes; borrowed during the call. */
typedef void fetch_part_f (const char *p, size_t n, void *arg);
struct fetch_args {
	const char *method, *url;
	const char *bearer;		/* NULL = no Authorization */
	const char *content_type;	/* NULL = application/json when there is a body */
	const char *const *headers;	/* further "Name: value" lines, NULL-terminated, or NULL */
	const void *body; size_t body_bytes;	/* copied */
	int64_t timeout_ms;		/* 0 = 60,000 */
	size_t max_reply_bytes;		/* 0 = 64 MiB */
	/* For streams without an end: gets the body of a 2xx in parts, the first of no bytes when the status has come. fetch_f then gets only
	 * what was not handed on. */
	fetch_part_f *on_part;
};
/* status: HTTP status; 0 when there was no answer, and err says why. body: borrowed during the call, NUL-terminated. */
typedef void fetch_f (int status, const char *body, size_t n, const struct err *err, void *arg);

struct fetch *fetch_create (struct loop *l, const struct fetch_opts *o, struct err *err);
void fetch_destroy (struct fetch **f);
struct fetch_req *fetch_start (struct fetch *f, const struct fetch_args *a, fetch_f *cb, void *arg, struct err *err);
void fetch_cancel (struct fetch_req **q);		/* no callback */
/* Blocking, for command-line tools; connections are kept for the next call of the thread. Returns the status (0: see err); *out owned by the caller. */
int fetch_sync (const struct fetch_args *a, const char *ca_file, char **out, size_t *n, struct err *err);

#endif
