/* SPDX-License-Identifier: Apache-2.0 */
/* Submitting tasks: the request is checked as a whole (form, limits, permissions) before anything is stored. */
#include <stdlib.h>
#include <string.h>
#include "common/pythons.h"
#include "service/api/api.h"
#include "service/call.h"
#include "service/files.h"
#include "service/resources.h"
#include "service/submission.h"

struct builder {
	struct call *c;
	struct check k;
	struct submission s;
	size_t cap;
	uint16_t python;		/* of the submitter, 0 = it does not say */
	unsigned nodes;			/* that each task asks for */
	char warning[300];
};

static void drop (struct builder *b)
{
	for (size_t i = 0; i < b->s.ntasks; i++)
		if (b->s.tasks[i].is_json)
			free ((char *) b->s.tasks[i].payload);
	free (b->s.tasks);
	jscan_fini (&b->s.body);
	buf_fini (&b->s.head);
	buf_fini (&b->s.files);
	buf_fini (&b->s.resources);
	check_fini (&b->k);
}

/* Told by SDKs: user_runtime.python_version, "3.11.2", or as sys.version has it. */
static uint16_t submitters_python (struct builder *b)
{
	jscan_v runtime = body_object (&b->k, &b->s.body, "user_runtime", false), v = runtime ? jscan_get (&b->s.body, runtime, "python_version") : 0;
	const char *s;
	char text[16];
	size_t n;

	if (!v || jscan_type (&b->s.body, v) != JSCAN_STRING)
		return 0;
	s = jscan_string (&b->s.body, v, &n);
	n = n < sizeof (text) ? n : sizeof (text) - 1;
	memcpy (text, s, n);
	text[n] = 0;
	return python_version (text);
}

/* An object with this member of the body alone, for readers of jansson's trees. NULL: answered. */
static json_t *member (struct builder *b, const char *key, jscan_v v)
{
	json_t *o = json_pack ("{s:o}", key, jscan_tree (&b->s.body, v));

	if (o)
		return o;
	call_fail (b->c, FAIL_UNAVAILABLE, "memory is short right now");
	drop (b);
	return NULL;
}

static bool is_strategy (const char *path, size_t n, const char *name)
{
	static const char sdk[] = "globus_compute_sdk.serialize.";
	size_t m = strlen (name);

	return n >= sizeof (sdk) - 1 + m && memcmp (path, sdk, sizeof (sdk) - 1) == 0 && memcmp (path + n - m, name, m) == 0 && path[n - m - 1] == '.';
}

/* In which form results of kind globus are wanted, by import paths. 13 and 00 take whatever any other form of data takes, so nothing behind one
 * of them is ever reached; 00 comes without being asked for. What is not known here, such as forms of code, is passed over. */
static void serializers_read (struct builder *b)
{
	const struct jscan *j = &b->s.body;
	jscan_v list = body_array (&b->k, j, "result_serializers", false), v = list ? jscan_first (j, list) : 0;
	bool last = false;
	const char *path;
	size_t n;

	for (long i = 0; v; v = jscan_next (j, list, v), i++) {
		if (jscan_type (j, v) != JSCAN_STRING) {
			check_problem (&b->k, "result_serializers", i, "type_error.str", "a string is expected");
			return;
		}
		if (last)
			continue;
		path = jscan_string (j, v, &n);
		b->s.as_json |= is_strategy (path, n, "JSONData");
		b->s.as_all |= is_strategy (path, n, "AllDataStrategies");
		last = b->s.as_all || is_strategy (path, n, "DillDataBase64");
	}
}

