/* SPDX-License-Identifier: Apache-2.0 */
/* Removing trees of files, whoever made them and whatever they hold: links are not followed, closed directories are opened, no depth is
 * too much, and what another file system is mounted on is left alone. They block. 0/-1 with errno: something is left. */
#ifndef COMMON_TREE_H
#define COMMON_TREE_H

int tree_empty (int top);		/* a descriptor of the directory, which stays */
int tree_empty_few (int top, unsigned most);	/* 1: it has more entries than that, some of which are left */
int tree_remove (const char *path);	/* a file too; a missing one is fine */

#endif
