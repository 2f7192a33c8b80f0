/* SPDX-License-Identifier: Apache-2.0 */
/* What stands on both sides of one agent, for sim_agent.py.
 *
 *   sim_agent keys                                   prints a CURVE pair: "PUBLIC SECRET"
 *   sim_agent managers ADDRESS COUNT SLOTS           COUNT sessions of SLOTS slots; each answers what it gets at once
 *   sim_agent forwarder PUBLIC SECRET CLIENT_PUBLIC  prints "listening ADDRESS", then obeys lines on its standard input:
 *       slots N    prints "slots N" when the agent says that it has N
 *       run N      sends N tasks within the agent's window and prints "done SECONDS LOST DOUBLED BAD"
 *
 * Each task's id carries its number in the run: a bitmap tells what came once, twice or never. After the last result the forwarder
 * waits for SETTLE_MS more, in which doubled ones may come. */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "proto/link.h"
#include "proto/msg_capacity.h"
#include "proto/msg_function.h"
#include "proto/msg_result.h"

enum { SOCKETS_MAX = 65535, PAYLOAD_BYTES = 256, SETTLE_MS = 200, STUCK_MS = 60000 };

static _Noreturn void die (const char *what, const char *why)
{
	fprintf (stderr, "sim_agent: %s: %s\n", what, why);
	exit (1);
}

static void *context (void)
{
	void *zctx = zmq_ctx_new ();
	if (!zctx || zmq_ctx_set (zctx, ZMQ_MAX_SOCKETS, SOCKETS_MAX) < 0)
		die ("context", zmq_strerror (zmq_errno ()));
	return zctx;
}

/* The record is copied: what is sent last may still be read by libzmq's thread. */
static void send_record (struct link_peer *p, enum wire_type type, const struct buf *b)
{
	zmq_msg_t m;
	if (zmq_msg_init_size (&m, b->len) < 0)
		die ("record", zmq_strerror (zmq_errno ()));
	memcpy (zmq_msg_data (&m), b->data, b->len);
	link_send (p, type, &m);
	zmq_msg_close (&m);
}

/* ---- managers --------------------------------------------------------------------------------------------------- */

static struct { uint32_t slots; struct buf record; } sim;

static void manager_capacity (struct link_peer *p, void *arg)
{
	struct msg_capacity c = { .window_tasks = sim.slots, .window_bytes = 1u << 30, .slots = sim.slots, .free_slots = sim.slots,
				  .time_left_s = MSG_TIME_UNLIMITED };
	(void) arg;
	buf_clear (&sim.record);
	msg_capacity_encode (&sim.record, &c);
	link_send_bytes (p, WIRE_CAPACITY, sim.record.data, sim.record.len);
}

static void manager_up (struct link_peer *p, const struct msg_hello *h, const struct msg_welcome *w, void *arg)
{
	(void) h, (void) w;
	manager_capacity (p, arg);
}

static void session_down (struct link_peer *p, const char *why, void *arg)
{
	(void) p, (void) arg;
	die ("a session ended", why);
}

static int manager_task (struct link_peer *p, zmq_msg_t *m, struct err *err)
{
	struct msg_task t;
	struct msg_result r = { .status = STATUS_SUCCESS, .result = WIRE_STR ("null"), .node = WIRE_STR ("sim") };
	if (msg_task_decode (&t, zmq_msg_data (m), zmq_msg_size (m), err) < 0)
		return -1;
	r.task = t.task;
	r.attempt = t.attempt;
	memcpy (r.stamps, t.stamps, sizeof (t.stamps));
	r.stamps[STAMP_MANAGER_RECEIVED] = r.stamps[STAMP_MANAGER_RESULT] = clock_real_ns ();
	buf_clear (&sim.record);
	msg_result_encode (&sim.record, &r, link_peer_major (p));
	send_record (p, WIRE_RESULT, &sim.record);
	return 0;
}

static int manager_message (struct link_peer *p, const struct wire_header *h, zmq_msg_t *m, size_t n, void *arg, struct err *err)
{
	(void) arg;
	for (size_t i = 0; h->type == WIRE_TASK && i < n; i++)
		if (manager_task (p, &m[i], err) < 0)
			return -1;
	return 0;
}

static const struct link_ops manager_ops = {
	.on_up = manager_up, .on_down = session_down, .on_message = manager_message, .on_heartbeat = manager_capacity,
};

