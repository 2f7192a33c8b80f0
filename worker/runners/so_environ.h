/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of calls in this process: what it was started with, and on top of that the names that tell the task and those that the call
 * alone has (msg_resources.h). Whatever a call sets or unsets is gone after it; what an object sets while it is loaded stays. */
#ifndef WORKER_RUNNERS_SO_ENVIRON_H
#define WORKER_RUNNERS_SO_ENVIRON_H
#include "common/ids.h"
#include "proto/wire.h"

void so_environ_keep (void);	/* as it is now: each call begins with this */
void so_environ_begin (const struct id *task, struct wire_str own);	/* own: borrowed until so_environ_end */
void so_environ_end (void);

#endif
