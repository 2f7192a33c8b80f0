/* SPDX-License-Identifier: Apache-2.0 */
#include "client/source.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client/submit.h"
#include "common/base64.h"
#include "common/xmem.h"

#define CODE_MAX (10u << 20)	/* the service's default limit; what is larger is not sent */

bool source_is_file (const char *given)
{
	return strstr (given, "::") != NULL;
}

/* NULL when a text is not UTF-8. */
static json_t *registration (const char *name, const char *code, const char *kind)
{
	return json_pack ("{s:s, s:s, s:s, s:{s:s, s:s, s:s}}", "function_name", name, "function_code", code, "kind", kind, "meta", "python_version",
			  "", "sdk_version", "weft-cli-" WEFT_VERSION, "serde_identifier", "");
}

json_t *source_file (const char *given, const char *kind, const char *entry, struct err *err)
{
	const char *colons = strstr (given, "::"), *dot;
	char *path = colons ? strndup (given, (size_t)(colons - given)) : xstrdup (given), *text = NULL;
	struct buf encoded;
	json_t *body = NULL;
	size_t n;
	buf_init (&encoded, 0);
	if (!entry && colons)
		entry = colons + 2;
	dot = strrchr (path, '.');
	if (!kind)
		kind = dot && !strcmp (dot, ".so") ? "shared_object" : "python";
	if (!entry && !strcmp (kind, "shared_object"))
		entry = "weft_function";
	if (!entry || !*entry) {
		err_set (err, ERR_INVALID, FAULT_USER, "which function? say %s::NAME, or --entry NAME", path);
		goto out;
	}
	if (!(text = submit_read (path, CODE_MAX, &n, err)))
		goto out;
	if (!strcmp (kind, "shared_object")) {
		base64_encode (&encoded, text, n);
		buf_char (&encoded, '\0');
	}
	if (buf_failed (&encoded))
		err_set (err, ERR_INTERNAL, FAULT_SITE, "%s: no memory for its %zu bytes", path, n);
	else if (!(body = registration (entry, encoded.len ? (const char *)encoded.data : text, kind)))
		err_set (err, ERR_INVALID, FAULT_USER, "%s is not UTF-8 text", path);
	else
		json_object_set_new (body, "entry", json_string (entry));
out:
	free (path);
	free (text);
	buf_fini (&encoded);
	return body;
}

json_t *source_command (const char *const *argv, size_t n, struct err *err)
{
	const char *base = strrchr (argv[0], '/');
	json_t *list = json_array (), *j, *body = NULL;
	char *code;
	for (size_t i = 0; i < n; i++)
		json_array_append_new (list, json_string (argv[i]));
	if (json_array_size (list) < n) {
		json_decref (list);
		err_set (err, ERR_INVALID, FAULT_USER, "the command line is not UTF-8 text");
		return NULL;
	}
	j = json_pack ("{s:o}", "argv", list);
	code = json_dumps (j, JSON_COMPACT);
	body = code ? registration (base && base[1] ? base + 1 : argv[0], code, "command") : NULL;
	json_decref (j);
	free (code);
	return body;
}

int source_register_once (const struct api_opts *o, json_t *body, char out[37], struct err *err)
{
	json_t *answer;
	if (!body)
		return -1;
	json_object_set_new (body, "once", json_true ());
	if (!(answer = api_call (o, "POST", "/v3/functions", body, 0, err)))
		return -1;
	snprintf (out, 37, "%s", api_str (answer, "function_uuid"));
	json_decref (answer);
	return 0;
}
