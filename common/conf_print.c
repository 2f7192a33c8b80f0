/* SPDX-License-Identifier: Apache-2.0 */
/* A config table as a commented example, which is the CONFIG part of its man page too (packaging/install). */
#include "common/conf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const type_text[] = {
	[CONF_STRING] = "text", [CONF_INT] = "whole number", [CONF_BOOL] = "true or false", [CONF_DOUBLE] = "number",
	[CONF_DURATION_MS] = "duration", [CONF_WALLTIME_S] = "time of a job", [CONF_SIZE] = "size", [CONF_PATH] = "path",
	[CONF_SECRET_FILE] = "path of a file that only its owner can read", [CONF_ENUM] = "one of",
	[CONF_STRING_LIST] = "list of text", [CONF_STRING_MAP] = "mapping of names to text",
	[CONF_STRING_OR_MAP] = "text, or mapping of names to text",
};

static void print_duration (int64_t ms, FILE *to)
{
	static const struct { const char *unit; int64_t ms; } u[] = {
		{ "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
	};

	for (size_t i = 0; i < sizeof (u) / sizeof (u[0]); i++)
		if (ms % u[i].ms == 0 || u[i].ms == 1) {
			fprintf (to, "%" PRId64 "%s", ms / u[i].ms, u[i].unit);
			return;
		}
}

static void print_size (int64_t n, FILE *to)
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t i = 0;

	while (n && n % 1024 == 0 && i < 4) {
		n /= 1024;
		i++;
	}
	fprintf (to, "%" PRId64 "%s", n, unit[i]);
}

static void print_bound (const struct conf_key *k, int64_t v, FILE *to)
{
	if (k->type == CONF_DURATION_MS || k->type == CONF_WALLTIME_S)
		print_duration (k->type == CONF_WALLTIME_S ? v * 1000 : v, to);
	else if (k->type == CONF_SIZE)
		print_size (v, to);
	else
		fprintf (to, "%" PRId64, v);
}

/* "duration, 1s to 10m; default 30s" */
static void print_facts (const struct conf_key *k, FILE *to)
{
	fputs (type_text[k->type], to);
	if (k->type == CONF_ENUM)
		fprintf (to, ": %s", k->choices);
	if (k->type == CONF_INT || k->type == CONF_DOUBLE || k->type == CONF_DURATION_MS || k->type == CONF_SIZE || k->type == CONF_WALLTIME_S)
		if (k->min || k->max) {
			fputs (", ", to);
			print_bound (k, k->min, to);
			fputs (" to ", to);
			print_bound (k, k->max, to);
		}
	if (k->def)
		fprintf (to, "; default %s", *k->def ? k->def : "empty");
	else
		fputs (k->required ? "; required" : "; not set by default", to);
}

/* Is the key in the section `prefix` itself (leaf), or below it? The rest of its name, or NULL when elsewhere. */
static const char *below (const char *key, const char *prefix, size_t n)
{
	if (!n)
		return key;
	return strncmp (key, prefix, n) == 0 && key[n] == '.' ? key + n + 1 : NULL;
}

static void indent (int depth, FILE *to)
{
	for (int i = 0; i < depth; i++)
		fputs ("  ", to);
}

static void print_help (const char *help, int depth, FILE *to)
{
	int col = 0;

	while (help && *help) {
		size_t w = strcspn (help, " \n");
		if (col && col + (int) w + 1 > 100 - 2 * depth) {
			fputc ('\n', to);
			col = 0;
		}
		if (!col) {
			indent (depth, to);
			fputs ("#", to);
		}
		fprintf (to, " %.*s", (int) w, help);
		col += (int) w + 1;
		help += w;
		help += strspn (help, " \n");
	}
	if (col)
		fputc ('\n', to);
}

static void print_key (const struct conf_key *k, const char *name, int depth, FILE *to)
{
	static const char *const sample[] = {
		[CONF_STRING] = "CHANGE-ME", [CONF_INT] = "1", [CONF_BOOL] = "false", [CONF_DOUBLE] = "1.0",
		[CONF_DURATION_MS] = "30s", [CONF_WALLTIME_S] = "1h", [CONF_SIZE] = "1MiB", [CONF_PATH] = "/path", [CONF_SECRET_FILE] = "/path/of/file",
		[CONF_ENUM] = "", [CONF_STRING_LIST] = "[a, b]", [CONF_STRING_MAP] = "{name: value}",
		[CONF_STRING_OR_MAP] = "value",
	};
	const char *v = k->def ? k->def : k->type == CONF_ENUM ? k->choices : sample[k->type];

	print_help (k->help, depth, to);
	indent (depth, to);
	fputs ("# (", to);
	print_facts (k, to);
	fputs (")\n", to);
	indent (depth, to);
	fprintf (to, "%s%s: ", k->required && !k->def ? "" : "#", name);
	if (!k->def && k->type == CONF_ENUM)
		fprintf (to, "%.*s\n\n", (int) strcspn (v, " "), v);
	else
		fprintf (to, "%s\n\n", *v ? v : "\"\"");
}

/* Own keys first, then each section once, in the order the table names them. */
static void print_section (const struct conf_key *table, const char *prefix, size_t n, int depth, FILE *to)
{
	const char *rest;

	for (const struct conf_key *k = table; k->key; k++)
		if ((rest = below (k->key, prefix, n)) && !strchr (rest, '.'))
			print_key (k, rest, depth, to);
	for (const struct conf_key *k = table; k->key; k++) {
		const struct conf_key *b;
		size_t w, len;
		if (!(rest = below (k->key, prefix, n)) || !strchr (rest, '.'))
			continue;
		w = strcspn (rest, ".");
		len = (size_t) (rest - k->key) + w;
		for (b = table; b < k; b++)
			if (strncmp (b->key, k->key, len) == 0 && b->key[len] == '.')
				break;
		if (b < k)
			continue;
		indent (depth, to);
		fprintf (to, "%.*s:\n", (int) w, rest);
		print_section (table, k->key, len, depth + 1, to);
	}
}

void conf_print_example (const struct conf_key *table, const char *title, FILE *to)
{
	fprintf (to, "# %s\n#\n", title);
	fputs ("# Lines that start with \"#key:\" show the default; remove the \"#\" to change it.\n"
	       "# Durations: 500ms 30s 10m 2h 7d. Sizes: 64KiB 10MiB 1GiB.\n\n", to);
	print_section (table, "", 0, 0, to);
}
