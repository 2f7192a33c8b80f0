/* SPDX-License-Identifier: Apache-2.0 */
/* Help, man page and shell completion, from the same table. */
#include "common/cli_internal.h"
#include "common/roff.h"

#include <string.h>

static void put_first_line (const char *text, FILE *to)
{
	fprintf (to, "%.*s", (int) strcspn (text, "\n"), text);
}

static void list_cmds (const struct cli_prog *p, const char *group, FILE *to)
{
	size_t n = strlen (group);
	int widest = 10;

	for (const struct cli_cmd *c = p->cmds; c->name; c++)
		if ((int) strlen (c->name) > widest)
			widest = (int) strlen (c->name);
	for (const struct cli_cmd *c = p->cmds; c->name; c++) {
		if (!*c->name || (n && (strncmp (c->name, group, n) != 0 || c->name[n] != ' ')))
			continue;
		fprintf (to, "  %-*s  ", widest, c->name);
		put_first_line (c->help, to);
		fputc ('\n', to);
	}
}

void cli_help_prog (const struct cli_prog *p, FILE *to)
{
	fprintf (to, "%s\n\nUsage: %s COMMAND [OPTIONS]\n\nCommands:\n", p->help, p->name);
	list_cmds (p, "", to);
	fprintf (to, "\n'%s COMMAND --help' explains one. '%s --version' prints the version; '%s completion bash|zsh' a\n"
		 "completion script.\n", p->name, p->name, p->name);
	if (p->footer)
		fprintf (to, "\n%s\n", p->footer);
}

void cli_help_group (const struct cli_prog *p, const char *word, FILE *to)
{
	fprintf (to, "Usage: %s %s COMMAND [OPTIONS]\n\nCommands:\n", p->name, word);
	list_cmds (p, word, to);
	fprintf (to, "\n'%s %s COMMAND --help' explains one.\n", p->name, word);
}

static void opt_left (const struct cli_opt *o, char *out, size_t cap)
{
	char letter[8] = "    ";

	if (o->type == CLI_REST) {
		snprintf (out, cap, "-- %s", o->arg);
		return;
	}
	if (o->letter)
		snprintf (letter, sizeof (letter), "-%c, ", o->letter);
	snprintf (out, cap, "%s--%s%s%s", letter, o->name, o->type != CLI_FLAG ? " " : "",
		  o->type == CLI_FLAG ? "" : o->arg ? o->arg : "VALUE");
}

void cli_help_cmd (const struct cli_prog *p, const struct cli_cmd *c, FILE *to)
{
	char left[80];

	if (!*c->name)
		fprintf (to, "%s\n\n", p->help);
	fprintf (to, "%s\n\nUsage: %s%s%s %s\n\nOptions:\n", c->help, p->name, *c->name ? " " : "", c->name,
		 c->synopsis ? c->synopsis : "");
	for (const struct cli_opt *o = c->opts; o && o->name; o++) {
		opt_left (o, left, sizeof (left));
		fprintf (to, strlen (left) > 26 ? "  %s\n%30s%s%s\n" : "  %-26s%2s%s%s\n", left, "", o->help ? o->help : "",
			 o->type == CLI_STRINGS ? " (may be repeated)" : "");
	}
	fprintf (to, "  %-26s  show this help\n", "-h, --help");
	if (!*c->name) {
		fprintf (to, "  %-26s  print the version\n", "-V, --version");
		if (p->footer)
			fprintf (to, "\n%s\n", p->footer);
	}
}

/* ---- man page ----------------------------------------------------------------------------------------------- */

static void man_opt (const struct cli_opt *o, FILE *to)
{
	fputs (".TP\n", to);
	if (o->type == CLI_REST) {
		fprintf (to, "\\fB\\-\\-\\fR \\fI%s\\fR\n", o->arg);
		roff_text (o->help, to);
		return;
	}
	if (o->letter)
		fprintf (to, "\\fB\\-%c\\fR, ", o->letter);
	fputs ("\\fB\\-\\-", to);
	for (const char *s = o->name; *s; s++)
		fputs (*s == '-' ? "\\-" : (char[]) { *s, 0 }, to);
	fputs ("\\fR", to);
	if (o->type != CLI_FLAG)
		fprintf (to, " \\fI%s\\fR", o->arg ? o->arg : "VALUE");
	fputc ('\n', to);
	roff_text (o->help && *o->help ? o->help : "(no description)", to);
	if (o->type == CLI_STRINGS)
		fputs ("May be repeated.\n", to);
}

