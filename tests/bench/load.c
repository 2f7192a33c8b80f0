/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP load generator for the benchmarks: keep-alive connections on one thread, one request in flight on each.
 *
 *   load HOST PORT PATH BODY_FILE CONNECTIONS REQUESTS SECONDS [HEADER ...]
 *
 * Sends until REQUESTS were answered or SECONDS have passed (0 = no such bound) and prints one JSON object: requests, errors (answers
 * other than 2xx), seconds, per_s, and latencies in microseconds. The answer's body is skipped, not parsed. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "common/xmem.h"

#define MAX_CONNECTIONS 16384

struct conn {
	int fd;
	size_t sent, got, want;	/* want: bytes of the answer, 0 while its head is incomplete */
	uint64_t began_ns;
	int status, busy;	/* busy: a request is on its way */
	char head[8192];
};

static char *request;
static size_t request_bytes;
static uint32_t *latency_us;
static size_t answered, latency_cap, errors;

static uint64_t now_ns (void)
{
	struct timespec t;
	clock_gettime (CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die (const char *what)
{
	perror (what);
	exit (1);
}

static void note (const struct conn *c)
{
	if (answered == latency_cap) {
		latency_cap = latency_cap ? latency_cap * 2 : 65536;
		latency_us = xrealloc (latency_us, latency_cap * sizeof (*latency_us));
	}
	latency_us[answered++] = (uint32_t)((now_ns () - c->began_ns) / 1000);
	if (c->status < 200 || c->status > 299) {
		if (!errors++)
			fprintf (stderr, "load: HTTP %d: %.300s\n", c->status, c->head);
	}
}

static void send_more (struct conn *c)
{
	while (c->sent < request_bytes) {
		ssize_t n = send (c->fd, request + c->sent, request_bytes - c->sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			die ("send");
		c->sent += (size_t)n;
	}
}

static void begin (struct conn *c)
{
	c->sent = c->got = c->want = 0;
	c->busy = 1;
	c->began_ns = now_ns ();
	send_more (c);
}

/* Returns 1 when the answer is complete. */
static int receive (struct conn *c)
{
	static char skip[1 << 20];
	for (;;) {
		int in_head = !c->want;
		ssize_t n = in_head ? recv (c->fd, c->head + c->got, sizeof (c->head) - 1 - c->got, 0) : recv (c->fd, skip, sizeof (skip), 0);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			die ("recv");
		c->got += (size_t)n;
		if (in_head) {
			char *end, *len;
			c->head[c->got] = '\0';
			if (!(end = strstr (c->head, "\r\n\r\n")))
				continue;
			len = strcasestr (c->head, "\r\ncontent-length:");
			c->status = atoi (c->head + 9);
			c->want = (size_t)(end + 4 - c->head) + (len && len < end ? strtoul (len + 17, NULL, 10) : 0);
		}
		if (c->got >= c->want)
			return 1;
	}
}

static int compare (const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static void build_request (char **argv, int argc)
{
	FILE *f = fopen (argv[4], "rb"), *out;
	char *body = NULL;
	size_t n = 0, cap = 1 << 20, k;
	if (!f)
		die (argv[4]);
	body = xrealloc (NULL, cap);
	while ((k = fread (body + n, 1, cap - n, f)) > 0)
		if ((n += k) == cap)
			body = xrealloc (body, cap *= 2);
	fclose (f);
	if (!(out = open_memstream (&request, &request_bytes)))
		die ("memory");
	fprintf (out, "POST %s HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n", argv[3], argv[1], argv[2], n);
	for (int i = 8; i < argc; i++)
		fprintf (out, "%s\r\n", argv[i]);
	fprintf (out, "\r\n");
	fwrite (body, 1, n, out);
	fclose (out);
	free (body);
}

int main (int argc, char **argv)
{
	if (argc < 8) {
		fprintf (stderr, "usage: see the head of load.c\n");
		return 2;
	}
	int n = atoi (argv[5]), ep = epoll_create1 (EPOLL_CLOEXEC), one = 1;
	size_t requests = strtoul (argv[6], NULL, 10), started = 0, busy = 0;
	double seconds = atof (argv[7]);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons ((uint16_t)atoi (argv[2])) };
	struct conn *all = calloc ((size_t)n, sizeof (*all));
	if (n < 1 || n > MAX_CONNECTIONS || !all || inet_pton (AF_INET, argv[1], &a.sin_addr) != 1)
		die ("arguments");
	build_request (argv, argc);
	for (int i = 0; i < n; i++) {
		struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &all[i] };
		all[i].fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (all[i].fd < 0 || connect (all[i].fd, (struct sockaddr *)&a, sizeof (a)) < 0)
			die ("connect");
		setsockopt (all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof (one));
		if (fcntl (all[i].fd, F_SETFL, O_NONBLOCK) < 0 || epoll_ctl (ep, EPOLL_CTL_ADD, all[i].fd, &e) < 0)
			die ("epoll");
	}
	uint64_t t0 = now_ns (), end = seconds > 0 ? t0 + (uint64_t)(seconds * 1e9) : UINT64_MAX;
	for (int i = 0; i < n && (!requests || started < requests); i++, started++, busy++)
		begin (&all[i]);
	while (busy) {
		struct epoll_event ev[256];
		int k = epoll_wait (ep, ev, 256, 60000);
		if (k <= 0)
			die ("no answer within 60 s");
		for (int i = 0; i < k; i++) {
			struct conn *c = ev[i].data.ptr;
			if (!c->busy)
				continue;	/* room for sending, reported late: nothing more is to be sent */
			if (c->sent < request_bytes)
				send_more (c);
			if (!receive (c))
				continue;
			note (c);
			c->got = c->want = 0;
			if ((requests && started >= requests) || now_ns () >= end) {
				c->busy = 0;
				busy--;
				continue;
			}
			started++;
			begin (c);
		}
	}
	double took = (double)(now_ns () - t0) / 1e9;
	qsort (latency_us, answered, sizeof (*latency_us), compare);
	printf ("{\"requests\": %zu, \"errors\": %zu, \"seconds\": %.4f, \"per_s\": %.1f, \"p50_us\": %u, \"p90_us\": %u, \"p99_us\": %u, \"max_us\": %u}\n",
		answered, errors, took, (double)answered / took, latency_us[answered / 2], latency_us[answered * 9 / 10],
		latency_us[answered * 99 / 100], latency_us[answered - 1]);
	return errors != 0;
}