static int run_managers (struct loop *loop, char **arg)
{
	struct link_opts o = { .name = "sim", .ops = &manager_ops,
			       .hello = { .role = ROLE_MANAGER, .name = WIRE_STR ("sim"), .version = WIRE_STR ("0"),
					  .block = WIRE_STR ("sim") } };
	unsigned long n = strtoul (arg[1], NULL, 10);
	void *zctx = context ();
	struct err err = { 0 };
	o.hello.slots = sim.slots = (uint32_t) strtoul (arg[2], NULL, 10);
	buf_init (&sim.record, 0);
	for (unsigned long i = 0; i < n; i++) {
		id_new (&o.hello.id);
		ids_random (&o.hello.instance, sizeof (o.hello.instance));
		if (!link_dial (loop, zctx, arg[0], &o, &err))
			die ("dialling", err.text);
	}
	return loop_run (loop);
}

/* ---- forwarder -------------------------------------------------------------------------------------------------- */

static struct {
	struct loop *loop;
	struct link_peer *agent;
	struct loop_timer *settle, *watch;
	struct msg_capacity capacity;
	uint32_t slots_wanted;
	struct id function, stem;	/* ids of the run: the stem, the number in the last four bytes */
	uint8_t *seen;			/* a bit a task */
	uint32_t tasks, sent, received, doubled, bad, watched;
	int64_t began_ns, ended_ns;
	struct buf record;
	char line[128];
	size_t line_bytes;
	char payload[PAYLOAD_BYTES + 1];
} fwd;

static void say_slots (void)
{
	if (fwd.slots_wanted && fwd.capacity.slots == fwd.slots_wanted) {
		printf ("slots %u\n", fwd.slots_wanted);
		fflush (stdout);
		fwd.slots_wanted = 0;
	}
}

static void send_function (void)
{
	struct msg_function f = { .kind = KIND_PYTHON, .id = fwd.function, .code = WIRE_STR ("def noop(x=None):\n    return x\n"),
				  .entry = WIRE_STR ("noop") };
	buf_clear (&fwd.record);
	msg_function_encode (&fwd.record, &f);
	send_record (fwd.agent, WIRE_FUNCTION, &fwd.record);
}

static void send_task (void)
{
	struct msg_task t = { .flags = 1, .task = fwd.stem, .function = fwd.function, .payload = wire_str (fwd.payload, PAYLOAD_BYTES) };
	memcpy (&t.task.b[ID_BYTES - sizeof (fwd.sent)], &fwd.sent, sizeof (fwd.sent));
	t.stamps[STAMP_FORWARDER_SENT] = clock_real_ns ();
	buf_clear (&fwd.record);
	msg_task_encode (&fwd.record, &t, link_peer_major (fwd.agent));
	send_record (fwd.agent, WIRE_TASK, &fwd.record);
	fwd.sent++;
}

static void send_tasks (void)
{
	while (fwd.agent && fwd.sent < fwd.tasks && fwd.sent - fwd.received < fwd.capacity.window_tasks && !link_congested (fwd.agent))
		send_task ();
}

static void take_result (zmq_msg_t *m, struct err *err)
{
	struct msg_result r;
	uint32_t n;
	if (msg_result_decode (&r, zmq_msg_data (m), zmq_msg_size (m), err) < 0) {
		fwd.bad++;
		return;
	}
	link_send_id (fwd.agent, WIRE_RESULT_ACK, &r.task);
	memcpy (&n, &r.task.b[ID_BYTES - sizeof (n)], sizeof (n));
	if (memcmp (r.task.b, fwd.stem.b, ID_BYTES - sizeof (n)) != 0 || n >= fwd.sent || r.status != STATUS_SUCCESS) {
		fwd.bad++;
	} else if (fwd.seen[n / 8] & 1u << n % 8) {
		fwd.doubled++;
	} else {
		fwd.seen[n / 8] |= (uint8_t) (1u << n % 8);
		if (++fwd.received == fwd.tasks) {
			fwd.ended_ns = clock_now_ns ();
			loop_timer_start (fwd.settle, SETTLE_MS, false);
		}
	}
}

static void end_run (void)
{
	loop_timer_stop (fwd.watch);
	printf ("done %.6f %u %u %u\n", (double) (fwd.ended_ns - fwd.began_ns) / 1e9, fwd.tasks - fwd.received, fwd.doubled, fwd.bad);
	fflush (stdout);
	free (fwd.seen);
	fwd.seen = NULL;
	fwd.tasks = fwd.sent = fwd.received = 0;
}

static void on_settled (void *arg)
{
	(void) arg;
	end_run ();
}

/* Nothing came for STUCK_MS: what is missing is lost. */
static void on_watch (void *arg)
{
	(void) arg;
	if (fwd.received == fwd.watched) {
		fwd.ended_ns = clock_now_ns ();
		end_run ();
	}
	fwd.watched = fwd.received;
}

