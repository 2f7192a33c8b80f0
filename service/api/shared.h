/* SPDX-License-Identifier: Apache-2.0 */
/* The member shared_with of functions and endpoints: names or ids of users. */
#ifndef SERVICE_API_SHARED_H
#define SERVICE_API_SHARED_H
#include "service/json.h"
#include "service/registry/registry.h"

/* Owned by the caller; NULL when the member is absent. */
struct id *shared_users (struct check *k, const json_t *body, struct registry *r, size_t *n);

#endif
