/* SPDX-License-Identifier: Apache-2.0 */
/* One request in the hands of a handler: who asks, the path's parameters, and the ways to answer. A call is answered exactly once
 * and is gone afterwards, also when the client has left meanwhile. */
#ifndef SERVICE_CALL_H
#define SERVICE_CALL_H
#include "service/app.h"
#include "service/auth.h"
#include "service/body.h"
#include "service/fail.h"
#include "service/json.h"
#include "service/route.h"

struct call {
	struct app *app;		/* borrowed */
	struct http_req *req;		/* NULL once the client has gone, see call_watch */
	const struct route *route;
	struct http_str params[ROUTE_PARAMS];
	struct auth_who who;		/* zero for routes without scope */
	int64_t started_ns;		/* monotonic */
	bool v3;			/* the path begins with /v3 */
	loop_f *on_gone;
	void *gone_arg;
};

/* Entry: finds the route, checks token and rate, calls the handler. */
void call_dispatch (struct app *app, struct http_req *req);

/* Answers. body: transferred. */
void call_reply (struct call *c, int status, const char *type, const char *headers, struct buf *body);
/* 200, and more to come; the call is gone. NULL: so is the client. */
struct http_stream *call_stream (struct call *c, const char *type, const char *headers, const struct http_stream_ops *ops, void *arg);
void call_ok (struct call *c, struct buf *body);	/* 200, JSON */
void call_json (struct call *c, json_t *v);		/* 200; v transferred */
void call_fail (struct call *c, enum fail f, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));
void call_invalid (struct call *c, struct check *k);	/* 422; k is emptied */
/* From a module's error: unavailable, not found and so on; otherwise 500, logged. */
void call_fail_err (struct call *c, const struct err *err, enum fail not_found);

/* Inputs. Each answers the call itself when the input is bad, and returns -1 or NULL. */
int call_id (struct call *c, int param, struct id *out);
json_t *call_object (struct call *c);			/* the body, an object; owned by the caller */
int call_scan (struct call *c, struct jscan *j);	/* the same for large bodies; borrows the body until the call is answered */
/* ?name=N within [min, max], def when absent. */
int call_query_int (struct call *c, const char *name, int64_t min, int64_t max, int64_t def, int64_t *out);
int call_query_id (struct call *c, const char *name, struct id *out, bool *present);
int call_wait_ms (struct call *c, int64_t *out);	/* ?wait=SECONDS, fractions allowed; 0 when absent */
bool call_flag (struct call *c, const char *name);	/* ?name or ?name=1|true */
/* Redis must be there: answers 503 and returns -1 otherwise. */
int call_need_redis (struct call *c);

/* The client has gone: on_gone (arg) is called so that waiting can end early. The call must still be answered, into the void.
 * The body is gone by then; without call_watch it stays until the answer, whether anybody is there to read that or not. */
void call_watch (struct call *c, loop_f *on_gone, void *arg);
/* Call before the request may be gone, that is, before call_watch. */
void call_audit (struct call *c, const char *action, const char *object, int64_t items);

#endif