static void start_run (uint32_t n)
{
	ids_random (&fwd.stem, sizeof (fwd.stem));
	fwd.seen = xcalloc (n / 8 + 1, 1);
	fwd.tasks = n;
	fwd.sent = fwd.received = fwd.doubled = fwd.bad = fwd.watched = 0;
	fwd.began_ns = clock_now_ns ();
	loop_timer_start (fwd.watch, STUCK_MS, true);
	send_tasks ();
}

static void obey (const char *line)
{
	unsigned n;
	if (sscanf (line, "slots %u", &n) == 1) {
		fwd.slots_wanted = n;
		say_slots ();
	} else if (sscanf (line, "run %u", &n) == 1 && n && fwd.agent && !fwd.seen) {
		start_run (n);
	} else {
		die ("command", line);
	}
}

static void on_input (evutil_socket_t fd, short what, void *arg)
{
	ssize_t n = read (fd, fwd.line + fwd.line_bytes, sizeof (fwd.line) - 1 - fwd.line_bytes);
	char *end;
	(void) what, (void) arg;
	if (n <= 0)
		exit (0);		/* the benchmark has ended */
	fwd.line_bytes += (size_t) n;
	fwd.line[fwd.line_bytes] = '\0';
	while ((end = strchr (fwd.line, '\n'))) {
		*end++ = '\0';
		obey (fwd.line);
		fwd.line_bytes = strlen (end);
		memmove (fwd.line, end, fwd.line_bytes + 1);
	}
}

static void agent_up (struct link_peer *p, const struct msg_hello *h, const struct msg_welcome *w, void *arg)
{
	(void) h, (void) w, (void) arg;
	fwd.agent = p;
	send_function ();
}

static int agent_message (struct link_peer *p, const struct wire_header *h, zmq_msg_t *m, size_t n, void *arg, struct err *err)
{
	(void) p, (void) arg;
	if (h->type == WIRE_CAPACITY) {
		if (n != 1 || msg_capacity_decode (&fwd.capacity, zmq_msg_data (m), zmq_msg_size (m), err) < 0)
			return -1;
		say_slots ();
	} else if (h->type == WIRE_TASK_RETURN) {
		die ("agent", "gives tasks back");
	} else if (h->type == WIRE_RESULT) {
		for (size_t i = 0; i < n; i++)
			take_result (&m[i], err);
	}
	return 0;
}

static void agent_burst_end (void *arg)
{
	(void) arg;
	send_tasks ();
}

static void agent_relief (struct link_peer *p, void *arg)
{
	(void) p, (void) arg;
	send_tasks ();
}

static const struct link_ops agent_ops = {
	.on_up = agent_up, .on_down = session_down, .on_message = agent_message, .on_burst_end = agent_burst_end, .on_relief = agent_relief,
};

static int run_forwarder (struct loop *loop, char **arg)
{
	const char *addresses[] = { "tcp://127.0.0.1:*", NULL }, *key = arg[2];
	struct link_opts o = { .name = "forwarder", .ops = &agent_ops, .public_key = arg[0], .secret_key = arg[1] };
	struct event *in;
	struct err err = { 0 };
	struct link *k;
	fwd.loop = loop;
	id_new (&fwd.function);
	buf_init (&fwd.record, 0);
	memset (fwd.payload, 'x', PAYLOAD_BYTES);
	memcpy (fwd.payload, "{\"args\":[\"", 10);
	memcpy (fwd.payload + PAYLOAD_BYTES - 3, "\"]}", 3);
	fwd.settle = loop_timer_create (loop, on_settled, NULL);
	fwd.watch = loop_timer_create (loop, on_watch, NULL);
	in = event_new (loop_base (loop), STDIN_FILENO, EV_READ | EV_PERSIST, on_input, NULL);
	if (!in || event_add (in, NULL) < 0)
		die ("standard input", "cannot be watched");
	if (!(k = link_listen (loop, context (), addresses, &o, &err)) || link_allow_keys (k, &key, 1, &err) < 0)
		die ("listening", err.text);
	printf ("listening %s\n", link_address (k));
	fflush (stdout);
	return loop_run (loop);
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
	if (argc != 5) {
		fprintf (stderr, "usage: see the head of sim_agent.c\n");
		return 2;
	}
	all_descriptors ();
	if (log_open ("sim_agent", NULL, LOG_WARN, &err) < 0 || !(loop = loop_create (&err)))
		die ("start", err.text);
	return !strcmp (argv[1], "managers") ? run_managers (loop, argv + 2) : run_forwarder (loop, argv + 2);
}
