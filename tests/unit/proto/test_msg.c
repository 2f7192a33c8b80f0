/* SPDX-License-Identifier: Apache-2.0 */
/* All families: the golden vectors of proto/vectors decode to their fields and encode to their bytes; any content of a
 * struct survives a round trip; every truncation and many damaged records are refused or read, never overrun.
 * Run from the root of the sources, or with WEFT_VECTORS naming the folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <jansson.h>
#include "proto/layout.h"
#include "proto/msg_capacity.h"
#include "proto/msg_function.h"
#include "proto/msg_runner.h"
#include "proto/msg_session.h"

/* A whole decoded record of any type. */
union any {
	struct wire_header header;
	struct msg_hello hello;
	struct msg_welcome welcome;
	struct msg_reason reason;
	struct msg_function function;
	struct msg_task task;
	struct msg_task_state task_state;
	struct msg_output output;
	struct msg_result result;
	struct msg_capacity capacity;
	struct msg_drain drain;
	struct msg_container_state container;
	struct msg_image image;
	struct msg_metrics metrics;
	struct msg_runner_call call;
	struct msg_resources resources;
	struct msg_runner_batch batch;
	struct msg_runner_result run_result;
	struct wire_str bytes; /* ids, ready, files */
	struct layout_meta meta;
	struct layout_queued queued;
	struct layout_done done;
	struct layout_ended ended;
	struct bulk_ref bulk;
};

/* ---- fields as the vectors write them ---- */

static json_t *j_bytes (struct wire_str s)
{
	json_t *j = memchr (s.p, 0, s.n) ? NULL : json_stringn (s.p, s.n);
	if (j)
		return j;
	char *hex = calloc (1, 2 * s.n + 1);
	for (size_t i = 0; i < s.n; i++)
		sprintf (hex + 2 * i, "%02x", (uint8_t) s.p[i]);
	j = json_pack ("{s:s}", "hex", hex);
	free (hex);
	return j;
}

static json_t *j_id (const struct id *id)
{
	char text[ID_TEXT];
	return json_string (id_text (id, text));
}

static json_t *j_hex64 (uint64_t v)
{
	char text[32];
	snprintf (text, sizeof (text), "0x%016llx", (unsigned long long) v);
	return json_string (text);
}

static json_t *j_stamps (const int64_t *s, int n)
{
	json_t *a = json_array ();
	for (int i = 0; i < n; i++)
		json_array_append_new (a, json_integer (s[i]));
	return a;
}

static json_t *j_int (uint64_t v) { return json_integer ((json_int_t) v); }

#define INT(name) json_object_set_new (j, #name, j_int (m->name))
#define BOOL(name) json_object_set_new (j, #name, json_boolean (m->name))
#define ID(name) json_object_set_new (j, #name, j_id (&m->name))
#define BYTES(name) json_object_set_new (j, #name, j_bytes (m->name))
#define BYTES_AS(key, name) json_object_set_new (j, key, j_bytes (m->name))
#define HEX(name) json_object_set_new (j, #name, j_hex64 (m->name))

static void reference_f (json_t *j, const struct bulk_ref *r)
{
	json_object_set_new (j, "bulk_bytes", j_int (r->bytes));
	json_object_set_new (j, "bulk_name", json_string (r->name));
}

/* ---- one entry a type: decode, encode, fields ---- */

static int header_d (union any *u, const void *p, size_t n, struct err *e) { return wire_header_decode (&u->header, p, n, e); }
static void header_e (struct buf *b, const union any *u, int major)
{
	uint8_t out[WIRE_HEADER_BYTES];
	(void) major;
	wire_header_encode (&u->header, out);
	buf_add (b, out, sizeof (out));
}
static void header_f (json_t *j, const union any *u)
{
	const struct wire_header *m = &u->header;
	INT (major), INT (minor), INT (type), INT (flags), INT (count), INT (seq), HEX (epoch);
}

static int files_d (union any *u, const void *p, size_t n, struct err *e)
{
	u->bytes = wire_str (p, n);
	return msg_files_check (u->bytes, e);
}
static void files_e (struct buf *b, const union any *u, int major)
{
	struct wire_str list = u->bytes;
	struct msg_file f;
	(void) major;
	while (msg_files_next (&list, &f, NULL) > 0)
		msg_files_add (b, &f);
}
static void files_f (json_t *out, const union any *u)
{
	json_t *all = json_array ();
	struct wire_str list = u->bytes;
	struct msg_file f, *m = &f;
	char digest[FILES_DIGEST_TEXT];
	while (msg_files_next (&list, &f, NULL) > 0) {
		json_t *j = json_object ();
		INT (kind), INT (flags), INT (max_bytes), BYTES (name), BYTES (url);
		json_object_set_new (j, "digest", json_string (msg_files_digest_text (f.digest, digest)));
		json_array_append_new (all, j);
	}
	json_object_set_new (out, "files", all);
}

/* Read with one call each. */
static int kept_d (union any *u, const void *p, size_t n, struct err *e)
{
	struct wire_str list = wire_str (p, n);
	struct msg_kept k;
	int rc;

	u->bytes = list;
	while ((rc = msg_files_kept_next (&list, &k, e)) > 0)
		;
	return rc;
}
static void kept_e (struct buf *b, const union any *u, int major)
{
	struct wire_str list = u->bytes;
	struct msg_kept k;
	(void) major;
	while (msg_files_kept_next (&list, &k, NULL) > 0)
		msg_files_kept_add (b, k.path, k.bytes);
}
static void kept_f (json_t *out, const union any *u)
{
	json_t *all = json_array ();
	struct wire_str list = u->bytes;
	struct msg_kept k, *m = &k;
	while (msg_files_kept_next (&list, &k, NULL) > 0) {
		json_t *j = json_object ();
		BYTES (path), INT (bytes);
		json_array_append_new (all, j);
	}
	json_object_set_new (out, "kept", all);
}

