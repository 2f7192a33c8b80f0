/* SPDX-License-Identifier: Apache-2.0 */
/* YAML to a config struct, driven by a table.
 *
 * libyaml resolves aliases to the same node, so a node met twice is an alias: refused, which also ends alias bombs and
 * cycles. Every problem is collected; nothing is kept from a text that has one. */
#include "common/conf_internal.h"
#include "common/suggest.h"
#include "common/xmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	TEXT_MAX = 1 << 20,	/* bytes of a config file */
	KEY_MAX = 256,		/* characters of a dotted key */
	PROBLEMS_MAX = 50,	/* reported; further ones are counted */
};

const char *conf_path (const char *given, const char *installed)
{
	return given ? given : access (installed, F_OK) == 0 ? installed : NULL;
}

void conf_say_problems (const char *prog, const struct buf *report, const struct err *err, FILE *to)
{
	const char *p = report->len ? (const char *) report->data : err->text;

	for (size_t n; (n = strcspn (p, "\n")); p += n + (p[n] == '\n'))
		fprintf (to, "%s: %.*s\n", prog, (int) n, p);
}

void conf_problem (struct conf_load *ld, size_t line, const char *key, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	if (ld->problems++ >= PROBLEMS_MAX)
		return;
	va_start (ap, fmt);
	vsnprintf (text, sizeof (text), fmt, ap);
	va_end (ap);
	/* a key or value from the file may hold line ends; a report is one line a problem */
	for (char *p = text; *p; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = ' ';
	buf_str (&ld->report, ld->name);
	if (line)
		buf_printf (&ld->report, ":%zu", line);
	if (key && *key) {
		buf_str (&ld->report, ": ");
		for (const char *p = key; *p; p++)
			buf_char (&ld->report, (unsigned char) *p < ' ' || *p == 0x7f ? ' ' : *p);
	}
	buf_printf (&ld->report, ": %s\n", text);
}

/* ---- the tree ----------------------------------------------------------------------------------------------- */

static const struct conf_key *find_key (const struct conf_key *table, const char *key)
{
	for (; table->key; table++)
		if (strcmp (table->key, key) == 0)
			return table;
	return NULL;
}

static bool is_section (const struct conf_key *table, const char *key)
{
	size_t n = strlen (key);

	for (; table->key; table++)
		if (strncmp (table->key, key, n) == 0 && table->key[n] == '.')
			return true;
	return false;
}

static void unknown_key (struct conf_load *ld, size_t line, const char *key)
{
	struct suggest s = { key, NULL, 0 };
	char section[KEY_MAX];

	for (const struct conf_key *k = ld->table; k->key; k++) {
		suggest_offer (&s, k->key);
		for (size_t i = 0; i < sizeof (section) && k->key[i]; i++)
			if (k->key[i] == '.') {
				section[i] = 0;
				/* the candidate must outlive the call: only when it is nearer, take the full key */
				if (suggest_distance (key, section) <= 1 + (int) (i / 4) && !s.best) {
					conf_problem (ld, line, key, "unknown section; did you mean \"%s\"?", section);
					return;
				}
				section[i] = '.';
			} else
				section[i] = k->key[i];
	}
	/* the right name in the wrong section is a common slip */
	const char *last = strrchr (key, '.');
	for (const struct conf_key *k = ld->table; k->key && !s.best; k++) {
		const char *mine = strrchr (k->key, '.');
		if (strcmp (mine ? mine + 1 : k->key, last ? last + 1 : key) == 0)
			s.best = k->key;
	}
	if (s.best)
		conf_problem (ld, line, key, "unknown key; did you mean \"%s\"?", s.best);
	else
		conf_problem (ld, line, key, "unknown key");
}

static void walk (struct conf_load *ld, const yaml_node_t *map, const char *prefix);

static void walk_pair (struct conf_load *ld, const yaml_node_pair_t *it, const yaml_node_t *map, const char *prefix)
{
	char path[KEY_MAX];
	yaml_node_t *kn = conf_node_get (ld, it->key, prefix), *vn;
	const char *name = kn ? conf_node_string (ld, kn, prefix) : NULL;
	const struct conf_key *k;
	size_t line;

	if (!name)
		return;
	line = kn->start_mark.line + 1;
	if ((size_t) snprintf (path, sizeof (path), "%s%s%s", prefix, *prefix ? "." : "", name) >= sizeof (path)) {
		conf_problem (ld, line, prefix, "a key of more than %d characters", KEY_MAX - 1);
		return;
	}
	for (const yaml_node_pair_t *b = map->data.mapping.pairs.start; b < it; b++) {
		yaml_node_t *bn = yaml_document_get_node (ld->doc, b->key);
		if (bn && bn->type == YAML_SCALAR_NODE && strcmp ((char *) bn->data.scalar.value, name) == 0) {
			conf_problem (ld, line, path, "given twice, first on line %zu", bn->start_mark.line + 1);
			return;
		}
	}
	if (!(vn = conf_node_get (ld, it->value, path)))
		return;
	/* a literal dot in a name would reach a nested key by the back door */
	k = strchr (name, '.') ? NULL : find_key (ld->table, path);
	if (k) {
		ld->seen[k - ld->table] = !conf_node_is_null (vn);
		conf_set_node (ld, k, vn);
	} else if (!strchr (name, '.') && is_section (ld->table, path)) {
		if (vn->type == YAML_MAPPING_NODE)
			walk (ld, vn, path);
		else if (!conf_node_is_null (vn))
			conf_problem (ld, vn->start_mark.line + 1, path, "expected a section (nested keys)");
	} else
		unknown_key (ld, line, path);
}

static void walk (struct conf_load *ld, const yaml_node_t *map, const char *prefix)
{
	for (yaml_node_pair_t *it = map->data.mapping.pairs.start; it < map->data.mapping.pairs.top; it++) {
		if (ld->problems > PROBLEMS_MAX)
			return;
		walk_pair (ld, it, map, prefix);
	}
}

static void yaml_problem (struct conf_load *ld, const yaml_parser_t *yp)
{
	size_t line = yp->problem_mark.line + 1;

	if (yp->error == YAML_MEMORY_ERROR)
		conf_problem (ld, 0, NULL, "out of memory");
	else if (yp->error == YAML_READER_ERROR)
		conf_problem (ld, 0, NULL, "not UTF-8 text: %s at byte %zu", yp->problem, yp->problem_offset);
	else
		conf_problem (ld, line, NULL, "%s%s%s", yp->context ? yp->context : "", yp->context ? ": " : "",
			 yp->problem ? yp->problem : "not YAML");
}

/* Run `use` on the root node of a text that is one YAML document. */
static void with_document (struct conf_load *ld, const char *text, size_t n, const struct conf_key *k,
			   void (*use) (struct conf_load *ld, const struct conf_key *k, yaml_node_t *root))
{
	yaml_parser_t yp;
	yaml_document_t doc, second;
	yaml_node_t *root;

	if (!yaml_parser_initialize (&yp)) {
		conf_problem (ld, 0, NULL, "out of memory");
		return;
	}
	yaml_parser_set_input_string (&yp, (const unsigned char *) text, n);
	yaml_parser_set_encoding (&yp, YAML_UTF8_ENCODING);
	if (!yaml_parser_load (&yp, &doc)) {
		yaml_problem (ld, &yp);
		yaml_parser_delete (&yp);
		return;
	}
	ld->doc = &doc;
	ld->visited = calloc ((size_t) (doc.nodes.top - doc.nodes.start) + 1, sizeof (*ld->visited));
	if (!ld->visited)
		conf_problem (ld, 0, NULL, "out of memory");
	else if ((root = yaml_document_get_root_node (&doc))) {
		use (ld, k, root);
		if (!yaml_parser_load (&yp, &second))
			yaml_problem (ld, &yp);
		else {
			if ((root = yaml_document_get_root_node (&second)))
				conf_problem (ld, root->start_mark.line + 1, NULL, "more than one YAML document");
			yaml_document_delete (&second);
		}
	}
	free (ld->visited);
	ld->visited = NULL;
	ld->doc = NULL;
	yaml_document_delete (&doc);
	yaml_parser_delete (&yp);
}

static void use_root (struct conf_load *ld, const struct conf_key *k, yaml_node_t *root)
{
	(void) k;
	if (root->type == YAML_MAPPING_NODE)
		walk (ld, root, "");
	else if (!conf_node_is_null (root))
		conf_problem (ld, root->start_mark.line + 1, NULL, "expected \"key: value\" lines");
}

static void use_value (struct conf_load *ld, const struct conf_key *k, yaml_node_t *root)
{
	conf_set_node (ld, k, root);
}

static void apply_defaults (struct conf_load *ld)
{
	const char *name = ld->name;

	ld->name = "default";
	for (const struct conf_key *k = ld->table; k->key; k++) {
		if (!k->def)
			continue;
		if (conf_is_list (k) || *k->def == '"' || *k->def == '\'')
			with_document (ld, k->def, strlen (k->def), k, use_value);
		else
			conf_set_scalar (ld, k, 0, k->def);
	}
	ld->name = name;
}

/* "key=value"; lists and maps in YAML's flow form, or bare for one item of a list. */
static void apply_override (struct conf_load *ld, const char *text)
{
	char key[KEY_MAX];
	const char *eq = strchr (text, '=');
	const struct conf_key *k;

	if (!eq || eq == text || (size_t) (eq - text) >= sizeof (key)) {
		conf_problem (ld, 0, NULL, "expected key=value, got \"%.100s\"", text);
		return;
	}
	memcpy (key, text, (size_t) (eq - text));
	key[eq - text] = 0;
	if (!(k = find_key (ld->table, key))) {
		unknown_key (ld, 0, key);
		return;
	}
	ld->seen[k - ld->table] = true;
	if (k->type == CONF_STRING_LIST && eq[1] && eq[1] != '[') {
		struct conf_list *l = (struct conf_list *) (ld->out + k->offset);
		if (conf_check_length (ld, k, 0, eq + 1) == 0) {
			conf_list_clear (l);
			conf_list_push (l, eq + 1);
		}
	} else if (conf_is_list (k) && (k->type != CONF_STRING_OR_MAP || eq[1] == '{'))
		with_document (ld, eq + 1, strlen (eq + 1), k, use_value);
	else
		conf_set_scalar (ld, k, 0, eq + 1);
}

static void clear_values (const struct conf_key *table, char *out, bool all)
{
	for (const struct conf_key *k = table; k->key; k++) {
		if (k->type == CONF_STRING || k->type == CONF_PATH || k->type == CONF_SECRET_FILE) {
			free (*(char **) (out + k->offset));
			*(char **) (out + k->offset) = NULL;
		} else if (conf_is_list (k))
			conf_list_clear ((struct conf_list *) (out + k->offset));
		else if (all && k->type == CONF_BOOL)
			*(bool *) (out + k->offset) = false;
		else if (all && k->type == CONF_DOUBLE)
			*(double *) (void *) (out + k->offset) = 0;
		else if (all)
			*(int64_t *) (out + k->offset) = 0;
	}
}

/* The struct's size is not known here: each field of the table is zeroed, without freeing what garbage may stand there. */
static void zero_fields (const struct conf_key *table, char *out)
{
	for (const struct conf_key *k = table; k->key; k++) {
		size_t n = k->type == CONF_BOOL ? sizeof (bool) : conf_is_list (k) ? sizeof (struct conf_list)
			 : k->type == CONF_STRING || k->type == CONF_PATH || k->type == CONF_SECRET_FILE ? sizeof (char *)
			 : sizeof (int64_t);
		memset (out + k->offset, 0, n);
	}
}

void conf_free (const struct conf_key *table, void *out)
{
	if (out)
		clear_values (table, out, false);
}

static void check_required (struct conf_load *ld)
{
	for (const struct conf_key *k = ld->table; k->key; k++)
		if (k->required && !k->def && !ld->seen[k - ld->table])
			conf_problem (ld, 0, k->key, "required, but not given");
}

static int finish (struct conf_load *ld, struct buf *report, struct err *err)
{
	const char *text = ld->report.data ? (const char *) ld->report.data : "";
	int first = (int) strcspn (text, "\n"), n = ld->problems;

	free (ld->seen);
	if (n) {
		clear_values (ld->table, ld->out, true);
		if (n > PROBLEMS_MAX)
			buf_printf (&ld->report, "%s: and %d more problems\n", ld->name, n - PROBLEMS_MAX);
		text = ld->report.data ? (const char *) ld->report.data : "";
		if (report)
			buf_add (report, text, ld->report.len);
		if (n == 1)
			err_set (err, ERR_INVALID, FAULT_USER, "%.*s", first, text);
		else
			err_set (err, ERR_INVALID, FAULT_USER, "%.*s (and %d more)", first > 300 ? 300 : first, text, n - 1);
	}
	buf_fini (&ld->report);
	return n ? -1 : 0;
}

int conf_load_text (const struct conf_key *table, const char *name, const char *text, size_t n,
		    const char *const *overrides, void *out, struct buf *report, struct err *err)
{
	struct conf_load ld = { .table = table, .name = name ? name : "config", .out = out };
	size_t rows = 0;

	while (table[rows].key)
		rows++;
	buf_init (&ld.report, 1 << 20);
	ld.seen = xcalloc (rows + 1, sizeof (*ld.seen));
	zero_fields (table, out);
	apply_defaults (&ld);
	if (n > TEXT_MAX)
		conf_problem (&ld, 0, NULL, "larger than %d bytes", TEXT_MAX);
	else if (n)
		with_document (&ld, text, n, NULL, use_root);
	name = ld.name;
	ld.name = "command line";
	for (; overrides && *overrides; overrides++)
		apply_override (&ld, *overrides);
	ld.name = name;
	check_required (&ld);
	return finish (&ld, report, err);
}

/* Owned, NUL-terminated; NULL with *err. */
static char *read_text (const char *path, size_t *len, struct err *err)
{
	int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char *text = NULL;
	ssize_t n;

	*len = 0;
	if (fd < 0) {
		err_errno (err, "opening %s", path);
		return NULL;
	}
	if (!(text = malloc (TEXT_MAX + 2)))
		goto fail;
	while (*len <= TEXT_MAX && (n = read (fd, text + *len, TEXT_MAX + 1 - *len)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			goto fail;
		*len += (size_t) n;
	}
	text[*len] = 0;
	close (fd);
	return text;
fail:
	err_errno (err, "reading %s", path);
	free (text);
	close (fd);
	return NULL;
}

int conf_load (const struct conf_key *table, const char *path, const char *const *overrides, void *out,
	       struct buf *report, struct err *err)
{
	struct err local;
	char *text = NULL;
	size_t n = 0;
	int rc;

	if (!err)
		err = &local;
	if (path && !(text = read_text (path, &n, err))) {
		zero_fields (table, out);
		if (report)
			buf_printf (report, "%s\n", err->text);
		return -1;
	}
	rc = conf_load_text (table, path ? path : "defaults", text, n, overrides, out, report, err);
	free (text);
	return rc;
}
