/* SPDX-License-Identifier: Apache-2.0 */
/* One file of the spool, or of the memo: an 8-byte head, then records of u32 length, u32 crc32, bytes (little-endian). Only ever
 * appended to.
 *
 * A segment counts the records in it that are still wanted; its file goes when that is zero. What follows the last whole record
 * (a write that a crash or a full disk cut short) is cut off. */
#ifndef ENDPOINT_SEGMENT_H
#define ENDPOINT_SEGMENT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>
#include "common/err.h"

enum { SEGMENT_HEAD = 8, SEGMENT_RECORD_HEAD = 8, SEGMENT_BATCH = 256 };

struct segment {
	struct segment *prev, *next;	/* the spool's list */
	uint64_t number;
	int fd;
	uint64_t bytes;			/* of the file, whole records only */
	size_t live;			/* records that are still wanted */
	uint64_t live_bytes;		/* the memo's: what of `bytes` is wanted */
	bool dirty;			/* written since the last sync */
	char *path;
};

/* The numbers of the files in a directory, ascending; *numbers owned by the caller. */
int segment_list (const char *dir, uint64_t **numbers, size_t *n, struct err *err);
struct segment *segment_create (const char *dir, uint64_t number, struct err *err);
/* ERR_INVALID: its head is damaged, or another program's. */
struct segment *segment_open (const char *dir, uint64_t number, struct err *err);
char *segment_path (const char *dir, uint64_t number);	/* owned by the caller */
void segment_close (struct segment **s, bool remove);
/* Append up to SEGMENT_BATCH records in one write. Returns how many were written whole, in order (offsets[i] = where the bytes of
 * record i start); fewer than n only on failure, with *err. */
size_t segment_append (struct segment *s, zmq_msg_t *const *records, size_t n, uint64_t *offsets, struct err *err);
int segment_read (const struct segment *s, uint64_t offset, size_t n, zmq_msg_t *out, struct err *err);
int segment_truncate (struct segment *s, struct err *err);	/* empty it, to be used again */
/* Visit all whole records of an opened segment. A record with a bad checksum is skipped and counted, a torn tail cut. */
typedef void segment_f (struct segment *s, uint64_t offset, const void *p, size_t n, void *arg);
int segment_scan (struct segment *s, segment_f *cb, void *arg, size_t *bad, struct err *err);

#endif