static int resources_d (union any *u, const void *p, size_t n, struct err *e) { return msg_resources_decode (&u->resources, p, n, e); }
static void resources_e (struct buf *b, const union any *u, int major) { (void) major; msg_resources_encode (b, &u->resources); }
static void resources_f (json_t *j, const union any *u)
{
	const struct msg_resources *m = &u->resources;
	INT (nodes), INT (ranks_per_node), BYTES (options), BYTES (environ);
}

static int hello_d (union any *u, const void *p, size_t n, struct err *e) { return msg_hello_decode (&u->hello, p, n, e); }
static void hello_e (struct buf *b, const union any *u, int major) { msg_hello_encode (b, &u->hello, major); }
static void hello_f (json_t *j, const union any *u)
{
	const struct msg_hello *m = &u->hello;
	INT (role), INT (min_major), INT (max_major), INT (minor), INT (capabilities), ID (id), HEX (instance);
	INT (slots), INT (pid), BYTES (name), BYTES (version), BYTES (block), BYTES (runtime), ID (bulk);
	if (m->key.n)
		BYTES (key);
}

static int welcome_d (union any *u, const void *p, size_t n, struct err *e) { return msg_welcome_decode (&u->welcome, p, n, e); }
static void welcome_e (struct buf *b, const union any *u, int major) { msg_welcome_encode (b, &u->welcome, major); }
static void welcome_f (json_t *j, const union any *u)
{
	const struct msg_welcome *m = &u->welcome;
	INT (major), INT (minor), INT (capabilities), HEX (epoch), INT (heartbeat_ms), INT (threshold_ms);
	INT (max_payload_bytes), INT (max_result_bytes), INT (pid), BYTES (name);
}

static int reason_d (union any *u, const void *p, size_t n, struct err *e) { return msg_reason_decode (&u->reason, p, n, e); }
static void reason_e (struct buf *b, const union any *u, int major) { (void) major; msg_reason_encode (b, &u->reason); }
static void reason_f (json_t *j, const union any *u)
{
	const struct msg_reason *m = &u->reason;
	INT (code), BYTES (text);
}

static int function_d (union any *u, const void *p, size_t n, struct err *e) { return msg_function_decode (&u->function, p, n, e); }
static void function_e (struct buf *b, const union any *u, int major) { (void) major; msg_function_encode (b, &u->function); }
static void function_f (json_t *j, const union any *u)
{
	const struct msg_function *m = &u->function;
	INT (kind), INT (flags), ID (id), INT (time_limit_ms), INT (memory_limit_bytes), BYTES (code), BYTES (entry), BYTES (container);
	INT (max_batch), INT (latency_ms), INT (cpu_millis), INT (max_pids), INT (warm_ms), INT (replicas), BYTES (container_type), INT (python);
	if (m->files.n)
		BYTES (files);
}

static int task_d (union any *u, const void *p, size_t n, struct err *e) { return msg_task_decode (&u->task, p, n, e); }
static void task_e (struct buf *b, const union any *u, int major) { msg_task_encode (b, &u->task, major); }
static void task_f (json_t *j, const union any *u)
{
	const struct msg_task *m = &u->task;
	INT (flags), INT (attempt), ID (task), ID (function), INT (time_limit_ms), INT (memory_limit_bytes), INT (max_result_bytes);
	INT (expected_ms), BYTES (payload);
	if (m->files.n)
		BYTES (files);
	if (m->resources.n)
		BYTES (resources);
	if (m->flags & TASK_BULK)
		reference_f (j, &m->bulk);
	json_object_set_new (j, "stamps", j_stamps (m->stamps, STAMP_TASK_SLOTS));
}

static int state_d (union any *u, const void *p, size_t n, struct err *e) { return msg_task_state_decode (&u->task_state, p, n, e); }
static void state_e (struct buf *b, const union any *u, int major) { (void) major; msg_task_state_encode (b, &u->task_state); }
static void state_f (json_t *j, const union any *u)
{
	const struct msg_task_state *m = &u->task_state;
	INT (state), ID (task), INT (time_ns);
}

static int output_d (union any *u, const void *p, size_t n, struct err *e) { return msg_output_decode (&u->output, p, n, e); }
static void output_e (struct buf *b, const union any *u, int major) { (void) major; msg_output_encode (b, &u->output); }
static void output_f (json_t *j, const union any *u)
{
	const struct msg_output *m = &u->output;
	ID (task);
	json_object_set_new (j, "stdout_total", j_int (m->total[0]));
	json_object_set_new (j, "stderr_total", j_int (m->total[1]));
	json_object_set_new (j, "stdout", j_bytes (m->text[0]));
	json_object_set_new (j, "stderr", j_bytes (m->text[1]));
}

static int ids_d (union any *u, const void *p, size_t n, struct err *e)
{
	if (msg_ids_count (n) < 0)
		return err_set (e, ERR_INVALID, FAULT_PEER, "ids of %zu bytes", n);
	u->bytes = wire_str (p, n);
	return 0;
}
static void ids_e (struct buf *b, const union any *u, int major)
{
	(void) major;
	for (long i = 0; i < msg_ids_count (u->bytes.n); i++) {
		struct id id;
		msg_ids_get (u->bytes.p, i, &id);
		wire_put_id (b, &id);
	}
}
static void ids_f (json_t *j, const union any *u)
{
	json_t *a = json_array ();
	for (long i = 0; i < msg_ids_count (u->bytes.n); i++) {
		struct id id;
		msg_ids_get (u->bytes.p, i, &id);
		json_array_append_new (a, j_id (&id));
	}
	json_object_set_new (j, "ids", a);
}

