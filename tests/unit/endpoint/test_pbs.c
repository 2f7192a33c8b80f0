/* SPDX-License-Identifier: Apache-2.0 */
/* What PBS's commands say, as recorded from OpenPBS 23.06, its broken JSON included; and the script of a job. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/xmem.h"
#include "endpoint/providers/pbs.h"

static char got[4000];

static void note (const struct batch_row *r, void *arg)
{
	(void) arg;
	snprintf (got + strlen (got), sizeof (got) - strlen (got), "<%s,%s,%s,%s,%s>", r->id, r->name, r->state, r->nodes, r->reason);
}

#define HEAD "{\n    \"timestamp\":1795241791,\n    \"pbs_version\":\"23.06.06\",\n    \"pbs_server\":\"head\""
#define JOB(id, rest) "        \"" id "\":{\n            \"Job_Name\":\"x\",\n" rest "\n        }"
#define JOBS(jobs) HEAD ",\n    \"Jobs\":{\n" jobs "\n    }\n}"
#define M(k, v) "            \"" k "\":" v

static const struct { const char *out, *rows; int rc; } listings[] = {
	{ "", "", 0 },
	{ "\n \n", "", 0 },
	{ HEAD "\n}", "", 0 },
	{ JOBS (JOB ("6.head", M ("resources_used", "{\n                \"Job_Name\":\"y\"\n            },\n")
		     M ("job_state", "\"R\",\n") M ("exec_host", "\"head/0*2+exec1/0*2+exec1/1\",\n") M ("comment", "\"Job run at Sat\""))),
	  "<6.head,x,R,head,exec1,Job run at Sat>", 0 },
	{ JOBS (JOB ("7.head", M ("job_state", "\"Q\",\n") M ("comment", "\"Not Running: Not enough free nodes available\"")) ",\n"
		JOB ("11.head", M ("job_state", "\"Q\",\n") M ("comment", "\"Can Never Run: Insufficient amount of resource: ncpus (R: 64 A: 4 T: 4)\""))),
	  "<7.head,x,Q,,Not Running: Not enough free nodes available>"
	  "<11.head,x,Q never,,Can Never Run: Insufficient amount of resource: ncpus (R: 64 A: 4 T: 4)>", 0 },
	{ JOBS (JOB ("8.head", M ("job_state", "\"H\",\n") M ("Hold_Types", "\"u\""))), "<8.head,x,H,,by its owner>", 0 },
	{ JOBS (JOB ("8.head", M ("job_state", "\"H\",\n") M ("Hold_Types", "\"o\""))), "<8.head,x,H,,by an operator>", 0 },
	{ JOBS (JOB ("8.head", M ("job_state", "\"H\",\n") M ("Hold_Types", "\"s\",\n") M ("comment", "\"job held, too many failed attempts to run\""))),
	  "<8.head,x,H system,,hold type s; job held, too many failed attempts to run>", 0 },
	/* numbers as they were given, a value that swallows its quote, raw control characters, bytes that are not UTF-8 */
	{ JOBS (JOB ("1.head", M ("Job_Name", "1.,\n") M ("job_state", "\"R\"")) ",\n" JOB ("2.head", M ("Job_Name", "\"007\",\n") M ("job_state", "\"B\""))),
	  "<1.head,1.,R,,><2.head,007,B,,>", 0 },
	{ JOBS (JOB ("1.head", M ("Variable_List", "{\n                \"Q\":\"x\\\",\n"
		     "                \"A\":\"{\",\n                \"B\":\"h^\x03^\xe9\"\n            },\n")
		     M ("job_state", "\"S\",\n") M ("comment", "\"a \\\"b\\\" \\c \\\\ \x01\\n\""))), "<1.head,x,S,,a \"b\" c \\   >", 0 },
	/* as versions with cJSON print it */
	{ "{\n\t\"timestamp\":\t1,\n\t\"Jobs\":\t{\n\t\t\"5.head\":\t{\n\t\t\t\"Job_Name\":\t\"n\",\n\t\t\t\"job_state\":\t\"W\",\n"
	  "\t\t\t\"Resource_List\":\t{\n\t\t\t\t\"ncpus\":\t1\n\t\t\t}\n\t\t}\n\t}\n}\n", "<5.head,n,W,,>", 0 },
	/* no state; and "Jobs" that are not the jobs */
	{ JOBS (JOB ("1.head", M ("queue", "\"workq\""))), "<1.head,x,,,>", 0 },
	{ "{\n\"x\":{\n\"Jobs\":{\n\"1.head\":{\n\"job_state\":\"R\"\n}\n}\n}\n}", "", 0 },
	/* cut, or something else */
	{ HEAD ",\n    \"Jobs\":{\n" JOB ("1.head", M ("job_state", "\"R\"")) ",\n        \"2.head\":{", "<1.head,x,R,,>", -1 },
	{ "<html>not found</html>", "", -1 },
	{ "qstat: invalid option -- 'F'\nusage: qstat [-f] [-W site_specific]\n", "", -1 },
	{ "a site's greeting\n" JOBS (JOB ("1.head", M ("job_state", "\"R\""))), "<1.head,x,R,,>", 0 },
};

