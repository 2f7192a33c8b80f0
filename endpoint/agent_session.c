/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's session with the forwarder, and what the service says of where that is. */
#include "endpoint/agent_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/containers.h"
#include "endpoint/upstream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

enum {
	LOST_MS = 3000,		/* without a session: ask the service where the forwarder is now */
	LOST_AGAIN_MS = 10000,
};

static void up_up (const struct msg_welcome *w, void *arg)
{
	struct agent *a = arg;

	if (a->bulk && !(w->capabilities & MSG_CAP_BULK))
		log_warn ("agent", "large data travels in messages: bulk.dir is not the forwarder's store", "dir=%s", bulk_dir (a->bulk));
	a->connected = true;
	a->connected_ns = clock_real_ns ();
	a->metrics[0] = '\0';
	a->metrics_due_ms = 0;
	loop_timer_stop (a->lost);
	dispatch_session_up (a->dispatch);
	agent_set_error (a, false, "");
}

static void up_down (const char *why, void *arg)
{
	struct agent *a = arg;
	char text[400];

	a->connected = false;
	dispatch_session_down (a->dispatch);
	loop_timer_start (a->lost, LOST_MS, false);
	snprintf (text, sizeof (text), "the session with the forwarder ended: %.300s", why);
	agent_set_error (a, false, text);
}

static void up_refused (int code, const char *text, void *arg)
{
	struct agent *a = arg;
	char said[640];

	snprintf (said, sizeof (said), "the forwarder at %s %s: %.300s", service_identity (a->service)->address,
		  code == ERR_UNAVAILABLE ? "cannot be talked to" : "refused this endpoint", text);
	agent_set_error (a, code != ERR_UNAVAILABLE, said);
	if (!loop_timer_pending (a->lost))
		loop_timer_start (a->lost, LOST_MS, false);
}

void agent_on_lost (void *arg)
{
	struct agent *a = arg;

	/* a refused key may be one that the service lost: say it again, then ask */
	if (a->refused)
		service_register (a->service);
	else
		service_ask (a->service);
	loop_timer_start (a->lost, LOST_AGAIN_MS, false);
}

static void up_function (zmq_msg_t *record, const struct id *id, void *arg)
{
	dispatch_upstream.function (record, id, ((struct agent *) arg)->dispatch);
}

static void up_coming (const struct id *task, void *arg)
{
	dispatch_upstream.coming (task, ((struct agent *) arg)->dispatch);
}

static void up_task (zmq_msg_t *record, const struct msg_task *m, void *arg)
{
	dispatch_upstream.task (record, m, ((struct agent *) arg)->dispatch);
}

static void up_acked (const struct id *task, void *arg)
{
	dispatch_upstream.acked (task, ((struct agent *) arg)->dispatch);
}

static void up_cancel (const struct id *task, void *arg)
{
	dispatch_upstream.cancel (task, ((struct agent *) arg)->dispatch);
}

static void up_follow (const struct id *task, void *arg)
{
	dispatch_upstream.follow (task, ((struct agent *) arg)->dispatch);
}

static void up_drain (const struct msg_drain *m, void *arg)
{
	dispatch_upstream.drain (m, ((struct agent *) arg)->dispatch);
}

static void up_burst_end (void *arg)
{
	dispatch_upstream.burst_end (((struct agent *) arg)->dispatch);
}

static void up_capacity (struct msg_capacity *out, void *arg)
{
	dispatch_upstream.capacity (out, ((struct agent *) arg)->dispatch);
}

static const struct upstream_ops upstream_calls = {
	.up = up_up, .down = up_down, .refused = up_refused, .function = up_function, .coming = up_coming, .task = up_task, .acked = up_acked,
	.cancel = up_cancel, .follow = up_follow, .drain = up_drain, .burst_end = up_burst_end, .relief = up_burst_end, .capacity = up_capacity,
};

static int agent_make_upstream (struct agent *a, const struct id *id, struct err *err)
{
	struct utsname u;
	char os[256], *runtime, *local = NULL;
	json_t *j;
	struct upstream_opts o = { .id = *id, .name = a->host, .keys = &a->keys,
				   .bulk = a->bulk ? bulk_id (a->bulk) : NULL, .ops = &upstream_calls, .arg = a };

	if (uname (&u) < 0)
		memset (&u, 0, sizeof (u));
	snprintf (os, sizeof (os), "%.64s %.64s %.64s", u.sysname, u.release, u.machine);
	j = json_pack ("{s:s}", "os", os);
	containers_describe (a->config, j);
	json_object_del (j, "container_images");	/* may be long; they stand in the registration */
	runtime = json_dumps (j, JSON_COMPACT);
	json_decref (j);
	o.runtime = runtime ? runtime : "{}";
	if (a->bulk && !(a->config->forwarder_address && *a->config->forwarder_address))
		o.local = local = bulk_link (a->bulk, id);
	a->upstream = upstream_create (a->loop, a->zctx, &o, err);
	free (local);
	free (runtime);
	if (!a->upstream)
		return -1;
	dispatch_connect (a->dispatch, a->upstream, a->managers);
	return 0;
}

/* ---- the service -------------------------------------------------------------------------------------------- */

/* The id is known: from now on managers may run and the forwarder may be dialled. */
static void have_id (struct agent *a, const struct id *id)
{
	struct err err;
	char was[ID_TEXT];

	memcpy (was, a->id, sizeof (was));
	id_text (id, a->id);
	if (a->upstream && strcmp (was, a->id) != 0) {
		dispatch_connect (a->dispatch, NULL, a->managers);
		upstream_destroy (&a->upstream, 0);
		a->connected = a->address_known = false;
	}
	if (!a->upstream && agent_make_upstream (a, id, &err) < 0)
		log_err (LOG_ERROR, "agent", "cannot make the session", &err);
	if (!*was && a->phase == AGENT_RUN)
		blocks_run (a->blocks, true);
}

static void dial (struct agent *a, const char *address, const char *key, int64_t heartbeat_ms)
{
	struct err err;

	if (a->config->forwarder_address && *a->config->forwarder_address)
		address = a->config->forwarder_address;
	if (!a->upstream)
		return;
	a->address_known = true;
	if (upstream_address (a->upstream, address, key, heartbeat_ms, &err) < 0)
		agent_set_error (a, false, err.text);
	else if (!a->connected && !loop_timer_pending (a->lost))
		loop_timer_start (a->lost, LOST_AGAIN_MS, false);
}

void agent_registered (const struct id *id, void *arg)
{
	struct agent *a = arg;

	a->registered = true;
	log_info ("agent", "registered", "ep=%s", id_text (id, (char[ID_TEXT]){ 0 }));
	have_id (a, id);
	if (!a->connected)
		agent_set_error (a, false, "");
}

void agent_forwarder (const char *address, const char *key, int64_t heartbeat_ms, void *arg)
{
	struct agent *a = arg;

	if (!a->connected)
		agent_set_error (a, false, "");
	dial (a, address, key, heartbeat_ms);
}

void agent_failed (const struct err *err, bool refused, void *arg)
{
	struct agent *a = arg;
	const struct identity *who = service_identity (a->service);

	if (!a->connected)
		agent_set_error (a, refused, err->text);
	/* the service is down, but its forwarder may not be: try where it was */
	if (!refused && !a->address_known && who->known && *who->address) {
		have_id (a, &who->id);
		dial (a, who->address, who->server_key, 0);
	}
}
