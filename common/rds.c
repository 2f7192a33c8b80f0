/* SPDX-License-Identifier: Apache-2.0 */
/* Commands. Each is a struct rds_cmd: in `inflight`, in order, while hiredis holds it as privdata; in `failed` until
 * the deferred `deliver` tells its owner. User code therefore runs from the loop only: from a reply, or from
 * `deliver`. The one exception is rds_destroy, which answers everything that is pending before it returns; a command
 * given during that is dropped.
 *
 * A user may destroy the rds in any callback. hiredis frees the context later then, and the struct lives until
 * rds_free_if_done finds that nobody is inside it.
 *
 * Blocking reads belong on a connection of their own: whatever is queued behind one waits as long as it does. The
 * command timeout of such a command counts from the end of the blocking read. */
#include "common/rds_internal.h"
#include "common/clock.h"
#include "common/decimal.h"
#include "common/digest.h"
#include "common/log.h"
#include "common/xmem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	RDS_TIMEOUT_MS = 10000,
	SCRIPT_HEAD = 160,	/* room before a script's arguments for "*N $7 EVALSHA $40 sha $n nkeys" */
	CMD_OVERHEAD = 32,	/* wire bytes for an argument's length, rounded up */
};
static const size_t default_inflight_bytes = 256u << 20;

/* ---- life ---- */

static void deliver_failed (void *arg);
static void watch_tick (void *arg);

struct rds *rds_create (struct loop *l, const struct rds_opts *opts, struct err *err)
{
	struct rds *r = xcalloc (1, sizeof (*r));

	if (rds_url_parse (&r->url, opts->url, err) < 0) {
		free (r);
		return NULL;
	}
	TAILQ_INIT (&r->inflight);
	TAILQ_INIT (&r->failed);
	r->loop = l;
	r->password_file = xstrdup (opts->password_file);
	r->timeout_ms = opts->command_timeout_ms > 0 ? opts->command_timeout_ms : RDS_TIMEOUT_MS;
	r->max_inflight_bytes = opts->max_inflight_bytes ? opts->max_inflight_bytes : default_inflight_bytes;
	r->on_state = opts->on_state;
	r->arg = opts->arg;
	r->retry = loop_timer_create (l, rds_conn_open, r);
	r->hello = loop_timer_create (l, rds_conn_hello_tick, r);
	r->watch = loop_timer_create (l, watch_tick, r);
	r->deliver = loop_defer_create (l, deliver_failed, r);
	r->flush = loop_defer_create (l, rds_conn_flush, r);
	snprintf (r->why, sizeof (r->why), "not connected yet");
	loop_timer_start (r->retry, 0, false); /* on_state is never called from inside rds_create */
	return r;
}

void rds_free_if_done (struct rds *r)
{
	struct rds_sub *s;

	if (!r->destroyed || r->ac || r->delivering)
		return;
	while ((s = SLIST_FIRST (&r->subs))) {
		SLIST_REMOVE_HEAD (&r->subs, link);
		free (s->channel);
		free (s);
	}
	loop_timer_destroy (&r->retry);
	loop_timer_destroy (&r->hello);
	loop_timer_destroy (&r->watch);
	loop_defer_destroy (&r->deliver);
	loop_defer_destroy (&r->flush);
	rds_url_fini (&r->url);
	free (r->password_file);
	free (r->loaded);
	free (r);
}

bool rds_up (const struct rds *r)
{
	return r->state == RDS_UP;
}

int rds_check (const struct rds *r, struct err *err)
{
	return rds_up (r) ? 0 : err_set (err, ERR_UNAVAILABLE, FAULT_SITE, "Redis at %s: %s; " RDS_TODO, r->url.address, r->why);
}

static void cmd_free (struct rds_cmd *c)
{
	free (c->args);
	free (c);
}

/* Tell the owner. c is no longer in a list. */
static void cmd_answer_failed (struct rds_cmd *c)
{
	struct rds *r = c->r;
	struct err err;

	if (!c->cb || c->internal)
		return;
	if (c->code == ERR_LIMIT)
		err_set (&err, ERR_LIMIT, FAULT_SITE, "more than %zu bytes wait for redis", r->max_inflight_bytes);
	else if (c->code == ERR_TIMEOUT)
		err_set (&err, ERR_TIMEOUT, FAULT_SITE, "redis did not answer within %lld ms", (long long) r->timeout_ms);
	else
		err_set (&err, c->code, FAULT_SITE, "redis is not available: %s", r->why);
	c->cb (r, NULL, &err, c->arg);
}

