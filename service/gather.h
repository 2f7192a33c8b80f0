/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the state of tasks, one or very many, and waiting for those that have not ended. Tasks of other people look like unknown
 * ones. */
#ifndef SERVICE_GATHER_H
#define SERVICE_GATHER_H
#include "service/app.h"
#include "service/taskdoc.h"

struct gather;
struct gather_ops {
	/* Each task once: when it has ended, or at the end with its last known state. All borrowed. */
	void (*on_task) (const struct doc_task *t, void *arg);
	void (*on_unknown) (const struct id *task, void *arg);
	/* err: Redis failed; tasks may be missing then. The gather is gone afterwards. */
	void (*on_end) (const struct err *err, void *arg);
};
/* ids: copied, doubles are read once. ops are called from the loop. */
struct gather *gather_start (struct app *a, const struct id *owner, const struct id *ids, size_t n, int64_t wait_ms, const struct gather_ops *ops,
			     void *arg);
void gather_hurry (struct gather *g);	/* wait no longer */
/* With waiting: end as soon as one task has ended, and report only those that ended by then. Call it right after gather_start. */
void gather_any (struct gather *g);

#endif
