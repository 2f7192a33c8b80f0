/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a call that has files: made for it, with its input files in it as links to the node's cache, and emptied after it.
 * A worker makes one call at a time, so there is one: `task` in its own directory. */
#ifndef WORKER_TASKDIR_H
#define WORKER_TASKDIR_H
#include "proto/msg_files.h"

#define TASKDIR_NAME "task"

/* files_dir: where the files stand by SHA-256; NULL = this worker has none. */
int taskdir_make (const char *path, const char *files_dir, struct wire_str files, struct err *err);
/* The outputs that the list names: as they come with a result appended to out, within max_bytes; those that are kept, their names and sizes, to kept.
 * -1: one that has to be there is not, or they are too many or too large. */
int taskdir_take (const char *path, struct wire_str files, size_t max_bytes, struct buf *out, struct buf *kept, struct err *err);
/* The whole directory is put aside, in dir, for the manager to take what is kept; and removed when it has. */
int taskdir_keep (const char *path, const char *dir, const struct id *task, struct err *err);
void taskdir_drop (const char *dir, const struct id *task);

#endif
