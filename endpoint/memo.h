/* SPDX-License-Identifier: Apache-2.0 */
/* Results of earlier calls, to answer equal ones: a store on disk, keyed by a SHA-256 that the caller makes, bounded in bytes and age. It is a
 * cache: whatever is damaged or cannot be written is forgotten, nothing here keeps a task from being run.
 *
 * Segment files (segment.h) are appended to; who is where stands in memory and is read back from the files at start, so a crash
 * loses at most what was not committed. The least recently used entry leaves first; after a start the order is that of writing,
 * which follows that of use roughly: entries used while they stand far back are written again. Files whose entries have mostly left
 * are rewritten, so the files stay under the bound. */
#ifndef ENDPOINT_MEMO_H
#define ENDPOINT_MEMO_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>
#include "common/err.h"
#include "proto/wire.h"

enum { MEMO_KEY_BYTES = 32 };
struct memo_opts {
	const char *dir;		/* made when missing, mode 0700; copied */
	uint64_t max_bytes;		/* of the files */
	int64_t max_age_ms;		/* 0 = none */
};

struct memo;
struct memo *memo_open (const struct memo_opts *o, struct err *err);
void memo_close (struct memo **m);
/* out: an initialised message that holds the bytes which *record is a slice of. */
bool memo_get (struct memo *m, const uint8_t key[MEMO_KEY_BYTES], zmq_msg_t *out, struct wire_str *record);
/* Copied; replaces what the key had. One that is over an eighth of the bound is not kept. */
void memo_put (struct memo *m, const uint8_t key[MEMO_KEY_BYTES], const void *record, size_t n);
void memo_commit (struct memo *m);	/* write what was put */

struct memo_stats {
	size_t entries;
	uint64_t live_bytes, disk_bytes, hits, misses, puts, evicted, expired, corrupt, failed;	/* failed: not written */
};
void memo_stats (const struct memo *m, struct memo_stats *out);

#endif
