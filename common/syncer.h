/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that brings files of one directory to disk, away from the loop, since that may block for seconds. It shares names only.
 *
 * With a delay each pass works on what was added in the pass before: files that are gone by then cost next to nothing. Many files
 * at once are synced by one call for their whole file system, which is cheaper than a journal commit for each. */
#ifndef COMMON_SYNCER_H
#define COMMON_SYNCER_H
#include <stdbool.h>
#include <stdint.h>

enum { SYNCER_NAME_MAX = 63 };

struct syncer;
/* Whether there is anything in the file that was added that stands there since age_ms, or longer. Called by the thread. */
typedef bool syncer_wanted_f (int dirfd, const char *name, int64_t age_ms);
/* Of each such file, when it is on disk: but not when many files at once were. Called by the thread. */
typedef void syncer_synced_f (int fd, const char *name);
/* dirfd: duplicated. delay_ms: between passes; 0 = at once. what: for the log, as "spool"; borrowed for life. wanted: NULL: whatever is
 * there. synced: may be NULL.
 * NULL when there is no thread for it, or no descriptor (logged); the other calls take that. */
struct syncer *syncer_create (int dirfd, int64_t delay_ms, const char *what, syncer_wanted_f *wanted, syncer_synced_f *synced);
void syncer_add (struct syncer *s, const char *name);	/* a file in the directory, at most SYNCER_NAME_MAX long; never blocks */
void syncer_destroy (struct syncer **s);		/* after what was added is on disk */

#endif
