/* SPDX-License-Identifier: Apache-2.0 */
/* list, status, logs. */
#include "common/xmem.h"
#include "endpoint/cmd.h"
#include "endpoint/control.h"
#include "endpoint/logtail.h"
#include "endpoint/service.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *ask (const struct paths *p)
{
	struct identity who;
	char id[ID_TEXT] = "";
	json_t *st = paths_running (p) ? control_call (p->control, "status", NULL, 3000, NULL) : NULL;

	if (st)
		return st;
	if (identity_load (&who, p->identity, NULL) == 0 && who.known)
		id_text (&who.id, id);
	return json_pack ("{s:s, s:s, s:s, s:b}", "name", p->name, "endpoint_id", id, "state", paths_running (p) ? "starting" : "stopped",
			  "connected", 0);
}

/* ---- list --------------------------------------------------------------------------------------------------- */

static int compare (const void *a, const void *b)
{
	return strcmp (*(char *const *) a, *(char *const *) b);
}

static char **names_of (const char *root, size_t *n)
{
	DIR *d = opendir (root);
	struct dirent *e;
	char **v = NULL;

	*n = 0;
	while (d && (e = readdir (d))) {
		struct paths p;
		if (e->d_name[0] == '.' || paths_init (&p, e->d_name, NULL) < 0)
			continue;
		if (paths_exist (&p)) {
			v = xrealloc (v, (*n + 1) * sizeof (*v));
			v[(*n)++] = xstrdup (e->d_name);
		}
		paths_fini (&p);
	}
	if (d)
		closedir (d);
	if (*n)
		qsort (v, *n, sizeof (*v), compare);
	return v;
}

static void print_row (const json_t *st)
{
	const char *id = cmd_text (st, "endpoint_id");

	printf ("%-20s %-12s %-36s %8" PRId64 " %8" PRId64 "\n", cmd_text (st, "name"), cmd_text (st, "state"), *id ? id : "-",
		cmd_int (st, "queue", "waiting") + cmd_int (st, "queue", "held"), cmd_int (st, "queue", "running"));
}

int cmd_list (void *opts, int argc, char **argv)
{
	const struct cmd_status *o = opts;
	struct err err;
	char *root = paths_root (&err), **names;
	json_t *all = json_array ();
	size_t n;

	(void) argc;
	(void) argv;
	if (!root) {
		json_decref (all);
		return cmd_fail (&err);
	}
	names = names_of (root, &n);
	for (size_t i = 0; i < n; i++) {
		struct paths p;
		if (paths_init (&p, names[i], NULL) == 0) {
			json_array_append_new (all, ask (&p));
			paths_fini (&p);
		}
		free (names[i]);
	}
	free (names);
	if (o->json) {
		json_dumpf (all, stdout, JSON_INDENT (2));
		putchar ('\n');
	} else if (!n) {
		printf ("No endpoints in %s; make one with: weft-endpoint configure\n", root);
	} else {
		printf ("%-20s %-12s %-36s %8s %8s\n", "NAME", "STATE", "ID", "WAITING", "RUNNING");
		for (size_t i = 0; i < json_array_size (all); i++)
			print_row (json_array_get (all, i));
	}
	json_decref (all);
	free (root);
	return 0;
}

/* ---- status ------------------------------------------------------------------------------------------------- */

static void line (const char *key, const char *value)
{
	if (*value)
		printf ("%-12s %s\n", key, value);
}

static void print_containers (const json_t *managers)
{
	size_t i, k;
	json_t *m, *c;

	json_array_foreach (managers, i, m)
		json_array_foreach (json_object_get (m, "containers"), k, c)
			printf ("%-12s %s on %s: %s for %" PRId64 " s%s%s\n", "container", cmd_text (c, "image"), cmd_text (m, "node"), cmd_text (c, "state"),
				cmd_int (c, "age_ms", NULL) / 1000, *cmd_text (c, "error") ? ": " : "", cmd_text (c, "error"));
}