/* What all forms of submission share. -1: answered. */
static int begin (struct builder *b, struct call *c)
{
	jscan_v v;

	*b = (struct builder) { .c = c };
	b->s.call = c;
	if (call_wait_ms (c, &b->s.wait_ms) < 0 || call_scan (c, &b->s.body) < 0)
		return -1;
	b->s.stamps = call_flag (c, "trace");
	b->python = submitters_python (b);
	b->s.group_given = body_id (&b->k, &b->s.body, "task_group_id", false, &b->s.group);
	b->s.watch = body_bool (&b->k, &b->s.body, c->v3 ? "create_queue" : "create_websocket_queue", false);
	b->s.fresh = !body_bool (&b->k, &b->s.body, "memoize", true);
	serializers_read (b);
	body_object (&b->k, &b->s.body, "user_endpoint_config", false);	/* of its form, but not used */
	if ((v = body_object (&b->k, &b->s.body, "limits", false))) {
		json_t *limits = member (b, "limits", v);
		if (!limits)
			return -1;
		limits_read (&b->k, limits, c->app->config->result_bytes, &b->s.limits);
		json_decref (limits);
	}
	if ((v = body_array (&b->k, &b->s.body, "files", false))) {
		json_t *files = member (b, "files", v);
		if (!files)
			return -1;
		json_decref (files_read (&b->k, files, FILES_TASK_BYTES, &b->s.files));
		json_decref (files);
	}
	if ((v = body_array (&b->k, &b->s.body, "outputs", false))) {
		json_t *outputs = member (b, "outputs", v);
		if (!outputs)
			return -1;
		json_decref (outputs_read (&b->k, outputs, FILES_TASK_BYTES, &b->s.files));
		json_decref (outputs);
	}
	if ((v = body_object (&b->k, &b->s.body, "resource_specification", false))) {
		json_t *wanted = member (b, "resource_specification", v);
		if (!wanted)
			return -1;
		b->nodes = resources_read (&b->k, wanted, &b->s.resources);
		json_decref (wanted);
	}
	return 0;
}

static int room (struct builder *b, size_t more)
{
	size_t max = (size_t) b->c->app->config->batch_tasks;

	if (b->s.ntasks + more > max) {
		call_fail (b->c, FAIL_BATCH_TOO_LARGE, "at most %zu tasks are allowed in a request", max);
		return -1;
	}
	if (b->s.ntasks + more > b->cap) {
		size_t cap = b->s.ntasks + more > 2 * b->cap ? b->s.ntasks + more : 2 * b->cap;
		struct submission_task *t = realloc (b->s.tasks, cap * sizeof (*t));
		if (!t) {
			call_fail (b->c, FAIL_UNAVAILABLE, "memory is short right now");
			return -1;
		}
		b->s.tasks = t;
		b->cap = cap;
	}
	return 0;
}

/* A string is taken byte for byte, anything else as its JSON text. -1: answered. Room was made before. */
static int add_task (struct builder *b, const struct id *function, const struct id *endpoint, jscan_v payload)
{
	struct submission_task *t = &b->s.tasks[b->s.ntasks];
	size_t max = (size_t) b->c->app->config->payload_bytes, n;
	const char *string = NULL;
	char *text = NULL;

	if (jscan_type (&b->s.body, payload) == JSCAN_STRING)
		string = jscan_string (&b->s.body, payload, &n);
	else {
		json_t *tree = jscan_tree (&b->s.body, payload);
		text = json_text (tree);
		json_decref (tree);
		if (!text) {
			call_fail (b->c, FAIL_UNAVAILABLE, "memory is short right now");
			return -1;
		}
		n = strlen (text);
	}
	if (n > max) {
		free (text);
		call_fail (b->c, FAIL_PAYLOAD_TOO_LARGE, "a task's payload has %zu bytes, at most %zu are allowed", n, max);
		return -1;
	}
	*t = (struct submission_task) { .function = *function, .endpoint = *endpoint, .payload = text ? text : string,
					.payload_bytes = (uint32_t) n, .is_json = text != NULL };
	b->s.ntasks++;
	return 0;
}

static int permitted (struct builder *b, const struct id *function, const struct id *endpoint)
{
	struct catalog *k = b->c->app->catalog;
	struct catalog_wants wants = { b->python, wire_str ((char *) b->s.files.data, b->s.files.len), b->nodes };
	const struct id *user = &b->c->who.user;
	enum fail why;
	struct err err;

	if (catalog_endpoint (k, endpoint, user, &why, &err) == 0 && catalog_function (k, function, user, &why, &err) == 0 &&
	    catalog_allowed (k, endpoint, function, &wants, &why, &err) == 0) {
		if (!*b->warning)
			catalog_python_warning (k, endpoint, function, b->python, b->warning, sizeof (b->warning));
		return 0;
	}
	call_fail (b->c, why, "%s", err.text);
	return -1;
}

/* The ids, ascending in the order of the tasks, and the group's. */
static void name_tasks (struct builder *b)
{
	if (!b->s.group_given && b->s.ntasks > 1)
		id_new (&b->s.group);
	for (size_t i = 0; i < b->s.ntasks; i++)
		id_new (&b->s.tasks[i].task);
	if (!b->s.group_given && b->s.ntasks == 1)
		b->s.group = b->s.tasks[0].task; /* a lone task is its own group */
}

