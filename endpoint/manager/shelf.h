/* SPDX-License-Identifier: Apache-2.0 */
/* The directory in which tasks leave files (files.output_dir): copied there from the directory of a call, whole or not at all.
 *
 *     DIR/<task id>/NAME        what a task left; <task id>.2, ... when an earlier attempt, whose result was lost, has left its own
 *     DIR/.weft-UID/<id>/       what is being written
 *     DIR/.weft-UID/<id>.lock   locked by who writes it; one that nobody locks is left over, and goes when the next one writes
 *     DIR/.weft-UID/.total      where there is a bound for all: what they take together (common/tally.h)
 *
 * Managers share it. Functions made what is copied, and may be doing anything with it meanwhile: no link is followed on either side. */
#ifndef MANAGER_SHELF_H
#define MANAGER_SHELF_H
#include "proto/msg_files.h"

struct shelf_limits {
	uint64_t task_bytes;		/* what a task may leave */
	uint64_t total_bytes;		/* what all of this user may; 0 = no bound */
	uint64_t free_bytes;		/* so much of the file system stays free */
};

struct shelf_put {
	const char *dir;		/* borrowed, as what follows */
	const char *from;		/* the worker's room, which is ours */
	const char *inner;		/* its directory below that: FILES_KEPT_DIR and the task id is in it; "" = the room */
	struct shelf_limits limits;
	struct id task;
	struct wire_str kept;		/* as the worker named them */
	bool (*stop) (void *arg);	/* asked between pieces; true: give up */
	void *arg;
};
/* kept: appended, with absolute paths. Any thread. -1: nothing was left, *err is for the submitter. */
int shelf_put (const struct shelf_put *p, struct buf *kept, struct err *err);

#endif
