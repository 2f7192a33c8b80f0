/* SPDX-License-Identifier: Apache-2.0 */
/* See control.h. Socket paths may be longer than sun_path: they are reached through a descriptor of their directory.
 *
 * A request is answered as soon as its line is here, so who is connected has not said it yet or does not read the answer. When there are too
 * many the one that came first makes room: clients that hang, however many, keep nobody out. */
#include "endpoint/control.h"
#include "common/xmem.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 65536, CONNECTIONS_MAX = 32, IDLE_S = 10 };

struct conn { struct control *c; struct bufferevent *be; bool closing; TAILQ_ENTRY (conn) entry; };
struct control {
	struct evconnlistener *listener;
	control_f *cb;
	void *arg;
	char *path;
	TAILQ_HEAD (, conn) conns;	/* the oldest first */
	int n;
};

/* Fill sa with a path of any length; *dir must stay open until bind or connect is done. */
static int address (const char *path, struct sockaddr_un *sa, int *dir, struct err *err)
{
	char *copy = xstrdup (path), *slash = strrchr (copy, '/');
	int n;

	memset (sa, 0, sizeof (*sa));
	sa->sun_family = AF_UNIX;
	*slash = 0;
	*dir = open (copy, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dir < 0) {
		err_errno (err, "opening %s", copy);
		free (copy);
		return -1;
	}
	n = snprintf (sa->sun_path, sizeof (sa->sun_path), "/proc/self/fd/%d/%s", *dir, slash + 1);
	free (copy);
	if (n < 0 || (size_t) n >= sizeof (sa->sun_path)) {
		close (*dir);
		return err_set (err, ERR_INVALID, FAULT_SELF, "the name of the control socket is too long");
	}
	return 0;
}

static void conn_free (struct conn *k)
{
	TAILQ_REMOVE (&k->c->conns, k, entry);
	k->c->n--;
	bufferevent_free (k->be);
	free (k);
}

static json_t *reply_to (struct control *c, const char *line, size_t n)
{
	json_t *request = json_loadb (line, n, JSON_REJECT_DUPLICATES, NULL), *reply = NULL;
	const char *cmd = json_string_value (json_object_get (request, "cmd"));

	if (cmd)
		reply = c->cb (cmd, request, c->arg);
	json_decref (request);
	return reply ? reply : json_pack ("{s:s}", "error", "unknown command");
}

/* reply: transferred. k is freed once it is written. */
static void answer (struct conn *k, json_t *reply)
{
	char *text = json_dumps (reply, JSON_COMPACT);

	if (text)
		bufferevent_write (k->be, text, strlen (text));
	bufferevent_write (k->be, "\n", 1);
	free (text);
	json_decref (reply);
	bufferevent_disable (k->be, EV_READ);
	k->closing = true;
}

static void on_read (struct bufferevent *be, void *arg)
{
	struct conn *k = arg;
	struct evbuffer *in = bufferevent_get_input (be);
	size_t n;
	char *line = evbuffer_readln (in, &n, EVBUFFER_EOL_LF);

	if (line)
		answer (k, reply_to (k->c, line, n));
	else if (evbuffer_get_length (in) > LINE_MAX_BYTES)
		answer (k, json_pack ("{s:s}", "error", "the request is too long"));
	free (line);
}

static void on_written (struct bufferevent *be, void *arg)
{
	struct conn *k = arg;

	(void) be;
	if (k->closing)
		conn_free (k);
}

static void on_event (struct bufferevent *be, short what, void *arg)
{
	(void) be;
	(void) what;
	conn_free (arg);
}