static void test_listings (void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof (listings) / sizeof (listings[0]); i++) {
		char *text = xstrdup (listings[i].out);
		got[0] = 0;
		if (pbs_rows (text, note, NULL) != listings[i].rc || strcmp (got, listings[i].rows) != 0)
			fail_msg ("listing %zu: %s", i, got);
		free (text);
	}
}

/* Exit_status, substate ("" = not said) as recorded, and what a block of that job is. */
static const struct { const char *exit, *substate, *reason; enum batch_state state; const char *text; } ends[] = {
	{ "0", "92", "", BATCH_DONE, "its managers ended" },
	{ "3", "93", "exit status 3", BATCH_FAILED, "it failed" },
	{ "254", "93", "exit status 254", BATCH_FAILED, "it failed" },
	{ "265", "93", "signal 9", BATCH_FAILED, "a signal ended it" },
	{ "-29", "93", "", BATCH_DONE, "its wall time was over" },
	{ "-20", "93", "", BATCH_FAILED, "a node of it failed" },
	{ "-27", "93", "", BATCH_FAILED, "it used more memory than it has" },
	{ "-28", "93", "", BATCH_FAILED, "it used more processor time than it has" },
	{ "-10", "93", "code -10", BATCH_FAILED, "PBS could not start it" },
	{ "271", "91", "", BATCH_FAILED, "somebody deleted it" },
	{ "265", "91", "", BATCH_FAILED, "somebody deleted it" },
	{ "", "91", "", BATCH_FAILED, "somebody deleted it" },
};

static void note_end (const struct batch_row *r, void *arg)
{
	const struct batch_word *w = batch_find_word (&pbs_system, r->state);

	(void) arg;
	snprintf (got, sizeof (got), "%s|%d|%s", r->reason, w ? (int) w->state : -1, w ? w->text : "?");
}

static void test_ends (void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof (ends) / sizeof (ends[0]); i++)
		for (int exiting = 0; exiting <= (*ends[i].exit ? 1 : 0); exiting++) {
			char *want = xasprintf ("%s|%d|%s", ends[i].reason, (int) ends[i].state, ends[i].text);
			char *text = xasprintf (JOBS (JOB ("1.head", M ("job_state", "\"%s\",\n") "%s%s%s" M ("substate", "%s"))), exiting ? "E" : "F",
						*ends[i].exit ? "            \"Exit_status\":" : "", ends[i].exit, *ends[i].exit ? ",\n" : "",
						ends[i].substate);
			assert_int_equal (pbs_rows (text, note_end, NULL), 0);
			if (strcmp (got, want) != 0)
				fail_msg ("end %zu: %s, not %s", i, got, want);
			free (text);
			free (want);
		}
}

static void test_states (void **state)
{
	static const char letters[] = "QREHTWSUBXM";	/* pbs_job_attributes(7) */

	(void) state;
	for (const char *p = letters; *p; p++) {
		char word[2] = { *p, 0 };
		assert_non_null (batch_find_word (&pbs_system, word));
	}
	assert_null (batch_find_word (&pbs_system, "Z"));
	assert_null (batch_find_word (&pbs_system, ""));
	assert_int_equal (batch_find_word (&pbs_system, "H")->state, BATCH_PENDING);
	assert_int_equal (batch_find_word (&pbs_system, "H system")->state, BATCH_STUCK);
	assert_int_equal (batch_find_word (&pbs_system, "Q never")->state, BATCH_STUCK);
}

