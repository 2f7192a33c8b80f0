/* SPDX-License-Identifier: Apache-2.0 */
/* What comes through a runner's pipe: a stream of frames, and each body: SPEC.md, section 7. */
#include "proto/msg_function.h"
#include "proto/msg_runner.h"
#include "tests/fuzz/fuzz_msg.h"

struct start { struct id task; int64_t ns; };

/* The encoders write whole frames, the decoders take bodies: what is read must be one whole frame of the type. */
static int body_of (uint8_t want, const uint8_t *p, size_t n, struct wire_str *body)
{
	uint8_t type;
	return msg_runner_frame (p, n, &type, body, NULL) == (long) n && n > 0 && type == want ? 0 : -1;
}
static int call (struct msg_runner_call *m, const uint8_t *p, size_t n)
{
	struct wire_str body;
	return body_of ('C', p, n, &body) < 0 ? -1 : msg_runner_call_decode (m, body.p, body.n, NULL);
}
static int batch (struct msg_runner_batch *m, const uint8_t *p, size_t n)
{
	struct wire_str body;
	return body_of ('B', p, n, &body) < 0 ? -1 : msg_runner_batch_decode (m, body.p, body.n, NULL);
}
static void batch_encode (struct buf *b, const struct msg_runner_batch *m)
{
	struct msg_runner_input *in = calloc (m->n, sizeof (*in));
	struct msg_runner_batch rest = *m;
	for (uint32_t i = 0; in && i < m->n; i++)
		msg_runner_batch_next (&rest, &in[i]);
	msg_runner_batch_encode (b, m, in);
	free (in);
}
static int result (struct msg_runner_result *m, const uint8_t *p, size_t n)
{
	struct wire_str body;
	return body_of ('R', p, n, &body) < 0 ? -1 : msg_runner_result_decode (m, body.p, body.n, NULL);
}
static int start (struct start *m, const uint8_t *p, size_t n)
{
	struct wire_str body;
	return body_of ('S', p, n, &body) < 0 ? -1 : msg_runner_start_decode (&m->task, &m->ns, body.p, body.n, NULL);
}
#define START(b, m) msg_runner_start_encode (b, &(m)->task, (m)->ns)

/* The head of what a runner wrote: refused once is refused for good, whatever follows; what is told of its length is so; and no good frame is refused. */
static void head (const uint8_t *p, size_t n, bool ready)
{
	long told = 0;
	for (size_t i = 0; i <= n && i < 100 && told >= 0; i++) {
		uint8_t *cut = fuzz_copy (p, i);
		long now = msg_runner_head (cut, i, ready, NULL);
		FUZZ_DEMAND (!told || now == told);
		told = now;
		free (cut);
	}
	struct wire_str body;
	uint8_t type;
	long used = msg_runner_frame (p, n, &type, &body, NULL);
	FUZZ_DEMAND (msg_runner_head (p, n, ready, NULL) == told && (told <= 0 || used == 0 || used == told));
	if (used <= 0)
		return;
	struct start s;
	struct msg_runner_result r;
	bool good = result (&r, p, (size_t) used) == 0 || start (&s, p, (size_t) used) == 0;
	FUZZ_DEMAND (good ? told > 0 : told < 0 || type == 'R' || (type == 'I' && !ready));
}

static void stream (const uint8_t *data, size_t n)
{
	uint8_t *in = fuzz_copy (data, n), type;
	size_t at = 0;
	struct wire_str body;
	struct err err;
	long used;
	head (in, n, true);
	head (in, n, false);
	while ((used = msg_runner_frame (in + at, n - at, &type, &body, &err)) > 0) {
		FUZZ_DEMAND ((size_t) used <= n - at && body.n + 5 == (size_t) used);
		FUZZ_ROUND_TRIP (struct msg_runner_call, call, msg_runner_call_encode, in + at, (size_t) used);
		FUZZ_ROUND_TRIP (struct msg_runner_batch, batch, batch_encode, in + at, (size_t) used);
		FUZZ_ROUND_TRIP (struct msg_runner_result, result, msg_runner_result_encode, in + at, (size_t) used);
		FUZZ_ROUND_TRIP (struct start, start, START, in + at, (size_t) used);
		at += (size_t) used;
		head (in + at, n - at, true);
	}
	free (in);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	stream (data, n);
	return 0;
}
