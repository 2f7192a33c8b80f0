/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a task, as they stand in FUNCTION, TASK and the queue record: SPEC.md, section 3.7. */
#ifndef PROTO_MSG_FILES_H
#define PROTO_MSG_FILES_H
#include "proto/wire.h"

#define FILES_MAX 64			/* entries of a list */
#define FILES_MAX_BYTES 32768		/* a list */
#define FILES_NAME_MAX 255
#define FILES_URL_MAX 2048
#define FILES_DIGEST 32			/* SHA-256 */
#define FILES_DATA_MAX (16u << 20)	/* what comes with a result, names included */
#define FILES_DIGEST_TEXT (2 * FILES_DIGEST + 1)
#define FILES_KEPT_MAX 65536		/* list of files that were left on the endpoint */
#define FILES_PATH_MAX 1024		/* of one of them */
#define FILES_KEPT_DIR "kept-"		/* and the task id: in a worker's directory, for the manager to take from */

#define FILES_OUTPUT_PARTS ".weft-%u"	/* in files.output_dir, with the user id: what managers write */
#define FILES_OUTPUT_TOTAL ".total"	/* below that: what tasks left there takes (common/tally.h) */

/* Outputs have a pattern for a name, and no URL. An output comes with the result, a kept one is left in a directory of the endpoint. */
enum msg_file_kind { FILE_INPUT = 1, FILE_OUTPUT = 2, FILE_KEEP = 3 };
enum { FILE_HAS_DIGEST = 1 };		/* flags */

struct msg_file {
	uint8_t kind, flags;		/* newer kinds may come: who does not know one says so */
	uint8_t digest[FILES_DIGEST];
	uint64_t max_bytes;		/* 0 = the endpoint's limit */
	struct wire_str name, url;	/* slices of the list */
};

/* Append an entry; what is over its limit makes the buffer fail. */
void msg_files_add (struct buf *list, const struct msg_file *f);
/* The next entry; the list gets shorter. 1, 0 at its end, -1: malformed. */
int msg_files_next (struct wire_str *list, struct msg_file *out, struct err *err);
/* The whole list: it can be read, it has no more than FILES_MAX entries, their names are good and unlike each other, URLs as well. */
int msg_files_check (struct wire_str list, struct err *err);
/* All inputs have a digest: an equal list then means equal data. The list was checked. */
bool msg_files_fixed (struct wire_str list);

bool msg_files_has_outputs (struct wire_str list);	/* of either kind */
bool msg_files_has_kept (struct wire_str list);

/* Files that come with a RESULT: names and data, one after the other. */
void msg_files_data_add (struct buf *files, struct wire_str name, struct wire_str data);
/* The next one, as msg_files_next. */
int msg_files_data_next (struct wire_str *files, struct wire_str *name, struct wire_str *data, struct err *err);

struct msg_kept { struct wire_str path, name; uint64_t bytes; };	/* name: the last part of the path */
/* Files that a RESULT says were left on the endpoint. path: a name while the worker has it, then an absolute path. */
void msg_files_kept_add (struct buf *kept, struct wire_str path, uint64_t bytes);
/* The next one, as msg_files_next. */
int msg_files_kept_next (struct wire_str *kept, struct msg_kept *out, struct err *err);

/* A plain name: UTF-8 without control characters and slashes, not "." nor "..", and not beginning with ".weft". */
int msg_files_name_ok (struct wire_str name, struct err *err);
/* http, https or file; printable ASCII; a host, or a path from the root; without user, password and fragment. */
int msg_files_url_ok (struct wire_str url, struct err *err);
bool msg_files_digest_parse (uint8_t digest[FILES_DIGEST], const char *text, size_t n);	/* 64 hexadecimal digits */
const char *msg_files_digest_text (const uint8_t digest[FILES_DIGEST], char out[FILES_DIGEST_TEXT]);
/* For people: what may be secret (the query) is left out, long ones are cut. */
const char *msg_files_url_text (struct wire_str url, char *out, size_t room);

#endif
