/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/presence.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <hiredis/hiredis.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "proto/layout.h"

#define MOD "presence"
#define CAPACITY_DEBOUNCE_MS 100	/* figures that people look at are that old at most; ten writes a second at most */

struct presence {
	struct rds *r;
	struct presence_opts o;
	char *owner, *address, *public_key;
	char key[LAYOUT_KEY_MAX], lease_key[LAYOUT_KEY_MAX], host[256];
	bool leased, connected, draining;
	bool left;			/* whatever is answered to renewals that were on their way */
	int64_t held_ms;		/* monotonic: when we last heard that the lease is ours */
	int64_t heard_ms;		/* real time: when the endpoint was there last; 0 = not in our time */
	uint64_t epoch;
	struct msg_capacity cap;
	struct buf why;			/* the same of CAPACITY's text */
	struct buf hello;		/* JSON members of HELLO, for `cap` */
	struct buf metrics;		/* text; empty: the endpoint has said none in this session */
	struct loop_timer *renew, *refresh, *debounce;
};

/* KEYS 1 lease, 2 hash of the endpoint; ARGV 1 our name, then fields and values. Only the holder may write: a process that was
 * stopped and wakes up after another one took over would else send the endpoint to an address where nobody listens.
 * Allowed when memory is short: it replaces what is there. */
static struct rds_script publish_script = { .name = "publish", .body =
	"#!lua flags=allow-oom\n"
	"if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
	"redis.call('HSET', KEYS[2], unpack(ARGV, 2))\n"
	"return 1\n" };

/* pairs: names and values, NULL at the end; at most 18. */
static void write_fields (struct presence *p, const char *const *pairs)
{
	const char *argv[3 + 18] = { p->lease_key, p->key, p->owner };
	size_t len[3 + 18];
	int n = 3;
	while (*pairs && n < 3 + 18)
		argv[n++] = *pairs++;
	for (int i = 0; i < n; i++)
		len[i] = strlen (argv[i]);
	rds_script (p->r, &publish_script, NULL, NULL, 2, n, argv, len);
}

static void publish (struct presence *p)
{
	struct buf cap;
	char seen[24], epoch[24];
	if (!p->leased || !p->address || !rds_up (p->r))
		return;
	if (p->connected)
		p->heard_ms = clock_real_ns () / 1000000;
	buf_init (&cap, 0);
	buf_printf (&cap, "{\"slots\":%u,\"free_slots\":%u,\"queued\":%u,\"running\":%u,\"managers\":%u,\"blocks\":%u,"
		    "\"pending_blocks\":%u,\"tasks_done\":%" PRIu64 ",\"draining\":%s%s%s%.*s}", p->cap.slots, p->cap.free_slots, p->cap.queued,
		    p->cap.running, p->cap.managers, p->cap.blocks, p->cap.pending_blocks, p->cap.tasks_done, p->draining ? "true" : "false",
		    p->why.len && !buf_failed (&p->why) ? (char *)p->why.data : "", p->hello.len ? "," : "",
		    (int)p->hello.len, p->hello.data ? (char *)p->hello.data : "");
	buf_add (&cap, "", 1);
	snprintf (seen, sizeof (seen), "%" PRId64, p->heard_ms);
	snprintf (epoch, sizeof (epoch), "%" PRIu64, p->epoch);
	const char *pairs[] = { "addr", p->address, "fwd_key", p->public_key, "host", p->host, "up", p->connected ? "1" : "0",
				"epoch", epoch, "cap", buf_failed (&cap) ? "{}" : (char *)cap.data,
				"metrics", p->metrics.len && !buf_failed (&p->metrics) ? (char *)p->metrics.data : "",
				p->heard_ms ? "seen" : NULL, seen, NULL };
	write_fields (p, pairs);
	buf_fini (&cap);
}

static void on_refresh (void *arg)
{
	publish (arg);	/* also while nobody is connected: the endpoint finds us by it, whatever happened to the hash */
}

static void on_debounce (void *arg)
{
	publish (arg);
}

static void on_renewed (struct rds *r, struct redisReply *reply, const struct err *err, void *arg)
{
	struct presence *p = arg;
	(void)r;
	if (p->left || err || reply->type != REDIS_REPLY_INTEGER)
		return; /* Redis is away or full: try again; nothing can be taken over meanwhile either */
	if (reply->integer != 1) {
		if (p->leased)
			p->o.ops->on_lease_lost ("another supervisor holds the lease", p->o.arg);
		else
			log_debug (MOD, "waiting for the lease", NULL);
		return;
	}
	p->held_ms = clock_now_ms ();
	if (!p->leased) {
		p->leased = true;
		loop_timer_start (p->renew, p->o.lease_ms / 4, true);
		p->o.ops->on_lease (p->o.arg);
		publish (p);
	}
}

