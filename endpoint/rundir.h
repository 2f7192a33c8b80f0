/* SPDX-License-Identifier: Apache-2.0 */
/* Where managers meet the agent: a private directory for the ipc socket and the managers' directories. It is the endpoint's run/, or when
 * that path is too long for a unix socket a directory with a random name under $XDG_RUNTIME_DIR or /tmp, which is remembered in
 * run/short so that the next run can clean up after a crash. */
#ifndef ENDPOINT_RUNDIR_H
#define ENDPOINT_RUNDIR_H
#include <stdbool.h>
#include "common/err.h"
#include "endpoint/paths.h"

struct rundir { char *dir; bool is_short; char *note; };
int rundir_make (struct rundir *r, const struct paths *p, struct err *err);	/* removes leftovers first */
void rundir_fini (struct rundir *r);						/* removes what is left in it */

#endif
