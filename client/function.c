/* SPDX-License-Identifier: Apache-2.0 */
/* weft function register|list|show|delete */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client/api.h"
#include "client/cmds.h"
#include "client/inputs.h"
#include "client/outputs.h"
#include "client/source.h"
#include "common/xmem.h"

struct opts {
	struct api_opts api;
	const char *name, *kind, *entry, *description, *image, *runtime, *cpus, *replicas;
	int64_t container_memory, pids, warm_ms;
	bool network;
	int64_t time_limit_ms, memory_limit_bytes, batch_max, batch_latency_ms;
	bool public, memoize, once;
	struct cli_strings files, outputs;
	bool keep_outputs;
};
#define AT(f) offsetof (struct opts, f)

/* What was said of its container, as the API has it. */
static int container_options (const struct opts *o, json_t **out, struct err *err)
{
	json_t *c = *out = json_object ();
	char *end;

	if (o->image)
		json_object_set_new (c, "image", json_string (o->image));
	if (o->runtime)
		json_object_set_new (c, "type", json_string (o->runtime));
	if (o->network)
		json_object_set_new (c, "network", json_true ());
	if (o->cpus) {
		double cpus = strtod (o->cpus, &end);
		if (*end || end == o->cpus || cpus < 0)
			return err_set (err, ERR_INVALID, FAULT_USER, "--cpus: expected a number like 0.5, got '%.40s'", o->cpus);
		json_object_set_new (c, "cpus", json_real (cpus));
	}
	if (o->container_memory)
		json_object_set_new (c, "memory", json_integer (o->container_memory));
	if (o->pids)
		json_object_set_new (c, "pids", json_integer (o->pids));
	if (o->warm_ms)
		json_object_set_new (c, "warm_seconds", json_real ((double) o->warm_ms / 1000));
	if (o->replicas) {
		long n = strtol (o->replicas, &end, 10);
		if (*end || end == o->replicas || n < 0)
			return err_set (err, ERR_INVALID, FAULT_USER, "--replicas: expected a number, got '%.40s'", o->replicas);
		json_object_set_new (c, "replicas", json_integer (n));
	}
	return 0;
}

/* "file.py::name", "file.so::symbol" and "file.so" name file and entry point; anything else is a command. */
static json_t *describe (const struct opts *o, int argc, char **argv, struct err *err)
{
	const char *dot = strrchr (argv[0], '.');
	if (o->kind && strcmp (o->kind, "python") && strcmp (o->kind, "shared_object") && strcmp (o->kind, "command")) {
		err_set (err, ERR_INVALID, FAULT_USER, "--kind: expected python, shared_object or command, got '%.40s'", o->kind);
		return NULL;
	}
	bool file = o->kind ? strcmp (o->kind, "command") != 0 : source_is_file (argv[0]) || (dot && (!strcmp (dot, ".py") || !strcmp (dot, ".so")));
	json_t *body = file ? source_file (argv[0], o->kind, o->entry, err) : source_command ((const char *const *)argv, (size_t)argc, err);
	json_t *container = NULL, *files = NULL, *outputs = NULL;
	if (!body)
		return NULL;
	if (!file && o->entry) {
		json_decref (body);
		err_set (err, ERR_INVALID, FAULT_USER, "--entry is of a file; a command has none");
		return NULL;
	}
	if (o->name)
		json_object_set_new (body, "function_name", json_string (o->name));
	json_object_set_new (body, "public", json_boolean (o->public));
	if (o->description)
		json_object_set_new (body, "description", json_string (o->description));
	if (o->once)
		json_object_set_new (body, "once", json_true ());
	int rc = container_options (o, &container, err);
	if (rc == 0 && json_object_size (container) && !o->image)
		rc = err_set (err, ERR_INVALID, FAULT_USER, "--runtime, --network, --cpus, --memory, --pids, --warm and --replicas are of a container: "
			      "they need --image");
	if (rc < 0) {
		json_decref (container);
		json_decref (body);
		return NULL;
	}
	if (o->image)
		json_object_set (body, "container", container);
	json_decref (container);
	if ((o->files.n && !(files = inputs_of (&o->files, err))) || (o->outputs.n && !(outputs = outputs_of (&o->outputs, o->keep_outputs, err)))) {
		json_decref (files);
		json_decref (body);
		return NULL;
	}
	if (files)
		json_object_set_new (body, "files", files);
	if (outputs)
		json_object_set_new (body, "outputs", outputs);
	if (o->memoize)
		json_object_set_new (body, "memoize", json_true ());
	if (o->batch_max)
		json_object_set_new (body, "batch", json_pack ("{s:I, s:I}", "max", (json_int_t)o->batch_max, "latency_ms",
							       (json_int_t)o->batch_latency_ms));
	if (o->time_limit_ms || o->memory_limit_bytes) {
		json_t *l = json_object ();
		if (o->time_limit_ms)
			json_object_set_new (l, "time_limit_s", json_real ((double)o->time_limit_ms / 1000));
		if (o->memory_limit_bytes)
			json_object_set_new (l, "memory_limit_bytes", json_integer (o->memory_limit_bytes));
		json_object_set_new (body, "limits", l);
	}
	return body;
}

