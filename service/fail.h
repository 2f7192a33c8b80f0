/* SPDX-License-Identifier: Apache-2.0 */
/* The errors a client can get: one table gives each its HTTP status and its `code`; weft-service(8), ERRORS, and openapi.json list
 * them. The body has one shape, that of Globus Compute: {status: "Failed", code, error_args: [], http_status_code, detail, reason}. */
#ifndef SERVICE_FAIL_H
#define SERVICE_FAIL_H
#include <stddef.h>
#include "common/buf.h"

enum fail {
	FAIL_INTERNAL, FAIL_UNAUTHENTICATED, FAIL_INVALID_TOKEN, FAIL_SCOPE, FAIL_NO_ROUTE, FAIL_METHOD,
	FAIL_FUNCTION_NOT_FOUND, FAIL_ENDPOINT_NOT_FOUND, FAIL_TASK_NOT_FOUND, FAIL_GROUP_NOT_FOUND,
	FAIL_CONTAINER_NOT_FOUND, FAIL_FUNCTION_FORBIDDEN, FAIL_ENDPOINT_FORBIDDEN, FAIL_GROUP_FORBIDDEN, FAIL_FUNCTION_NOT_PERMITTED, FAIL_ALREADY_REGISTERED,
	FAIL_MALFORMED, FAIL_TIMEOUT, FAIL_INVALID_UUID, FAIL_SEMANTICS, FAIL_LOCKED, FAIL_CONFLICT,
	FAIL_BATCH_TOO_LARGE, FAIL_PAYLOAD_TOO_LARGE, FAIL_FUNCTION_TOO_LARGE, FAIL_REQUEST_TOO_LARGE, FAIL_RESULTS_TOO_LARGE,
	FAIL_QUEUE_FULL, FAIL_RATE, FAIL_UNAVAILABLE, FAIL_STREAMS,
	FAIL_STORAGE_FULL, FAIL_NOT_IMPLEMENTED, FAIL_KINDS,
};
int fail_status (enum fail f);
const char *fail_code (enum fail f);
/* Seconds for Retry-After, 0 = none. */
int fail_retry_after (enum fail f);
void fail_body (struct buf *b, enum fail f, const char *detail, size_t n);
/* For what the HTTP server finds by itself: the code that fits a bare status. */
void fail_status_body (struct buf *b, int status, const char *detail);

#endif
