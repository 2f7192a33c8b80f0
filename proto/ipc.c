/* SPDX-License-Identifier: Apache-2.0 */
/* A connection:
 *
 *   GREETING    the peer's 64 bytes are good: READY is sent    HANDSHAKE
 *   HANDSHAKE   its READY is good: on_open                     OPEN
 *   any         end of file, an error, bytes that cannot be    gone
 *
 * One read for each connection and turn of the loop, so that one with much to say does not keep others from being heard. What a callback
 * closes is freed when the last of our functions has left the stack (enter, leave). */
#include "proto/ipc.h"
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "proto/zmtp.h"

enum {
	READ_BYTES = 64 << 10,		/* of a connection in a turn; more only into the frame that they belong to */
	DIRECT_BYTES = 1 << 20,
	STAGE_BYTES = 16 << 10, STAGE_PARTS = 64, STAGE_BIG = 24,
	STAGE_MAX = 256 << 10,		/* with this much nothing is added: about what the kernel takes */
	COPY_BYTES = 2048,		/* larger frames are written from where they are */
	KEEP_BYTES = 64 << 10, KEEP_FRAMES = 64,
	ACCEPTS = 64, BACKLOG = 1024, ACCEPT_PAUSE_MS = 100,
	HANDSHAKE_MS = 20000,
	SLOT_BITS = 20,			/* of a rid; above them is how often the slot was used */
	SLOTS_MIN = 64,
};

enum state { GREETING, HANDSHAKE, OPEN };

struct conn {
	struct ipc *s;
	int fd;
	uint32_t rid;
	enum state state;
	struct event *rd, *wr;		/* wr: while `out` has something */
	uint8_t greeting[ZMTP_GREETING_BYTES];
	size_t ngreeting;
	int64_t since_ms;
	struct zmtp_reader in;
	zmq_msg_t *frames;		/* of the message that comes in; all initialised */
	size_t nframes, cap, bytes;
	bool cut;
	struct buf held;		/* read, but not looked at: we were paused */
	struct buf out;			/* what the kernel did not take, from out_at on */
	size_t out_at;
	bool broken;			/* writing failed: what it said before is still to be read */
	size_t rest;			/* of that, when broken */
	bool wanted;			/* begin said EAGAIN */
	bool gone;
	STAILQ_ENTRY (conn) grave;
};

struct slot { struct conn *c; uint32_t uses; uint32_t next_free; };

struct door { int fd; struct event *ev; char *path; dev_t dev; ino_t ino; };

/* What goes to one connection, until it is written: small frames in bytes, large ones where they are. */
struct stage {
	struct conn *to;
	uint8_t bytes[STAGE_BYTES];
	size_t n;
	struct iovec part[STAGE_PARTS];
	int nparts;
	size_t total;			/* bytes of the parts */
	zmq_msg_t big[STAGE_BIG];
	int nbig;
};

struct ipc {
	struct loop *loop;		/* borrowed */
	struct ipc_opts o;
	enum zmtp_type type;
	bool paused, closed;
	int in_call;
	struct conn *self;		/* dialler */
	struct door *doors;		/* listener */
	size_t ndoors;
	struct slot *slots;
	size_t nslots;
	uint32_t first_free, last_free;	/* index + 1; 0 = none. Longest free first, so that a number comes again as late as can be */
	size_t unready;			/* connections before OPEN */
	struct loop_timer *patience, *reopen;
	struct loop_defer *burst, *told_end, *told_writable;
	STAILQ_HEAD (, conn) graves;
	struct stage stage;
};

/* ---- life and death ------------------------------------------------------------------------------------------- */

static void conn_free (struct conn *c)
{
	for (size_t i = 0; i < c->cap; i++)
		zmq_msg_close (&c->frames[i]);
	free (c->frames);
	zmtp_reader_fini (&c->in);
	buf_fini (&c->held);
	buf_fini (&c->out);
	free (c);
}

