/* SPDX-License-Identifier: Apache-2.0 */
/* Which image a reference leads to, in words that change with it: the digest (SPEC.md, 3.3). A text of one line without spaces; "" when
 * it cannot be told. What a runtime keeps itself it is asked for (`exists`); of a file or a directory tree it is made here. */
#ifndef MANAGER_CONTAINERS_IDENTITY_H
#define MANAGER_CONTAINERS_IDENTITY_H
#include "common/ids.h"
#include "endpoint/manager/containers/runtime.h"

enum { IDENTITY_MAX = 128 };

/* Of a file: inode, size, times. Of a tree: a hash of these of all that is in it, on its own file system. Reads no content, but may take
 * long on a file system that does: in a process of its own (weft-manager --identify). -1: there is none. */
int identity_of_path (const char *path, char out[IDENTITY_MAX], struct err *err);
/* The command that prints it, program: weft-manager's own path. False: nothing tells which image it is. */
bool identity_command (const struct runtime *rt, const char *image, const char *program, struct args *a);
/* From what that command printed. */
void identity_read (const char *text, size_t n, char out[IDENTITY_MAX]);
struct id identity_id (const char *digest);	/* the image id of a digest; zero for "" */

#endif
