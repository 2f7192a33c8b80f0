/* SPDX-License-Identifier: Apache-2.0 */
#include "service/route.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "service/api/api.h"

#define V2E "/v2/endpoints/{endpoint}"
#define V3E "/v3/endpoints/{endpoint}"

/* Busiest first: the table is searched from the top. */
const struct route route_table[] = {
	{ HTTP_POST, V3E "/submit", SCOPE_SUBMIT, api_submit, "submit" },
	{ HTTP_GET, "/v2/tasks/{task}", SCOPE_READ, api_task_get, "task_get" },
	{ HTTP_POST, "/v2/batch_status", SCOPE_READ, api_batch_status, "batch_status" },
	{ HTTP_POST, "/v3/batch_status", SCOPE_READ, api_batch_status_v3, "batch_status" },
	{ HTTP_GET, "/v3/tasks/{task}", SCOPE_READ, api_task_get_v3, "task_get" },
	{ HTTP_GET, "/v3/tasks/{task}/trace", SCOPE_READ, api_task_trace, "task_trace" },
	{ HTTP_GET, "/v3/tasks/{task}/output", SCOPE_READ, api_task_output, "task_output" },
	{ HTTP_GET, "/v3/tasks/{task}/files/{name}", SCOPE_READ, api_task_file, "task_file" },
	{ HTTP_GET, "/v3/tasks", SCOPE_READ, api_task_list, "task_list" },
	{ HTTP_GET, "/v3/usage", SCOPE_READ, api_usage, "usage" },
	{ HTTP_DELETE, "/v2/tasks/{task}", SCOPE_SUBMIT, api_task_cancel, "task_cancel" },
	{ HTTP_DELETE, "/v3/tasks/{task}", SCOPE_SUBMIT, api_task_cancel_v3, "task_cancel" },
	{ HTTP_GET, "/v2/taskgroup/{group}", SCOPE_READ, api_group_get, "group_get" },
	{ HTTP_POST, "/v3/taskgroups", SCOPE_SUBMIT, api_group_create, "group_create" },
	{ HTTP_GET, "/v3/taskgroups/{group}", SCOPE_READ, api_group_get, "group_get" },
	{ HTTP_GET, "/v3/taskgroups/{group}/events", SCOPE_READ, api_group_events, "group_events" },
	{ HTTP_GET, "/v3/taskgroups/{group}/results", SCOPE_READ, api_group_results, "group_results" },
	{ HTTP_POST, "/v2/submit", SCOPE_SUBMIT, api_submit_v2, "submit_v2" },
	{ HTTP_GET, V2E "/status", SCOPE_READ, api_endpoint_status, "endpoint_status" },
	{ HTTP_GET, V3E "/status", SCOPE_READ, api_endpoint_status, "endpoint_status" },
	{ HTTP_GET, V3E "/forwarder", SCOPE_REGISTER, api_endpoint_forwarder, "endpoint_forwarder" },

	{ HTTP_POST, "/v3/functions", SCOPE_REGISTER, api_function_register, "function_register" },
	{ HTTP_POST, "/v2/functions", SCOPE_REGISTER, api_function_register, "function_register" },
	{ HTTP_GET, "/v2/functions", SCOPE_READ, api_function_list, "function_list" },
	{ HTTP_GET, "/v2/functions/{function}", SCOPE_READ, api_function_get, "function_get" },
	{ HTTP_DELETE, "/v2/functions/{function}", SCOPE_REGISTER, api_function_delete, "function_delete" },
	{ HTTP_GET, "/v3/functions", SCOPE_READ, api_function_list, "function_list" },
	{ HTTP_GET, "/v3/functions/{function}", SCOPE_READ, api_function_get, "function_get" },
	{ HTTP_PATCH, "/v3/functions/{function}", SCOPE_REGISTER, api_function_update, "function_update" },
	{ HTTP_DELETE, "/v3/functions/{function}", SCOPE_REGISTER, api_function_delete, "function_delete" },

	{ HTTP_POST, "/v2/containers", SCOPE_REGISTER, api_container_register, "container_register" },
	{ HTTP_POST, "/v2/containers/build", SCOPE_REGISTER, api_absent_build, "absent" },
	{ HTTP_GET, "/v2/containers/build/{container}", SCOPE_READ, api_container_build_status, "container_build_status" }, /* before the next */
	{ HTTP_GET, "/v2/containers/{container}/{type}", SCOPE_READ, api_container_get, "container_get" },

	{ HTTP_POST, "/v3/endpoints", SCOPE_REGISTER, api_endpoint_register, "endpoint_register" },
	{ HTTP_POST, "/v2/endpoints", SCOPE_REGISTER, api_endpoint_register_v2, "endpoint_register" },
	{ HTTP_PUT, V3E, SCOPE_REGISTER, api_endpoint_update, "endpoint_update" },
	{ HTTP_GET, "/v2/endpoints", SCOPE_READ, api_endpoint_list_v2, "endpoint_list" },
	{ HTTP_GET, "/v3/endpoints", SCOPE_READ, api_endpoint_list, "endpoint_list" },
	{ HTTP_GET, V2E, SCOPE_READ, api_endpoint_get, "endpoint_get" },
	{ HTTP_GET, V3E, SCOPE_READ, api_endpoint_get, "endpoint_get" },
	{ HTTP_DELETE, V2E, SCOPE_REGISTER, api_endpoint_delete, "endpoint_delete" },
	{ HTTP_DELETE, V3E, SCOPE_REGISTER, api_endpoint_delete, "endpoint_delete" },
	{ HTTP_POST, V3E "/lock", SCOPE_REGISTER, api_endpoint_lock, "endpoint_lock" },
	{ HTTP_POST, V2E "/lock", SCOPE_REGISTER, api_endpoint_lock_v2, "endpoint_lock" },
	{ HTTP_GET, V3E "/console", SCOPE_READ, api_absent_endpoint_console, "absent" },
	{ HTTP_PUT, V3E "/subscription-admin-verified", SCOPE_REGISTER, api_absent_admin_verified, "absent" },
	{ HTTP_GET, V3E "/allowed_functions", SCOPE_READ, api_allowed_get, "allowed_get" },
	{ HTTP_GET, V2E "/whitelist", SCOPE_READ, api_allowed_get, "allowed_get" },
	{ HTTP_POST, V2E "/whitelist", SCOPE_REGISTER, api_allowed_add, "allowed_add" },
	{ HTTP_DELETE, V2E "/whitelist/{function}", SCOPE_REGISTER, api_allowed_remove, "allowed_remove" },

	{ HTTP_GET, "/v2/version", SCOPE_NONE, api_version, "version" },
	{ HTTP_GET, "/v2/stats", SCOPE_READ, api_stats, "stats" },
	{ HTTP_GET, "/v2/authenticate", SCOPE_READ, api_authenticate, "authenticate" },
	{ HTTP_GET, "/v3/whoami", SCOPE_READ, api_whoami, "whoami" },
	{ HTTP_GET, "/v2/get_amqp_result_connection_url", SCOPE_READ, api_amqp_url, "amqp_url" },
	{ HTTP_POST, "/v2/oauth2/token", SCOPE_NONE, api_oauth_token, "oauth_token" },
	{ HTTP_POST, "/v2/oauth2/token/revoke", SCOPE_NONE, api_oauth_revoke, "oauth_revoke" },
	{ HTTP_GET, "/openapi.json", SCOPE_NONE, api_openapi, "openapi" },
	{ HTTP_GET, "/", SCOPE_NONE, api_root, "console" },
	{ HTTP_POST, "/v3/console/tickets", SCOPE_READ, api_ticket_make, "ticket" },
	{ HTTP_POST, "/v3/console/tokens", SCOPE_NONE, api_ticket_take, "ticket" },
	{ HTTP_GET, "/console", SCOPE_NONE, api_console, "console" },
	{ HTTP_GET, "/console/{file}", SCOPE_NONE, api_console_file, "console" },
	{ HTTP_GET, "/metrics", SCOPE_NONE, api_metrics, "metrics" },
	{ HTTP_GET, "/healthz", SCOPE_NONE, api_healthz, "healthz" },
	{ HTTP_GET, "/readyz", SCOPE_NONE, api_readyz, "readyz" },
	{ 0, NULL, SCOPE_NONE, NULL, NULL },
};

