/* SPDX-License-Identifier: Apache-2.0 */
/* Submitting tasks: the request is checked as a whole (form, limits, permissions) before anything is stored. */
#include <stdlib.h>
#include <string.h>
#include "service/api/api.h"
#include "service/call.h"
#include "service/submission.h"

struct builder {
	struct call *c;
	struct check k;
	struct submission s;
	size_t cap;
};

static void drop (struct builder *b)
{
	for (size_t i = 0; i < b->s.ntasks; i++)
		if (b->s.tasks[i].is_json)
			free ((char *) b->s.tasks[i].payload);
	free (b->s.tasks);
	json_decref (b->s.body);
	buf_fini (&b->s.head);
	check_fini (&b->k);
}

/* What all forms of submission share. -1: answered. */
static int begin (struct builder *b, struct call *c)
{
	*b = (struct builder) { .c = c };
	b->s.call = c;
	if (call_wait_ms (c, &b->s.wait_ms) < 0 || !(b->s.body = call_object (c)))
		return -1;
	b->s.stamps = call_flag (c, "trace");
	b->s.group_given = check_id (&b->k, b->s.body, "task_group_id", false, &b->s.group);
	limits_read (&b->k, b->s.body, c->app->config->result_bytes, &b->s.limits);
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
static int add_task (struct builder *b, const struct id *function, const struct id *endpoint, json_t *payload)
{
	struct submission_task *t = &b->s.tasks[b->s.ntasks];
	size_t max = (size_t) b->c->app->config->payload_bytes, n;
	char *text = NULL;

	if (json_is_string (payload))
		n = json_string_length (payload);
	else {
		if (!(text = json_text (payload))) {
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
	*t = (struct submission_task) { .function = *function, .endpoint = *endpoint, .payload = text ? text : json_string_value (payload),
					.payload_bytes = (uint32_t) n, .is_json = text != NULL };
	b->s.ntasks++;
	return 0;
}

static int permitted (struct builder *b, const struct id *function, const struct id *endpoint)
{
	struct catalog *k = b->c->app->catalog;
	const struct id *user = &b->c->who.user;
	enum fail why;
	struct err err;

	if (catalog_endpoint (k, endpoint, user, &why, &err) == 0 && catalog_function (k, function, user, &why, &err) == 0 &&
	    catalog_allowed (k, endpoint, function, &why, &err) == 0)
		return 0;
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

static int read_functions (struct builder *b, const json_t *tasks, const struct id *endpoint)
{
	const char *key;
	json_t *list, *payload;
	struct id f;
	size_t i;

	json_object_foreach ((json_t *) tasks, key, list) {
		if (id_parse (&f, key, strlen (key)) < 0)
			check_problem (&b->k, "tasks", -1, "type_error.uuid", "the key '%.60s' is not a function's UUID", key);
		else if (!json_is_array (list))
			check_problem (&b->k, "tasks", -1, "type_error.list", "function %s: an array of payloads is expected", key);
		if (!check_ok (&b->k))
			continue;
		if (room (b, json_array_size (list)) < 0)
			return -1;
		json_array_foreach (list, i, payload) {
			if (add_task (b, &f, endpoint, payload) < 0)
				return -1;
		}
	}
	if (check_ok (&b->k) && !b->s.ntasks)
		check_problem (&b->k, "tasks", -1, "value_error.list.min_items", "at least one task is expected");
	return 0;
}

static int permitted_all (struct builder *b, const json_t *tasks, const struct id *endpoint)
{
	const char *key;
	json_t *list;
	struct id f;

	json_object_foreach ((json_t *) tasks, key, list) {
		id_parse (&f, key, strlen (key));
		if (permitted (b, &f, endpoint) < 0)
			return -1;
	}
	return 0;
}

/* Keys are echoed as they came: clients look up the very text they sent. */
static void head_v3 (struct builder *b, const json_t *tasks, const struct id *endpoint)
{
	struct buf *out = &b->s.head;
	char t[ID_TEXT];
	struct id request;
	size_t n, at = 0;
	const char *key;
	json_t *list;
	bool first = true;

	id_new (&request);
	buf_init (out, 0);
	buf_printf (out, "{\"request_id\":\"%s\"", id_text (&request, t));
	buf_printf (out, ",\"task_group_id\":\"%s\"", id_text (&b->s.group, t));
	buf_printf (out, ",\"endpoint_id\":\"%s\",\"tasks\":{", id_text (endpoint, t));
	json_object_foreach ((json_t *) tasks, key, list) {
		if (!first)
			buf_char (out, ',');
		first = false;
		buf_json_string (out, key, strlen (key));
		buf_str (out, ":[");
		n = json_array_size (list);
		for (size_t i = 0; i < n; i++) {
			char item[ID_TEXT + 3] = ",\"";
			id_text (&b->s.tasks[at++].task, item + 2);
			buf_add (out, i ? item : item + 1, i ? ID_TEXT + 1 : ID_TEXT);
			buf_char (out, '"');
		}
		buf_char (out, ']');
	}
	buf_char (out, '}');
	b->s.results_allowed = SUBMISSION_OPEN;
}

void api_submit (struct call *c)
{
	struct builder b;
	struct id endpoint;
	json_t *tasks;

	if (call_id (c, 0, &endpoint) < 0 || begin (&b, c) < 0)
		return;
	tasks = check_object (&b.k, b.s.body, "tasks", true);
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

static int read_triples (struct builder *b, const json_t *tasks)
{
	struct id f, e;
	json_t *t;
	size_t i;

	if (room (b, json_array_size (tasks)) < 0)
		return -1;
	json_array_foreach ((json_t *) tasks, i, t) {
		const json_t *fs = json_array_get (t, 0), *es = json_array_get (t, 1);
		if (json_array_size (t) != 3 || !json_is_string (fs) || !json_is_string (es) ||
		    id_parse (&f, json_string_value (fs), json_string_length (fs)) < 0 ||
		    id_parse (&e, json_string_value (es), json_string_length (es)) < 0) {
			check_problem (&b->k, "tasks", (long) i, "value_error.list", "[function id, endpoint id, payload] is expected");
			continue;
		}
		if (check_ok (&b->k) && add_task (b, &f, &e, json_array_get (t, 2)) < 0)
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
	json_t *tasks;

	if (begin (&b, c) < 0)
		return;
	b.s.wait_ms = 0;
	tasks = check_array (&b.k, b.s.body, "tasks", true);
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
