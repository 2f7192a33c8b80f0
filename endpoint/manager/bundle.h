/* SPDX-License-Identifier: Apache-2.0 */
/* This program and its worker with all that they need to start in any Linux image of this architecture: their shared libraries and their loader.
 *
 *     DIR/ld.so --library-path DIR/lib DIR/weft-manager ...
 *
 * packaging/bundle makes one for containers on a host, of the worker alone; this one is made where the programs run, in a pod whose other
 * container has an image of the user's (providers/kubespec.h). */
#ifndef MANAGER_BUNDLE_H
#define MANAGER_BUNDLE_H
#include "common/err.h"

/* dir: is there, or can be made in one that is; what it has of an earlier try is replaced. Readable by all: the other container has another
 * user. Blocks. */
int bundle_make (const char *dir, struct err *err);
/* Is this the program of a bundle, started by its loader? Then the loader; NULL otherwise. own: the path of what runs (/proc/self/exe). */
const char *bundle_loader (const char *own);

#endif
