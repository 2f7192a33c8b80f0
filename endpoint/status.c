/* SPDX-License-Identifier: Apache-2.0 */
/* See status.h. */
#include "endpoint/status.h"
#include "common/clock.h"
#include "common/utf8.h"
#include "common/xmem.h"
#include "endpoint/memo.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What others say need not be UTF-8, as the end of a log; and texts are cut. */
static json_t *text (const char *s)
{
	char *copy = xstrdup (s ? s : "");
	json_t *j;

	utf8_mend (copy, strlen (copy));
	j = *copy ? json_string (copy) : json_null ();
	free (copy);
	return j;
}

static void add_time (json_t *j, const char *key, int64_t ns)
{
	char iso[32];

	json_object_set_new (j, key, ns ? json_string (clock_iso (ns, iso)) : json_null ());
}

static void add_block (const struct blocks_view *v, void *arg)
{
	json_t *j = json_pack ("{s:s, s:s, s:I}", "id", v->id, "state", blocks_state_name (v->state), "age_ms", (json_int_t) v->age_ms);

	json_object_set_new (j, "job", text (v->job));
	json_object_set_new (j, "text", text (v->text));
	if (*v->image)
		json_object_set_new (j, "image", text (v->image));
	json_array_append_new (arg, j);
}

static json_t *blocks_json (struct blocks *b)
{
	struct blocks_stats st;
	json_t *list = json_array (), *j;

	if (!b) {
		json_decref (list);
		return json_pack ("{s:i, s:i, s:i, s:n}", "active", 0, "up", 0, "pending", 0, "error");
	}
	blocks_stats (b, &st);
	blocks_each (b, add_block, list);
	j = json_pack ("{s:i, s:i, s:i, s:i, s:I, s:I, s:i, s:o}", "active", st.active, "pending", st.pending, "up", st.up, "stopping",
		       st.stopping, "started", (json_int_t) st.started, "failed", (json_int_t) st.failed, "failures_last_hour",
		       st.failures_last_hour, "list", list);
	json_object_set_new (j, "error", text (st.error));
	json_object_set_new (j, "scheduler", text (st.scheduler));
	return j;
}

static json_t *managers_json (struct managers *ms)
{
	json_t *list = json_array ();

	for (struct manager *m = ms ? managers_first (ms) : NULL; m; m = m->next)
		json_array_append_new (list, json_pack ("{s:o, s:s, s:s, s:i, s:i, s:i, s:I, s:b}", "containers",
							warm_json (m->warm), "node", m->name, "block", m->block, "pid",
							(int) m->pid, "slots", (int) m->node.slots, "tasks", (int) m->node.out, "done",
							(json_int_t) m->done, "draining", m->draining));
	return list;
}

static json_t *memo_json (const struct memo *m, const struct dispatch_stats *d)
{
	struct memo_stats st;

	if (!m)
		return json_null ();
	memo_stats (m, &st);
	return json_pack ("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "entries", (json_int_t) st.entries, "bytes", (json_int_t) st.live_bytes,
			  "disk_bytes", (json_int_t) st.disk_bytes, "answered", (json_int_t) d->memoised, "joined", (json_int_t) d->joined,
			  "misses", (json_int_t) st.misses, "evicted", (json_int_t) st.evicted, "expired", (json_int_t) st.expired, "corrupt",
			  (json_int_t) st.corrupt, "failed", (json_int_t) st.failed);
}

json_t *status_make (const struct status_input *in)
{
	struct dispatch_stats d;
	struct spool_stats sp;
	json_t *j = json_object ();

	dispatch_stats (in->dispatch, &d);
	spool_stats (in->spool, &sp);
	json_object_set_new (j, "name", text (in->name));
	json_object_set_new (j, "endpoint_id", text (in->endpoint_id));
	json_object_set_new (j, "pid", json_integer (getpid ()));
	json_object_set_new (j, "version", json_string (WEFT_VERSION));
	json_object_set_new (j, "state", text (in->state));
	json_object_set_new (j, "connected", json_boolean (in->connected));
	json_object_set_new (j, "registered", json_boolean (in->registered));
	json_object_set_new (j, "refused", json_boolean (in->refused));
	json_object_set_new (j, "error", text (in->error));
	json_object_set_new (j, "service_url", text (in->service_url));
	json_object_set_new (j, "forwarder_address", text (in->forwarder_address));
	json_object_set_new (j, "provider", text (in->provider));
	add_time (j, "started", in->started_ns);
	add_time (j, "connected_since", in->connected ? in->connected_ns : 0);
	json_object_set_new (j, "queue", json_pack ("{s:I, s:I, s:I, s:I, s:I}", "waiting", (json_int_t) d.waiting, "held",
						   (json_int_t) d.held, "running", (json_int_t) d.out, "bytes", (json_int_t) d.bytes,
						   "window", (json_int_t) d.window_tasks));
	json_object_set_new (j, "slots", json_pack ("{s:I, s:I}", "total", (json_int_t) d.slots, "free", (json_int_t) d.free_slots));
	json_object_set_new (j, "tasks", json_pack ("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "received", (json_int_t) d.received, "done",
						   (json_int_t) d.done, "duplicates", (json_int_t) d.duplicates, "lost",
						   (json_int_t) d.lost, "cancelled", (json_int_t) d.cancelled, "returned",
						   (json_int_t) d.returned, "refused", (json_int_t) d.refused));
	json_object_set_new (j, "functions", json_pack ("{s:I, s:I}", "count", (json_int_t) d.functions, "bytes",
						       (json_int_t) d.function_bytes));
	json_object_set_new (j, "memo", memo_json (in->memo, &d));
	json_object_set_new (j, "managers", managers_json (in->managers));
	json_object_set_new (j, "blocks", blocks_json (in->blocks));
	json_object_set_new (j, "spool", json_pack ("{s:I, s:I, s:I, s:I, s:I, s:b, s:o}", "results", (json_int_t) sp.results, "unspooled",
						   (json_int_t) sp.unspooled, "unspooled_bytes", (json_int_t) sp.unspooled_bytes,
						   "disk_bytes", (json_int_t) sp.disk_bytes, "corrupt", (json_int_t) sp.corrupt, "full",
						   sp.full, "error", text (sp.error)));
	return j;
}

void status_metrics (const struct status_input *in, struct buf *out)
{
	struct dispatch_stats d;
	struct spool_stats sp;
	struct blocks_stats b = { 0 };

	dispatch_stats (in->dispatch, &d);
	spool_stats (in->spool, &sp);
	if (in->blocks)
		blocks_stats (in->blocks, &b);
	const struct { const char *name; uint64_t value; } figures[] = {
		{ "tasks_received", d.received }, { "tasks_lost", d.lost }, { "tasks_cancelled", d.cancelled }, { "tasks_returned", d.returned },
		{ "tasks_refused", d.refused }, { "tasks_memoised", d.memoised }, { "blocks_started", (uint64_t) b.started },
		{ "blocks_failed", (uint64_t) b.failed }, { "spool_results", sp.results }, { "spool_unspooled", sp.unspooled },
		{ "spool_corrupt", sp.corrupt }, { "spool_disk_bytes", sp.disk_bytes }, { "spool_full", sp.full },
	};
	for (size_t i = 0; i < sizeof (figures) / sizeof (figures[0]); i++)
		buf_printf (out, "%s\"%s\":%" PRIu64, i ? "," : "{", figures[i].name, figures[i].value);
	buf_char (out, '}');
}
