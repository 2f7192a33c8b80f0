/* SPDX-License-Identifier: Apache-2.0 */
/* The table of routes, and finding one. A pattern is literal segments and {name} for any one segment. */
#ifndef SERVICE_ROUTE_H
#define SERVICE_ROUTE_H
#include "common/http.h"

/* What a token must allow. NONE: no token is asked for. */
enum scope { SCOPE_NONE = 0, SCOPE_READ = 1, SCOPE_SUBMIT = 2, SCOPE_REGISTER = 4, SCOPE_ALL = 7 };

struct call;
typedef void handler_f (struct call *c);

#define ROUTE_PARAMS 2
struct route {
	enum http_method method;
	const char *pattern;
	enum scope scope;
	handler_f *handler;
	const char *name;		/* for metrics and logs; one per handler's purpose */
};
extern const struct route route_table[];	/* terminated by pattern NULL */

struct route_match {
	const struct route *route;	/* NULL: see other_methods */
	struct http_str params[ROUTE_PARAMS];
	unsigned other_methods;		/* bits 1 << method that this path has */
};
/* HEAD finds GET's route. table: route_table, or a test's. */
struct route_match route_find (const struct route *table, enum http_method method, struct http_str path);
/* "GET, DELETE" from the bits; out has 64 bytes. */
char *route_methods (unsigned bits, char out[64]);

#endif
