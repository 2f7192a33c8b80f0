/* SPDX-License-Identifier: Apache-2.0 */
#include "service/json.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "service/fail.h"

#define MAX_PROBLEMS 50

json_t *json_parse (const char *p, size_t n, char *text, size_t cap)
{
	json_error_t e;
	json_t *v = n ? json_loadb (p, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e) : NULL;

	if (!v && !n)
		snprintf (text, cap, "a JSON body is required");
	else if (!v)
		snprintf (text, cap, "the body is not valid JSON: %s at line %d column %d", e.text, e.line, e.column);
	return v;
}

void check_problem (struct check *c, const char *key, long index, const char *type, const char *fmt, ...)
{
	char text[300];
	json_t *loc, *p;
	va_list ap;

	if (!c->problems)
		c->problems = json_array ();
	if (json_array_size (c->problems) >= MAX_PROBLEMS)
		return;
	va_start (ap, fmt);
	vsnprintf (text, sizeof (text), fmt, ap);
	va_end (ap);
	loc = json_array ();
	json_array_append_new (loc, json_string ("body"));
	if (key)
		json_array_append_new (loc, json_string (key));
	if (index >= 0)
		json_array_append_new (loc, json_integer (index));
	p = json_object ();
	json_object_set_new (p, "loc", loc);
	json_object_set_new (p, "msg", json_string (text) ?: json_string ("invalid value"));
	json_object_set_new (p, "type", json_string (type));
	json_array_append_new (c->problems, p);
}

void check_fini (struct check *c)
{
	json_decref (c->problems);
	c->problems = NULL;
}

/* All problems as one text: clients show a text, and no list. */
static void add_message (const struct check *c, struct buf *b)
{
	struct buf text;
	json_t *p, *part;
	size_t i;

	buf_init (&text, 0);
	json_array_foreach (c->problems, i, p) {
		if (i)
			buf_str (&text, "; ");
		part = json_array_get (json_object_get (p, "loc"), 1);
		if (json_is_string (part))
			buf_printf (&text, "%s: ", json_string_value (part));
		buf_str (&text, json_string_value (json_object_get (p, "msg")));
	}
	buf_json_string (b, text.len ? (const char *) text.data : "", text.len);
	buf_fini (&text);
}

void check_body (const struct check *c, struct buf *b)
{
	char *list = json_dumps (c->problems, JSON_COMPACT);

	buf_printf (b, "{\"status\":\"Failed\",\"code\":\"%s\",\"error_args\":[],\"http_status_code\":%d,\"detail\":",
		    fail_code (FAIL_SEMANTICS), fail_status (FAIL_SEMANTICS));
	buf_str (b, list ? list : "[]");
	buf_str (b, ",\"reason\":");
	buf_str (b, list ? list : "[]");
	buf_str (b, ",\"message\":");
	add_message (c, b);
	buf_char (b, '}');
	free (list);
}

json_t *check_get (const json_t *o, const char *key)
{
	json_t *v = json_object_get (o, key);

	return v && !json_is_null (v) ? v : NULL;
}

static json_t *get (struct check *c, const json_t *o, const char *key, bool required)
{
	json_t *v = check_get (o, key);

	if (!v && required)
		check_problem (c, key, -1, "value_error.missing", "field required");
	return v;
}

const char *check_string (struct check *c, const json_t *o, const char *key, bool required, size_t max, size_t *n)
{
	json_t *v = get (c, o, key, required);

	if (!v)
		return NULL;
	if (!json_is_string (v)) {
		check_problem (c, key, -1, "type_error.str", "a string is expected");
		return NULL;
	}
	if (json_string_length (v) > max) {
		check_problem (c, key, -1, "value_error.any_str.max_length", "at most %zu bytes are allowed, got %zu", max,
			       json_string_length (v));
		return NULL;
	}
	if (n)
		*n = json_string_length (v);
	else if (memchr (json_string_value (v), 0, json_string_length (v))) {
		check_problem (c, key, -1, "value_error.str", "must not contain NUL characters");
		return NULL;
	}
	return json_string_value (v);
}

