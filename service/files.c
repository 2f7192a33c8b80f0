/* SPDX-License-Identifier: Apache-2.0 */
#include "service/files.h"
#include <string.h>
#include "proto/msg_files.h"

#define MAX_BYTES ((int64_t) 1 << 50)

static struct wire_str text_of (const json_t *o, const char *key)
{
	const json_t *v = json_object_get (o, key);

	return wire_str (json_string_value (v), json_string_length (v));
}

static bool known (struct check *k, json_t *o, long i)
{
	static const char *const keys[] = { "name", "url", "sha256", "max_bytes", NULL };
	const char *key;
	json_t *v;

	json_object_foreach (o, key, v) {
		int n = 0;
		while (keys[n] && strcmp (keys[n], key))
			n++;
		if (!keys[n]) {
			check_problem (k, "files", i, "value_error.extra", "unknown member '%.60s'", key);
			return false;
		}
	}
	return true;
}

/* NULL: a problem was added. */
static json_t *read_one (struct check *k, json_t *o, long i)
{
	json_t *digest = check_get (o, "sha256"), *max = check_get (o, "max_bytes"), *out;
	struct wire_str name = text_of (o, "name"), url = text_of (o, "url");
	uint8_t raw[FILES_DIGEST];
	struct err err;

	if (!json_is_object (o)) {
		check_problem (k, "files", i, "type_error.dict", "an object with 'name' and 'url' is expected");
		return NULL;
	}
	if (!known (k, o, i))
		return NULL;
	if (!name.p || !url.p)
		check_problem (k, "files", i, "value_error.missing", "'name' and 'url' are needed, as text");
	else if (msg_files_name_ok (name, &err) < 0 || msg_files_url_ok (url, &err) < 0)
		check_problem (k, "files", i, "value_error.str", "%s", err.text);
	else if (digest && !msg_files_digest_parse (raw, json_string_value (digest), json_string_length (digest)))
		check_problem (k, "files", i, "value_error.str", "'sha256': 64 hexadecimal digits are expected");
	else if (max && (!json_is_integer (max) || json_integer_value (max) < 1 || json_integer_value (max) > MAX_BYTES))
		check_problem (k, "files", i, "value_error.number", "'max_bytes': a number from 1 to %lld is expected", (long long) MAX_BYTES);
	else {
		out = json_pack ("{s:O, s:O}", "name", json_object_get (o, "name"), "url", json_object_get (o, "url"));
		if (digest)
			json_object_set (out, "sha256", digest);
		if (max)
			json_object_set (out, "max_bytes", max);
		return out;
	}
	return NULL;
}

/* out, when the list is good with it; else it is dropped. */
static json_t *accept (struct check *k, const char *key, json_t *out, size_t max_bytes, const struct buf *list)
{
	struct err err;

	if (check_ok (k) && (buf_failed (list) || list->len > max_bytes))
		check_problem (k, key, -1, "value_error.list", "names and URLs take more than the %zu bytes that are allowed here", max_bytes);
	else if (check_ok (k) && msg_files_check (wire_str ((char *) list->data, list->len), &err) < 0)
		check_problem (k, key, -1, "value_error.list", "%s", err.text);
	if (check_ok (k))
		return out;
	json_decref (out);
	return NULL;
}

json_t *files_read (struct check *k, const json_t *body, size_t max_bytes, struct buf *list)
{
	json_t *all = check_array (k, body, "files", false), *out, *v, *one;
	size_t i;

	if (!json_array_size (all))
		return NULL;
	out = json_array ();
	json_array_foreach (all, i, v)
		if (i <= FILES_MAX && (one = read_one (k, v, (long) i)))
			json_array_append_new (out, one);
	files_pack (out, NULL, list);
	return accept (k, "files", out, max_bytes, list);
}

/* Plain: a text, or an object when it is kept. Borrowed; NULL: a problem was added. */
static const json_t *read_output (struct check *k, const json_t *v, long i)
{
	const json_t *name = json_object_get (v, "name"), *keep = json_object_get (v, "keep");

	if (json_is_string (v))
		return v;
	if (json_is_string (name) && json_object_size (v) == 1 + (keep != NULL) && (!keep || json_is_boolean (keep)))
		return json_is_true (keep) ? v : name;
	check_problem (k, "outputs", i, "type_error.str", "the name of a file in the work directory, or a pattern like *.png, is expected; "
		       "or {\"name\": NAME, \"keep\": true}, to leave it on the endpoint");
	return NULL;
}

json_t *outputs_read (struct check *k, const json_t *body, size_t max_bytes, struct buf *list)
{
	json_t *all = check_array (k, body, "outputs", false), *v, *out;
	const json_t *one;
	size_t i;

	if (!json_array_size (all))
		return NULL;
	out = json_array ();
	json_array_foreach (all, i, v)
		if ((one = read_output (k, v, (long) i)))
			json_array_append (out, (json_t *) one);
	files_pack (NULL, out, list);
	return accept (k, "outputs", out, max_bytes, list);
}

bool outputs_keep (const json_t *outputs)
{
	json_t *v;
	size_t i;

	json_array_foreach (outputs, i, v)
		if (json_is_object (v))
			return true;
	return false;
}

void files_pack (const json_t *files, const json_t *outputs, struct buf *list)
{
	json_t *v;
	size_t i;

	json_array_foreach (files, i, v) {
		struct msg_file f = { .kind = FILE_INPUT, .name = text_of (v, "name"), .url = text_of (v, "url"),
				      .max_bytes = (uint64_t) json_integer_value (json_object_get (v, "max_bytes")) };
		struct wire_str digest = text_of (v, "sha256");
		if (digest.p && msg_files_digest_parse (f.digest, digest.p, digest.n))
			f.flags = FILE_HAS_DIGEST;
		msg_files_add (list, &f);
	}
	json_array_foreach (outputs, i, v) {
		struct msg_file f = { .kind = json_is_object (v) ? FILE_KEEP : FILE_OUTPUT,
				      .name = json_is_object (v) ? text_of (v, "name") : wire_str (json_string_value (v), json_string_length (v)) };
		msg_files_add (list, &f);
	}
}