static void on_renew (void *arg)
{
	struct presence *p = arg;
	if (rds_up (p->r))
		layout_lease_send (p->r, &p->o.endpoint, "acquire", p->owner, p->o.lease_ms, on_renewed, p);
}

struct presence *presence_create (struct loop *l, struct rds *r, const struct presence_opts *o)
{
	struct presence *p = xcalloc (1, sizeof (*p));
	p->r = r;
	p->o = *o;
	p->owner = xstrdup (o->lease_owner);
	layout_key (p->key, "ep", &o->endpoint, NULL);
	layout_key (p->lease_key, "ep", &o->endpoint, "lease");
	if (gethostname (p->host, sizeof (p->host) - 1) < 0)
		p->host[0] = '\0';
	buf_init (&p->why, 65536);
	buf_init (&p->hello, 65536);
	buf_init (&p->metrics, WIRE_MAX_TAIL + 1);
	p->renew = loop_timer_create (l, on_renew, p);
	p->refresh = loop_timer_create (l, on_refresh, p);
	p->debounce = loop_timer_create (l, on_debounce, p);
	loop_timer_start (p->renew, 100, true); /* until it is ours: another one may just be letting go */
	loop_timer_start (p->refresh, o->refresh_ms, true);
	return p;
}

void presence_destroy (struct presence **pp)
{
	struct presence *p = *pp;
	if (!p)
		return;
	loop_timer_destroy (&p->renew);
	loop_timer_destroy (&p->refresh);
	loop_timer_destroy (&p->debounce);
	buf_fini (&p->why);
	buf_fini (&p->hello);
	buf_fini (&p->metrics);
	free (p->owner);
	free (p->address);
	free (p->public_key);
	free (p);
	*pp = NULL;
}

bool presence_sure (const struct presence *p)
{
	return p->leased && clock_now_ms () - p->held_ms < p->o.lease_ms;
}

void presence_redis_up (struct presence *p)
{
	on_renew (p);
	publish (p);
}

void presence_listening (struct presence *p, const char *address, const char *public_key)
{
	free (p->address);
	free (p->public_key);
	p->address = xstrdup (address);
	p->public_key = xstrdup (public_key);
	publish (p);
}

static void member (struct buf *b, const char *name, struct wire_str v)
{
	buf_printf (b, "%s\"%s\":", b->len ? "," : "", name);
	buf_json_string (b, v.p, v.n);
}

void presence_connected (struct presence *p, const struct msg_hello *h, uint64_t epoch)
{
	p->connected = true;
	p->draining = false;
	p->epoch = epoch;
	p->cap.slots = h->slots;
	buf_clear (&p->metrics);
	buf_clear (&p->hello);
	member (&p->hello, "name", h->name);
	member (&p->hello, "version", h->version);
	member (&p->hello, "runtime", h->runtime);
	publish (p);
}

void presence_disconnected (struct presence *p)
{
	if (p->connected)
		p->heard_ms = clock_real_ns () / 1000000;
	p->connected = false;
	p->cap = (struct msg_capacity){ 0 };
	buf_clear (&p->why);
	buf_clear (&p->metrics);
	loop_timer_stop (p->debounce);
	publish (p);
}

static void publish_soon (struct presence *p)
{
	if (!loop_timer_pending (p->debounce))
		loop_timer_start (p->debounce, CAPACITY_DEBOUNCE_MS, false);
}

void presence_draining (struct presence *p, bool draining)
{
	p->draining = draining;
	publish_soon (p);
}

void presence_metrics (struct presence *p, struct wire_str json)
{
	buf_clear (&p->metrics);
	buf_add (&p->metrics, json.p, json.n);
	buf_add (&p->metrics, "", 1);
	publish_soon (p);
}

void presence_capacity (struct presence *p, const struct msg_capacity *c)
{
	p->cap = *c;
	p->cap.text = WIRE_STR ("");	/* borrowed until we return */
	buf_clear (&p->why);
	if (c->text.n) {
		buf_str (&p->why, ",\"waiting_reason\":");
		buf_json_string (&p->why, c->text.p, c->text.n);
		buf_add (&p->why, "", 1);
	}
	publish_soon (p);
}

void presence_leave (struct presence *p, rds_f *done, void *arg)
{
	bool held = p->leased;
	p->left = true;
	p->leased = false;
	p->connected = false;
	loop_timer_stop (p->renew);
	loop_timer_stop (p->refresh);
	loop_timer_stop (p->debounce);
	if (held) {
		const char *down[] = { "up", "0", NULL };
		write_fields (p, down);
	}
	layout_lease_send (p->r, &p->o.endpoint, "release", p->owner, p->o.lease_ms, done, arg);
}
