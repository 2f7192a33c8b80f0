/* SPDX-License-Identifier: Apache-2.0 */
/* The manager's directory: the socket of the workers and a work directory for each, made at start, removed at the end.
 *
 *     DIR/w.sock      the workers' socket (in a short directory under /tmp when this path is too long for a socket)
 *     DIR/run/w.sock  the same for workers in containers, which may be other users (made by rooms_open; beside the former, when that is short)
 *     DIR/w<k>        work directory of worker k
 *     DIR/c<k>.log    what its container said
 *     DIR/old-<n>     one that is being removed */
#ifndef MANAGER_ROOMS_H
#define MANAGER_ROOMS_H
#include "common/loop.h"

struct rooms;
/* Makes dir (0700) and removes what an earlier manager left there. Refuses a directory that belongs to somebody else. */
struct rooms *rooms_create (struct loop *l, const char *dir, struct err *err);
void rooms_destroy (struct rooms **r);				/* removes what rooms_create and rooms_work made */
const char *rooms_dir (const struct rooms *r);			/* absolute; borrowed */
const char *rooms_socket (const struct rooms *r);		/* "ipc://..."; borrowed */
/* The directory for the socket of containers. Others can go through it and nothing else; they cannot come to it through DIR. */
const char *rooms_open (struct rooms *r, struct err *err);	/* absolute; borrowed; NULL: *err */
/* A fresh work directory for worker k; the one before is removed in the background. out: owned by the caller, free. */
char *rooms_work (struct rooms *r, unsigned k, struct err *err);
char *rooms_path (const struct rooms *r, unsigned k);		/* of worker k; owned by the caller, free */
void rooms_clear (struct rooms *r, unsigned k);			/* remove it, in the background */

#endif
