/* SPDX-License-Identifier: Apache-2.0 */
#include "client/inputs.h"
#include <stdlib.h>
#include <string.h>
#include "common/conf.h"
#include "common/xmem.h"

/* "sha256=HEX&max_bytes=SIZE", in any order. */
static int read_rest (json_t *o, char *rest, const char *given, struct err *err)
{
	char *save = NULL;
	int64_t n;

	for (char *part = strtok_r (rest, "&", &save); part; part = strtok_r (NULL, "&", &save)) {
		if (strncmp (part, "sha256=", 7) == 0)
			json_object_set_new (o, "sha256", json_string (part + 7));
		else if (strncmp (part, "max_bytes=", 10) == 0 && conf_parse_size (part + 10, &n) == 0 && n > 0)
			json_object_set_new (o, "max_bytes", json_integer (n));
		else
			return err_set (err, ERR_INVALID, FAULT_USER, "--file %.150s: behind '#' sha256=HEX or max_bytes=SIZE is expected, not '%.60s'", given,
					part);
	}
	return 0;
}

json_t *inputs_of (const struct cli_strings *s, struct err *err)
{
	json_t *list = json_array ();

	for (size_t i = 0; i < s->n; i++) {
		const char *equals = strchr (s->v[i], '=');
		char *url = xstrdup (equals ? equals + 1 : ""), *rest = strchr (url, '#');
		json_t *o = json_object ();
		int rc = 0;

		if (rest)
			*rest++ = 0;
		if (!equals || equals == s->v[i] || !*url)
			rc = err_set (err, ERR_INVALID, FAULT_USER, "--file %.200s: NAME=URL is expected", s->v[i]);
		else if (rest)
			rc = read_rest (o, rest, s->v[i], err);
		json_object_set_new (o, "name", json_stringn (s->v[i], equals ? (size_t) (equals - s->v[i]) : 0));
		json_object_set_new (o, "url", json_string (url));
		json_array_append_new (list, o);
		free (url);
		if (rc < 0) {
			json_decref (list);
			return NULL;
		}
	}
	return list;
}

json_t *outputs_of (const struct cli_strings *s, bool keep, struct err *err)
{
	json_t *list = json_array ();

	for (size_t i = 0; i < s->n; i++)
		if (json_array_append_new (list, keep ? json_pack ("{s:s, s:b}", "name", s->v[i], "keep", 1) : json_string (s->v[i])) < 0) {
			err_set (err, ERR_INVALID, FAULT_USER, "an --output is not UTF-8 text");
			json_decref (list);
			return NULL;
		}
	return list;
}