/* ---- v3 --------------------------------------------------------------------------------------------------------- */

static int read_functions (struct builder *b, jscan_v tasks, const struct id *endpoint)
{
	const struct jscan *j = &b->s.body;
	const char *text;
	struct id f;
	size_t n;

	for (jscan_v key = jscan_first (j, tasks); key; key = jscan_next (j, tasks, key)) {
		jscan_v list = key + 1;
		text = jscan_string (j, key, &n);
		if (!body_is_id (j, key, &f))
			check_problem (&b->k, "tasks", -1, "type_error.uuid", "the key '%.*s' is not a function's UUID", (int) (n < 60 ? n : 60), text);
		else if (jscan_type (j, list) != JSCAN_ARRAY)
			check_problem (&b->k, "tasks", -1, "type_error.list", "function %.*s: an array of payloads is expected", (int) n, text);
		if (!check_ok (&b->k))
			continue;
		if (room (b, jscan_count (j, list)) < 0)
			return -1;
		for (jscan_v payload = jscan_first (j, list); payload; payload = jscan_next (j, list, payload))
			if (add_task (b, &f, endpoint, payload) < 0)
				return -1;
	}
	if (check_ok (&b->k) && !b->s.ntasks)
		check_problem (&b->k, "tasks", -1, "value_error.list.min_items", "at least one task is expected");
	return 0;
}

static int permitted_all (struct builder *b, jscan_v tasks, const struct id *endpoint)
{
	const struct jscan *j = &b->s.body;
	struct id f;

	for (jscan_v key = jscan_first (j, tasks); key; key = jscan_next (j, tasks, key)) {
		body_is_id (j, key, &f); /* checked before */
		if (permitted (b, &f, endpoint) < 0)
			return -1;
	}
	return 0;
}

static void add_ids (struct builder *b, size_t from, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char item[ID_TEXT + 3] = ",\"";
		id_text (&b->s.tasks[from + i].task, item + 2);
		buf_add (&b->s.head, i ? item : item + 1, i ? ID_TEXT + 1 : ID_TEXT);
		buf_char (&b->s.head, '"');
	}
}

/* Keys are echoed as they came: clients look up the very text they sent. */
static void head_v3 (struct builder *b, jscan_v tasks, const struct id *endpoint)
{
	const struct jscan *j = &b->s.body;
	struct buf *out = &b->s.head;
	char t[ID_TEXT];
	const char *text;
	struct id request;
	size_t n, at = 0;

	id_new (&request);
	buf_init (out, 0);
	buf_reserve (out, 256 + b->s.ntasks * (ID_TEXT + 2));
	buf_str (out, "{\"request_id\":\"");
	buf_str (out, id_text (&request, t));
	buf_str (out, "\",\"task_group_id\":\"");
	buf_str (out, id_text (&b->s.group, t));
	buf_str (out, "\",\"endpoint_id\":\"");
	buf_str (out, id_text (endpoint, t));
	buf_str (out, "\",\"tasks\":{");
	for (jscan_v key = jscan_first (j, tasks); key; key = jscan_next (j, tasks, key)) {
		if (key != jscan_first (j, tasks))
			buf_char (out, ',');
		text = jscan_string (j, key, &n);
		buf_json_string (out, text, n);
		buf_str (out, ":[");
		n = jscan_count (j, key + 1);
		add_ids (b, at, n);
		at += n;
		buf_char (out, ']');
	}
	buf_char (out, '}');
	if (*b->warning) { /* the member whose text SDKs show */
		buf_str (out, ",\"ha_warning\":");
		buf_json_string (out, b->warning, strlen (b->warning));
	}
	b->s.results_allowed = SUBMISSION_OPEN;
}

void api_submit (struct call *c)
{
	struct builder b;
	struct id endpoint;
	jscan_v tasks;

	if (call_id (c, 0, &endpoint) < 0 || begin (&b, c) < 0)
		return;
	tasks = body_object (&b.k, &b.s.body, "tasks", true);
	if (tasks && read_functions (&b, tasks, &endpoint) < 0)
		goto drop;
	if (!check_ok (&b.k)) {
		call_invalid (c, &b.k);
		goto drop;
	}
	if (permitted_all (&b, tasks, &endpoint) < 0)
		goto drop;
	name_tasks (&b);
	head_v3 (&b, tasks, &endpoint);
	submission_start (&b.s);
	return;
drop:
	drop (&b);
}

