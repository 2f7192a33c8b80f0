/* SPDX-License-Identifier: Apache-2.0 */
/* The carrier within a host: ipc.h. */
#include "proto/link_internal.h"
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"
#include "proto/ipc.h"

static const char *path_of (const char *address)
{
	return address + strlen (LINK_IPC);
}

static void on_open (void *arg)
{
	struct link *k = arg;
	link_enter (k);
	link_dial_secured (k);
	link_dial_hello (k);
	link_leave (k);
}

static void on_message (uint32_t rid, zmq_msg_t *frames, size_t n, bool cut, void *arg)
{
	struct link *k = arg;
	struct link_in in = { .by = &link_over_ipc, .rid = rid, .addressed = true, .headed = true, .overlong = cut,
			      .head = frames, .recs = frames + 1, .n = n - 1 };
	link_enter (k);
	k->burst_records += in.n;
	link_inbox_take (k, &in);
	if (k->burst_records >= LINK_BURST_RECORDS && !k->muted) {
		link_burst_end (k);
		link_outbox_flush_dirty (k);
	}
	link_leave (k);
}

static void on_writable (void *arg)
{
	link_outbox_retry (arg);
}

static void on_end (void *arg)
{
	struct link *k = arg;
	link_enter (k);
	link_dial_ended (k);
	link_leave (k);
}

static const struct ipc_ops ops = { on_open, on_message, link_burst_end, on_writable, on_end };

/* A message is a batch, or one record that is larger. */
static struct ipc_opts opts_of (struct link *k)
{
	return (struct ipc_opts) { .ops = &ops, .arg = k, .max_frame = k->max_frame_bytes, .max_message = k->max_frame_bytes + LINK_BATCH_BYTES,
				   .max_frames = WIRE_MAX_RECORDS + 1, .own_user = k->curve };
}

static void opened (struct link *k)
{
	k->open = true;
	ipc_pause (k->ipc, k->paused);
}

static int carrier_listen (struct link *k, const char *const *addresses, struct err *err)
{
	struct ipc_opts o = opts_of (k);
	const char **paths;
	size_t n = 0;
	while (addresses[n])
		n++;
	paths = xcalloc (n + 1, sizeof (*paths));
	n = 0;
	for (const char *const *a = addresses; *a; a++)
		if (link_carrier_of (*a) == &link_over_ipc)
			paths[n++] = path_of (*a);
	k->ipc = ipc_listen (k->loop, paths, &o, err);
	if (k->ipc && !k->endpoint)
		k->endpoint = xasprintf (LINK_IPC "%s", paths[n - 1]);
	free (paths);
	if (!k->ipc)
		return -1;
	opened (k);
	return 0;
}

static int carrier_dial (struct link *k, struct err *err)
{
	struct ipc_opts o = opts_of (k);
	if (!(k->ipc = ipc_dial (k->loop, path_of (k->dial.via), &o, err)))
		return err_prefix (err, "connecting to %s", k->dial.via);
	opened (k);
	if (ipc_connected (k->ipc))
		link_dial_connected (k);
	return 0;
}

static void carrier_close (struct link *k, int64_t linger_ms)
{
	(void) linger_ms;		/* the kernel has it, or the peer reads no longer */
	if (!k->ipc)
		return;
	ipc_close (&k->ipc);
	k->open = false;
}

static void carrier_pause (struct link *k)
{
	if (k->ipc)
		ipc_pause (k->ipc, k->paused);
}

static int carrier_begin (struct link *k, uint32_t rid, const struct wire_header *h)
{
	uint8_t head[WIRE_HEADER_BYTES];
	if (ipc_begin (k->ipc, rid) < 0)
		return -1;
	wire_header_encode (h, head);
	ipc_bytes (k->ipc, head, sizeof (head), h->count > 0);
	return 0;
}

static int carrier_frame (struct link *k, zmq_msg_t *m, bool more)
{
	ipc_frame (k->ipc, m, more);
	return 0;
}

static void carrier_flush (struct link *k)
{
	if (k->ipc)
		ipc_flush (k->ipc);
}

static bool carrier_unsent (struct link *k)
{
	return k->ipc && ipc_unsent (k->ipc);
}

const struct link_carrier link_over_ipc = {
	.listen = carrier_listen, .dial = carrier_dial, .close = carrier_close, .pause = carrier_pause, .begin = carrier_begin,
	.frame = carrier_frame, .flush = carrier_flush, .unsent = carrier_unsent, .tells = true,
};