static int result_d (union any *u, const void *p, size_t n, struct err *e) { return msg_result_decode (&u->result, p, n, e); }
static void result_e (struct buf *b, const union any *u, int major) { msg_result_encode (b, &u->result, major); }
static void result_f (json_t *j, const union any *u)
{
	const struct msg_result *m = &u->result;
	INT (status), INT (fault), INT (code), INT (attempt), INT (flags), ID (task), INT (cpu_ns), INT (max_rss_bytes), ID (image);
	json_object_set_new (j, "detail", json_integer (m->detail));
	BYTES (result), BYTES (error), BYTES_AS ("stdout", out), BYTES_AS ("stderr", errout), BYTES (node), BYTES (runtime);
	if (m->files.n)
		BYTES (files);
	if (m->kept.n)
		BYTES (kept);
	if (m->flags & RESULT_BULK)
		reference_f (j, &m->bulk);
	json_object_set_new (j, "stamps", j_stamps (m->stamps, STAMP_SLOTS));
}

static int capacity_d (union any *u, const void *p, size_t n, struct err *e) { return msg_capacity_decode (&u->capacity, p, n, e); }
static void capacity_e (struct buf *b, const union any *u, int major) { (void) major; msg_capacity_encode (b, &u->capacity); }
static void capacity_f (json_t *j, const union any *u)
{
	const struct msg_capacity *m = &u->capacity;
	INT (window_tasks), INT (window_bytes), INT (slots), INT (free_slots), INT (queued), INT (running), INT (managers);
	INT (blocks), INT (pending_blocks), INT (time_left_s), INT (tasks_done), BYTES (text);
}

static int drain_d (union any *u, const void *p, size_t n, struct err *e) { return msg_drain_decode (&u->drain, p, n, e); }
static void drain_e (struct buf *b, const union any *u, int major) { (void) major; msg_drain_encode (b, &u->drain); }
static void drain_f (json_t *j, const union any *u)
{
	const struct msg_drain *m = &u->drain;
	BOOL (start), INT (grace_ms);
}

static int container_d (union any *u, const void *p, size_t n, struct err *e) { return msg_container_state_decode (&u->container, p, n, e); }
static void container_e (struct buf *b, const union any *u, int major) { (void) major; msg_container_state_encode (b, &u->container); }
static void container_f (json_t *j, const union any *u)
{
	const struct msg_container_state *m = &u->container;
	INT (state), ID (id), INT (code), BYTES (image), BYTES (text), BYTES (digest);
}

static int image_d (union any *u, const void *p, size_t n, struct err *e) { return msg_image_decode (&u->image, p, n, e); }
static void image_e (struct buf *b, const union any *u, int major) { (void) major; msg_image_encode (b, &u->image); }
static void image_f (json_t *j, const union any *u)
{
	const struct msg_image *m = &u->image;
	ID (function), ID (image), INT (valid_ms), BYTES (digest);
}

static int metrics_d (union any *u, const void *p, size_t n, struct err *e) { return msg_metrics_decode (&u->metrics, p, n, e); }
static void metrics_e (struct buf *b, const union any *u, int major) { (void) major; msg_metrics_encode (b, &u->metrics); }
static void metrics_f (json_t *j, const union any *u)
{
	const struct msg_metrics *m = &u->metrics;
	BYTES (json);
}

/* A runner frame that is not all here is told by ERR_UNAVAILABLE: INCOMPLETE in the vectors. */
static int open_frame (struct wire_str *body, uint8_t want, const void *p, size_t n, struct err *e)
{
	uint8_t type;
	long used = msg_runner_frame (p, n, &type, body, e);
	if (used == 0)
		return err_set (e, ERR_UNAVAILABLE, FAULT_PEER, "incomplete");
	if (used < 0)
		return -1;
	if ((size_t) used != n || type != want)
		return err_set (e, ERR_INTERNAL, FAULT_SELF, "another frame");
	return 0;
}
static int call_d (union any *u, const void *p, size_t n, struct err *e)
{
	struct wire_str body;
	return open_frame (&body, 'C', p, n, e) < 0 ? -1 : msg_runner_call_decode (&u->call, body.p, body.n, e);
}
static void call_e (struct buf *b, const union any *u, int major) { (void) major; msg_runner_call_encode (b, &u->call); }
static void call_f (json_t *j, const union any *u)
{
	const struct msg_runner_call *m = &u->call;
	ID (task), ID (function), INT (flags), INT (max_result_bytes), BYTES (payload);
	if (m->environ.n)
		BYTES (environ);
	if (m->flags & TASK_BULK)
		reference_f (j, &m->bulk);
}
static int batch_d (union any *u, const void *p, size_t n, struct err *e)
{
	struct wire_str body;
	return open_frame (&body, 'B', p, n, e) < 0 ? -1 : msg_runner_batch_decode (&u->batch, body.p, body.n, e);
}
static void batch_e (struct buf *b, const union any *u, int major)
{
	struct msg_runner_input *in = calloc (u->batch.n, sizeof (*in));
	struct msg_runner_batch m = u->batch;
	(void) major;
	for (uint32_t i = 0; i < u->batch.n; i++)
		msg_runner_batch_next (&m, &in[i]);
	msg_runner_batch_encode (b, &u->batch, in);
	free (in);
}
static void batch_f (json_t *j, const union any *u)
{
	const struct msg_runner_batch *m = &u->batch;
	struct msg_runner_batch rest = *m;
	struct msg_runner_input in;
	json_t *list = json_array ();
	ID (function), INT (flags), INT (max_result_bytes);
	while (rest.n) {
		msg_runner_batch_next (&rest, &in);
		json_array_append_new (list, json_pack ("{s:o, s:o}", "task", j_id (&in.task), "payload", j_bytes (in.payload)));
	}
	json_object_set_new (j, "inputs", list);
}
static int run_result_d (union any *u, const void *p, size_t n, struct err *e)
{
	struct wire_str body;
	return open_frame (&body, 'R', p, n, e) < 0 ? -1 : msg_runner_result_decode (&u->run_result, body.p, body.n, e);
}
static void run_result_e (struct buf *b, const union any *u, int major) { (void) major; msg_runner_result_encode (b, &u->run_result); }
static void run_result_f (json_t *j, const union any *u)
{
	const struct msg_runner_result *m = &u->run_result;
	ID (task), INT (status), INT (fault), INT (code), INT (flags), INT (start_ns), INT (end_ns), INT (cpu_ns), INT (max_rss_bytes);
	BYTES (result), BYTES (error), BYTES_AS ("stdout", out), BYTES_AS ("stderr", errout);
	if (m->flags & RESULT_BULK)
		reference_f (j, &m->bulk);
}
static int start_d (union any *u, const void *p, size_t n, struct err *e)
{
	struct wire_str body;
	return open_frame (&body, 'S', p, n, e) < 0 ? -1
		: msg_runner_start_decode (&u->task_state.task, &u->task_state.time_ns, body.p, body.n, e);
}
static void start_e (struct buf *b, const union any *u, int major)
{
	(void) major;
	msg_runner_start_encode (b, &u->task_state.task, u->task_state.time_ns);
}
static void start_f (json_t *j, const union any *u)
{
	const struct msg_task_state *m = &u->task_state;
	ID (task), INT (time_ns);
}
static int ready_d (union any *u, const void *p, size_t n, struct err *e) { return open_frame (&u->bytes, 'I', p, n, e); }
static void ready_e (struct buf *b, const union any *u, int major)
{
	char *json = strndup (u->bytes.p, u->bytes.n);
	(void) major;
	msg_runner_ready_encode (b, json);
	free (json);
}
static void ready_f (json_t *j, const union any *u) { json_object_set_new (j, "json", j_bytes (u->bytes)); }
static int run_function_d (union any *u, const void *p, size_t n, struct err *e)
{
	struct wire_str body;
	return open_frame (&body, 'F', p, n, e) < 0 ? -1 : msg_function_decode (&u->function, body.p, body.n, e);
}
static void run_function_e (struct buf *b, const union any *u, int major)
{
	struct buf record;
	buf_init (&record, 0);
	(void) major;
	msg_function_encode (&record, &u->function);
	msg_runner_function_encode (b, record.data, record.len);
	buf_fini (&record);
}

