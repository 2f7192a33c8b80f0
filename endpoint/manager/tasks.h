/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks in hand: each with the frame it came in, until a RESULT for it exists or it was given back.
 *
 * A task stands in exactly one list: the queue (FIFO), those waiting for their function, those waiting for a container (a list for each
 * pool, pools.h) or for their files, or a worker's. The frame is kept
 * while a worker has it, so that the task can be given to another worker; workers get a second reference, not a copy. */
#ifndef MANAGER_TASKS_H
#define MANAGER_TASKS_H
#include <zmq.h>
#include "proto/msg_task.h"

struct need;
struct save;
struct worker;
struct tasks;

struct task_list { struct task *head, *tail; size_t n; };

enum task_place { TASK_QUEUED, TASK_WAITING, TASK_POOLED, TASK_ASSIGNED };

struct task {
	struct id id, function;
	zmq_msg_t frame;		/* owned; the TASK record */
	enum task_place place;
	uint8_t attempt;		/* as in the frame */
	bool shared;			/* the frame was sent once: a copy is made before it is stamped again */
	bool solo;			/* was at a lost worker: runs alone, so that a task that kills workers harms no other */
	bool counted;			/* an attempt was counted here: not given back, the count would be lost */
	bool started;			/* a worker reported it as running */
	bool cancelled;			/* a CANCEL went to the worker */
	bool cold;			/* it waited for its container to start: the result says how long that took */
	bool blocks;			/* nothing is put behind it at its worker */
	bool files;			/* it brought a list of files */
	bool staged;			/* its files are here, and stand in the frame as the worker wants them */
	struct need *need;		/* owned; its files, until it is gone; NULL = none */
	struct save *save;		/* owned; while files that it made are being kept */
	uint32_t expected_ms;		/* as its submitter thinks; 0 = unknown */
	uint64_t seq;			/* order of arrival */
	int64_t since_ms;		/* when it came to its present place */
	struct worker *worker;		/* borrowed; NULL unless assigned */
	struct task *prev, *next;	/* in list */
	struct task_list *list;		/* borrowed */
};

struct tasks *tasks_create (void);
void tasks_destroy (struct tasks **ts);			/* and all tasks */

/* Put a task at the queue's end. frame: transferred, on success only (left empty). m: what msg_task_decode gave for it.
 * Returns the task, or NULL when one of this id is in hand: the first wins. */
struct task *tasks_add (struct tasks *ts, zmq_msg_t *frame, const struct msg_task *m, int64_t now_ms);
struct task *tasks_find (const struct tasks *ts, const struct id *id);	/* borrowed */
/* cb for each, in no order; it may drop that one and no other. Ends with the first answer that is not 0, and returns it. */
int tasks_each (const struct tasks *ts, int (*cb) (struct task *t, void *arg), void *arg);
struct task *tasks_queue_head (const struct tasks *ts);
struct task *tasks_waiting_head (const struct tasks *ts);
size_t tasks_count (const struct tasks *ts);
size_t tasks_queued (const struct tasks *ts);		/* in the queue */
size_t tasks_waiting (const struct tasks *ts);
size_t tasks_bytes (const struct tasks *ts);		/* of all frames */

/* To a worker's list, at its end. The frame gets the stamp manager_sent; out becomes a reference to it. */
int tasks_assign (struct tasks *ts, struct task *t, struct worker *w, struct task_list *list, int64_t now_ms, zmq_msg_t *out);
void tasks_requeue (struct tasks *ts, struct task *t, int64_t now_ms);	/* back to the queue, where it stood by its arrival */
void tasks_wait (struct tasks *ts, struct task *t, int64_t now_ms);	/* for its function */
void tasks_pool (struct tasks *ts, struct task *t, struct task_list *list, int64_t now_ms);	/* for a container or files, by arrival */
/* Another frame for it; transferred. */
void tasks_reframe (struct tasks *ts, struct task *t, zmq_msg_t *frame);
/* One more loss: raises attempt; -1 and nothing changed when `limit` losses were counted already. */
int tasks_count_loss (struct task *t, unsigned limit);
void tasks_drop (struct tasks *ts, struct task **t);	/* it ended or was given back */

#endif
