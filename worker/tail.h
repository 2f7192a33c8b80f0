/* SPDX-License-Identifier: Apache-2.0 */
/* The last bytes of a stream of any length, in memory of fixed size. */
#ifndef WORKER_TAIL_H
#define WORKER_TAIL_H
#include "common/buf.h"
#include "proto/wire.h"

#define TAIL_BYTES WIRE_MAX_TAIL

struct tail {
	uint8_t *ring;		/* owned; TAIL_BYTES, NULL until the first byte */
	uint64_t total;		/* bytes ever added since the last clear */
};

void tail_init (struct tail *t);
void tail_fini (struct tail *t);
void tail_clear (struct tail *t);
void tail_add (struct tail *t, const void *p, size_t n);
static inline bool tail_empty (const struct tail *t) { return t->total == 0; }
void tail_copy (const struct tail *t, struct buf *out);	/* appended in order */

/* The same layout in memory that a runner writes (SPEC.md, section 7: descriptor 5): u64 total, then the ring. The writer is
 * not trusted: nothing is read outside the ring whatever it wrote. */
#define TAIL_SHARED_BYTES (8 + TAIL_BYTES)
void tail_copy_shared (const void *shared, struct buf *out);

/* Add to `to` what a source has got beyond *seen, and move that. What the source has lost since is counted, as lost. */
void tail_add_new (struct tail *to, const struct tail *from, uint64_t *seen);
void tail_add_new_shared (struct tail *to, const void *shared, uint64_t *seen);

/* Make b text for the wire: at most TAIL_BYTES, the last ones, valid UTF-8 (what is not becomes '?'; a cut character at the
 * start is dropped). */
void tail_make_text (struct buf *b);

#endif
