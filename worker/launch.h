/* SPDX-License-Identifier: Apache-2.0 */
/* The last step before code of users: our own binary again, which binds itself to the worker's life and sets limits, then
 * becomes the program. posix_spawn cannot do these; fork in a process with ZeroMQ threads may not. */
#ifndef WORKER_LAUNCH_H
#define WORKER_LAUNCH_H

#define LAUNCH_CANNOT_RUN 127	/* exit status: the program cannot be started; the reason is on its standard error */

int launch_main (int argc, char **argv);	/* `weft-worker launch --parent-pid N -- PROGRAM...` */
/* argv of the launcher for argv; the array is owned by the caller, its strings are borrowed. */
const char **launch_argv (const char *const *argv);
const char *launch_self (void);			/* path of this program */

#endif
