/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of the worker: all 0700, below its --dir. */
#ifndef WORKER_WORKDIR_H
#define WORKER_WORKDIR_H
#include <stddef.h>
#include "common/err.h"

int workdir_make (const char *path, struct err *err);	/* it and its parents; existing ones are fine */
/* Have an empty one: made when missing, all in it removed, links not followed. A large one is put aside as `PATH.left-1`, ..., and removed by a thread. */
int workdir_empty (const char *path, struct err *err);
void workdir_remove (const char *path);			/* a large one by a thread; a missing one is fine */
/* A file with these bytes, replacing what is there whole or not at all. */
int workdir_file (const char *path, const void *p, size_t n, int mode, struct err *err);

#endif
