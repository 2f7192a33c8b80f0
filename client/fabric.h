/* SPDX-License-Identifier: Apache-2.0 */
/* A whole fabric on this machine, under one process: Redis, weft-service, weft-forwarder supervise, one local endpoint. They are
 * started in this order, each when the one before is ready, kept alive with back-off, and stopped in the opposite order. */
#ifndef CLIENT_FABRIC_H
#define CLIENT_FABRIC_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include "common/loop.h"

struct fabric;
struct fabric_opts {
	const char *state;		/* directory, absolute; made when missing */
	int64_t port;			/* of the service on loopback; 0 = a free one, kept in the state directory */
	int64_t workers;		/* slots of the endpoint */
	int64_t service_processes;
	/* KEY=VALUE overrides of their configurations, NULL-terminated, or NULL */
	const char *const *service_set, *const *endpoint_set;
	FILE *progress;			/* a line a step; NULL = none */
	/* Called once: all is ready (why NULL), or it cannot be and fabric_stop is needed. */
	void (*on_ready) (const char *why, void *arg);
	void *arg;
};

/* Who runs the fabric of a state directory: its pid, 0 = nobody, -1 = not known. fd: of its lock, owned by the caller when not 0 or -1; it can be
 * locked when that one has ended. */
pid_t fabric_holder (const char *state, int *fd);
/* Is it certain that nobody does? Then *err says what to do. */
bool fabric_absent (const char *state, struct err *err);
struct fabric *fabric_create (struct loop *l, const struct fabric_opts *o, struct err *err);
void fabric_stop (struct fabric *f);		/* stops the loop when all have ended */
void fabric_destroy (struct fabric **f);
const char *fabric_url (const struct fabric *f);
const char *fabric_endpoint (const struct fabric *f);
/* The i-th of its programs: its name, and its pid, 0 while it is not there. NULL: there are not so many. */
const char *fabric_program (const struct fabric *f, int i, pid_t *pid);

#endif
