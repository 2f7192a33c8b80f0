/* SPDX-License-Identifier: Apache-2.0 */
#include "client/stream.h"
#include <string.h>
#include "common/buf.h"

#define TAIL_MAX 4096

void stream_init (struct stream *s, FILE *to)
{
	*s = (struct stream){ .to = to };
	buf_init (&s->tail, 0);
}

void stream_fini (struct stream *s)
{
	buf_fini (&s->tail);
}

static void show (struct stream *s, const char *p, size_t n)
{
	size_t keep = n < TAIL_MAX ? n : TAIL_MAX;
	if (!n)
		return;
	fwrite (p, 1, n, s->to);
	fflush (s->to);
	s->total += n;
	buf_add (&s->tail, p + n - keep, keep);
	if (s->tail.len > TAIL_MAX)
		buf_consume (&s->tail, s->tail.len - TAIL_MAX);
}

static void lose (struct stream *s, uint64_t n)
{
	fprintf (stderr, "weft: [%llu bytes of output went by too fast to be shown]\n", (unsigned long long)n);
	s->total += n;
	s->lost = true;
	buf_clear (&s->tail);
}

static void begin_anew (struct stream *s)
{
	fprintf (stderr, "weft: [the task was begun anew]\n");
	s->total = 0;
	buf_clear (&s->tail);
}

void stream_look (struct stream *s, const char *text, size_t n, uint64_t total)
{
	uint64_t fresh;
	if (s->stalled)
		return;
	if (total < s->total)
		begin_anew (s);
	fresh = total - s->total;
	if (fresh > n && s->exact) {
		s->stalled = true;
		return;
	}
	if (fresh > n) {
		lose (s, fresh - n);
		fresh = n;
	}
	show (s, text + n - fresh, fresh);
}

void stream_end (struct stream *s, const char *text, size_t n, bool whole)
{
	const char *at = NULL;
	if (!n) /* of a cancelled task nothing is kept */
		return;
	if (whole && !s->lost && s->total <= n &&
	    (!s->tail.len || !memcmp (text + s->total - s->tail.len, s->tail.data, s->tail.len))) {
		show (s, text + s->total, n - s->total);
		return;
	}
	/* where did we stop? at the last place that looks like it */
	for (size_t i = n; s->tail.len && !at && i >= s->tail.len; i--)
		if (!memcmp (text + i - s->tail.len, s->tail.data, s->tail.len))
			at = text + i;
	if (!at && s->total)
		fprintf (stderr, "weft: [the end of the output, some of which may have been shown:]\n");
	if (!at)
		at = text;
	show (s, at, n - (size_t)(at - text));
}
