/* SPDX-License-Identifier: Apache-2.0 */
/* CAPACITY, DRAIN, CONTAINER_STATE, IMAGE, METRICS: SPEC.md, section 3.3. */
#include "proto/msg_capacity.h"
#include "tests/fuzz/fuzz_msg.h"

#define CAPACITY(m, p, n) msg_capacity_decode (m, p, n, &err)
#define DRAIN(m, p, n) msg_drain_decode (m, p, n, &err)
#define CONTAINER(m, p, n) msg_container_state_decode (m, p, n, &err)
#define IMAGE(m, p, n) msg_image_decode (m, p, n, &err)
#define METRICS(m, p, n) msg_metrics_decode (m, p, n, &err)

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct err err;
	FUZZ_ROUND_TRIP (struct msg_capacity, CAPACITY, msg_capacity_encode, data, n);
	FUZZ_ROUND_TRIP (struct msg_drain, DRAIN, msg_drain_encode, data, n);
	FUZZ_ROUND_TRIP (struct msg_container_state, CONTAINER, msg_container_state_encode, data, n);
	FUZZ_ROUND_TRIP (struct msg_image, IMAGE, msg_image_encode, data, n);
	FUZZ_ROUND_TRIP (struct msg_metrics, METRICS, msg_metrics_encode, data, n);
	return 0;
}
