/* SPDX-License-Identifier: Apache-2.0 */
/* What a task prints, as it comes: each look brings the last bytes of a stream and how many there were; what is new of them goes out. */
#ifndef CLIENT_STREAM_H
#define CLIENT_STREAM_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "common/buf.h"

struct stream {
	FILE *to;			/* borrowed */
	uint64_t total;			/* bytes that went by: shown, or lost */
	bool lost;			/* some were */
	bool exact;			/* set after stream_init: rather wait for the whole than lose some; stalled then */
	bool stalled;
	struct buf tail;		/* the last that were shown, to find the place in the whole again */
};

void stream_init (struct stream *s, FILE *to);
void stream_fini (struct stream *s);
/* text: the last n of total bytes. A smaller total is another attempt of the task, which begins anew. */
void stream_look (struct stream *s, const char *text, size_t n, uint64_t total);
/* All of it now, or (whole false) its end. */
void stream_end (struct stream *s, const char *text, size_t n, bool whole);

#endif
