/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"

#include <inttypes.h>
#include <errno.h>
#include <unistd.h>

static char dir[] = "/tmp/test_log.XXXXXX", path[64], text[1 << 20];

static const char *read_log (void)
{
	FILE *f = fopen (path, "r");
	size_t n = f ? fread (text, 1, sizeof (text) - 1, f) : 0;
	text[n] = '\0';
	if (f)
		fclose (f);
	return text;
}

static void expect (const char *want)
{
	if (!strstr (read_log (), want))
		fail_msg ("no <%s> in:\n%s", want, text);
}

static int setup (void **state)
{
	(void) state;
	clock_set_for_test (1000000000, 1700000000123456789);
	unlink (path);
	return log_open ("tester", path, LOG_INFO, NULL);
}

static void test_line (void **state)
{
	(void) state;
	errno = EPERM;
	log_warn ("pool", "block lost", "ep=%s age_s=%d big=%" PRIu64 " size=%zu f=%.1f x=%x pos=%d/%d s=%.*s", "7f3c", -31,
		  UINT64_MAX, sizeof (int), 1.25, 255u, 1, 2, 2, "abc");
	assert_int_equal (errno, EPERM);
	expect ("ts=2023-11-14T22:13:20.123Z lvl=warn mod=pool prog=tester pid=");
	expect (" msg=\"block lost\" ep=7f3c age_s=-31 big=18446744073709551615 size=4 f=1.2 x=ff pos=1/2 s=ab\n");
}

static void test_quoting (void **state)
{
	(void) state;
	const char *volatile null = NULL;
	log_info ("q", "quoted", "a=%s b=%s c=%s d=%s e=%s f=%s", "two words", "q\"\\", "l\n\t\x01", "", null,
		  "\xc3\xa9\xff");
	expect (" msg=quoted a=\"two words\" b=\"q\\\"\\\\\" c=\"l\\n\\t\\x01\" d=\"\" e=\"\" f=\"\xc3\xa9\\xff\"\n");
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
#pragma GCC diagnostic ignored "-Wformat-security"
static void test_odd_formats_do_no_harm (void **state)
{
	static const char *const odd[] = { "%", "a=%", "a=%n", "a=%ls", "==", "   ", "a b c", "a=%5000d", "a=%*.*.*d",
					   "a=%-+ #0-+ #0-+ #0d", "a=%y", "%d", "a=%%", "a=%lllllllllllllld" };
	char *huge = malloc (100000);
	(void) state;
	for (size_t i = 0; i < sizeof (odd) / sizeof (odd[0]); i++)
		log_line (LOG_INFO, "odd", odd[i], odd[i], 1, 2, 3, 4);
	memset (huge, 'x', 99999);
	huge[99999] = '\0';
	log_info ("odd", "huge value", "a=%s b=%d", huge, 5);
	log_info ("odd", "two huge", "a=%s b=%s c=%s d=%s", huge, huge, huge, huge);
	log_line (LOG_INFO, "odd", huge, "%s=1", huge);
	log_line ((enum log_level) 99, NULL, NULL, NULL);
	free (huge);
	expect ("log_format_error");
	expect ("cut=true");
	expect (" b=5\n");
	for (char *l = text, *e; (e = strchr (l, '\n')); l = e + 1) {
		assert_true (e - l < 4096);
		assert_memory_equal (l, "ts=2023-", 8);
	}
}
#pragma GCC diagnostic pop

static void test_repeats_are_counted (void **state)
{
	int lines = 0;
	(void) state;
	for (int i = 0; i < 100; i++)
		log_info ("rate", "again", "i=%d", i);
	read_log ();
	for (char *p = text; (p = strchr (p, '\n')); p++)
		lines++;
	assert_int_equal (lines, LOG_BURST);
	log_info ("rate", "another", NULL);
	expect ("msg=another\n");
	clock_set_for_test (2100000000, 1700000000123456789);
	log_info ("rate", "again", NULL);
	expect ("msg=again suppressed=80\n");
}

static void test_levels_reopen_and_err (void **state)
{
	enum log_level l = LOG_INFO;
	struct err e;
	(void) state;
	log_debug ("x", "hidden", NULL);
	assert_null (strstr (read_log (), "hidden"));
	assert_int_equal (log_level_parse ("debug", &l), 0);
	assert_int_equal (l, LOG_DEBUG);
	assert_int_equal (log_level_parse ("loud", &l), -1);
	assert_int_equal (log_level_parse (NULL, &l), -1);
	unlink (path);
	assert_int_equal (log_reopen (&e), 0);
	err_set (&e, ERR_LIMIT, FAULT_PEER, "too much \"x\"");
	log_err (LOG_ERROR, "x", "failed", &e);
	log_err (LOG_ERROR, "x", "failed", NULL);
	expect ("msg=failed code=LIMIT fault=peer err=\"too much \\\"x\\\"\"\n");
	assert_int_equal (log_open ("t", "/nonexistent/x.log", LOG_INFO, &e), -1);
}

/* A full pipe must not block us. */
static void test_full_pipe_drops (void **state)
{
	int p[2], saved = dup (2);
	(void) state;
	assert_int_equal (pipe (p), 0);
	fflush (stderr);
	log_open ("t", NULL, LOG_INFO, NULL);
	dup2 (p[1], 2);
	for (int i = 0; i < 2000; i++) {
		char msg[32];
		snprintf (msg, sizeof (msg), "message %d", i);
		log_info ("pipe", msg, "pad=%0200d", i);
	}
	assert_true (read (p[0], text, 60000) > 0);
	log_info ("pipe", "after", NULL);
	dup2 (saved, 2);
	close (p[1]);
	size_t n = 0;
	for (ssize_t got; (got = read (p[0], text + n, sizeof (text) - 1 - n)) > 0;)
		n += (size_t) got;
	text[n] = '\0';
	assert_non_null (strstr (text, "msg=after dropped="));
	close (p[0]);
	close (saved);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup (test_line, setup),
		cmocka_unit_test_setup (test_quoting, setup),
		cmocka_unit_test_setup (test_odd_formats_do_no_harm, setup),
		cmocka_unit_test_setup (test_repeats_are_counted, setup),
		cmocka_unit_test_setup (test_levels_reopen_and_err, setup),
		cmocka_unit_test_setup (test_full_pipe_drops, setup),
	};
	if (!mkdtemp (dir))
		return 1;
	snprintf (path, sizeof (path), "%s/log", dir);
	int rc = cmocka_run_group_tests (tests, NULL, NULL);
	log_open ("t", NULL, LOG_INFO, NULL);
	unlink (path);
	rmdir (dir);
	return rc;
}
