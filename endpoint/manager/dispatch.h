/* SPDX-License-Identifier: Apache-2.0 */
/* Between the agent and the workers: which task goes to which worker, what happens to tasks whose worker is lost, what is given
 * back, and what the agent is told of our capacity.
 *
 * A task that was taken in ends in exactly one of: a RESULT (a worker's or one made here), kept until the agent acknowledges it; a
 * TASK_RETURN, when no worker has it; or our BYE, upon which the agent takes it for lost. */
#ifndef MANAGER_DISPATCH_H
#define MANAGER_DISPATCH_H
#include "common/loop.h"
#include "endpoint/manager/upstream.h"
#include "endpoint/manager/workers.h"

struct bulk;
struct dispatch;
struct files;
struct keep;
struct dispatch_opts {
	const char *node;		/* borrowed for life */
	const struct bulk *bulk;	/* borrowed for life; NULL = none */
	unsigned retries_on_loss;	/* of a worker, counted in the task's attempt */
	int64_t missing_ms;		/* how long a task waits for its function, with a session, before it is given back; 0 = 10,000 */
	const struct node *containers;	/* borrowed for life; NULL = none here */
	struct files *files;		/* borrowed for life; NULL = none here */
	struct keep *keep;		/* borrowed for life; NULL = no file can be left here */
	int64_t time_left_ms;		/* of this node, from now; 0 = unlimited */
	void (*session) (bool up, const struct msg_welcome *welcome, void *arg);	/* with the agent; welcome: when up */
	void (*empty) (void *arg);	/* drained: nothing in hand, all acknowledged; called once */
	void (*stopped) (void *arg);	/* after workers_stop */
	void *arg;
};
struct dispatch *dispatch_create (struct loop *l, const struct dispatch_opts *o);
void dispatch_destroy (struct dispatch **d);
void dispatch_connect (struct dispatch *d, struct upstream *u, struct workers *ws);	/* both borrowed, NULL = not there */
extern const struct upstream_ops dispatch_upstream_ops;		/* their arg is the dispatch */
extern const struct workers_ops dispatch_workers_ops;

/* By ourselves, before the node's time is over: tells the agent. */
void dispatch_drain (struct dispatch *d, uint32_t grace_ms);
/* The end, before workers_stop: takes nothing more and gives back what no worker has begun. */
void dispatch_stop (struct dispatch *d);

#endif
