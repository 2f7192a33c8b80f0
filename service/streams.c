/* SPDX-License-Identifier: Apache-2.0 */
/* A stream is in one of two modes:
 *
 *   READING  it reads the group's Redis stream, a page at a time, as fast as its client takes it; what is published meanwhile is only
 *            noted (more)
 *   LIVE     it has read to the end: what is published is written at once
 *
 * It starts with READING, and falls back to it when its client is slow (WAITING_MAX), when the subscription was lost, and when a record was
 * too large to be published. So a slow client costs a bounded buffer, and Redis keeps for it what it has not taken; of what Redis had to cut
 * off meanwhile it is told (event gap). */
#include "service/streams.h"
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "common/clock.h"
#include "common/metrics.h"
#include "common/xmem.h"
#include "service/call.h"
#include "service/feed.h"

#define WAITING_MAX (256 * 1024)	/* bytes that a client has not taken, beyond which nothing is written */
#define PUSH_AT (32 * 1024)
#define PAGE 100
#define TICK_MS 250

struct stream {
	struct streams *all;
	struct id group;
	struct http_stream *http;
	struct feed_member *member;
	struct ends *reading;
	struct ends_at last;		/* told up to here */
	bool stamps, brief, standing, live, more;
	int64_t opened_ms, said_ms;
	TAILQ_ENTRY (stream) by_age, by_silence;
};

TAILQ_HEAD (stream_list, stream);

struct streams {
	struct app *app;
	struct stream_list oldest, quietest;	/* in order of opened_ms and said_ms */
	struct loop_timer *tick;
	size_t count;
	struct metric *open, *opened, *events, *pauses;
};

static void read_on (struct stream *s);

/* ---- life ------------------------------------------------------------------------------------------------------- */

static void forget (struct stream *s)
{
	struct streams *all = s->all;

	feed_leave (&s->member);
	ends_cancel (&s->reading);
	TAILQ_REMOVE (&all->oldest, s, by_age);
	TAILQ_REMOVE (&all->quietest, s, by_silence);
	all->count--;
	metric_set (all->open, (double) all->count);
	free (s);
}

static void on_gone (void *arg)
{
	forget (arg);
}

static void end (void *arg)
{
	struct stream *s = arg;

	http_stream_end (&s->http);
	forget (s);
}

static void say (struct stream *s, const void *p, size_t n)
{
	http_stream_write (s->http, p, n);
	s->said_ms = clock_now_ms ();
	TAILQ_REMOVE (&s->all->quietest, s, by_silence);
	TAILQ_INSERT_TAIL (&s->all->quietest, s, by_silence);
}

/* ---- events ----------------------------------------------------------------------------------------------------- */

static void say_end (struct stream *s, const struct ends_at *at, const struct doc_task *t)
{
	struct doc_task shown = *t;
	char id[LAYOUT_POSITION_MAX + 1];
	struct buf b;

	shown.stamps = s->stamps;
	shown.brief = s->brief;
	buf_init (&b, 0);
	buf_str (&b, "id: ");
	buf_str (&b, ends_at_text (at, id));
	buf_str (&b, "\nevent: task\ndata: ");
	doc_add (&b, DOC_V3, &shown); /* JSON of one line */
	buf_str (&b, "\n\n");
	if (!buf_failed (&b))
		say (s, b.data, b.len);
	if (http_stream_waiting (s->http) > PUSH_AT) /* a burst: not all in memory first */
		http_stream_push (s->http);
	buf_fini (&b);
	metric_add (s->all->events, 1);
}

