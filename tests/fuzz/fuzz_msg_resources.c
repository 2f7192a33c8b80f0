/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes that a task asks for, and the environment of its call: SPEC.md, section 3.8. */
#include "proto/msg_resources.h"
#include "tests/fuzz/fuzz_msg.h"

#define RESOURCES(m, p, n) msg_resources_decode (m, p, n, &err)

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct err err;
	struct msg_resources m;
	struct wire_str entry;
	FUZZ_ROUND_TRIP (struct msg_resources, RESOURCES, msg_resources_encode, data, n);
	if (RESOURCES (&m, data, n) == 0)
		while (msg_resources_environ_next (&m.environ, &entry))
			FUZZ_DEMAND (strlen (entry.p) == entry.n && memchr (entry.p, '=', entry.n));
	return 0;
}
