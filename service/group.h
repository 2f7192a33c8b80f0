/* SPDX-License-Identifier: Apache-2.0 */
/* Task groups. A lone task is its own group and has no key of its own (proto/SPEC.md, section 8). */
#ifndef SERVICE_GROUP_H
#define SERVICE_GROUP_H
#include "service/app.h"
#include "service/fail.h"

enum group_state { GROUP_UNKNOWN, GROUP_FORBIDDEN, GROUP_LONE, GROUP_LISTED };
/* From the loop, once. created_ns: 0 for unknown ones. */
typedef void group_f (enum group_state state, int64_t created_ns, const struct err *err, void *arg);
void group_check (struct app *a, const struct id *owner, const struct id *group, group_f *cb, void *arg);
/* 0, or -1 for one that is not known or is another's, with *why and *err as the client shall have it. */
int group_allowed (enum group_state state, const struct id *group, enum fail *why, struct err *err);

#endif
