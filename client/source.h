/* SPDX-License-Identifier: Apache-2.0 */
/* Code on this machine, as a registration says it (POST /v3/functions). */
#ifndef CLIENT_SOURCE_H
#define CLIENT_SOURCE_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "client/api.h"

/* FILE.py::NAME or FILE.so::SYMBOL: does it name an entry of a file? */
bool source_is_file (const char *given);
/* kind NULL: by the file's ending; entry NULL: what stands behind "::", of a shared object without it weft_function. New object, or NULL with *err. */
json_t *source_file (const char *given, const char *kind, const char *entry, struct err *err);
json_t *source_command (const char *const *argv, size_t n, struct err *err);
/* Register, once by what it says: the same again gives the same id. body: stolen. */
int source_register_once (const struct api_opts *o, json_t *body, char out[37], struct err *err);

#endif
