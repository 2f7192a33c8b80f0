/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <unistd.h>
#include "common/clock.h"
#include "service/auth.h"

static char dir[64], path[128];
static struct registry *r;
static struct reg_user alice;
static struct err err;
static enum fail why;
static struct auth_who who;

static int setup (void **state)
{
	(void) state;
	strcpy (dir, "/tmp/weft-auth-XXXXXX");
	if (!mkdtemp (dir))
		return -1;
	snprintf (path, sizeof (path), "%s/r.db", dir);
	return registry_open (&r, path, 2000, &err) < 0 || registry_user_add (r, "alice", &alice, &err) < 0;
}

static int teardown (void **state)
{
	static const char *const ends[] = { "", "-wal", "-shm" };
	char name[160];

	(void) state;
	clock_set_for_test (-1, -1);
	registry_close (&r);
	for (int i = 0; i < 3; i++) {
		snprintf (name, sizeof (name), "%s%s", path, ends[i]);
		unlink (name);
	}
	rmdir (dir);
	return 0;
}

static int check (struct auth *a, const char *header)
{
	struct http_str h = { header, header ? strlen (header) : 0 };

	memset (&err, 0, sizeof (err));
	return auth_check (a, h, &who, &why, &err);
}

static char *make_token (uint32_t scopes, int64_t expires_ms, struct id *id)
{
	uint8_t hash[REG_HASH_BYTES];
	char *t = auth_new_token (hash), *header = malloc (strlen (t) + 8);

	id_new (id);
	assert_int_equal (registry_token_add (r, &alice.id, hash, scopes, "", expires_ms, id, &err), 0);
	sprintf (header, "Bearer %s", t);
	free (t);
	return header;
}

static void test_headers (void **state)
{
	static const struct { const char *header; enum fail why; } cases[] = {
		{ NULL, FAIL_UNAUTHENTICATED }, { "", FAIL_INVALID_TOKEN }, { "Bearer", FAIL_INVALID_TOKEN }, { "Bearer ", FAIL_INVALID_TOKEN },
		{ "Basic abc", FAIL_INVALID_TOKEN }, { "Bearer unknown", FAIL_INVALID_TOKEN }, { "token", FAIL_INVALID_TOKEN },
	};
	struct auth *a = auth_create (r, 5000, 0, 1);
	char *big = calloc (1, 10000);

	(void) state;
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		assert_int_equal (check (a, cases[i].header), -1);
		assert_int_equal (why, cases[i].why);
		assert_int_equal (err.code, ERR_UNAUTHENTICATED);
	}
	memset (big, 'x', 9999);
	memcpy (big, "Bearer ", 7);
	assert_int_equal (check (a, big), -1);
	free (big);
	auth_destroy (&a);
}

static void test_token_and_revocation (void **state)
{
	struct auth *a = auth_create (r, 5000, 0, 1);
	struct id id;
	char *h = make_token (SCOPE_READ, 0, &id);

	(void) state;
	clock_set_for_test (1000000000, clock_real_ns ());
	assert_int_equal (check (a, h), 0);
	assert_string_equal (who.name, "alice");
	assert_int_equal (who.scopes, SCOPE_READ);
	assert_int_equal (registry_token_revoke (r, &id, &err), 0);
	assert_int_equal (check (a, h), 0); /* remembered */
	clock_set_for_test (7000000000, clock_real_ns ());
	assert_int_equal (check (a, h), -1); /* for 5 s at most */
	assert_int_equal (why, FAIL_INVALID_TOKEN);
	free (h);
	auth_destroy (&a);
}

static void test_expiry_beats_the_cache (void **state)
{
	struct auth *a = auth_create (r, 60000, 0, 1);
	int64_t now = clock_real_ns ();
	struct id id;
	char *h = make_token (SCOPE_ALL, now / 1000000 + 2000, &id);

	(void) state;
	clock_set_for_test (1000000000, now);
	assert_int_equal (check (a, h), 0);
	clock_set_for_test (2000000000, now + 3000000000);
	assert_int_equal (check (a, h), -1);
	free (h);
	auth_destroy (&a);
}

static void test_token_is_not_stored (void **state)
{
	struct id id;
	char *h = make_token (SCOPE_ALL, 0, &id), buf[4096];
	FILE *f;
	size_t n;

	(void) state;
	registry_close (&r);
	f = fopen (path, "r");
	while ((n = fread (buf, 1, sizeof (buf), f)) > 0)
		assert_null (memmem (buf, n, h + 7, 20));
	fclose (f);
	assert_int_equal (registry_open (&r, path, 1000, &err), 0);
	free (h);
}

static void test_rate (void **state)
{
	struct auth *a = auth_create (r, 5000, 10, 5);
	struct id other = { { 9 } };
	int n = 0;

	(void) state;
	clock_set_for_test (1000000000, 1);
	for (int i = 0; i < 20; i++)
		n += auth_rate (a, &alice.id);
	assert_int_equal (n, 5); /* the burst */
	assert_true (auth_rate (a, &other));
	clock_set_for_test (1200000000, 1); /* 200 ms later: two more */
	for (n = 0; n < 10 && auth_rate (a, &alice.id); n++)
		;
	assert_int_equal (n, 2);
	auth_destroy (&a);
	a = auth_create (r, 5000, 0, 1);
	for (int i = 0; i < 1000; i++)
		assert_true (auth_rate (a, &alice.id));
	auth_destroy (&a);
}

static void test_scopes (void **state)
{
	char t[32];

	(void) state;
	assert_int_equal (auth_scopes_parse ("all"), SCOPE_ALL);
	assert_int_equal (auth_scopes_parse ("read,submit"), SCOPE_READ | SCOPE_SUBMIT);
	assert_int_equal (auth_scopes_parse ("read write"), -1);
	assert_int_equal (auth_scopes_parse (""), -1);
	assert_string_equal (auth_scopes_text (SCOPE_READ | SCOPE_REGISTER, t), "read,register");
	assert_string_equal (auth_scopes_text (SCOPE_ALL, t), "all");
}

static void test_basic (void **state)
{
	static const struct { const char *h; bool good; const char *name, *secret; } cases[] = {
		{ "Basic YWxpY2U6c2VjcmV0", true, "alice", "secret" }, { "basic YTpiOmM=", true, "a", "b:c" }, { "Basic OmI=", true, "", "b" },
		{ "Basic YWxpY2U=", false, NULL, NULL }, { "Basic !!!!", false, NULL, NULL }, { "Basic ", false, NULL, NULL },
		{ "Bearer x", false, NULL, NULL },
		{ "Basic YQ", false, NULL, NULL }, { "Basic YToAYg==", false, NULL, NULL },
	};
	char name[100], secret[100];

	(void) state;
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		struct http_str h = { cases[i].h, strlen (cases[i].h) };
		assert_int_equal (auth_basic (h, name, secret, sizeof (name)) == 0, cases[i].good);
		if (cases[i].good) {
			assert_string_equal (name, cases[i].name);
			assert_string_equal (secret, cases[i].secret);
		}
	}
}

#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
int main (void)
{
	const struct CMUnitTest tests[] = { T (test_headers), T (test_token_and_revocation), T (test_expiry_beats_the_cache),
					    T (test_token_is_not_stored), T (test_rate), T (test_scopes), T (test_basic) };
	return cmocka_run_group_tests (tests, NULL, NULL);
}
