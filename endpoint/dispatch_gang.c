/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. Tasks that ask for whole nodes (SPEC.md, 3.8).
 *
 *     it comes to the front   | more nodes than blocks have, or no launcher: it ends as failed | else waits for nodes, in the order of arrival
 *     the oldest one, unless an older task of another kind waits | nodes of one block are kept for it, one task at a time
 *     all that are kept are idle      | it takes them: the first gets the task, with the environment that leads to the others
 *     a node that is kept goes away or drains | others are looked for
 *     a node that it has is lost      | the call is cancelled; whatever comes of that, but for a success, it was lost, as if with its manager
 *     it ends, goes back, is lost     | the nodes are others' again
 *
 * What is kept takes nothing new, so that a task for many nodes is not starved by small ones; and does not keep small ones out that were there
 * before it. */
#include "endpoint/dispatch_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/gang.h"
#include "proto/functions.h"
#include "proto/link.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOOK = 64 };	/* tasks that wait for nodes, of which one may get them */

static int read_task (const zmq_msg_t *frame, struct msg_task *t, struct msg_resources *r, struct err *err)
{
	zmq_msg_t *f = (zmq_msg_t *) frame;	/* ZeroMQ's functions know no const */

	return msg_task_decode (t, zmq_msg_data (f), zmq_msg_size (f), err) < 0 ? -1 : msg_resources_decode (r, t->resources.p, t->resources.n, err);
}

bool dispatch_gang_refused (struct dispatch *d, struct queue_task *t)
{
	struct msg_resources r;
	struct msg_task m;
	struct err err;

	if (d->o.mpi == MPI_NONE)
		err_set (&err, ERR_INVALID, FAULT_USER, "the task asks for nodes (resource_specification); this endpoint has no launcher for them "
			 "(mpi_launcher is none)");
	else if (read_task (&t->frame, &m, &r, &err) == 0) {
		if (r.nodes <= d->o.nodes_per_block) {
			t->nodes = r.nodes;
			d->gang_tasks++;
			d->gang_nodes += r.nodes;
			return false;
		}
		err_set (&err, ERR_INVALID, FAULT_USER, "the task asks for %u nodes, and blocks of this endpoint have %u (scaling.nodes_per_block)", r.nodes,
			 d->o.nodes_per_block);
	}
	d->st.refused++;
	dispatch_end_task (d, t, STATUS_FAILED, err.code, err.fault, err.text);
	return true;
}

void dispatch_gang_look (struct dispatch *d)
{
	d->gang_look = true;
	if (queue_gangs (d->queue)->n)
		dispatch_work_later (d);
}

unsigned dispatch_nodes_wanted (const struct dispatch *d)
{
	unsigned most = 0;

	for (const struct queue_task *t = queue_gangs (d->queue)->head; t; t = t->next)
		if (!t->gang && t->nodes > most)
			most = t->nodes;
	return most;
}

static void update_all (struct dispatch *d, const struct gang *g)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->m[i])
			route_update (d->route, &g->m[i]->node);
}

void dispatch_gang_let_go (struct dispatch *d, struct queue_task *t)
{
	struct gang *g = t->gang;

	if (d->gang == g)
		d->gang = NULL;
	t->gang = NULL;
	gang_leave (g);
	for (size_t i = 0; i < g->n; i++)
		if (g->m[i] && g->taken && !g->m[i]->node.out)
			g->m[i]->idle_since_ms = clock_now_ms ();
	update_all (d, g);
	gang_free (&g);
	d->gang_look = true;
	dispatch_work_later (d);
}

void dispatch_gang_end (struct dispatch *d)
{
	if (d->gang)
		dispatch_gang_let_go (d, d->gang->task);
	for (struct manager *m = managers_first (d->managers); m; m = m->next)
		if (m->gang)
			dispatch_gang_let_go (d, m->gang->task);
}

void dispatch_gang_released (struct dispatch *d)
{
	struct queue_task *t;

	while ((t = queue_gangs (d->queue)->tail))
		queue_put_back (d->queue, t, NULL, true, clock_now_ms ());
}

/* ---- placing ---------------------------------------------------------------------------------------------------- */

/* Nodes are kept for t. */
static bool keep (struct dispatch *d, struct queue_task *t)
{
	struct gang *g;

	switch (gang_choose (managers_first (d->managers), t->nodes, t->expected_ms, clock_now_ms (), &g)) {
	case GANG_MADE:
		g->task = t;
		t->gang = d->gang = g;
		gang_keep (g);
		update_all (d, g);
		return true;
	case GANG_TIME_SHORT:
		if (!d->need_ms || t->expected_ms < d->need_ms)
			d->need_ms = t->expected_ms;
		break;
	case GANG_NONE:
		break;
	}
	return false;
}

