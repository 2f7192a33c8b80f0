/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the command, parsing its options, running it. Help, man page and completion are in cli_help.c. */
#include "common/cli.h"
#include "common/cli_internal.h"
#include "common/conf.h"
#include "common/suggest.h"
#include "common/xmem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { USAGE = 2 };

static int usage (const struct cli_prog *p, const struct cli_cmd *c, const char *fmt, ...)
	__attribute__ ((format (printf, 3, 4)));

static int usage (const struct cli_prog *p, const struct cli_cmd *c, const char *fmt, ...)
{
	bool named = c && *c->name;
	va_list ap;

	fprintf (stderr, "%s%s%s: ", p->name, named ? " " : "", named ? c->name : "");
	va_start (ap, fmt);
	vfprintf (stderr, fmt, ap);
	va_end (ap);
	fprintf (stderr, "\nTry '%s%s%s --help'.\n", p->name, named ? " " : "", named ? c->name : "");
	return USAGE;
}

/* ---- options ------------------------------------------------------------------------------------------------ */

static const struct cli_opt *opt_by_name (const struct cli_cmd *c, const char *name, size_t n)
{
	for (const struct cli_opt *o = c->opts; o && o->name; o++)
		if (strncmp (o->name, name, n) == 0 && !o->name[n])
			return o;
	return NULL;
}

static const struct cli_opt *opt_by_letter (const struct cli_cmd *c, char letter)
{
	for (const struct cli_opt *o = c->opts; o && o->name; o++)
		if (o->letter && o->letter == letter)
			return o;
	return NULL;
}

static int unknown_option (const struct cli_prog *p, const struct cli_cmd *c, const char *name, size_t n)
{
	char word[64];
	struct suggest s = { word, NULL, 0 };

	snprintf (word, sizeof (word), "%.*s", (int) (n < 63 ? n : 63), name);
	suggest_offer (&s, "help");
	for (const struct cli_opt *o = c->opts; o && o->name; o++)
		suggest_offer (&s, o->name);
	if (s.best)
		return usage (p, c, "unknown option '--%s'; did you mean '--%s'?", word, s.best);
	return usage (p, c, "unknown option '--%s'", word);
}

static int64_t *int_field (void *opts, const struct cli_opt *o)
{
	return (int64_t *) ((char *) opts + o->offset);
}

static int parse_number (const struct cli_opt *o, const char *v, int64_t *out)
{
	char *end;

	if (o->type == CLI_DURATION_MS)
		return conf_parse_duration (v, out);
	if (o->type == CLI_SIZE)
		return conf_parse_size (v, out);
	errno = 0;
	*out = strtoll (v, &end, 10);
	return errno || end == v || *end || !strchr ("-0123456789", *v) ? -1 : 0;
}

static int set_number (const struct cli_prog *p, const struct cli_cmd *c, const struct cli_opt *o, const char *v, void *opts)
{
	int64_t n = 0;

	if (parse_number (o, v, &n) < 0)
		return usage (p, c, "--%s: expected %s, got '%s'", o->name,
			      o->type == CLI_SIZE ? "a size such as 64KiB or 10MiB"
			      : o->type == CLI_INT ? "a whole number" : "a duration such as 500ms, 30s or 2h", v);
	if ((o->min || o->max) && (n < o->min || n > o->max))
		return usage (p, c, "--%s: expected %" PRId64 "..%" PRId64 "%s, got '%s'", o->name, o->min, o->max,
			      o->type == CLI_SIZE ? " bytes" : o->type == CLI_INT ? "" : " ms", v);
	*int_field (opts, o) = n;
	return 0;
}

static int set_option (const struct cli_prog *p, const struct cli_cmd *c, const struct cli_opt *o, const char *v, void *opts)
{
	void *field = (char *) opts + o->offset;

	switch (o->type) {
	case CLI_FLAG:
		*(bool *) field = true;
		return 0;
	case CLI_STRING:
		*(const char **) field = v;
		return 0;
	case CLI_STRINGS:
	case CLI_REST: {
		struct cli_strings *s = field;
		s->v = xrealloc (s->v, (s->n + 2) * sizeof (*s->v));
		s->v[s->n++] = v;
		s->v[s->n] = NULL;
		return 0;
	}
	case CLI_INT:
	case CLI_DURATION_MS:
	case CLI_SIZE:
		return set_number (p, c, o, v, opts);
	}
	return 0;
}

struct parse {
	const struct cli_prog *p;
	const struct cli_cmd *c;
	int argc, at;		/* at: the next argument to look at */
	char **argv;
	void *opts;
	char **pos;		/* owned array, borrowed strings */
	int npos;
	bool help;
};