static int meta_d (union any *u, const void *p, size_t n, struct err *e) { return layout_meta_decode (&u->meta, p, n, e); }
static void meta_e (struct buf *b, const union any *u, int major) { (void) major; layout_meta_encode (b, &u->meta); }
static void meta_f (json_t *j, const union any *u)
{
	const struct layout_meta *m = &u->meta;
	ID (owner), ID (function), ID (endpoint), ID (group), INT (submitted_ns), INT (payload_bytes);
	BOOL (payload_apart), BOOL (payload_bulk), BOOL (watched);
}
static int queued_d (union any *u, const void *p, size_t n, struct err *e) { return layout_queued_decode (&u->queued, p, n, e); }
static void queued_e (struct buf *b, const union any *u, int major) { (void) major; layout_queued_encode (b, &u->queued); }
static void queued_f (json_t *j, const union any *u)
{
	const struct layout_queued *m = &u->queued;
	ID (task), ID (function), INT (received_ns), INT (queued_ns), INT (time_limit_ms), INT (memory_limit_bytes);
	INT (max_result_bytes), INT (payload_bytes), BOOL (payload_apart), BOOL (payload_is_json), BOOL (payload_bulk), BOOL (fresh), BYTES (payload);
	INT (expected_s), BOOL (as_json), BOOL (as_all);
	if (m->files.n)
		BYTES (files);
	if (m->resources.n)
		BYTES (resources);
}
static int done_d (union any *u, const void *p, size_t n, struct err *e) { return layout_done_decode (&u->done, p, n, e); }
static void done_e (struct buf *b, const union any *u, int major) /* store.lua writes these */
{
	(void) major;
	wire_put_id (b, &u->done.task);
	wire_put_u8 (b, u->done.state);
	buf_add (b, u->done.record.p, u->done.record.n);
}
static void done_f (json_t *j, const union any *u)
{
	const struct layout_done *m = &u->done;
	ID (task), INT (state), BYTES (record);
}
static int ended_d (union any *u, const void *p, size_t n, struct err *e) { return layout_ended_decode (&u->ended, p, n, e); }
static void ended_e (struct buf *b, const union any *u, int major) /* store.lua writes these */
{
	(void) major;
	wire_put_id (b, &u->ended.task);
	wire_put_u8 (b, u->ended.state);
	wire_put_u8 (b, (uint8_t) u->ended.position.n);
	wire_put_u8 (b, (uint8_t) u->ended.meta.n);
	buf_add (b, u->ended.position.p, u->ended.position.n);
	buf_add (b, u->ended.meta.p, u->ended.meta.n);
	buf_add (b, u->ended.record.p, u->ended.record.n);
}
static void ended_f (json_t *j, const union any *u)
{
	const struct layout_ended *m = &u->ended;
	ID (task), INT (state), BYTES (position), BYTES (meta), BYTES (record);
}

/* What the vectors of references say is of this task. */
static const struct id *reference_task (void)
{
	static struct id task;
	assert_int_equal (id_parse (&task, "01920000-0000-7000-8000-000000000001", ID_TEXT - 1), 0);
	return &task;
}
static int bulk_payload_d (union any *u, const void *p, size_t n, struct err *e)
{
	return bulk_ref_decode (&u->bulk, p, n, reference_task (), BULK_PAYLOAD, e);
}
static int bulk_result_d (union any *u, const void *p, size_t n, struct err *e)
{
	return bulk_ref_decode (&u->bulk, p, n, reference_task (), BULK_RESULT, e);
}
static void bulk_e (struct buf *b, const union any *u, int major)
{
	uint8_t out[BULK_REF_MAX];
	(void) major;
	buf_add (b, out, bulk_ref_encode (&u->bulk, out));
}
static void bulk_f (json_t *j, const union any *u) { reference_f (j, &u->bulk); }