static void deliver_failed (void *arg)
{
	struct rds *r = arg;
	struct rds_cmd *c, *last = TAILQ_LAST (&r->failed, rds_cmds);
	bool more = last != NULL;

	r->delivering = true;
	if (r->tell_down) {
		r->tell_down = false;
		if (r->on_state)
			r->on_state (r, false, r->why, r->arg);
	}
	/* up to `last`: a callback that tries again at once must not keep us here */
	while (more && !r->destroyed && (c = TAILQ_FIRST (&r->failed))) {
		more = c != last;
		TAILQ_REMOVE (&r->failed, c, link);
		cmd_answer_failed (c);
		cmd_free (c);
	}
	r->delivering = false;
	if (!r->destroyed && !TAILQ_EMPTY (&r->failed))
		loop_defer_schedule (r->deliver);
	rds_free_if_done (r);
}

void rds_sub_free (struct rds_sub *s)
{
	SLIST_REMOVE (&s->r->subs, s, rds_sub, link);
	free (s->channel);
	free (s);
}

void rds_destroy (struct rds **rp)
{
	struct rds *r = *rp;
	struct rds_cmd *c;

	if (!r)
		return;
	*rp = NULL;
	r->destroyed = true;
	r->state = RDS_CLOSING;
	snprintf (r->why, sizeof (r->why), "the connection is being closed by us");
	while ((c = TAILQ_FIRST (&r->failed))) {
		TAILQ_REMOVE (&r->failed, c, link);
		cmd_answer_failed (c);
		cmd_free (c);
	}
	while ((c = TAILQ_FIRST (&r->inflight))) {
		TAILQ_REMOVE (&r->inflight, c, link);
		c->abandoned = true; /* hiredis calls back once more */
		c->code = ERR_UNAVAILABLE;
		cmd_answer_failed (c);
	}
	loop_timer_stop (r->retry);
	loop_timer_stop (r->hello);
	loop_timer_stop (r->watch);
	if (r->ac)
		redisAsyncFree (r->ac); /* its cleanup hook calls rds_free_if_done */
	else
		rds_free_if_done (r);
}

/* ---- time limit ---- */

static int64_t due_ms (const struct rds *r, const struct rds_cmd *c)
{
	int64_t from = c->sent_at_ms > r->unblocked_at_ms ? c->sent_at_ms : r->unblocked_at_ms;

	return from + r->timeout_ms;
}

void rds_watch_arm (struct rds *r)
{
	if (!loop_timer_pending (r->watch))
		loop_timer_start (r->watch, r->timeout_ms, false);
}

static struct rds_sub *any_standing (struct rds *r)
{
	struct rds_sub *s;

	SLIST_FOREACH (s, &r->subs, link)
		if (s->held && !s->leaving)
			return s;
	return NULL;
}

/* A subscribed connection hears nothing for hours. SUBSCRIBE to what it has already is its ping: hiredis 0.14 would
 * keep an entry for each PING. */
static void watch_subscribed (struct rds *r)
{
	struct rds_sub *s = any_standing (r);
	int64_t now = clock_now_ms (), idle_ms = now - r->sub_seen_ms;
	bool asked = r->sub_asked_ms > r->sub_seen_ms;

	if (r->state == RDS_HELLO ? idle_ms >= r->timeout_ms : asked && now - r->sub_asked_ms >= r->timeout_ms) {
		rds_conn_drop (r, "no answer to SUBSCRIBE");
		return;
	}
	if (s && r->state == RDS_UP && !asked && idle_ms >= r->timeout_ms) {	/* however late this tick comes, it is asked first */
		r->sub_asked_ms = now;
		rds_conn_subscribe (r, s);
	}
	rds_watch_arm (r);
}

