/* SPDX-License-Identifier: Apache-2.0 */
/* Containers of the older Globus Compute SDKs: an image registered by itself, which functions then name by its id (container_uuid). Here
 * it is a name for an image and a type; nothing is built. */
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "service/api/api.h"
#include "service/api/shared.h"
#include "service/call.h"
#include "service/options.h"

#define NAME_MAX_CHARS 1024
#define DESCRIPTION_MAX 65536

struct addition { struct call *c; struct reg_container row; int rc; struct err err; };

static void add_work (struct registry *r, void *arg)
{
	struct addition *x = arg;

	x->rc = registry_container_add (r, &x->row, &x->err);
}

static void add_done (void *arg)
{
	struct addition *x = arg;
	char t[ID_TEXT];

	if (x->rc < 0)
		call_fail_err (x->c, &x->err, FAIL_CONTAINER_NOT_FOUND);
	else
		call_json (x->c, json_pack ("{s:s}", "container_id", id_text (&x->row.id, t)));
	reg_container_fini (&x->row);
	free (x);
}

static char *copy (const char *s)
{
	return s ? xstrdup (s) : NULL;
}

void api_container_register (struct call *c)
{
	json_t *body = call_object (c);
	struct check k = { 0 };
	struct addition *x;
	const char *type;
	char t[ID_TEXT];

	if (!body)
		return;
	x = xcalloc (1, sizeof (*x));
	x->c = c;
	x->row.name = copy (check_string (&k, body, "name", true, NAME_MAX_CHARS, NULL));
	x->row.description = copy (check_string (&k, body, "description", false, DESCRIPTION_MAX, NULL));
	x->row.location = copy (check_string (&k, body, "location", true, WIRE_MAX_TEXT, NULL));
	if (!(type = check_string (&k, body, "type", false, 32, NULL)))
		type = "docker";
	x->row.type = xstrdup (type);
	if (!options_type_ok (type))
		check_problem (&k, "type", -1, "value_error.const", "docker, podman, apptainer, singularity, charliecloud or shifter is expected");
	json_decref (body);
	if (!check_ok (&k)) {
		call_invalid (c, &k);
		reg_container_fini (&x->row);
		free (x);
		return;
	}
	id_new (&x->row.id);
	x->row.owner = c->who.user;
	x->row.created_ms = clock_real_ns () / 1000000;
	call_audit (c, "container.register", id_text (&x->row.id, t), 1);
	db_run (c->app->db, add_work, add_done, x);
}

/* The container that the first parameter names. -1: answered. */
static int named (struct call *c, struct reg_container *row)
{
	struct id id;
	struct err err;

	if (call_id (c, 0, &id) < 0)
		return -1;
	if (registry_container_get (c->app->registry, &id, row, &err) == 0)
		return 0;
	call_fail_err (c, &err, FAIL_CONTAINER_NOT_FOUND);
	return -1;
}

#define BUILD_STATUS "provided"		/* the word for an image that was not built by the service */

void api_container_get (struct call *c)
{
	struct reg_container row;
	char t[ID_TEXT];

	if (named (c, &row) < 0)
		return;
	call_json (c, json_pack ("{s:{s:s, s:s, s:s, s:s, s:s, s:n, s:n}}", "container", "container_uuid", id_text (&row.id, t), "name", row.name,
				 "build_status", BUILD_STATUS, "type", row.type, "location", row.location, "build_stderr", "err_message"));
	reg_container_fini (&row);
}

void api_container_build_status (struct call *c)
{
	struct reg_container row;

	if (named (c, &row) < 0)
		return;
	call_json (c, json_pack ("{s:s}", "status", BUILD_STATUS));
	reg_container_fini (&row);
}
