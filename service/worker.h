/* SPDX-License-Identifier: Apache-2.0 */
/* A worker process, which the master starts: its main. */
#ifndef SERVICE_WORKER_H
#define SERVICE_WORKER_H

/* Descriptors that it gets. */
enum {
	WORKER_READY_FD = 3,		/* a pipe: it writes a byte when it serves */
	WORKER_METRICS_FD = 4,		/* memory that all count in */
	WORKER_LISTEN_FD = 5,		/* the first of its sockets, bound: those for HTTP, then as many for AMQP, when that is served */
};

/* argv: INDEX PARENT_PID SLAB SOCKETS AMQP_SOCKETS CONFIG [KEY=VALUE...]. SLAB is its part of that memory, SOCKETS their numbers, CONFIG may be "". The
 * exit status. */
int worker_run (int argc, char **argv);

#endif
