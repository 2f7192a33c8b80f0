/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that run code of users. All pipes are non-blocking on our side; reading has a budget per wake-up, so that a process that
 * prints without end slows the worker no more than one read. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include "common/log.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "worker/child.h"
#include "worker/proctree.h"

enum { PIPE_BYTES = 1 << 20, READ_BYTES = 1 << 16, READS_PER_WAKE = 16, SEGMENTS = 16, STUCK_MS = 5000, DOUBT_MS = 1000 };

/* Bytes to write: a copy (own) or a slice of somebody's (borrowed). */
struct segment { struct buf own; const uint8_t *p; size_t n; };

struct pipe_end { int fd; struct event *ev; };	/* fd -1: closed */

struct child {
	struct loop *loop;		/* borrowed */
	struct spawn *spawn;		/* NULL: reaped or given up */
	const struct child_ops *ops;	/* borrowed */
	void *arg;
	pid_t pid;
	struct pipe_end in, out, std[2];	/* std: its stdout and stderr, when they are not `out` */
	struct buf output;
	struct segment queue[SEGMENTS];
	size_t first, count, done;	/* done: bytes of queue[first] that are written */
	bool end_input, killed;
	struct tail tails[2];
	void *shared;			/* mapped, CHILD_SHARED_BYTES; NULL = none */
	struct loop_timer *late;	/* it was killed and does not end, it has ended and we are in doubt, or a pipe is closed */
	int status;			/* for then: how it ended */
	struct rusage ru;
};

/* ---- pipes ---------------------------------------------------------------------------------------------------- */

static void end_close (struct pipe_end *e)
{
	if (e->ev)
		event_free (e->ev);
	if (e->fd >= 0)
		close (e->fd);
	e->ev = NULL;
	e->fd = -1;
}

/* The other end is closed: mostly it is just ending, which on_exit tells. */
static void end_closed (struct child *c, struct pipe_end *e)
{
	end_close (e);
	if (c->ops->on_closed && c->spawn && !c->killed)
		loop_timer_start (c->late, DOUBT_MS, false);
}

/* ours: our end, non-blocking; returns the child's end. */
static int make_pipe (bool we_read, int *ours, int *theirs, struct err *err)
{
	int fds[2];

	if (pipe2 (fds, O_CLOEXEC) < 0)
		return err_errno (err, "making a pipe");
	*ours = fds[we_read ? 0 : 1];
	*theirs = fds[we_read ? 1 : 0];
	fcntl (*ours, F_SETFL, O_NONBLOCK);
	fcntl (*ours, F_SETPIPE_SZ, PIPE_BYTES);	/* fewer wake-ups; the default size serves as well */
	return 0;
}

static void drain_tail (struct child *c, int which)
{
	struct pipe_end *e = &c->std[which];
	char block[READ_BYTES];
	int i;

	for (i = 0; e->fd >= 0 && i < READS_PER_WAKE; i++) {
		ssize_t n = read (e->fd, block, sizeof (block));

		if (n > 0)
			tail_add (&c->tails[which], block, (size_t) n);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			end_close (e);
		if (n < (ssize_t) sizeof (block))
			return;
	}
}

static void on_std (evutil_socket_t fd, short what, void *arg)
{
	struct child *c = arg;

	(void) what;
	drain_tail (c, fd == c->std[0].fd ? 0 : 1);
}

