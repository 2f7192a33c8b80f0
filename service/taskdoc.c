/* SPDX-License-Identifier: Apache-2.0 */
#include "service/taskdoc.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "proto/bulk_record.h"

#define MOD "taskdoc"

const char *doc_status (enum doc_kind kind, int state, bool endpoint_offline)
{
	if (state == STATE_CANCELLED && kind == DOC_V2)
		return "failed";
	if (!msg_state_ended (state) && endpoint_offline) /* also one that has begun: nobody can tell what became of it */
		state = STATE_WAITING_FOR_EP;
	else if (state <= STATE_WAITING_FOR_EP) /* in the queue of one that is there */
		state = STATE_RECEIVED;
	return msg_state_name (state);
}

/* Written in pieces: this is done some ten times a task, and formatting costs much more. */
static void member_name (struct buf *b, const char *name)
{
	buf_str (b, ",\"");
	buf_str (b, name);
	buf_str (b, "\":");
}

static void member_id (struct buf *b, const char *name, const struct id *id)
{
	char t[ID_TEXT];

	member_name (b, name);
	buf_char (b, '"');
	buf_str (b, id_text (id, t));
	buf_char (b, '"');
}

static void member_text (struct buf *b, const char *name, const char *p, size_t n)
{
	member_name (b, name);
	buf_json_string (b, p, n);
}

/* ---- the endpoint's runtime ------------------------------------------------------------------------------------- */

/* RESULT carries the runtime as JSON text that a peer made. It is parsed before any of it is shown; the last text is remembered,
 * because all results of an endpoint carry the same. */
struct runtime { char text[WIRE_MAX_TEXT]; size_t n; bool known; char os[128], python[64], dill[64]; };

static void copy (char *out, size_t cap, const json_t *o, const char *key)
{
	const char *s = json_string_value (json_object_get (o, key));

	if (s && strlen (s) < cap)
		strcpy (out, s);
}

static const struct runtime *runtime_of (struct wire_str s)
{
	static struct runtime last;
	json_t *o;

	if (!s.n || s.n > sizeof (last.text))
		return NULL;
	if (last.n == s.n && !memcmp (last.text, s.p, s.n))
		return &last;
	memset (&last, 0, sizeof (last));
	memcpy (last.text, s.p, s.n);
	last.n = s.n;
	o = json_loadb (s.p, s.n, JSON_REJECT_DUPLICATES, NULL);
	copy (last.os, sizeof (last.os), o, "os");
	copy (last.python, sizeof (last.python), o, "python_version");
	copy (last.dill, sizeof (last.dill), o, "dill_version");
	json_decref (o);
	return &last;
}

/* The SDK warns when these versions differ from its own, and when they are unknown: without both, V2 says nothing. */
static void add_details (struct buf *b, enum doc_kind kind, const struct doc_task *t)
{
	const struct msg_result *m = t->result;
	const struct runtime *r = runtime_of (m->runtime);
	bool versions = r && r->python[0] && r->dill[0], first = true;

	if (kind == DOC_V2 && !versions)
		return;
	buf_str (b, ",\"details\":{");
	if (r) {
		const struct { const char *name, *value; } parts[] = { { "os", r->os }, { "python_version", r->python }, { "dill_version", r->dill } };
		for (int i = 0; i < 3; i++) {
			if (!parts[i].value[0])
				continue;
			buf_printf (b, "%s\"%s\":", first ? "" : ",", parts[i].name);
			buf_json_string (b, parts[i].value, strlen (parts[i].value));
			first = false;
		}
	}
	if (t->meta) {
		char id[ID_TEXT];
		buf_printf (b, "%s\"endpoint_id\":\"%s\"", first ? "" : ",", id_text (&t->meta->endpoint, id));
		first = false;
	}
	if (m->stamps[STAMP_EXECUTION_START] && m->stamps[STAMP_EXECUTION_END])
		buf_printf (b, "%s\"task_transitions\":{\"execution-start\":%.6f,\"execution-end\":%.6f}", first ? "" : ",",
			    (double) m->stamps[STAMP_EXECUTION_START] / 1e9, (double) m->stamps[STAMP_EXECUTION_END] / 1e9);
	buf_char (b, '}');
}

