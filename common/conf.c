/* SPDX-License-Identifier: Apache-2.0 */
/* YAML to a config struct, driven by a table.
 *
 * libyaml resolves aliases to the same node, so a node met twice is an alias: refused, which also ends alias bombs and
 * cycles. Every problem is collected; nothing is kept from a text that has one. */
#include "common/conf.h"
#include "common/suggest.h"
#include "common/xmem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

enum {
	TEXT_MAX = 1 << 20,	/* bytes of a config file */
	KEY_MAX = 256,		/* characters of a dotted key */
	LIST_MAX = 10000,	/* items */
	STRING_MAX = 4096,	/* unless the table says otherwise */
	PROBLEMS_MAX = 50,	/* reported; further ones are counted */
};

struct load {
	const struct conf_key *table;
	const char *name;	/* of the file, or "command line" */
	char *out;
	struct buf report;
	int problems;
	bool *seen;		/* by row: set by the file */
	yaml_document_t *doc;
	bool *visited;		/* by node */
};

static void problem (struct load *ld, size_t line, const char *key, const char *fmt, ...)
	__attribute__ ((format (printf, 4, 5)));

static void problem (struct load *ld, size_t line, const char *key, const char *fmt, ...)
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

/* ---- scalars ------------------------------------------------------------------------------------------------ */

static bool in_range (const struct conf_key *k, double v)
{
	return (!k->min && !k->max) || (v >= (double) k->min && v <= (double) k->max);
}

static int set_number (struct load *ld, const struct conf_key *k, size_t line, const char *s)
{
	static const char *const what[] = {
		[CONF_INT] = "a whole number", [CONF_DURATION_MS] = "a duration such as 500ms, 30s, 10m, 2h or 7d",
		[CONF_SIZE] = "a size such as 64KiB, 10MiB or 1GiB",
		[CONF_WALLTIME_S] = "a time such as 30m, 2h, 01:30:00 or 1-12:00:00",
	};
	int64_t v = 0;
	int bad;
	char *end;

	if (k->type == CONF_INT) {
		errno = 0;
		v = strtoll (s, &end, 10);
		bad = errno || end == s || *end || !strchr ("-0123456789", *s);
	} else
		bad = k->type == CONF_SIZE ? conf_parse_size (s, &v) : k->type == CONF_WALLTIME_S ? conf_parse_walltime (s, &v)
											  : conf_parse_duration (s, &v);
	if (!bad && ((!k->min && !k->max) || (v >= k->min && v <= k->max))) {
		*(int64_t *) (ld->out + k->offset) = v;
		return 0;
	}
	if (!k->min && !k->max)
		problem (ld, line, k->key, "expected %s, got \"%.100s\"", what[k->type], s);
	else if (k->type == CONF_INT)
		problem (ld, line, k->key, "expected %lld..%lld, got \"%.100s\"", (long long) k->min, (long long) k->max, s);
	else if (bad)
		problem (ld, line, k->key, "expected %s, got \"%.100s\"", what[k->type], s);
	else
		problem (ld, line, k->key, "expected %lld..%lld %s, got \"%.100s\" (%lld)", (long long) k->min,
			 (long long) k->max, k->type == CONF_SIZE ? "bytes" : k->type == CONF_WALLTIME_S ? "seconds" : "ms", s, (long long) v);
	return -1;
}

static int set_double (struct load *ld, const struct conf_key *k, size_t line, const char *s)
{
	char *end;
	double v = strtod (s, &end);

	if (end == s || *end || !isfinite (v) || !strchr ("-.0123456789", *s) || strpbrk (s, "xX")) {
		problem (ld, line, k->key, "expected a number, got \"%.100s\"", s);
		return -1;
	}
	if (!in_range (k, v)) {
		problem (ld, line, k->key, "expected %lld..%lld, got \"%.100s\"", (long long) k->min, (long long) k->max, s);
		return -1;
	}
	*(double *) (ld->out + k->offset) = v;
	return 0;
}

static int set_bool (struct load *ld, const struct conf_key *k, size_t line, const char *s)
{
	static const char *const words[] = { "false", "true", "no", "yes", "off", "on" };

	for (size_t i = 0; i < sizeof (words) / sizeof (words[0]); i++)
		if (strcasecmp (s, words[i]) == 0) {
			*(bool *) (ld->out + k->offset) = i & 1;
			return 0;
		}
	problem (ld, line, k->key, "expected true or false, got \"%.100s\"", s);
	return -1;
}

