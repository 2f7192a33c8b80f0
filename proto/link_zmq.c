/* SPDX-License-Identifier: Apache-2.0 */
/* The carrier over libzmq: a ROUTER, or one DEALER per attempt, with CURVE between hosts.
 *
 * libzmq's own reconnecting is off: it keeps what was queued and would send it to whoever answers next, without a session. A new socket
 * starts empty. Its monitor tells what libzmq otherwise hides: that the key was refused, that the connection broke.
 *
 * Bounds: ZMQ_MAXMSGSIZE bounds a frame, WIRE_MAX_RECORDS the frames that are kept; those beyond are freed one by one as they come.
 * (libzmq holds a multipart message until its last frame is there; only peers that passed CURVE can make it do so.) */
#include "proto/link_internal.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "common/xmem.h"

enum { HANDSHAKE_MS = 20000, PULL_MAX = 1024, PARTING_MS = 5 };

/* ---- the socket ----------------------------------------------------------------------------------------------- */

static int set_int (struct link *k, int option, int value)
{
	return zmq_setsockopt (k->zmq.sock, option, &value, sizeof (value));
}

static int set_common (struct link *k)
{
	int64_t max_frame = (int64_t) k->max_frame_bytes;
	if (set_int (k, ZMQ_SNDHWM, k->hwm) < 0		/* short: our own queue is in front of it, counted in bytes */
	    || set_int (k, ZMQ_RCVHWM, k->hwm) < 0	/* a paused link stops its peers through TCP */
	    || set_int (k, ZMQ_LINGER, 0) < 0		/* what a dead peer did not take is sent again in the next session */
	    || zmq_setsockopt (k->zmq.sock, ZMQ_MAXMSGSIZE, &max_frame, sizeof (max_frame)) < 0	/* before libzmq allocates */
	    || set_int (k, ZMQ_IPV6, 1) < 0
	    /* Half-open connections die; but not those that wait for a processor, or many peers on a busy host would begin anew for ever. */
	    || set_int (k, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) < 0
	    || set_int (k, ZMQ_HEARTBEAT_IVL, 0) < 0	/* sessions have their own */
	    /* The kernel finds hosts that vanished without FIN, without waking us: else a listener would hold their descriptors for ever. */
	    || set_int (k, ZMQ_TCP_KEEPALIVE, 1) < 0 || set_int (k, ZMQ_TCP_KEEPALIVE_IDLE, 120) < 0
	    || set_int (k, ZMQ_TCP_KEEPALIVE_INTVL, 30) < 0 || set_int (k, ZMQ_TCP_KEEPALIVE_CNT, 4) < 0)
		return -1;
	return 0;
}

static int set_dealer (struct link *k)
{
	return set_int (k, ZMQ_IMMEDIATE, 0) < 0	/* the first HELLO waits in the socket; a socket serves one connection */
	       || set_int (k, ZMQ_CONNECT_TIMEOUT, 5000) < 0
	       /* link_dial.c makes a new socket instead. Not -1: libzmq would then drop what came before the connection ended. */
	       || set_int (k, ZMQ_RECONNECT_IVL, 24 * 3600 * 1000) < 0 ? -1 : 0;
}

static int set_router (struct link *k)
{
	return set_int (k, ZMQ_ROUTER_MANDATORY, 1) < 0	/* a full or vanished peer is an error, not a silent drop */
	       || set_int (k, ZMQ_BACKLOG, 1024) < 0 ? -1 : 0;	/* a whole cluster connects at once */
}

static int set_curve (struct link *k)
{
	if (zmq_setsockopt (k->zmq.sock, ZMQ_CURVE_PUBLICKEY, k->public_key, LINK_KEY_TEXT) < 0
	    || zmq_setsockopt (k->zmq.sock, ZMQ_CURVE_SECRETKEY, k->secret_key, LINK_KEY_TEXT) < 0)
		return -1;
	if (!k->listener)
		return zmq_setsockopt (k->zmq.sock, ZMQ_CURVE_SERVERKEY, k->dial.server_key, LINK_KEY_TEXT);
	return set_int (k, ZMQ_CURVE_SERVER, 1) < 0
	       || zmq_setsockopt (k->zmq.sock, ZMQ_ZAP_DOMAIN, k->domain, strlen (k->domain)) < 0 ? -1 : 0;
}

