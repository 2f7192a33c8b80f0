/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/conf.h"

struct cfg {
	char *name, *path, *secret;
	int64_t count, timeout_ms, bytes, mode;
	bool on;
	double ratio;
	struct conf_list hosts, labels, tools;
};
#define F(f) offsetof (struct cfg, f)
static const struct conf_key table[] = {
	{ "name", CONF_STRING, F (name), "weft", 1, 10, NULL, false, "How it is called." },
	{ "path", CONF_PATH, F (path), NULL, 0, 0, NULL, false, "Where it is." },
	{ "limits.count", CONF_INT, F (count), "5", 1, 10000, NULL, false, "How many." },
	{ "limits.timeout", CONF_DURATION_MS, F (timeout_ms), "30s", 1000, 600000, NULL, false, "How long." },
	{ "limits.bytes", CONF_SIZE, F (bytes), "10MiB", 0, 0, NULL, false, "How large." },
	{ "limits.deep.ratio", CONF_DOUBLE, F (ratio), "0.5", 0, 1, NULL, false, "What part." },
	{ "on", CONF_BOOL, F (on), "true", 0, 0, NULL, false, "Whether." },
	{ "mode", CONF_ENUM, F (mode), "slow", 0, 0, "slow fast", false, "Which way." },
	{ "secret", CONF_SECRET_FILE, F (secret), NULL, 0, 0, NULL, false, "The secret's file." },
	{ "hosts", CONF_STRING_LIST, F (hosts), "[a, b]", 0, 20, NULL, false, "The hosts." },
	{ "labels", CONF_STRING_MAP, F (labels), NULL, 0, 0, NULL, false, "Names to values." },
	{ "tools", CONF_STRING_OR_MAP, F (tools), "cc", 0, 20, NULL, false, "One tool, or several by name." },
	CONF_END
};

static int load (const char *text, const char *const *set, struct cfg *c, struct buf *report, struct err *err)
{
	buf_init (report, 0);
	memset (c, 0xa5, sizeof (*c));	/* load must not read what stands there */
	return conf_load_text (table, "t.yaml", text, strlen (text), set, c, report, err);
}

static void test_defaults (void **state)
{
	struct buf report;
	struct cfg c;
	struct err err;

	(void) state;
	assert_int_equal (load ("", NULL, &c, &report, &err), 0);
	assert_string_equal (c.name, "weft");
	assert_null (c.path);
	assert_int_equal (c.count, 5);
	assert_int_equal (c.timeout_ms, 30000);
	assert_int_equal (c.bytes, 10 << 20);
	assert_true (c.ratio == 0.5 && c.on);
	assert_int_equal (c.mode, 0);
	assert_int_equal (c.hosts.n, 2);
	assert_string_equal (c.hosts.v[1], "b");
	assert_int_equal (c.labels.n, 0);
	conf_free (table, &c);
	conf_free (table, &c);		/* twice is fine */
	assert_int_equal (conf_load (table, NULL, NULL, &c, NULL, NULL), 0);
	conf_free (table, &c);
}

static void test_values (void **state)
{
	static const char text[] = "# comment\nname: \"x y\"\npath: /a\nlimits:\n  count: 7\n  timeout: 2m\n  bytes: 64KiB\n"
				   "  deep: {ratio: 0.25}\non: no\nmode: fast\nhosts:\n- one\n- 'two'\n- three\nlabels: {a: 1, b: \"\"}\n";
	struct buf report;
	struct cfg c;
	struct err err;

	(void) state;
	assert_int_equal (load (text, NULL, &c, &report, &err), 0);
	assert_string_equal (c.name, "x y");
	assert_int_equal (c.count, 7);
	assert_int_equal (c.timeout_ms, 120000);
	assert_int_equal (c.bytes, 65536);
	assert_true (c.ratio == 0.25 && !c.on);
	assert_int_equal (c.mode, 1);
	assert_int_equal (c.hosts.n, 3);
	assert_int_equal (c.labels.n, 4);
	assert_string_equal (c.labels.v[2], "b");
	conf_free (table, &c);
	/* emptied sections and keys keep their defaults; an empty list is a value */
	assert_int_equal (load ("limits:\nname:\nhosts: []\n", NULL, &c, &report, &err), 0);
	assert_string_equal (c.name, "weft");
	assert_int_equal (c.hosts.n, 0);
	conf_free (table, &c);
}

