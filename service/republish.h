/* SPDX-License-Identifier: Apache-2.0 */
/* What Redis knows of endpoints: their keys and owners for the forwarders, the list of all, control messages. Redis may be empty
 * when it comes back, or have missed a deletion, so one worker sets it right after each connect. */
#ifndef SERVICE_REPUBLISH_H
#define SERVICE_REPUBLISH_H
#include "service/app.h"

/* cb: of the last command. */
void republish_endpoint (struct app *a, const struct reg_endpoint *e, rds_f *cb, void *arg);
void republish_lock (struct app *a, const struct id *endpoint, int64_t until_ms, rds_f *cb, void *arg);	/* real time */
void republish_deleted (struct app *a, const struct id *endpoint, rds_f *cb, void *arg);
/* A message in its control stream. of: the task or function that it is about; NULL = of the endpoint itself. */
void republish_control (struct app *a, const struct id *endpoint, const char *what, const struct id *of, rds_f *cb, void *arg);
void republish_all (struct app *a);

#endif
