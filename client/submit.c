/* SPDX-License-Identifier: Apache-2.0 */
#include "client/submit.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "client/inputs.h"
#include "client/source.h"
#include "common/suggest.h"
#include "common/xmem.h"

#define CHECK_MAX (1u << 20)	/* larger payloads are not looked at */

static char *read_all (FILE *f, const char *name, size_t max, size_t *n, struct err *err)
{
	size_t cap = 65536, at = 0, k;
	char *text = malloc (cap + 1);
	while (text && (k = fread (text + at, 1, cap - at, f)) > 0) {
		at += k;
		if (at == cap) {
			char *more = cap < max ? realloc (text, cap * 2 + 1) : NULL;
			if (!more)
				goto too_large;
			text = more;
			cap *= 2;
		}
	}
	if (!text || ferror (f)) {
		err_errno (err, "reading %s", name);
		free (text);
		return NULL;
	}
	if (at > max)
		goto too_large;
	text[at] = '\0';
	*n = at;
	return text;
too_large:
	free (text);
	err_set (err, ERR_TOO_LARGE, FAULT_USER, "%s is larger than %zu MiB", name, max >> 20);
	return NULL;
}

char *submit_read (const char *path, size_t max, size_t *n, struct err *err)
{
	FILE *f = strcmp (path, "-") ? fopen (path, "re") : stdin;
	char *text;
	if (!f) {
		err_errno (err, "%s", path);
		return NULL;
	}
	text = read_all (f, f == stdin ? "standard input" : path, max, n, err);
	if (f != stdin)
		fclose (f);
	return text;
}

/* Not with another letter in it: "arcs" is a word of its own. */
static bool slip (const char *key, const char *word)
{
	int d = suggest_distance (key, word);
	return d == 0 || (d == 1 && (strlen (key) != strlen (word) || strspn (key, word) == strlen (key)));
}

static bool meant (const char *key)
{
	return !strncasecmp (key, "argument", 8) || slip (key, "args") || slip (key, "kwargs");
}

void submit_check_payload (const char *text, size_t n)
{
	json_t *o = n && n <= CHECK_MAX ? json_loadb (text, n, 0, NULL) : NULL, *v;
	json_t *args = json_object_get (o, "args"), *kwargs = json_object_get (o, "kwargs");
	const char *key, *first = NULL;
	bool spread = (!args || json_is_array (args)) && (!kwargs || json_is_object (kwargs));
	json_object_foreach (o, key, v) {
		if (!meant (key))
			goto out;
		if (strcmp (key, "args") && strcmp (key, "kwargs"))
			spread = false;
		if (!first)
			first = key;
	}
	if (first && !spread)
		fprintf (stderr, "weft: note: the payload is an object with the key \"%s\": a Python function gets all of it as its only argument. "
			 "What is to be spread has \"args\" (an array) and \"kwargs\" (an object), and nothing else\n", first);
out:
	json_decref (o);
}

static json_t *nodes_of (const struct submit_opts *o)
{
	json_t *spec = json_pack ("{s:I}", "num_nodes", (json_int_t) (o->nodes ? o->nodes : 1));
	if (o->ranks_per_node)
		json_object_set_new (spec, "ranks_per_node", json_integer (o->ranks_per_node));
	if (o->launcher_options)
		json_object_set_new (spec, "launcher_options", json_string (o->launcher_options));
	return spec;
}

json_t *submit_body (const struct submit_opts *o)
{
	json_t *body = json_pack ("{s:b}", "create_queue", 0), *l = json_object (), *files, *outputs;
	if (o->time_limit_ms)
		json_object_set_new (l, "time_limit_s", json_real ((double)o->time_limit_ms / 1000));
	if (o->expected_ms)
		json_object_set_new (l, "expected_s", json_real ((double)o->expected_ms / 1000));
	if (o->memory_limit_bytes)
		json_object_set_new (l, "memory_limit_bytes", json_integer (o->memory_limit_bytes));
	if (json_object_size (l))
		json_object_set (body, "limits", l);
	json_decref (l);
	if (o->nodes || o->ranks_per_node || o->launcher_options)
		json_object_set_new (body, "resource_specification", nodes_of (o));
	if (o->fresh)
		json_object_set_new (body, "memoize", json_false ());
	if (o->outputs.n && (outputs = outputs_of (&o->outputs, o->keep_outputs, NULL)))
		json_object_set_new (body, "outputs", outputs);
	if (o->files.n && (files = inputs_of (&o->files, NULL)))
		json_object_set_new (body, "files", files);
	return body;
}

static bool ends_with (const char *s, const char *end)
{
	size_t n = strlen (s), k = strlen (end);
	return n > k && !strcmp (s + n - k, end);
}

int submit_resolve (const struct submit_opts *o, char **argv, char fn[37], char ep[37], struct err *err)
{
	json_t *files = inputs_of (&o->files, err), *outputs = files ? outputs_of (&o->outputs, o->keep_outputs, err) : NULL;
	int rc;
	json_decref (files);
	json_decref (outputs);
	if (!outputs)
		return -1;
	if (api_endpoint (&o->api, o->endpoint, ep, err) < 0)
		return -1;
	if (o->command.n)
		rc = source_register_once (&o->api, source_command (o->command.v, o->command.n, err), fn, err);
	else if (source_is_file (argv[0]) || ends_with (argv[0], ".so"))
		rc = source_register_once (&o->api, source_file (argv[0], NULL, NULL, err), fn, err);
	else if (ends_with (argv[0], ".py"))
		rc = err_set (err, ERR_INVALID, FAULT_USER, "which function of the file? say %s::NAME", argv[0]);
	else
		rc = api_function (&o->api, argv[0], fn, err);
	return rc;
}
