/* SPDX-License-Identifier: Apache-2.0 */
/* A hash map from a fixed 16-byte id to a pointer, open addressing, for hot paths. Keys are UUIDs whose
 * low bytes are random, but peers choose ids, so they are mixed with a per-process random key. */
#ifndef COMMON_MAP_H
#define COMMON_MAP_H
#include <stddef.h>
#include "common/ids.h"

struct map;
struct map *map_create (void);
void map_destroy (struct map **m);			/* values are borrowed: not freed */
/* Values are owned: drop is called for each, free for plain ones. *m may be NULL. */
void map_destroy_owned (struct map **m, void (*drop) (void *v));
/* The same, and an empty one takes its place. drop NULL: values are borrowed. */
void map_empty (struct map **m, void (*drop) (void *v));
void *map_get (const struct map *m, const struct id *k);	/* NULL: absent */
/* k will be asked for after some other work: its place in a large map is on the way to the cache then. */
void map_prefetch (const struct map *m, const struct id *k);
void *map_put (struct map *m, const struct id *k, void *v);	/* v not NULL; returns the value replaced or NULL */
void *map_del (struct map *m, const struct id *k);		/* returns the value removed or NULL */
size_t map_size (const struct map *m);
/* Visit all; cb returns non-zero to stop, which is returned. cb may delete the visited key and no other; it must not put. */
int map_each (struct map *m, int (*cb) (const struct id *k, void *v, void *arg), void *arg);

#endif
