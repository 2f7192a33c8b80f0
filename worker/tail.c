/* SPDX-License-Identifier: Apache-2.0 */
/* Rings of the last bytes, and cleaning of what programs print. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"
#include "worker/tail.h"
#include "worker/text.h"

void tail_init (struct tail *t)
{
	memset (t, 0, sizeof (*t));
}

void tail_fini (struct tail *t)
{
	free (t->ring);
	tail_init (t);
}

void tail_clear (struct tail *t)
{
	t->total = 0;
}

void tail_add (struct tail *t, const void *data, size_t n)
{
	const uint8_t *p = data;
	size_t at, first;

	if (n == 0)
		return;
	if (!t->ring)
		t->ring = xcalloc (1, TAIL_BYTES);
	if (n > TAIL_BYTES) {
		t->total += n - TAIL_BYTES;
		p += n - TAIL_BYTES;
		n = TAIL_BYTES;
	}
	at = t->total % TAIL_BYTES;
	first = n < TAIL_BYTES - at ? n : TAIL_BYTES - at;
	memcpy (t->ring + at, p, first);
	memcpy (t->ring, p + first, n - first);
	t->total += n;
}

static void ring_copy (const uint8_t *ring, uint64_t total, struct buf *out)
{
	size_t at = total % TAIL_BYTES;

	if (total <= TAIL_BYTES) {
		buf_add (out, ring, total);
		return;
	}
	buf_add (out, ring + at, TAIL_BYTES - at);
	buf_add (out, ring, at);
}

void tail_copy (const struct tail *t, struct buf *out)
{
	if (t->total)
		ring_copy (t->ring, t->total, out);
}

void tail_copy_shared (const void *shared, struct buf *out)
{
	uint64_t total;

	memcpy (&total, shared, sizeof (total));
	total = le64toh (total);
	if (total)
		ring_copy ((const uint8_t *) shared + 8, total, out);
}

/* A total above it is a lie. */
#define TOTAL_MAX ((uint64_t) 1 << 62)

static void add_new (struct tail *to, const uint8_t *ring, uint64_t total, uint64_t *seen)
{
	uint64_t n, lost;
	size_t at, first;

	if (total > TOTAL_MAX)
		return;
	if (total < *seen)
		*seen = 0;	/* it was cleared */
	n = total - *seen;
	lost = n > TAIL_BYTES ? n - TAIL_BYTES : 0;
	n -= lost;
	*seen = total;
	if (to->total + lost + n > TOTAL_MAX)
		return;
	to->total += lost;	/* what follows fills all of the ring then */
	at = (total - n) % TAIL_BYTES;
	first = n < TAIL_BYTES - at ? n : TAIL_BYTES - at;
	tail_add (to, ring + at, first);
	tail_add (to, ring, n - first);
}

void tail_add_new (struct tail *to, const struct tail *from, uint64_t *seen)
{
	if (from->ring)
		add_new (to, from->ring, from->total, seen);
}

void tail_add_new_shared (struct tail *to, const void *shared, uint64_t *seen)
{
	uint64_t total;

	memcpy (&total, shared, sizeof (total));
	add_new (to, (const uint8_t *) shared + 8, le64toh (total), seen);
}

void tail_make_text (struct buf *b)
{
	size_t drop = 0;

	if (b->len > TAIL_BYTES)
		drop = b->len - TAIL_BYTES;
	if (drop > 0 || b->len == TAIL_BYTES)
		while (drop < b->len && (b->data[drop] & 0xc0) == 0x80)
			drop++;
	buf_consume (b, drop);
	text_make_utf8 ((char *) b->data, b->len);
}