static void watch_tick (void *arg)
{
	struct rds *r = arg;
	struct rds_cmd *c = TAILQ_FIRST (&r->inflight);
	int64_t now = clock_now_ms ();
	char why[80];

	if (!r->ac || r->state == RDS_CLOSING)
		return;
	if (!c) {
		if (!SLIST_EMPTY (&r->subs))
			watch_subscribed (r);
		return; /* the next command arms it */
	}
	if (c->blocking || due_ms (r, c) > now) {
		loop_timer_start (r->watch, c->blocking ? r->timeout_ms : due_ms (r, c) - now, false);
		return;
	}
	TAILQ_FOREACH (c, &r->inflight, link) {
		if (c->blocking || due_ms (r, c) > now)
			break;
		c->code = ERR_TIMEOUT;
	}
	snprintf (why, sizeof (why), "no answer within %lld ms", (long long) r->timeout_ms);
	rds_conn_drop (r, why);
}

/* ---- commands ---- */

static struct rds_cmd *cmd_create (struct rds *r, rds_f *cb, void *arg)
{
	struct rds_cmd *c = xcalloc (1, sizeof (*c));

	c->r = r;
	c->cb = cb;
	c->arg = arg;
	return c;
}

/* Takes c, which is in no list. */
static void cmd_fail (struct rds_cmd *c, enum err_code code)
{
	struct rds *r = c->r;

	c->code = code;
	if (r->destroyed || !c->cb || c->internal) {
		cmd_free (c);
		return;
	}
	TAILQ_INSERT_TAIL (&r->failed, c, link);
	loop_defer_schedule (r->deliver);
}

/* May `bytes` more go? Else the command has failed and is gone. */
static bool cmd_admit (struct rds_cmd *c, size_t bytes)
{
	struct rds *r = c->r;
	enum rds_state need = c->internal ? RDS_HELLO : RDS_UP;

	if (r->state != need && r->state != RDS_UP) {
		cmd_fail (c, ERR_UNAVAILABLE);
		return false;
	}
	if (!c->internal && bytes > r->max_inflight_bytes - r->inflight_bytes) {
		cmd_fail (c, ERR_LIMIT);
		return false;
	}
	c->bytes = c->internal ? 0 : bytes;
	return true;
}

/* hiredis has taken it, or not (rc). */
static void cmd_sent (struct rds_cmd *c, int rc)
{
	struct rds *r = c->r;

	if (rc != REDIS_OK) {
		cmd_fail (c, ERR_UNAVAILABLE);
		return;
	}
	c->sent_at_ms = clock_now_ms ();
	r->inflight_bytes += c->bytes;
	TAILQ_INSERT_TAIL (&r->inflight, c, link);
	rds_watch_arm (r);
}

static void command (struct rds_cmd *c, int argc, const char **argv, const size_t *len)
{
	size_t bytes = CMD_OVERHEAD;

	for (int i = 0; i < argc; i++)
		bytes += CMD_OVERHEAD + (len ? len[i] : strlen (argv[i]));
	if (!cmd_admit (c, bytes))
		return;
	cmd_sent (c, redisAsyncCommandArgv (c->r->ac, rds_reply_arrived, c, argc, argv, len));
}

void rds_command (struct rds *r, rds_f *cb, void *arg, int argc, const char **argv, const size_t *len)
{
	command (cmd_create (r, cb, arg), argc, argv, len);
}

void rds_blocking (struct rds *r, rds_f *cb, void *arg, int argc, const char **argv, const size_t *len)
{
	struct rds_cmd *c = cmd_create (r, cb, arg);

	c->blocking = true;
	command (c, argc, argv, len);
}

void rds_internal_command (struct rds *r, rds_f *cb, int argc, const char **argv)
{
	struct rds_cmd *c = cmd_create (r, cb, NULL);

	c->internal = true;
	command (c, argc, argv, NULL);
}

void rds_commandf (struct rds *r, rds_f *cb, void *arg, const char *fmt, ...)
{
	struct rds_cmd *c = cmd_create (r, cb, arg);
	char *text = NULL;
	va_list ap;
	int n;

	va_start (ap, fmt);
	n = redisvFormatCommand (&text, fmt, ap);
	va_end (ap);
	if (n < 0) {
		log_error ("redis", "bad command format", "format=%s", fmt);
		cmd_fail (c, ERR_INTERNAL);
		return;
	}
	if (cmd_admit (c, (size_t) n))
		cmd_sent (c, redisAsyncFormattedCommand (r->ac, rds_reply_arrived, c, text, (size_t) n));
	redisFreeCommand (text);
}

/* ---- scripts ----
 * The first use on a connection is an EVAL, which also loads it: after a restart of Redis the order of commands holds.
 * Later uses are EVALSHA; NOSCRIPT (a flush) gives that call again as EVAL, behind what was sent meanwhile. */

