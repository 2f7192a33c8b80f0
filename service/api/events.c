/* SPDX-License-Identifier: Apache-2.0 */
/* The ends of a task group: as events, and in pages. Both make the group a watched one, see watch.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"
#include "service/api/api.h"
#include "service/call.h"
#include "service/feed.h"
#include "service/group.h"
#include "service/streams.h"
#include "service/watch.h"

#define PAGE_MAX 1000
#define PAGE_DEF 100
#define PAGE_BYTES (8u << 20)	/* a page that has become so large ends there */

/* The group of a call, checked and watched. */
struct opening {
	struct call *c;
	struct id group;
	struct ends_at after;
	void (*opened) (struct opening *o);	/* takes it */
	bool stamps, brief;
	/* of a page */
	size_t limit, n;
	uint64_t missed;
	int64_t wait_ms;
	bool more;
	struct buf out;
	struct ends *reading;
	struct feed_member *member;
	struct loop_timer *timer;
};

static void give_up (struct opening *o)
{
	feed_leave (&o->member);
	ends_cancel (&o->reading);
	loop_timer_destroy (&o->timer);
	buf_fini (&o->out);
	free (o);
}

static void on_watched (const struct err *err, void *arg)
{
	struct opening *o = arg;

	if (!err) {
		o->opened (o);
		return;
	}
	call_fail_err (o->c, err, FAIL_GROUP_NOT_FOUND);
	give_up (o);
}

static void on_checked (enum group_state state, int64_t created_ns, const struct err *err, void *arg)
{
	struct opening *o = arg;
	struct err e;
	enum fail why;

	(void) created_ns;
	if (err)
		call_fail_err (o->c, err, FAIL_GROUP_NOT_FOUND);
	else if (group_allowed (state, &o->group, &why, &e) < 0)
		call_fail (o->c, why, "%s", e.text);
	else {
		watch_group (o->c->app, &o->group, on_watched, o);
		return;
	}
	give_up (o);
}

/* A place that the client was at: a header or a query parameter. -1: answered. */
static int place (struct call *c, const char *name, struct ends_at *at)
{
	struct http_str header = http_header (c->req, "Last-Event-ID");
	char text[64];
	int rc = http_query_param (c->req, name, text, sizeof (text));

	*at = (struct ends_at) { 0 };
	if (rc == 0 && (!text[0] || ends_at_parse (at, text, strlen (text)) == 0))
		return 0;
	if (rc < 0 && errno == ENOENT && (!header.n || ends_at_parse (at, header.p, header.n) == 0))
		return 0;
	call_fail (c, FAIL_MALFORMED, "%s: expected the id of an event of this group, such as 1700000000000-0",
		   rc < 0 && errno == ENOENT ? "Last-Event-ID" : name);
	return -1;
}

static void open_group (struct call *c, struct opening *o)
{
	struct opening *kept = xcalloc (1, sizeof (*kept));

	*kept = *o;
	kept->c = c;
	group_check (c->app, &c->who.user, &o->group, on_checked, kept);
}

/* ---- events ----------------------------------------------------------------------------------------------------- */

static void open_stream (struct opening *o)
{
	streams_open (o->c, &o->group, &o->after, o->stamps, o->brief);
	give_up (o);
}

void api_group_events (struct call *c)
{
	struct opening o = { .opened = open_stream, .stamps = call_flag (c, "trace"), .brief = call_flag (c, "brief") };

	if (call_id (c, 0, &o.group) < 0 || place (c, "after", &o.after) < 0 || call_need_redis (c) < 0)
		return;
	if (http_method (c->req) == HTTP_HEAD)
		call_reply (c, 200, "text/event-stream", NULL, NULL);
	else if (!streams_room (c->app->streams))
		call_fail (c, FAIL_STREAMS, "%lld event streams are open here, which is the most; try again, or ask for pages of results",
			   (long long) streams_count (c->app->streams));
	else
		open_group (c, &o);
}

/* ---- pages ------------------------------------------------------------------------------------------------------ */

static void read_page (struct opening *o);

static void answer (struct opening *o)
{
	struct call *c = o->c;
	char at[LAYOUT_POSITION_MAX + 1];

	o->out.max = 0;
	buf_printf (&o->out, "],\"cursor\":\"%s\",\"more\":%s", ends_at_text (&o->after, at), o->more ? "true" : "false");
	if (o->missed)
		buf_printf (&o->out, ",\"missed\":%llu", (unsigned long long) o->missed);
	buf_char (&o->out, '}');
	call_ok (c, &o->out);
	give_up (o);
}

static void on_gap (uint64_t missed, void *arg)
{
	struct opening *o = arg;

	o->missed = missed;
}

static bool on_end (const struct ends_at *at, const struct doc_task *t, void *arg)
{
	struct opening *o = arg;
	struct doc_task shown = *t;

	(void) at;
	shown.stamps = o->stamps;
	if (o->n++)
		buf_char (&o->out, ',');
	doc_add (&o->out, DOC_V3, &shown);
	return o->out.len < PAGE_BYTES;
}

static void on_time (void *arg)
{
	struct opening *o = arg;

	o->wait_ms = 0;
	if (!o->reading)
		answer (o);
}

static void on_standing (void *arg)
{
	read_page (arg);
}

static void on_news (const struct layout_ended *e, void *arg)
{
	struct opening *o = arg;

	(void) e;
	o->more = true;
	read_page (o);
}

static const struct feed_ops feed_ops = { on_standing, on_news, on_time };

static void on_client_gone (void *arg)
{
	on_time (arg);
}

/* Nothing there yet: from now on we hear of it. */
static void wait_for_news (struct opening *o)
{
	if (o->member)
		return;
	o->timer = loop_timer_create (o->c->app->loop, on_time, o);
	loop_timer_start (o->timer, o->wait_ms, false);
	o->member = feed_join (o->c->app->feed, &o->group, &feed_ops, o);
}

static void on_page (const struct ends_at *last, bool more, const struct err *err, void *arg)
{
	struct opening *o = arg;
	bool again = o->more;		/* something ended while we read */

	o->reading = NULL;
	o->after = *last;
	o->more = more;
	if (err && !o->n) {
		call_fail_err (o->c, err, FAIL_GROUP_NOT_FOUND);
		give_up (o);
	} else if (o->n || o->missed || !o->wait_ms)
		answer (o);
	else if (more || again)
		read_page (o);
	else
		wait_for_news (o);
}

static const struct ends_ops ends_ops = { on_gap, on_end, on_page };

static void read_page (struct opening *o)
{
	if (o->reading)
		return;
	o->more = false;
	o->reading = ends_read (o->c->app, &o->group, &o->after, o->limit, UINT32_MAX, &ends_ops, o);
}

static void start_page (struct opening *o)
{
	char t[ID_TEXT];

	buf_init (&o->out, 0);
	buf_printf (&o->out, "{\"taskgroup_id\":\"%s\",\"results\":[", id_text (&o->group, t));
	read_page (o);
	if (o->wait_ms)
		call_watch (o->c, on_client_gone, o);
}

void api_group_results (struct call *c)
{
	struct opening o = { .opened = start_page, .stamps = call_flag (c, "trace") };
	int64_t limit;

	if (call_id (c, 0, &o.group) < 0 || place (c, "cursor", &o.after) < 0 || call_wait_ms (c, &o.wait_ms) < 0 ||
	    call_query_int (c, "limit", 1, PAGE_MAX, PAGE_DEF, &limit) < 0 || call_need_redis (c) < 0)
		return;
	o.limit = (size_t) limit;
	open_group (c, &o);
}
