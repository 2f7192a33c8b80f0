/* SPDX-License-Identifier: Apache-2.0 */
/* Many peers of one ROUTER, for sim_peers.py: how long until all have their sessions again after the ROUTER's process died.
 *
 *   sim_peers keys                                         prints a CURVE pair: "PUBLIC SECRET"
 *   sim_peers listen ADDRESS PUBLIC SECRET CLIENT_PUBLIC N prints "listening ADDRESS", then "full" when it has N sessions
 *   sim_peers dial   ADDRESS SERVER_PUBLIC PUBLIC SECRET N
 *   sim_peers bare-listen, bare-dial                       the same arguments; libzmq alone: full means N handshakes
 *
 * The bare form is the floor: it reconnects within libzmq (each 100 ms), has no sessions, and lets every key in. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "common/log.h"
#include "proto/link.h"

enum { SOCKETS_MAX = 65535 };

static unsigned long wanted, sessions;

static _Noreturn void die (const char *what, const char *why)
{
	fprintf (stderr, "sim_peers: %s: %s\n", what, why);
	exit (1);
}

static void *context (void)
{
	void *zctx = zmq_ctx_new ();
	if (!zctx || zmq_ctx_set (zctx, ZMQ_MAX_SOCKETS, SOCKETS_MAX) < 0)
		die ("context", zmq_strerror (zmq_errno ()));
	return zctx;
}

static void count (long change)
{
	sessions += (unsigned long) change;
	if (sessions == wanted && change > 0) {
		puts ("full");
		fflush (stdout);
	}
}

/* ---- our links -------------------------------------------------------------------------------------------------- */

static void listener_up (struct link_peer *p, const struct msg_hello *h, const struct msg_welcome *w, void *arg)
{
	(void) p, (void) h, (void) w, (void) arg;
	count (1);
}

static void listener_down (struct link_peer *p, const char *why, void *arg)
{
	(void) p, (void) why, (void) arg;
	count (-1);
}

static void dialler_up (struct link_peer *p, const struct msg_hello *h, const struct msg_welcome *w, void *arg)
{
	(void) p, (void) h, (void) w, (void) arg;
}

static void dialler_down (struct link_peer *p, const char *why, void *arg)
{
	(void) p, (void) why, (void) arg;
}

static const struct link_ops listener_ops = { .on_up = listener_up, .on_down = listener_down };
static const struct link_ops dialler_ops = { .on_up = dialler_up, .on_down = dialler_down };

static int run_listen (struct loop *loop, char **arg)
{
	const char *addresses[] = { arg[0], NULL }, *key = arg[3];
	struct link_opts o = { .name = "peers", .ops = &listener_ops, .public_key = arg[1], .secret_key = arg[2] };
	struct err err = { 0 };
	struct link *k = link_listen (loop, context (), addresses, &o, &err);
	if (!k || link_allow_keys (k, &key, 1, &err) < 0)
		die ("listening", err.text);
	printf ("listening %s\n", link_address (k));
	fflush (stdout);
	return loop_run (loop);
}

static int run_dial (struct loop *loop, char **arg)
{
	struct link_opts o = { .name = "sim", .ops = &dialler_ops, .server_key = arg[1], .public_key = arg[2], .secret_key = arg[3],
			       .hello = { .role = ROLE_MANAGER, .slots = 1, .name = WIRE_STR ("sim"), .version = WIRE_STR ("0") } };
	void *zctx = context ();
	struct err err = { 0 };
	for (unsigned long i = 0; i < wanted; i++) {
		id_new (&o.hello.id);
		ids_random (&o.hello.instance, sizeof (o.hello.instance));
		if (!link_dial (loop, zctx, arg[0], &o, &err))
			die ("dialling", err.text);
	}
	return loop_run (loop);
}

/* ---- libzmq alone ----------------------------------------------------------------------------------------------- */

static void set_key (void *s, int option, const char *key)
{
	if (zmq_setsockopt (s, option, key, 41) < 0)
		die ("key", zmq_strerror (zmq_errno ()));
}

static int run_bare_listen (char **arg)
{
	void *zctx = context (), *s = zmq_socket (zctx, ZMQ_ROUTER), *mon = zmq_socket (zctx, ZMQ_PAIR);
	int one = 1, backlog = 1024;
	char where[256];
	size_t n = sizeof (where);
	set_key (s, ZMQ_CURVE_PUBLICKEY, arg[1]);
	set_key (s, ZMQ_CURVE_SECRETKEY, arg[2]);
	zmq_setsockopt (s, ZMQ_CURVE_SERVER, &one, sizeof (one));
	zmq_setsockopt (s, ZMQ_BACKLOG, &backlog, sizeof (backlog));
	if (zmq_socket_monitor (s, "inproc://events", ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED) < 0
	    || zmq_connect (mon, "inproc://events") < 0 || zmq_bind (s, arg[0]) < 0 || zmq_getsockopt (s, ZMQ_LAST_ENDPOINT, where, &n) < 0)
		die ("listening", zmq_strerror (zmq_errno ()));
	printf ("listening %s\n", where);
	fflush (stdout);
	for (;;) {
		struct { uint16_t event; uint8_t rest[4]; } __attribute__ ((packed)) e;
		char peer[256];
		if (zmq_recv (mon, &e, sizeof (e), 0) < 0 || zmq_recv (mon, peer, sizeof (peer), 0) < 0)
			die ("monitor", zmq_strerror (zmq_errno ()));
		count (e.event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED ? 1 : -1);
	}
}

static int run_bare_dial (char **arg)
{
	void *zctx = context ();
	for (unsigned long i = 0; i < wanted; i++) {
		void *s = zmq_socket (zctx, ZMQ_DEALER);
		if (!s)
			die ("socket", zmq_strerror (zmq_errno ()));
		set_key (s, ZMQ_CURVE_SERVERKEY, arg[1]);
		set_key (s, ZMQ_CURVE_PUBLICKEY, arg[2]);
		set_key (s, ZMQ_CURVE_SECRETKEY, arg[3]);
		if (zmq_connect (s, arg[0]) < 0)
			die ("connecting", zmq_strerror (zmq_errno ()));
	}
	for (;;)
		pause ();
}

/* ---- main ------------------------------------------------------------------------------------------------------- */

static int print_keys (void)
{
	char public_key[41], secret_key[41];
	if (zmq_curve_keypair (public_key, secret_key) < 0)
		die ("keys", zmq_strerror (zmq_errno ()));
	printf ("%s %s\n", public_key, secret_key);
	return 0;
}

static void all_descriptors (void)
{
	struct rlimit r;
	if (getrlimit (RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit (RLIMIT_NOFILE, &r);
	}
}

int main (int argc, char **argv)
{
	struct err err = { 0 };
	struct loop *loop;
	prctl (PR_SET_PDEATHSIG, SIGKILL);
	if (argc == 2 && !strcmp (argv[1], "keys"))
		return print_keys ();
	if (argc != 7) {
		fprintf (stderr, "usage: see the head of sim_peers.c\n");
		return 2;
	}
	all_descriptors ();
	wanted = strtoul (argv[6], NULL, 10);
	if (!strcmp (argv[1], "bare-listen"))
		return run_bare_listen (argv + 2);
	if (!strcmp (argv[1], "bare-dial"))
		return run_bare_dial (argv + 2);
	if (log_open ("sim_peers", NULL, LOG_WARN, &err) < 0 || !(loop = loop_create (&err)))
		die ("start", err.text);
	return !strcmp (argv[1], "listen") ? run_listen (loop, argv + 2) : run_dial (loop, argv + 2);
}
