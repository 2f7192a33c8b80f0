/* SPDX-License-Identifier: Apache-2.0 */
/* Reading request bodies: strict parsing, and getters that gather every problem as {loc, msg, type}, so that a client hears of
 * all of them at once (422). A key with the value null counts as absent. */
#ifndef SERVICE_JSON_H
#define SERVICE_JSON_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/ids.h"

struct check { json_t *problems; };	/* zeroed to begin with; problems: owned, NULL while all is well */

/* An object or array; NULL with the reason in text. Duplicate keys are refused, NUL characters in strings are taken. */
json_t *json_parse (const char *p, size_t n, char *text, size_t cap);

/* loc is ["body", key] or, with index >= 0, ["body", key, index]. */
void check_problem (struct check *c, const char *key, long index, const char *type, const char *fmt, ...)
	__attribute__ ((format (printf, 5, 6)));
static inline bool check_ok (const struct check *c) { return !c->problems; }
void check_fini (struct check *c);
/* The whole 422 body; the problems stand in detail and reason. */
void check_body (const struct check *c, struct buf *b);

json_t *check_get (const json_t *o, const char *key);	/* borrowed; NULL when absent or null */
/* Borrowed from o; NULL when absent or wrong. n may be NULL: then a NUL inside is a problem. */
const char *check_string (struct check *c, const json_t *o, const char *key, bool required, size_t max, size_t *n);
bool check_bool (struct check *c, const json_t *o, const char *key, bool def);
int64_t check_int (struct check *c, const json_t *o, const char *key, int64_t min, int64_t max, int64_t def);
double check_number (struct check *c, const json_t *o, const char *key, double min, double max, double def);
json_t *check_object (struct check *c, const json_t *o, const char *key, bool required);
json_t *check_array (struct check *c, const json_t *o, const char *key, bool required);
/* Members of o, which is the member `where` of the body, other than these (NULL at the end) are problems. */
void check_known (struct check *c, json_t *o, const char *where, const char *const *keys);
/* true when present and good. */
bool check_id (struct check *c, const json_t *o, const char *key, bool required, struct id *out);
/* An array of ids; *out owned (free), *n their count; NULL when absent. At most max. */
struct id *check_ids (struct check *c, const json_t *o, const char *key, bool required, size_t max, size_t *n);
/* A member's compact text, owned by the caller; NULL when absent. */
char *json_text (const json_t *v);

#endif
