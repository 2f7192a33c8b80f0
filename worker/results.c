/* SPDX-License-Identifier: Apache-2.0 */
/* Unacknowledged results. The kept message and the one that is sent share their bytes. */
#include <stdlib.h>
#include <sys/queue.h>
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"
#include "proto/bulk_record.h"
#include "worker/results.h"

struct kept {
	TAILQ_ENTRY (kept) link;
	struct id task;
	zmq_msg_t msg;
	int major;
};

struct results {
	const struct bulk *bulk;	/* borrowed */
	struct map *map;
	TAILQ_HEAD (, kept) order;
};

struct results *results_create (const struct bulk *bulk)
{
	struct results *r = xcalloc (1, sizeof (*r));

	r->bulk = bulk;
	r->map = map_create ();
	TAILQ_INIT (&r->order);
	return r;
}

static void drop (struct results *r, struct kept *k)
{
	TAILQ_REMOVE (&r->order, k, link);
	zmq_msg_close (&k->msg);
	free (k);
}

void results_destroy (struct results **rp)
{
	struct results *r = *rp;

	if (!r)
		return;
	while (!TAILQ_EMPTY (&r->order))
		drop (r, TAILQ_FIRST (&r->order));
	map_destroy (&r->map);
	free (r);
	*rp = NULL;
}

static void encode (zmq_msg_t *out, const struct msg_result *m, int major)
{
	struct buf b;

	buf_init (&b, WIRE_MAX_RECORD);
	msg_result_encode (&b, m, major);
	if (buf_failed (&b)) {
		/* Not even its limits hold: the result is a program's error, and must not be lost. */
		struct msg_result small = *m;

		log_error ("results", "result cannot be encoded", "bytes=%zu", m->result.n);
		buf_clear (&b);
		small.status = STATUS_FAILED;
		small.fault = FAULT_SELF;
		small.code = ERR_INTERNAL;
		small.error = WIRE_STR ("the result could not be encoded");
		small.flags = 0;
		small.result.n = small.out.n = small.errout.n = small.runtime.n = 0;
		msg_result_encode (&b, &small, major);
	}
	link_msg_from_buf (out, &b);
}

static void send_copy (const struct results *r, struct kept *k, struct link_peer *peer, bool more)
{
	zmq_msg_t copy;

	if (link_peer_major (peer) != k->major) {
		struct msg_result m;
		zmq_msg_t again;

		if (msg_result_decode (&m, zmq_msg_data (&k->msg), zmq_msg_size (&k->msg), NULL) < 0)
			return;
		encode (&again, &m, link_peer_major (peer));
		zmq_msg_close (&k->msg);
		k->msg = again;
		k->major = link_peer_major (peer);
	}
	zmq_msg_init (&copy);
	zmq_msg_copy (&copy, &k->msg);
	if (!link_peer_bulk (peer))
		bulk_record_result (r->bulk, &copy);
	if (more)
		link_send_soon (peer, WIRE_RESULT, &copy);
	else
		link_send (peer, WIRE_RESULT, &copy);
}

void results_put (struct results *r, struct link_peer *peer, const struct msg_result *m, bool more)
{
	struct kept *k;

	if (map_get (r->map, &m->task))
		return;
	k = xcalloc (1, sizeof (*k));
	k->task = m->task;
	k->major = peer ? link_peer_major (peer) : WIRE_MAJOR;
	encode (&k->msg, m, k->major);
	map_put (r->map, &k->task, k);
	TAILQ_INSERT_TAIL (&r->order, k, link);
	if (peer)
		send_copy (r, k, peer, more);
}

void results_ack (struct results *r, const struct id *task)
{
	struct kept *k = map_del (r->map, task);

	if (k)
		drop (r, k);
}

bool results_resend (struct results *r, struct link_peer *peer, const struct id *task)
{
	struct kept *k = map_get (r->map, task);

	if (k)
		send_copy (r, k, peer, false);
	return k != NULL;
}

void results_resend_all (struct results *r, struct link_peer *peer)
{
	struct kept *k;

	TAILQ_FOREACH (k, &r->order, link)
		send_copy (r, k, peer, false);
}

size_t results_count (const struct results *r)
{
	return map_size (r->map);
}
