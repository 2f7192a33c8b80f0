/* SPDX-License-Identifier: Apache-2.0 */
/* Watched task groups: the end of each of their tasks goes into the group's stream, where event streams, result pages and queues read
 * it (proto/SPEC.md, section 8.4). Nothing is paid for groups that nobody watches. */
#ifndef SERVICE_WATCH_H
#define SERVICE_WATCH_H
#include "service/app.h"

/* err NULL: from now on the stream has, or will have, the end of every task of the group, each once. From the loop. */
typedef void watch_f (const struct err *err, void *arg);
/* The group exists and is the caller's: group_check said so. What was submitted before is gone through, unless that was done already. */
void watch_group (struct app *a, const struct id *group, watch_f *cb, void *arg);
/* A group that was made together with a submission that failed. */
void watch_undo (struct app *a, const struct id *group);

/* Is it watched? From the loop. */
typedef void watched_f (bool watched, const struct err *err, void *arg);
void watch_ask (struct app *a, const struct id *group, watched_f *cb, void *arg);

#endif
