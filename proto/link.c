/* SPDX-License-Identifier: Apache-2.0 */
/* Life of a link, the periodic sweep (heartbeats and silence). The other parts: see link_internal.h.
 *
 * An idle link costs one wake-up each quarter of heartbeat_ms, whatever the number of peers. */
#include "proto/link_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"

enum {
	HEARTBEAT_MS = 2000, THRESHOLD_MS = 10000, SWEEP_MIN_MS = 25,
	PAYLOAD_BYTES = 10 << 20, QUEUED_BYTES = 64 << 20, PEERS = 16384,
	HWM_MIN = 16, HWM_MAX = 1000,
	DESTROY_POLL_MS = 5,
};

/* ---- callbacks and destruction -------------------------------------------------------------------------------- */

static void link_free (struct link *k, int64_t linger_ms);

void link_enter (struct link *k)
{
	k->in_call++;
}

bool link_leave (struct link *k)
{
	if (--k->in_call > 0 || !k->muted)
		return true;
	link_free (k, k->linger_ms);
	return false;
}

/* ---- from the loop -------------------------------------------------------------------------------------------- */

void link_burst_end (void *arg)
{
	struct link *k = arg;
	link_enter (k);
	k->burst_records = 0;
	if (k->ops->on_burst_end)
		k->ops->on_burst_end (k->arg);
	if (!k->muted && k->listener)
		link_outbox_retry (k);
	link_leave (k);
}

static void on_flush (void *arg)
{
	link_outbox_flush_dirty (arg);
}

static void on_acks (void *arg)
{
	link_outbox_late (arg);
}

static void on_retry (void *arg)
{
	link_outbox_retry (arg);
}

/* What was found out where callbacks may not be made. */
static void on_chores (void *arg)
{
	struct link *k = arg;
	struct link_peer *p;
	link_enter (k);
	while (!k->muted && (p = TAILQ_FIRST (&k->todo))) {
		TAILQ_REMOVE (&k->todo, p, todo_entry);
		p->todo = false;
		if (p->state == PEER_CLOSING) {
			link_session_down (p);
		} else if (p->relieved) {
			p->relieved = false;
			if (k->ops->on_relief && p->state == PEER_UP)
				k->ops->on_relief (p, k->arg);
		}
	}
	link_leave (k);
}

static void check_peer (struct link_peer *p, int64_t now, bool judge_silence)
{
	struct link *k = p->k;
	if (judge_silence && now - p->heard_ms > k->threshold_ms) {
		char why[LINK_WHY_MAX];
		snprintf (why, sizeof (why), "no sign of life for %lld ms", (long long) (now - p->heard_ms));
		link_session_doom (p, WIRE_BYE, ERR_TIMEOUT, why);
	} else if (now - p->sent_ms >= k->heartbeat_ms && p->out.count == 0) {
		if (k->ops->on_heartbeat)
			k->ops->on_heartbeat (p, k->arg);
		if (!k->muted && p->state == PEER_UP)
			link_outbox_push (p, WIRE_HEARTBEAT, NULL);
	}
}

static void on_sweep (void *arg)
{
	struct link *k = arg;
	struct link_peer *p, *next;
	int64_t now = clock_now_ms ();
	/* We were stopped ourselves (SIGSTOP, suspended machine): what peers said meanwhile is still unread. */
	bool late = now - k->swept_ms > k->sweep_ms + k->threshold_ms / 2;
	k->swept_ms = now;
	link_enter (k);
	for (p = TAILQ_FIRST (&k->all); p && !k->muted; p = next) {
		next = TAILQ_NEXT (p, all_entry);	/* peers are freed by chores only, not below */
		if (p->state == PEER_UP)
			check_peer (p, now, !late && !k->paused);
	}
	link_leave (k);
}

void link_sweep_start (struct link *k)
{
	k->sweep_ms = k->heartbeat_ms / 4 > SWEEP_MIN_MS ? k->heartbeat_ms / 4 : SWEEP_MIN_MS;
	k->swept_ms = clock_now_ms ();
	loop_timer_start (k->sweep, k->sweep_ms, true);
}

/* ---- making and destroying ------------------------------------------------------------------------------------ */