static void test_overrides (void **state)
{
	static const char *const set[] = { "limits.count=9", "hosts=h", "labels={k: v}", "name=a=b", NULL };
	static const char *const lists[] = { "hosts=[x, y]", "hosts=[p, q, r]", NULL };
	static const char *const bad[] = { "limits.cuont=1", "nothing", "=x", "limits.count=x", "labels=x", NULL };
	struct buf report;
	struct cfg c;
	struct err err;

	(void) state;
	assert_int_equal (load ("limits: {count: 3}", set, &c, &report, &err), 0);
	assert_int_equal (c.count, 9);
	assert_string_equal (c.hosts.v[0], "h");
	assert_string_equal (c.labels.v[1], "v");
	assert_string_equal (c.name, "a=b");
	conf_free (table, &c);
	assert_int_equal (load ("", lists, &c, &report, &err), 0);
	assert_int_equal (c.hosts.n, 3);
	conf_free (table, &c);
	assert_int_equal (load ("", bad, &c, &report, &err), -1);
	assert_non_null (strstr ((char *) report.data, "command line: limits.cuont: unknown key; did you mean \"limits.count\"?\n"));
	assert_non_null (strstr (err.text, "(and 4 more)"));
	buf_fini (&report);
}

static void test_string_or_map (void **state)
{
	static const struct { const char *text, *set[2]; size_t n; const char *v[4]; } t[] = {
		{ "", { NULL }, 2, { "", "cc" } },
		{ "tools: gcc -O2\n", { NULL }, 2, { "", "gcc -O2" } },
		{ "tools: {\"1\": a, b: \"c d\"}\n", { NULL }, 4, { "1", "a", "b", "c d" } },
		{ "tools: {}\n", { NULL }, 0, { NULL } },
		{ "tools: x\n", { "tools=/a b: {c}", NULL }, 2, { "", "/a b: {c}" } },
		{ "tools: x\n", { "tools={\"3\": y, z: w}", NULL }, 4, { "3", "y", "z", "w" } },
	};
	struct buf report;
	struct cfg c;
	struct err err;

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		assert_int_equal (load (t[i].text, t[i].set, &c, &report, &err), 0);
		assert_int_equal (c.tools.n, t[i].n);
		for (size_t k = 0; k < t[i].n; k++)
			assert_string_equal (c.tools.v[k], t[i].v[k]);
		conf_free (table, &c);
	}
}

static void test_problems (void **state)
{
	static const struct { const char *text, *want; } t[] = {
		{ "limits:\n  count: many\n", "t.yaml:2: limits.count: expected 1..10000, got \"many\"\n" },
		{ "limits:\n  count: 10001\n", "t.yaml:2: limits.count: expected 1..10000, got \"10001\"\n" },
		{ "limits:\n  count: 5x\n", "expected 1..10000" },
		{ "limits:\n  count: 99999999999999999999\n", "expected 1..10000" },
		{ "limits:\n  count: [1]\n", "limits.count: expected a single value" },
		{ "limits:\n  timeout: 30\n", "expected a duration such as" },
		{ "limits:\n  timeout: 30 parsecs\n", "expected a duration such as" },
		{ "limits:\n  timeout: 1ms\n", "expected 1000..600000 ms, got \"1ms\" (1)" },
		{ "limits:\n  timeout: 9999999999999999d\n", "expected a duration" },
		{ "limits:\n  bytes: 1KB\n", "expected a size such as" },
		{ "limits:\n  bytes: -1\n", "expected a size such as" },
		{ "limits:\n  deep:\n    ratio: nan\n", "expected a number" },
		{ "limits:\n  deep:\n    ratio: 1.5\n", "expected 0..1" },
		{ "limits: 5\n", "t.yaml:1: limits: expected a section" },
		{ "on: maybe\n", "expected true or false" },
		{ "mode: slo\n", "expected one of: slow fast; got \"slo\"" },
		{ "name: \"\"\n", "expected at least 1 characters" },
		{ "name: abcdefghijk\n", "expected at most 10 characters, got 11" },
		{ "name: \"a\\0b\"\n", "NUL character" },
		{ "nmae: x\n", "t.yaml:1: nmae: unknown key; did you mean \"name\"?\n" },
		{ "limit:\n  count: 1\n", "t.yaml:1: limit: unknown section; did you mean \"limits\"?\n" },
		{ "count: 1\n", "unknown key; did you mean \"limits.count\"?" },
		{ "limits.count: 1\n", "t.yaml:1: limits.count: unknown key" },
		{ "zzzzzzzzzz: 1\n", "t.yaml:1: zzzzzzzzzz: unknown key\n" },
		{ "name: a\nname: b\n", "t.yaml:2: name: given twice, first on line 1\n" },
		{ "limits: {count: 1}\nlimits: {bytes: 1}\n", "limits: given twice" },
		{ "hosts: x\n", "hosts: expected a list" },
		{ "hosts: {a: b}\n", "hosts: expected a list" },
		{ "hosts: [[a]]\n", "hosts: expected a single value" },
		{ "hosts: [aaaaaaaaaaaaaaaaaaaaaaaaa]\n", "at most 20" },
		{ "labels: [a]\n", "labels: expected a mapping" },
		{ "tools: [a]\n", "tools: expected a single value or mapping" },
		{ "tools: {a: [b]}\n", "tools: expected a single value" },
		{ "tools: aaaaaaaaaaaaaaaaaaaaaaaaa\n", "at most 20" },
		{ "labels: {a: 1, a: 2}\n", "\"a\" is given twice" },
		{ "labels: {[a]: 1}\n", "labels: expected a single value" },
		{ "name: &n x\npath: *n\n", "aliases" },
		{ "limits: &l\n  <<: *l\n", "t.yaml:" },
		{ "hosts: &h [*h]\n", "aliases" },
		{ "name: !secret x\n", "tags" },
		{ "- a\n", "expected \"key: value\" lines" },
		{ "just text\n", "expected \"key: value\" lines" },
		{ "name: [a\n", "t.yaml:" },
		{ "name: a\n\tpath: b\n", "t.yaml:" },
		{ "name: \xff\xfe\n", "not UTF-8" },
		{ "name: a\n---\nname: b\n", "more than one YAML document" },
		{ "? [a, b]\n: c\n", "expected a single value" },
		{ "secret: /dev/null\n", "others than its owner" },
	};
	struct buf report;
	struct cfg c;
	struct err err;

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		if (load (t[i].text, NULL, &c, &report, &err) != -1)
			fail_msg ("accepted: %s", t[i].text);
		if (!report.data || !strstr ((char *) report.data, t[i].want))
			fail_msg ("%s: expected \"%s\", got \"%s\"", t[i].text, t[i].want, report.data ? (char *) report.data : "");
		assert_int_equal (err.fault, FAULT_USER);
		assert_null (c.name);
		assert_null (c.hosts.v);
		assert_int_equal (c.count, 0);
		buf_fini (&report);
	}
}

