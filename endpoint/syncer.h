/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that calls fdatasync, which may block for seconds, away from the loop. It shares nothing but duplicates of descriptors. */
#ifndef ENDPOINT_SYNCER_H
#define ENDPOINT_SYNCER_H
#include <stdbool.h>

struct syncer;
struct syncer *syncer_create (void);
void syncer_destroy (struct syncer **s);		/* finishes what was added */
bool syncer_add (struct syncer *s, int fd);		/* fd is duplicated; false: too much waits, try again */

#endif
