/* SPDX-License-Identifier: Apache-2.0 */
/* How a record is opened, read and written; for the codecs (msg_*.c, layout.c) only. SPEC.md, section 1.1.
 *
 * Decoding: wire_record_open splits a frame into its fixed part and what follows; fields are read from `fixed`, where
 * a field that is not wholly there reads as 0; wire_record_take takes the variable parts in order; wire_record_close
 * judges the length of the whole. No allocation, slices only.
 *
 * Encoding: the fixed part is composed in a small array with a wire_writer, then appended with the variable parts
 * after a single reservation. */
#ifndef PROTO_WIRE_RECORD_H
#define PROTO_WIRE_RECORD_H
#include <endian.h>
#include <string.h>
#include "proto/wire.h"

struct wire_record {
	struct wire_reader fixed;	/* after fixed_bytes, as far as we know it */
	struct wire_reader var;		/* the variable parts */
	const char *what;		/* name of the record, for errors; borrowed */
	bool newer;			/* the fixed part is longer than ours: more may follow what we know */
};

/* shortest, known: bytes of the fixed part, fixed_bytes included. -1: ERR_TOO_LARGE, ERR_INVALID. */
int wire_record_open (struct wire_record *r, const void *p, size_t n, size_t shortest, size_t known, const char *what,
		      struct err *err);
/* -1: ERR_TOO_LARGE, over max. Running over the frame's end is found by wire_record_close. */
int wire_record_take (struct wire_record *r, struct wire_str *out, size_t n, size_t max, const char *field,
		      struct err *err);
int wire_record_close (const struct wire_record *r, struct err *err);
int wire_bad_value (const char *what, const char *field, unsigned value, struct err *err); /* ERR_INVALID */

/* Text for people is cut to the limit rather than refused: its first, or its last, max bytes, whole UTF-8 sequences. */
struct wire_str wire_clip_head (struct wire_str s, size_t max);
struct wire_str wire_clip_tail (struct wire_str s, size_t max);

struct wire_writer { uint8_t *p; };
static inline void wire_w8 (struct wire_writer *w, uint8_t v) { *w->p++ = v; }
static inline void wire_w16 (struct wire_writer *w, uint16_t v)
{
	v = htole16 (v);
	memcpy (w->p, &v, sizeof (v));
	w->p += sizeof (v);
}
static inline void wire_w32 (struct wire_writer *w, uint32_t v)
{
	v = htole32 (v);
	memcpy (w->p, &v, sizeof (v));
	w->p += sizeof (v);
}
static inline void wire_w64 (struct wire_writer *w, uint64_t v)
{
	v = htole64 (v);
	memcpy (w->p, &v, sizeof (v));
	w->p += sizeof (v);
}
static inline void wire_wid (struct wire_writer *w, const struct id *id)
{
	memcpy (w->p, id->b, ID_BYTES);
	w->p += ID_BYTES;
}

/* Append the fixed part and the parts that follow it: all or, with b failed, nothing. */
void wire_record_add (struct buf *b, const void *fixed, size_t fixed_bytes, const struct wire_str *parts, size_t nparts);
/* What cannot be encoded (data over its limit): the buffer fails, as it does when it is full. */
static inline void wire_refuse (struct buf *b) { b->failed = true; }

#endif
