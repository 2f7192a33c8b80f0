/* SPDX-License-Identifier: Apache-2.0 */
/* The script of a job, whatever the configuration holds, and what Slurm's commands say (as recorded from 22.05). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <unistd.h>
#include "common/xmem.h"
#include "endpoint/config.h"
#include "endpoint/providers/slurm.h"

static const char *const hostile[] = {
	"plain", "a b", "it's", "\"quoted\"", "$(touch /tmp/weft-pwned)", "`id`", "$HOME", "a\nb", "\n", "", "back\\slash", "tab\there", "!history", "*",
	"#comment", "; exit 9", "-n", "\xc3\xa9\xff", "'\"'\"'", "a'b'c", "%j%%", NULL
};

static char *render (struct slurm_conf *c, const char *const *argv, const char *dir, unsigned nodes)
{
	char *script = xasprintf ("%s/job.sh", dir), *log = xasprintf ("%s/block-b1-0.log", dir);
	struct batch_job j = { .name = "weft-x-b1", .block = "b1", .endpoint = "x", .script = script, .log_dir = dir, .log = log, .nodes = nodes,
			       .argv = argv };
	struct buf out;
	FILE *f;
	char *text;

	buf_init (&out, 1 << 20);
	script_render (&slurm_system, c, &j, &out);
	assert_false (buf_failed (&out));
	text = xstrdup ((const char *) out.data);
	f = fopen (script, "w");
	assert_non_null (f);
	fputs (text, f);
	fclose (f);
	buf_fini (&out);
	free (script);
	free (log);
	return text;
}

static struct slurm_conf defaults (void)
{
	return (struct slurm_conf) { .batch = { .walltime_s = 5400, .launcher = LAUNCH_SINGLE } };
}

static size_t run (const char *cmd, char *out, size_t cap, int *status)
{
	FILE *p = popen (cmd, "r");
	size_t n;

	assert_non_null (p);
	n = fread (out, 1, cap - 1, p);
	out[n] = 0;
	*status = pclose (p);
	return n;
}

/* The words come out of the shell as they went in. */
static void check_words (const char *out, size_t n)
{
	const char *p = out;

	for (size_t i = 0; hostile[i]; i++) {
		assert_true (p + strlen (hostile[i]) < out + n);
		assert_string_equal (p, hostile[i]);
		p += strlen (p) + 1;
	}
	assert_string_equal (p, "--node");
	p += strlen (p) + 1;
	assert_string_equal (p, "a node");
	p += strlen (p) + 1;
	assert_string_equal (p, "--time-left-s");
	p += strlen (p) + 1;
	assert_in_range (atoi (p), 5390, 5400);
}

static void remove_dir (const char *dir)
{
	struct buf b;

	buf_init (&b, 8192);
	buf_str (&b, "rm -r ");
	provider_quote (dir, &b);
	assert_int_equal (system ((const char *) b.data), 0);
	buf_fini (&b);
}

static void test_quoting (void **state)
{
	char dir[] = "/tmp/test batch'$(x)`.XXXXXX";
	const char *argv[sizeof (hostile) / sizeof (hostile[0]) + 2] = { "printf", "%s\\0" };
	static const int launchers[] = { LAUNCH_SINGLE, LAUNCH_OWN, LAUNCH_MPIEXEC, LAUNCH_SSH };
	char out[8192], *cmd, *text;
	struct slurm_conf c = defaults ();
	struct buf quoted;
	int status;
	size_t n;

	(void) state;
	assert_non_null (mkdtemp (dir));
	memcpy (argv + 2, hostile, sizeof (hostile));
	for (size_t i = 0; i < sizeof (launchers) / sizeof (launchers[0]); i++) {
		c.batch.launcher = launchers[i];
		text = render (&c, argv, dir, launchers[i] == LAUNCH_SINGLE ? 1 : 2);
		free (text);
		buf_init (&quoted, 8192);
		provider_quote (dir, &quoted);
		/* launchers that run what they are given, on one "node": srun and mpiexec their last four words, ssh its last through a shell */
		cmd = xasprintf ("cd %s && "
				 "rm -rf bin && mkdir bin && for l in srun mpiexec; do printf '#!/bin/bash\\nexec \"${@: -4}\"\\n' >bin/$l; done;"
				 "printf '#!/bin/bash\\nexec bash -c \"${@: -1}\"\\n' >bin/ssh; printf '#!/bin/bash\\necho one\\n' >bin/scontrol;"
				 "chmod +x bin/*; SLURMD_NODENAME='a node' SLURM_JOB_NODELIST=n PATH=$PWD/bin:$PATH bash job.sh", (const char *) quoted.data);
		n = run (cmd, out, sizeof (out), &status);
		assert_int_equal (status, 0);
		check_words (out, n);
		free (cmd);
		buf_fini (&quoted);
	}
	assert_int_not_equal (access ("/tmp/weft-pwned", F_OK), 0);
	remove_dir (dir);
}

