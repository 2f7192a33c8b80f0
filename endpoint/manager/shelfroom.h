/* SPDX-License-Identifier: Apache-2.0 */
/* Is there room in the directory in which tasks leave files (shelf.h)? It has two bounds: what all that stands there may take together, and what must stay
 * free on its file system. A file gets its size before it is written, so that whoever counts sees what is under way too. */
#ifndef MANAGER_SHELFROOM_H
#define MANAGER_SHELFROOM_H
#include "endpoint/manager/shelf.h"

struct shelfroom {
	const struct shelf_put *p;	/* borrowed: bounds, and when to stop */
	int top, parts;			/* borrowed: the directory, and that of what is written */
	uint64_t taken;			/* the total has it for these files */
};

/* The file fd of `parts`, `name` for people, is to have `size` bytes; it gets them. */
int shelfroom_take (struct shelfroom *r, int fd, uint64_t size, const char *name, struct err *err);
int shelfroom_left (const struct shelfroom *r, const char *name, struct err *err);	/* still: others write to the file system too */
int shelfroom_shrink (struct shelfroom *r, int fd, uint64_t size, const char *name, struct err *err);	/* it has less after all */
void shelfroom_drop (struct shelfroom *r);	/* all that was taken; what was written is about to be removed */

#define SHELF_NAME_SHOWN 80
int shelfroom_failed (struct err *err, const char *what, const char *name);	/* -1 with *err, for errno, which stays */

#endif
