/* SPDX-License-Identifier: Apache-2.0 */
/* About the service itself. */
#include <stdio.h>
#include <string.h>
#include "service/api/api.h"
#include "service/call.h"
#include "service/stats.h"

/* The oldest SDK and endpoint whose routes are served. */
#define MIN_SDK_VERSION "2.2.0"
#define MIN_EP_VERSION "2.2.0"

/* The commit that this was made from, or "unknown". */
static const char git_sha[] =
#include "service/git_sha.inc"
	;

static const unsigned char openapi[] = {
#include "service/openapi.json.inc"
};

void api_version (struct call *c)
{
	char service[16];

	if (http_query_param (c->req, "service", service, sizeof (service)) == 0 && !strcmp (service, "all"))
		call_json (c, json_pack ("{s:s, s:s, s:s, s:s, s:s}", "api", WEFT_VERSION, "min_sdk_version", MIN_SDK_VERSION, "min_ep_version",
					 MIN_EP_VERSION, "git_sha", git_sha, "container_service", WEFT_VERSION));
	else
		call_json (c, json_string (WEFT_VERSION));
}

void api_openapi (struct call *c)
{
	struct buf b;

	buf_init (&b, 0);
	buf_add (&b, openapi, sizeof (openapi));
	call_ok (c, &b);
}

void api_metrics (struct call *c)
{
	struct buf b;

	buf_init (&b, 0);
	stats_render (c->app->stats, &b);
	call_reply (c, 200, "text/plain; version=0.0.4", NULL, &b);
}

void api_stats (struct call *c)
{
	int64_t submitted;
	struct err err;

	if (registry_audit_total (c->app->registry, "task.submit", &submitted, &err) < 0)
		call_fail_err (c, &err, FAIL_INTERNAL);
	else
		call_json (c, json_pack ("{s:I}", "total_function_invocations", (json_int_t) submitted));
}

void api_healthz (struct call *c)
{
	call_json (c, json_pack ("{s:s}", "status", "ok"));
}

void api_readyz (struct call *c)
{
	struct err err;

	if (rds_check (c->app->redis, &err) < 0)
		call_fail (c, FAIL_UNAVAILABLE, "not ready: %s", err.text);
	else if (!waiters_up (c->app->waiters))
		call_fail (c, FAIL_UNAVAILABLE, "not ready: the channel from Redis is not up yet");
	else if (registry_check (c->app->registry, &err) < 0)
		call_fail (c, FAIL_UNAVAILABLE, "not ready: %s", err.text);
	else if (c->app->draining)
		call_fail (c, FAIL_UNAVAILABLE, "not ready: stopping");
	else
		call_json (c, json_pack ("{s:s, s:b, s:b}", "status", "ready", "redis", 1, "registry", 1));
}
