/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzzers of records share: decode; what is accepted must encode, the encoding must be accepted, and encoding
 * that again must give the same bytes. The input is copied into memory of its own size, so that any overrun is seen. */
#ifndef TESTS_FUZZ_MSG_H
#define TESTS_FUZZ_MSG_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/buf.h"
#include "proto/wire.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

#define FUZZ_DEMAND(what) do { if (!(what)) abort (); } while (0)

static inline uint8_t *fuzz_copy (const uint8_t *data, size_t n)
{
	uint8_t *p = malloc (n ? n : 1);
	FUZZ_DEMAND (p);
	if (n)
		memcpy (p, data, n);
	return p;
}

/* decode (m, p, n) and encode (b, m) are expressions over a struct of type T. */
#define FUZZ_ROUND_TRIP(T, decode, encode, bytes_, size_)                                                              \
	do {                                                                                                           \
		T *m = calloc (2, sizeof (*m)), *m2 = m + 1;                                                           \
		struct buf b1, b2;                                                                                     \
		uint8_t *copy_ = fuzz_copy (bytes_, size_);                                                            \
		buf_init (&b1, 0);                                                                                     \
		buf_init (&b2, 0);                                                                                     \
		if (decode (m, copy_, size_) == 0) {                                                                   \
			encode (&b1, m);                                                                               \
			FUZZ_DEMAND (!buf_failed (&b1));                                                               \
			FUZZ_DEMAND (decode (m2, b1.data, b1.len) == 0);                                               \
			encode (&b2, m2);                                                                              \
			FUZZ_DEMAND (b1.len == b2.len && memcmp (b1.data, b2.data, b1.len) == 0);                      \
		}                                                                                                      \
		buf_fini (&b1);                                                                                        \
		buf_fini (&b2);                                                                                        \
		free (copy_);                                                                                          \
		free (m);                                                                                              \
	} while (0)

#endif
