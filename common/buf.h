/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer with a bound. Not thread-safe.
 *
 * A failed append (bound reached or no memory) sets `failed` and leaves the content as it was; later appends do
 * nothing, so a writer appends freely and tests once, with buf_failed. */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data;	/* owned; NULL while empty; kept NUL-terminated for the caller's convenience */
	size_t len;
	size_t cap;
	size_t max;	/* most bytes it may hold; 0 = 1 GiB */
	bool failed;
};

void buf_init (struct buf *b, size_t max_bytes);
void buf_fini (struct buf *b);				/* frees; the buffer is empty and usable again */
void buf_clear (struct buf *b);				/* keeps the memory, clears `failed` */
int buf_reserve (struct buf *b, size_t more);		/* room for `more` bytes: 0, or -1 and failed */
void buf_add (struct buf *b, const void *p, size_t n);
void buf_str (struct buf *b, const char *s);
void buf_char (struct buf *b, char c);
void buf_int (struct buf *b, int64_t v);		/* in decimal */
void buf_printf (struct buf *b, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));
void buf_consume (struct buf *b, size_t n);		/* drop the first n bytes */
/* Append s as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void buf_json_string (struct buf *b, const char *s, size_t n);
static inline bool buf_failed (const struct buf *b) { return b->failed; }

#endif
