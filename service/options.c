/* SPDX-License-Identifier: Apache-2.0 */
#include "service/options.h"
#include <stdlib.h>
#include <string.h>
#include "common/conf.h"
#include "common/pythons.h"
#include "common/xmem.h"
#include "service/files.h"

#define LATENCY_MAX_MS 3600000
#define CPUS_MAX 4096.0
#define PIDS_MAX 1000000
#define WARM_MAX_S (7.0 * 86400)
#define REPLICAS_MAX 1000
#define MEMORY_MAX ((int64_t) 1 << 50)

static const char *const types[] = { "docker", "podman", "apptainer", "singularity", "charliecloud", "shifter" };

static void read_batch (struct check *k, const json_t *body, int kind, json_t *out)
{
	static const char *const keys[] = { "max", "latency_ms", NULL };
	json_t *o = check_object (k, body, "batch", false);
	int64_t max, latency;

	if (!o)
		return;
	check_known (k, o, "batch", keys);
	if (kind == KIND_COMMAND)
		check_problem (k, "batch", -1, "value_error.kind", "a command takes one input: kind command has no batches");
	if (!check_get (o, "max"))
		check_problem (k, "batch", -1, "value_error.missing", "'max' is needed: how many inputs a call takes at most");
	max = check_int (k, o, "max", 1, OPTIONS_BATCH_MAX, 1);
	latency = check_int (k, o, "latency_ms", 0, LATENCY_MAX_MS, 0);
	json_object_set_new (out, "batch", json_pack ("{s:I, s:I}", "max", (json_int_t) max, "latency_ms", (json_int_t) latency));
}

static void read_memory (struct check *k, json_t *c, json_t *o)
{
	json_t *v = check_get (c, "memory");
	int64_t n = 0;

	if (!v)
		return;
	if (json_is_string (v) ? conf_parse_size (json_string_value (v), &n) < 0 || n < 0 || n > MEMORY_MAX
			       : !json_is_integer (v) || (n = json_integer_value (v)) < 0 || n > MEMORY_MAX)
		check_problem (k, "container", -1, "value_error.number", "'memory': bytes, or text like \"2GiB\", is expected");
	else if (n)
		json_object_set_new (o, "memory", json_integer (n));
}

bool options_type_ok (const char *type)
{
	for (size_t i = 0; i < sizeof (types) / sizeof (types[0]); i++)
		if (strcmp (types[i], type) == 0)
			return true;
	return false;
}

static void read_type (struct check *k, json_t *c, json_t *o)
{
	const char *s = check_string (k, c, "type", false, 32, NULL);

	if (!s)
		return;
	if (!options_type_ok (s))
		check_problem (k, "container", -1, "value_error.const",
			       "'type': docker, podman, apptainer, singularity, charliecloud or shifter is expected");
	else
		json_object_set_new (o, "type", json_string (s));
}

static void read_container (struct check *k, const json_t *body, struct options *out, json_t *all)
{
	static const char *const keys[] = { "image", "type", "network", "cpus", "memory", "pids", "warm_seconds", "replicas", NULL };
	json_t *c = check_get (body, "container"), *o;
	const char *image;
	double x;
	int64_t n;

	if (!json_is_object (c)) {
		if (c && !json_is_string (c))
			check_problem (k, "container", -1, "type_error.str", "an image, or an object with 'image', is expected");
		else if ((image = check_string (k, body, "container", false, WIRE_MAX_TEXT, NULL)) && *image)
			out->image = xstrdup (image);
		return;
	}
	check_known (k, c, "container", keys);
	if (!(image = check_string (k, c, "image", false, WIRE_MAX_TEXT, NULL)) || !*image) {
		check_problem (k, "container", -1, "value_error.missing", "'image' is needed");
		return;
	}
	out->image = xstrdup (image);
	o = json_object ();
	read_type (k, c, o);
	read_memory (k, c, o);
	if (check_bool (k, c, "network", false))
		json_object_set_new (o, "network", json_true ());
	if ((x = check_number (k, c, "cpus", 0, CPUS_MAX, 0)) > 0)
		json_object_set_new (o, "cpus", json_real (x));
	if ((n = check_int (k, c, "pids", 0, PIDS_MAX, 0)))
		json_object_set_new (o, "pids", json_integer (n));
	if ((x = check_number (k, c, "warm_seconds", 0, WARM_MAX_S, 0)) > 0)
		json_object_set_new (o, "warm_seconds", json_real (x));
	if ((n = check_int (k, c, "replicas", 0, REPLICAS_MAX, 0)))
		json_object_set_new (o, "replicas", json_integer (n));
	json_object_set_new (all, "container", o);
}

/* Code of Globus Compute is "<length>\n<id>\n<body>": 01 and 02 are bytecode. */
static bool is_bytecode (const json_t *body)
{
	const char *code = json_string_value (json_object_get (body, "function_code")), *id = code ? strchr (code, '\n') : NULL;

	return id && (strncmp (id, "\n01\n", 4) == 0 || strncmp (id, "\n02\n", 4) == 0);
}

