/* SPDX-License-Identifier: Apache-2.0 */
/* A ROUTER or a DEALER on Unix sockets, on the loop: what libzmq does for ipc:// addresses, without its I/O threads. A message that libzmq
 * carries wakes three threads (the sender's I/O thread, the receiver's, the receiver); here it wakes the receiver. The wire is ZeroMQ's
 * (zmtp.h), so either side may be libzmq.
 *
 * Memory: of each connection the message that comes in (max_frames, max_message) and the rest of one that the kernel did not take whole.
 * A connection that says anything but ZMTP is closed; so is one of a listener that has not shaken hands in time. */
#ifndef PROTO_IPC_H
#define PROTO_IPC_H
#include <zmq.h>
#include "common/loop.h"

struct ipc;

/* All are there, are called from the loop, and may close the ipc. */
struct ipc_ops {
	void (*on_open) (void *arg);		/* dialler: from now on messages can be sent */
	/* A whole message. rid: the connection's number, for answers (dialler: 0). frames: at least one, borrowed, may be moved from. cut: it had
	 * more frames than max_frames, which are dropped. */
	void (*on_message) (uint32_t rid, zmq_msg_t *frames, size_t n, bool cut, void *arg);
	void (*on_burst_end) (void *arg);	/* after the messages of one turn of the loop */
	void (*on_writable) (void *arg);	/* one to which ipc_begin said EAGAIN may take messages now, or is gone */
	void (*on_end) (void *arg);		/* dialler: the connection ended, or there was none; all that had come was delivered. Once */
};

struct ipc_opts {
	const struct ipc_ops *ops;	/* borrowed for life */
	void *arg;
	size_t max_frame, max_message;	/* bytes */
	size_t max_frames;		/* of a message */
	int64_t handshake_ms;		/* of a listener's connections, at most; 0: 20 s */
	bool own_user;			/* the other side must be a process of our effective user: others are closed at once */
};

/* A ROUTER at these paths (at least one; NULL ends them). A file that is there is replaced. */
struct ipc *ipc_listen (struct loop *l, const char *const *paths, const struct ipc_opts *o, struct err *err);
/* A DEALER with one connection. That nobody listens there is told by on_end. */
struct ipc *ipc_dial (struct loop *l, const char *path, const struct ipc_opts *o, struct err *err);
/* Closes, after what was sent was given to the kernel as far as it takes it. A listener's files go, unless others are in their places. */
void ipc_close (struct ipc **s);
bool ipc_connected (const struct ipc *s);	/* dialler: somebody listens there; what it is the handshake tells */
void ipc_pause (struct ipc *s, bool paused);	/* no messages are delivered while paused */

/* One message to a connection: begin, then its frames, then, perhaps after others, flush. begin: 0, or -1 with errno EAGAIN (it takes nothing now:
 * on_writable follows; or the handshake is not over) or EHOSTUNREACH (it is gone). */
int ipc_begin (struct ipc *s, uint32_t rid);
void ipc_frame (struct ipc *s, zmq_msg_t *m, bool more);	/* m: taken, left empty and initialised */
void ipc_bytes (struct ipc *s, const void *p, size_t n, bool more);	/* a frame, copied; at most IPC_BYTES_MAX */
void ipc_flush (struct ipc *s);
bool ipc_unsent (struct ipc *s);	/* tries to write what the kernel did not take; whether any is left */

enum { IPC_BYTES_MAX = 1024 };

#endif
