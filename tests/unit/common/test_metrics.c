/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
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

int main (void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test (test_render) };

	return cmocka_run_group_tests (tests, NULL, NULL);
}