/* ---- v2: [[function, endpoint, payload], ...] ------------------------------------------------------------------- */

static const struct submission_task *sort_base; /* qsort has no argument */

static int by_endpoint (const void *a, const void *b)
{
	size_t i = *(const size_t *) a, j = *(const size_t *) b;
	int d = memcmp (sort_base[i].endpoint.b, sort_base[j].endpoint.b, ID_BYTES);

	return d ? d : i < j ? -1 : i > j;
}

/* The payload of a triple, or 0 when it is none. */
static jscan_v read_triple (const struct jscan *j, jscan_v triple, struct id *function, struct id *endpoint)
{
	jscan_v f, e;

	if (jscan_type (j, triple) != JSCAN_ARRAY || jscan_count (j, triple) != 3)
		return 0;
	f = jscan_first (j, triple);
	e = jscan_next (j, triple, f);
	return body_is_id (j, f, function) && body_is_id (j, e, endpoint) ? jscan_next (j, triple, e) : 0;
}

static int read_triples (struct builder *b, jscan_v tasks)
{
	const struct jscan *j = &b->s.body;
	struct id f, e;
	long i = 0;

	if (room (b, jscan_count (j, tasks)) < 0)
		return -1;
	for (jscan_v t = jscan_first (j, tasks); t; t = jscan_next (j, tasks, t), i++) {
		jscan_v payload = read_triple (j, t, &f, &e);
		if (!payload)
			check_problem (&b->k, "tasks", i, "value_error.list", "[function id, endpoint id, payload] is expected");
		else if (check_ok (&b->k) && add_task (b, &f, &e, payload) < 0)
			return -1;
	}
	if (check_ok (&b->k) && !b->s.ntasks)
		check_problem (&b->k, "tasks", -1, "value_error.list.min_items", "at least one task is expected");
	return 0;
}

static int permitted_each (struct builder *b)
{
	for (size_t i = 0; i < b->s.ntasks; i++) {
		const struct submission_task *t = &b->s.tasks[i];
		if (i && id_eq (&t->function, &t[-1].function) && id_eq (&t->endpoint, &t[-1].endpoint))
			continue;
		if (permitted (b, &t->function, &t->endpoint) < 0)
			return -1;
	}
	return 0;
}

/* Tasks of one endpoint beside each other, as submissions want them; the answer keeps the caller's order. */
static void head_v2 (struct builder *b)
{
	size_t n = b->s.ntasks;
	struct submission_task *sorted = calloc (n, sizeof (*sorted));
	size_t *order = calloc (n, sizeof (*order)), *place = calloc (n, sizeof (*place));
	struct buf *out = &b->s.head;
	char t[ID_TEXT];

	buf_init (out, 0);
	if (!sorted || !order || !place) {
		free (sorted);
		free (order);
		free (place);
		return; /* an empty head: told by the caller */
	}
	for (size_t i = 0; i < n; i++)
		order[i] = i;
	sort_base = b->s.tasks;
	qsort (order, n, sizeof (*order), by_endpoint);
	for (size_t i = 0; i < n; i++) {
		sorted[i] = b->s.tasks[order[i]];
		place[order[i]] = i;
	}
	free (b->s.tasks);
	b->s.tasks = sorted;
	name_tasks (b);
	buf_printf (out, "{\"response\":\"batch\",\"task_group_id\":\"%s\",\"results\":[", id_text (&b->s.group, t));
	for (size_t i = 0; i < n; i++)
		buf_printf (out, "%s{\"status\":\"Success\",\"task_uuid\":\"%s\",\"http_status_code\":200}", i ? "," : "",
			    id_text (&sorted[place[i]].task, t));
	buf_str (out, "]}");
	free (order);
	free (place);
}

void api_submit_v2 (struct call *c)
{
	struct builder b;
	jscan_v tasks;

	if (begin (&b, c) < 0)
		return;
	b.s.wait_ms = 0;
	tasks = body_array (&b.k, &b.s.body, "tasks", true);
	if (tasks && read_triples (&b, tasks) < 0)
		goto drop;
	if (!check_ok (&b.k)) {
		call_invalid (c, &b.k);
		goto drop;
	}
	if (permitted_each (&b) < 0)
		goto drop;
	head_v2 (&b);
	if (!b.s.head.len) {
		call_fail (c, FAIL_UNAVAILABLE, "memory is short right now");
		goto drop;
	}
	submission_start (&b.s);
	return;
drop:
	drop (&b);
}
