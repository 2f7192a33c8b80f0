/* SPDX-License-Identifier: Apache-2.0 */
/* Results over AMQP 0-9-1, for the Executor of globus-compute-sdk: the queue of a task group is named "<user>.<group>", and each of its
 * messages is the end of one task. A queue is no object of its own: it is the group's stream of ends in Redis, and how far it was
 * acknowledged (proto/SPEC.md, section 8.5), so any worker process can serve it, and none has anything to lose. */
#ifndef SERVICE_AMQP_SERVER_H
#define SERVICE_AMQP_SERVER_H
#include "common/buf.h"
#include "common/ids.h"
#include "common/loop.h"

struct app;
struct amqp_server;

/* Reads certificate and key when there are any. It is made also when AMQP is not served. */
struct amqp_server *amqp_create (struct app *a, struct err *err);
/* Serve on a bound socket (transferred). Returns the port, or -1. */
int amqp_listen_fd (struct amqp_server *s, int fd, struct err *err);
/* Take no more connections, ask the clients to connect elsewhere, and say when they have gone. */
void amqp_drain (struct amqp_server *s, loop_f *done, void *arg);
void amqp_destroy (struct amqp_server **s);	/* before the Redis connection of the app */
bool amqp_served (const struct amqp_server *s);

/* Where clients shall connect, "amqps://host:port" without credentials; appended. host: what the client called us, for a service that
 * listens on all addresses and was given no address of its own; may be empty. */
void amqp_address (const struct amqp_server *s, const char *host, size_t n, struct buf *b);
/* "<user>." */
#define AMQP_PREFIX_MAX (ID_TEXT + 1)
void amqp_queue_prefix (const struct id *user, char out[AMQP_PREFIX_MAX]);

#endif