static const struct type {
	const char *name;
	int (*decode) (union any *u, const void *p, size_t n, struct err *e);
	void (*encode) (struct buf *b, const union any *u, int major);
	void (*fields) (json_t *j, const union any *u);
} types[] = {
	{ "HEADER", header_d, header_e, header_f },
	{ "HELLO", hello_d, hello_e, hello_f },
	{ "WELCOME", welcome_d, welcome_e, welcome_f },
	{ "REJECT", reason_d, reason_e, reason_f },
	{ "BYE", reason_d, reason_e, reason_f },
	{ "FILES", files_d, files_e, files_f },
	{ "KEPT", kept_d, kept_e, kept_f },
	{ "RESOURCES", resources_d, resources_e, resources_f },
	{ "FUNCTION", function_d, function_e, function_f },
	{ "TASK", task_d, task_e, task_f },
	{ "TASK_STATE", state_d, state_e, state_f },
	{ "OUTPUT", output_d, output_e, output_f },
	{ "IDS", ids_d, ids_e, ids_f },
	{ "RESULT", result_d, result_e, result_f },
	{ "CAPACITY", capacity_d, capacity_e, capacity_f },
	{ "DRAIN", drain_d, drain_e, drain_f },
	{ "CONTAINER_STATE", container_d, container_e, container_f },
	{ "IMAGE", image_d, image_e, image_f },
	{ "METRICS", metrics_d, metrics_e, metrics_f },
	{ "RUNNER_CALL", call_d, call_e, call_f },
	{ "RUNNER_BATCH", batch_d, batch_e, batch_f },
	{ "RUNNER_RESULT", run_result_d, run_result_e, run_result_f },
	{ "RUNNER_START", start_d, start_e, start_f },
	{ "RUNNER_READY", ready_d, ready_e, ready_f },
	{ "RUNNER_FUNCTION", run_function_d, run_function_e, function_f },
	{ "BULK_PAYLOAD", bulk_payload_d, bulk_e, bulk_f },
	{ "BULK_RESULT", bulk_result_d, bulk_e, bulk_f },
	{ "META", meta_d, meta_e, meta_f },
	{ "QUEUED", queued_d, queued_e, queued_f },
	{ "DONE", done_d, done_e, done_f },
	{ "ENDED", ended_d, ended_e, ended_f },
};

/* ---- vectors ---- */

static const struct type *type_of (const char *name)
{
	for (size_t i = 0; i < sizeof (types) / sizeof (types[0]); i++)
		if (strcmp (types[i].name, name) == 0)
			return &types[i];
	fail_msg ("vector of unknown type %s", name);
	return NULL;
}

/* In memory of exactly its size, so that the sanitizers see any overrun. */
static uint8_t *unhex (const char *hex, size_t *n)
{
	*n = strlen (hex) / 2;
	uint8_t *p = malloc (*n ? *n : 1);
	for (size_t i = 0; i < *n; i++) {
		unsigned v;
		if (sscanf (hex + 2 * i, "%2x", &v) != 1)
			fail_msg ("not hexadecimal");
		p[i] = (uint8_t) v;
	}
	return p;
}

static const char *error_name (enum err_code c) { return c == ERR_UNAVAILABLE ? "INCOMPLETE" : err_name (c); }

static void check_fields (const struct type *t, const union any *u, json_t *want, const char *name)
{
	json_t *got = json_object ();
	t->fields (got, u);
	if (!json_equal (got, want)) {
		char *text = json_dumps (got, JSON_SORT_KEYS);
		fail_msg ("%s, %s: decoded to %.2000s", t->name, name, text);
	}
	json_decref (got);
}

static void check_vector (json_t *v)
{
	const char *name, *type, *hex, *error = "";
	int major, ok, canonical = 1;
	json_t *fields = NULL;
	union any u;
	struct err err = { 0 };
	size_t n;

	if (json_unpack (v, "{s:s s:s s:i s:s s:b s?s s?o s?b}", "name", &name, "type", &type, "major", &major, "hex", &hex,
			 "ok", &ok, "error", &error, "fields", &fields, "canonical", &canonical) < 0)
		fail_msg ("a vector lacks a key");
	const struct type *t = type_of (type);
	uint8_t *p = unhex (hex, &n);
	memset (&u, 0xa5, sizeof (u)); /* a decoder sets every field itself */
	int rc = t->decode (&u, p, n, &err);
	if (ok != (rc == 0))
		fail_msg ("%s, %s: %s", type, name, rc == 0 ? "accepted" : err.text);
	if (!ok) {
		if (strcmp (error_name (err.code), error) != 0)
			fail_msg ("%s, %s: %s (%s) instead of %s", type, name, err_name (err.code), err.text, error);
	} else {
		struct buf b;
		check_fields (t, &u, fields, name);
		buf_init (&b, 0);
		t->encode (&b, &u, major);
		assert_false (buf_failed (&b));
		if (canonical && (b.len != n || memcmp (b.data, p, n) != 0))
			fail_msg ("%s, %s: encoded to other bytes", type, name);
		buf_fini (&b);
	}
	free (p);
}

static json_t *load (const char *family)
{
	char path[512];
	json_error_t je;
	const char *dir = getenv ("WEFT_VECTORS");
	snprintf (path, sizeof (path), "%s/%s.json", dir ? dir : "proto/vectors", family);
	json_t *list = json_load_file (path, JSON_REJECT_DUPLICATES, &je);
	if (!list)
		fail_msg ("%s: %s", path, je.text);
	assert_true (json_array_size (list) > 0);
	return list;
}

static void test_vectors (void **state)
{
	json_t *list = load (*state), *v;
	size_t i;
	json_array_foreach (list, i, v)
		check_vector (v);
	json_decref (list);
}

/* Each good vector: every shorter form, and each of its bytes replaced, is read inside its bounds or refused, and what
 * is accepted survives a round trip. */
