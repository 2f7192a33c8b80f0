/* SPDX-License-Identifier: Apache-2.0 */
/* The header frame: SPEC.md, section 1. */
#include "tests/fuzz/fuzz_msg.h"

static void encode (struct buf *b, const struct wire_header *h)
{
	uint8_t out[WIRE_HEADER_BYTES];
	wire_header_encode (h, out);
	buf_add (b, out, sizeof (out));
}
#define DEC(m, p, n) wire_header_decode (m, p, n, &err)

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct err err;
	FUZZ_ROUND_TRIP (struct wire_header, DEC, encode, data, n);
	return 0;
}
