/* SPDX-License-Identifier: Apache-2.0 */
/* What functions and endpoints are called, for lists that name them by id. */
#ifndef CLIENT_NAMES_H
#define CLIENT_NAMES_H
#include "client/api.h"

/* The name, or the id itself when it has none that we may see. Borrowed; valid until the process ends. Asks the service when an id is
 * new, but not again and again. */
const char *names_function (const struct api_opts *o, const char *id);
const char *names_endpoint (const struct api_opts *o, const char *id);
/* All of them, id -> name; borrowed like those. Empty when the service cannot be asked. */
json_t *names_functions (const struct api_opts *o);
json_t *names_endpoints (const struct api_opts *o);

#endif