/* How much to ask for: what is missing of a large frame would be read in pieces of 64 KiB otherwise. */
static bool read_output (struct child *c)
{
	size_t room;
	ssize_t n;

	if (c->out.fd < 0 || c->killed)
		return false;
	room = c->output.cap > c->output.len + READ_BYTES ? c->output.cap - c->output.len - 1 : READ_BYTES;
	if (room > PIPE_BYTES)
		room = PIPE_BYTES;
	if (buf_reserve (&c->output, room) < 0) {
		log_warn ("child", "more output than may be", "pid=%d bytes=%zu", (int) c->pid, c->output.len);
		child_kill (c);
		return false;
	}
	n = read (c->out.fd, c->output.data + c->output.len, room);
	if (n > 0) {
		c->output.len += (size_t) n;
		c->ops->on_output (c, &c->output, c->arg);
		return (size_t) n == room || n >= READ_BYTES;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		end_closed (c, &c->out);
	return false;
}

static void on_out (evutil_socket_t fd, short what, void *arg)
{
	struct child *c = arg;
	int i;

	(void) fd;
	(void) what;
	for (i = 0; i < READS_PER_WAKE && read_output (c); i++)
		;
}

static void queue_clear (struct child *c)
{
	while (c->count) {
		buf_fini (&c->queue[c->first].own);
		c->first = (c->first + 1) % SEGMENTS;
		c->count--;
	}
	c->done = 0;
}

static size_t segment_data (const struct segment *s, const uint8_t **p)
{
	*p = s->p ? s->p : s->own.data;
	return s->p ? s->n : s->own.len;
}

static void queue_advance (struct child *c, size_t n)
{
	while (c->count) {
		struct segment *s = &c->queue[c->first];
		const uint8_t *p;
		size_t left = segment_data (s, &p) - c->done;

		if (n < left) {
			c->done += n;
			return;
		}
		n -= left;
		c->done = 0;
		buf_clear (&s->own);		/* keeps its memory for the next one */
		if (s->own.cap > READ_BYTES * 4)
			buf_fini (&s->own);
		s->p = NULL;
		c->first = (c->first + 1) % SEGMENTS;
		c->count--;
	}
}

void child_flush (struct child *c)
{
	struct iovec iov[SEGMENTS];
	const uint8_t *p;
	size_t i, len;
	ssize_t n;

	while (c->count && c->in.fd >= 0) {
		for (i = 0; i < c->count; i++) {
			len = segment_data (&c->queue[(c->first + i) % SEGMENTS], &p);
			iov[i].iov_base = (void *) (p + (i ? 0 : c->done));
			iov[i].iov_len = len - (i ? 0 : c->done);
		}
		n = writev (c->in.fd, iov, (int) c->count);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			event_add (c->in.ev, NULL);
			return;
		}
		if (n < 0) {
			queue_clear (c);
			end_closed (c, &c->in);
			return;
		}
		queue_advance (c, (size_t) n);
	}
	if (c->in.ev)
		event_del (c->in.ev);
	if (c->end_input)
		end_close (&c->in);
}

static void on_in (evutil_socket_t fd, short what, void *arg)
{
	(void) fd;
	(void) what;
	child_flush (arg);
}

static struct segment *segment_add (struct child *c)
{
	if (c->count == SEGMENTS)
		return NULL;
	return &c->queue[(c->first + c->count++) % SEGMENTS];
}

void child_write (struct child *c, const void *p, size_t n)
{
	struct segment *s = c->count ? &c->queue[(c->first + c->count - 1) % SEGMENTS] : NULL;

	if (c->in.fd < 0 || n == 0)
		return;
	if ((!s || s->p) && !(s = segment_add (c))) {
		child_kill (c);			/* cannot be: runners queue two calls at most */
		return;
	}
	buf_add (&s->own, p, n);
}

void child_write_borrowed (struct child *c, const void *p, size_t n)
{
	struct segment *s;

	if (n < READ_BYTES) {
		child_write (c, p, n);
		return;
	}
	if (c->in.fd < 0)
		return;
	if (!(s = segment_add (c))) {
		child_kill (c);
		return;
	}
	s->p = p;
	s->n = n;
}

void child_end_input (struct child *c)
{
	c->end_input = true;
	child_flush (c);
}

bool child_writing (const struct child *c)
{
	return c->count > 0;
}

/* ---- tails ---------------------------------------------------------------------------------------------------- */

bool child_printed (struct child *c)
{
	drain_tail (c, 0);
	drain_tail (c, 1);
	return !tail_empty (&c->tails[0]) || !tail_empty (&c->tails[1]);
}

void child_tails (struct child *c, struct buf *out, struct buf *errout)
{
	child_printed (c);
	tail_copy (&c->tails[0], out);
	tail_copy (&c->tails[1], errout);
}

void child_clear_tails (struct child *c)
{
	tail_clear (&c->tails[0]);
	tail_clear (&c->tails[1]);
}

