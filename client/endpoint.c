/* SPDX-License-Identifier: Apache-2.0 */
/* weft whoami, weft endpoint list|show */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include "client/api.h"
#include "client/cmds.h"
#include "common/xmem.h"

struct opts { struct api_opts api; };

static void print_members (const json_t *o)
{
	const char *key;
	json_t *v;
	json_object_foreach ((json_t *)o, key, v) {
		if (json_is_object (v)) { /* the figures of `details`: a line each */
			print_members (v);
			continue;
		}
		char *text = json_is_string (v) ? xstrdup (json_string_value (v)) : json_dumps (v, JSON_ENCODE_ANY);
		if (!json_is_null (v))
			printf ("%-20s %s\n", key, text ? text : "");
		free (text);
	}
}

static int cmd_whoami (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	json_t *me = api_call (&o->api, "GET", "/v3/whoami", NULL, 0, &err);
	(void)argc;
	(void)argv;
	if (!me)
		return api_fail ("whoami", &err);
	if (o->api.json)
		api_print_json (me);
	else
		print_members (me);
	json_decref (me);
	return 0;
}

static json_t *status_of (struct opts *o, const char *id, struct err *err)
{
	char *path = xasprintf ("/v2/endpoints/%s/status", id);
	json_t *s = api_call (&o->api, "GET", path, NULL, 0, err);
	free (path);
	return s;
}

static int cmd_list (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	json_t *list = api_call (&o->api, "GET", "/v2/endpoints?role=any", NULL, 0, &err), *e, *d;
	size_t i;
	(void)argc;
	(void)argv;
	if (!list)
		return api_fail ("endpoint list", &err);
	json_array_foreach (list, i, e) {
		json_t *s = status_of (o, api_str (e, "uuid"), &err);
		json_object_set_new (e, "status", json_string (s ? api_str (s, "status") : "unknown"));
		if ((d = json_object_get (json_object_get (s, "details"), "draining")))
			json_object_set (e, "draining", d);
		json_decref (s);
	}
	if (o->api.json)
		api_print_json (list);
	else {
		printf ("%-36s  %-8s  %s\n", "ENDPOINT", "STATUS", "NAME");
		json_array_foreach (list, i, e)
			printf ("%-36s  %-8s  %s\n", api_str (e, "uuid"), json_is_true (json_object_get (e, "draining")) ? "draining" : api_str (e, "status"),
				api_str (e, "name"));
	}
	json_decref (list);
	return 0;
}

static int cmd_show (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	char id[37], *path;
	json_t *e, *s;
	if (api_endpoint (&o->api, argc ? argv[0] : NULL, id, &err) < 0)
		return api_fail ("endpoint show", &err);
	path = xasprintf ("/v2/endpoints/%s", id);
	e = api_call (&o->api, "GET", path, NULL, 0, &err);
	free (path);
	if (!e || !(s = status_of (o, id, &err))) {
		json_decref (e);
		return api_fail ("endpoint show", &err);
	}
	json_object_update (e, s);
	json_decref (s);
	if (o->api.json)
		api_print_json (e);
	else
		print_members (e);
	json_decref (e);
	return 0;
}

static const struct cli_opt opts[] = { API_OPTS (struct opts), CLI_END };

const struct cli_cmd cmds_endpoint[] = {
	{ "endpoint list", "[OPTIONS]", "List the endpoints you may use, with their state.", opts, sizeof (struct opts), 0, 0, cmd_list },
	{ "endpoint show", "[OPTIONS] [ENDPOINT]", "Show one endpoint: state, workers, queue, counts.", opts, sizeof (struct opts), 0, 1, cmd_show },
	{ "whoami", "[OPTIONS]", "Show who the service takes you for.", opts, sizeof (struct opts), 0, 0, cmd_whoami },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
