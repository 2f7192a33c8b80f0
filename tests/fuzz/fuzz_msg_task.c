/* SPDX-License-Identifier: Apache-2.0 */
/* TASK as both majors, changes in place, TASK_STATE, OUTPUT, bare ids: SPEC.md, sections 3 and 3.2. */
#include "proto/msg_task.h"
#include "tests/fuzz/fuzz_msg.h"

#define TASK(m, p, n) msg_task_decode (m, p, n, &err)
#define TASK_1(b, m) msg_task_encode (b, m, 1)
#define TASK_2(b, m) msg_task_encode (b, m, 2)
#define OUTPUT(m, p, n) msg_output_decode (m, p, n, &err)
#define STATE(m, p, n) msg_task_state_decode (m, p, n, &err)

static void in_place (const uint8_t *data, size_t n)
{
	struct msg_task m;
	struct id task, function;
	uint8_t *in = fuzz_copy (data, n);
	int peeked = msg_task_ids (in, n, &task, &function);
	if (msg_task_decode (&m, in, n, NULL) == 0) {
		FUZZ_DEMAND (peeked == 0 && id_eq (&task, &m.task) && id_eq (&function, &m.function));
		for (int i = -1; i <= STAMP_SLOTS; i++)
			msg_task_stamp (in, i, i);
		msg_task_set_attempt (in, 7);
		FUZZ_DEMAND (msg_task_decode (&m, in, n, NULL) == 0 && m.attempt == 7 && m.stamps[STAMP_MANAGER_SENT] == STAMP_MANAGER_SENT);
	}
	long count = msg_ids_count (n);
	for (long i = 0; i < count; i++)
		msg_ids_get (in, i, &task);
	free (in);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct err err;
	FUZZ_ROUND_TRIP (struct msg_task, TASK, TASK_1, data, n);
	FUZZ_ROUND_TRIP (struct msg_task, TASK, TASK_2, data, n);
	FUZZ_ROUND_TRIP (struct msg_task_state, STATE, msg_task_state_encode, data, n);
	FUZZ_ROUND_TRIP (struct msg_output, OUTPUT, msg_output_encode, data, n);
	in_place (data, n);
	return 0;
}