void child_shared_tails (struct child *c, struct buf *out, struct buf *errout)
{
	if (!c->shared)
		return;
	tail_copy_shared (c->shared, out);
	tail_copy_shared ((const uint8_t *) c->shared + TAIL_SHARED_BYTES, errout);
}

void child_news (struct child *c, const struct id *task, struct child_news *n)
{
	struct id current;

	child_printed (c);
	for (int i = 0; i < 2; i++) {
		if (child_shared_current (c, &current) && id_eq (&current, task))
			tail_add_new_shared (&n->text[i], (const uint8_t *) c->shared + i * TAIL_SHARED_BYTES, &n->seen[i]);
		tail_add_new (&n->text[i], &c->tails[i], &n->seen[2 + i]);
	}
}

bool child_shared_current (const struct child *c, struct id *task)
{
	if (!c->shared)
		return false;
	memcpy (task->b, (const uint8_t *) c->shared + CHILD_SHARED_CURRENT, ID_BYTES);
	return !id_is_zero (task);
}

/* ---- life ----------------------------------------------------------------------------------------------------- */

static void child_gone (struct child *c, int status, const struct rusage *ru)
{
	int i;

	c->spawn = NULL;
	loop_timer_stop (c->late);
	/* What stands in the pipes was written by a living process: a result may be among it. A survivor that goes on writing does
	 * not hold us: a pipe's worth is read at most. */
	for (i = 0; i < 2 * PIPE_BYTES / READ_BYTES && !c->killed && c->out.fd >= 0; i++)
		if (!read_output (c))
			break;
	child_printed (c);
	c->ops->on_exit (c, status, ru, c->arg);
}

/* A batch system sends SIGTERM to all processes of a job that ends, ours among them, and who hears it first is chance. Should we hear it in a
 * moment, the worker stops, and what it had in hand is run elsewhere: nobody is told that the call ended here. */
static void on_exit_status (struct spawn *s, pid_t pid, int status, const struct rusage *ru, void *arg)
{
	struct child *c = arg;

	(void) s;
	(void) pid;
	if (c->killed || !WIFSIGNALED (status) || WTERMSIG (status) != SIGTERM) {
		child_gone (c, status, ru);
		return;
	}
	c->spawn = NULL;
	c->status = status;
	c->ru = *ru;
	loop_timer_start (c->late, DOUBT_MS, false);
}

/* The end of the doubt: it has ended. Or it lives on without a pipe; one that is ending has them closed a moment before, not a second. Or it is in
 * uninterruptible sleep (a dead file server), and not even SIGKILL ends it: it is left to init, and the call is settled. */
static void on_late (void *arg)
{
	struct child *c = arg;
	struct rusage ru = c->ru;	/* on_exit destroys c */

	if (c->spawn && !c->killed) {
		c->ops->on_closed (c, c->arg);
		return;
	}
	if (c->spawn) {
		log_warn ("child", "killed process does not end", "pid=%d", (int) c->pid);
		spawn_forget (&c->spawn);
		c->status = SIGKILL;
	}
	child_gone (c, c->status, &ru);
}

void child_kill (struct child *c)
{
	if (c->killed || !c->spawn)
		return;
	c->killed = true;
	proctree_kill (c->pid);
	queue_clear (c);
	if (c->in.ev)
		event_del (c->in.ev);
	if (c->out.ev)
		event_del (c->out.ev);
	loop_timer_start (c->late, STUCK_MS, false);
}

bool child_killed (const struct child *c)
{
	return c->killed;
}

pid_t child_pid (const struct child *c)
{
	return c->pid;
}

