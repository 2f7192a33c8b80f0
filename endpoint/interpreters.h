/* SPDX-License-Identifier: Apache-2.0 */
/* The Python interpreters that the configuration names: a lone one, or several by version. */
#ifndef ENDPOINT_INTERPRETERS_H
#define ENDPOINT_INTERPRETERS_H
#include <jansson.h>
#include "common/loop.h"
#include "common/pythons.h"
#include "endpoint/config.h"

/* Owned by the caller. config_load has checked that it can be read. */
int interpreters_read (const struct config *c, struct pythons *out, struct err *err);
/* Into a registration's metadata: pythons, the versions that functions can count on; python_version, of the one that runs what does not
 * say. A lone interpreter says its version when asked (interpreters_words), on the host where it runs; until then nothing is claimed. */
void interpreters_describe (const struct pythons *p, json_t *metadata);

/* The version of a lone interpreter of this host: from its name, at once, or else asked of it; then done is called, once it has said it. n is
 * filled in by its owner, and borrowed until then or until the loop's end. */
struct learning { struct pythons *p; void (*done) (void *arg); void *arg; };
void interpreters_learn (struct loop *l, struct learning *n);

/* What to run to ask one; argv has four places. It prints "3.11.2 0.3.6": its own version, and that of dill, or "-". */
void interpreters_words (const char *path, const char *argv[4]);
struct interpreter_says { char version[32], dill[32]; };
int interpreters_said (const char *text, struct interpreter_says *out);		/* -1: not such an answer */

#endif
