/* SPDX-License-Identifier: Apache-2.0 */
/* Strict JSON in one pass, for bodies that carry large strings: values become a flat array of nodes, strings are slices of the
 * text (decoded into one side buffer only where they hold escapes). Accepts what jansson does with
 * JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL (but no NUL between tokens): an object or array at the top, 2048 levels, valid UTF-8, no lone surrogates, no
 * duplicate keys, numbers that fit. The text is borrowed until jscan_fini. */
#ifndef SERVICE_JSCAN_H
#define SERVICE_JSCAN_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum jscan_type { JSCAN_NULL = 1, JSCAN_FALSE, JSCAN_TRUE, JSCAN_INTEGER, JSCAN_REAL, JSCAN_STRING, JSCAN_ARRAY, JSCAN_OBJECT };

/* A value is named by its index; 0 is the root, and no member, so 0 also says "none". */
typedef uint32_t jscan_v;

struct jscan_node {
	uint32_t at, n;		/* slice of the text, or of `decoded`; strings without quotes */
	uint32_t count;		/* elements of an array, members of an object */
	jscan_v end;		/* the node behind this one and all it holds */
	uint8_t type;
	bool escaped;		/* the slice is of `decoded` */
};

struct jscan {
	const char *text;		/* borrowed */
	char *decoded;			/* owned; NULL while no string needed it */
	struct jscan_node *nodes;	/* owned */
	uint32_t nnodes, cap, ndecoded, ntext;
};

/* 0, or -1 with the reason in why; j is then empty. */
int jscan_parse (struct jscan *j, const char *p, size_t n, char *why, size_t cap);
void jscan_fini (struct jscan *j);	/* also of a zeroed one */

static inline enum jscan_type jscan_type (const struct jscan *j, jscan_v v) { return (enum jscan_type) j->nodes[v].type; }
static inline uint32_t jscan_count (const struct jscan *j, jscan_v v) { return j->nodes[v].count; }
/* Of a string or key; borrowed, not NUL-terminated. */
static inline const char *jscan_string (const struct jscan *j, jscan_v v, size_t *n)
{
	*n = j->nodes[v].n;
	return (j->nodes[v].escaped ? j->decoded : j->text) + j->nodes[v].at;
}
/* Elements of an array; of an object the keys, whose values are at key + 1. 0 = no more. */
static inline jscan_v jscan_first (const struct jscan *j, jscan_v v) { return j->nodes[v].count ? v + 1 : 0; }
static inline jscan_v jscan_next (const struct jscan *j, jscan_v parent, jscan_v v)
{
	jscan_v next = j->nodes[j->nodes[parent].type == JSCAN_OBJECT ? v + 1 : v].end;

	return next < j->nodes[parent].end ? next : 0;
}
jscan_v jscan_get (const struct jscan *j, jscan_v object, const char *key);	/* the member's value, or 0 */
/* As jansson's tree, owned by the caller; NULL when memory is short. Not for keys, nor for strings. */
json_t *jscan_tree (const struct jscan *j, jscan_v v);

#endif
