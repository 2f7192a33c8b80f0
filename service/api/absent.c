/* SPDX-License-Identifier: Apache-2.0 */
/* What the API of Globus Compute has and this service has not, with what to do instead. */
#include "service/api/api.h"
#include "service/call.h"

void api_absent_build (struct call *c)
{
	call_fail (c, FAIL_NOT_IMPLEMENTED, "images are not built here: build yours with the tools of your choice and name it in the function's registration, "
					    "\"container\": {\"image\": ...}, or register it under an id with POST /v2/containers");
}

void api_absent_endpoint_console (struct call *c)
{
	call_fail (c, FAIL_NOT_IMPLEMENTED, "endpoints do not start endpoints for their users here: GET /v3/endpoints/{endpoint}/status has the workers, nodes "
					    "and tasks of this one, /console/ shows them");
}

void api_absent_admin_verified (struct call *c)
{
	call_fail (c, FAIL_NOT_IMPLEMENTED, "there are no subscriptions here whose admins could verify an endpoint: its owner says who may use it, with the "
					    "members public and shared_with of its registration");
}
