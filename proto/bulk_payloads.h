/* SPDX-License-Identifier: Apache-2.0 */
/* Slots of the bulk store: two files of places of fixed size, in which payloads stand that are written, read once or twice, and gone again a
 * moment later (SPEC.md, section 9.2). To make a file for each, or to rename one, costs several times what it costs to write into a place.
 *
 * Where a payload may stand follows from its task's id: eight places, of which it has the first that was free. Who writes holds a lock on the
 * place; who reads or drops holds none: who reads looks afterwards whether the place is still that task's. All calls block on file operations; dir is the
 * store's descriptor. */
#ifndef PROTO_BULK_PAYLOADS_H
#define PROTO_BULK_PAYLOADS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/ids.h"

enum { SLOT_FILES = 2 };

struct payloads;
struct payloads_place { int file; uint32_t slot; };	/* of a walk */

/* Nothing is made on disk before the first payload. dir: borrowed for life. */
struct payloads *payloads_create (int dir);
void payloads_destroy (struct payloads **s);

/* -1: there is no place for it, or it cannot be written there; nothing stands there then. What the task has there already is replaced. */
int payloads_put (struct payloads *s, const struct id *task, const void *p, uint32_t bytes);
/* out NULL: looks only whether it is there. -1 with errno: ENOENT it is not, or not any more; EILSEQ with another size. */
int payloads_get (struct payloads *s, const struct id *task, uint32_t bytes, void *out);
bool payloads_drop (struct payloads *s, const struct id *task);	/* false: it was not there */

/* Is this the name of a file of slots? Its number, or -1. */
int payloads_file (const char *name);
const char *payloads_name (uint32_t bytes);	/* of the file that has places for so many; NULL: none has */
/* Whether something stands in this file since age_ms, or longer. */
bool payloads_hold (int dir, int file, int64_t age_ms);
/* The next that stands in at->file from at->slot on, since age_ms or longer; false: there is none. */
bool payloads_old (int dir, struct payloads_place *at, int64_t age_ms, struct id *task);

#endif
