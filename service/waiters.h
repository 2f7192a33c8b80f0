/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that wait for tasks to end. Each process has a name and listens on the channel weft:done:<name>; tasks carry the names
 * of those who wait (proto/SPEC.md, section 8). A waiter is one request, waiting for any number of tasks.
 *
 * No wake-up is lost: submissions carry the name from the start, late waiters register in the script that reads the state, and
 * after the channel was cut all tasks that are waited for are read again. */
#ifndef SERVICE_WAITERS_H
#define SERVICE_WAITERS_H
#include "common/rds.h"
#include "proto/layout.h"

struct waiters;
struct waiter;
struct waiter_ops {
	/* A task ended. m: borrowed. pushed: from the channel, so service_result may be stamped. The waiter may not be destroyed here. */
	void (*on_result) (struct waiter *w, const struct id *task, int state, const struct msg_result *m, bool pushed, void *arg);
	/* Redis does not know the task (any more). */
	void (*on_gone) (struct waiter *w, const struct id *task, void *arg);
	/* Nothing is left, or the time is over. The waiter may be destroyed here. Called once. */
	void (*on_end) (struct waiter *w, bool time_over, void *arg);
};

struct waiters *waiters_create (struct loop *l, struct rds *commands, const char *redis_url, const char *password_file, struct err *err);
void waiters_destroy (struct waiters **ws);		/* after all waiters and after the commands connection */
const char *waiters_instance (const struct waiters *ws);
size_t waiters_count (const struct waiters *ws);	/* requests that wait */
bool waiters_up (const struct waiters *ws);
void waiters_commands_up (struct waiters *ws);		/* the commands connection came back */
/* The process stops: all that wait are answered with what there is. */
void waiters_end_all (struct waiters *ws);

/* hold: tasks are not stored yet; they are not looked up before waiter_release. */
struct waiter *waiter_create (struct waiters *ws, const struct waiter_ops *ops, void *arg, bool hold);
void waiter_add (struct waiter *w, const struct id *task);
void waiter_drop (struct waiter *w, const struct id *task);	/* it had ended already */
size_t waiter_left (const struct waiter *w);
/* All tasks are in Redis. */
void waiter_release (struct waiter *w);
/* The clock runs; on_end follows, never from inside this call. */
void waiter_start (struct waiter *w, int64_t timeout_ms);
void waiter_destroy (struct waiter **w);

#endif
