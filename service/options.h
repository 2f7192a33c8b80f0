/* SPDX-License-Identifier: Apache-2.0 */
/* What a function's registration may ask for beside its code: memoize, batch {max, latency_ms}, container (an image, or an object with
 * its options), files (files.h). Kept in the registry as a JSON object of what was given, the image in a column of its own. With them the Python that the
 * function was made with, as its meta says, and whether its code is bytecode, which only that version can read. */
#ifndef SERVICE_OPTIONS_H
#define SERVICE_OPTIONS_H
#include "proto/msg_function.h"
#include "service/json.h"

#define OPTIONS_BATCH_MAX 4096	/* inputs in a call */

struct options {
	char *image;		/* owned, may be NULL */
	char *text;		/* owned; NULL when there are none */
};
/* Check and read; kind: a msg_kind. Problems go to k, then *out is still fit for options_fini. */
void options_read (struct check *k, const json_t *body, int kind, struct options *out);
bool options_type_ok (const char *type);	/* of a container */
void options_fini (struct options *o);
/* What a change of the other options leaves as it was: taken from the text before it. */
void options_keep_python (struct options *o, const char *before);
struct options_python { uint16_t version; bool bytecode; };	/* version 0: unknown; see common/pythons.h */
struct options_python options_python (const json_t *options);
/* Put kept options into a record. parsed and files (initialised) hold what the record then points to; json_decref and buf_fini after encoding. */
void options_apply (struct msg_function *m, const char *text, json_t **parsed, struct buf *files);
/* Members of the function's document. */
void options_show (json_t *doc, const char *image, const char *text);

#endif
