/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of spawn.c: starting a child with vfork, for what posix_spawn cannot set. */
#ifndef COMMON_SPAWN_TIED_H
#define COMMON_SPAWN_TIED_H
#include "common/spawn.h"

/* tmp: our copies of o->fds in their order, above `top`, the highest descriptor that the child has. */
int spawn_tied_start (const struct spawn_opts *o, const int *tmp, int top, char *const *env, pid_t *pid, struct err *err);

#endif