static int set_enum (struct load *ld, const struct conf_key *k, size_t line, const char *s)
{
	size_t n = strlen (s);
	int64_t i = 0;

	for (const char *p = k->choices; p && *p && n; i++) {
		size_t w = strcspn (p, " ");
		if (w == n && memcmp (p, s, n) == 0) {
			*(int64_t *) (ld->out + k->offset) = i;
			return 0;
		}
		p += w;
		p += strspn (p, " ");
	}
	problem (ld, line, k->key, "expected one of: %s; got \"%.100s\"", k->choices ? k->choices : "", s);
	return -1;
}

static int check_length (struct load *ld, const struct conf_key *k, size_t line, const char *s)
{
	size_t most = k->max > 0 ? (size_t) k->max : STRING_MAX, n = strlen (s);

	if (n > most) {
		problem (ld, line, k->key, "expected at most %zu characters, got %zu", most, n);
		return -1;
	}
	if (k->min > 0 && n < (size_t) k->min) {
		problem (ld, line, k->key, "expected at least %lld characters, got %zu", (long long) k->min, n);
		return -1;
	}
	return 0;
}

/* A file that is not there is left to who reads it: some programs make their key at the first start. */
static int check_secret_file (struct load *ld, const struct conf_key *k, size_t line, const char *path)
{
	struct stat st;

	if (!*path || stat (path, &st) < 0 || !(st.st_mode & (S_IRWXG | S_IRWXO)))
		return 0;
	problem (ld, line, k->key, "secret file %.300s has mode %04o: others than its owner may use it; run chmod 600", path,
		 (unsigned) (st.st_mode & 07777));
	return -1;
}

/* "~/x" is what people write for files of theirs. */
static char *expand_home (const struct conf_key *k, const char *s)
{
	const char *home = getenv ("HOME");
	bool path = k->type == CONF_PATH || k->type == CONF_SECRET_FILE;

	return path && s[0] == '~' && s[1] == '/' && home && *home ? xasprintf ("%s%s", home, s + 1) : xstrdup (s);
}

static int set_string (struct load *ld, const struct conf_key *k, size_t line, const char *s)
{
	char **at = (char **) (ld->out + k->offset), *value;

	if (check_length (ld, k, line, s) < 0)
		return -1;
	value = expand_home (k, s);
	if (k->type == CONF_SECRET_FILE && check_secret_file (ld, k, line, value) < 0) {
		free (value);
		return -1;
	}
	free (*at);
	*at = value;
	return 0;
}

static int set_scalar (struct load *ld, const struct conf_key *k, size_t line, const char *s)
{
	switch (k->type) {
	case CONF_INT:
	case CONF_DURATION_MS:
	case CONF_SIZE:
	case CONF_WALLTIME_S:
		return set_number (ld, k, line, s);
	case CONF_DOUBLE:
		return set_double (ld, k, line, s);
	case CONF_BOOL:
		return set_bool (ld, k, line, s);
	case CONF_ENUM:
		return set_enum (ld, k, line, s);
	case CONF_STRING:
	case CONF_PATH:
	case CONF_SECRET_FILE:
		return set_string (ld, k, line, s);
	case CONF_STRING_LIST:
		problem (ld, line, k->key, "expected a list: [a, b] or lines of \"- a\"");
		return -1;
	case CONF_STRING_MAP:
		problem (ld, line, k->key, "expected a mapping of names to strings");
		return -1;
	}
	return -1;
}

/* ---- lists and maps ----------------------------------------------------------------------------------------- */

static bool is_list (const struct conf_key *k)
{
	return k->type == CONF_STRING_LIST || k->type == CONF_STRING_MAP;
}

static void list_clear (struct conf_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free (l->v[i]);
	free (l->v);
	l->v = NULL;
	l->n = 0;
}

static void list_push (struct conf_list *l, const char *s)
{
	if ((l->n & (l->n + 1)) == 0)	/* full at 0, 1, 3, 7, ... */
		l->v = xrealloc (l->v, (l->n * 2 + 2) * sizeof (*l->v));
	l->v[l->n++] = xstrdup (s);
}