static void test_directives (void **state)
{
	char dir[] = "/tmp/test_batch.XXXXXX";
	const char *argv[] = { "weft-manager", NULL };
	struct slurm_conf c = defaults ();
	char *text;

	(void) state;
	assert_non_null (mkdtemp (dir));
	c.partition = (char[]){ "de\"bug\\ $(x) `y`" };
	c.account = (char[]){ "acc\n#SBATCH --uid=0" };	/* batch_check refuses it; if not, it stays in its line */
	c.exclusive = true;
	c.mem_per_node = 3LL << 30;
	c.gpus_per_node = 2;
	c.cpus_per_node = 8;
	c.batch.walltime_s = 90061;
	c.batch.scheduler_options = (char[]){ "--nice=10\r\n\n#SBATCH --mail-type=END\n   # a remark\n" };
	c.batch.worker_init = (char[]){ "module load x\ncat <<E >/dev/null\n\nE" };
	text = render (&c, argv, dir, 1);
	assert_non_null (strstr (text, "\n#SBATCH --partition=\"de\\\"bug\\\\ $(x) `y`\"\n"));
	assert_non_null (strstr (text, "\n#SBATCH --account=\"acc #SBATCH --uid=0\"\n"));
	assert_non_null (strstr (text, "\n#SBATCH --time=1-01:02:00\n"));
	assert_non_null (strstr (text, "\n#SBATCH --mem=3072M\n"));
	assert_non_null (strstr (text, "\n#SBATCH --gpus-per-node=2\n#SBATCH --exclusive\n"));
	assert_non_null (strstr (text, "\n#SBATCH --cpus-per-task=8\n"));
	assert_non_null (strstr (text, "\n#SBATCH --nice=10\n#SBATCH --mail-type=END\n   # a remark\n# Block b1"));
	assert_non_null (strstr (text, "\nmodule load x\ncat <<E >/dev/null\n\nE\n# end of worker_init\n"));
	free (text);
	remove_dir (dir);
}

static const struct { const char *text; bool good; const char *said; } checks[] = {
	{ "provider: {type: slurm, slurm: {partition: main}}", true, "" },
	{ "provider: {type: slurm, slurm: {partition: \"a\\nb\"}}", false, "provider.slurm.partition: a line end" },
	{ "provider: {type: slurm, slurm: {gres: \"a\\tb\"}}", false, "provider.slurm.gres: a control character" },
	{ "provider: {type: slurm, slurm: {worker_init: \"a\\nb\\tc\"}}", true, "" },
	{ "provider: {type: slurm, slurm: {worker_init: \"a\\eb\"}}", false, "provider.slurm.worker_init: a control character" },
	{ "provider: {type: slurm, slurm: {launcher_options: \"a\\nb\"}}", false, "provider.slurm.launcher_options: a line end" },
	{ "provider: {type: slurm, slurm: {walltime: 1-12:00:00}}", true, "" },
	{ "provider: {type: slurm, slurm: {walltime: soon}}", false, "a time such as 30m" },
	{ "provider: {type: slurm, slurm: {walltime: 30}}", false, "31622400 seconds" },
	{ "provider: {type: slurm}\nscaling: {nodes_per_block: 2}", false, "single starts one node" },
	{ "provider: {type: slurm, slurm: {launcher: srun}}\nscaling: {nodes_per_block: 2}", true, "" },
	{ "provider: {type: slurm}\nmanager_transport: ipc", false, "manager_transport: ipc does not reach the nodes of provider slurm" },
	{ "provider: {type: local}\nmanager_transport: ipc", true, "" },
};

static void test_configurations (void **state)
{
	char path[] = "/tmp/test_batch.XXXXXX";
	int fd = mkstemp (path);
	struct buf report;
	struct err err;

	(void) state;
	for (size_t i = 0; i < sizeof (checks) / sizeof (checks[0]); i++) {
		struct config *c;
		assert_int_equal (ftruncate (fd, 0), 0);
		assert_int_equal (pwrite (fd, checks[i].text, strlen (checks[i].text), 0), (ssize_t) strlen (checks[i].text));
		buf_init (&report, 65536);
		c = config_load (path, NULL, &report, &err);
		if (!c != !checks[i].good || (!c && !strstr ((const char *) report.data, checks[i].said)))
			fail_msg ("%s: %s", checks[i].text, report.len ? (const char *) report.data : "taken");
		if (c)
			config_free (&c);
		buf_fini (&report);
	}
	close (fd);
	unlink (path);
}

/* Whoever has a wall time says so: tasks that take longer are refused, not kept waiting for ever. */
static void test_wall_times_are_known (void **state)
{
	char name[100];
	int n = 0;

	(void) state;
	for (size_t i = 0; providers[i]; i++) {
		snprintf (name, sizeof (name), "provider.%s.walltime", providers[i]->name);
		for (const struct conf_key *k = providers[i]->keys; k && k->key; k++)
			if (strcmp (k->key, name) == 0) {
				if (!providers[i]->walltime_s)
					fail_msg ("%s", providers[i]->name);
				n++;
			}
	}
	assert_true (n >= 3);
}

