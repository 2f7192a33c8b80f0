/* SPDX-License-Identifier: Apache-2.0 */
/* Values of a configuration: a scalar, a list or a mapping into the field of its row, checked against it. */
#include "common/conf_internal.h"
#include "common/xmem.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum {
	LIST_MAX = 10000,	/* items */
	STRING_MAX = 4096,	/* characters, unless the table says otherwise */
};

/* ---- scalars ------------------------------------------------------------------------------------------------ */

static bool in_range (const struct conf_key *k, double v)
{
	return (!k->min && !k->max) || (v >= (double) k->min && v <= (double) k->max);
}

static int set_number (struct conf_load *ld, const struct conf_key *k, size_t line, const char *s)
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
		conf_problem (ld, line, k->key, "expected %s, got \"%.100s\"", what[k->type], s);
	else if (k->type == CONF_INT)
		conf_problem (ld, line, k->key, "expected %lld..%lld, got \"%.100s\"", (long long) k->min, (long long) k->max, s);
	else if (bad)
		conf_problem (ld, line, k->key, "expected %s, got \"%.100s\"", what[k->type], s);
	else
		conf_problem (ld, line, k->key, "expected %lld..%lld %s, got \"%.100s\" (%lld)", (long long) k->min,
			 (long long) k->max, k->type == CONF_SIZE ? "bytes" : k->type == CONF_WALLTIME_S ? "seconds" : "ms", s, (long long) v);
	return -1;
}

static int set_double (struct conf_load *ld, const struct conf_key *k, size_t line, const char *s)
{
	char *end;
	double v = strtod (s, &end);

	if (end == s || *end || !isfinite (v) || !strchr ("-.0123456789", *s) || strpbrk (s, "xX")) {
		conf_problem (ld, line, k->key, "expected a number, got \"%.100s\"", s);
		return -1;
	}
	if (!in_range (k, v)) {
		conf_problem (ld, line, k->key, "expected %lld..%lld, got \"%.100s\"", (long long) k->min, (long long) k->max, s);
		return -1;
	}
	*(double *) (void *) (ld->out + k->offset) = v;
	return 0;
}

static int set_bool (struct conf_load *ld, const struct conf_key *k, size_t line, const char *s)
{
	static const char *const words[] = { "false", "true", "no", "yes", "off", "on" };

	for (size_t i = 0; i < sizeof (words) / sizeof (words[0]); i++)
		if (strcasecmp (s, words[i]) == 0) {
			*(bool *) (ld->out + k->offset) = i & 1;
			return 0;
		}
	conf_problem (ld, line, k->key, "expected true or false, got \"%.100s\"", s);
	return -1;
}

static int set_enum (struct conf_load *ld, const struct conf_key *k, size_t line, const char *s)
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
	conf_problem (ld, line, k->key, "expected one of: %s; got \"%.100s\"", k->choices ? k->choices : "", s);
	return -1;
}

int conf_check_length (struct conf_load *ld, const struct conf_key *k, size_t line, const char *s)
{
	size_t most = k->max > 0 ? (size_t) k->max : STRING_MAX, n = strlen (s);

	if (n > most) {
		conf_problem (ld, line, k->key, "expected at most %zu characters, got %zu", most, n);
		return -1;
	}
	if (k->min > 0 && n < (size_t) k->min) {
		conf_problem (ld, line, k->key, "expected at least %lld characters, got %zu", (long long) k->min, n);
		return -1;
	}
	return 0;
}

