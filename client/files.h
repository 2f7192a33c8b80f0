/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories that only their owner can read. */
#ifndef CLIENT_FILES_H
#define CLIENT_FILES_H
#include "common/err.h"

/* dir/name, replaced as a whole or not at all. */
int files_write (const char *dir, const char *name, const char *text, struct err *err);
/* With all directories above it; path is as it was when this returns. */
int files_make_dirs (char *path, struct err *err);

#endif
