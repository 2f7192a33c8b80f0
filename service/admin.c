/* SPDX-License-Identifier: Apache-2.0 */
#include "service/admin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/conf.h"
#include "service/auth.h"
#include "service/config.h"
#include "service/registry/registry.h"

#define INSTALLED "/etc/weft/service.yaml"

const char *admin_config_path (const char *given)
{
	return conf_path (given, INSTALLED);
}

int admin_config (const char *path, const struct cli_strings *sets, struct config *out)
{
	struct buf report;
	struct err err;
	int rc;

	buf_init (&report, 1 << 20);
	rc = config_load (admin_config_path (path), sets->v, out, &report, &err);
	if (rc < 0)
		conf_say_problems ("weft-service", &report, &err, stderr);
	buf_fini (&report);
	return rc;
}

static int complain (const struct err *err)
{
	fprintf (stderr, "weft-service: %s\n", err->text);
	return 1;
}

static struct registry *open_registry (const struct admin_opts *o)
{
	struct config c;
	struct registry *r = NULL;
	struct err err;

	if (admin_config (o->config, &o->sets, &c) < 0)
		return NULL;
	if (registry_open (&r, c.registry_path, c.registry_busy_ms, &err) < 0) {
		complain (&err);
		if (!admin_config_path (o->config))
			fprintf (stderr, "There is no " INSTALLED ", so the defaults hold. Name the service's configuration with "
				 "--config FILE; 'weft-service print-config' prints one to begin with.\n"
				 "The token of a fabric that 'weft up' has started is in the directory of its state: ~/.weft/up/token.\n");
	}
	config_free (&c);
	return r;
}

int admin_token_create (void *opts, int argc, char **argv)
{
	struct admin_opts *o = opts;
	struct registry *r;
	struct reg_user u;
	struct id id;
	uint8_t hash[REG_HASH_BYTES];
	struct err err;
	int scopes = auth_scopes_parse (o->scopes ? o->scopes : "all"), status = 0;
	char *token, t[ID_TEXT];
	int64_t expires = o->expires_ms ? clock_real_ns () / 1000000 + o->expires_ms : 0;

	(void) argc;
	(void) argv;
	if (scopes < 0) {
		fprintf (stderr, "weft-service: --scopes: read, submit, register or all are expected, separated by commas\n");
		return 2;
	}
	if (!o->user) {
		fprintf (stderr, "weft-service: --user NAME is needed\n");
		return 2;
	}
	if (!(r = open_registry (o)))
		return 1;
	token = auth_new_token (hash);
	id_new (&id);
	if (registry_user_find (r, o->user, &u, &err) < 0) {
		status = complain (&err);
		if (err.code == ERR_NOT_FOUND)
			fprintf (stderr, "Make it with: weft-service user add %s\n", o->user);
	} else if (registry_token_add (r, &u.id, hash, (uint32_t) scopes, o->label, expires, &id, &err) < 0)
		status = complain (&err);
	else {
		fprintf (stderr, "token %s for %s; it is shown only now:\n", id_text (&id, t), u.name);
		printf ("%s\n", token);
	}
	explicit_bzero (token, strlen (token));
	free (token);
	registry_close (&r);
	return status;
}

int admin_token_list (void *opts, int argc, char **argv)
{
	struct admin_opts *o = opts;
	struct registry *r = open_registry (o);
	struct reg_token *rows;
	struct reg_user u;
	struct err err;
	size_t n;
	int status = 1;

	(void) argc;
	(void) argv;
	if (!r)
		return 1;
	if ((o->user && registry_user_find (r, o->user, &u, &err) < 0) || registry_tokens (r, o->user ? &u.id : NULL, &rows, &n, &err) < 0) {
		complain (&err);
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		char t[ID_TEXT], scopes[32], when[32], until[32];
		printf ("%s  %-16s  %-20s  %s  %s  %s\n", id_text (&rows[i].id, t), rows[i].user.name, auth_scopes_text (rows[i].scopes, scopes),
			clock_iso (rows[i].created_ms * 1000000, when),
			rows[i].expires_ms ? clock_iso (rows[i].expires_ms * 1000000, until) : "never expires", rows[i].label);
	}
	free (rows);
	status = 0;
out:
	registry_close (&r);
	return status;
}

int admin_token_revoke (void *opts, int argc, char **argv)
{
	struct registry *r;
	struct id id;
	struct err err;
	int status = 0;

	(void) argc;
	if (id_parse (&id, argv[0], strlen (argv[0])) < 0) {
		fprintf (stderr, "weft-service: '%s' is not a token's id; 'weft-service token list' shows them\n", argv[0]);
		return 2;
	}
	if (!(r = open_registry (opts)))
		return 1;
	if (registry_token_revoke (r, &id, &err) < 0)
		status = complain (&err);
	registry_close (&r);
	return status;
}

int admin_user_add (void *opts, int argc, char **argv)
{
	struct registry *r = open_registry (opts);
	struct reg_user u;
	struct err err;
	char t[ID_TEXT];
	int status = 0;

	(void) argc;
	if (!r)
		return 1;
	if (registry_user_add (r, argv[0], &u, &err) < 0) {
		if (err.code == ERR_CONFLICT)
			err_set (&err, ERR_CONFLICT, FAULT_USER, "user '%.64s' exists", argv[0]);
		status = complain (&err);
	} else
		printf ("%s  %s\n", id_text (&u.id, t), u.name);
	registry_close (&r);
	return status;
}

int admin_user_list (void *opts, int argc, char **argv)
{
	struct registry *r = open_registry (opts);
	struct reg_user *rows;
	struct err err;
	size_t n;
	int status = 0;
	char t[ID_TEXT];

	(void) argc;
	(void) argv;
	if (!r)
		return 1;
	if (registry_users (r, &rows, &n, &err) < 0)
		status = complain (&err);
	else {
		for (size_t i = 0; i < n; i++)
			printf ("%s  %s\n", id_text (&rows[i].id, t), rows[i].name);
		free (rows);
	}
	registry_close (&r);
	return status;
}
