/* SPDX-License-Identifier: Apache-2.0 */
#include "client/source.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/xmem.h"

#define CODE_MAX (10u << 20)	/* the service's default limit; checked before the file is read */

bool source_is_file (const char *given)
{
	return strstr (given, "::") != NULL;
}

static char *read_file (const char *path, size_t *n, struct err *err)
{
	struct stat st;
	char *text = NULL;
	size_t at = 0;
	int fd = strcmp (path, "-") ? open (path, O_RDONLY | O_CLOEXEC) : dup (0);
	if (fd < 0 || fstat (fd, &st) < 0) {
		err_errno (err, "%s", path);
		goto out;
	}
	if (S_ISDIR (st.st_mode) || st.st_size > (off_t)CODE_MAX) {
		err_set (err, ERR_TOO_LARGE, FAULT_USER, "%s: %s", path, S_ISDIR (st.st_mode) ? "is a directory" : "is larger than 10 MiB");
		goto out;
	}
	text = xcalloc (1, CODE_MAX + 1);
	while (at < CODE_MAX) {
		ssize_t k = read (fd, text + at, CODE_MAX - at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			break;
		at += (size_t)k;
	}
	*n = at;
out:
	if (fd >= 0)
		close (fd);
	return text;
}

static char *base64 (const char *p, size_t n)
{
	char *out = xcalloc (1, (n + 2) / 3 * 4 + 1);
	EVP_EncodeBlock ((unsigned char *)out, (const unsigned char *)p, (int)n);
	return out;
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
	char *path = colons ? strndup (given, (size_t)(colons - given)) : xstrdup (given), *text = NULL, *code = NULL;
	json_t *body = NULL;
	size_t n;
	if (!entry && colons)
		entry = colons + 2;
	dot = strrchr (path, '.');
	if (!kind)
		kind = dot && !strcmp (dot, ".so") ? "shared_object" : "python";
	if (!entry || !*entry) {
		err_set (err, ERR_INVALID, FAULT_USER, "which function? say %s::NAME, or --entry NAME", path);
		goto out;
	}
	if (!(text = read_file (path, &n, err)))
		goto out;
	code = strcmp (kind, "shared_object") ? xstrdup (text) : base64 (text, n);
	if (!(body = registration (entry, code, kind)))
		err_set (err, ERR_INVALID, FAULT_USER, "%s is not UTF-8 text", path);
	else
		json_object_set_new (body, "entry", json_string (entry));
out:
	free (path);
	free (text);
	free (code);
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