static void check_damaged (const struct type *t, const uint8_t *p, size_t n)
{
	union any u, again;
	struct buf b;
	buf_init (&b, 0);
	/* READY is encoded from a C string: one with a NUL in it does not come back */
	if (t->decode (&u, p, n, NULL) == 0 && t->decode != ready_d) {
		t->encode (&b, &u, 2);
		assert_false (buf_failed (&b));
		struct err err = { 0 };
		if (t->decode (&again, b.data, b.len, &err) < 0)
			fail_msg ("%s: encodes what it refuses: %s", t->name, err.text);
		json_t *first = json_object ();
		t->fields (first, &u);
		check_fields (t, &again, first, "damaged");
		json_decref (first);
	}
	buf_fini (&b);
}

static void test_damage (void **state)
{
	static const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xff };
	json_t *list = load (*state), *v;
	size_t i;
	json_array_foreach (list, i, v) {
		size_t n;
		uint8_t *p = unhex (json_string_value (json_object_get (v, "hex")), &n);
		const struct type *t = type_of (json_string_value (json_object_get (v, "type")));
		if (n < 1024 && json_is_true (json_object_get (v, "ok"))) {
			for (size_t cut = 0; cut < n; cut++) {
				uint8_t *q = malloc (cut ? cut : 1);
				memcpy (q, p, cut);
				check_damaged (t, q, cut);
				free (q);
			}
			for (size_t at = 0; at < n; at++)
				for (size_t k = 0; k < sizeof (values); k++) {
					uint8_t old = p[at];
					p[at] = values[k];
					check_damaged (t, p, n);
					p[at] = old;
				}
		}
		free (p);
	}
	json_decref (list);
}

/* ---- properties ---- */

static uint64_t seed = 88172645463325252ULL;
static uint64_t rnd (void) /* xorshift: the same every time */
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}
static struct wire_str rnd_str (const char *pool, size_t max) { return wire_str (pool + rnd () % 64, rnd () % (max + 1)); }
static void rnd_fill (void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *) p)[i] = (uint8_t) rnd ();
}

static void same_after_trip (const char *name, const union any *u, int major)
{
	const struct type *t = type_of (name);
	union any back;
	struct err err = { 0 };
	struct buf b;
	buf_init (&b, 0);
	buf_add (&b, "before", 6); /* encoders append */
	t->encode (&b, u, major);
	assert_false (buf_failed (&b));
	memset (&back, 0xa5, sizeof (back));
	if (t->decode (&back, b.data + 6, b.len - 6, &err) < 0)
		fail_msg ("%s: %s", name, err.text);
	json_t *want = json_object ();
	t->fields (want, u);
	check_fields (t, &back, want, "round trip");
	json_decref (want);
	buf_fini (&b);
}

static void test_round_trips (void **state)
{
	(void) state;
	static char pool[8192];
	rnd_fill (pool, sizeof (pool));
	for (int i = 0; i < 300; i++) {
		union any u;
		rnd_fill (&u, sizeof (u));
		u.task.payload = rnd_str (pool, 4096);
		u.task.files = rnd_str (pool, 4096);
		u.task.resources = rnd_str (pool, 4096);
		u.task.flags &= (uint8_t) ~TASK_BULK;
		same_after_trip ("TASK", &u, 2);
		u.task.memory_limit_bytes = u.task.max_result_bytes = u.task.expected_ms = 0;
		u.task.files = u.task.resources = WIRE_STR ("");
		same_after_trip ("TASK", &u, 1);
		rnd_fill (&u, sizeof (u));
		u.result.status = (uint8_t) (1 + rnd () % 3);
		u.result.fault = (uint8_t) (rnd () % 5);
		u.result.flags &= (uint8_t) ~RESULT_BULK;
		struct wire_str *parts[] = { &u.result.result, &u.result.error, &u.result.out, &u.result.errout, &u.result.node, &u.result.runtime };
		for (int k = 0; k < 6; k++)
			*parts[k] = rnd_str (pool, 4096);
		u.result.files = rnd_str (pool, 4096);
		u.result.kept = rnd_str (pool, 4096);
		same_after_trip ("RESULT", &u, 2);
		u.result.cpu_ns = u.result.max_rss_bytes = 0;
		memset (&u.result.image, 0, sizeof (u.result.image));
		u.result.files = u.result.kept = WIRE_STR ("");
		same_after_trip ("RESULT", &u, 1);
		rnd_fill (&u, sizeof (u));
		u.hello.role = (uint8_t) (1 + rnd () % 3);
		u.hello.min_major = 1;
		u.hello.max_major = (uint8_t) (1 + rnd () % 255);
		u.hello.name = rnd_str (pool, 4096);
		u.hello.version = rnd_str (pool, 64);
		u.hello.block = rnd_str (pool, 64);
		u.hello.runtime = rnd_str (pool, 4096);
		u.hello.key = rnd_str (pool, MSG_KEY_BYTES);
		same_after_trip ("HELLO", &u, 2);
		rnd_fill (&u, sizeof (u));
		u.welcome.major = (uint8_t) (1 + rnd () % 255);
		u.welcome.epoch |= 1;
		u.welcome.name = rnd_str (pool, 64);
		same_after_trip ("WELCOME", &u, 2);
		rnd_fill (&u, sizeof (u));
		u.function.code = rnd_str (pool, 4096);
		u.function.entry = rnd_str (pool, 64);
		u.function.container = rnd_str (pool, 64);
		u.function.container_type = rnd_str (pool, 64);
		u.function.files = rnd_str (pool, 64);
		same_after_trip ("FUNCTION", &u, 2);
		rnd_fill (&u, sizeof (u));
		u.capacity.text = rnd_str (pool, 4096);
		same_after_trip ("CAPACITY", &u, 2);
		rnd_fill (&u, sizeof (u));
		u.image.digest = rnd_str (pool, 4096);
		same_after_trip ("IMAGE", &u, 2);
		rnd_fill (&u, sizeof (u));
		u.queued.payload_apart = rnd () & 1;
		u.queued.payload_is_json = rnd () & 1;
		u.queued.fresh = rnd () & 1;
		u.queued.as_json = rnd () & 1;
		u.queued.as_all = rnd () & 1;
		u.queued.payload_bulk = u.queued.payload_apart && (rnd () & 1);
		u.queued.files = rnd_str (pool, 64);
		u.queued.resources = rnd_str (pool, 64);
		u.queued.payload = u.queued.payload_apart ? WIRE_STR ("") : rnd_str (pool, 4096);
		u.queued.payload_bytes = u.queued.payload_apart ? (uint32_t) (rnd () % WIRE_MAX_PAYLOAD) : (uint32_t) u.queued.payload.n;
		same_after_trip ("QUEUED", &u, 2);
	}
}

