/* SPDX-License-Identifier: Apache-2.0 */
/* The key file: any key of Z85 is read back whole, whatever character it begins with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "endpoint/manager/upstream.h"

static char path[] = "/tmp/test_upstream.XXXXXX";

static int read_back (const char *text, mode_t mode, char secret[41])
{
	char public[41];
	struct err err = { 0 };
	FILE *f = fopen (path, "w");
	assert_non_null (f);
	fputs (text, f);
	fclose (f);
	assert_int_equal (chmod (path, mode), 0);
	return upstream_read_key (path, public, secret, &err);
}

static void test_every_first_character (void **state)
{
	static const char z85[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@";
	char key[41], text[160], got[41];
	(void)state;
	for (const char *c = z85; *c; c++) { /* the last three begin numbers over 32 bits */
		memset (key, '0', 40);
		key[0] = *c;
		key[40] = '\0';
		snprintf (text, sizeof (text), "public = %s\nsecret = %s\n", key, key);
		assert_int_equal (read_back (text, 0600, got), 0);
		assert_string_equal (got, key);
	}
}

static void test_refused (void **state)
{
	static const char *const bad[] = { "", "secret = ", "secret = short", "public = 0000000000000000000000000000000000000000\n" };
	char got[41];
	(void)state;
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++)
		assert_int_equal (read_back (bad[i], 0600, got), -1);
	assert_int_equal (read_back ("secret = 0000000000000000000000000000000000000000\n", 0644, got), -1);
}

int main (void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test (test_every_first_character), cmocka_unit_test (test_refused) };
	int fd = mkstemp (path), rc;
	if (fd < 0)
		return 1;
	close (fd);
	rc = cmocka_run_group_tests (tests, NULL, NULL);
	unlink (path);
	return rc;
}