/* For the oldest that can have some. */
static bool keep_one (struct dispatch *d)
{
	const struct queue_task *front = d->o.block_image ? d->plain.head : queue_front (d->queue);
	struct queue_task *t = queue_gangs (d->queue)->head, *next;

	if (!t || !d->gang_look || !d->managers)
		return false;
	for (unsigned looks = 0; t && looks < LOOK; looks++, t = next) {
		next = t->next;
		if (front && front->came_ms < t->came_ms)
			return false;	/* looked at again when that one has gone */
		if (!functions_get (d->functions, &t->function))
			dispatch_hold_for_function (d, t);
		else if (keep (d, t))
			return true;
	}
	d->gang_look = false;
	return false;
}

static void start (struct dispatch *d, struct queue_task *t)
{
	struct gang *g = t->gang;

	if (!dispatch_send_function (d, g->m[0], &t->function)) {
		dispatch_gang_let_go (d, t);
		dispatch_hold_for_function (d, t);
		return;
	}
	d->gang = NULL;
	gang_take (g);
	update_all (d, g);
	for (size_t i = 0; i < g->n; i++)
		g->m[i]->idle_since_ms = 0;
	log_debug ("dispatch", "nodes taken", "nodes=%zu first=%s block=%s", g->n, g->m[0]->name, g->m[0]->block);
	dispatch_send_task (d, g->m[0], t);
}

void dispatch_gang_place (struct dispatch *d)
{
	while ((d->gang || keep_one (d)) && gang_idle (d->gang))
		start (d, d->gang->task);
}

int dispatch_gang_frame (struct dispatch *d, const struct queue_task *t, zmq_msg_t *record, struct err *err)
{
	const struct gang *g = t->gang;
	const char **names = xcalloc (g->n, sizeof (*names));
	struct buf environ, resources, b;
	struct msg_resources r;
	struct msg_task m;
	int rc;

	for (size_t i = 0; i < g->n; i++)
		names[i] = g->m[i]->name;
	buf_init (&environ, RESOURCES_ENVIRON_MAX + 1);
	buf_init (&resources, RESOURCES_MAX_BYTES);
	buf_init (&b, WIRE_MAX_RECORD);
	rc = read_task (record, &m, &r, err);
	if (rc == 0 && (rc = mpi_environ (&environ, d->o.mpi, &r, names, err)) == 0) {
		r.environ = wire_str ((const char *) environ.data, environ.len);
		msg_resources_encode (&resources, &r);
		m.resources = wire_str ((const char *) resources.data, resources.len);
		msg_task_encode (&b, &m, WIRE_MAJOR);
		if (buf_failed (&resources) || buf_failed (&b))
			rc = err_set (err, ERR_INTERNAL, FAULT_SITE, "no memory to tell a node of the others");
	}
	if (rc == 0) {
		zmq_msg_close (record);		/* what m pointed into */
		link_msg_from_buf (record, &b);
	} else {
		buf_fini (&b);
	}
	buf_fini (&resources);
	buf_fini (&environ);
	free (names);
	return rc;
}

/* ---- nodes that go away ----------------------------------------------------------------------------------------- */

void dispatch_gang_lost (struct dispatch *d, struct manager *m, const char *why)
{
	struct gang *g = m->gang;
	struct manager *first;

	if (m->reserved)
		dispatch_gang_let_go (d, d->gang->task);
	if (!g || (first = g->task->owner) == m)
		return;		/* with its manager the task itself is lost */
	gang_without (g, m);
	m->gang = NULL;
	if (g->recalled || g->cancelled)
		return;
	g->recalled = true;
	snprintf (g->why, sizeof (g->why), "node %s, one of the %zu nodes of the task: %.500s", m->name, g->n, why);
	link_send_id (first->peer, WIRE_CANCEL, &g->task->id);
}

bool dispatch_gang_recalled (struct dispatch *d, struct manager *m, struct queue_task *t, zmq_msg_t *record)
{
	struct msg_result r;
	char why[sizeof (t->gang->why)];

	if (!t->gang || !t->gang->recalled || t->owner != m)
		return false;
	if (msg_result_decode (&r, zmq_msg_data (record), zmq_msg_size (record), NULL) == 0 && r.status == STATUS_SUCCESS)
		return false;
	snprintf (why, sizeof (why), "%s", t->gang->why);	/* which ends with it */
	dispatch_lose_task (d, m, t, why);
	dispatch_work_later (d);
	return true;
}
