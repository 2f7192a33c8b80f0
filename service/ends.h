/* SPDX-License-Identifier: Apache-2.0 */
/* What ended in a watched task group, read from its stream in order, a page at a time (proto/SPEC.md, section 8.4). */
#ifndef SERVICE_ENDS_H
#define SERVICE_ENDS_H
#include "service/app.h"
#include "service/taskdoc.h"

/* A place in the stream: the id of an entry. The zero one is before the first. */
struct ends_at { uint64_t ms, seq; };
int ends_at_parse (struct ends_at *at, const char *p, size_t n);	/* "N-N"; -1 and untouched when it is none */
char *ends_at_text (const struct ends_at *at, char out[LAYOUT_POSITION_MAX + 1]);
bool ends_at_after (const struct ends_at *a, const struct ends_at *b);	/* a is later than b */

struct ends;
struct ends_ops {
	/* Ahead of the page's ends: there were some after `after` that are kept no more. missed: of the group, told or not. */
	void (*on_gap) (uint64_t missed, void *arg);
	/* An end, in order. t: borrowed; without a result when its record is larger than was asked for, by_reference then says how large.
	 * Returns whether to go on: if not, this one was still taken. */
	bool (*on_end) (const struct ends_at *at, const struct doc_task *t, void *arg);
	/* The page is read up to last. more: there may be more. err: Redis failed; what was told before holds. The read is gone. */
	void (*on_page) (const struct ends_at *last, bool more, const struct err *err, void *arg);
};
/* At most `limit` ends after `after`. record_max: larger records are not read. ops: borrowed, called from the loop. */
struct ends *ends_read (struct app *a, const struct id *group, const struct ends_at *after, size_t limit, size_t record_max,
			const struct ends_ops *ops, void *arg);
void ends_cancel (struct ends **e);	/* no more callbacks */

/* A group's stream as XINFO STREAM tells of it: where it begins and ends, what it has had, and how much of that was cut off. One that is empty
 * begins where it ends. */
struct ends_info { struct ends_at first, last; uint64_t added, cut; };
struct redisReply;
bool ends_info_read (struct ends_info *out, const struct redisReply *reply);	/* false, and untouched: there is no stream */

#endif