static struct link *link_new (struct loop *l, void *zctx, const struct link_opts *o, bool listener, struct err *err)
{
	struct link *k;
	if ((o->public_key == NULL) != (o->secret_key == NULL)
	    || (o->public_key && (strlen (o->public_key) != LINK_KEY_TEXT - 1 || strlen (o->secret_key) != LINK_KEY_TEXT - 1))) {
		err_set (err, ERR_INVALID, FAULT_USER, "CURVE keys come as a pair, 40 characters of Z85 each");
		return NULL;
	}
	k = xcalloc (1, sizeof (*k));
	k->loop = l;
	k->zctx = zctx;
	k->ops = o->ops;
	k->arg = o->arg;
	k->name = xstrdup (o->name ? o->name : "peer");
	k->listener = listener;
	k->heartbeat_ms = o->heartbeat_ms ? o->heartbeat_ms : HEARTBEAT_MS;
	k->threshold_ms = o->threshold_ms ? o->threshold_ms : THRESHOLD_MS;
	k->max_payload_bytes = o->max_payload_bytes ? o->max_payload_bytes : PAYLOAD_BYTES;
	k->max_result_bytes = o->max_result_bytes ? o->max_result_bytes : PAYLOAD_BYTES;
	k->max_frame_bytes = o->max_frame_bytes ? o->max_frame_bytes : WIRE_MAX_RECORD;
	k->max_queued_bytes = o->max_queued_bytes ? o->max_queued_bytes : QUEUED_BYTES;
	k->max_peers = o->max_peers ? o->max_peers : PEERS;
	if (o->bulk)
		k->bulk = *o->bulk;
	/* Messages are up to LINK_BATCH_BYTES: libzmq then holds about as much for a peer as we do. */
	size_t hwm = k->max_queued_bytes / LINK_BATCH_BYTES;
	k->hwm = hwm < HWM_MIN ? HWM_MIN : hwm > HWM_MAX ? HWM_MAX : (int) hwm;
	if ((k->curve = o->public_key != NULL)) {
		memcpy (k->public_key, o->public_key, LINK_KEY_TEXT);
		memcpy (k->secret_key, o->secret_key, LINK_KEY_TEXT);
	}
	TAILQ_INIT (&k->all);
	TAILQ_INIT (&k->dirty);
	TAILQ_INIT (&k->late);
	TAILQ_INIT (&k->blocked);
	TAILQ_INIT (&k->todo);
	k->by_id = map_create ();
	k->sweep = loop_timer_create (l, on_sweep, k);
	k->retry = loop_timer_create (l, on_retry, k);
	k->acks = loop_timer_create (l, on_acks, k);
	k->flush = loop_defer_create (l, on_flush, k);
	k->chores = loop_defer_create (l, on_chores, k);
	return k;
}

/* Within a host none of libzmq's threads is needed, and nothing is encrypted. */
const struct link_carrier *link_carrier_of (const char *address)
{
	return strncmp (address, LINK_IPC, strlen (LINK_IPC)) == 0 ? &link_over_ipc : &link_over_zmq;
}

static int listen_over (struct link *k, const struct link_carrier *by, const char *const *addresses, struct err *err)
{
	size_t n = 0;
	for (const char *const *a = addresses; *a; a++)
		n += link_carrier_of (*a) == by;
	if (n == 0)
		return 0;
	k->carriers[k->carriers[0] != NULL] = by;
	return by->listen (k, addresses, err);
}

int link_listen_within (struct link *k, const char *address, struct err *err)
{
	if (link_carrier_of (address) != &link_over_ipc || k->ipc)
		return err_set (err, ERR_INVALID, FAULT_SELF, "%s: not one ipc address", address);
	if (listen_over (k, &link_over_ipc, (const char *const[]) { address, NULL }, err) == 0)
		return 0;
	k->carriers[k->carriers[1] != NULL] = NULL;
	return -1;
}

struct link *link_listen (struct loop *l, void *zctx, const char *const *addresses, const struct link_opts *o, struct err *err)
{
	struct link *k = link_new (l, zctx, o, true, err);
	if (!k)
		return NULL;
	link_accept_guard ();
	if (listen_over (k, &link_over_zmq, addresses, err) < 0 || listen_over (k, &link_over_ipc, addresses, err) < 0) {
		link_free (k, 0);
		return NULL;
	}
	link_sweep_start (k);
	return k;
}

struct link *link_dial (struct loop *l, void *zctx, const char *address, const struct link_opts *o, struct err *err)
{
	struct link *k = link_new (l, zctx, o, false, err);
	if (k && link_dial_start (k, address, o, err) < 0) {
		link_free (k, 0);
		return NULL;
	}
	return k;
}

static bool unsent (struct link *k)
{
	bool some = !TAILQ_EMPTY (&k->blocked);
	for (size_t i = 0; k->carriers[i]; i++)
		some |= k->carriers[i]->unsent (k);
	return some;
}

