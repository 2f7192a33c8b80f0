/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "service/config.h"
#include "service/route.h"

static struct route_match find (enum http_method m, const char *path)
{
	return route_find (route_table, m, (struct http_str) { path, strlen (path) });
}

static void test_finds (void **state)
{
	static const struct { enum http_method m; const char *path, *name, *param; } cases[] = {
		{ HTTP_POST, "/v3/endpoints/abc/submit", "submit", "abc" },
		{ HTTP_GET, "/v2/tasks/t1", "task_get", "t1" },
		{ HTTP_GET, "/v2/tasks/t1/", "task_get", "t1" },
		{ HTTP_HEAD, "/v2/version", "version", NULL },
		{ HTTP_GET, "/v2/endpoints", "endpoint_list", NULL },
		{ HTTP_DELETE, "/v2/endpoints/e/whitelist/f", "allowed_remove", "e" },
		{ HTTP_GET, "/healthz", "healthz", NULL },
	};

	(void) state;
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		struct route_match m = find (cases[i].m, cases[i].path);
		assert_non_null (m.route);
		assert_string_equal (m.route->name, cases[i].name);
		if (cases[i].param) {
			assert_int_equal (m.params[0].n, strlen (cases[i].param));
			assert_memory_equal (m.params[0].p, cases[i].param, m.params[0].n);
		}
	}
	assert_memory_equal (find (HTTP_DELETE, "/v2/endpoints/e/whitelist/f").params[1].p, "f", 1);
}

static void test_finds_nothing (void **state)
{
	static const char *const paths[] = { "", "//", "/v2", "/v2/tasks", "/v2/tasks//", "/v2/tasks//x", "/v3/endpoints/a/b/submit", "v2/version",
					     "/v2/versionx", "/V2/version", "/v2/version/x", "/v3/endpoints//submit", "*" };

	(void) state;
	for (size_t i = 0; i < sizeof (paths) / sizeof (paths[0]); i++) {
		struct route_match m = find (HTTP_GET, paths[i]);
		assert_null (m.route);
		assert_int_equal (m.other_methods, 0);
	}
}

static void test_other_methods (void **state)
{
	struct route_match m = find (HTTP_PUT, "/v2/tasks/x");
	char text[64];

	(void) state;
	assert_null (m.route);
	assert_string_equal (route_methods (m.other_methods, text), "GET, DELETE");
}

static void test_table_is_sound (void **state)
{
	(void) state;
	for (const struct route *r = route_table; r->pattern; r++) {
		assert_non_null (r->handler);
		assert_non_null (r->name);
		assert_true (r->pattern[0] == '/');
		for (const struct route *q = r + 1; q->pattern; q++)
			assert_false (q->method == r->method && !strcmp (q->pattern, r->pattern));
		if (r->scope == SCOPE_NONE) /* who may be asked without a token is a short list */
			assert_true (!strncmp (r->pattern, "/v2/version", 11) || !strncmp (r->pattern, "/v2/oauth2", 10) ||
				     !strcmp (r->pattern, "/v3/console/tokens") || r->pattern[1] != 'v');
	}
}

static void test_loopback (void **state)
{
	static const struct { const char *a; bool is; } cases[] = {
		{ "127.0.0.1:5000", true }, { "127.9.9.9:1", true }, { "localhost:5000", true }, { "[::1]:5000", true }, { "0.0.0.0:5000", false },
		{ "[::]:5000", false }, { ":5000", false }, { "10.0.0.1:5000", false }, { "localhost.evil.org:5000", false }, { "host:1", false },
	};

	(void) state;
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++)
		assert_int_equal (config_is_loopback (cases[i].a), cases[i].is);
}

static void test_config_refuses_the_world (void **state)
{
	static const char *const open[] = { "listen=0.0.0.0:5000", NULL };
	static const char *const allowed[] = { "listen=0.0.0.0:5000", "allow_plain_http=true", NULL };
	struct config c;
	struct buf report;
	struct err err;

	(void) state;
	buf_init (&report, 0);
	assert_int_equal (config_load (NULL, open, &c, &report, &err), -1);
	assert_non_null (strstr ((char *) report.data, "allow_plain_http"));
	buf_fini (&report);
	assert_int_equal (config_load (NULL, allowed, &c, NULL, &err), 0);
	config_free (&c);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_finds), cmocka_unit_test (test_finds_nothing), cmocka_unit_test (test_other_methods),
		cmocka_unit_test (test_table_is_sound), cmocka_unit_test (test_loopback), cmocka_unit_test (test_config_refuses_the_world),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