/* One segment from *p to the next '/'; false at the end. */
static bool segment (const char **p, const char *end, struct http_str *out)
{
	const char *s = *p, *e;

	if (s == end || *s != '/')
		return false;
	s++;
	e = memchr (s, '/', (size_t) (end - s));
	if (!e)
		e = end;
	*out = (struct http_str) { s, (size_t) (e - s) };
	*p = e;
	return true;
}

static bool matches (const char *pattern, struct http_str path, struct http_str params[ROUTE_PARAMS])
{
	const char *p = pattern, *pend = pattern + strlen (pattern), *q = path.p, *qend = path.p + path.n;
	struct http_str a, b;
	int n = 0;

	while (segment (&p, pend, &a)) {
		if (!segment (&q, qend, &b))
			return false;
		if (a.n && a.p[0] == '{') {
			if (!b.n || n == ROUTE_PARAMS)
				return false;
			params[n++] = b;
		} else if (a.n != b.n || memcmp (a.p, b.p, a.n) != 0)
			return false;
	}
	return q == qend;
}

struct route_match route_find (const struct route *table, enum http_method method, struct http_str path)
{
	struct route_match m = { 0 };
	struct http_str params[ROUTE_PARAMS] = { { NULL, 0 } };

	if (method == HTTP_HEAD)
		method = HTTP_GET;
	if (path.n > 2 && path.p[path.n - 1] == '/')
		path.n--; /* old clients write /v2/tasks/ */
	for (const struct route *r = table; r->pattern; r++) {
		if (!matches (r->pattern, path, params))
			continue;
		m.other_methods |= 1u << r->method;
		if (r->method != method)
			continue;
		m.route = r;
		memcpy (m.params, params, sizeof (params));
		return m;
	}
	return m;
}

char *route_methods (unsigned bits, char out[64])
{
	static const char *const names[] = { [HTTP_GET] = "GET", [HTTP_HEAD] = "HEAD", [HTTP_POST] = "POST", [HTTP_PUT] = "PUT",
					     [HTTP_DELETE] = "DELETE", [HTTP_PATCH] = "PATCH", [HTTP_OPTIONS] = "OPTIONS" };
	size_t at = 0;

	out[0] = 0;
	for (unsigned m = 0; m < sizeof (names) / sizeof (names[0]); m++)
		if (names[m] && (bits & (1u << m)))
			at += (size_t) snprintf (out + at, 64 - at, "%s%s", at ? ", " : "", names[m]);
	return out;
}