/* What old SDKs and others leave out is not asked for. */
static void read_python (const json_t *body, int kind, json_t *out)
{
	json_t *meta = check_get (body, "meta");
	uint16_t version;
	char text[8];

	if (!json_is_object (meta))
		meta = check_get (body, "metadata");
	version = python_version (json_string_value (json_object_get (meta, "python_version")));
	if (version && (kind == KIND_GLOBUS || kind == KIND_PYTHON))
		json_object_set_new (out, "python", json_string (python_version_text (version, text)));
	if (kind == KIND_GLOBUS && is_bytecode (body))
		json_object_set_new (out, "bytecode", json_true ());
}

struct options_python options_python (const json_t *options)
{
	return (struct options_python){ python_version (json_string_value (json_object_get (options, "python"))),
					json_is_true (json_object_get (options, "bytecode")) };
}

void options_keep_python (struct options *o, const char *before)
{
	static const char *const keys[] = { "python", "bytecode" };
	json_t *old = before ? json_loads (before, 0, NULL) : NULL, *all = o->text ? json_loads (o->text, 0, NULL) : json_object ();

	for (size_t i = 0; i < sizeof (keys) / sizeof (keys[0]); i++)
		if (json_object_get (old, keys[i]))
			json_object_set (all, keys[i], json_object_get (old, keys[i]));
	free (o->text);
	o->text = json_object_size (all) ? json_text (all) : NULL;
	json_decref (all);
	json_decref (old);
}

static void read_files (struct check *k, const json_t *body, json_t *all)
{
	struct buf list;
	json_t *files;

	buf_init (&list, 0);
	if ((files = files_read (k, body, FILES_MAX_BYTES, &list)))
		json_object_set_new (all, "files", files);
	if ((files = outputs_read (k, body, FILES_MAX_BYTES, &list)))
		json_object_set_new (all, "outputs", files);
	buf_fini (&list);
}

void options_read (struct check *k, const json_t *body, int kind, struct options *out)
{
	json_t *all = json_object ();

	memset (out, 0, sizeof (*out));
	if (check_bool (k, body, "memoize", false))
		json_object_set_new (all, "memoize", json_true ());
	read_batch (k, body, kind, all);
	read_container (k, body, out, all);
	read_files (k, body, all);
	read_python (body, kind, all);
	if (json_object_size (all))
		out->text = json_text (all);
	json_decref (all);
}

void options_fini (struct options *o)
{
	free (o->image);
	free (o->text);
	memset (o, 0, sizeof (*o));
}

/* Thousandths of what is asked, at least one of them: 0 would mean "not asked". */
static uint32_t thousandths (const json_t *v)
{
	double x = json_number_value (v) * 1000;

	return x <= 0 ? 0 : x < 1 ? 1 : (uint32_t) x;
}

void options_apply (struct msg_function *m, const char *text, json_t **parsed, struct buf *files)
{
	json_t *all = text ? json_loads (text, 0, NULL) : NULL, *batch = json_object_get (all, "batch"), *c = json_object_get (all, "container");
	json_t *type = json_object_get (c, "type");
	uint64_t memory = (uint64_t) json_integer_value (json_object_get (c, "memory"));
	struct options_python python = options_python (all);

	*parsed = all;
	m->flags = (uint8_t) ((json_is_true (json_object_get (all, "memoize")) ? FUNCTION_MEMOISE : 0) | (batch ? FUNCTION_BATCH : 0) |
			      (json_is_true (json_object_get (c, "network")) ? FUNCTION_NETWORK : 0) |
			      (python.bytecode && python.version ? FUNCTION_BYTECODE : 0));
	m->python = python.version;
	m->max_batch = (uint16_t) json_integer_value (json_object_get (batch, "max"));
	m->latency_ms = (uint32_t) json_integer_value (json_object_get (batch, "latency_ms"));
	m->cpu_millis = thousandths (json_object_get (c, "cpus"));
	m->max_pids = (uint32_t) json_integer_value (json_object_get (c, "pids"));
	m->warm_ms = thousandths (json_object_get (c, "warm_seconds"));
	m->replicas = (uint32_t) json_integer_value (json_object_get (c, "replicas"));
	files_pack (json_object_get (all, "files"), json_object_get (all, "outputs"), files);
	m->files = wire_str ((char *) files->data, files->len);
	m->container_type = wire_str (json_string_value (type), json_string_length (type));
	if (memory && (!m->memory_limit_bytes || memory < m->memory_limit_bytes))
		m->memory_limit_bytes = memory;
}

void options_show (json_t *doc, const char *image, const char *text)
{
	json_t *all = text ? json_loads (text, 0, NULL) : NULL, *c = json_object_get (all, "container"), *batch = json_object_get (all, "batch");
	json_t *shown = !image ? json_null () : c ? json_deep_copy (c) : json_string (image);

	if (image && c)
		json_object_set_new (shown, "image", json_string (image));
	json_object_set_new (doc, "container", shown);
	json_object_set_new (doc, "memoize", json_boolean (json_is_true (json_object_get (all, "memoize"))));
	json_object_set (doc, "batch", batch ? batch : json_null ());
	json_object_set (doc, "outputs", json_object_get (all, "outputs") ? json_object_get (all, "outputs") : json_null ());
	json_object_set (doc, "files", json_object_get (all, "files") ? json_object_get (all, "files") : json_null ());
	json_decref (all);
}
