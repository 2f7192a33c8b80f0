/* SPDX-License-Identifier: Apache-2.0 */
/* FUNCTION: SPEC.md, section 3.2. */
#include "proto/msg_function.h"
#include "tests/fuzz/fuzz_msg.h"

#define FUNCTION(m, p, n) msg_function_decode (m, p, n, &err)

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct err err;
	FUZZ_ROUND_TRIP (struct msg_function, FUNCTION, msg_function_encode, data, n);
	return 0;
}