static int parse_long (struct parse *ps, const char *arg)
{
	size_t n = strcspn (arg, "=");
	const struct cli_opt *o = opt_by_name (ps->c, arg, n);
	const char *v = arg[n] ? arg + n + 1 : NULL;

	if (!o && !v && strcmp (arg, "help") == 0) {
		ps->help = true;
		return 0;
	}
	if (!o)
		return unknown_option (ps->p, ps->c, arg, n);
	if (o->type == CLI_FLAG) {
		if (v)
			return usage (ps->p, ps->c, "--%s takes no value", o->name);
	} else if (!v) {
		if (ps->at >= ps->argc)
			return usage (ps->p, ps->c, "--%s needs a value: --%s %s", o->name, o->name, o->arg ? o->arg : "VALUE");
		v = ps->argv[ps->at++];
	}
	return set_option (ps->p, ps->c, o, v, ps->opts);
}

/* -x, -x value, -xvalue, and flags together: -abc */
static int parse_short (struct parse *ps, const char *arg)
{
	for (; *arg; arg++) {
		const struct cli_opt *o = opt_by_letter (ps->c, *arg);
		const char *v = NULL;
		int rc;

		if (!o && *arg == 'h') {
			ps->help = true;
			return 0;
		}
		if (!o)
			return usage (ps->p, ps->c, "unknown option '-%c'", *arg);
		if (o->type != CLI_FLAG) {
			v = arg[1] ? arg + 1 : ps->at < ps->argc ? ps->argv[ps->at++] : NULL;
			if (!v)
				return usage (ps->p, ps->c, "-%c needs a value: -%c %s", *arg, *arg, o->arg ? o->arg : "VALUE");
		}
		if ((rc = set_option (ps->p, ps->c, o, v, ps->opts)) || v)
			return rc;
	}
	return 0;
}

static int parse_args (struct parse *ps)
{
	int rc = 0;

	while (ps->at < ps->argc && !rc && !ps->help) {
		char *arg = ps->argv[ps->at++];
		if (strcmp (arg, "--") == 0) {
			const struct cli_opt *rest = opt_by_name (ps->c, "--", 2);
			while (rest && !rc && ps->at < ps->argc)
				rc = set_option (ps->p, ps->c, rest, ps->argv[ps->at++], ps->opts);
			while (ps->at < ps->argc)
				ps->pos[ps->npos++] = ps->argv[ps->at++];
		} else if (arg[0] == '-' && arg[1] == '-')
			rc = parse_long (ps, arg + 2);
		else if (arg[0] == '-' && arg[1])
			rc = parse_short (ps, arg + 1);
		else
			ps->pos[ps->npos++] = arg;
	}
	return rc;
}

static void free_opts (const struct cli_cmd *c, void *opts)
{
	for (const struct cli_opt *o = c->opts; o && o->name; o++)
		if (o->type == CLI_STRINGS || o->type == CLI_REST)
			free (((struct cli_strings *) ((char *) opts + o->offset))->v);
	free (opts);
}

static int run_cmd (const struct cli_prog *p, const struct cli_cmd *c, int argc, char **argv)
{
	struct parse ps = { .p = p, .c = c, .argc = argc, .argv = argv };
	int rc;

	ps.opts = xcalloc (1, c->opts_bytes ? c->opts_bytes : 1);
	ps.pos = xcalloc ((size_t) argc + 1, sizeof (*ps.pos));
	rc = parse_args (&ps);
	if (ps.help)
		cli_help_cmd (p, c, stdout);
	else if (!rc && ps.npos < c->min_args)
		rc = usage (p, c, "too few arguments; usage: %s%s%s %s", p->name, *c->name ? " " : "", c->name,
			    c->synopsis ? c->synopsis : "");
	else if (!rc && c->max_args >= 0 && ps.npos > c->max_args)
		rc = usage (p, c, "unexpected argument '%s'", ps.pos[c->max_args]);
	else if (!rc)
		rc = c->run (ps.opts, ps.npos, ps.pos);
	free_opts (c, ps.opts);
	free (ps.pos);
	return rc;
}

/* ---- commands ----------------------------------------------------------------------------------------------- */

bool cli_is_group (const struct cli_prog *p, const char *word, size_t n)
{
	for (const struct cli_cmd *c = p->cmds; c->name; c++)
		if (strncmp (c->name, word, n) == 0 && c->name[n] == ' ')
			return true;
	return false;
}

