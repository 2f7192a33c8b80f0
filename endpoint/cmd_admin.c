/* SPDX-License-Identifier: Apache-2.0 */
/* register, delete, render. */
#include "common/fetch.h"
#include "common/tree.h"
#include "common/xmem.h"
#include "endpoint/addresses.h"
#include "endpoint/agent.h"
#include "endpoint/cmd.h"
#include "endpoint/containers.h"
#include "endpoint/files.h"
#include "endpoint/mpi.h"
#include "endpoint/interpreters.h"
#include "endpoint/keys.h"
#include "endpoint/service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *base_url (const struct config *c)
{
	char *url = xstrdup (config_service_url (c));

	for (size_t n = strlen (url); n && url[n - 1] == '/'; n--)
		url[n - 1] = 0;
	return url;
}

/* One blocking call. 0, or -1 with *err; *status and *out (owned by the caller) as fetch_sync. */
static int call (const struct config *c, const char *method, const char *url, const char *body, int *status, char **out, size_t *n,
		 struct err *err)
{
	char *token = config_token (c, err);
	struct fetch_args a = { .method = method, .url = url, .bearer = token, .body = body, .body_bytes = body ? strlen (body) : 0,
				.timeout_ms = 15000 };
	struct err cause = { 0 };

	*out = NULL;
	*n = 0;
	if (!token && err->code != ERR_NONE)
		return -1;
	*status = fetch_sync (&a, c->service_ca_file, out, n, &cause);
	free (token);
	if (*status / 100 != 2)
		return service_error (*status, *out, *n, config_service_url (c), &cause, err);
	return 0;
}

static int register_now (const struct paths *p, const struct config *c, struct identity *who, struct err *err)
{
	struct keys keys;
	struct pythons pythons;
	char id[ID_TEXT], *base = base_url (c), *url, *body, *out = NULL;
	const char *text;
	json_t *j = NULL, *more;
	int status = 0, rc;
	size_t n;

	if (keys_read (&keys, p->key, err) < 0 || identity_load (who, p->identity, err) < 0) {
		free (base);
		return -1;
	}
	if (interpreters_read (c, &pythons, err) < 0) {
		free (base);
		return -1;
	}
	more = json_object ();
	containers_describe (c, more);
	files_describe (c, more);
	mpi_describe (c, more);
	interpreters_describe (&pythons, more);
	pythons_fini (&pythons);
	body = service_registration (c->display_name && *c->display_name ? c->display_name : p->name, keys.public_key,
				     &c->allowed_functions, more);
	json_decref (more);
	explicit_bzero (&keys, sizeof (keys));
	url = who->known ? xasprintf ("%s/v3/endpoints/%s", base, id_text (&who->id, id)) : xasprintf ("%s/v3/endpoints", base);
	rc = call (c, who->known ? "PUT" : "POST", url, body, &status, &out, &n, err);
	if (rc < 0 && status == 404 && who->known) {	/* another service than before, or one that forgot us */
		free (url);
		free (out);
		url = xasprintf ("%s/v3/endpoints", base);
		rc = call (c, "POST", url, body, &status, &out, &n, err);
	}
	if (rc == 0) {
		j = json_loadb (out, n, 0, NULL);
		text = json_string_value (json_object_get (j, "endpoint_id"));
		if (!text || id_parse (&who->id, text, strlen (text)) < 0)
			rc = err_set (err, ERR_INVALID, FAULT_PEER, "what answers at %s is not a Weft service", base);
	}
	if (rc == 0) {
		who->known = true;
		snprintf (who->service_url, sizeof (who->service_url), "%s", base);
		rc = identity_save (who, p->identity, err);
	}
	json_decref (j);
	free (out);
	free (url);
	free (body);
	free (base);
	return rc;
}

int cmd_register (void *opts, int argc, char **argv)
{
	struct paths p;
	struct config *c;
	struct identity who;
	struct err err;
	char id[ID_TEXT];
	int rc = cmd_open (&p, argc, argv);

	(void) opts;
	if (rc)
		return rc;
	if (!(c = cmd_config (&p, NULL)))
		rc = 1;
	else if (register_now (&p, c, &who, &err) < 0)
		rc = cmd_fail (&err);
	else
		printf ("Endpoint %s is registered: id %s.\n", p.name, id_text (&who.id, id));
	config_free (&c);
	paths_fini (&p);
	return rc;
}

static int deregister (const struct paths *p, const struct config *c, struct err *err)
{
	struct identity who;
	char id[ID_TEXT], *base, *url, *out;
	int status = 0, rc;
	size_t n;

	if (identity_load (&who, p->identity, err) < 0)
		return -1;
	if (!who.known)
		return 0;
	base = base_url (c);
	url = xasprintf ("%s/v3/endpoints/%s", base, id_text (&who.id, id));
	rc = call (c, "DELETE", url, NULL, &status, &out, &n, err);
	if (status == 404)
		rc = 0;		/* gone is what was wanted */
	free (out);
	free (url);
	free (base);
	return rc;
}