static bool map_has (const struct conf_list *l, const char *key)
{
	for (size_t i = 0; i + 1 < l->n; i += 2)
		if (strcmp (l->v[i], key) == 0)
			return true;
	return false;
}

/* NULL, with the problem reported, when it is not a plain string. */
static const char *node_string (struct load *ld, const yaml_node_t *node, const char *key)
{
	if (node->type != YAML_SCALAR_NODE) {
		problem (ld, node->start_mark.line + 1, key, "expected a single value");
		return NULL;
	}
	if (strlen ((const char *) node->data.scalar.value) != node->data.scalar.length) {
		problem (ld, node->start_mark.line + 1, key, "the value holds a NUL character");
		return NULL;
	}
	return (const char *) node->data.scalar.value;
}

/* The node, unless an alias led to it a second time. */
static yaml_node_t *node_get (struct load *ld, int index, const char *key)
{
	yaml_node_t *node = yaml_document_get_node (ld->doc, index);

	if (!node)
		return NULL;
	if (ld->visited[index - 1]) {
		problem (ld, node->start_mark.line + 1, key, "aliases (*name) are not supported");
		return NULL;
	}
	ld->visited[index - 1] = true;
	if (node->tag && strncmp ((const char *) node->tag, "tag:yaml.org,2002:", 18) != 0) {
		problem (ld, node->start_mark.line + 1, key, "tags (!name) are not supported");
		return NULL;
	}
	return node;
}

static bool node_is_null (const yaml_node_t *node)
{
	const char *s = (const char *) node->data.scalar.value;

	return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (!*s || strcmp (s, "~") == 0 || strcmp (s, "null") == 0);
}

static void set_list (struct load *ld, const struct conf_key *k, const yaml_node_t *node)
{
	struct conf_list *l = (struct conf_list *) (ld->out + k->offset);

	list_clear (l);
	for (yaml_node_item_t *it = node->data.sequence.items.start; it < node->data.sequence.items.top; it++) {
		yaml_node_t *item = node_get (ld, *it, k->key);
		const char *s = item ? node_string (ld, item, k->key) : NULL;
		if (!s || check_length (ld, k, item->start_mark.line + 1, s) < 0)
			continue;
		if (l->n == LIST_MAX) {
			problem (ld, item->start_mark.line + 1, k->key, "more than %d items", LIST_MAX);
			return;
		}
		list_push (l, s);
	}
}

static void set_map (struct load *ld, const struct conf_key *k, const yaml_node_t *node)
{
	struct conf_list *l = (struct conf_list *) (ld->out + k->offset);

	list_clear (l);
	for (yaml_node_pair_t *it = node->data.mapping.pairs.start; it < node->data.mapping.pairs.top; it++) {
		yaml_node_t *kn = node_get (ld, it->key, k->key), *vn = node_get (ld, it->value, k->key);
		const char *key = kn ? node_string (ld, kn, k->key) : NULL, *v = vn ? node_string (ld, vn, k->key) : NULL;
		if (!key || !v)
			continue;
		size_t line = kn->start_mark.line + 1;
		if (check_length (ld, k, line, key) < 0 || check_length (ld, k, line, v) < 0)
			continue;
		if (map_has (l, key)) {
			problem (ld, line, k->key, "\"%.100s\" is given twice", key);
			continue;
		}
		if (l->n >= 2 * LIST_MAX) {
			problem (ld, line, k->key, "more than %d items", LIST_MAX);
			return;
		}
		list_push (l, key);
		list_push (l, v);
	}
}