/* ---- ended tasks ------------------------------------------------------------------------------------------------ */

static int64_t completed_ns (const struct msg_result *m)
{
	int64_t last = 0;

	for (int i = 0; i < STAMP_SERVICE_RESULT; i++)
		if (m->stamps[i] > last)
			last = m->stamps[i];
	return last;
}

static void add_failure (struct buf *b, enum doc_kind kind, const struct doc_task *t)
{
	const struct msg_result *m = t->result;

	if (t->state == STATE_CANCELLED) {
		const char *text = m->error.n ? m->error.p : "the task was cancelled";
		size_t n = m->error.n ? m->error.n : strlen (text);
		member_text (b, "reason", text, n);
		if (kind == DOC_V2) /* SDKs know no such end: they want the text of an exception, or raise a KeyError */
			member_text (b, "exception", text, n);
		return;
	}
	if (m->error.n)
		member_text (b, "exception", m->error.p, m->error.n);
	else {
		const char *name = err_name (m->code);
		member_text (b, "exception", name, strlen (name));
	}
	if (kind == DOC_V2 && m->fault != FAULT_USER && m->fault != FAULT_NONE)
		buf_printf (b, ",\"reason\":\"%s (fault: %s)\"", err_name (m->code), err_fault_name (m->fault));
}

static void add_stamps (struct buf *b, const int64_t stamps[STAMP_SLOTS])
{
	bool first = true;

	buf_str (b, "\"stamps\":{");
	for (int i = 0; i < STAMP_SLOTS; i++) {
		if (!stamps[i])
			continue;
		buf_str (b, first ? "\"" : ",\"");
		buf_str (b, msg_stamp_name (i));
		buf_str (b, "\":");
		buf_int (b, stamps[i]);
		first = false;
	}
	buf_char (b, '}');
}