bool check_bool (struct check *c, const json_t *o, const char *key, bool def)
{
	json_t *v = check_get (o, key);

	if (v && !json_is_boolean (v))
		check_problem (c, key, -1, "type_error.bool", "true or false is expected");
	return v && json_is_boolean (v) ? json_is_true (v) : def;
}

int64_t check_int (struct check *c, const json_t *o, const char *key, int64_t min, int64_t max, int64_t def)
{
	json_t *v = check_get (o, key);

	if (!v)
		return def;
	if (!json_is_integer (v)) {
		check_problem (c, key, -1, "type_error.integer", "a whole number is expected");
		return def;
	}
	if (json_integer_value (v) < min || json_integer_value (v) > max) {
		check_problem (c, key, -1, "value_error.number", "expected %lld..%lld", (long long) min, (long long) max);
		return def;
	}
	return json_integer_value (v);
}

double check_number (struct check *c, const json_t *o, const char *key, double min, double max, double def)
{
	json_t *v = check_get (o, key);

	if (!v)
		return def;
	if (!json_is_number (v)) {
		check_problem (c, key, -1, "type_error.float", "a number is expected");
		return def;
	}
	if (!(json_number_value (v) >= min && json_number_value (v) <= max)) {
		check_problem (c, key, -1, "value_error.number", "expected %.15g..%.15g", min, max);
		return def;
	}
	return json_number_value (v);
}

json_t *check_object (struct check *c, const json_t *o, const char *key, bool required)
{
	json_t *v = get (c, o, key, required);

	if (v && !json_is_object (v)) {
		check_problem (c, key, -1, "type_error.dict", "an object is expected");
		return NULL;
	}
	return v;
}

json_t *check_array (struct check *c, const json_t *o, const char *key, bool required)
{
	json_t *v = get (c, o, key, required);

	if (v && !json_is_array (v)) {
		check_problem (c, key, -1, "type_error.list", "an array is expected");
		return NULL;
	}
	return v;
}

void check_known (struct check *c, json_t *o, const char *where, const char *const *keys)
{
	const char *key;
	json_t *v;

	json_object_foreach (o, key, v) {
		int i = 0;
		while (keys[i] && strcmp (keys[i], key))
			i++;
		if (!keys[i])
			check_problem (c, where, -1, "value_error.extra", "unknown member '%.60s'", key);
	}
}

bool check_id (struct check *c, const json_t *o, const char *key, bool required, struct id *out)
{
	json_t *v = get (c, o, key, required);

	if (!v)
		return false;
	if (json_is_string (v) && id_parse (out, json_string_value (v), json_string_length (v)) == 0)
		return true;
	check_problem (c, key, -1, "type_error.uuid", "a UUID is expected");
	return false;
}

struct id *check_ids (struct check *c, const json_t *o, const char *key, bool required, size_t max, size_t *n)
{
	json_t *v = check_array (c, o, key, required);
	struct id *ids;
	size_t i;
	json_t *e;

	*n = 0;
	if (!v)
		return NULL;
	if (json_array_size (v) > max) {
		check_problem (c, key, -1, "value_error.list.max_items", "at most %zu are allowed, got %zu", max, json_array_size (v));
		return NULL;
	}
	if (!(ids = calloc (json_array_size (v) + 1, sizeof (*ids)))) {
		check_problem (c, key, -1, "value_error.list", "out of memory");
		return NULL;
	}
	json_array_foreach (v, i, e) {
		if (!json_is_string (e) || id_parse (&ids[i], json_string_value (e), json_string_length (e)) < 0)
			check_problem (c, key, (long) i, "type_error.uuid", "a UUID is expected");
	}
	*n = json_array_size (v);
	return ids;
}

char *json_text (const json_t *v)
{
	return v ? json_dumps (v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
}