static int capture_make (struct child *c, int *theirs, struct err *err)
{
	size_t n = CHILD_SHARED_BYTES;
	void *p;
	int fd = memfd_create ("weft-capture", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_errno (err, "making shared memory");
	/* Sealed: if the runner could shrink it, reading it would kill us. */
	if (ftruncate (fd, (off_t) n) < 0 || fcntl (fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0
	    || (p = mmap (NULL, n, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED) {
		err_errno (err, "mapping shared memory");
		close (fd);
		return -1;
	}
	c->shared = p;
	*theirs = fd;
	return 0;
}

static void child_free (struct child *c)
{
	int i;

	end_close (&c->in);
	end_close (&c->out);
	for (i = 0; i < 2; i++) {
		end_close (&c->std[i]);
		tail_fini (&c->tails[i]);
	}
	queue_clear (c);
	for (i = 0; i < SEGMENTS; i++)
		buf_fini (&c->queue[i].own);
	buf_fini (&c->output);
	if (c->shared)
		munmap (c->shared, CHILD_SHARED_BYTES);
	loop_timer_destroy (&c->late);
	free (c);
}

void child_destroy (struct child **cp)
{
	struct child *c = *cp;

	if (!c)
		return;
	if (c->spawn) {
		proctree_kill (c->pid);
		spawn_forget (&c->spawn);
	}
	child_free (c);
	*cp = NULL;
}

static struct event *watch (struct child *c, int fd, short what, event_callback_fn cb, bool now)
{
	struct event *ev = event_new (loop_base (c->loop), fd, what | EV_PERSIST, cb, c);

	if (!ev)
		abort ();			/* no memory for 100 bytes */
	if (now)
		event_add (ev, NULL);
	return ev;
}

struct fds { struct spawn_fd v[6]; size_t n; };

static int open_pipe (struct fds *fds, struct pipe_end *e, bool we_read, int to, struct err *err)
{
	int theirs = -1;

	if (make_pipe (we_read, &e->fd, &theirs, err) < 0)
		return -1;
	fds->v[fds->n++] = (struct spawn_fd){ theirs, to };
	return 0;
}

static int open_all (struct child *c, const struct child_opts *o, struct fds *fds, struct err *err)
{
	int theirs = -1;

	if (open_pipe (fds, &c->in, false, o->in_fd, err) < 0)
		return -1;
	if (open_pipe (fds, &c->out, true, o->out_fd, err) < 0)
		return -1;
	if (o->out_fd != 1 && open_pipe (fds, &c->std[0], true, 1, err) < 0)
		return -1;
	if (open_pipe (fds, &c->std[1], true, 2, err) < 0)
		return -1;
	if (o->capture) {
		if (capture_make (c, &theirs, err) < 0)
			return -1;
		fds->v[fds->n++] = (struct spawn_fd){ theirs, CHILD_SHARED_FD };
	}
	return 0;
}

static void watch_all (struct child *c)
{
	int i;

	if (c->in.fd >= 0)
		c->in.ev = watch (c, c->in.fd, EV_WRITE, on_in, false);
	c->out.ev = watch (c, c->out.fd, EV_READ, on_out, true);
	for (i = 0; i < 2; i++)
		if (c->std[i].fd >= 0)
			c->std[i].ev = watch (c, c->std[i].fd, EV_READ, on_std, true);
}

struct child *child_start (struct loop *l, const struct child_opts *o, const struct child_ops *ops, void *arg, struct err *err)
{
	struct child *c = xcalloc (1, sizeof (*c));
	struct spawn_opts so = { .env = o->env, .cwd = o->cwd, .new_session = true, .tied = true };
	struct fds fds = { .n = 0 };
	size_t i;

	c->loop = l;
	c->ops = ops;
	c->arg = arg;
	c->in.fd = c->out.fd = c->std[0].fd = c->std[1].fd = -1;
	buf_init (&c->output, o->max_output_bytes);
	for (i = 0; i < SEGMENTS; i++)
		buf_init (&c->queue[i].own, 0);
	tail_init (&c->tails[0]);
	tail_init (&c->tails[1]);
	c->late = loop_timer_create (l, on_late, c);
	if (open_all (c, o, &fds, err) == 0) {
		so.argv = o->argv;
		so.fds = fds.v;
		so.nfds = fds.n;
		c->spawn = spawn_start (l, &so, on_exit_status, c, err);
	}
	for (i = 0; i < fds.n; i++)
		close (fds.v[i].from);
	if (!c->spawn) {
		child_free (c);
		return NULL;
	}
	c->pid = spawn_pid (c->spawn);
	watch_all (c);
	return c;
}
