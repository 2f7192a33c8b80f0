/* SPDX-License-Identifier: Apache-2.0 */
/* What the running call prints, for somebody who looks meanwhile: FOLLOW and OUTPUT, SPEC.md section 3.2. Nobody looks, nothing is done. */
#include <string.h>
#include "common/clock.h"
#include "worker/engine_internal.h"

enum {
	FOLLOW_MS = 10000,		/* from the last time that somebody asked */
	LOOK_MS = 200,
	BYTES_PER_MS = 256,		/* of text, at most */
};

/* Bytes of a UTF-8 sequence at the end whose rest has not come. */
static size_t incomplete (const struct buf *b)
{
	for (size_t k = 1; k <= 3 && k <= b->len; k++) {
		uint8_t c = b->data[b->len - k];
		if ((c & 0xc0) == 0x80)
			continue;
		return (c >= 0xf0 && c < 0xf8 && k < 4) || (c >= 0xe0 && c < 0xf0 && k < 3) || (c >= 0xc0 && c < 0xe0 && k < 2) ? k : 0;
	}
	return 0;
}

static void send_output (struct engine *e, const struct call *c)
{
	struct msg_output m = { .task = c->t.task };
	struct buf text[2], record;

	for (int i = 0; i < 2; i++) {
		buf_init (&text[i], 0);
		tail_copy (&e->follow.news.text[i], &text[i]);
		size_t cut = incomplete (&text[i]);
		text[i].len -= cut;
		m.total[i] = e->follow.news.text[i].total - cut;
		tail_make_text (&text[i]);
		m.text[i] = wire_str ((char *) text[i].data, text[i].len);
	}
	buf_init (&record, 0);
	msg_output_encode (&record, &m);
	if (!buf_failed (&record))
		link_send_bytes (e->peer, WIRE_OUTPUT, record.data, record.len);
	e->follow.next_ms = clock_now_ms () + (int64_t) (record.len / BYTES_PER_MS);
	buf_fini (&record);
	buf_fini (&text[0]);
	buf_fini (&text[1]);
}

static void look_at (struct engine *e, const struct call *c, int64_t now)
{
	struct child_news *n = &e->follow.news;

	if (!id_eq (&e->follow.task, &c->t.task) || e->follow.started_ns != c->started_ns) { /* another call, or the same once more */
		e->follow.task = c->t.task;
		e->follow.started_ns = c->started_ns;
		memset (n->seen, 0, sizeof (n->seen));
		memset (e->follow.told, 0, sizeof (e->follow.told));
		tail_clear (&n->text[0]);
		tail_clear (&n->text[1]);
	}
	e->active->ops->news (e->active->self, &c->t.task, n);
	if (now < e->follow.next_ms || (n->text[0].total == e->follow.told[0] && n->text[1].total == e->follow.told[1]))
		return;
	send_output (e, c);
	e->follow.told[0] = n->text[0].total;
	e->follow.told[1] = n->text[1].total;
}

static void forget (struct engine *e)
{
	tail_fini (&e->follow.news.text[0]);
	tail_fini (&e->follow.news.text[1]);
	memset (&e->follow, 0, sizeof (e->follow));
}

static void on_look (void *arg)
{
	struct engine *e = arg;
	struct call *c = e->inflight[0];
	int64_t now = clock_now_ms ();

	if (now > e->follow.until_ms) {
		forget (e);
		return;
	}
	if (e->peer && c && c->started_ns && !c->settled && now < c->followed_until_ms && e->active && !e->active->killing)
		look_at (e, c, now);
	loop_timer_start (e->look, LOOK_MS, false);
}

void follow_asked (const struct id *task, void *arg)
{
	struct engine *e = arg;
	struct call *c = map_get (e->calls, task);

	if (!c)
		return;
	c->followed_until_ms = e->follow.until_ms = clock_now_ms () + FOLLOW_MS;
	if (!loop_timer_pending (e->look))
		loop_timer_start (e->look, 0, false);
}

void follow_create (struct engine *e)
{
	e->look = loop_timer_create (e->loop, on_look, e);
}

void follow_destroy (struct engine *e)
{
	loop_timer_destroy (&e->look);
	forget (e);
}