static int cmd_register (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	json_t *body = describe (o, argc, argv, &err), *answer;
	if (o->batch_latency_ms && !o->batch_max) {
		json_decref (body);
		err_set (&err, ERR_INVALID, FAULT_USER, "--batch-latency-ms needs --batch-max");
		return api_fail ("function register", &err);
	}
	if (!body || !(answer = api_call (&o->api, "POST", "/v3/functions", body, 0, &err)))
		return api_fail ("function register", &err);
	if (o->api.json)
		api_print_json (answer);
	else
		puts (api_str (answer, "function_uuid"));
	json_decref (answer);
	return 0;
}

static int cmd_list (void *op, int argc, char **argv)
{
	struct opts *o = op;
	struct err err = { 0 };
	json_t *answer = api_call (&o->api, "GET", "/v2/functions?limit=1000", NULL, 0, &err), *list, *f;
	size_t i;
	(void)argc;
	(void)argv;
	if (!answer)
		return api_fail ("function list", &err);
	list = json_is_array (answer) ? answer : json_object_get (answer, "functions");
	if (o->api.json)
		api_print_json (list);
	else {
		printf ("%-36s  %-13s  %s\n", "FUNCTION", "KIND", "NAME");
		json_array_foreach (list, i, f)
			printf ("%-36s  %-13s  %s\n", api_str (f, "function_uuid"), api_str (f, "kind"), api_str (f, "function_name"));
	}
	json_decref (answer);
	return 0;
}

/* body: stolen, may be NULL. */
static int with_function (struct opts *o, const char *what, const char *method, const char *given, json_t *body, json_t **answer)
{
	struct err err = { 0 };
	char id[37], *path;
	if (api_function (&o->api, given, id, &err) < 0) {
		json_decref (body);
		return api_fail (what, &err);
	}
	path = xasprintf ("/v3/functions/%s", id);
	*answer = api_call (&o->api, method, path, body, 0, &err);
	free (path);
	return *answer ? 0 : api_fail (what, &err);
}

static int cmd_show (void *op, int argc, char **argv)
{
	struct opts *o = op;
	json_t *f;
	const char *key;
	json_t *v;
	(void)argc;
	if (with_function (o, "function show", "GET", argv[0], NULL, &f))
		return 1;
	if (o->api.json)
		api_print_json (f);
	else
		json_object_foreach (f, key, v) {
			char *text = json_is_string (v) ? xstrdup (json_string_value (v)) : json_dumps (v, JSON_ENCODE_ANY);
			if (!strcmp (key, "function_code"))
				printf ("%-16s (%zu characters)\n", "code", text ? strlen (text) : 0);
			else
				printf ("%-16s %s\n", key, text ? text : "");
			free (text);
		}
	json_decref (f);
	return 0;
}

static int cmd_update (void *op, int argc, char **argv)
{
	struct opts *o = op;
	json_t *container = NULL, *answer;
	struct err err;
	int rc = container_options (o, &container, &err);
	(void)argc;
	if (rc == 0 && !json_object_size (container))
		rc = err_set (&err, ERR_INVALID, FAULT_USER, "nothing to change: give --image, --replicas or another option of the container");
	if (rc < 0) {
		json_decref (container);
		return api_fail ("function update", &err);
	}
	if (with_function (o, "function update", "PATCH", argv[0], json_pack ("{s:o}", "container", container), &answer))
		return 1;
	if (o->api.json)
		api_print_json (answer);
	json_decref (answer);
	return 0;
}

static int cmd_delete (void *op, int argc, char **argv)
{
	struct opts *o = op;
	json_t *answer;
	(void)argc;
	if (with_function (o, "function delete", "DELETE", argv[0], NULL, &answer))
		return 1;
	if (o->api.json)
		api_print_json (answer);
	json_decref (answer);
	return 0;
}

