/* SPDX-License-Identifier: Apache-2.0 */
/* The records that stand in Redis: meta, queue record, done and ended message: SPEC.md, section 8. */
#include "proto/layout.h"
#include "tests/fuzz/fuzz_msg.h"

#define META(m, p, n) layout_meta_decode (m, p, n, &err)
#define QUEUED(m, p, n) layout_queued_decode (m, p, n, &err)
#define DONE(m, p, n) layout_done_decode (m, p, n, &err)
#define ENDED(m, p, n) layout_ended_decode (m, p, n, &err)

static void done_encode (struct buf *b, const struct layout_done *d)
{
	wire_put_id (b, &d->task);
	wire_put_u8 (b, d->state);
	buf_add (b, d->record.p, d->record.n);
}

static void ended_encode (struct buf *b, const struct layout_ended *d)
{
	wire_put_id (b, &d->task);
	wire_put_u8 (b, d->state);
	wire_put_u8 (b, (uint8_t) d->position.n);
	wire_put_u8 (b, (uint8_t) d->meta.n);
	buf_add (b, d->position.p, d->position.n);
	buf_add (b, d->meta.p, d->meta.n);
	buf_add (b, d->record.p, d->record.n);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct err err;
	FUZZ_ROUND_TRIP (struct layout_meta, META, layout_meta_encode, data, n);
	FUZZ_ROUND_TRIP (struct layout_queued, QUEUED, layout_queued_encode, data, n);
	FUZZ_ROUND_TRIP (struct layout_done, DONE, done_encode, data, n);
	FUZZ_ROUND_TRIP (struct layout_ended, ENDED, ended_encode, data, n);
	return 0;
}
