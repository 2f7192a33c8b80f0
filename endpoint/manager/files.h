/* SPDX-License-Identifier: Apache-2.0 */
/* The files that tasks want, brought to the node's cache (filecache.h) by threads (download.c): what several tasks want is brought once.
 *
 *     a task's need     its list of files, of the function and its own; counts those that are not here
 *     job               one file that is being brought, with the needs that wait for it; without any it stops
 *     entry             a file that is here and held, for as long as a need has it
 *
 * The cache's directory is made when it is first wanted. From the loop only, but for what the threads do. */
#ifndef MANAGER_FILES_H
#define MANAGER_FILES_H
#include "common/loop.h"
#include "proto/msg_files.h"

struct files_opts {
	const char *dir;		/* copied; of the cache */
	const char *ca_file;		/* borrowed for life, as what follows; NULL = the system's */
	const char *const *from;	/* see download.h */
	int64_t cache_bytes, max_bytes, timeout_ms;
	unsigned parallel;
	bool http;
	bool keeps;			/* tasks may leave files: keep.h */
};

struct files;
struct files *files_create (struct loop *l, const struct files_opts *o, struct err *err);
void files_destroy (struct files **f);		/* after all needs */
const char *files_content (const struct files *f);	/* the directory in which the files stand, by SHA-256, when there were some */
int files_use (struct files *f, struct err *err);	/* it has to be there now, to be mounted */

struct need;
/* All files of a need are here, or (err) one cannot be had; called once a need, from the loop. May drop it. owner: as given to need_create. */
typedef void files_f (void *owner, const struct err *err, void *arg);
void files_connect (struct files *f, files_f *done, void *arg);

/* Lists as they stand in FUNCTION and TASK; a task's file is taken for one of the function with its name. NULL with *err when they cannot be used.
 * When all are here already, need_ready is true and there is no call. */
struct need *need_create (struct files *f, struct wire_str function, struct wire_str task, void *owner, struct err *err);
void need_drop (struct need **n);
bool files_full (const struct files *f);	/* it holds many: better begin no other need before some are dropped */
bool need_ready (const struct need *n);
/* What the worker gets: names, with what they are. */
void need_list (const struct need *n, struct buf *list);
/* What was brought for it. */
struct need_told { unsigned fetched; uint64_t bytes; int64_t ms; };
void need_tell (const struct need *n, struct need_told *out);

#endif
