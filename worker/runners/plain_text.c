/* SPDX-License-Identifier: Apache-2.0 */
/* Where does plain text end? The Python runner asks this of long strings, in JSON text and on their way into it. It is a shared object of its
 * own, built without a C library, so that any interpreter of the architecture can load it, glibc's or musl's; the runner does without it
 * where it cannot be loaded. */
#include "worker/runners/plain_text.h"

static inline unsigned char special (unsigned char c)
{
	return (unsigned char) ((c < 0x20) | (c == '"') | (c == '\\'));
}

/* Blocks without a special byte; compilers make vector instructions of a constant size. */
static inline size_t skip (const unsigned char *p, size_t at, size_t n, size_t block)
{
	for (; n - at >= block; at += block) {
		unsigned char any = 0;
		for (size_t i = 0; i < block; i++)
			any |= special (p[at + i]);
		if (any)
			break;
	}
	return at;
}

size_t weft_plain_end (const unsigned char *p, size_t at, size_t n)
{
	at = skip (p, at, n, 512);
	at = skip (p, at, n, 64);
	return skip (p, at, n, 1);
}
