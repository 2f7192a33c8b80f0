/* SPDX-License-Identifier: Apache-2.0 */
/* See takeover.h. */
#include "endpoint/takeover.h"
#include "common/xmem.h"
#include "endpoint/paths.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 16 << 20, NODES_MAX = 10000 };

static int copy (const json_t *o, const char *key, char *out, size_t room)
{
	const char *s = json_string_value (json_object_get (o, key));

	if (!s || !*s || strlen (s) >= room)
		return -1;
	memcpy (out, s, strlen (s) + 1);
	return 0;
}

static int read_block (const json_t *o, uint64_t last, struct takeover_block *b)
{
	json_int_t nodes = json_integer_value (json_object_get (o, "nodes"));
	const char *digits = b->id + 1;

	if (copy (o, "id", b->id, sizeof (b->id)) < 0 || copy (o, "job", b->job, sizeof (b->job)) < 0
	    || copy (o, "name", b->name, sizeof (b->name)) < 0 || nodes < 1 || nodes > NODES_MAX)
		return -1;
	b->nodes = (unsigned) nodes;
	return b->id[0] == 'b' && *digits && !digits[strspn (digits, "0123456789")] && strtoull (digits, NULL, 10) <= last ? 0 : -1;
}

static int fill (struct takeover *t, const json_t *o)
{
	json_t *blocks = json_object_get (o, "blocks"), *one;
	json_int_t port = json_integer_value (json_object_get (o, "port")), number = json_integer_value (json_object_get (o, "number"));
	size_t i;

	if (copy (o, "usable", t->usable, sizeof (t->usable)) < 0 || port < 1 || port > 65535 || number < 0
	    || json_array_size (blocks) > TAKEOVER_BLOCKS_MAX)
		return -1;
	t->port = (int) port;
	t->number = (uint64_t) number;
	t->v = xcalloc (json_array_size (blocks) + 1, sizeof (*t->v));
	json_array_foreach (blocks, i, one)
		if (read_block (one, t->number, &t->v[t->n]) < 0)
			return -1;
		else
			t->n++;
	return 0;
}

int takeover_parse (const char *text, struct takeover *t)
{
	json_t *o = json_loads (text, JSON_REJECT_DUPLICATES, NULL);
	int rc;

	memset (t, 0, sizeof (*t));
	rc = json_is_object (o) ? fill (t, o) : -1;
	json_decref (o);
	if (rc < 0)
		takeover_fini (t);
	return rc;
}

int takeover_read (const char *path, struct takeover *t, struct err *err)
{
	char *text;
	struct stat st;
	int rc;

	memset (t, 0, sizeof (*t));
	if (lstat (path, &st) < 0)
		return err_set (err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INTERNAL, FAULT_SITE, "%s: %s", path, strerror (errno));
	if (!S_ISREG (st.st_mode) || st.st_uid != geteuid () || (st.st_mode & 022))
		return err_set (err, ERR_FORBIDDEN, FAULT_SITE, "%s is not a file that only we write", path);
	if (!(text = paths_read (path, FILE_MAX, NULL, err)))
		return -1;
	rc = takeover_parse (text, t);
	free (text);
	return rc < 0 ? err_set (err, ERR_INVALID, FAULT_SITE, "%s is damaged", path) : 0;
}

char *takeover_text (const struct takeover *t)
{
	json_t *blocks = json_array (), *o;
	char *text;

	for (size_t i = 0; i < t->n; i++)
		json_array_append_new (blocks, json_pack ("{s:s, s:s, s:s, s:I}", "id", t->v[i].id, "job", t->v[i].job, "name", t->v[i].name,
							  "nodes", (json_int_t) t->v[i].nodes));
	o = json_pack ("{s:s, s:i, s:I, s:o}", "usable", t->usable, "port", t->port, "number", (json_int_t) t->number, "blocks", blocks);
	text = o ? json_dumps (o, JSON_INDENT (1)) : NULL;
	json_decref (o);
	return text;
}

void takeover_fini (struct takeover *t)
{
	free (t->v);
	memset (t, 0, sizeof (*t));
}
