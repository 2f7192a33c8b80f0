/* SPDX-License-Identifier: Apache-2.0 */
/* See reach.h. */
#include "endpoint/manager/reach.h"
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "common/clock.h"

enum { ROUND_MS = 2000, PAUSE_MS = 200 };

struct candidate { char address[REACH_TEXT]; int fd; int error; };

/* 0 or an errno; the connection may still be under way. */
static int begin (struct candidate *c)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	char host[REACH_TEXT], *colon;
	int rc = EHOSTUNREACH;

	snprintf (host, sizeof (host), "%s", c->address + strlen ("tcp://"));
	if (!(colon = strrchr (host, ':')))
		return EINVAL;
	*colon = 0;
	if (getaddrinfo (host, colon + 1, &hints, &list) != 0)
		return EADDRNOTAVAIL;
	c->fd = socket (list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd >= 0)
		rc = connect (c->fd, list->ai_addr, list->ai_addrlen) == 0 || errno == EINPROGRESS ? 0 : errno;
	freeaddrinfo (list);
	return rc;
}

static void finish (struct candidate *c)
{
	if (c->fd >= 0)
		close (c->fd);
	c->fd = -1;
}

/* The index of the first that answers, -1: none in this round. */
static int try_all (struct candidate *c, size_t n)
{
	int64_t until = clock_now_ms () + ROUND_MS, left;
	struct pollfd p[REACH_MAX];
	int found = -1, open;

	for (size_t i = 0; i < n; i++)
		if ((c[i].error = begin (&c[i])) != 0)
			finish (&c[i]);
	do {
		open = 0;
		for (size_t i = 0; i < n; i++) {
			p[i] = (struct pollfd) { .fd = c[i].fd, .events = POLLOUT };
			open += c[i].fd >= 0;
		}
		left = until - clock_now_ms ();
		if (!open || left <= 0 || poll (p, (nfds_t) n, (int) left) < 0)
			break;
		for (size_t i = 0; i < n && found < 0; i++) {
			socklen_t len = sizeof (c[i].error);
			if (c[i].fd < 0 || !p[i].revents)
				continue;
			if (getsockopt (c[i].fd, SOL_SOCKET, SO_ERROR, &c[i].error, &len) == 0 && !c[i].error)
				found = (int) i;
			else
				finish (&c[i]);
		}
	} while (found < 0);
	for (size_t i = 0; i < n; i++) {
		if (c[i].fd >= 0 && (int) i != found)
			c[i].error = ETIMEDOUT;
		finish (&c[i]);
	}
	return found;
}

static size_t split (const char *list, struct candidate *c)
{
	size_t n = 0;

	for (const char *p = list; *p && n < REACH_MAX; p += strcspn (p, ","), p += *p == ',') {
		size_t len = strcspn (p, ",");
		if (len == 0 || len >= REACH_TEXT || strncmp (p, "tcp://", 6) != 0)
			continue;
		snprintf (c[n].address, sizeof (c[n].address), "%.*s", (int) len, p);
		c[n++].fd = -1;
	}
	return n;
}

int reach_first (const char *list, int64_t timeout_ms, char out[REACH_TEXT], struct err *err)
{
	static const struct timespec pause = { 0, PAUSE_MS * 1000000L };
	struct candidate c[REACH_MAX];
	int64_t until = clock_now_ms () + timeout_ms;
	char said[400] = "";
	size_t n;

	if (!strchr (list, ',')) {
		if (snprintf (out, REACH_TEXT, "%s", list) >= REACH_TEXT)
			return err_set (err, ERR_INVALID, FAULT_USER, "--connect: longer than %d characters", REACH_TEXT - 1);
		return 0;
	}
	if (!(n = split (list, c)))
		return err_set (err, ERR_INVALID, FAULT_USER, "--connect: no address in '%.100s'", list);
	for (;;) {
		int found = try_all (c, n);
		if (found >= 0) {
			snprintf (out, REACH_TEXT, "%s", c[found].address);
			return 0;
		}
		if (clock_now_ms () >= until)
			break;
		nanosleep (&pause, NULL);
	}
	for (size_t i = 0; i < n; i++) {
		size_t at = strlen (said);
		snprintf (said + at, sizeof (said) - at, "%s%.60s: %.60s", i ? ", " : "", c[i].address, strerror (c[i].error));
	}
	return err_set (err, ERR_UNAVAILABLE, FAULT_SITE, "this node reaches the agent at none of its addresses (%s)", said);
}
