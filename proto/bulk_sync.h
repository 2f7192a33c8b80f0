/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that brings new files of the bulk store to disk within two seconds, much as Redis does with its append-only file: what Redis
 * remembers after a power failure then is there too. Files that are deleted within a second cost next to nothing. */
#ifndef PROTO_BULK_SYNC_H
#define PROTO_BULK_SYNC_H
#include "proto/bulk.h"

struct bulk_sync;
/* b: borrowed for life. NULL when there is no thread for it (logged); the other calls take that. */
struct bulk_sync *bulk_sync_create (const struct bulk *b);
void bulk_sync_add (struct bulk_sync *s, const char *name);	/* never blocks */
void bulk_sync_destroy (struct bulk_sync **s);			/* after what was added is on disk */

#endif