/* Hand everything to the carriers; wait for peers that are slow, within linger_ms. (libzmq: the high-water mark stays as it is: to change it on a
 * socket with connections makes libzmq 4.3.4 tell pipes of it that its I/O thread may have freed a moment ago, when peers leave just now.) */
static void say_bye (struct link *k, int64_t linger_ms)
{
	int64_t end = clock_now_ms () + linger_ms;
	bool said = false;
	struct link_peer *p;
	if (!k->open)
		return;
	link_pause (k, true);		/* nothing is heard any more: a peer whose connection broke has nothing left to say, and is gone */
	TAILQ_FOREACH (p, &k->all, all_entry) {
		said |= p->state == PEER_UP;
		link_session_doom (p, WIRE_BYE, ERR_NONE, "the process ends");
	}
	link_outbox_flush_dirty (k);
	while (unsent (k) && clock_now_ms () < end) {	/* it moves the rest of a message, too, and a blocked peer waits for that */
		zmq_poll (NULL, 0, DESTROY_POLL_MS);
		link_outbox_retry (k);
	}
	for (size_t i = 0; said && linger_ms > 0 && k->carriers[i]; i++)
		if (k->carriers[i]->parting_ms)
			zmq_poll (NULL, 0, k->carriers[i]->parting_ms);
}

static void link_free (struct link *k, int64_t linger_ms)
{
	struct link_peer *p;
	int e = errno;
	k->muted = true;
	say_bye (k, linger_ms);
	if (k->listener)
		while ((p = TAILQ_FIRST (&k->all))) {
			TAILQ_REMOVE (&k->all, p, all_entry);
			link_peer_free (p);
		}
	else
		link_dial_stop (k);
	for (size_t i = 0; k->carriers[i]; i++)
		k->carriers[i]->close (k, linger_ms);
	link_zmq_fini (k);
	link_zap_leave (k);		/* after the socket: see link_zap.c */
	loop_timer_destroy (&k->sweep);
	loop_timer_destroy (&k->retry);
	loop_timer_destroy (&k->acks);
	loop_defer_destroy (&k->flush);
	loop_defer_destroy (&k->chores);
	link_table_fini (&k->table);
	map_destroy (&k->by_id);
	free (k->keys);
	free (k->endpoint);
	free (k->name);
	explicit_bzero (k->secret_key, sizeof (k->secret_key));
	free (k);
	errno = e;
}

void link_destroy (struct link **at, int64_t linger_ms)
{
	struct link *k = *at;
	if (!k)
		return;
	*at = NULL;
	if (k->in_call) {		/* from a callback: its caller is still on the stack */
		k->muted = true;
		k->linger_ms = linger_ms;
		return;
	}
	link_free (k, linger_ms);
}

/* ---- small public calls --------------------------------------------------------------------------------------- */

void link_pause (struct link *k, bool paused)
{
	struct link_peer *p;
	int64_t now = clock_now_ms ();
	if (k->paused == paused)
		return;
	k->paused = paused;
	if (!paused)			/* their heartbeats are still unread */
		TAILQ_FOREACH (p, &k->all, all_entry)
			p->heard_ms = now;
	for (size_t i = 0; k->carriers[i]; i++)
		k->carriers[i]->pause (k);
}

const char *link_address (const struct link *k)
{
	return k->endpoint;
}

void link_peer_close (struct link_peer *p, int code, const char *text)
{
	link_session_doom (p, WIRE_BYE, code, text ? text : "");
}

void link_peer_set_data (struct link_peer *p, void *data)
{
	p->data = data;
}

void *link_peer_data (const struct link_peer *p)
{
	return p->data;
}

const struct id *link_peer_id (const struct link_peer *p)
{
	return &p->id;
}

uint64_t link_peer_instance (const struct link_peer *p)
{
	return p->instance;
}

int link_peer_major (const struct link_peer *p)
{
	return p->major;
}

int link_peer_minor (const struct link_peer *p)
{
	return p->minor;
}

bool link_peer_bulk (const struct link_peer *p)
{
	return p->bulk;
}

const char *link_peer_key (const struct link_peer *p)
{
	return p->key;
}

bool link_peer_within (const struct link_peer *p)
{
	return p->by == &link_over_ipc;
}

uint64_t link_epoch (const struct link_peer *p)
{
	return p->epoch;
}

void link_stats (const struct link *k, struct link_stats *out)
{
	*out = k->stats;
}
