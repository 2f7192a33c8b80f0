/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines: run in process, with stdout and stderr caught in files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/cli.h"

struct opts {
	bool force, quiet;
	const char *out;
	int64_t n, wait_ms, bytes;
	struct cli_strings set, rest;
};
static struct opts got;
static char got_args[200], got_set[200], got_rest[200];
static const char *got_cmd;

static int note (const char *cmd, void *o, int argc, char **argv)
{
	got = *(struct opts *) o;
	got_cmd = cmd;
	got_args[0] = got_set[0] = got_rest[0] = 0;
	for (int i = 0; i < argc; i++)
		snprintf (got_args + strlen (got_args), 100, "%s|", argv[i]);
	assert_null (argv[argc]);
	for (size_t i = 0; i < got.set.n; i++)
		snprintf (got_set + strlen (got_set), 100, "%s|", got.set.v[i]);
	if (got.set.n)
		assert_null (got.set.v[got.set.n]);
	for (size_t i = 0; i < got.rest.n; i++)
		snprintf (got_rest + strlen (got_rest), 100, "%s|", got.rest.v[i]);
	if (got.rest.n)
		assert_null (got.rest.v[got.rest.n]);
	return 7;
}

static int run_register (void *o, int argc, char **argv) { return note ("register", o, argc, argv); }
static int run_list (void *o, int argc, char **argv) { return note ("list", o, argc, argv); }
static int run_status (void *o, int argc, char **argv) { return note ("status", o, argc, argv); }

#define O(f) offsetof (struct opts, f)
static const struct cli_opt opts[] = {
	{ "force", 'f', CLI_FLAG, O (force), NULL, 0, 0, "do it anyway" },
	{ "quiet", 'q', CLI_FLAG, O (quiet), NULL, 0, 0, "say nothing" },
	{ "out", 'o', CLI_STRING, O (out), "FILE", 0, 0, "write to FILE" },
	{ "number", 'n', CLI_INT, O (n), "N", -5, 10, "how many" },
	{ "wait", 0, CLI_DURATION_MS, O (wait_ms), "TIME", 0, 0, "how long" },
	{ "bytes", 0, CLI_SIZE, O (bytes), "SIZE", 0, 0, "how large" },
	{ "set", 's', CLI_STRINGS, O (set), "KEY=VALUE", 0, 0, "set a key" },
	CLI_END
};
static const struct cli_opt rest_opts[] = {
	{ "force", 'f', CLI_FLAG, O (force), NULL, 0, 0, "do it anyway" },
	{ "--", 0, CLI_REST, O (rest), "COMMAND [ARG...]", 0, 0, "what to run" },
	CLI_END
};
static const struct cli_cmd cmds[] = {
	{ "function register", "[OPTIONS] NAME", "Register a function.\n\n  tool function register f.py", opts, sizeof (struct opts), 1, 2, run_register },
	{ "function list", "", "List functions.", opts, sizeof (struct opts), 0, 0, run_list },
	{ "run", "[ARGS...] -- COMMAND", "Run a command.", rest_opts, sizeof (struct opts), 0, -1, run_status },
	{ "status", "[ARGS...]", "Show the state.", opts, sizeof (struct opts), 0, -1, run_status },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL }
};
static const struct cli_prog prog = { "tool", "tool - does things.", cmds, "Examples:\n  tool status", "FILE NAME" };
static const struct cli_cmd one_cmd[] = {
	{ "", "[OPTIONS]", "Runs until stopped.", opts, sizeof (struct opts), 0, 1, run_status },
	{ NULL, NULL, NULL, NULL, 0, 0, 0, NULL }
};
static const struct cli_prog daemon_prog = { "toold", "toold - serves things.", one_cmd, NULL, NULL };

static char out[20000], errout[20000];

static void slurp (FILE *f, char *to)
{
	rewind (f);
	to[fread (to, 1, 19999, f)] = 0;
	fclose (f);
}

/* words: blank separated */
static int run (const struct cli_prog *p, const char *words)
{
	static char line[500];
	char *argv[40], *save = NULL;
	int argc = 0, rc, fd1 = dup (1), fd2 = dup (2);
	FILE *o = tmpfile (), *e = tmpfile ();

	snprintf (line, sizeof (line), "%s", words);
	argv[argc++] = (char *) p->name;
	for (char *w = strtok_r (line, " ", &save); w; w = strtok_r (NULL, " ", &save))
		argv[argc++] = w;
	argv[argc] = NULL;
	got_cmd = NULL;
	fflush (NULL);
	dup2 (fileno (o), 1);
	dup2 (fileno (e), 2);
	rc = cli_main (p, argc, argv);
	fflush (NULL);
	dup2 (fd1, 1);
	dup2 (fd2, 2);
	close (fd1);
	close (fd2);
	slurp (o, out);
	slurp (e, errout);
	return rc;
}

static void test_options (void **state)
{
	(void) state;
	assert_int_equal (run (&prog, "function register -f --out=x --number -5 --wait 2m --bytes=1KiB -s a=1 --set b=2 name -- -q"), 7);
	assert_string_equal (got_cmd, "register");
	assert_true (got.force && !got.quiet);
	assert_string_equal (got.out, "x");
	assert_int_equal (got.n, -5);
	assert_int_equal (got.wait_ms, 120000);
	assert_int_equal (got.bytes, 1024);
	assert_string_equal (got_set, "a=1|b=2|");
	assert_string_equal (got_args, "name|-q|");
	assert_int_equal (run (&prog, "status -fqofile - x"), 7);
	assert_true (got.force && got.quiet);
	assert_string_equal (got.out, "file");
	assert_string_equal (got_args, "-|x|");
	assert_int_equal (run (&daemon_prog, "-n3 arg"), 7);
	assert_int_equal (got.n, 3);
	assert_int_equal (run (&daemon_prog, ""), 7);
}