static void enter (struct ipc *s)
{
	s->in_call++;
}

static void leave (struct ipc *s)
{
	struct conn *c;
	if (--s->in_call > 0)
		return;
	while ((c = STAILQ_FIRST (&s->graves))) {
		STAILQ_REMOVE_HEAD (&s->graves, grave);
		conn_free (c);
	}
	if (s->closed)
		free (s);
}

static void slot_free (struct ipc *s, uint32_t i)
{
	s->slots[i].c = NULL;
	s->slots[i].next_free = 0;
	if (s->first_free)
		s->slots[s->last_free - 1].next_free = i + 1;
	else
		s->first_free = i + 1;
	s->last_free = i + 1;
}

static void slot_give (struct ipc *s, struct conn *c)
{
	uint32_t i = s->first_free;
	if (!i) {
		size_t had = s->nslots;
		s->nslots = had ? had * 2 : SLOTS_MIN;
		s->slots = xrealloc (s->slots, s->nslots * sizeof (*s->slots));
		memset (s->slots + had, 0, (s->nslots - had) * sizeof (*s->slots));
		for (size_t k = had; k < s->nslots; k++)
			slot_free (s, (uint32_t) k);
		i = s->first_free;
	}
	s->first_free = s->slots[i - 1].next_free;
	s->slots[i - 1].c = c;
	c->rid = s->slots[i - 1].uses++ << SLOT_BITS | (i - 1);
}

static struct conn *conn_of (struct ipc *s, uint32_t rid)
{
	uint32_t i = rid & ((1u << SLOT_BITS) - 1);
	if (s->type == ZMTP_DEALER)
		return s->self;
	return i < s->nslots && s->slots[i].c && s->slots[i].c->rid == rid ? s->slots[i].c : NULL;
}

/* The stage is empty again; its large frames are given back. */
static void stage_clear (struct stage *g)
{
	for (int i = 0; i < g->nbig; i++)
		zmq_msg_close (&g->big[i]);
	g->to = NULL;
	g->n = g->total = 0;
	g->nparts = g->nbig = 0;
}