static void on_accept (struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
	struct control *c = arg;
	struct timeval idle = { IDLE_S, 0 };
	struct conn *k;

	(void) sa;
	(void) len;
	if (c->n >= CONNECTIONS_MAX)
		conn_free (TAILQ_FIRST (&c->conns));
	k = xcalloc (1, sizeof (*k));
	k->c = c;
	k->be = bufferevent_socket_new (evconnlistener_get_base (l), fd, BEV_OPT_CLOSE_ON_FREE);
	if (!k->be) {
		evutil_closesocket (fd);
		free (k);
		return;
	}
	TAILQ_INSERT_TAIL (&c->conns, k, entry);
	c->n++;
	bufferevent_setcb (k->be, on_read, on_written, on_event, k);
	bufferevent_set_timeouts (k->be, &idle, &idle);
	bufferevent_enable (k->be, EV_READ | EV_WRITE);
}

struct control *control_create (struct loop *l, const char *path, control_f *cb, void *arg, struct err *err)
{
	struct control *c = xcalloc (1, sizeof (*c));
	struct sockaddr_un sa;
	int dir;

	TAILQ_INIT (&c->conns);
	c->cb = cb;
	c->arg = arg;
	unlink (path);		/* we hold the pid lock: whoever made it is gone */
	if (address (path, &sa, &dir, err) < 0) {
		control_destroy (&c);
		return NULL;
	}
	c->listener = evconnlistener_new_bind (loop_base (l), on_accept, c, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 16,
					       (struct sockaddr *) &sa, sizeof (sa));
	close (dir);
	if (!c->listener) {
		err_errno (err, "listening on %s", path);
		control_destroy (&c);
		return NULL;
	}
	c->path = xstrdup (path);
	return c;
}

void control_destroy (struct control **cp)
{
	struct control *c = *cp;

	if (!c)
		return;
	while (!TAILQ_EMPTY (&c->conns))
		conn_free (TAILQ_FIRST (&c->conns));
	if (c->listener)
		evconnlistener_free (c->listener);
	if (c->path)
		unlink (c->path);
	free (c->path);
	free (c);
	*cp = NULL;
}

static json_t *exchange (int fd, const char *line, struct err *err)
{
	struct { char *p; size_t n, cap; } in = { 0 };
	size_t done = 0, n = strlen (line);
	json_t *reply;
	ssize_t r = 1;

	while (done < n && (r = send (fd, line + done, n - done, MSG_NOSIGNAL)) > 0)
		done += (size_t) r;
	while (r > 0) {
		if (in.n + 65536 > in.cap)
			in.p = xrealloc (in.p, in.cap = in.cap ? 2 * in.cap : 131072);
		r = recv (fd, in.p + in.n, in.cap - in.n, 0);
		if (r > 0)
			in.n += (size_t) r;
		if (in.n && in.p[in.n - 1] == '\n')
			break;
	}
	reply = in.n ? json_loadb (in.p, in.n, 0, NULL) : NULL;
	if (!reply)
		err_set (err, ERR_TIMEOUT, FAULT_SITE, "the agent does not answer on its control socket");
	free (in.p);
	return reply;
}

json_t *control_call (const char *path, const char *cmd, json_t *more, int64_t timeout_ms, struct err *err)
{
	struct timeval tv = { timeout_ms / 1000, (timeout_ms % 1000) * 1000 };
	json_t *request = more ? more : json_object (), *reply = NULL;
	char *text, *line;
	struct sockaddr_un sa;
	int dir, fd;

	json_object_set_new (request, "cmd", json_string (cmd));
	text = json_dumps (request, JSON_COMPACT);
	line = xasprintf ("%s\n", text ? text : "{}");
	free (text);
	json_decref (request);
	if (address (path, &sa, &dir, err) < 0) {
		free (line);
		return NULL;
	}
	fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof (tv));
	setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof (tv));
	if (fd < 0 || connect (fd, (struct sockaddr *) &sa, sizeof (sa)) < 0) {
		err_errno (err, "reaching the agent");
		if (err)
			err->code = ERR_UNAVAILABLE;
	} else {
		reply = exchange (fd, line, err);
	}
	if (fd >= 0)
		close (fd);
	close (dir);
	free (line);
	return reply;
}
