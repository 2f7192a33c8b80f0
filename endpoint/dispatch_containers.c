/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. Functions that want a container: a node that has one warm comes first; replicas are shared out over the nodes. */
#include "endpoint/dispatch_internal.h"
#include "proto/functions.h"
#include "proto/link.h"

/* A manager with the image up and a slot free, the one with fewest tasks for each such container. NULL: any will do, or lots decide. */
struct manager *dispatch_warm_manager (struct dispatch *d, const struct queue_task *t, int64_t now_ms)
{
	struct function *f = d->containers_seen ? functions_get (d->functions, &t->function) : NULL;
	struct manager *best = NULL;
	unsigned best_up = 1;

	if (!f || !f->fn.container.n || d->o.routing == ROUTE_RANDOM)
		return NULL;
	for (struct manager *m = managers_first (d->managers); m; m = m->next) {
		bool full = m->node.closed || m->node.reserved || m->node.out >= m->node.slots || m->node.out >= m->node.window;
		unsigned up = full ? 0 : warm_count (m->warm, f->fn.container);

		if (!up || m->node.out >= m->node.slots || (m->node.ends_ms && m->node.ends_ms - now_ms <= (int64_t) t->expected_ms))
			continue;
		if (!best || (uint64_t) m->node.out * best_up < (uint64_t) best->node.out * up) {
			best = m;
			best_up = up;
		}
	}
	return best;
}

/* Each node's part of the replicas. */
static uint32_t part (const struct dispatch *d, const struct manager *m, uint32_t replicas)
{
	uint32_t n = (uint32_t) managers_count (d->managers), index = 0;

	for (const struct manager *o = managers_first (d->managers); o && o != m; o = o->next)
		index++;
	return n ? replicas / n + (index < replicas % n) : replicas;
}

void dispatch_function_for (struct dispatch *d, const struct manager *m, struct function *f, zmq_msg_t *record)
{
	struct msg_function fn = f->fn;
	struct buf b;

	zmq_msg_copy (record, &f->record);
	if (d->o.block_image && fn.container.n) {
		/* the whole node is in it */
		fn.container = fn.container_type = wire_str (NULL, 0);
		fn.replicas = 0;
	} else if (fn.replicas) {
		fn.replicas = part (d, m, fn.replicas);
	} else {
		return;
	}
	buf_init (&b, 0);
	msg_function_encode (&b, &fn);
	if (buf_failed (&b)) {
		buf_fini (&b);
		return;		/* no memory: it gets them all */
	}
	zmq_msg_close (record);
	link_msg_from_buf (record, &b);
}

static void send_again (struct dispatch *d, struct manager *m, struct function *f)
{
	zmq_msg_t record;

	zmq_msg_init (&record);
	dispatch_function_for (d, m, f, &record);
	map_put (m->functions, &f->fn.id, m);
	link_send (m->peer, WIRE_FUNCTION, &record);
	zmq_msg_close (&record);
}

void dispatch_function_came (struct dispatch *d, struct function *f, bool changed)
{
	bool spread = f->fn.replicas && !d->o.block_image && dispatch_allows (d, &f->fn.id);

	if (changed)
		dispatch_images_changed (d, &f->fn.id);
	if (changed && d->o.block_image)
		dispatch_lanes_release (d);
	if (d->o.block_image)
		dispatch_lane_function (d, f);
	if (spread)
		map_put (d->replicated, &f->fn.id, d);
	else
		map_del (d->replicated, &f->fn.id);
	for (struct manager *m = changed || spread ? managers_first (d->managers) : NULL; m; m = m->next)
		if (spread || map_get (m->functions, &f->fn.id))
			send_again (d, m, f);
}

static int spread_one (const struct id *id, void *v, void *arg)
{
	struct dispatch *d = arg;
	struct function *f = functions_get (d->functions, id);

	(void) v;
	for (struct manager *m = f ? managers_first (d->managers) : NULL; m; m = m->next)
		if (m->peer)
			send_again (d, m, f);
	return 0;
}

void dispatch_replicas_spread (struct dispatch *d)
{
	if (d->managers && map_size (d->replicated))
		map_each (d->replicated, spread_one, d);
}

void dispatch_on_container (struct manager *m, const struct msg_container_state *s, void *arg)
{
	struct dispatch *d = arg;

	warm_note (m->warm, s);
	d->containers_seen = true;
	dispatch_work_later (d);
}