/* *words: how many arguments the name took. */
static const struct cli_cmd *find_cmd (const struct cli_prog *p, int argc, char **argv, int *words)
{
	const struct cli_cmd *one = NULL;

	*words = 0;
	for (const struct cli_cmd *c = p->cmds; c->name; c++) {
		size_t n = strcspn (c->name, " ");
		if (argc < 1 || !*c->name || strncmp (c->name, argv[0], n) != 0 || argv[0][n])
			continue;
		if (!c->name[n]) {
			one = c;
			*words = 1;
		} else if (argc > 1 && strcmp (c->name + n + 1, argv[1]) == 0) {
			*words = 2;
			return c;
		}
	}
	return one;
}

static const struct cli_cmd *default_cmd (const struct cli_prog *p)
{
	for (const struct cli_cmd *c = p->cmds; c->name; c++)
		if (!*c->name)
			return c;
	return NULL;
}

static int unknown_command (const struct cli_prog *p, int argc, char **argv)
{
	bool group = cli_is_group (p, argv[0], strlen (argv[0]));
	bool two = argc > 1 && argv[1][0] != '-';
	char word[128];
	struct suggest s = { word, NULL, 0 };

	/* two words first ("function registr"), then the first alone ("stats") */
	for (int n = two ? 2 : 1; n > 0 && !s.best; n--) {
		snprintf (word, sizeof (word), "%s%s%s", argv[0], n > 1 ? " " : "", n > 1 ? argv[1] : "");
		for (const struct cli_cmd *c = p->cmds; c->name; c++)
			if (*c->name)
				suggest_offer (&s, c->name);
	}
	snprintf (word, sizeof (word), "%s%s%s", argv[0], group && two ? " " : "", group && two ? argv[1] : "");
	if (group && !two) {
		fprintf (stderr, "%s: '%s' needs a second word\n\n", p->name, argv[0]);
		cli_help_group (p, argv[0], stderr);
		return USAGE;
	}
	if (s.best)
		return usage (p, NULL, "unknown command '%s'; did you mean '%s'?", word, s.best);
	return usage (p, NULL, "unknown command '%s'", word);
}

static int help_cmd (const struct cli_prog *p, int argc, char **argv)
{
	const struct cli_cmd *c;
	int words;

	if (argc < 1)
		cli_help_prog (p, stdout);
	else if ((c = find_cmd (p, argc, argv, &words)))
		cli_help_cmd (p, c, stdout);
	else if (argc == 1 && cli_is_group (p, argv[0], strlen (argv[0])))
		cli_help_group (p, argv[0], stdout);
	else
		return unknown_command (p, argc, argv);
	return 0;
}

static int completion_cmd (const struct cli_prog *p, int argc, char **argv)
{
	if (argc == 1 && cli_completion (p, argv[0], stdout) == 0)
		return 0;
	if (argc == 1 && (strcmp (argv[0], "--help") == 0 || strcmp (argv[0], "-h") == 0)) {
		printf ("Usage: %s completion bash|zsh\n\nPrint a completion script. For the running shell:\n"
			"  source <(%s completion bash)\n", p->name, p->name);
		return 0;
	}
	fprintf (stderr, "%s: usage: %s completion bash|zsh\n", p->name, p->name);
	return USAGE;
}

static bool is (const char *a, const char *b)
{
	return strcmp (a, b) == 0;
}

int cli_main (const struct cli_prog *p, int argc, char **argv)
{
	const struct cli_cmd *c, *def = default_cmd (p);
	const char *first = argc > 1 ? argv[1] : "";
	int words;

	if (is (first, "--version") || is (first, "-V")) {
		printf ("%s %s\n", p->name, WEFT_VERSION);
		return 0;
	}
	if (is (first, "__man")) {
		cli_print_man (p, stdout);
		return 0;
	}
	if ((c = find_cmd (p, argc - 1, argv + 1, &words)))
		return run_cmd (p, c, argc - 1 - words, argv + 1 + words);
	if (is (first, "completion"))
		return completion_cmd (p, argc - 2, argv + 2);
	if (def)
		return run_cmd (p, def, argc - 1, argv + 1);
	if (is (first, "--help") || is (first, "-h") || is (first, "help"))
		return help_cmd (p, is (first, "help") ? argc - 2 : 0, argv + 2);
	if (argc < 2) {
		cli_help_prog (p, stderr);
		return USAGE;
	}
	if (first[0] == '-')
		return usage (p, NULL, "unknown option '%s'", first);
	if (argc == 3 && cli_is_group (p, first, strlen (first)) && (is (argv[2], "--help") || is (argv[2], "-h"))) {
		cli_help_group (p, first, stdout);
		return 0;
	}
	return unknown_command (p, argc - 1, argv + 1);
}