/* A file that is not there is left to who reads it: some programs make their key at the first start. */
static int check_secret_file (struct conf_load *ld, const struct conf_key *k, size_t line, const char *path)
{
	struct stat st;

	if (!*path || stat (path, &st) < 0 || !(st.st_mode & (S_IRWXG | S_IRWXO)))
		return 0;
	conf_problem (ld, line, k->key, "secret file %.300s has mode %04o: others than its owner may use it; run chmod 600", path,
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

static int set_string (struct conf_load *ld, const struct conf_key *k, size_t line, const char *s)
{
	char **at = (char **) (ld->out + k->offset), *value;

	if (conf_check_length (ld, k, line, s) < 0)
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

/* A single string where a mapping may stand. */
static int set_lone (struct conf_load *ld, const struct conf_key *k, size_t line, const char *s)
{
	struct conf_list *l = (struct conf_list *) (ld->out + k->offset);

	if (conf_check_length (ld, k, line, s) < 0)
		return -1;
	conf_list_clear (l);
	conf_list_push (l, "");
	conf_list_push (l, s);
	return 0;
}

int conf_set_scalar (struct conf_load *ld, const struct conf_key *k, size_t line, const char *s)
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
		conf_problem (ld, line, k->key, "expected a list: [a, b] or lines of \"- a\"");
		return -1;
	case CONF_STRING_OR_MAP:
		return set_lone (ld, k, line, s);
	case CONF_STRING_MAP:
		conf_problem (ld, line, k->key, "expected a mapping of names to strings");
		return -1;
	}
	return -1;
}

/* ---- lists and maps ----------------------------------------------------------------------------------------- */

bool conf_is_list (const struct conf_key *k)
{
	return k->type == CONF_STRING_LIST || k->type == CONF_STRING_MAP || k->type == CONF_STRING_OR_MAP;
}

void conf_list_clear (struct conf_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free (l->v[i]);
	free (l->v);
	l->v = NULL;
	l->n = 0;
}

void conf_list_push (struct conf_list *l, const char *s)
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
const char *conf_node_string (struct conf_load *ld, const yaml_node_t *node, const char *key)
{
	if (node->type != YAML_SCALAR_NODE) {
		conf_problem (ld, node->start_mark.line + 1, key, "expected a single value");
		return NULL;
	}
	if (strlen ((const char *) node->data.scalar.value) != node->data.scalar.length) {
		conf_problem (ld, node->start_mark.line + 1, key, "the value holds a NUL character");
		return NULL;
	}
	return (const char *) node->data.scalar.value;
}

/* The node, unless an alias led to it a second time. */
yaml_node_t *conf_node_get (struct conf_load *ld, int index, const char *key)
{
	yaml_node_t *node = yaml_document_get_node (ld->doc, index);

	if (!node)
		return NULL;
	if (ld->visited[index - 1]) {
		conf_problem (ld, node->start_mark.line + 1, key, "aliases (*name) are not supported");
		return NULL;
	}
	ld->visited[index - 1] = true;
	if (node->tag && strncmp ((const char *) node->tag, "tag:yaml.org,2002:", 18) != 0) {
		conf_problem (ld, node->start_mark.line + 1, key, "tags (!name) are not supported");
		return NULL;
	}
	return node;
}

bool conf_node_is_null (const yaml_node_t *node)
{
	const char *s = (const char *) node->data.scalar.value;

	return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (!*s || strcmp (s, "~") == 0 || strcmp (s, "null") == 0);
}

static void set_list (struct conf_load *ld, const struct conf_key *k, const yaml_node_t *node)
{
	struct conf_list *l = (struct conf_list *) (ld->out + k->offset);

	conf_list_clear (l);
	for (yaml_node_item_t *it = node->data.sequence.items.start; it < node->data.sequence.items.top; it++) {
		yaml_node_t *item = conf_node_get (ld, *it, k->key);
		const char *s = item ? conf_node_string (ld, item, k->key) : NULL;
		if (!s || conf_check_length (ld, k, item->start_mark.line + 1, s) < 0)
			continue;
		if (l->n == LIST_MAX) {
			conf_problem (ld, item->start_mark.line + 1, k->key, "more than %d items", LIST_MAX);
			return;
		}
		conf_list_push (l, s);
	}
}

static void set_map (struct conf_load *ld, const struct conf_key *k, const yaml_node_t *node)
{
	struct conf_list *l = (struct conf_list *) (ld->out + k->offset);

	conf_list_clear (l);
	for (yaml_node_pair_t *it = node->data.mapping.pairs.start; it < node->data.mapping.pairs.top; it++) {
		yaml_node_t *kn = conf_node_get (ld, it->key, k->key), *vn = conf_node_get (ld, it->value, k->key);
		const char *key = kn ? conf_node_string (ld, kn, k->key) : NULL, *v = vn ? conf_node_string (ld, vn, k->key) : NULL;
		if (!key || !v)
			continue;
		size_t line = kn->start_mark.line + 1;
		if (conf_check_length (ld, k, line, key) < 0 || conf_check_length (ld, k, line, v) < 0)
			continue;
		if (map_has (l, key)) {
			conf_problem (ld, line, k->key, "\"%.100s\" is given twice", key);
			continue;
		}
		if (l->n >= 2 * LIST_MAX) {
			conf_problem (ld, line, k->key, "more than %d items", LIST_MAX);
			return;
		}
		conf_list_push (l, key);
		conf_list_push (l, v);
	}
}

void conf_set_node (struct conf_load *ld, const struct conf_key *k, const yaml_node_t *node)
{
	const char *s;

	if (conf_node_is_null (node))
		return;		/* "key:" with nothing behind it keeps the default */
	if (node->type == YAML_SEQUENCE_NODE && k->type == CONF_STRING_LIST)
		set_list (ld, k, node);
	else if (node->type == YAML_MAPPING_NODE && (k->type == CONF_STRING_MAP || k->type == CONF_STRING_OR_MAP))
		set_map (ld, k, node);
	else if (node->type == YAML_SCALAR_NODE || !conf_is_list (k)) {
		if ((s = conf_node_string (ld, node, k->key)))
			conf_set_scalar (ld, k, node->start_mark.line + 1, s);
	} else
		conf_problem (ld, node->start_mark.line + 1, k->key, "expected a %s",
			 k->type == CONF_STRING_LIST ? "list of strings" : k->type == CONF_STRING_MAP ? "mapping of names to strings"
			 : "single value or mapping of names to strings");
}
