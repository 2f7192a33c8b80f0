/* SPDX-License-Identifier: Apache-2.0 */
/* See outcome.h. */
#include "endpoint/outcome.h"
#include "proto/link.h"

#include <string.h>

void outcome_make (zmq_msg_t *out, const struct queue_task *t, const char *node, int status, enum err_code code, enum err_fault fault,
		   const char *text)
{
	struct msg_result r = {
		.status = (uint8_t) status, .fault = (uint8_t) fault, .code = (uint16_t) code, .attempt = t->attempt, .task = t->id,
		.error = wire_str (text, strlen (text)), .node = wire_str (node, strlen (node)),
	};
	zmq_msg_t *frame = (zmq_msg_t *) (uintptr_t) &t->frame;	/* zmq_msg_data takes no const */
	struct msg_task m;
	struct buf b;

	if (msg_task_decode (&m, zmq_msg_data (frame), zmq_msg_size (frame), NULL) == 0)
		memcpy (r.stamps, m.stamps, sizeof (m.stamps));
	buf_init (&b, 0);
	msg_result_encode (&b, &r, WIRE_MAJOR);
	link_msg_from_buf (out, &b);
}

int outcome_again (zmq_msg_t *out, const struct queue_task *t, const struct msg_task *m, struct wire_str earlier)
{
	struct msg_result r;
	struct buf b;

	if (msg_result_decode (&r, earlier.p, earlier.n, NULL) < 0 || (m->max_result_bytes && r.result.n > m->max_result_bytes))
		return -1;
	r.flags |= RESULT_MEMOISED;
	r.task = t->id;
	r.attempt = t->attempt;
	r.cpu_ns = r.max_rss_bytes = 0;		/* this call took none */
	memset (r.stamps, 0, sizeof (r.stamps));
	memcpy (r.stamps, m->stamps, sizeof (m->stamps));
	for (int i = STAMP_ENDPOINT_SENT; i < STAMP_TASK_SLOTS; i++)
		r.stamps[i] = 0;	/* of an attempt that came to nothing */
	buf_init (&b, 0);
	msg_result_encode (&b, &r, WIRE_MAJOR);
	if (buf_failed (&b)) {
		buf_fini (&b);
		return -1;
	}
	link_msg_from_buf (out, &b);
	return 0;
}
