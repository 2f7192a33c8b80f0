/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent says of itself, as JSON; the file run/status.json has the same. */
#ifndef ENDPOINT_STATUS_H
#define ENDPOINT_STATUS_H
#include <jansson.h>
#include "common/buf.h"
#include "endpoint/blocks.h"
#include "endpoint/dispatch.h"

struct status_input {
	const char *name, *endpoint_id, *state, *service_url, *forwarder_address, *provider;
	bool connected, registered, refused;
	const char *error;	/* NULL or "" = none */
	int64_t started_ns, connected_ns;
	struct dispatch *dispatch;
	struct blocks *blocks;	/* may be NULL */
	struct spool *spool;
	struct memo *memo;	/* may be NULL */
	struct managers *managers;
};
json_t *status_make (const struct status_input *in);	/* owned by the caller */
/* Those of its figures that CAPACITY does not have, for METRICS: a JSON object of numbers. */
void status_metrics (const struct status_input *in, struct buf *out);

#endif
