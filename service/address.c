/* SPDX-License-Identifier: Apache-2.0 */
#include "service/address.h"
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/xmem.h"

#define RELEASE_MS 1000		/* how long a port in use is tried again */

static int split (const char *address, char host[256], char port[8], struct err *err)
{
	const char *colon = strrchr (address, ':');
	size_t n = colon ? (size_t) (colon - address) : 0;

	if (!colon || n >= 256 || strlen (colon + 1) > 5 || !colon[1])
		return err_set (err, ERR_INVALID, FAULT_USER, "listen: '%s' is not host:port", address);
	strcpy (port, colon + 1);
	if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
		address++;
		n -= 2;
	}
	memcpy (host, address, n);
	host[n] = 0;
	return 0;
}

static int bound (const struct addrinfo *ai, int option)
{
	int fd = socket (ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		return -1;
	setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof (one));
	if (option)
		setsockopt (fd, SOL_SOCKET, option, &one, sizeof (one));
	if (ai->ai_family == AF_INET6)
		setsockopt (fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof (one));
	if (bind (fd, ai->ai_addr, ai->ai_addrlen) < 0) {
		int why = errno;
		close (fd);
		errno = why;
		return -1;
	}
	return fd;
}

static int port_of (int fd)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof (a);

	if (getsockname (fd, (struct sockaddr *) &a, &n) < 0)
		return -1;
	return ntohs (a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &a)->sin6_port : ((struct sockaddr_in *) &a)->sin_port);
}

/* Anybody who listens there already is found by a socket that does not share; SO_REUSEPORT alone would join them. A service that was
 * killed a moment ago may still be about to close its sockets: whoever starts the next one at once gets that moment. */
static int first (const struct addrinfo *ai)
{
	static const struct timespec pause = { 0, 20000000 };
	int64_t until_ms = clock_now_ms () + RELEASE_MS;
	int probe;

	while ((probe = bound (ai, 0)) < 0) {
		if (errno != EADDRINUSE || clock_now_ms () > until_ms)
			return -1;
		nanosleep (&pause, NULL);
	}
	close (probe);
	return bound (ai, SO_REUSEPORT);
}

int address_bind (const char *address, char **resolved, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *ai;
	char host[256], port[8];
	int fd, rc;

	if (split (address, host, port, err) < 0)
		return -1;
	if ((rc = getaddrinfo (host[0] ? host : NULL, port, &hints, &ai)))
		return err_set (err, ERR_INVALID, FAULT_USER, "listen: '%s': %s", address, gai_strerror (rc));
	fd = resolved ? first (ai) : bound (ai, SO_REUSEPORT);
	freeaddrinfo (ai);
	if (fd < 0)
		return err_errno (err, "listening on %s", address);
	if (resolved)
		*resolved = strchr (host, ':') ? xasprintf ("[%s]:%d", host, port_of (fd)) : xasprintf ("%s:%d", host, port_of (fd));
	return fd;
}