static bool script_loaded (struct rds *r, struct rds_script *s)
{
	for (size_t i = 0; i < r->nloaded; i++)
		if (r->loaded[i] == s)
			return true;
	r->loaded = xrealloc (r->loaded, (r->nloaded + 1) * sizeof (*r->loaded));
	r->loaded[r->nloaded++] = s;
	return false;
}

/* "*12\r\n" and "$34\r\n" */
static char *put_count (char *p, char kind, size_t n)
{
	*p++ = kind;
	p += decimal_put (p, (int64_t) n);
	*p++ = '\r';
	*p++ = '\n';
	return p;
}

static void send_evalsha (struct rds_cmd *c)
{
	char head[SCRIPT_HEAD], nkeys[DECIMAL_MAX], *p = put_count (head, '*', (size_t) c->args_count + 3);
	size_t nk = decimal_put (nkeys, c->nkeys), n;

	p = stpcpy (p, "$7\r\nEVALSHA\r\n$40\r\n");
	p = stpcpy (p, c->script->sha);
	p = put_count (stpcpy (p, "\r\n"), '$', nk);
	p = stpcpy (stpcpy (p, nkeys), "\r\n");
	n = (size_t) (p - head);
	memcpy (c->args + SCRIPT_HEAD - n, head, n);
	cmd_sent (c, redisAsyncFormattedCommand (c->r->ac, rds_reply_arrived, c, c->args + SCRIPT_HEAD - n, n + c->args_bytes));
}

static void send_eval (struct rds_cmd *c)
{
	size_t body = strlen (c->script->body), most = SCRIPT_HEAD + body + c->args_bytes;
	char *text = malloc (most), nkeys[16];
	int nk = snprintf (nkeys, sizeof (nkeys), "%d", c->nkeys), n;

	if (!text) {
		cmd_fail (c, ERR_LIMIT);
		return;
	}
	n = snprintf (text, most, "*%d\r\n$4\r\nEVAL\r\n$%zu\r\n%s\r\n$%d\r\n%s\r\n", c->args_count + 3, body,
		      c->script->body, nk, nkeys);
	memcpy (text + n, c->args + SCRIPT_HEAD, c->args_bytes);
	cmd_sent (c, redisAsyncFormattedCommand (c->r->ac, rds_reply_arrived, c, text, (size_t) n + c->args_bytes));
	free (text);
}

void rds_script (struct rds *r, struct rds_script *s, rds_f *cb, void *arg, int nkeys, int argc, const char **argv,
		 const size_t *len)
{
	struct rds_cmd *c = cmd_create (r, cb, arg);
	size_t bytes = SCRIPT_HEAD;
	char *p;

	for (int i = 0; i < argc; i++)
		bytes += CMD_OVERHEAD + (len ? len[i] : strlen (argv[i]));
	if (!cmd_admit (c, bytes))
		return;
	if (!(c->args = p = malloc (bytes))) {
		cmd_fail (c, ERR_LIMIT);
		return;
	}
	p += SCRIPT_HEAD;
	for (int i = 0; i < argc; i++) {
		size_t n = len ? len[i] : strlen (argv[i]);
		p = put_count (p, '$', n);
		memcpy (p, argv[i], n);
		p += n;
		memcpy (p, "\r\n", 2);
		p += 2;
	}
	c->script = s;
	c->args_bytes = (size_t) (p - c->args) - SCRIPT_HEAD;
	c->args_count = argc;
	c->nkeys = nkeys;
	if (!s->sha[0])
		digest_sha1_hex (s->body, strlen (s->body), s->sha);
	if (script_loaded (r, s) && s->sha[0])
		send_evalsha (c);
	else
		send_eval (c);
}

/* ---- replies ---- */

static bool begins (const redisReply *reply, const char *word)
{
	return reply->type == REDIS_REPLY_ERROR && strncmp (reply->str, word, strlen (word)) == 0;
}

