/* SPDX-License-Identifier: Apache-2.0 */
/* Storing the tasks of one request, and waiting for them if asked to. What may be used was checked before; from here on it is
 * Redis' turn. See the states at the head of submission.c. */
#ifndef SERVICE_SUBMISSION_H
#define SERVICE_SUBMISSION_H
#include "service/call.h"
#include "service/limits.h"

struct submission_task {
	struct id task, function, endpoint;
	const char *payload;		/* borrowed from the request or body, or owned when is_json */
	uint32_t payload_bytes;
	bool is_json;
};

struct submission {			/* filled by the handler, then given to submission_start */
	struct call *call;
	struct jscan body;		/* owned: the payloads live in it, or in the request */
	struct submission_task *tasks;	/* owned; ids ascending, tasks of one endpoint beside each other */
	size_t ntasks;
	struct limits limits;
	struct buf files;		/* owned: for each of the tasks, a list of proto/msg_files.h; empty = none */
	struct buf resources;		/* owned: likewise, a record of proto/msg_resources.h */
	struct id group;
	bool group_given;
	bool watch;			/* the ends of the group are wanted: watch.h */
	int64_t wait_ms;
	bool fresh;			/* no earlier results */
	bool as_json, as_all;		/* results of kind globus: TASK_AS_JSON, TASK_AS_ALL */
	bool stamps;			/* show them in the results */
	enum { SUBMISSION_CLOSED, SUBMISSION_OPEN } results_allowed;	/* OPEN: head lacks its closing brace, results may follow */
	struct buf head;		/* the answer, complete but for that brace */
};

/* s: transferred, contents included (the struct itself is copied). Answers the call. */
void submission_start (const struct submission *s);

#endif
