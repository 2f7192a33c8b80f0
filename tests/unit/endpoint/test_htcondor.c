/* SPDX-License-Identifier: Apache-2.0 */
/* What HTCondor's commands print, as its manual and sources have it; and the submit description in the script of a job. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/xmem.h"
#include "endpoint/providers/htcondor.h"

static char got[2000];

static void note (const struct batch_row *r, void *arg)
{
	const struct batch_word *w = batch_find_word (&htcondor_system, r->state);

	(void) arg;
	snprintf (got + strlen (got), sizeof (got) - strlen (got), "<%s,%s,%d %s,%s,%s>", r->id, r->name, w ? (int) w->state : -1, r->state, r->nodes,
		  r->reason);
}

#define AD(rest) "[\n{\n  \"ClusterId\": 12,\n  \"WeftJob\": \"w\",\n  \"WeftWalltime\": 1800,\n  " rest "\n}\n]\n"

static const struct { const char *out, *rows; int rc; } listings[] = {
	{ "", "", 0 },
	{ "\n", "", 0 },
	{ "[\n]\n", "", 0 },
	{ AD ("\"JobStatus\": 1"), "<12,w,1 idle,,>", 0 },
	{ AD ("\"JobStatus\": 2, \"RemoteHost\": \"slot1_2@node7.example.org\""), "<12,w,3 running,node7.example.org,>", 0 },
	{ AD ("\"JobStatus\": 2, \"RemoteHost\": \"node7\""), "<12,w,3 running,node7,>", 0 },
	{ AD ("\"JobStatus\": 5, \"HoldReasonCode\": 1, \"HoldReason\": \"via condor_hold (by user alice)\""),
	  "<12,w,1 held by hand,,via condor_hold (by user alice)>", 0 },
	{ AD ("\"JobStatus\": 5, \"HoldReasonCode\": 6, \"HoldReason\": \"Failed to execute '/x'\""), "<12,w,2 held,,Failed to execute '/x'>", 0 },
	{ AD ("\"JobStatus\": 6"), "<12,w,4 output,,>", 0 },
	{ AD ("\"JobStatus\": 7"), "<12,w,3 suspended,,>", 0 },
	{ AD ("\"JobStatus\": 3"), "<12,w,4 removing,,>", 0 },
	{ AD ("\"JobStatus\": 3, \"RemoveReason\": \"via condor_rm (by user bob)\""), "<12,w,6 removed,,via condor_rm (by user bob)>", 0 },
	{ AD ("\"JobStatus\": 3, \"RemoveReason\": \"... PeriodicRemove ...\", \"RemoteWallClockTime\": 1861.0"),
	  "<12,w,5 wall time,,... PeriodicRemove ...>", 0 },
	{ AD ("\"JobStatus\": 3, \"RemoveReason\": \"... PeriodicRemove ...\", \"RemoteWallClockTime\": 90"),
	  "<12,w,5 evicted,,... PeriodicRemove ...>", 0 },
	{ AD ("\"JobStatus\": 4, \"ExitCode\": 0, \"ExitBySignal\": false, \"LastRemoteHost\": \"s@n\""), "<12,w,5 completed,n,>", 0 },
	{ AD ("\"JobStatus\": 4, \"ExitCode\": 3"), "<12,w,6 failed,,exit status 3>", 0 },
	{ AD ("\"JobStatus\": 4, \"ExitBySignal\": true, \"ExitSignal\": 9"), "<12,w,6 killed,,signal 9>", 0 },
	{ AD ("\"JobStatus\": 9"), "<12,w,-1 JobStatus 9,,>", 0 },
	{ AD ("\"JobStatus\": 1e300"), NULL, 0 },
	{ "[ 1, {}, {\"ClusterId\": \"x\"} ]", "", 0 },
	{ "{}", "", -1 },
	{ "[ {", "", -1 },
	{ "-- Failed to fetch ads from: <>", "", -1 },
};

static void test_listings (void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof (listings) / sizeof (listings[0]); i++) {
		char *text = xstrdup (listings[i].out);
		got[0] = 0;
		if (htcondor_rows (text, note, NULL) != listings[i].rc || (listings[i].rows && strcmp (got, listings[i].rows) != 0))
			fail_msg ("listing %zu: %s", i, got);
		free (text);
	}
}

static void test_job_ids (void **state)
{
	static const struct { const char *out, *id; } t[] = {
		{ "12.0 - 12.0\n", "12" }, { "hello\n7.0 - 7.0", "7" }, { "", NULL }, { "12.0\n", NULL }, { "1 job(s) submitted to cluster 5.\n", NULL },
	};
	char id[BATCH_ID_MAX];

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		assert_int_equal (htcondor_system.submitted (t[i].out, id), t[i].id ? 0 : -1);
		if (t[i].id)
			assert_string_equal (id, t[i].id);
	}
}

static void test_what_commands_say (void **state)
{
	(void) state;
	assert_true (batch_says ("-- Failed to fetch ads from: <127.0.0.1:9618> : head", htcondor_system.down));
	assert_true (batch_says ("ERROR: Can't find address of local schedd", htcondor_system.down));
	assert_true (batch_says ("ERROR: Failed to commit job submission into the queue.", htcondor_system.down));
	assert_false (batch_says ("ERROR: Failed to parse command file (line 3).", htcondor_system.down));
	assert_true (batch_says ("Couldn't find/remove all jobs in cluster 99", htcondor_system.none));
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_listings),
		cmocka_unit_test (test_job_ids),
		cmocka_unit_test (test_what_commands_say),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