static void test_frames_are_changed_in_place (void **state)
{
	(void) state;
	struct msg_task t = { .payload = WIRE_STR ("[1]") }, t2;
	struct msg_result r = { .status = STATUS_SUCCESS, .result = WIRE_STR ("[1]") }, r2;
	struct id task, function;
	struct buf b;
	id_new (&t.task);
	id_new (&t.function);
	id_new (&r.task);
	for (int major = 1; major <= 2; major++) {
		buf_init (&b, 0);
		msg_task_encode (&b, &t, major);
		for (int i = 0; i < STAMP_SLOTS; i++)
			msg_task_stamp (b.data, i, 1000 + i); /* those it has no room for are dropped */
		msg_task_set_attempt (b.data, 3);
		assert_int_equal (msg_task_decode (&t2, b.data, b.len, NULL), 0);
		for (int i = 0; i < STAMP_TASK_SLOTS; i++)
			assert_int_equal (t2.stamps[i], 1000 + i);
		assert_int_equal (t2.attempt, 3);
		assert_memory_equal (t2.payload.p, "[1]", 3);
		assert_int_equal (msg_task_ids (b.data, b.len, &task, &function), 0);
		assert_true (id_eq (&task, &t.task) && id_eq (&function, &t.function));
		assert_int_equal (msg_task_ids (b.data, 107, &task, &function), -1);
		buf_fini (&b);
		buf_init (&b, 0);
		msg_result_encode (&b, &r, major);
		for (int i = 0; i < STAMP_SLOTS; i++)
			msg_result_stamp (b.data, i, 2000 + i);
		assert_int_equal (msg_result_decode (&r2, b.data, b.len, NULL), 0);
		for (int i = 0; i < STAMP_SLOTS; i++)
			assert_int_equal (r2.stamps[i], 2000 + i);
		assert_int_equal (msg_result_id (b.data, b.len, &task), 0);
		assert_true (id_eq (&task, &r.task));
		assert_int_equal (msg_result_id (b.data, 175, &task), -1);
		assert_int_equal (msg_result_status (b.data, b.len), r.status);
		assert_int_equal (msg_result_status (b.data, 175), -1);
		buf_fini (&b);
	}
}

static void test_task_head_without_payload (void **state)
{
	(void) state;
	struct msg_task t = { .payload = { NULL, 5 } }, back;
	struct buf b;
	buf_init (&b, 0);
	msg_task_encode (&b, &t, 2);
	assert_int_equal (msg_task_decode (&back, b.data, b.len, NULL), -1);
	buf_str (&b, "[1,2]");
	assert_int_equal (msg_task_decode (&back, b.data, b.len, NULL), 0);
	assert_int_equal (back.payload.n, 5);
	buf_fini (&b);
}

static void test_encoders_keep_limits (void **state)
{
	(void) state;
	size_t big = WIRE_MAX_TAIL + 100;
	char *text = malloc (big);
	struct buf b;
	memset (text, 'x', big);
	text[big - 1] = 'e';
	struct msg_result r = { .status = STATUS_FAILED, .error = { text, big }, .out = { text, big }, .node = { text, big } }, back;
	buf_init (&b, 0);
	msg_result_encode (&b, &r, 2);
	assert_int_equal (msg_result_decode (&back, b.data, b.len, NULL), 0);
	assert_int_equal (back.error.n, WIRE_MAX_TAIL);
	assert_int_equal (back.error.p[WIRE_MAX_TAIL - 1], 'e');
	assert_int_equal (back.node.n, WIRE_MAX_TEXT);
	r.runtime = wire_str (text, WIRE_MAX_TEXT + 1); /* JSON: not cut, refused */
	size_t before = b.len;
	msg_result_encode (&b, &r, 2);
	assert_true (buf_failed (&b));
	assert_int_equal (b.len, before);
	buf_clear (&b);
	struct msg_reason reason = { 4, { text, big } };
	msg_reason_encode (&b, &reason);
	assert_int_equal (b.len, 6 + WIRE_MAX_TEXT);
	buf_fini (&b);
	free (text);
}

static void see_id (const struct id *id, void *arg)
{
	struct buf *seen = arg;

	buf_add (seen, id->b, ID_BYTES);
}

static size_t ahead_n;
static void ahead_id (const struct id *id, void *arg)
{
	struct buf *seen = arg;
	uint32_t n;

	memcpy (&n, id->b, sizeof (n));
	assert_true (n >= seen->len / ID_BYTES);	/* not yet seen */
	ahead_n++;
}

static void test_ids_ahead (void)
{
	struct err err;
	struct buf seen;
	zmq_msg_t r;

	buf_init (&seen, 0);
	zmq_msg_init_size (&r, 100 * ID_BYTES);
	memset (zmq_msg_data (&r), 0, 100 * ID_BYTES);
	for (uint32_t i = 0; i < 100; i++)
		memcpy ((uint8_t *) zmq_msg_data (&r) + i * ID_BYTES, &i, sizeof (i));
	ahead_n = 0;
	assert_int_equal (msg_ids_each_ahead (&r, 1, see_id, ahead_id, &seen, &err), 0);
	assert_int_equal (seen.len, 100 * ID_BYTES);
	assert_memory_equal (seen.data, zmq_msg_data (&r), seen.len);
	assert_in_range (ahead_n, 50, 99);
	zmq_msg_close (&r);
	buf_fini (&seen);
}

