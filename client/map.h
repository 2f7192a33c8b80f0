/* SPDX-License-Identifier: Apache-2.0 */
/* One task per line of a file or pipe, however many: a window of lines is in hand at a time, results go out in the order of the lines. */
#ifndef CLIENT_MAP_H
#define CLIENT_MAP_H
#include "client/submit.h"

/* wait: print results; else the ids of the tasks, as soon as they are submitted. Returns the exit status. */
int map_run (const struct submit_opts *o, const char *fn, const char *ep, bool wait);

#endif
