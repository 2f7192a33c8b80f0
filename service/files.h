/* SPDX-License-Identifier: Apache-2.0 */
/* The members "files" and "outputs" of functions and submissions: an array of {name, url, sha256, max_bytes}, which the endpoint brings to the task's
 * work directory; and an array of names or patterns of files there, which come back with the result, or, as {name, keep: true}, are left in a
 * directory of the endpoint. In records they stand as a list of proto/msg_files.h. */
#ifndef SERVICE_FILES_H
#define SERVICE_FILES_H
#include "service/json.h"

#define FILES_TASK_BYTES 8192	/* a list of a submission, which stands with each of its tasks */

/* Check and read. list: initialised; what was given is appended, within max_bytes. Returns it in its plain form, owned by the caller, NULL when
 * there is none or it is wrong. */
json_t *files_read (struct check *k, const json_t *body, size_t max_bytes, struct buf *list);
/* The same for "outputs"; after files_read. */
json_t *outputs_read (struct check *k, const json_t *body, size_t max_bytes, struct buf *list);
/* Of forms that files_read and outputs_read returned; both may be NULL. */
bool outputs_keep (const json_t *outputs);	/* one of these is kept; NULL: none */
void files_pack (const json_t *files, const json_t *outputs, struct buf *list);

#endif
