/* SPDX-License-Identifier: Apache-2.0 */
/* The member "files" of functions and submissions: an array of {name, url, sha256, max_bytes}, which the endpoint brings to the task's
 * work directory. In records they stand as a list of proto/msg_files.h. */
#ifndef SERVICE_FILES_H
#define SERVICE_FILES_H
#include "service/json.h"

#define FILES_TASK_BYTES 8192	/* a list of a submission, which stands with each of its tasks */

/* Check and read. list: initialised; what was given is appended, within max_bytes. Returns it in its plain form, owned by the caller, NULL when
 * there is none or it is wrong. */
json_t *files_read (struct check *k, const json_t *body, size_t max_bytes, struct buf *list);
/* Of a form that files_read returned. */
void files_pack (const json_t *files, struct buf *list);

#endif
