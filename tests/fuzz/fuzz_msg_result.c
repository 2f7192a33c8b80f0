/* SPDX-License-Identifier: Apache-2.0 */
/* RESULT as both majors, stamps in place: SPEC.md, section 3.2. */
#include "proto/msg_result.h"
#include "tests/fuzz/fuzz_msg.h"

#define RESULT(m, p, n) msg_result_decode (m, p, n, &err)
#define RESULT_1(b, m) msg_result_encode (b, m, 1)
#define RESULT_2(b, m) msg_result_encode (b, m, 2)

static void in_place (const uint8_t *data, size_t n)
{
	struct msg_result m;
	struct id task;
	uint8_t *in = fuzz_copy (data, n);
	int peeked = msg_result_id (in, n, &task);
	if (msg_result_decode (&m, in, n, NULL) == 0) {
		FUZZ_DEMAND (peeked == 0 && id_eq (&task, &m.task));
		for (int i = -1; i <= STAMP_SLOTS; i++)
			msg_result_stamp (in, i, i);
		FUZZ_DEMAND (msg_result_decode (&m, in, n, NULL) == 0 && m.stamps[STAMP_SERVICE_RESULT] == STAMP_SERVICE_RESULT);
	}
	free (in);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct err err;
	FUZZ_ROUND_TRIP (struct msg_result, RESULT, RESULT_1, data, n);
	FUZZ_ROUND_TRIP (struct msg_result, RESULT, RESULT_2, data, n);
	in_place (data, n);
	return 0;
}
