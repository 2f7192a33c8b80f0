/* SPDX-License-Identifier: Apache-2.0 */
/* Results that the forwarder has not acknowledged, on disk and in order, so that neither a crash of ours nor of the forwarder
 * loses one. Segment files (segment.h) of 16 MiB; a file goes when all in it is acknowledged.
 *
 * A result is added, then committed together with the others of the burst, then sent. Bodies stay in memory up to a bound and are
 * read back from disk beyond it. When the disk is full results stay in memory, unspooled, and are tried again with spool_tick.
 *
 * Sending: a cursor goes through the results in order. spool_rewind starts it over: each new session gets everything. */
#ifndef ENDPOINT_SPOOL_H
#define ENDPOINT_SPOOL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>
#include "common/err.h"
#include "common/ids.h"

enum spool_fsync { SPOOL_FSYNC_NEVER, SPOOL_FSYNC_INTERVAL };
struct spool_opts {
	const char *dir;		/* made when missing, mode 0700; copied */
	size_t segment_bytes;		/* 0 = 16 MiB */
	size_t memory_bytes;		/* bodies kept; 0 = 64 MiB */
	uint64_t max_bytes;		/* of the files; 0 = no bound of ours. At it the disk counts as full */
	enum spool_fsync fsync;
	/* A result could not be read back and is dropped: its task must run again. May be NULL; not for what is found so at the start, which
	 * nobody waits for in this session yet. */
	void (*lost) (const struct id *task, void *arg);
	void *arg;
};

struct spool;
/* Loads what an earlier run left. */
struct spool *spool_open (const struct spool_opts *o, struct err *err);
void spool_close (struct spool **s);		/* keeps what is not acknowledged; unspooled results are lost */

/* record: an accepted RESULT, transferred. False: one for this task is there already (record untouched). */
bool spool_add (struct spool *s, const struct id *task, zmq_msg_t *record);
void spool_commit (struct spool *s);		/* write what was added */
void spool_prefetch (const struct spool *s, const struct id *task);	/* it will be asked for soon */
bool spool_has (const struct spool *s, const struct id *task);
/* out: an initialised message. False: unknown, or cannot be read (then it is dropped and logged). */
bool spool_get (struct spool *s, const struct id *task, zmq_msg_t *out);
bool spool_ack (struct spool *s, const struct id *task);	/* false: unknown */
void spool_rewind (struct spool *s);
bool spool_next (struct spool *s, struct id *task, zmq_msg_t *out);	/* the next to send; false: none */
void spool_tick (struct spool *s);		/* each second: try a full disk again, tidy, sync */

struct spool_stats {
	size_t results, unspooled;		/* held; of them not on disk */
	uint64_t disk_bytes, memory_bytes, unspooled_bytes;
	size_t segments, corrupt;		/* corrupt: records dropped since the start */
	bool full;				/* the last write failed */
	char error[256];			/* why; "" when not full */
};
void spool_stats (const struct spool *s, struct spool_stats *out);

#endif