/* With its options, not yet bound or connected. */
static int socket_open (struct link *k, int type, struct err *err)
{
	if (!(k->zmq.sock = zmq_socket (k->zctx, type)))
		return err_set (err, ERR_LIMIT, FAULT_SITE, "opening a socket: %s", zmq_strerror (zmq_errno ()));
	k->open = true;
	k->zmq.gen++;
	if (set_common (k) < 0 || (k->listener ? set_router (k) : set_dealer (k)) < 0 || (k->curve && set_curve (k) < 0))
		return err_set (err, ERR_INVALID, FAULT_SELF, "%s: socket options or keys: %s", k->name, zmq_strerror (zmq_errno ()));
	return 0;
}

static void mon_close (struct link *k)
{
	if (k->zmq.sock)
		zmq_socket_monitor (k->zmq.sock, NULL, 0);
	zev_destroy (&k->zmq.mon_zev);
	if (k->zmq.mon)
		zmq_close (k->zmq.mon);
	k->zmq.mon = NULL;
}

void link_zmq_fini (struct link *k)
{
	for (size_t i = 0; i < k->zmq.cap; i++)
		zmq_msg_close (&k->zmq.frames[i]);
	free (k->zmq.frames);
}

static void carrier_close (struct link *k, int64_t linger_ms)
{
	mon_close (k);
	zev_destroy (&k->zmq.zev);
	if (!k->zmq.sock)
		return;
	if (linger_ms > 0)
		set_int (k, ZMQ_LINGER, (int) linger_ms);
	zmq_close (k->zmq.sock);
	k->zmq.sock = NULL;
	k->open = false;
	k->zmq.gen++;
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static int recv_frame (struct link *k, zmq_msg_t *m)
{
	int rc;
	do
		rc = zmq_msg_recv (m, k->zmq.sock, ZMQ_DONTWAIT);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -1 : 0;
}

/* Room for frame i; the array grows with what peers really send. */
static zmq_msg_t *frame_at (struct link *k, size_t i)
{
	if (i >= k->zmq.cap) {
		size_t n = k->zmq.cap ? k->zmq.cap * 2 : 64;
		zmq_msg_t *frames = xcalloc (n, sizeof (*frames));
		for (size_t j = 0; j < n; j++)
			zmq_msg_init (&frames[j]);
		for (size_t j = 0; j < k->zmq.cap; j++)
			zmq_msg_move (&frames[j], &k->zmq.frames[j]);
		free (k->zmq.frames);
		k->zmq.frames = frames;
		k->zmq.cap = n;
	}
	return &k->zmq.frames[i];
}

static void read_rid (struct link_in *in, zmq_msg_t *m)
{
	const uint8_t *b = zmq_msg_data (m);
	/* Ids that peers chose for themselves (no leading 0) are not served: nobody who speaks this protocol does that. */
	if (zmq_msg_size (m) != 5 || b[0] != 0)
		return;
	in->addressed = true;
	in->rid = (uint32_t) b[1] << 24 | (uint32_t) b[2] << 16 | (uint32_t) b[3] << 8 | b[4];
}

static void read_away (struct link *k)
{
	zmq_msg_t extra;
	bool more = true;
	zmq_msg_init (&extra);
	while (more && recv_frame (k, &extra) == 0)
		more = zmq_msg_more (&extra);
	zmq_msg_close (&extra);
}

/* *n: frames kept, the head among them. False: no message. */
static bool read_message (struct link *k, struct link_in *in, size_t *n)
{
	bool more = true;
	*in = (struct link_in) { .by = &link_over_zmq };
	*n = 0;
	if (k->listener) {
		zmq_msg_t id;
		zmq_msg_init (&id);
		if (recv_frame (k, &id) < 0) {
			zmq_msg_close (&id);
			return false;
		}
		read_rid (in, &id);
		more = zmq_msg_more (&id);
		zmq_msg_close (&id);
	} else {
		in->addressed = true;
	}
	for (; more && *n <= WIRE_MAX_RECORDS; (*n)++) {
		zmq_msg_t *m = frame_at (k, *n);
		if (recv_frame (k, m) < 0)
			break;
		more = zmq_msg_more (m);
	}
	in->headed = *n > 0;
	in->head = k->zmq.frames;
	in->recs = k->zmq.frames + 1;
	in->n = *n ? *n - 1 : 0;
	if (more && *n > WIRE_MAX_RECORDS) {
		in->overlong = true;
		read_away (k);
	}
	return k->listener || *n > 0;
}

static bool pull (struct link *k)
{
	struct link_in in;
	size_t n;
	if (!read_message (k, &in, &n))
		return false;
	k->burst_records += in.n;
	link_inbox_take (k, &in);
	for (size_t i = 0; i < n; i++) {
		zmq_msg_close (&k->zmq.frames[i]);
		zmq_msg_init (&k->zmq.frames[i]);
	}
	return true;
}

static void on_socket (struct zev *z, int events, void *arg)
{
	struct link *k = arg;
	unsigned gen = k->zmq.gen;
	link_enter (k);
	if (events & ZMQ_POLLERR) {
		log_error ("link", "socket died", "link=%s", k->name);
		if (!k->listener && k->dial.state == DIAL_UP)
			link_session_doom (k->dial.self, 0, ERR_INTERNAL, "socket died");
	} else {
		if ((events & ZMQ_POLLIN) && pull (k) && k->burst_records >= LINK_BURST_RECORDS)
			zev_end_burst (z);
		if ((events & ZMQ_POLLOUT) && !k->muted && gen == k->zmq.gen)
			link_outbox_retry (k);
	}
	link_leave (k);
}

static int watch (struct link *k, struct err *err)
{
	if (!(k->zmq.zev = zev_create (k->loop, k->zmq.sock, ZMQ_POLLIN, on_socket, k, err)))
		return -1;
	zev_on_burst_end (k->zmq.zev, link_burst_end);
	if (k->paused)
		zev_stop (k->zmq.zev);
	return 0;
}

/* ---- the monitor ---------------------------------------------------------------------------------------------- */

/* What came before the connection ended, perhaps a BYE or REJECT, is taken first. */
static void ended (struct link *k)
{
	unsigned gen = k->zmq.gen;
	for (int i = 0; i < PULL_MAX && !k->paused && !k->muted && gen == k->zmq.gen; i++)
		if (!pull (k))
			break;
	if (!k->muted && gen == k->zmq.gen)
		link_dial_ended (k);
}

static void on_monitor_event (struct link *k, int event)
{
	switch (event) {
	case ZMQ_EVENT_CONNECTED:
		link_dial_connected (k);
		break;
	case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
		link_dial_secured (k);
		break;
	case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
		link_dial_refused (k);
		break;
	case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
	case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
		link_dial_insecure (k);
		break;
	case ZMQ_EVENT_DISCONNECTED:
	case ZMQ_EVENT_CLOSED:
	case ZMQ_EVENT_CONNECT_RETRIED:
		ended (k);
		break;
	default:
		break;
	}
}

static void on_monitor (struct zev *z, int events, void *arg)
{
	struct link *k = arg;
	zmq_msg_t m, where;
	int event = 0;
	(void) z;
	if (events & ZMQ_POLLERR)
		return;
	zmq_msg_init (&m);
	zmq_msg_init (&where);
	if (zmq_msg_recv (&m, k->zmq.mon, ZMQ_DONTWAIT) >= 0) {
		uint16_t number;
		if (zmq_msg_size (&m) >= sizeof (number)) {
			memcpy (&number, zmq_msg_data (&m), sizeof (number));	/* host order: it never leaves the process */
			event = number;
		}
		if (zmq_msg_more (&m))
			zmq_msg_recv (&where, k->zmq.mon, ZMQ_DONTWAIT);
	}
	zmq_msg_close (&m);
	zmq_msg_close (&where);
	link_enter (k);
	on_monitor_event (k, event);
	link_leave (k);
}

static int mon_open (struct link *k, struct err *err)
{
	static atomic_uint serial;
	char address[64];
	int zero = 0;
	int events = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
		     | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_DISCONNECTED
		     | ZMQ_EVENT_CLOSED | ZMQ_EVENT_CONNECT_RETRIED;
	snprintf (address, sizeof (address), "inproc://weft-link-monitor-%u", atomic_fetch_add (&serial, 1));
	if (zmq_socket_monitor (k->zmq.sock, address, events) < 0 || !(k->zmq.mon = zmq_socket (k->zctx, ZMQ_PAIR))
	    || zmq_setsockopt (k->zmq.mon, ZMQ_LINGER, &zero, sizeof (zero)) < 0 || zmq_connect (k->zmq.mon, address) < 0)
		return err_set (err, ERR_INTERNAL, FAULT_SELF, "watching a socket: %s", zmq_strerror (zmq_errno ()));
	k->zmq.mon_zev = zev_create (k->loop, k->zmq.mon, ZMQ_POLLIN, on_monitor, k, err);
	return k->zmq.mon_zev ? 0 : -1;
}

/* ---- what the link asks for ----------------------------------------------------------------------------------- */

static int carrier_listen (struct link *k, const char *const *addresses, struct err *err)
{
	char last[512] = "";
	size_t n = sizeof (last);
	if ((k->curve && link_zap_join (k, err) < 0) || socket_open (k, ZMQ_ROUTER, err) < 0)
		return -1;
	for (; *addresses; addresses++)
		if (link_carrier_of (*addresses) == &link_over_zmq && zmq_bind (k->zmq.sock, *addresses) < 0)
			return err_set (err, ERR_IO, FAULT_SITE, "listening on %s: %s", *addresses, zmq_strerror (zmq_errno ()));
	if (zmq_getsockopt (k->zmq.sock, ZMQ_LAST_ENDPOINT, last, &n) < 0)
		return err_set (err, ERR_INTERNAL, FAULT_SELF, "reading the bound address: %s", zmq_strerror (zmq_errno ()));
	k->endpoint = xstrdup (last);
	return watch (k, err);
}

static int carrier_dial (struct link *k, struct err *err)
{
	if (socket_open (k, ZMQ_DEALER, err) < 0 || mon_open (k, err) < 0)
		return -1;
	if (zmq_connect (k->zmq.sock, k->dial.via) < 0)
		return err_set (err, ERR_INVALID, FAULT_USER, "connecting to %s: %s", k->dial.via, zmq_strerror (zmq_errno ()));
	if (watch (k, err) < 0)
		return -1;
	link_dial_hello (k);		/* waits in the socket until it is connected */
	return 0;
}

static void carrier_pause (struct link *k)
{
	if (k->zmq.zev && k->paused)
		zev_stop (k->zmq.zev);
	else if (k->zmq.zev)
		zev_start (k->zmq.zev);
}

static int carrier_frame (struct link *k, zmq_msg_t *m, bool more)
{
	int rc;
	do
		rc = zmq_msg_send (m, k->zmq.sock, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
	while (rc < 0 && errno == EINTR);
	if (rc >= 0)
		return 0;
	int e = errno;
	zmq_msg_close (m);
	zmq_msg_init (m);
	errno = e;
	return -1;
}

static int send_bytes (struct link *k, const void *p, size_t n, bool more)
{
	zmq_msg_t m;
	if (zmq_msg_init_size (&m, n) < 0)
		return -1;
	memcpy (zmq_msg_data (&m), p, n);
	return carrier_frame (k, &m, more);
}

/* Routing id and header. libzmq decides on the first frame whether there is room; the others follow it in any case. */
static int carrier_begin (struct link *k, uint32_t rid, const struct wire_header *h)
{
	uint8_t head[WIRE_HEADER_BYTES];
	if (k->listener) {
		uint8_t id[5] = { 0, rid >> 24, rid >> 16, rid >> 8, rid };
		if (send_bytes (k, id, sizeof (id), true) < 0)
			return -1;
	}
	wire_header_encode (h, head);
	return send_bytes (k, head, sizeof (head), h->count > 0);
}

static void carrier_flush (struct link *k)
{
	if (k->zmq.zev)
		zev_touch (k->zmq.zev);
}

static void carrier_blocked (struct link *k, bool some)
{
	/* A ROUTER says it is writable as long as any of its peers is, so its ZMQ_POLLOUT would spin. */
	if (!k->listener && k->zmq.zev)
		zev_set_interest (k->zmq.zev, some ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN);
}

/* Reading the events makes the socket take in that its peers have read; a send does so only now and then. */
static void carrier_settle (struct link *k)
{
	int events;
	size_t n = sizeof (events);
	zmq_getsockopt (k->zmq.sock, ZMQ_EVENTS, &events, &n);
}

static bool carrier_unsent (struct link *k)
{
	(void) k;
	return false;
}

/* What the I/O thread has not begun to send when the socket is closed, libzmq may lose whatever the linger (its issues 1922 and 4660; here 3 of
 * 100 BYEs on a loaded machine). There is nothing that tells when it has: it gets a moment. */
const struct link_carrier link_over_zmq = {
	.listen = carrier_listen, .dial = carrier_dial, .close = carrier_close, .pause = carrier_pause, .begin = carrier_begin,
	.frame = carrier_frame, .flush = carrier_flush, .blocked = carrier_blocked, .settle = carrier_settle, .unsent = carrier_unsent,
	.parting_ms = PARTING_MS,
};
