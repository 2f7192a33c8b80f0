/* SPDX-License-Identifier: Apache-2.0 */
/* See adapt.h. Costs a copy, which only sessions with old peers pay. */
#include "proto/adapt.h"
#include "proto/link.h"
#include "proto/msg_result.h"
#include "proto/msg_task.h"

static void replace (zmq_msg_t *record, struct buf *b)
{
	if (buf_failed (b)) {
		buf_fini (b);
		return;		/* no memory: the newer form goes out, of which old peers ignore what they do not know */
	}
	zmq_msg_close (record);
	link_msg_from_buf (record, b);
}

void adapt_task (zmq_msg_t *record, int major)
{
	struct msg_task m;
	struct buf b;

	if (major >= WIRE_MAJOR || msg_task_decode (&m, zmq_msg_data (record), zmq_msg_size (record), NULL) < 0)
		return;
	buf_init (&b, WIRE_MAX_RECORD);
	msg_task_encode (&b, &m, major);
	replace (record, &b);
}

void adapt_result (zmq_msg_t *record, int major)
{
	struct msg_result m;
	struct buf b;

	if (major >= WIRE_MAJOR || msg_result_decode (&m, zmq_msg_data (record), zmq_msg_size (record), NULL) < 0)
		return;
	buf_init (&b, WIRE_MAX_RECORD);
	msg_result_encode (&b, &m, major);
	replace (record, &b);
}
