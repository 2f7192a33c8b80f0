/* SPDX-License-Identifier: Apache-2.0 */
/* Run a command to its end and gather what it says.
 *
 * It is over when the child has been reaped and both pipes have ended; a grandchild that keeps a pipe open is waited
 * for PIPE_GRACE_MS at most. What exceeds max_bytes is read and thrown away, so that the child does not hang; err is
 * then ERR_TOO_LARGE beside the true status, and out holds the first max_bytes. A failure to start is reported by
 * spawn_capture itself, without a callback. */
#include "common/spawn.h"
#include "common/buf.h"
#include "common/xmem.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIPE_GRACE_MS = 1000, READ_BYTES = 16384, READS_IN_A_ROW = 16 };

struct stream {
	struct capture *c;
	struct event *ev;	/* NULL: ended */
	int fd;
	struct buf data;
	size_t max;
	bool cut;
};

struct capture {
	struct loop *loop;
	struct spawn *child;	/* NULL: reaped */
	struct stream in, out, err;
	size_t written;
	int status;
	bool timed_out;
	int64_t timeout_ms;
	char *name;		/* owned; argv[0] */
	struct loop_timer *limit, *grace;
	spawn_capture_f *cb;
	void *arg;
};

static void stream_end (struct stream *s)
{
	if (s->ev)
		event_free (s->ev);
	s->ev = NULL;
	if (s->fd >= 0)
		close (s->fd);
	s->fd = -1;
}

static void capture_free (struct capture *c)
{
	stream_end (&c->in);
	stream_end (&c->out);
	stream_end (&c->err);
	buf_fini (&c->in.data);
	buf_fini (&c->out.data);
	buf_fini (&c->err.data);
	loop_timer_destroy (&c->limit);
	loop_timer_destroy (&c->grace);
	free (c->name);
	free (c);
}

static const char *text_of (const struct buf *b)
{
	return b->data ? (const char *) b->data : "";
}

static void finish (struct capture *c)
{
	struct err err, *e = NULL;
	int status = c->status;

	if (c->timed_out) {
		err_set (&err, ERR_TIMEOUT, FAULT_SITE, "%.200s did not end within %lld ms", c->name,
			 (long long) c->timeout_ms);
		e = &err;
		status = -1;
	} else if (c->out.cut || c->err.cut) {
		err_set (&err, ERR_TOO_LARGE, FAULT_SITE, "%.200s wrote more than %zu bytes", c->name, c->out.max);
		e = &err;
	}
	c->cb (status, text_of (&c->out.data), c->out.data.len, text_of (&c->err.data), c->err.data.len, e, c->arg);
	capture_free (c);
}

static void finish_if_over (struct capture *c)
{
	if (c->child)
		return;
	if (c->timed_out || (!c->out.ev && !c->err.ev))
		finish (c);
	else if (!loop_timer_pending (c->grace))
		loop_timer_start (c->grace, PIPE_GRACE_MS, false);
}

static void keep (struct stream *s, const char *p, size_t n)
{
	size_t room = s->max - s->data.len;

	if (n > room) {
		s->cut = true;
		n = room;
	}
	buf_add (&s->data, p, n);
	if (buf_failed (&s->data))
		s->cut = true;
}

static void on_output (evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;
	char chunk[READ_BYTES];

	(void) what;
	for (int i = 0; i < READS_IN_A_ROW; i++) {
		ssize_t n = read (fd, chunk, sizeof (chunk));
		if (n > 0) {
			keep (s, chunk, (size_t) n);
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		stream_end (s);
		finish_if_over (s->c);
		return;
	}
}

static void on_input (evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;
	struct capture *c = s->c;

	(void) what;
	while (c->written < s->data.len) {
		ssize_t n = write (fd, s->data.data + c->written, s->data.len - c->written);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			break; /* it does not want to read it: its status tells */
		c->written += (size_t) n;
	}
	stream_end (s);
}

static void on_exit_ (struct spawn *child, pid_t pid, int status, const struct rusage *ru, void *arg)
{
	struct capture *c = arg;

	(void) child;
	(void) pid;
	(void) ru;
	c->child = NULL;
	c->status = status;
	stream_end (&c->in);
	loop_timer_stop (c->limit);
	finish_if_over (c);
}

static void over_limit (void *arg)
{
	struct capture *c = arg;

	c->timed_out = true;
	spawn_stop (c->child, 0); /* the group goes with it */
}

static void grace_over (void *arg)
{
	finish (arg);
}

/* Our end (nonblocking) goes to s, the child's is returned; -1 on failure. */
static int stream_open (struct stream *s, struct loop *l, bool to_child, event_callback_fn cb)
{
	int p[2], ours, theirs;

	if (pipe2 (p, O_CLOEXEC) < 0)
		return -1;
	ours = to_child ? p[1] : p[0];
	theirs = to_child ? p[0] : p[1];
	fcntl (ours, F_SETFL, O_NONBLOCK);
	s->fd = ours;
	s->ev = event_new (loop_base (l), ours, (to_child ? EV_WRITE : EV_READ) | EV_PERSIST, cb, s);
	if (!s->ev || event_add (s->ev, NULL) < 0) {
		close (theirs);
		return -1;
	}
	return theirs;
}

static struct capture *capture_create (struct loop *l, size_t max_bytes)
{
	struct capture *c = xcalloc (1, sizeof (*c));

	c->loop = l;
	c->in.fd = c->out.fd = c->err.fd = -1;
	c->in.c = c->out.c = c->err.c = c;
	c->out.max = c->err.max = max_bytes;
	buf_init (&c->in.data, 0);
	buf_init (&c->out.data, max_bytes);
	buf_init (&c->err.data, max_bytes);
	c->limit = loop_timer_create (l, over_limit, c);
	c->grace = loop_timer_create (l, grace_over, c);
	return c;
}

int spawn_capture (struct loop *l, const char *const *argv, const char *input, int64_t timeout_ms, size_t max_bytes,
		   spawn_capture_f *cb, void *arg, struct err *err)
{
	struct capture *c = capture_create (l, max_bytes);
	struct spawn_fd fds[3] = { { -1, 1 }, { -1, 2 }, { -1, 0 } };
	struct spawn_opts o = { .argv = argv, .fds = fds, .nfds = input ? 3 : 2 };

	c->cb = cb;
	c->arg = arg;
	c->timeout_ms = timeout_ms;
	c->name = xstrdup (argv && argv[0] ? argv[0] : "");
	buf_str (&c->in.data, input);
	if (buf_failed (&c->in.data)) {
		err_set (err, ERR_TOO_LARGE, FAULT_SELF, "input of %s is too large", c->name);
		goto out;
	}
	if ((fds[0].from = stream_open (&c->out, l, false, on_output)) < 0 ||
	    (fds[1].from = stream_open (&c->err, l, false, on_output)) < 0 ||
	    (input && (fds[2].from = stream_open (&c->in, l, true, on_input)) < 0)) {
		err_errno (err, "making pipes for %s", c->name);
		goto out;
	}
	c->child = spawn_start (l, &o, on_exit_, c, err);
out:
	for (int i = 0; i < 3; i++)
		if (fds[i].from >= 0)
			close (fds[i].from);
	if (!c->child) {
		capture_free (c);
		return -1;
	}
	if (timeout_ms > 0)
		loop_timer_start (c->limit, timeout_ms, false);
	return 0;
}
