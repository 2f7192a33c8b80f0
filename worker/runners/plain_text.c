/* SPDX-License-Identifier: Apache-2.0 */
/* Where does plain text end? The Python runner asks this of long strings, in JSON text and on their way into it. It is a shared object of its
 * own, built without a C library, so that any interpreter of the architecture can load it, glibc's or musl's; the runner does without it
 * where it cannot be loaded. */
#include "worker/runners/plain_text.h"

#define BLOCK 64	/* a size that compilers make vector instructions of */

static inline unsigned char special (unsigned char c)
{
	return (unsigned char) ((c < 0x20) | (c == '"') | (c == '\\'));
}

size_t weft_plain_end (const unsigned char *p, size_t at, size_t n)
{
	for (; n - at >= BLOCK; at += BLOCK) {
		unsigned char any = 0;
		for (size_t i = 0; i < BLOCK; i++)
			any |= special (p[at + i]);
		if (any)
			break;
	}
	while (at < n && !special (p[at]))
		at++;
	return at;
}
