/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks as clients see them, appended to a buffer as JSON.
 *
 * DOC_V2 is what Globus Compute's SDK reads: no result, exception or completion_t while pending (it takes completion_t for
 * "finished"), completion_t as text, a cancelled task is "failed" with a reason. DOC_V3 adds where and how it ran. */
#ifndef SERVICE_TASKDOC_H
#define SERVICE_TASKDOC_H
#include "common/buf.h"
#include "proto/layout.h"

struct bulk;
enum doc_kind { DOC_V2, DOC_V3 };

struct doc_task {
	struct id task;
	int state;
	const struct layout_meta *meta;		/* NULL: not known, DOC_V3 then lacks ids */
	const struct msg_result *result;	/* NULL while pending */
	bool endpoint_offline;			/* all that have not ended are shown as waiting-for-ep */
	const char *waiting_reason;		/* why tasks wait at its endpoint; NULL: not known */
	bool stamps;				/* add "stamps": {name: ns} */
	bool brief;				/* of a success only the result, not where and how it ran */
	const struct bulk *bulk;		/* where large results stand, or NULL */
	uint64_t by_reference;			/* the result of about so many bytes is left out, and where it can be had is told; 0: it is there */
};
void doc_add (struct buf *b, enum doc_kind kind, const struct doc_task *t);
/* {task_id, status, stamps, spans, total_us}; pending tasks have received only. */
void doc_trace (struct buf *b, const struct doc_task *t);
/* One line of a list: no result. */
void doc_brief (struct buf *b, const struct doc_task *t);
/* A finished task as the SDK's Executor gets it from its queue: byte 1 and a line of JSON. Returns when it was completed (ns). */
int64_t doc_message (struct buf *b, const struct doc_task *t);
const char *doc_status (enum doc_kind kind, int state, bool endpoint_offline);

#endif
