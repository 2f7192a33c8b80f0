/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/metrics.h"

static void has (const struct buf *b, const char *text)
{
	if (!strstr ((char *) b->data, text))
		fail_msg ("missing \"%s\" in:\n%s", text, (char *) b->data);
}

static void test_render (void **state)
{
	struct buf b;
	struct metric *a = metrics_counter ("t_requests_total", "route=\"a\"", "Requests \\ by route.\nReally.");
	struct metric *g = metrics_gauge ("t_depth", NULL, "Depth.");
	struct metric *c = metrics_counter ("t_requests_total", "route=\"b\"", "ignored");
	struct metric *h = metrics_histogram ("t_seconds", "op=\"x\"", "Time.");

	(void) state;
	assert_ptr_equal (metrics_counter ("t_requests_total", "route=\"a\"", ""), a);
	metric_add (a, 3);
	metric_add (a, -1);	/* counters never go back */
	metric_add (c, 1);
	metric_set (g, 2.5);
	metric_add (g, -1);
	metric_observe_ns (h, 50000);
	metric_observe_ns (h, 50001);
	metric_observe_ns (h, 60000000000);
	metric_observe_ns (h, 60000000001);
	metric_observe_ns (h, -5);
	buf_init (&b, 0);
	metrics_render (&b);
	has (&b, "# HELP t_requests_total Requests \\\\ by route.\\nReally.\n# TYPE t_requests_total counter\n"
		 "t_requests_total{route=\"a\"} 3\nt_requests_total{route=\"b\"} 1\n");
	has (&b, "# TYPE t_depth gauge\nt_depth 1.5\n");
	has (&b, "# TYPE t_seconds histogram\nt_seconds_bucket{op=\"x\",le=\"0.00005\"} 2\n"
		 "t_seconds_bucket{op=\"x\",le=\"0.0001\"} 3\n");
	has (&b, "t_seconds_bucket{op=\"x\",le=\"60\"} 4\nt_seconds_bucket{op=\"x\",le=\"+Inf\"} 5\n");
	has (&b, "t_seconds_sum{op=\"x\"} 120.000100002\nt_seconds_count{op=\"x\"} 5\n");
	const char *p = strstr ((char *) b.data, "\nprocess_resident_memory_bytes ");
	assert_non_null (p);
	assert_true (atoll (p + 31) > 100000);
	p = strstr ((char *) b.data, "\nprocess_open_fds ");
	assert_non_null (p);
	assert_true (atoi (p + 18) >= 3);
	has (&b, "\nprocess_cpu_seconds_total ");
	assert_null (strstr ((char *) b.data, "\n\n"));
	buf_fini (&b);
}

static char *text (void)
{
	struct buf b;

	buf_init (&b, 0);
	metrics_render (&b);
	buf_char (&b, 0);
	return (char *) b.data;
}

static void shows (const char *line)
{
	char *t = text ();

	if (!strstr (t, line))
		fail_msg ("missing \"%s\" in:\n%s", line, t);
	free (t);
}

struct other { pid_t pid; int go; };

/* A process that counts n before it joins and n after, when it is told to; then it waits to be killed. */
static struct other other (int area, unsigned slab, int64_t n, double depth)
{
	struct other o;
	int fds[2];
	char byte;

	assert_int_equal (pipe (fds), 0);
	o.go = fds[1];
	if ((o.pid = fork ()))
		return o;
	if (read (fds[0], &byte, 1) != 1)
		_exit (1);
	metric_add (metrics_counter ("t_shared_total", NULL, ""), n);
	metric_set (metrics_gauge ("t_shared", NULL, ""), depth);
	metric_set (metrics_gauge_least ("t_least", NULL, ""), depth);
	metric_observe_ns (metrics_histogram ("t_shared_seconds", NULL, ""), 1000);
	if (metrics_join (area, slab, NULL) < 0)
		_exit (1);
	metric_add (metrics_counter ("t_shared_total", NULL, ""), n);
	for (;;)
		pause ();
}

static void go (const struct other *o)
{
	assert_int_equal (write (o->go, "+", 1), 1);
}

static void end (int area, const struct other *o, unsigned slab)
{
	kill (o->pid, SIGKILL);
	assert_int_equal (waitpid (o->pid, NULL, 0), o->pid);
	close (o->go);
	metrics_left (area, slab);
}

static void until_shown (const char *line)
{
	for (int i = 0; i < 5000; i++) {
		char *t = text ();
		bool there = strstr (t, line) != NULL;

		free (t);
		if (there)
			return;
		usleep (1000);
	}
	shows (line);
}

static void test_processes_count_together (void **state)
{
	int area = metrics_area (4, NULL);
	struct other a, b, c;

	(void) state;
	assert_true (area >= 0);
	metrics_histogram ("t_shared_seconds", NULL, "Time.");
	metrics_counter ("t_shared_total", NULL, "All of them.");
	metrics_gauge ("t_shared", NULL, "Sum.");
	metrics_gauge_least ("t_least", NULL, "Least.");
	a = other (area, 2, 100, 4);
	b = other (area, 1, 1000, 7);
	c = other (area, 2, 5, 2);
	metric_add (metrics_counter ("t_shared_total", NULL, NULL), 1);
	metric_set (metrics_gauge ("t_shared", NULL, NULL), 10);
	metric_set (metrics_gauge_least ("t_least", NULL, NULL), 10);
	assert_int_equal (metrics_join (dup (area), 9, NULL), -1);	/* there is no such slab */
	assert_int_equal (metrics_join (dup (area), 0, NULL), 0);
	go (&a);
	go (&b);
	until_shown ("t_shared_total 2201\n");
	shows ("t_shared 21\n");
	shows ("t_least 4\n");
	shows ("t_shared_seconds_count 2\n");
	end (area, &a, 2);
	shows ("t_shared 17\n");		/* a gauge of a dead process is gone, */
	shows ("t_least 7\n");
	shows ("t_shared_total 2201\n");	/* what it counted stays, */
	go (&c);
	until_shown ("t_shared_total 2211\n");	/* also when another takes its place */
	shows ("t_shared 19\n");
	end (area, &b, 1);
	end (area, &c, 2);
	shows ("t_shared 10\n");
	close (area);
}

int main (void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test (test_render), cmocka_unit_test (test_processes_count_together) };

	return cmocka_run_group_tests (tests, NULL, NULL);
}