static void print_status (const json_t *st)
{
	const json_t *managers = json_object_get (st, "managers"), *blocks = json_object_get (st, "blocks");
	const json_t *list = json_object_get (blocks, "list");
	const char *spool_error = cmd_text (json_object_get (st, "spool"), "error");

	line ("name", cmd_text (st, "name"));
	line ("state", cmd_text (st, "state"));
	line ("id", cmd_text (st, "endpoint_id"));
	if (!json_object_get (st, "queue"))
		return;
	printf ("%-12s %" PRId64 "\n", "pid", cmd_int (st, "pid", NULL));
	line ("service", cmd_text (st, "service_url"));
	line ("forwarder", cmd_text (st, "forwarder_address"));
	line ("connected", json_is_true (json_object_get (st, "connected")) ? cmd_text (st, "connected_since") : "no");
	printf ("%-12s %" PRId64 " waiting, %" PRId64 " held, %" PRId64 " with managers; %" PRId64 " accepted at most\n", "queue",
		cmd_int (st, "queue", "waiting"), cmd_int (st, "queue", "held"), cmd_int (st, "queue", "running"),
		cmd_int (st, "queue", "window"));
	printf ("%-12s %" PRId64 " received, %" PRId64 " done, %" PRId64 " lost, %" PRId64 " given back\n", "tasks",
		cmd_int (st, "tasks", "received"), cmd_int (st, "tasks", "done"), cmd_int (st, "tasks", "lost"),
		cmd_int (st, "tasks", "returned"));
	printf ("%-12s %" PRId64 ", %" PRId64 " free\n", "slots", cmd_int (st, "slots", "total"), cmd_int (st, "slots", "free"));
	printf ("%-12s %" PRId64 " (%s): %" PRId64 " up, %" PRId64 " pending; %" PRId64 " started, %" PRId64 " failed\n", "blocks",
		cmd_int (st, "blocks", "active"), cmd_text (st, "provider"), cmd_int (st, "blocks", "up"), cmd_int (st, "blocks", "pending"),
		cmd_int (st, "blocks", "started"), cmd_int (st, "blocks", "failed"));
	for (size_t i = 0; i < json_array_size (list); i++) {
		const json_t *b = json_array_get (list, i);
		const char *job = cmd_text (b, "job"), *said = cmd_text (b, "text"), *image = cmd_text (b, "image");
		if (*job || *said)
			printf ("  %-20s %s%s%s%s%s%s%s\n", cmd_text (b, "id"), cmd_text (b, "state"), *image ? ", image " : "", image, *job ? ", " : "", job,
				*said ? ": " : "", said);
	}
	for (size_t i = 0; i < json_array_size (managers); i++) {
		const json_t *m = json_array_get (managers, i);
		printf ("  %-20s block %s, pid %" PRId64 ", %" PRId64 " tasks on %" PRId64 " slots, %" PRId64 " done\n", cmd_text (m, "node"),
			cmd_text (m, "block"), cmd_int (m, "pid", NULL), cmd_int (m, "tasks", NULL), cmd_int (m, "slots", NULL),
			cmd_int (m, "done", NULL));
	}
	print_containers (managers);
	printf ("%-12s %" PRId64 " results not acknowledged, %" PRId64 " of them not on disk, %" PRId64 " bytes\n", "spool",
		cmd_int (st, "spool", "results"), cmd_int (st, "spool", "unspooled"), cmd_int (st, "spool", "disk_bytes"));
	if (cmd_int (st, "memo", "entries"))
		printf ("%-12s %" PRId64 " results kept, %" PRId64 " bytes; %" PRId64 " tasks answered with one, %" PRId64 " left for room\n", "memo",
			cmd_int (st, "memo", "entries"), cmd_int (st, "memo", "disk_bytes"), cmd_int (st, "memo", "answered"),
			cmd_int (st, "memo", "evicted"));
	line ("spool error", spool_error);
	line ("scheduler", cmd_text (blocks, "scheduler"));
	line ("block error", cmd_text (blocks, "error"));
	line ("error", cmd_text (st, "error"));
}

int cmd_status (void *opts, int argc, char **argv)
{
	const struct cmd_status *o = opts;
	struct paths p;
	json_t *st;
	int rc = cmd_open (&p, argc, argv);

	if (rc)
		return rc;
	st = ask (&p);
	if (o->json) {
		json_dumpf (st, stdout, JSON_INDENT (2));
		putchar ('\n');
	} else {
		print_status (st);
	}
	/* for scripts: 0 connected, 3 not (as service managers have it for "not running") */
	rc = json_is_true (json_object_get (st, "connected")) ? 0 : 3;
	json_decref (st);
	paths_fini (&p);
	return rc;
}

/* ---- logs --------------------------------------------------------------------------------------------------- */

static void show_blocks (const struct paths *p, int lines)
{
	DIR *d = opendir (p->logs);
	struct dirent *e;

	while (d && (e = readdir (d)))
		if (strncmp (e->d_name, "block-", 6) == 0 && strcmp (e->d_name + strlen (e->d_name) - 4, ".log") == 0) {
			char *path = xasprintf ("%s/%s", p->logs, e->d_name);
			printf ("==> %s <==\n", path);
			logtail_print (path, lines, stdout);
			free (path);
		}
	if (d)
		closedir (d);
}

int cmd_logs (void *opts, int argc, char **argv)
{
	const struct cmd_logs *o = opts;
	int lines = o->lines ? (int) o->lines : 50;
	struct paths p;
	long at;
	int rc = cmd_open (&p, argc, argv);

	if (rc)
		return rc;
	at = logtail_print (p.log, lines, stdout);
	if (at < 0 && !o->follow) {
		fprintf (stderr, "weft-endpoint: %s: %s\n", p.log, strerror (errno));
		rc = 1;
	}
	if (o->blocks)
		show_blocks (&p, lines);
	for (at = at < 0 ? 0 : at; o->follow && !ferror (stdout);) {
		fflush (stdout);
		cmd_sleep_ms (200);
		at = logtail_more (p.log, at, stdout);
	}
	paths_fini (&p);
	return rc;
}
