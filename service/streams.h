/* SPDX-License-Identifier: Apache-2.0 */
/* Event streams: the ends of a task group as server-sent events, from any place on, each once and in order. */
#ifndef SERVICE_STREAMS_H
#define SERVICE_STREAMS_H
#include "service/app.h"
#include "service/ends.h"

#define STREAM_INLINE_MAX DONE_INLINE_MAX	/* records up to it are in their event, larger results are referred to */

struct call;
struct streams;
struct streams *streams_create (struct app *a);
void streams_destroy (struct streams **s);	/* after the HTTP server */
size_t streams_count (const struct streams *s);
/* Room for one more? */
bool streams_room (const struct streams *s);
/* The group is watched, and the caller's. Answers the call. */
void streams_open (struct call *c, const struct id *group, const struct ends_at *after, bool stamps, bool brief);

#endif
