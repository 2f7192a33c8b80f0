/* SPDX-License-Identifier: Apache-2.0 */
/* Ending tasks before their time. */
#ifndef SERVICE_CANCEL_H
#define SERVICE_CANCEL_H
#include "service/app.h"

/* outcome: 1 cancelled now, 0 had ended before, -1 unknown or not the owner's. Called from the loop. */
typedef void cancel_f (int outcome, const struct err *err, void *arg);
void cancel_task (struct app *a, const struct id *owner, const struct id *task, cancel_f *cb, void *arg);

#endif