/* ---- what commands say -------------------------------------------------------------------------------------- */

static char got[4000];

static void note (const struct batch_row *r, void *arg)
{
	(void) arg;
	snprintf (got + strlen (got), sizeof (got) - strlen (got), "<%s,%s,%s,%s,%s>", r->id, r->name, r->state, r->nodes, r->reason);
}

static const struct { const char *out, *rows; int rc; } queues[] = {
	{ "", "", 0 },
	{ "12|weft-a-b1|RUNNING|node1|None\n", "<12,weft-a-b1,RUNNING,node1,None>", 0 },
	{ "43|x|PENDING||ReqNodeNotAvail, UnavailableNodes:node4\n", "<43,x,PENDING,,ReqNodeNotAvail, UnavailableNodes:node4>", 0 },
	{ "17|x|PENDING||a | b\n", "<17,x,PENDING,,a | b>", 0 },
	{ "CLUSTER: one\n1|n|R||\n", "<1,n,R,,>", 0 },
	{ "1|n|R||\nsome warning\n2|m|CG||\n", "<1,n,R,,><2,m,CG,,>", 0 },
	{ "<html>not found</html>\n", "", -1 },
	{ "12|cut", "", -1 },
	{ "\n\n", "", 0 },
};

static void test_listings (void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof (queues) / sizeof (queues[0]); i++) {
		char *text = xstrdup (queues[i].out);
		got[0] = 0;
		assert_int_equal (slurm_rows (text, note, NULL), queues[i].rc);
		assert_string_equal (got, queues[i].rows);
		free (text);
	}
	char history[] = "71|weft-a-b1|NODE_FAIL|node1|0:15\n72|weft-a-b2|CANCELLED by 1000|None assigned|0:0\n";
	got[0] = 0;
	assert_int_equal (slurm_history_rows (history, note, NULL), 0);
	assert_string_equal (got, "<71,weft-a-b1,NODE_FAIL,node1,exit code 0:15><72,weft-a-b2,CANCELLED by 1000,,>");
}

static void test_job_ids (void **state)
{
	static const struct { const char *out, *id; } t[] = {
		{ "123\n", "123" }, { "123;cluster\n", "123" }, { "sbatch: a site's plugin says hello\n77\n", "77" }, { "42", "42" },
		{ "", NULL }, { "Submitted batch job 1\n", NULL }, { "12x\n", NULL }, { "1234567890123456789012345\n", NULL },
	};
	char id[BATCH_ID_MAX];

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		int rc = slurm_system.submitted (t[i].out, id);
		assert_int_equal (rc, t[i].id ? 0 : -1);
		if (t[i].id)
			assert_string_equal (id, t[i].id);
	}
}

static void test_words (void **state)
{
	/* as `squeue -t nosuch` lists them */
	static const char all[] = "PENDING,RUNNING,SUSPENDED,COMPLETED,CANCELLED,FAILED,TIMEOUT,NODE_FAIL,PREEMPTED,BOOT_FAIL,DEADLINE,OUT_OF_MEMORY,"
				  "COMPLETING,CONFIGURING,RESIZING,RESV_DEL_HOLD,REQUEUED,REQUEUE_FED,REQUEUE_HOLD,REVOKED,SIGNALING,SPECIAL_EXIT,"
				  "STAGE_OUT,STOPPED,"
				  /* the flags of later versions */
				  "EXPEDITING,LAUNCH_FAILED,POWER_UP_NODE,RECONFIG_FAIL";
	char *text = xstrdup (all), *save = NULL;

	(void) state;
	for (char *w = strtok_r (text, ",", &save); w; w = strtok_r (NULL, ",", &save)) {
		const struct batch_word *found = batch_find_word (&slurm_system, w);
		if (!found || strcmp (found->word, w) != 0)
			fail_msg ("state %s", w);
	}
	free (text);
	assert_int_equal (batch_find_word (&slurm_system, "CANCELLED by 1000")->state, BATCH_FAILED);
	assert_null (batch_find_word (&slurm_system, "UPDATE_DB_SOMEHOW"));
	assert_true (batch_says ("squeue: error: Munge encode failed: Failed to access", slurm_system.down));
	assert_true (batch_says ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", slurm_system.down));
	assert_true (batch_says ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", slurm_system.down));
	assert_false (batch_says ("sbatch: error: invalid partition specified: nosuch", slurm_system.down));
	assert_false (batch_says ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified", slurm_system.down));
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_quoting),
		cmocka_unit_test (test_directives),
		cmocka_unit_test (test_configurations),
		cmocka_unit_test (test_wall_times_are_known),
		cmocka_unit_test (test_listings),
		cmocka_unit_test (test_job_ids),
		cmocka_unit_test (test_words),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