static bool sure (const struct paths *p)
{
	char answer[16] = "";

	if (!isatty (0)) {
		fprintf (stderr, "weft-endpoint: this deletes endpoint %s with its id and its spool; say --yes\n", p->name);
		return false;
	}
	printf ("Delete endpoint %s, its id, its logs and results not yet delivered? [y/N] ", p->name);
	fflush (stdout);
	return fgets (answer, sizeof (answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

int cmd_delete (void *opts, int argc, char **argv)
{
	const struct cmd_delete *o = opts;
	struct paths p;
	struct config *c;
	struct err err;
	int rc = cmd_open (&p, argc, argv);

	if (rc)
		return rc;
	c = cmd_config (&p, NULL);
	if (!c && !o->force) {
		rc = 1;
	} else if (!o->yes && !sure (&p)) {
		rc = 1;
	} else if ((rc = cmd_stop_agent (&p, 0, 15000, true, false)) == 0) {
		if (c && deregister (&p, c, &err) < 0) {
			cmd_fail (&err);
			if (!o->force) {
				fprintf (stderr, "weft-endpoint: nothing was removed; --force removes the directory all the same\n");
				rc = 1;
			}
		}
		if (rc == 0 && tree_remove (p.dir) < 0) {
			fprintf (stderr, "weft-endpoint: not all of %s could be removed: %s\n", p.dir, strerror (errno));
			rc = 1;
		} else if (rc == 0) {
			printf ("Endpoint %s is deleted.\n", p.name);
		}
	}
	config_free (&c);
	paths_fini (&p);
	return rc;
}

/* A block as the agent would make it, with what is only known when it runs left as words. */
void cmd_block (const struct paths *p, const struct config *c, cmd_block_f *use, void *arg)
{
	struct identity who = { 0 };
	struct keys keys = { .public_key = "" };
	char id[ID_TEXT] = "ENDPOINT-ID";
	char *ipc = xasprintf ("ipc://%s/managers.sock", p->run), *key_file = xasprintf ("%s/manager.key", p->run);
	bool over_tcp = config_over_tcp (c);
	struct agent_command a = { .config = c, .address = ipc, .endpoint_id = id, .dir = p->run,
				   .server_key = over_tcp ? "SERVER-KEY" : NULL, .key_file = over_tcp ? key_file : NULL,
				   .bulk_dir = c->bulk_dir && *c->bulk_dir ? c->bulk_dir : NULL, .own_dir = p->dir };
	unsigned nodes = (unsigned) c->nodes_per_block;
	char ***argvs = xcalloc (nodes, sizeof (*argvs));
	struct provider_block b = { .id = "b1", .nodes = nodes, .argv = (const char *const *const *) argvs, .log_dir = p->logs,
				    .endpoint = p->name, .identity = keys.public_key };
	struct buf tcp;

	if (identity_load (&who, p->identity, NULL) == 0 && who.known)
		id_text (&who.id, id);
	keys_read (&keys, p->key, NULL);
	explicit_bzero (keys.secret_key, sizeof (keys.secret_key));
	buf_init (&tcp, 65536);
	if (over_tcp) {
		addresses_offer (c, "PORT", &tcp);
		a.address = (const char *) tcp.data;
	}
	for (unsigned i = 0; i < nodes; i++)
		argvs[i] = agent_argv (&a, "b1", i, nodes);
	use (&b, arg);
	for (unsigned i = 0; i < nodes; i++) {
		for (size_t k = 0; argvs[i][k]; k++)
			free (argvs[i][k]);
		free (argvs[i]);
	}
	free (argvs);
	free (ipc);
	free (key_file);
	buf_fini (&tcp);
}

static void render (const struct provider_block *b, void *arg)
{
	const struct config *c = arg;
	struct buf out;

	buf_init (&out, 64 << 20);
	config_provider (c)->describe (config_of_provider (c, config_provider (c)), b, &out);
	fwrite (out.data, 1, out.len, stdout);
	buf_fini (&out);
}

int cmd_render (void *opts, int argc, char **argv)
{
	const struct cmd_render *o = opts;
	struct paths p;
	struct config *c;
	int rc = cmd_open (&p, argc, argv);

	if (rc)
		return rc;
	if ((c = cmd_config (&p, o->set.v)))
		cmd_block (&p, c, render, c);
	rc = c ? 0 : 1;
	config_free (&c);
	paths_fini (&p);
	return rc;
}
