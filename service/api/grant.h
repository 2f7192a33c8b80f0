/* SPDX-License-Identifier: Apache-2.0 */
/* A new token as the answer of a call. */
#ifndef SERVICE_API_GRANT_H
#define SERVICE_API_GRANT_H
#include <jansson.h>
#include <stdint.h>
#include "common/ids.h"

struct call;

/* Makes a token of this user and answers with doc (transferred), which gets the member access_token. label: copied, for lists of tokens.
 * expires_ms: real time. */
void grant_token (struct call *c, const struct id *user, uint32_t scopes, const char *label, int64_t expires_ms, json_t *doc);

#endif