static void conn_end (struct conn *c, const char *why)
{
	struct ipc *s = c->s;
	if (c->gone)
		return;
	c->gone = true;
	log_debug ("ipc", "connection ended", "why=%s", why);
	if (s->stage.to == c)
		stage_clear (&s->stage);
	event_free (c->rd);
	event_free (c->wr);
	close (c->fd);
	s->unready -= c->state != OPEN;
	if (s->type == ZMTP_ROUTER)
		slot_free (s, c->rid & ((1u << SLOT_BITS) - 1));
	else
		s->self = NULL;
	if (c->wanted)
		loop_defer_schedule (s->told_writable);
	if (s->type == ZMTP_DEALER)
		loop_defer_schedule (s->told_end);
	STAILQ_INSERT_TAIL (&s->graves, c, grave);	/* its frames may be with a callback */
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

/* What it says from now on it says to nobody: one that goes on talking would keep us for ever. */
static void fail_write (struct conn *c)
{
	int said = 0;
	if (!c->broken && ioctl (c->fd, FIONREAD, &said) == 0)
		c->rest = (size_t) said;
	c->broken = true;
	event_del (c->wr);
	buf_fini (&c->out);
	c->out_at = 0;
	event_active (c->rd, EV_READ, 0);	/* reads what is there, then ends it */
}

/* The kernel took `done` bytes of the stage: the rest follows when it takes more. */
static void keep_rest (struct conn *c, const struct stage *g, size_t done)
{
	for (int i = 0; i < g->nparts; i++) {
		const struct iovec *v = &g->part[i];
		size_t skip = done < v->iov_len ? done : v->iov_len;
		buf_add (&c->out, (const uint8_t *) v->iov_base + skip, v->iov_len - skip);
		done -= skip;
	}
	if (buf_failed (&c->out))
		abort ();
	event_add (c->wr, NULL);
}

static void stage_write (struct ipc *s)
{
	struct stage *g = &s->stage;
	struct conn *c = g->to;
	ssize_t n = 0;

	if (!c || g->nparts == 0)
		return;
	if (c->out.len == 0) {
		struct msghdr m = { .msg_iov = g->part, .msg_iovlen = (size_t) g->nparts };
		do
			n = sendmsg (c->fd, &m, MSG_NOSIGNAL);
		while (n < 0 && errno == EINTR);
	}
	if (n < 0 && (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN))
		fail_write (c);
	else if ((n < 0 ? 0 : (size_t) n) < g->total && !c->broken)
		keep_rest (c, g, n < 0 ? 0 : (size_t) n);
	stage_clear (g);
	g->to = c;
}

static void part_add (struct stage *g, const void *p, size_t n)
{
	struct iovec *last = g->nparts ? &g->part[g->nparts - 1] : NULL;
	g->total += n;
	if (last && (const uint8_t *) last->iov_base + last->iov_len == p)
		last->iov_len += n;
	else
		g->part[g->nparts++] = (struct iovec) { (void *) (uintptr_t) p, n };
}

static void stage_copy (struct stage *g, const void *p, size_t n)
{
	uint8_t *at = g->bytes + g->n;
	if (n)
		memcpy (at, p, n);
	g->n += n;
	part_add (g, at, n);
}

static void stage_head (struct stage *g, size_t n, bool more)
{
	uint8_t head[ZMTP_HEAD_MAX];
	size_t bytes = zmtp_head (head, n, more ? ZMTP_MORE : 0);
	stage_copy (g, head, bytes);
}

static void stage_room (struct ipc *s, size_t n)
{
	struct stage *g = &s->stage;
	if (g->n + n > STAGE_BYTES || g->nparts + 3 > STAGE_PARTS || g->nbig == STAGE_BIG)
		stage_write (s);
}

int ipc_begin (struct ipc *s, uint32_t rid)
{
	struct conn *c = conn_of (s, rid);
	if (s->stage.to && s->stage.to != c)
		ipc_flush (s);
	else if (s->stage.total >= STAGE_MAX)
		stage_write (s);
	if (!c || (c->broken && s->paused)) {
		errno = EHOSTUNREACH;
		return -1;
	}
	if (c->broken || c->state != OPEN || c->out.len) {
		c->wanted = true;
		errno = EAGAIN;
		return -1;
	}
	s->stage.to = c;
	return 0;
}

void ipc_bytes (struct ipc *s, const void *p, size_t n, bool more)
{
	stage_room (s, ZMTP_HEAD_MAX + n);
	stage_head (&s->stage, n, more);
	stage_copy (&s->stage, p, n);
}

void ipc_frame (struct ipc *s, zmq_msg_t *m, bool more)
{
	struct stage *g = &s->stage;
	size_t n = zmq_msg_size (m);
	bool copy = n <= COPY_BYTES;

	stage_room (s, ZMTP_HEAD_MAX + (copy ? n : 0));
	stage_head (g, n, more);
	if (copy) {
		stage_copy (g, zmq_msg_data (m), n);
		zmq_msg_close (m);
		zmq_msg_init (m);
	} else {
		zmq_msg_t *big = &g->big[g->nbig++];
		zmq_msg_init (big);
		zmq_msg_move (big, m);
		part_add (g, zmq_msg_data (big), n);
	}
}

void ipc_flush (struct ipc *s)
{
	stage_write (s);
	s->stage.to = NULL;
}

static void out_write (struct conn *c)
{
	while (c->out_at < c->out.len) {
		ssize_t n = send (c->fd, c->out.data + c->out_at, c->out.len - c->out_at, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM))
			return;
		if (n < 0) {
			fail_write (c);
			return;
		}
		c->out_at += (size_t) n;
	}
	if (c->out.cap > KEEP_BYTES)
		buf_fini (&c->out);
	else
		buf_clear (&c->out);
	c->out_at = 0;
	event_del (c->wr);
}

