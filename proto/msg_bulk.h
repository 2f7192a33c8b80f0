/* SPDX-License-Identifier: Apache-2.0 */
/* References to bulk data: SPEC.md, section 3.6. They stand where a payload or a result would stand, and name a file of the store that
 * both ends of a session share (proto/bulk.h). */
#ifndef PROTO_MSG_BULK_H
#define PROTO_MSG_BULK_H
#include "proto/wire.h"

#define BULK_MIN 32768			/* payloads and results over it go by reference */
#define BULK_NAME_MAX 49		/* of a result: 32 hexadecimal digits, an @, 16 more */
#define BULK_REF_MAX (4 + BULK_NAME_MAX)	/* bytes of a reference */

enum bulk_kind { BULK_PAYLOAD = 1, BULK_RESULT = 2 };
struct bulk_ref {
	uint32_t bytes;			/* of the data */
	char name[BULK_NAME_MAX + 1];
};

/* A task has one payload, in a file of its own. Every execution has a result of its own: a record that begins at this page of this segment. */
void bulk_ref_payload (struct bulk_ref *r, const struct id *task, uint32_t bytes);
void bulk_ref_result (struct bulk_ref *r, const struct id *task, uint32_t bytes, uint32_t segment, uint32_t page);
/* Where the result of this name stands; the name is one that bulk_name_parse takes. */
void bulk_name_place (const char *name, uint32_t *segment, uint32_t *page);
/* The task and kind that a name belongs to; -1: not a name of ours. */
int bulk_name_parse (const char *name, size_t n, struct id *task, enum bulk_kind *kind);

size_t bulk_ref_encode (const struct bulk_ref *r, uint8_t out[BULK_REF_MAX]);	/* returns its length */
/* Accepts only a name of this kind, of this very task: what a peer sends names nothing else. */
int bulk_ref_decode (struct bulk_ref *r, const void *p, size_t n, const struct id *task, enum bulk_kind kind, struct err *err);

#endif