/* What the task waited for on its node before it could run: its container, its files. */
static void add_waits (struct buf *b, struct wire_str runtime)
{
	static const char *const names[] = { "container", "files" };
	json_t *o = memmem (runtime.p, runtime.n, "\"container\"", 11) || memmem (runtime.p, runtime.n, "\"files\"", 7)
			    ? json_loadb (runtime.p, runtime.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	bool first = true;

	for (int i = 0; i < 2; i++) {
		char *text = json_dumps (json_object_get (o, names[i]), JSON_COMPACT);
		if (text)
			buf_printf (b, "%s\"%s\":%s", first ? ",\"waited_for\":{" : ",", names[i], text);
		first = first && !text;
		free (text);
	}
	if (!first)
		buf_char (b, '}');
	json_decref (o);
}

/* Files that came with the result, to be fetched one by one, and those that were left on the endpoint. */
static void add_files (struct buf *b, struct wire_str files, struct wire_str kept)
{
	struct wire_str name, data;
	struct msg_kept k;
	bool first = true;

	buf_str (b, ",\"files\":[");
	while (msg_files_data_next (&files, &name, &data, NULL) > 0) {
		buf_str (b, first ? "{\"name\":" : ",{\"name\":");
		buf_json_string (b, name.p, name.n);
		buf_printf (b, ",\"bytes\":%zu}", data.n);
		first = false;
	}
	while (msg_files_kept_next (&kept, &k, NULL) > 0) {
		buf_str (b, first ? "{\"name\":" : ",{\"name\":");
		buf_json_string (b, k.name.p, k.name.n);
		buf_printf (b, ",\"bytes\":%" PRIu64 ",\"path\":", k.bytes);
		buf_json_string (b, k.path.p, k.path.n);
		buf_char (b, '}');
		first = false;
	}
	buf_char (b, ']');
}

static void add_v3 (struct buf *b, const struct doc_task *t)
{
	const struct msg_result *m = t->result;

	member_text (b, "stdout", m->out.p, m->out.n);
	member_text (b, "stderr", m->errout.p, m->errout.n);
	member_text (b, "node", m->node.p, m->node.n);
	if (m->status != STATUS_SUCCESS)
		buf_printf (b, ",\"fault\":\"%s\",\"code\":\"%s\"", err_fault_name (m->fault), err_name (m->code));
	if (m->detail) /* exit status or signal, the code says which */
		buf_printf (b, ",\"exit_detail\":%d", m->detail);
	member_name (b, "attempt");
	buf_int (b, m->attempt);
	member_name (b, "memoised");
	buf_str (b, m->flags & RESULT_MEMOISED ? "true" : "false");
	if (m->cpu_ns)
		buf_printf (b, ",\"cpu_s\":%.6f", (double) m->cpu_ns / 1e9);
	if (m->max_rss_bytes)
		buf_printf (b, ",\"max_rss_bytes\":%" PRIu64, m->max_rss_bytes);
	if (m->runtime.n)
		add_waits (b, m->runtime);
	if (m->files.n || m->kept.n)
		add_files (b, m->files, m->kept);
}

static void add_result (struct buf *b, const struct doc_task *t)
{
	if (t->by_reference)
		return;
	member_text (b, "result", t->result->result.p, t->result->result.n);
	if (t->result->flags & RESULT_BASE64)
		buf_str (b, ",\"result_encoding\":\"base64\"");
}

static void add_ended (struct buf *b, enum doc_kind kind, const struct doc_task *t)
{
	const struct msg_result *m = t->result;
	int64_t at = completed_ns (m);

	if (m->status == STATUS_SUCCESS)
		add_result (b, t);
	else if (!t->by_reference)
		add_failure (b, kind, t);
	buf_printf (b, ",\"completion_t\":\"%" PRId64 ".%06d\"", at / 1000000000, (int) (at % 1000000000 / 1000));
	add_details (b, kind, t);
	if (kind == DOC_V3)
		add_v3 (b, t);
}

static void add_where (struct buf *b, const struct layout_meta *m)
{
	char t[32];

	member_id (b, "function_id", &m->function);
	member_id (b, "endpoint_id", &m->endpoint);
	member_id (b, "task_group_id", &m->group);
	buf_printf (b, ",\"submitted\":\"%s\"", clock_iso (m->submitted_ns, t));
}

static void add_head (struct buf *b, enum doc_kind kind, const struct doc_task *t)
{
	char id[ID_TEXT];

	buf_str (b, "{\"task_id\":\"");
	buf_str (b, id_text (&t->task, id));
	buf_str (b, "\",\"status\":\"");
	buf_str (b, doc_status (kind, t->state, t->endpoint_offline));
	buf_char (b, '"');
	if (kind == DOC_V3 && t->waiting_reason && !t->result && t->state < STATE_RUNNING)
		member_text (b, "waiting_reason", t->waiting_reason, strlen (t->waiting_reason));
}

/* ---- large results ---------------------------------------------------------------------------------------------- */

#define SCRATCH_KEPT (4u << 20)		/* memory that is kept for the next one */

/* The result's data, in memory that the next call uses again; NULL with *err. */
static const char *bulk_data (const struct doc_task *t, struct err *err)
{
	static char *scratch;
	static size_t cap;
	const struct bulk_ref *r = &t->result->bulk;

	if (!t->bulk) {
		err_set (err, ERR_NOT_FOUND, FAULT_SITE, "its data is in a bulk store that this service does not have (bulk.dir)");
		return NULL;
	}
	if (cap < r->bytes || (cap > SCRATCH_KEPT && r->bytes <= SCRATCH_KEPT)) {
		free (scratch);
		cap = r->bytes > SCRATCH_KEPT / 4 ? r->bytes : SCRATCH_KEPT / 4;
		scratch = malloc (cap);
		if (!scratch) {
			cap = 0;
			err_set (err, ERR_UNAVAILABLE, FAULT_SITE, "memory is short right now, ask again");
			return NULL;
		}
	}
	return bulk_get (t->bulk, r, scratch, err) == 0 ? scratch : NULL;
}

/* m: a copy of the result with its data. What is gone or was changed is told as a failure. */
static void load_bulk (struct doc_task *t, struct msg_result *m, struct err *err)
{
	char id[ID_TEXT];
	const char *data = bulk_data (t, err);

	*m = *t->result;
	t->result = m;
	if (data) {
		m->result = wire_str (data, m->bulk.bytes);
		return;
	}
	err_prefix (err, "the task succeeded, but its result is lost");
	log_warn (MOD, "result lost", "task=%s err=%s", id_text (&t->task, id), err->text);
	bulk_result_lost (m, err);
	t->state = STATE_FAILED;
}

void doc_add (struct buf *b, enum doc_kind kind, const struct doc_task *task)
{
	struct doc_task shown = *task, *t = &shown;
	struct msg_result m;
	struct err err = { 0 };
	char id[ID_TEXT];

	if (t->result && (t->result->flags & RESULT_BULK) && !t->by_reference)
		load_bulk (t, &m, &err);
	add_head (b, kind, t);
	t->brief = t->brief && t->state == STATE_SUCCESS;
	if (kind == DOC_V3 && t->meta && !t->brief)
		add_where (b, t->meta);
	if (t->by_reference)
		buf_printf (b, ",\"result_ref\":\"/v3/tasks/%s\",\"result_bytes\":%" PRIu64, id_text (&t->task, id), t->by_reference);
	if (t->result && t->brief)
		add_result (b, t);
	else if (t->result)
		add_ended (b, kind, t);
	if (t->stamps && t->result) {
		buf_char (b, ',');
		add_stamps (b, t->result->stamps);
	}
	buf_char (b, '}');
}

/* What the SDK knows by a name of its own, else ours. */
static const char *message_code (const struct msg_result *m)
{
	return m->code == ERR_TASK_EXCEPTION ? "RemoteExecutionError" : m->code == ERR_TASK_RESULT_TOO_LARGE ? "MaxResultSizeExceeded" : err_name (m->code);
}

/* With error_details the SDK takes data for the text of the failure. task_statuses are left out: it refuses words that it does not know. */
int64_t doc_message (struct buf *b, const struct doc_task *task)
{
	struct doc_task shown = *task, *t = &shown;
	struct msg_result m;
	struct err err = { 0 };
	char id[ID_TEXT];

	if (t->result->flags & RESULT_BULK)
		load_bulk (t, &m, &err);
	buf_str (b, "\1{\"message_type\":\"result\",\"data\":{\"task_id\":\"");
	buf_str (b, id_text (&t->task, id));
	buf_char (b, '"');
	if (t->result->status == STATUS_SUCCESS)
		member_text (b, "data", t->result->result.p, t->result->result.n);
	else {
		const char *name = t->state == STATE_CANCELLED ? "the task was cancelled" : err_name (t->result->code);
		if (t->result->error.n)
			member_text (b, "data", t->result->error.p, t->result->error.n);
		else
			member_text (b, "data", name, strlen (name));
		buf_printf (b, ",\"error_details\":{\"code\":\"%s\",\"user_message\":\"%s (fault: %s)\"}", message_code (t->result), err_name (t->result->code),
			    err_fault_name (t->result->fault));
	}
	add_details (b, DOC_V2, t);
	buf_str (b, "}}");
	return completed_ns (t->result);
}

void doc_brief (struct buf *b, const struct doc_task *t)
{
	add_head (b, DOC_V3, t);
	add_where (b, t->meta);
	buf_printf (b, ",\"payload_bytes\":%u}", t->meta->payload_bytes);
}

/* ---- where the time went ---------------------------------------------------------------------------------------- */

/* The span that ends with a stamp: what it is, and who spent it. */
static const struct { const char *name, *process; } spans[STAMP_SLOTS] = {
	[STAMP_QUEUED] = { "accept", "service" },
	[STAMP_FORWARDER_READ] = { "queue", "redis" },
	[STAMP_FORWARDER_SENT] = { "forward", "forwarder" },
	[STAMP_ENDPOINT_RECEIVED] = { "to_endpoint", "network" },
	[STAMP_ENDPOINT_SENT] = { "route", "endpoint" },
	[STAMP_MANAGER_RECEIVED] = { "to_manager", "network" },
	[STAMP_MANAGER_SENT] = { "place", "manager" },
	[STAMP_WORKER_RECEIVED] = { "to_worker", "network" },
	[STAMP_EXECUTION_START] = { "start", "worker" },
	[STAMP_EXECUTION_END] = { "execution", "function" },
	[STAMP_WORKER_SENT] = { "collect", "worker" },
	[STAMP_MANAGER_RESULT] = { "from_worker", "manager" },
	[STAMP_ENDPOINT_RESULT] = { "from_manager", "endpoint" },
	[STAMP_FORWARDER_RESULT] = { "from_endpoint", "forwarder" },
	[STAMP_SERVICE_RESULT] = { "store_and_wake", "redis" },
};

/* What the first call in a container waited for, as its manager says it in the result's runtime. */
static void add_container (struct buf *b, struct wire_str runtime)
{
	json_t *o = runtime.n ? json_loadb (runtime.p, runtime.n, 0, NULL) : NULL, *c = json_object_get (o, "container");
	const char *image = json_string_value (json_object_get (c, "image")), *type = json_string_value (json_object_get (c, "type")),
		   *digest = json_string_value (json_object_get (c, "digest"));
	json_int_t cold = json_integer_value (json_object_get (c, "cold_start_ms")), pull = json_integer_value (json_object_get (c, "pull_ms"));

	if (image && type) {
		buf_str (b, ",\"container\":{\"image\":");
		buf_json_string (b, image, strlen (image));
		member_text (b, "type", type, strlen (type));
		if (digest)
			member_text (b, "digest", digest, strlen (digest));
		buf_printf (b, ",\"cold_start_ms\":%" JSON_INTEGER_FORMAT ",\"pull_ms\":%" JSON_INTEGER_FORMAT "}", cold, pull);
	}
	json_decref (o);
}

void doc_trace (struct buf *b, const struct doc_task *t)
{
	int64_t pending[STAMP_SLOTS] = { t->meta ? t->meta->submitted_ns : 0 };
	const int64_t *stamps = t->result ? t->result->stamps : pending;
	bool memoised = t->result && t->result->flags & RESULT_MEMOISED;
	int from = -1, first = -1;

	add_head (b, DOC_V3, t);
	buf_char (b, ',');
	add_stamps (b, stamps);
	buf_str (b, ",\"spans\":[");
	for (int i = 0; i < STAMP_SLOTS; i++) {
		if (!stamps[i])
			continue;
		if (from < 0)
			first = i;
		else
			buf_printf (b, "%s{\"name\":\"%s\",\"from\":\"%s\",\"to\":\"%s\",\"us\":%.3f,\"process\":\"%s\"}", from == first ? "" : ",",
				    memoised && i == STAMP_ENDPOINT_RESULT ? "memo" : spans[i].name,
				    msg_stamp_name (from), msg_stamp_name (i), (double) (stamps[i] - stamps[from]) / 1e3,
				    spans[i].process);
		from = i;
	}
	buf_char (b, ']');
	if (t->result && !memoised)
		add_container (b, t->result->runtime);
	buf_printf (b, ",\"memoised\":%s,\"total_us\":%.3f}", memoised ? "true" : "false",
		    from > first ? (double) (stamps[from] - stamps[first]) / 1e3 : 0.0);
}