void rds_reply_arrived (redisAsyncContext *ac, void *privdata_reply, void *privdata)
{
	struct rds_cmd *c = privdata;
	struct rds *r = c->r;
	redisReply *reply = privdata_reply;

	(void) ac;
	if (c->abandoned) {
		cmd_free (c);
		return;
	}
	TAILQ_REMOVE (&r->inflight, c, link);
	r->inflight_bytes -= c->bytes;
	if (!reply) { /* connection lost */
		cmd_fail (c, c->code ? c->code : ERR_UNAVAILABLE);
		return;
	}
	if (c->blocking)
		r->unblocked_at_ms = clock_now_ms ();
	if (c->script && begins (reply, "NOSCRIPT") && r->state == RDS_UP) {
		struct rds_script *s = c->script;
		send_eval (c);
		log_debug ("redis", "script was unknown, sent again", "script=%s", s->name);
		return;
	}
	if (c->cb)
		c->cb (r, reply, NULL, c->arg);
	else if (reply->type == REDIS_REPLY_ERROR)
		log_warn ("redis", "command failed", "err=%.200s", reply->str);
	cmd_free (c);
}

int rds_reply_error (const struct redisReply *reply, struct err *err)
{
	static const char *const unavailable[] = { "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN",
						   "BUSY ", "NOREPLICAS", "MISCONF" };
	static const char *const site[] = { "NOAUTH", "WRONGPASS", "NOPERM" };

	if (!reply)
		return err_set (err, ERR_UNAVAILABLE, FAULT_SITE, "redis is not available");
	if (reply->type != REDIS_REPLY_ERROR)
		return 0;
	if (begins (reply, "OOM"))
		return err_set (err, ERR_LIMIT, FAULT_SITE, "redis is out of memory: %.300s", reply->str);
	if (begins (reply, "LIMIT ")) /* our scripts: proto/lua */
		return err_set (err, ERR_LIMIT, FAULT_USER, "%.300s", reply->str + strlen ("LIMIT "));
	if (begins (reply, "GONE "))
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "%.300s", reply->str + strlen ("GONE "));
	for (size_t i = 0; i < sizeof (unavailable) / sizeof (unavailable[0]); i++)
		if (begins (reply, unavailable[i]))
			return err_set (err, ERR_UNAVAILABLE, FAULT_SITE, "redis: %.300s", reply->str);
	for (size_t i = 0; i < sizeof (site) / sizeof (site[0]); i++)
		if (begins (reply, site[i]))
			return err_set (err, ERR_INTERNAL, FAULT_SITE, "redis: %.300s", reply->str);
	return err_set (err, ERR_INTERNAL, FAULT_SELF, "redis: %.300s", reply->str);
}

const struct err *rds_error (const struct redisReply *reply, const struct err *err, struct err *room)
{
	return err || rds_reply_error (reply, room) == 0 ? err : room;
}

const struct redisReply *rds_member (const struct redisReply *map, const char *name)
{
	for (size_t i = 0; map->type == REDIS_REPLY_ARRAY && i + 1 < map->elements; i += 2)
		if (map->element[i]->type == REDIS_REPLY_STRING && !strcmp (map->element[i]->str, name))
			return map->element[i + 1];
	return NULL;
}

/* ---- subscriptions ---- */

static struct rds_sub *sub_find (struct rds *r, const char *channel)
{
	struct rds_sub *s;

	SLIST_FOREACH (s, &r->subs, link)
		if (strcmp (s->channel, channel) == 0)
			return s;
	return NULL;
}

void rds_subscribe_told (struct rds *r, const char *channel, rds_message_f *cb, loop_f *standing, void *arg)
{
	struct rds_sub *s = sub_find (r, channel);

	if (!s) {
		s = xcalloc (1, sizeof (*s));
		s->r = r;
		s->channel = xstrdup (channel);
		SLIST_INSERT_HEAD (&r->subs, s, link);
	}
	s->cb = cb;
	s->standing = standing;
	s->arg = arg;
	s->wanted = true;
	if (r->state == RDS_UP && !s->held) {
		r->sub_seen_ms = clock_now_ms ();
		rds_conn_subscribe (r, s);
	}
}

void rds_subscribe (struct rds *r, const char *channel, rds_message_f *cb, void *arg)
{
	rds_subscribe_told (r, channel, cb, NULL, arg);
}

void rds_unsubscribe (struct rds *r, const char *channel)
{
	struct rds_sub *s = sub_find (r, channel);

	if (!s)
		return;
	s->wanted = false;
	if (!s->held)
		rds_sub_free (s);
	else if (!s->leaving)
		rds_conn_unsubscribe (r, s);
}