static void test_rest (void **state)
{
	(void) state;
	assert_int_equal (run (&prog, "run -f here -- sh -c --force --"), 7);
	assert_string_equal (got_args, "here|");
	assert_string_equal (got_rest, "sh|-c|--force|--|");
	assert_true (got.force);
	assert_int_equal (run (&prog, "run --"), 7);
	assert_int_equal (got.rest.n, 0);
	assert_int_equal (run (&prog, "run --help"), 0);
	assert_non_null (strstr (out, "-- COMMAND [ARG...]"));
	assert_int_equal (run (&prog, "completion bash"), 0);
	assert_null (strstr (out, "---- "));
}

static void test_usage_errors (void **state)
{
	static const struct { const char *words, *want; } t[] = {
		{ "", "Usage: tool COMMAND" },
		{ "stauts", "unknown command 'stauts'; did you mean 'status'?" },
		{ "function registr x", "unknown command 'function registr'; did you mean 'function register'?" },
		{ "function", "'function' needs a second word" },
		{ "qwertyuiop", "unknown command 'qwertyuiop'\nTry 'tool --help'." },
		{ "--frobnicate", "unknown option '--frobnicate'" },
		{ "status --ferce", "unknown option '--ferce'; did you mean '--force'?" },
		{ "status -x", "unknown option '-x'" },
		{ "status --out", "--out needs a value: --out FILE" },
		{ "status -o", "-o needs a value" },
		{ "status --force=yes", "--force takes no value" },
		{ "status -n 11", "--number: expected -5..10, got '11'" },
		{ "status -n 1x", "expected a whole number" },
		{ "status --wait 5", "expected a duration" },
		{ "status --bytes 5XB", "expected a size" },
		{ "function register", "too few arguments; usage: tool function register [OPTIONS] NAME" },
		{ "function register a b c", "unexpected argument 'c'" },
		{ "function list a", "unexpected argument 'a'" },
		{ "completion fish", "completion bash|zsh" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		assert_int_equal (run (&prog, t[i].words), 2);
		if (!strstr (errout, t[i].want) || *out)
			fail_msg ("%s: expected \"%s\", got \"%s\"", t[i].words, t[i].want, errout);
		assert_null (got_cmd);
	}
}

static void test_help (void **state)
{
	(void) state;
	for (const char *const *w = (const char *const[]) { "--help", "-h", "help", NULL }; *w; w++) {
		assert_int_equal (run (&prog, *w), 0);
		assert_non_null (strstr (out, "function register  Register a function.\n"));
		assert_non_null (strstr (out, "Examples:"));
		assert_null (strstr (out, "__man"));
	}
	for (const char *const *w = (const char *const[]) { "function register --help", "help function register",
							    "function register x -h", NULL }; *w; w++) {
		assert_int_equal (run (&prog, *w), 0);
		assert_non_null (strstr (out, "Usage: tool function register [OPTIONS] NAME"));
		assert_non_null (strstr (out, "-o, --out FILE"));
		assert_non_null (strstr (out, "set a key (may be repeated)"));
		assert_null (got_cmd);
	}
	assert_int_equal (run (&prog, "function --help"), 0);
	assert_non_null (strstr (out, "function list"));
	assert_null (strstr (out, "status"));
	assert_int_equal (run (&daemon_prog, "--help"), 0);
	assert_non_null (strstr (out, "toold - serves things."));
	assert_int_equal (run (&daemon_prog, "--version"), 0);
	assert_string_equal (out, "toold " WEFT_VERSION "\n");
}

static void test_man_and_completion (void **state)
{
	(void) state;
	assert_int_equal (run (&prog, "__man"), 0);
	assert_non_null (strstr (out, ".SS function register\n"));
	assert_non_null (strstr (out, "\\fB\\-\\-out\\fR \\fIFILE\\fR\n"));
	assert_int_equal (run (&prog, "completion zsh"), 0);
	assert_non_null (strstr (out, "bashcompinit"));
	assert_int_equal (run (&prog, "completion bash"), 0);

	/* and it completes, in a real shell */
	static const struct { const char *words; int at; const char *want; } t[] = {
		{ "tool fun", 1, "function" }, { "tool function re", 2, "register" }, { "tool function register --o", 3, "--out" },
		{ "tool status --fo", 2, "--force" }, { "tool completion b", 2, "bash" },
		/* what it asks the program for; the one here says what it was asked */
		{ "tool function register NAME", 3, "NAME" }, { "tool function register --force -n 3 NAME", 6, "NAME" },
		{ "tool function register a NAME", 4, "" }, { "tool status NAME", 2, "" }, { "tool status -o FI", 3, "FILE" },
		{ "tool status --out = FI", 4, "FILE" }, { "tool status --out =", 3, "FILE" },
		{ "tool status --set NAME", 3, "" }, { "tool function register -- NAME", 4, "" },
	};
	char script[24000], line[100];
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		snprintf (script, sizeof (script), "bash -c '%s\ntool () { echo \"$2\"; }; COMP_WORDS=(%s); COMP_CWORD=%d; _tool; "
			  "echo \"${COMPREPLY[*]}\"'", out, t[i].words, t[i].at);
		FILE *p = popen (script, "r");
		assert_non_null (p);
		line[0] = 0;
		if (!fgets (line, sizeof (line), p))
			line[0] = 0;
		assert_int_equal (pclose (p), 0);
		line[strcspn (line, "\n")] = 0;
		assert_string_equal (line, t[i].want);
	}
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_options),
		cmocka_unit_test (test_rest), cmocka_unit_test (test_usage_errors),
		cmocka_unit_test (test_help),
		cmocka_unit_test (test_man_and_completion),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
