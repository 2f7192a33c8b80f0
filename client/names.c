/* SPDX-License-Identifier: Apache-2.0 */
#include "client/names.h"
#include <string.h>
#include "common/clock.h"

#define ASK_AGAIN_MS 10000

struct names { const char *path, *list, *id, *name; json_t *all; int64_t asked_ms; };

static struct names functions = { "/v3/functions?limit=1000", "functions", "function_uuid", "function_name", NULL, 0 };
static struct names endpoints = { "/v3/endpoints?limit=1000&role=any", "endpoints", "uuid", "name", NULL, 0 };

static json_t *ask (struct names *n, const struct api_opts *o)
{
	json_t *answer, *e;
	size_t i;
	if (!n->all || clock_now_ms () - n->asked_ms > ASK_AGAIN_MS) {
		n->asked_ms = clock_now_ms ();
		if (!n->all)
			n->all = json_object ();
		answer = api_call (o, "GET", n->path, NULL, 0, NULL);
		json_array_foreach (json_object_get (answer, n->list), i, e)
			json_object_set (n->all, api_str (e, n->id), json_object_get (e, n->name));
		json_decref (answer);
	}
	return n->all;
}

static const char *name_of (struct names *n, const struct api_opts *o, const char *id)
{
	const char *known = json_string_value (json_object_get (n->all, id));
	if (!known && *id)
		known = json_string_value (json_object_get (ask (n, o), id));
	return known ? known : id;
}

const char *names_function (const struct api_opts *o, const char *id)
{
	return name_of (&functions, o, id);
}

const char *names_endpoint (const struct api_opts *o, const char *id)
{
	return name_of (&endpoints, o, id);
}

json_t *names_functions (const struct api_opts *o)
{
	return ask (&functions, o);
}

json_t *names_endpoints (const struct api_opts *o)
{
	return ask (&endpoints, o);
}
