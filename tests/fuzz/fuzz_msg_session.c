/* SPDX-License-Identifier: Apache-2.0 */
/* HELLO, WELCOME, REJECT and BYE, as both majors: SPEC.md, section 3.1. */
#include "proto/msg_session.h"
#include "tests/fuzz/fuzz_msg.h"

#define HELLO(m, p, n) msg_hello_decode (m, p, n, &err)
#define HELLO_1(b, m) msg_hello_encode (b, m, 1)
#define HELLO_2(b, m) msg_hello_encode (b, m, 2)
#define WELCOME(m, p, n) msg_welcome_decode (m, p, n, &err)
#define WELCOME_1(b, m) msg_welcome_encode (b, m, 1)
#define WELCOME_2(b, m) msg_welcome_encode (b, m, 2)
#define REASON(m, p, n) msg_reason_decode (m, p, n, &err)

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct err err;
	FUZZ_ROUND_TRIP (struct msg_hello, HELLO, HELLO_1, data, n);
	FUZZ_ROUND_TRIP (struct msg_hello, HELLO, HELLO_2, data, n);
	FUZZ_ROUND_TRIP (struct msg_welcome, WELCOME, WELCOME_1, data, n);
	FUZZ_ROUND_TRIP (struct msg_welcome, WELCOME, WELCOME_2, data, n);
	FUZZ_ROUND_TRIP (struct msg_reason, REASON, msg_reason_encode, data, n);
	return 0;
}