#define CONTAINER_OPTS \
	{ "image", 0, CLI_STRING, AT (image), "IMAGE", 0, 0, "run it in a container of this image" }, \
	{ "runtime", 0, CLI_STRING, AT (runtime), "TYPE", 0, 0, \
	  "docker, podman, apptainer, singularity, charliecloud, shifter; default: the endpoint's choice" }, \
	{ "network", 0, CLI_FLAG, AT (network), NULL, 0, 0, "the container wants a network; endpoints may refuse" }, \
	{ "cpus", 0, CLI_STRING, AT (cpus), "N", 0, 0, "CPUs of the container, like 0.5" }, \
	{ "memory", 0, CLI_SIZE, AT (container_memory), "SIZE", 0, 0, "memory of the container, like 2GiB" }, \
	{ "pids", 0, CLI_INT, AT (pids), "N", 1, 65536, "processes and threads of the container" }, \
	{ "warm", 0, CLI_DURATION_MS, AT (warm_ms), "TIME", 0, 0, "how long an idle container is kept, like 10m" }, \
	{ "replicas", 0, CLI_STRING, AT (replicas), "N", 0, 0, "containers (pods on Kubernetes) that an endpoint keeps whatever the load" }

static const struct cli_opt update_opts[] = { API_OPTS (struct opts), CONTAINER_OPTS, CLI_END };
static const struct cli_opt register_opts[] = {
	API_OPTS (struct opts),
	{ "name", 'n', CLI_STRING, AT (name), "NAME", 0, 0, "what to call it; default: the entry point or the command" },
	{ "kind", 'k', CLI_STRING, AT (kind), "KIND", 0, 0, "python, shared_object or command; default: by the file's ending" },
	{ "entry", 'e', CLI_STRING, AT (entry), "NAME", 0, 0, "function in the file, or symbol in the shared object" },
	{ "description", 0, CLI_STRING, AT (description), "TEXT", 0, 0, "one line for people" },
	CONTAINER_OPTS,
	{ "time-limit", 0, CLI_DURATION_MS, AT (time_limit_ms), "TIME", 0, 0, "longest run of one call, like 30s; default: none" },
	{ "memory-limit", 0, CLI_SIZE, AT (memory_limit_bytes), "SIZE", 0, 0, "most memory of one call, like 512MiB; default: none" },
	{ "memoize", 0, CLI_FLAG, AT (memoize), NULL, 0, 0, "let the endpoint answer equal calls with the result of an earlier one" },
	{ "batch-max", 0, CLI_INT, AT (batch_max), "N", 1, 4096, "the function takes a list of up to N inputs, and returns a list of results" },
	{ "batch-latency-ms", 0, CLI_INT, AT (batch_latency_ms), "N", 1, 3600000, "how long a batch may take; default: as many as wait go in one" },
	{ "once", 0, CLI_FLAG, AT (once), NULL, 0, 0, "when you have registered the very same with --once before, print that one's id" },
	{ "file", 0, CLI_STRINGS, AT (files), "NAME=URL", 0, 0, FILE_HELP },
	{ "output", 0, CLI_STRINGS, AT (outputs), "PATTERN", 0, 0, OUTPUT_HELP },
	{ "keep-outputs", 0, CLI_FLAG, AT (keep_outputs), NULL, 0, 0, KEEP_HELP },
	{ "public", 0, CLI_FLAG, AT (public), NULL, 0, 0, "let everybody run it" },
	CLI_END,
};
static const struct cli_opt plain_opts[] = { API_OPTS (struct opts), CLI_END };

const struct cli_cmd cmds_function[] = {
	{ "function register", "[OPTIONS] FILE.py::NAME | FILE.so[::SYMBOL] | -- COMMAND [ARG...]",
	  "Register a function; prints its id.\n"
	  "Python: the file's source is sent and NAME is called with the payload's arguments (JSON).\n"
	  "Shared object: the file is sent; SYMBOL has the C ABI of weft_function.h.\n"
	  "Command: run as it stands, without a shell; the payload is its standard input, its output the result.\n"
	  "\n"
	  "  weft function register model.py::predict --time-limit 30s\n"
	  "  weft function register --name upper -- tr a-z A-Z\n"
	  "  weft function register model.py::predict --image registry.example.org/model:1 --memory 2GiB",
	  register_opts, sizeof (struct opts), 1, -1, cmd_register },
	{ "function list", "[OPTIONS]", "List your functions, newest first.", plain_opts, sizeof (struct opts), 0, 0, cmd_list },
	{ "function show", "[OPTIONS] FUNCTION", "Show one function, by id or name.", plain_opts, sizeof (struct opts), 1, 1, cmd_show },
	{ "function update", "[OPTIONS] FUNCTION",
	  "Change the container of a function, by id or name; what is not given stays.\n"
	  "Endpoints that hold it replace its containers one by one.\n"
	  "\n"
	  "  weft function update predict --image registry.example.org/model:2\n"
	  "  weft function update predict --replicas 4",
	  update_opts, sizeof (struct opts), 1, 1, cmd_update },
	{ "function delete", "[OPTIONS] FUNCTION", "Delete a function, by id or name. Tasks that are queued still run.", plain_opts,
	  sizeof (struct opts), 1, 1, cmd_delete },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL },
};