static void set_node (struct load *ld, const struct conf_key *k, const yaml_node_t *node)
{
	const char *s;

	if (node_is_null (node))
		return;		/* "key:" with nothing behind it keeps the default */
	if (node->type == YAML_SEQUENCE_NODE && k->type == CONF_STRING_LIST)
		set_list (ld, k, node);
	else if (node->type == YAML_MAPPING_NODE && k->type == CONF_STRING_MAP)
		set_map (ld, k, node);
	else if (node->type == YAML_SCALAR_NODE || !is_list (k)) {
		if ((s = node_string (ld, node, k->key)))
			set_scalar (ld, k, node->start_mark.line + 1, s);
	} else
		problem (ld, node->start_mark.line + 1, k->key, "expected a %s",
			 k->type == CONF_STRING_LIST ? "list of strings" : "mapping of names to strings");
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

static void unknown_key (struct load *ld, size_t line, const char *key)
{
	struct suggest s = { key, NULL, 0 };
	char section[KEY_MAX];

	for (const struct conf_key *k = ld->table; k->key; k++) {
		suggest_offer (&s, k->key);
		for (size_t i = 0; k->key[i] && i < sizeof (section); i++)
			if (k->key[i] == '.') {
				section[i] = 0;
				/* the candidate must outlive the call: only when it is nearer, take the full key */
				if (suggest_distance (key, section) <= 1 + (int) (i / 4) && !s.best) {
					problem (ld, line, key, "unknown section; did you mean \"%s\"?", section);
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
		problem (ld, line, key, "unknown key; did you mean \"%s\"?", s.best);
	else
		problem (ld, line, key, "unknown key");
}

static void walk (struct load *ld, const yaml_node_t *map, const char *prefix);

static void walk_pair (struct load *ld, const yaml_node_pair_t *it, const yaml_node_t *map, const char *prefix)
{
	char path[KEY_MAX];
	yaml_node_t *kn = node_get (ld, it->key, prefix), *vn;
	const char *name = kn ? node_string (ld, kn, prefix) : NULL;
	const struct conf_key *k;
	size_t line;

	if (!name)
		return;
	line = kn->start_mark.line + 1;
	if ((size_t) snprintf (path, sizeof (path), "%s%s%s", prefix, *prefix ? "." : "", name) >= sizeof (path)) {
		problem (ld, line, prefix, "a key of more than %d characters", KEY_MAX - 1);
		return;
	}
	for (const yaml_node_pair_t *b = map->data.mapping.pairs.start; b < it; b++) {
		yaml_node_t *bn = yaml_document_get_node (ld->doc, b->key);
		if (bn && bn->type == YAML_SCALAR_NODE && strcmp ((char *) bn->data.scalar.value, name) == 0) {
			problem (ld, line, path, "given twice, first on line %zu", bn->start_mark.line + 1);
			return;
		}
	}
	if (!(vn = node_get (ld, it->value, path)))
		return;
	/* a literal dot in a name would reach a nested key by the back door */
	k = strchr (name, '.') ? NULL : find_key (ld->table, path);
	if (k) {
		ld->seen[k - ld->table] = !node_is_null (vn);
		set_node (ld, k, vn);
	} else if (!strchr (name, '.') && is_section (ld->table, path)) {
		if (vn->type == YAML_MAPPING_NODE)
			walk (ld, vn, path);
		else if (!node_is_null (vn))
			problem (ld, vn->start_mark.line + 1, path, "expected a section (nested keys)");
	} else
		unknown_key (ld, line, path);
}

static void walk (struct load *ld, const yaml_node_t *map, const char *prefix)
{
	for (yaml_node_pair_t *it = map->data.mapping.pairs.start; it < map->data.mapping.pairs.top; it++) {
		if (ld->problems > PROBLEMS_MAX)
			return;
		walk_pair (ld, it, map, prefix);
	}
}

static void yaml_problem (struct load *ld, const yaml_parser_t *yp)
{
	size_t line = yp->problem_mark.line + 1;

	if (yp->error == YAML_MEMORY_ERROR)
		problem (ld, 0, NULL, "out of memory");
	else if (yp->error == YAML_READER_ERROR)
		problem (ld, 0, NULL, "not UTF-8 text: %s at byte %zu", yp->problem, yp->problem_offset);
	else
		problem (ld, line, NULL, "%s%s%s", yp->context ? yp->context : "", yp->context ? ": " : "",
			 yp->problem ? yp->problem : "not YAML");
}

/* Run `use` on the root node of a text that is one YAML document. */
static void with_document (struct load *ld, const char *text, size_t n, const struct conf_key *k,
			   void (*use) (struct load *ld, const struct conf_key *k, yaml_node_t *root))
{
	yaml_parser_t yp;
	yaml_document_t doc, second;
	yaml_node_t *root;

	if (!yaml_parser_initialize (&yp)) {
		problem (ld, 0, NULL, "out of memory");
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
		problem (ld, 0, NULL, "out of memory");
	else if ((root = yaml_document_get_root_node (&doc))) {
		use (ld, k, root);
		if (!yaml_parser_load (&yp, &second))
			yaml_problem (ld, &yp);
		else {
			if ((root = yaml_document_get_root_node (&second)))
				problem (ld, root->start_mark.line + 1, NULL, "more than one YAML document");
			yaml_document_delete (&second);
		}
	}
	free (ld->visited);
	ld->visited = NULL;
	ld->doc = NULL;
	yaml_document_delete (&doc);
	yaml_parser_delete (&yp);
}

static void use_root (struct load *ld, const struct conf_key *k, yaml_node_t *root)
{
	(void) k;
	if (root->type == YAML_MAPPING_NODE)
		walk (ld, root, "");
	else if (!node_is_null (root))
		problem (ld, root->start_mark.line + 1, NULL, "expected \"key: value\" lines");
}

static void use_value (struct load *ld, const struct conf_key *k, yaml_node_t *root)
{
	set_node (ld, k, root);
}

static void apply_defaults (struct load *ld)
{
	const char *name = ld->name;

	ld->name = "default";
	for (const struct conf_key *k = ld->table; k->key; k++) {
		if (!k->def)
			continue;
		if (is_list (k) || *k->def == '"' || *k->def == '\'')
			with_document (ld, k->def, strlen (k->def), k, use_value);
		else
			set_scalar (ld, k, 0, k->def);
	}
	ld->name = name;
}

/* "key=value"; lists and maps in YAML's flow form, or bare for one item of a list. */
static void apply_override (struct load *ld, const char *text)
{
	char key[KEY_MAX];
	const char *eq = strchr (text, '=');
	const struct conf_key *k;

	if (!eq || eq == text || (size_t) (eq - text) >= sizeof (key)) {
		problem (ld, 0, NULL, "expected key=value, got \"%.100s\"", text);
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
		if (check_length (ld, k, 0, eq + 1) == 0) {
			list_clear (l);
			list_push (l, eq + 1);
		}
	} else if (is_list (k))
		with_document (ld, eq + 1, strlen (eq + 1), k, use_value);
	else
		set_scalar (ld, k, 0, eq + 1);
}

static void clear_values (const struct conf_key *table, char *out, bool all)
{
	for (const struct conf_key *k = table; k->key; k++) {
		if (k->type == CONF_STRING || k->type == CONF_PATH || k->type == CONF_SECRET_FILE) {
			free (*(char **) (out + k->offset));
			*(char **) (out + k->offset) = NULL;
		} else if (is_list (k))
			list_clear ((struct conf_list *) (out + k->offset));
		else if (all && k->type == CONF_BOOL)
			*(bool *) (out + k->offset) = false;
		else if (all && k->type == CONF_DOUBLE)
			*(double *) (out + k->offset) = 0;
		else if (all)
			*(int64_t *) (out + k->offset) = 0;
	}
}

/* The struct's size is not known here: each field of the table is zeroed, without freeing what garbage may stand there. */
static void zero_fields (const struct conf_key *table, char *out)
{
	for (const struct conf_key *k = table; k->key; k++) {
		size_t n = k->type == CONF_BOOL ? sizeof (bool) : is_list (k) ? sizeof (struct conf_list)
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

static void check_required (struct load *ld)
{
	for (const struct conf_key *k = ld->table; k->key; k++)
		if (k->required && !k->def && !ld->seen[k - ld->table])
			problem (ld, 0, k->key, "required, but not given");
}

static int finish (struct load *ld, struct buf *report, struct err *err)
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
	struct load ld = { .table = table, .name = name ? name : "config", .out = out };
	size_t rows = 0;

	while (table[rows].key)
		rows++;
	buf_init (&ld.report, 1 << 20);
	ld.seen = xcalloc (rows + 1, sizeof (*ld.seen));
	zero_fields (table, out);
	apply_defaults (&ld);
	if (n > TEXT_MAX)
		problem (&ld, 0, NULL, "larger than %d bytes", TEXT_MAX);
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
