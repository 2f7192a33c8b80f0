/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for tasks, and what ended ones are shown as. */
#ifndef CLIENT_RESULTS_H
#define CLIENT_RESULTS_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "client/api.h"

#define RESULTS_WAIT_S 50.0	/* of one request; repeated until the user's own limit */

/* Has the task of this document ended, or is it not known? */
bool results_ended (const json_t *doc);
bool results_unknown (const json_t *doc);
bool results_good (const json_t *doc);		/* ended with success */
/* Ask until all ids have ended or timeout_ms (0 = for ever) is over; docs: object id -> document, filled in. 0, -1 error, 1 time over. */
int results_await (const struct api_opts *o, json_t *ids, json_t *docs, int64_t timeout_ms, struct err *err);
/* Print them in the order of ids, results to stdout and failures to stderr; returns the exit status. */
int results_print (const struct api_opts *o, json_t *ids, json_t *docs);
int results_time_over (json_t *ids);
/* For who waits long: says on standard error that the endpoint is offline, when it is. */
void results_say_offline (const struct api_opts *o, const char *ep);
/* Why it has no result: the last line of a traceback, or the reason. n bytes, borrowed from doc. */
const char *results_reason (const json_t *doc, int *n);

#endif
