/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a Kubernetes API server, on the loop. */
#ifndef ENDPOINT_PROVIDERS_KUBEAPI_H
#define ENDPOINT_PROVIDERS_KUBEAPI_H
#include "common/buf.h"
#include "common/fetch.h"
#include <jansson.h>

struct kubeconf;
struct kubeapi;
struct kubeapi_call;

/* status: HTTP status, 0 = no answer. why: "" for 2xx; else for people, in the server's own words where it has some. body as with fetch_f. */
typedef void kubeapi_f (int status, const char *body, size_t n, const char *why, void *arg);
struct kubeapi_args {
	const char *method, *path;	/* path with its query */
	const char *content_type;	/* NULL = application/json */
	const json_t *body;		/* borrowed; NULL = none */
	int64_t timeout_ms;		/* 0 = 15,000 */
	fetch_part_f *on_part;		/* as with fetch_args */
};

struct kubeapi *kubeapi_create (struct loop *l, const struct kubeconf *c, struct err *err);	/* c borrowed for life */
void kubeapi_destroy (struct kubeapi **k);
/* The callback always comes, also when the request cannot be made, but never from inside this call. */
struct kubeapi_call *kubeapi_start (struct kubeapi *k, const struct kubeapi_args *a, kubeapi_f *cb, void *arg);
void kubeapi_cancel (struct kubeapi_call **c);		/* no callback */

/* One request after the other, blocking, for commands: returns the status, *out owned by the caller (NULL: no JSON), why has its text. */
int kubeapi_sync (const struct kubeconf *c, const struct kubeapi_args *a, json_t **out, struct buf *why);

/* What a Status object says: `deployments.apps is forbidden: User "alice" cannot ...`; "HTTP status N" when it is none. */
void kubeapi_words (int status, const char *body, size_t n, struct buf *out);
void kubeapi_escape (struct buf *out, const char *s);	/* percent-encoded, for a query */
json_t *kubeapi_json (const char *body, size_t n);	/* NULL: not an object; owned by the caller */
/* Members by a path of keys, ended by NULL; NULL or "" when one is missing or of another type. Borrowed. */
const json_t *kubeapi_get (const json_t *o, ...) __attribute__ ((sentinel));
const char *kubeapi_text (const json_t *o, const char *key);

#endif