static bool is_slow (const struct stream *s)
{
	return http_stream_waiting (s->http) > WAITING_MAX;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static void on_gap (uint64_t missed, void *arg)
{
	char text[64];

	say (arg, text, (size_t) snprintf (text, sizeof (text), "event: gap\ndata: {\"missed\":%llu}\n\n", (unsigned long long) missed));
}

static bool on_end (const struct ends_at *at, const struct doc_task *t, void *arg)
{
	struct stream *s = arg;

	say_end (s, at, t);
	return !is_slow (s);
}

static void on_page (const struct ends_at *last, bool more, const struct err *err, void *arg)
{
	struct stream *s = arg;

	s->reading = NULL;
	s->last = *last;
	if (more || err)
		s->more = true;
	if (!s->more)
		s->live = true;
	else if (!err) /* else the tick tries again */
		read_on (s);
}

static const struct ends_ops ends_ops = { on_gap, on_end, on_page };

/* When the client has room: http_stream tells when all is taken. */
static void read_on (struct stream *s)
{
	if (s->reading || !s->standing || is_slow (s))
		return;
	s->live = s->more = false;
	s->reading = ends_read (s->all->app, &s->group, &s->last, PAGE, STREAM_INLINE_MAX, &ends_ops, s);
}

static void fall_back (struct stream *s)
{
	s->live = false;
	s->more = true;
	read_on (s);
}

static void on_drained (void *arg)
{
	struct stream *s = arg;

	if (s->more)
		read_on (s);
}

/* ---- live ------------------------------------------------------------------------------------------------------- */

static void on_standing (void *arg)
{
	struct stream *s = arg;

	s->standing = true;
	fall_back (s);
}

static void on_ended (const struct layout_ended *e, void *arg)
{
	struct stream *s = arg;
	struct doc_task t = { .task = e->task, .state = e->state, .bulk = s->all->app->bulk };
	struct layout_meta meta;
	struct msg_result m;
	struct ends_at at;
	bool placed, slow;

	if (!s->live) {
		s->more = true;
		return;
	}
	placed = ends_at_parse (&at, e->position.p, e->position.n) == 0;
	if (placed && !ends_at_after (&at, &s->last))
		return; /* it was read before */
	if ((slow = is_slow (s)))
		metric_add (s->all->pauses, 1);
	if (slow || !e->record.n || !placed || layout_meta_decode (&meta, e->meta.p, e->meta.n, NULL) < 0 ||
	    msg_result_decode (&m, e->record.p, e->record.n, NULL) < 0) {
		fall_back (s);
		return;
	}
	m.stamps[STAMP_SERVICE_RESULT] = clock_real_ns ();
	t.meta = &meta;
	t.result = &m;
	if (m.flags & RESULT_BULK && m.bulk.bytes > STREAM_INLINE_MAX)
		t.by_reference = m.bulk.bytes;
	s->last = at;
	say_end (s, &at, &t);
}

static const struct feed_ops feed_ops = { on_standing, on_ended, end };
static const struct http_stream_ops http_ops = { on_drained, on_gone };

/* ---- all of them ------------------------------------------------------------------------------------------------ */

static void on_tick (void *arg)
{
	struct streams *all = arg;
	const struct config *c = all->app->config;
	int64_t now = clock_now_ms ();
	struct stream *s;

	while ((s = TAILQ_FIRST (&all->oldest)) && s->opened_ms + c->stream_age_ms <= now)
		end (s);
	while ((s = TAILQ_FIRST (&all->quietest)) && s->said_ms + c->stream_heartbeat_ms <= now)
		say (s, ":\n\n", 3);
	TAILQ_FOREACH (s, &all->oldest, by_age)
		if (s->more)
			read_on (s);
}

struct streams *streams_create (struct app *a)
{
	struct streams *all = xcalloc (1, sizeof (*all));

	all->app = a;
	TAILQ_INIT (&all->oldest);
	TAILQ_INIT (&all->quietest);
	all->tick = loop_timer_create (a->loop, on_tick, all);
	all->open = metrics_gauge ("weft_service_streams", NULL, "Open event streams");
	all->opened = metrics_counter ("weft_service_streams_opened_total", NULL, "Event streams opened or resumed");
	all->events = metrics_counter ("weft_service_stream_events_total", NULL, "Ends of tasks told in event streams");
	all->pauses = metrics_counter ("weft_service_stream_pauses_total", NULL, "Event streams that waited for a slow client");
	loop_timer_start (all->tick, TICK_MS, true);
	return all;
}

void streams_destroy (struct streams **ap)
{
	struct streams *all = *ap;

	if (!all)
		return;
	while (!TAILQ_EMPTY (&all->oldest))
		forget (TAILQ_FIRST (&all->oldest));
	loop_timer_destroy (&all->tick);
	free (all);
	*ap = NULL;
}

size_t streams_count (const struct streams *s)
{
	return s->count;
}

bool streams_room (const struct streams *s)
{
	return s->count < (size_t) s->app->config->streams;
}

void streams_open (struct call *c, const struct id *group, const struct ends_at *after, bool stamps, bool brief)
{
	struct app *a = c->app;
	struct streams *all = a->streams;
	struct stream *s = xcalloc (1, sizeof (*s));

	*s = (struct stream) { .all = all, .group = *group, .last = *after, .stamps = stamps, .brief = brief, .opened_ms = clock_now_ms () };
	s->said_ms = s->opened_ms;
	TAILQ_INSERT_TAIL (&all->oldest, s, by_age);
	TAILQ_INSERT_TAIL (&all->quietest, s, by_silence);
	metric_set (all->open, (double) ++all->count);
	metric_add (all->opened, 1);
	s->http = call_stream (c, "text/event-stream", "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n", &http_ops, s);
	if (!s->http) {
		forget (s);
		return;
	}
	say (s, "retry: 1000\n\n", 13);
	s->member = feed_join (a->feed, group, &feed_ops, s);
}
