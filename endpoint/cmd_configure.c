/* SPDX-License-Identifier: Apache-2.0 */
/* configure, check-config: the directory of an endpoint, its configuration from the table, its key. */
#include "common/xmem.h"
#include "endpoint/cmd.h"
#include "endpoint/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char TITLE[] = "Configuration of a Weft endpoint, for weft-endpoint";

static char *example (void)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream (&text, &n);

	if (!f)
		return NULL;
	conf_print_example (config_table (), TITLE, f);
	fclose (f);
	return text;
}

/* In the example, "#key: default" of a section becomes "key: value". */
static char *set_value (char *text, const char *section, const char *key, const char *value)
{
	char *head = *section ? xasprintf ("\n%s:\n", section) : xstrdup ("\n");
	char *line = xasprintf ("\n%s#%s: ", *section ? "  " : "", key);
	char *at = strstr (text, head), *end, *out, *quoted;
	struct buf b;

	if (at && (at = strstr (at, line)) && (end = strchr (at + 1, '\n'))) {
		buf_init (&b, 8192);
		buf_json_string (&b, value, strlen (value));	/* a JSON string is a YAML one */
		quoted = strspn (value, "0123456789") == strlen (value) ? xstrdup (value) : xstrdup ((char *) b.data);
		out = xasprintf ("%.*s\n%s%s: %s%s", (int) (at - text), text, *section ? "  " : "", key, quoted, end);
		buf_fini (&b);
		free (quoted);
		free (text);
		text = out;
	}
	free (head);
	free (line);
	return text;
}

static char *absolute (const char *path)
{
	char *cwd, *out;

	if (*path == '/' || !(cwd = getcwd (NULL, 0)))
		return xstrdup (path);
	out = xasprintf ("%s/%s", cwd, path);
	free (cwd);
	return out;
}

static char *config_text (const struct cmd_configure *o, const struct paths *p)
{
	char *text = example (), *path, number[32];

	if (!text)
		return NULL;
	text = set_value (text, "", "display_name", o->display_name ? o->display_name : p->name);
	if (o->workers) {
		snprintf (number, sizeof (number), "%" PRId64, o->workers);
		text = set_value (text, "", "workers_per_node", number);
	}
	if (o->url)
		text = set_value (text, "service", "url", o->url);
	if (o->token_file) {
		path = absolute (o->token_file);
		text = set_value (text, "service", "token_file", path);
		free (path);
	}
	return text;
}

static int make_dirs (const struct paths *p, struct err *err)
{
	const char *const dirs[] = { p->root, p->dir, p->run, p->logs, p->spool };

	for (size_t i = 0; i < sizeof (dirs) / sizeof (dirs[0]); i++)
		if (paths_make_private (dirs[i], err) < 0)
			return -1;
	return 0;
}

static int make_key (const struct paths *p, struct err *err)
{
	struct keys k;
	int rc;

	if (access (p->key, F_OK) == 0)
		return 0;	/* an endpoint keeps its identity */
	rc = keys_new (&k, err) < 0 ? -1 : keys_write (&k, p->key, err);
	explicit_bzero (&k, sizeof (k));
	return rc;
}

int cmd_configure (void *opts, int argc, char **argv)
{
	const struct cmd_configure *o = opts;
	struct paths p;
	struct err err;
	char *text = NULL;
	struct config *c = NULL;
	int rc = 1;

	if (paths_init (&p, argc > 0 ? argv[0] : NULL, &err) < 0)
		return cmd_fail (&err);
	if (paths_exist (&p)) {
		fprintf (stderr, "weft-endpoint: endpoint %s exists already; edit %s, or remove it with: weft-endpoint delete %s\n", p.name,
			 p.config, p.name);
	} else if (!(text = config_text (o, &p))) {
		fprintf (stderr, "weft-endpoint: no memory\n");
	} else if (make_dirs (&p, &err) < 0 || make_key (&p, &err) < 0 || paths_write (p.config, text, strlen (text), 0600, &err) < 0) {
		cmd_fail (&err);
	} else if (!(c = cmd_config (&p, NULL))) {
		unlink (p.config);	/* a wrong option, e.g. a token file that others can read */
	} else {
		printf ("Endpoint %s is configured: %s\nStart it with: weft-endpoint start %s\n", p.name, p.config, p.name);
		rc = 0;
	}
	config_free (&c);
	free (text);
	paths_fini (&p);
	return rc;
}

int cmd_print_config (void *opts, int argc, char **argv)
{
	(void) opts;
	(void) argc;
	(void) argv;
	conf_print_example (config_table (), TITLE, stdout);
	return 0;
}

int cmd_check (void *opts, int argc, char **argv)
{
	struct paths p;
	struct config *c;

	(void) opts;
	if (cmd_open (&p, argc, argv))
		return 1;
	c = cmd_config (&p, NULL);
	if (c)
		printf ("%s is valid.\n", p.config);
	paths_fini (&p);
	if (!c)
		return 1;
	config_free (&c);
	return 0;
}
