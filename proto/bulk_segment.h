/* SPDX-License-Identifier: Apache-2.0 */
/* Segments of the bulk store: files that many results stand in, one behind the other (SPEC.md, section 9.1). A file for each result would
 * cost more than to write it: an inode is made and taken away again.
 *
 * A record is found by segment and page, and says whose result it is. One process writes a segment, and holds an exclusive lock on it as
 * long as it may write more; others read, and mark records as gone. All calls block on file operations; dir is the store's descriptor. */
#ifndef PROTO_BULK_SEGMENT_H
#define PROTO_BULK_SEGMENT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"
#include "common/ids.h"

#define SEGMENT_NAME 13			/* "seg-" and 8 hexadecimal digits, NUL */

struct segment_writer;
struct segment_reader;
struct segment_walk;

void segment_name (char out[SEGMENT_NAME], uint32_t segment);
bool segment_parse (const char *name, uint32_t *segment);	/* false: it is no segment's name */

/* Nothing is made on disk before the first record. */
struct segment_writer *segment_writer_create (int dir);
void segment_writer_destroy (struct segment_writer **w);
/* -1 with errno: nothing was added. */
int segment_put (struct segment_writer *w, const struct id *task, const void *p, uint32_t bytes, uint32_t *segment, uint32_t *page);

/* Keeps some segments that it read from open. */
struct segment_reader *segment_reader_create (int dir);
void segment_reader_destroy (struct segment_reader **r);
/* out NULL: looks only whether it is there. -1 with errno: ENOENT it is gone, EILSEQ it is not what was written, or another. */
int segment_get (struct segment_reader *r, uint32_t segment, uint32_t page, const struct id *task, uint32_t bytes, void *out);
/* The record of this task, if it stands there, is gone; its place on disk is given back. */
void segment_drop (int dir, uint32_t segment, uint32_t page, const struct id *task);

/* The records of one segment, in order. NULL: name is no segment, or cannot be read. */
struct segment_walk *segment_walk_open (int dir, const char *name);
/* 1: the next record that is not gone; 0: there is none. */
int segment_walk_next (struct segment_walk *w, struct id *task, uint32_t *bytes, uint32_t *segment, uint32_t *page);
/* remove: the segment is removed if all its records were gone and nobody writes it any more. */
void segment_walk_close (struct segment_walk **w, int dir, int remove);

#endif