static void test_all_problems_at_once (void **state)
{
	struct buf report, text;
	struct cfg c;
	struct err err;
	int lines = 0;

	(void) state;
	assert_int_equal (load ("on: 1.5\nlimits:\n  count: 0\n  byts: 1\nmode: x\n", NULL, &c, &report, &err), -1);
	for (char *p = (char *) report.data; *p; p++)
		lines += *p == '\n';
	assert_int_equal (lines, 4);
	assert_string_equal (err.text, "t.yaml:1: on: expected true or false, got \"1.5\" (and 3 more)");
	buf_fini (&report);
	buf_init (&text, 0);
	for (int i = 0; i < 5000; i++)
		buf_printf (&text, "k%d: 1\n", i);
	assert_int_equal (load ((char *) text.data, NULL, &c, &report, &err), -1);
	assert_true (report.len < 10000);
	buf_fini (&report);
	buf_fini (&text);
	char *big = malloc ((1 << 20) + 2);
	memset (big, '#', (1 << 20) + 1);
	big[(1 << 20) + 1] = 0;
	assert_int_equal (load (big, NULL, &c, &report, &err), -1);
	free (big);
	buf_fini (&report);
}

static void test_required (void **state)
{
	static const struct conf_key t[] = {
		{ "a.b", CONF_STRING, F (name), NULL, 0, 0, NULL, true, "Needed." },
		CONF_END
	};
	static const char *const set[] = { "a.b=x", NULL };
	struct buf report;
	struct cfg c;
	struct err err;

	(void) state;
	buf_init (&report, 0);
	assert_int_equal (conf_load_text (t, "r", "a:\n", 3, NULL, &c, &report, &err), -1);
	assert_string_equal ((char *) report.data, "r: a.b: required, but not given\n");
	assert_int_equal (conf_load_text (t, "r", "", 0, set, &c, NULL, &err), 0);
	conf_free (t, &c);
	buf_fini (&report);
}

static void test_units (void **state)
{
	int64_t v;

	(void) state;
	assert_int_equal (conf_parse_duration ("500ms", &v), 0);
	assert_int_equal (v, 500);
	assert_int_equal (conf_parse_duration ("7d", &v), 0);
	assert_int_equal (v, INT64_C (604800000));
	assert_int_equal (conf_parse_duration ("0", &v), 0);
	assert_int_equal (conf_parse_duration ("5", &v), -1);
	assert_int_equal (conf_parse_duration ("", &v), -1);
	assert_int_equal (conf_parse_duration ("s", &v), -1);
	assert_int_equal (conf_parse_duration ("1s1", &v), -1);
	assert_int_equal (conf_parse_size ("1GiB", &v), 0);
	assert_int_equal (v, 1 << 30);
	assert_int_equal (conf_parse_size ("123", &v), 0);
	assert_int_equal (conf_parse_size ("9999999999TiB", &v), -1);
}