static void on_writable (evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct ipc *s = c->s;
	(void) fd;
	(void) what;
	enter (s);
	out_write (c);
	if (!c->broken && c->out.len == 0 && c->wanted) {
		c->wanted = false;
		s->o.ops->on_writable (s->o.arg);
	}
	leave (s);
}

/* Before the connection is open nothing else is written, and so little always fits. */
static void write_now (struct conn *c, const uint8_t *p, size_t n)
{
	if (send (c->fd, p, n, MSG_NOSIGNAL) != (ssize_t) n)
		conn_end (c, "the handshake cannot be sent");
}

bool ipc_unsent (struct ipc *s)
{
	bool left = false;
	ipc_flush (s);
	if (s->self && s->self->out.len) {
		out_write (s->self);
		left = s->self->out.len > 0;
	}
	for (size_t i = 0; i < s->nslots; i++) {
		struct conn *c = s->slots[i].c;
		if (c && c->out.len) {
			out_write (c);
			left |= c->out.len > 0;
		}
	}
	return left;
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static void take_greeting (struct conn *c, const uint8_t **at, const uint8_t *end)
{
	struct err err = { 0 };
	uint8_t ready[ZMTP_READY_MAX];
	size_t n = sizeof (c->greeting) - c->ngreeting;

	if (n > (size_t) (end - *at))
		n = (size_t) (end - *at);
	memcpy (c->greeting + c->ngreeting, *at, n);
	c->ngreeting += n;
	*at += n;
	if (zmtp_greeting_check (c->greeting, c->ngreeting, &err) < 0) {
		conn_end (c, err.text);
	} else if (c->ngreeting == sizeof (c->greeting)) {
		c->state = HANDSHAKE;
		write_now (c, ready, zmtp_ready (ready, c->s->type));
	}
}

static void take_command (struct conn *c)
{
	struct ipc *s = c->s;
	struct err err = { 0 };

	if (c->state == OPEN)
		return;			/* of a newer version: nothing that changes what we do */
	if (zmtp_ready_check (zmq_msg_data (&c->in.frame), zmq_msg_size (&c->in.frame), s->type, &err) < 0) {
		conn_end (c, err.text);
		return;
	}
	c->state = OPEN;
	c->in.max_frame = s->o.max_frame;
	s->unready--;
	if (s->type == ZMTP_DEALER)
		s->o.ops->on_open (s->o.arg);
}

static void frame_keep (struct conn *c)
{
	if (c->nframes == c->s->o.max_frames) {
		c->cut = true;
		return;
	}
	if (c->nframes == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 4;
		zmq_msg_t *frames = xcalloc (cap, sizeof (*frames));
		for (size_t i = 0; i < cap; i++)
			zmq_msg_init (&frames[i]);
		for (size_t i = 0; i < c->nframes; i++)
			zmq_msg_move (&frames[i], &c->frames[i]);
		free (c->frames);
		c->frames = frames;
		c->cap = cap;
	}
	c->bytes += zmq_msg_size (&c->in.frame);
	zmq_msg_move (&c->frames[c->nframes++], &c->in.frame);
}

static void deliver (struct conn *c)
{
	struct ipc *s = c->s;
	size_t n = c->nframes;
	bool cut = c->cut;

	loop_defer_schedule (s->burst);
	c->nframes = c->bytes = 0;
	c->cut = false;
	s->o.ops->on_message (s->type == ZMTP_ROUTER ? c->rid : 0, c->frames, n, cut, s->o.arg);
	for (size_t i = 0; i < n; i++) {
		zmq_msg_close (&c->frames[i]);
		zmq_msg_init (&c->frames[i]);
	}
	if (c->cap > KEEP_FRAMES) {
		for (size_t i = 0; i < c->cap; i++)
			zmq_msg_close (&c->frames[i]);
		free (c->frames);
		c->frames = NULL;
		c->cap = 0;
	}
}

static void take_frame (struct conn *c)
{
	if (c->in.flags & ZMTP_COMMAND) {
		take_command (c);
	} else if (c->state != OPEN) {
		conn_end (c, "a message before the handshake");
	} else {
		frame_keep (c);
		if (c->bytes > c->s->o.max_message)
			conn_end (c, "a message larger than allowed");
		else if (!(c->in.flags & ZMTP_MORE))
			deliver (c);
	}
}

static bool stopped (const struct conn *c)
{
	return c->gone || c->s->closed || (c->s->paused && c->state == OPEN);
}

static void feed (struct conn *c, const uint8_t *at, const uint8_t *end)
{
	struct err err = { 0 };
	while (at < end && !stopped (c)) {
		int rc = 0;
		if (c->state == GREETING)
			take_greeting (c, &at, end);
		else if ((rc = zmtp_read (&c->in, &at, end, &err)) > 0)
			take_frame (c);
		if (rc < 0)
			conn_end (c, err.text);
	}
	if (at < end && !c->gone && !c->s->closed) {	/* paused by a callback */
		buf_add (&c->held, at, (size_t) (end - at));
		if (buf_failed (&c->held))
			abort ();
	}
}

/* Whether there may be more. */
static bool pull (struct conn *c)
{
	uint8_t bytes[READ_BYTES], *to = NULL;
	size_t room = zmtp_room (&c->in, &to);
	bool direct = room >= sizeof (bytes);
	size_t most = !direct ? sizeof (bytes) : room < DIRECT_BYTES ? room : DIRECT_BYTES;
	ssize_t n;

	if (c->broken && c->rest == 0) {
		conn_end (c, "it reads no longer");
		return false;
	}
	if (c->broken && most > c->rest)
		most = c->rest;
	do
		n = read (c->fd, direct ? to : bytes, most);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (c->broken && n > 0)
		c->rest -= (size_t) n;
	if (n <= 0) {
		conn_end (c, n < 0 ? strerror (errno) : "closed by the peer");
		return false;
	}
	if (!direct)
		feed (c, bytes, bytes + n);
	else if (zmtp_put (&c->in, (size_t) n))
		take_frame (c);
	return !stopped (c);
}

static void feed_held (struct conn *c)
{
	struct buf held = c->held;
	buf_init (&c->held, 0);
	feed (c, held.data, held.data + held.len);
	buf_fini (&held);
}

static void on_readable (evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct ipc *s = c->s;
	(void) fd;
	(void) what;
	if (stopped (c)) {
		event_del (c->rd);	/* until ipc_pause (s, false) */
		return;
	}
	enter (s);
	if (c->held.len)
		feed_held (c);
	while (!stopped (c) && pull (c) && c->broken)
		;
	leave (s);
}

void ipc_pause (struct ipc *s, bool paused)
{
	s->paused = paused;
	if (paused)
		return;			/* events find out by themselves */
	for (size_t i = 0; i <= s->nslots; i++) {
		struct conn *c = i < s->nslots ? s->slots[i].c : s->self;
		if (!c)
			continue;
		event_add (c->rd, NULL);
		if (c->held.len || c->broken)
			event_active (c->rd, EV_READ, 0);
	}
}

/* ---- connections ---------------------------------------------------------------------------------------------- */

static struct conn *conn_new (struct ipc *s, int fd)
{
	struct conn *c = xcalloc (1, sizeof (*c));
	uint8_t greeting[ZMTP_GREETING_BYTES];

	c->s = s;
	c->fd = fd;
	c->since_ms = clock_now_ms ();
	zmtp_reader_init (&c->in, s->o.max_frame < ZMTP_COMMAND_MAX ? s->o.max_frame : ZMTP_COMMAND_MAX);	/* until it is open */
	buf_init (&c->held, 0);
	buf_init (&c->out, 0);
	c->rd = event_new (loop_base (s->loop), fd, EV_READ | EV_PERSIST, on_readable, c);
	c->wr = event_new (loop_base (s->loop), fd, EV_WRITE | EV_PERSIST, on_writable, c);
	if (!c->rd || !c->wr || event_add (c->rd, NULL) < 0)
		abort ();		/* no memory */
	s->unready++;
	if (s->type == ZMTP_ROUTER)
		slot_give (s, c);
	else
		s->self = c;
	zmtp_greeting (greeting);
	write_now (c, greeting, sizeof (greeting));
	return c;
}

static int address_of (struct sockaddr_un *sa, const char *path, struct err *err)
{
	*sa = (struct sockaddr_un) { .sun_family = AF_UNIX };
	if (!path[0] || strlen (path) >= sizeof (sa->sun_path))
		return err_set (err, ERR_INVALID, FAULT_USER, "the path of a socket has 1 to %zu bytes: %s", sizeof (sa->sun_path) - 1, path);
	memcpy (sa->sun_path, path, strlen (path));
	return 0;
}

static bool welcome (const struct ipc *s, int fd)
{
	struct ucred who = { 0 };
	socklen_t n = sizeof (who);
	if (!s->o.own_user || (getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 && who.uid == geteuid ()))
		return true;
	log_warn ("ipc", "the other side of a socket is another user's process", "pid=%d uid=%d", (int) who.pid, (int) who.uid);
	return false;
}

static void on_accept (evutil_socket_t fd, short what, void *arg)
{
	struct ipc *s = arg;
	(void) what;
	enter (s);
	for (int i = 0; i < ACCEPTS; i++) {
		int peer = accept4 (fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (peer < 0 && (errno == ECONNABORTED || errno == EINTR))
			continue;
		if (peer < 0 && i == 0) {	/* readable, and yet none can be had: no descriptors, no memory */
			for (size_t k = 0; k < s->ndoors; k++)
				event_del (s->doors[k].ev);
			loop_timer_start (s->reopen, ACCEPT_PAUSE_MS, false);
		}
		if (peer < 0)
			break;
		if (!welcome (s, peer)) {
			close (peer);
			continue;
		}
		conn_new (s, peer);
		if (!loop_timer_pending (s->patience))
			loop_timer_start (s->patience, s->o.handshake_ms / 4, true);
	}
	leave (s);
}

static void on_reopen (void *arg)
{
	struct ipc *s = arg;
	for (size_t k = 0; k < s->ndoors; k++)
		event_add (s->doors[k].ev, NULL);
}

static void on_patience (void *arg)
{
	struct ipc *s = arg;
	int64_t now = clock_now_ms ();
	enter (s);
	for (size_t i = 0; i < s->nslots; i++) {
		struct conn *c = s->slots[i].c;
		if (c && c->state != OPEN && now - c->since_ms >= s->o.handshake_ms)
			conn_end (c, "no handshake");
	}
	if (s->unready == 0)
		loop_timer_stop (s->patience);
	leave (s);
}

static void on_burst (void *arg)
{
	struct ipc *s = arg;
	enter (s);
	s->o.ops->on_burst_end (s->o.arg);
	leave (s);
}

static void tell_end (void *arg)
{
	struct ipc *s = arg;
	enter (s);
	s->o.ops->on_end (s->o.arg);
	leave (s);
}

static void tell_writable (void *arg)
{
	struct ipc *s = arg;
	enter (s);
	s->o.ops->on_writable (s->o.arg);
	leave (s);
}

static struct ipc *ipc_new (struct loop *l, enum zmtp_type type, const struct ipc_opts *o)
{
	struct ipc *s = xcalloc (1, sizeof (*s));
	s->loop = l;
	s->o = *o;
	if (!s->o.handshake_ms)
		s->o.handshake_ms = HANDSHAKE_MS;
	s->type = type;
	STAILQ_INIT (&s->graves);
	s->burst = loop_defer_create (l, on_burst, s);
	s->told_end = loop_defer_create (l, tell_end, s);
	s->told_writable = loop_defer_create (l, tell_writable, s);
	s->patience = loop_timer_create (l, on_patience, s);
	s->reopen = loop_timer_create (l, on_reopen, s);
	return s;
}

static int door_open (struct ipc *s, const char *path, struct err *err)
{
	struct door *d;
	struct sockaddr_un sa;
	struct stat st;

	if (address_of (&sa, path, err) < 0)
		return -1;
	s->doors = xrealloc (s->doors, (s->ndoors + 1) * sizeof (*s->doors));
	d = &s->doors[s->ndoors++];
	*d = (struct door) { .fd = socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) };
	if (d->fd < 0)
		return err_errno (err, "opening a socket");
	if (lstat (path, &st) == 0 && S_ISSOCK (st.st_mode))
		unlink (path);		/* of one that was killed */
	if (bind (d->fd, (struct sockaddr *) &sa, sizeof (sa)) < 0 || listen (d->fd, BACKLOG) < 0 || stat (path, &st) < 0)
		return err_errno (err, "listening on %s", path);
	d->path = xstrdup (path);
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	d->ev = event_new (loop_base (s->loop), d->fd, EV_READ | EV_PERSIST, on_accept, s);
	if (!d->ev || event_add (d->ev, NULL) < 0)
		return err_set (err, ERR_INTERNAL, FAULT_SELF, "adding a socket to the loop");
	return 0;
}

struct ipc *ipc_listen (struct loop *l, const char *const *paths, const struct ipc_opts *o, struct err *err)
{
	struct ipc *s = ipc_new (l, ZMTP_ROUTER, o);
	for (; *paths; paths++)
		if (door_open (s, *paths, err) < 0) {
			ipc_close (&s);
			return NULL;
		}
	return s;
}

struct ipc *ipc_dial (struct loop *l, const char *path, const struct ipc_opts *o, struct err *err)
{
	struct sockaddr_un sa;
	struct ipc *s;
	int fd, rc;

	if (address_of (&sa, path, err) < 0)
		return NULL;
	if ((fd = socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0) {
		err_errno (err, "opening a socket");
		return NULL;
	}
	s = ipc_new (l, ZMTP_DEALER, o);
	do
		rc = connect (fd, (struct sockaddr *) &sa, sizeof (sa));
	while (rc < 0 && errno == EINTR);
	if (rc < 0 || !welcome (s, fd)) {
		close (fd);
		loop_defer_schedule (s->told_end);
		return s;
	}
	enter (s);
	conn_new (s, fd);
	leave (s);
	return s;
}

bool ipc_connected (const struct ipc *s)
{
	return s->self != NULL;
}

static void door_close (struct door *d)
{
	struct stat st;
	if (d->ev)
		event_free (d->ev);
	/* before it is closed: as long as it is open nobody else's file has its number */
	if (d->path && lstat (d->path, &st) == 0 && st.st_dev == d->dev && st.st_ino == d->ino)
		unlink (d->path);
	if (d->fd >= 0)
		close (d->fd);
	free (d->path);
}

void ipc_close (struct ipc **at)
{
	struct ipc *s = *at;
	if (!s)
		return;
	*at = NULL;
	enter (s);
	ipc_unsent (s);
	for (size_t i = 0; i < s->ndoors; i++)
		door_close (&s->doors[i]);
	free (s->doors);
	for (size_t i = 0; i < s->nslots; i++)
		if (s->slots[i].c)
			conn_end (s->slots[i].c, "we close");
	if (s->self)
		conn_end (s->self, "we close");
	free (s->slots);
	s->slots = NULL;
	s->doors = NULL;
	s->nslots = s->ndoors = 0;
	loop_defer_destroy (&s->burst);
	loop_defer_destroy (&s->told_end);
	loop_defer_destroy (&s->told_writable);
	loop_timer_destroy (&s->patience);
	loop_timer_destroy (&s->reopen);
	s->closed = true;
	leave (s);
}
