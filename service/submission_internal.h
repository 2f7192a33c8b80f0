/* SPDX-License-Identifier: Apache-2.0 */
/* A submission under way, and what submission.c (its way from the claim to the answer), submission_chunk.c (its tasks into Redis) and
 * submission_undo.c (and out of it again) call of each other. Nobody else includes this. */
#ifndef SERVICE_SUBMISSION_INTERNAL_H
#define SERVICE_SUBMISSION_INTERNAL_H
#include "service/idem.h"
#include "service/submission.h"

#define SUBMISSION_DOUBT_MS 10000	/* how long the answer is held back while Redis is away */
#define SUBMISSION_IN_PROGRESS "a request with this Idempotency-Key is being worked on"

struct op {
	struct submission s;		/* call NULL once answered */
	struct app *app;
	struct id owner;
	int64_t received_ns;
	char peer[46];
	bool has_idem, group_key, stored, counted;
	bool taken_over;		/* another process began it: some tasks may be queued, or have run, under these ids */
	struct idem idem;
	size_t sent, acked;		/* tasks in chunks given to Redis, and acknowledged */
	size_t touched;			/* of these something may stand in Redis or the bulk store */
	bool queued;			/* and be queued, or have been: not payloads alone, which hurt nobody */
	size_t pending;			/* replies that will come with this op as argument */
	enum fail why;			/* of the first failure in this step */
	struct err err;			/* code NONE: none */
	int64_t doubt_until_ms;
	struct loop_timer *look, *again;
	bool told;			/* Redis did not know the endpoint of this chunk, and was told of it */
	struct waiter *waiter;
	bool waiting, time_over, results_full;
	size_t nresults;
	struct buf results;
};

/* submission.c */
void submission_fail_err (struct op *o, const struct err *err);			/* the first failure of a step stays */
void submission_fail_as (struct op *o, enum fail why, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));
const char *submission_kept (const struct op *o);	/* for its text: what stays of a submission that is refused now */
void submission_fail (struct op *o);		/* takes back what was stored, and answers with it. o: gone when idle */
void submission_refuse (struct op *o);		/* answers with it, no more. o: gone when idle */
void submission_stored (struct op *o);		/* everything is in Redis. o: gone when idle */
void submission_release (struct op *o);		/* frees it when it is answered and no reply is to come */

/* submission_chunk.c */
/* Stores the tasks that are not acknowledged, chunk after chunk; ends in submission_stored or submission_fail. */
void submission_chunk_next (struct op *o);
/* Tasks from `from` that go in one chunk: the same endpoint. */
size_t submission_chunk_end (const struct op *o, size_t from);
bool submission_goes_bulk (const struct op *o, const struct submission_task *t);

/* submission_undo.c */
void submission_undo (struct op *o);		/* ends in submission_refuse */

#endif
