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