static void test_ids_of_all_records (void **state)
{
	uint8_t bytes[5 * ID_BYTES];
	struct err err;
	zmq_msg_t r[2];
	struct buf seen;

	(void) state;
	for (size_t i = 0; i < sizeof (bytes); i++)
		bytes[i] = (uint8_t) (i * 7);
	buf_init (&seen, 0);
	zmq_msg_init_size (&r[0], 2 * ID_BYTES);
	memcpy (zmq_msg_data (&r[0]), bytes, 2 * ID_BYTES);
	zmq_msg_init_size (&r[1], 3 * ID_BYTES);
	memcpy (zmq_msg_data (&r[1]), bytes + 2 * ID_BYTES, 3 * ID_BYTES);
	assert_int_equal (msg_ids_each (r, 2, see_id, &seen, &err), 0);
	assert_int_equal (seen.len, sizeof (bytes));
	assert_memory_equal (seen.data, bytes, sizeof (bytes));
	test_ids_ahead ();
	zmq_msg_close (&r[1]);
	zmq_msg_init_size (&r[1], ID_BYTES + 1);
	buf_clear (&seen);
	assert_int_equal (msg_ids_each (r, 2, see_id, &seen, &err), -1);	/* nothing of it takes effect */
	assert_int_equal (err.code, ERR_INVALID);
	assert_int_equal (seen.len, 0);
	zmq_msg_close (&r[0]);
	zmq_msg_close (&r[1]);
	buf_fini (&seen);
}

/* Of a frame whose rest may never come. */
static void test_heads_of_what_runners_write (void **state)
{
	static const struct { const char *head; size_t n; bool ready; long want; } rows[] = {
		{ "\x02\0\0\0", 4, true, 0 },
		{ "\x02\0\0\0I", 5, false, 6 },
		{ "\x02\0\0\0I", 5, true, -1 },
		{ "\x01\0\x01\0I", 5, false, 65541 },
		{ "\x02\0\x01\0I", 5, false, -1 },
		{ "\x19\0\0\0S", 5, true, 29 },
		{ "\x1a\0\0\0S", 5, true, -1 },
		{ "\x48\0\0\0R", 5, true, -1 },
		{ "\x49\0\0\0R", 5, true, 0 },
		{ "\x49\0\0\0C", 5, true, -1 },
		{ "abc\nR", 5, true, 0 },
		{ "abc\nM", 5, true, -1 },
		{ "\0\0\0\0R", 5, true, -1 },
		{ "\xff\xff\xff\xffR", 5, true, -1 },
	};
	struct msg_runner_result m = { .status = STATUS_SUCCESS, .result = WIRE_STR ("four"), .out = WIRE_STR ("x") };
	struct buf b;
	(void) state;
	for (size_t i = 0; i < sizeof (rows) / sizeof (rows[0]); i++)
		if (msg_runner_head (rows[i].head, rows[i].n, rows[i].ready, NULL) != rows[i].want)
			fail_msg ("row %zu", i);
	buf_init (&b, 0);
	msg_runner_result_encode (&b, &m);
	assert_int_equal (b.len, 82);
	assert_int_equal (msg_runner_head (b.data, 76, true, NULL), 0);
	assert_int_equal (msg_runner_head (b.data, 77, true, NULL), 82);
	b.data[0]++;
	assert_int_equal (msg_runner_head (b.data, 77, true, NULL), -1);
	buf_fini (&b);
}

static void test_names (void **state)
{
	(void) state;
	assert_int_equal (msg_kind_parse ("shared_object"), KIND_SHARED_OBJECT);
	assert_int_equal (msg_kind_parse ("Python"), KIND_NONE);
	assert_int_equal (msg_kind_parse (NULL), KIND_NONE);
	for (int k = 1; k <= 4; k++)
		assert_int_equal (msg_kind_parse (msg_kind_name (k)), k);
	assert_string_equal (msg_kind_name (0), "?");
	assert_string_equal (msg_kind_name (5), "?");
	assert_string_equal (msg_stamp_name (STAMP_SERVICE_RESULT), "service_result");
	assert_string_equal (msg_stamp_name (STAMP_SLOTS), "?");
	assert_string_equal (msg_stamp_name (-1), "?");
	assert_string_equal (msg_state_name (STATE_WAITING_FOR_LAUNCH), "waiting-for-launch");
	assert_string_equal (msg_state_name (8), "?");
	assert_int_equal (msg_status_state (STATUS_FAILED), STATE_FAILED);
}

int main (void)
{
#define FAMILY(f) { "vectors " f, test_vectors, NULL, NULL, (void *) f }, { "damage " f, test_damage, NULL, NULL, (void *) f }
	const struct CMUnitTest tests[] = {
		FAMILY ("header"), FAMILY ("session"), FAMILY ("files"), FAMILY ("resources"), FAMILY ("bulk"), FAMILY ("function"), FAMILY ("task"),
		FAMILY ("result"), FAMILY ("capacity"),
		FAMILY ("runner"), FAMILY ("layout"),
		cmocka_unit_test (test_round_trips),
		cmocka_unit_test (test_frames_are_changed_in_place),
		cmocka_unit_test (test_task_head_without_payload),
		cmocka_unit_test (test_encoders_keep_limits),
		cmocka_unit_test (test_ids_of_all_records),
		cmocka_unit_test (test_heads_of_what_runners_write),
		cmocka_unit_test (test_names),
	};
	return cmocka_run_group_tests_name ("msg", tests, NULL, NULL);
}