static void test_walltimes (void **state)
{
	static const struct { const char *s; int64_t seconds; } good[] = {
		{ "90", 90 }, { "10:00", 600 }, { "01:30:00", 5400 }, { "100:00:00", 360000 }, { "1-12", 129600 }, { "1-12:30", 131400 },
		{ "2-00:00:01", 172801 }, { "30m", 1800 }, { "2h", 7200 }, { "45s", 45 }, { "1500ms", 2 }, { "7d", 604800 },
	};
	static const char *const bad[] = { "", ":", "1:", ":1", "1:2:3:4", "-1", "1-", "1-2:3:4:5", "1--2", "1:2m", "12345678", "1 h 5", "UNLIMITED", "1-2m" };
	int64_t v;

	(void) state;
	for (size_t i = 0; i < sizeof (good) / sizeof (good[0]); i++) {
		assert_int_equal (conf_parse_walltime (good[i].s, &v), 0);
		assert_int_equal (v, good[i].seconds);
	}
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++)
		if (conf_parse_walltime (bad[i], &v) == 0)
			fail_msg ("'%s' was taken for %d s", bad[i], (int) v);
}

static void test_files_and_secrets (void **state)
{
	char dir[] = "/tmp/test_conf.XXXXXX", path[64], line[100];
	struct buf report;
	struct cfg c;
	struct err err;
	char *s;

	(void) state;
	assert_int_equal (load ("path: ~/x y\n", NULL, &c, &report, &err), 0);
	snprintf (path, sizeof (path), "%.40s/x y", getenv ("HOME"));
	assert_string_equal (c.path, path);
	conf_free (table, &c);
	buf_fini (&report);
	assert_non_null (mkdtemp (dir));
	snprintf (path, sizeof (path), "%s/secret", dir);
	int fd = open (path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal (write (fd, "hush\n", 5), 5);
	close (fd);
	s = conf_read_secret (path, 100, &err);
	assert_string_equal (s, "hush");
	free (s);
	assert_null (conf_read_secret (path, 3, &err));
	assert_int_equal (err.code, ERR_TOO_LARGE);
	snprintf (line, sizeof (line), "secret: %s\n", path);
	assert_int_equal (load (line, NULL, &c, &report, &err), 0);
	conf_free (table, &c);
	chmod (path, 0640);
	assert_null (conf_read_secret (path, 100, &err));
	assert_int_equal (err.code, ERR_FORBIDDEN);
	assert_int_equal (load (line, NULL, &c, &report, &err), -1);
	buf_fini (&report);
	unlink (path);
	assert_null (conf_read_secret (path, 100, &err));
	assert_null (conf_read_secret (dir, 100, &err));
	assert_int_equal (conf_load (table, path, NULL, &c, &report, &err), -1);
	assert_non_null (strstr (err.text, path));
	buf_fini (&report);
	assert_int_equal (conf_load (table, dir, NULL, &c, NULL, &err), -1);
	rmdir (dir);
}

/* The example loads as it stands, also with every comment sign before a key removed. */
static void test_example (void **state)
{
	char *text = NULL;
	struct buf report;
	struct cfg c;
	struct err err;
	size_t n;

	(void) state;
	FILE *f = open_memstream (&text, &n);
	conf_print_example (table, "Example.", f);
	fclose (f);
	assert_int_equal (load (text, NULL, &c, &report, &err), 0);
	conf_free (table, &c);
	/* "#key: default" -> "key: default" */
	char *plain = malloc (n + 1), *to = plain;
	for (const char *p = text; *p; p++)
		if (*p != '#' || p[1] < 'a' || p[1] > 'z')
			*to++ = *p;
	*to = 0;
	assert_int_equal (load (plain, NULL, &c, &report, &err), 0);
	assert_int_equal (c.timeout_ms, 30000);
	conf_free (table, &c);
	free (plain);
	for (const struct conf_key *k = table; k->key; k++)
		assert_non_null (strstr (text, k->help));
	assert_non_null (strstr (text, "duration, 1s to 10m"));
	free (text);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_defaults),
		cmocka_unit_test (test_values),
		cmocka_unit_test (test_string_or_map),
		cmocka_unit_test (test_overrides),
		cmocka_unit_test (test_problems),
		cmocka_unit_test (test_all_problems_at_once),
		cmocka_unit_test (test_required),
		cmocka_unit_test (test_units),
		cmocka_unit_test (test_walltimes),
		cmocka_unit_test (test_files_and_secrets),
		cmocka_unit_test (test_example),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
