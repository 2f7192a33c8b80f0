/* SPDX-License-Identifier: Apache-2.0 */
/* The getters of json.h for bodies read with jscan, the same problems included. */
#ifndef SERVICE_BODY_H
#define SERVICE_BODY_H
#include "service/jscan.h"
#include "service/json.h"

jscan_v body_get (const struct jscan *j, const char *key);	/* a member of the root; 0 when absent or null */
jscan_v body_object (struct check *c, const struct jscan *j, const char *key, bool required);
jscan_v body_array (struct check *c, const struct jscan *j, const char *key, bool required);
bool body_bool (struct check *c, const struct jscan *j, const char *key, bool def);
bool body_id (struct check *c, const struct jscan *j, const char *key, bool required, struct id *out);
/* v 0 or no string: false, without a problem. */
bool body_is_id (const struct jscan *j, jscan_v v, struct id *out);
/* Owned (free); NULL when absent or wrong. */
struct id *body_ids (struct check *c, const struct jscan *j, const char *key, bool required, size_t max, size_t *n);

#endif
