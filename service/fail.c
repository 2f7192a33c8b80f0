/* SPDX-License-Identifier: Apache-2.0 */
#include "service/fail.h"
#include <string.h>

static const struct { int status, retry_after; const char *code; } table[FAIL_KINDS] = {
	[FAIL_INTERNAL] = { 500, 0, "INTERNAL_ERROR" },
	[FAIL_UNAUTHENTICATED] = { 401, 0, "USER_UNAUTHENTICATED" },
	[FAIL_INVALID_TOKEN] = { 401, 0, "INVALID_AUTH_TOKEN" },
	[FAIL_SCOPE] = { 403, 0, "INSUFFICIENT_AUTH_SCOPE" },
	[FAIL_NO_ROUTE] = { 404, 0, "ROUTE_NOT_FOUND" },
	[FAIL_METHOD] = { 405, 0, "METHOD_NOT_ALLOWED" },
	[FAIL_FUNCTION_NOT_FOUND] = { 404, 0, "FUNCTION_NOT_FOUND" },
	[FAIL_ENDPOINT_NOT_FOUND] = { 404, 0, "ENDPOINT_NOT_FOUND" },
	[FAIL_TASK_NOT_FOUND] = { 404, 0, "TASK_NOT_FOUND" },
	[FAIL_CONTAINER_NOT_FOUND] = { 404, 0, "CONTAINER_NOT_FOUND" },
	[FAIL_GROUP_NOT_FOUND] = { 404, 0, "TASK_GROUP_NOT_FOUND" },
	[FAIL_FUNCTION_FORBIDDEN] = { 403, 0, "FUNCTION_ACCESS_FORBIDDEN" },
	[FAIL_ENDPOINT_FORBIDDEN] = { 403, 0, "ENDPOINT_ACCESS_FORBIDDEN" },
	[FAIL_GROUP_FORBIDDEN] = { 403, 0, "TASK_GROUP_ACCESS_FORBIDDEN" },
	[FAIL_FUNCTION_NOT_PERMITTED] = { 403, 0, "FUNCTION_NOT_PERMITTED" },
	[FAIL_ALREADY_REGISTERED] = { 403, 0, "ENDPOINT_ALREADY_REGISTERED" },
	[FAIL_MALFORMED] = { 400, 0, "REQUEST_MALFORMED" },
	[FAIL_TIMEOUT] = { 408, 0, "REQUEST_TIMEOUT" },
	[FAIL_INVALID_UUID] = { 400, 0, "INVALID_UUID" },
	[FAIL_SEMANTICS] = { 422, 0, "SEMANTICALLY_INVALID" },
	[FAIL_LOCKED] = { 423, 0, "RESOURCE_LOCKED" },
	[FAIL_CONFLICT] = { 409, 1, "RESOURCE_CONFLICT" },
	[FAIL_BATCH_TOO_LARGE] = { 413, 0, "BATCH_RUN_TOO_LARGE" },
	[FAIL_PAYLOAD_TOO_LARGE] = { 413, 0, "TASK_PAYLOAD_TOO_LARGE" },
	[FAIL_FUNCTION_TOO_LARGE] = { 413, 0, "FUNCTION_TOO_LARGE" },
	[FAIL_REQUEST_TOO_LARGE] = { 413, 0, "REQUEST_TOO_LARGE" },
	[FAIL_RESULTS_TOO_LARGE] = { 413, 0, "RESULTS_TOO_LARGE" },
	[FAIL_QUEUE_FULL] = { 429, 5, "ENDPOINT_QUEUE_FULL" },
	[FAIL_RATE] = { 429, 1, "RATE_LIMITED" },
	[FAIL_UNAVAILABLE] = { 503, 1, "SERVICE_UNAVAILABLE" },
	[FAIL_STREAMS] = { 503, 5, "TOO_MANY_STREAMS" },
	[FAIL_STORAGE_FULL] = { 503, 5, "STORAGE_FULL" },
	[FAIL_NOT_IMPLEMENTED] = { 501, 0, "NOT_IMPLEMENTED" },
};

int fail_status (enum fail f)
{
	return table[f].status;
}

const char *fail_code (enum fail f)
{
	return table[f].code;
}

int fail_retry_after (enum fail f)
{
	return table[f].retry_after;
}

static void body (struct buf *b, int status, const char *code, const char *detail, size_t n)
{
	buf_printf (b, "{\"status\":\"Failed\",\"code\":\"%s\",\"error_args\":[],\"http_status_code\":%d,\"detail\":", code, status);
	buf_json_string (b, detail, n);
	buf_str (b, ",\"reason\":");
	buf_json_string (b, detail, n);
	buf_char (b, '}');
}

void fail_body (struct buf *b, enum fail f, const char *detail, size_t n)
{
	body (b, table[f].status, table[f].code, detail, n);
}

void fail_status_body (struct buf *b, int status, const char *detail)
{
	enum fail f = status == 413   ? FAIL_REQUEST_TOO_LARGE
		      : status == 408 ? FAIL_TIMEOUT
		      : status == 503 ? FAIL_UNAVAILABLE
		      : status == 501 ? FAIL_NOT_IMPLEMENTED
		      : status == 500 ? FAIL_INTERNAL
				      : FAIL_MALFORMED; /* 505 too */
	body (b, status, table[f].code, detail, strlen (detail));
}