void cli_print_man (const struct cli_prog *p, FILE *to)
{
	fputs (".SH SYNOPSIS\n", to);
	for (const struct cli_cmd *c = p->cmds; c->name; c++) {
		fputs (".B ", to);
		roff_text (p->name, to);
		if (*c->name) {
			fputs (".B ", to);
			roff_text (c->name, to);
		}
		if (c->synopsis && *c->synopsis)
			roff_text (c->synopsis, to);
		fputs (".br\n", to);
	}
	fputs (".SH DESCRIPTION\n", to);
	roff_text (p->help, to);
	fputs (p->cmds->name && *p->cmds->name ? ".SH COMMANDS\n" : ".SH OPTIONS\n", to);
	for (const struct cli_cmd *c = p->cmds; c->name; c++) {
		if (*c->name) {
			fputs (".SS ", to);
			roff_text (c->name, to);
		}
		roff_text (c->help, to);
		for (const struct cli_opt *o = c->opts; o && o->name; o++)
			man_opt (o, to);
	}
	if (p->footer) {
		fputs (".SH NOTES\n", to);
		roff_text (p->footer, to);
	}
}

/* ---- completion --------------------------------------------------------------------------------------------- */

/* A shell function name: weft-service -> _weft_service */
static void put_func (const char *name, FILE *to)
{
	fputc ('_', to);
	for (; *name; name++)
		fputc (*name == '-' || *name == '.' ? '_' : *name, to);
}

static void put_options (const struct cli_cmd *c, FILE *to)
{
	for (const struct cli_opt *o = c->opts; o && o->name; o++)
		if (o->type != CLI_REST)
			fprintf (to, "--%s ", o->name);
	fputs ("--help", to);
}