static void test_job_ids (void **state)
{
	static const struct { const char *out, *id; } t[] = {
		{ "1.head\n", "1.head" }, { "2001.pbs-01.site.example.org\n", "2001.pbs-01.site.example.org" }, { "a hook says: hello\n7.head\n", "7.head" },
		{ "42.head", "42.head" }, { "", NULL }, { "12\n", NULL }, { "12.\n", NULL },
		{ "4[].head\n", NULL }, { "1.head; rm\n", NULL }, { "x1.head\n", NULL },
	};
	char id[BATCH_ID_MAX];

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		assert_int_equal (pbs_system.submitted (t[i].out, id), t[i].id ? 0 : -1);
		if (t[i].id)
			assert_string_equal (id, t[i].id);
	}
}

static void test_what_commands_say (void **state)
{
	static const char *const away[] = {
		"Connection refused | qstat: cannot connect to server head (errno=15010)", "Couldn't connect to cluster: head",
		"Unknown Host. | qstat: cannot connect to server head (errno=15008)", "sh: 1: qselect: not found", NULL
	};
	static const char *const refused[] = {
		"qsub: Unknown queue", "qsub: Queue is not enabled", "qsub: Unauthorized Request", "qsub: Job violates queue and/or server resource limits",
		"qsub: Unknown resource Resource_List.nosuch", "qsub: Illegal attribute or resource value Resource_List.select",
		"qsub: Error (15002) submitting job", NULL
	};

	(void) state;
	for (size_t i = 0; away[i]; i++)
		assert_true (batch_says (away[i], pbs_system.down));
	for (size_t i = 0; refused[i]; i++)
		assert_false (batch_says (refused[i], pbs_system.down));
	assert_true (batch_says ("qstat: Unknown Job Id 99999.head", pbs_system.none));
	assert_true (batch_says ("qstat: 1.head Job has finished, use -x or -H to obtain historical job information", pbs_system.none));
	assert_true (batch_says ("qstat: PBS is not configured to maintain job history 1.head", pbs_system.no_history));
}

static char *render (struct pbs_conf *c, unsigned nodes)
{
	static const char *const argv[] = { "weft-manager", "it's", NULL };
	struct batch_job j = { .name = "weft-x-b1", .block = "b1", .endpoint = "x", .script = "/d/s.sh", .log_dir = "/d", .log = "/d/a b.log", .nodes = nodes,
			       .argv = argv };
	struct buf out;
	char *text;

	buf_init (&out, 1 << 20);
	script_render (&pbs_system, c, &j, &out);
	text = xstrdup ((const char *) out.data);
	buf_fini (&out);
	return text;
}

static void test_directives (void **state)
{
	struct pbs_conf c = { .batch = { .walltime_s = 90061 }, .queue = (char[]){ "workq" }, .account = (char[]){ "it's\n#PBS -u root" },
			      .select_options = (char[]){ ":ngpus=4:mem=64gb" }, .place = (char[]){ "scatter:excl" }, .cpus_per_node = 8 };
	char *text = render (&c, 3);

	(void) state;
	assert_non_null (strstr (text, "\n#PBS -N weft-x-b1\n"));
	assert_non_null (strstr (text, "\n#PBS -l select=3:ncpus=8:ngpus=4:mem=64gb\n#PBS -l place=scatter:excl\n#PBS -l walltime=25:01:01\n#PBS -q workq\n"));
	assert_non_null (strstr (text, "\n#PBS -A 'it'\\''s #PBS -u root'\n"));	/* pbs_check refuses it; if not, it stays in its line */
	assert_non_null (strstr (text, "\texec >>'/d/a b.log' 2>&1 </dev/null || exit\n"));
	free (text);
	c.cpus_per_node = 0;
	c.select_options = NULL;
	c.place = (char[]){ "" };
	c.batch.launcher = LAUNCH_OWN;
	text = render (&c, 2);
	assert_non_null (strstr (text, "\n#PBS -l select=2\n#PBS -l walltime"));
	assert_non_null (strstr (text, "pbsdsh -n \"$weft_host\" -- /bin/bash /d/s.sh node \"$weft_end\" </dev/null &\n"));
	free (text);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_listings),
		cmocka_unit_test (test_ends),
		cmocka_unit_test (test_states),
		cmocka_unit_test (test_job_ids),
		cmocka_unit_test (test_what_commands_say),
		cmocka_unit_test (test_directives),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