/* The word at the start of text, when the program can tell what it may be. */
static void put_named (const struct cli_prog *p, const char *text, FILE *to)
{
	size_t n = strspn (text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
	for (const char *w = p->named; w && *w; w += strcspn (w, " "), w += strspn (w, " "))
		if (n && strcspn (w, " ") == n && strncmp (w, text, n) == 0)
			fprintf (to, "%.*s", (int) n, text);
}

static void put_value (const struct cli_prog *p, const struct cli_opt *o, FILE *to)
{
	const char *arg = o->arg ? o->arg : "";
	fprintf (to, "--%s=", o->name);
	put_named (p, arg, to);
	if (o->letter) {
		fprintf (to, " -%c=", o->letter);
		put_named (p, arg, to);
	}
	fputc (' ', to);
}

/* What is known of a command when its words are completed, as shell variables: words, its options; takes, those with a value and what it
 * is, " --endpoint=ENDPOINT -e=ENDPOINT --limit= "; kind, what its first argument is. */
static void put_command (const struct cli_prog *p, const struct cli_cmd *c, FILE *to)
{
	const char *first = c->synopsis ? c->synopsis : "";
	fputs ("words=\"", to);
	put_options (c, to);
	fputc ('"', to);
	if (!p->named)
		return;
	fputs (" takes=\" ", to);
	for (const struct cli_opt *o = c->opts; o && o->name; o++)
		if (o->type != CLI_REST && o->type != CLI_FLAG)
			put_value (p, o, to);
	fputs ("\" kind=\"", to);
	if (strncmp (first, "[OPTIONS]", 9) == 0)
		first += 9 + strspn (first + 9, " ");
	put_named (p, first + (*first == '['), to);
	fputc ('"', to);
}

/* First words, each once. */
static void put_first_words (const struct cli_prog *p, FILE *to)
{
	for (const struct cli_cmd *c = p->cmds; c->name; c++) {
		size_t n = strcspn (c->name, " ");
		const struct cli_cmd *b;
		for (b = p->cmds; b < c; b++)
			if (strncmp (b->name, c->name, n) == 0 && (!b->name[n] || b->name[n] == ' '))
				break;
		if (b == c && n)
			fprintf (to, "%.*s ", (int) n, c->name);
	}
	fputs ("help completion --help --version", to);
}

static void put_second_words (const struct cli_prog *p, FILE *to)
{
	for (const struct cli_cmd *c = p->cmds; c->name; c++) {
		size_t n = strcspn (c->name, " ");
		const struct cli_cmd *b;
		if (!c->name[n])
			continue;
		for (b = p->cmds; b < c; b++)
			if (strncmp (b->name, c->name, n + 1) == 0)
				break;
		if (b < c)
			continue;
		fprintf (to, "\t\t%.*s) words=\"", (int) n, c->name);
		for (b = c; b->name; b++)
			if (strncmp (b->name, c->name, n + 1) == 0)
				fprintf (to, "%s ", b->name + n + 1);
		fputs ("\" ;;\n", to);
	}
}

/* Walks to the word that is completed: what comes after an option is its value, and only the first argument has names. "--opt=value" are
 * three words there. */
static const char ask_for_names[] =
	"\tfor (( ; at < COMP_CWORD; at++ )); do\n"
	"\t\tcase \"$takes\" in *\" ${COMP_WORDS[at]}=\"*)\n"
	"\t\t\tlocal value=\"${takes#*\" ${COMP_WORDS[at]}=\"}\"\n"
	"\t\t\t[ \"${COMP_WORDS[at+1]}\" = \"=\" ] && [ $(( at + 1 )) -lt \"$COMP_CWORD\" ] && at=$(( at + 1 ))\n"
	"\t\t\tat=$(( at + 1 ))\n"
	"\t\t\tif [ \"$at\" -ge \"$COMP_CWORD\" ]; then\n"
	"\t\t\t\tkind=\"${value%%\" \"*}\" words=\"\"\n"
	"\t\t\t\t[ \"$cur\" = \"=\" ] && cur=\"\"\n"
	"\t\t\tfi\n"
	"\t\t\tcontinue ;;\n"
	"\t\tesac\n"
	"\t\tcase \"${COMP_WORDS[at]}\" in\n"
	"\t\t--) kind=\"\" words=\"\"; break ;;\n"
	"\t\t-*) ;;\n"
	"\t\t*) kind=\"\" ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tcase \"$kind:$cur\" in\n"
	"\t:* | *:-*) ;;\n"
	"\t*) words=\"$words $(\"${COMP_WORDS[0]}\" __complete \"$kind\" \"${COMP_WORDS[@]:1:$COMP_CWORD}\" 2>/dev/null)\" ;;\n"
	"\tesac\n";

/* bash's own form; zsh runs it through bashcompinit. */
static void put_script (const struct cli_prog *p, FILE *to)
{
	const struct cli_cmd *only = p->cmds->name && !*p->cmds->name ? p->cmds : NULL;

	put_func (p->name, to);
	fputs (" ()\n{\n\tlocal cur=\"${COMP_WORDS[COMP_CWORD]}\" words=\"\" takes=\"\" kind=\"\" at=2\n", to);
	fputs ("\tcase \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n", to);
	for (const struct cli_cmd *c = p->cmds; c->name; c++)
		if (strchr (c->name, ' ')) {
			fprintf (to, "\t\"%s\") at=3 ", c->name);
			put_command (p, c, to);
			fputs (" ;;\n", to);
		}
	fputs ("\t*) case \"${COMP_WORDS[1]}\" in\n", to);
	for (const struct cli_cmd *c = p->cmds; c->name; c++)
		if (*c->name && !strchr (c->name, ' ') && !cli_is_group (p, c->name, strlen (c->name))) {
			fprintf (to, "\t\t\"%s\") ", c->name);
			put_command (p, c, to);
			fputs (" ;;\n", to);
		}
	put_second_words (p, to);
	fputs ("\t\tcompletion) words=\"bash zsh\" ;;\n\t\tesac ;;\n\tesac\n", to);
	fputs ("\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n\t\twords=\"", to);
	put_first_words (p, to);
	fputs ("\"\n\tfi\n", to);
	if (only) {
		fputs ("\twords=\"", to);
		put_options (only, to);
		fputs (" --version\"\n", to);
	}
	if (p->named)
		fputs (ask_for_names, to);
	fputs ("\tCOMPREPLY=( $(compgen -W \"$words\" -- \"$cur\") )\n}\ncomplete -o default -F ", to);
	put_func (p->name, to);
	fprintf (to, " %s\n", p->name);
}

int cli_completion (const struct cli_prog *p, const char *shell, FILE *to)
{
	if (strcmp (shell, "zsh") == 0)
		fputs ("autoload -U +X bashcompinit && bashcompinit\n", to);
	else if (strcmp (shell, "bash") != 0)
		return -1;
	put_script (p, to);
	return 0;
}
