/* SPDX-License-Identifier: Apache-2.0 */
/* More jobs than one command may name, on a batch system whose commands are echoes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "endpoint/providers/slurm.h"

enum { JOBS = 1100, NAMED_MAX = 1000, DEADLINE_MS = 120000 };

static struct {
	struct loop *loop;
	void *provider;
	char names[JOBS + 1][BATCH_NAME_MAX];
	int submitted, running, ended, listings;
	size_t most;			/* ids that a command named */
	char first[BATCH_ID_MAX];	/* that the last one named */
	bool turned;			/* a later one began elsewhere */
	struct loop_timer *look;
	int64_t until_ms;
} w;

static void nothing (const void *conf, const struct batch_job *j, struct buf *out)
{
	(void) conf;
	(void) j;
	(void) out;
}

static void submit (const void *conf, const struct batch_job *j, struct batch_args *a)
{
	(void) conf;
	snprintf (w.names[++w.submitted], BATCH_NAME_MAX, "%s", j->name);
	batch_arg (a, "echo");
	batch_arg (a, "%d", w.submitted);
}

/* One row for each id, as squeue prints them. */
static void status (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	(void) conf;
	if (n > w.most)
		w.most = n;
	if (n == NAMED_MAX || w.turned)
		w.listings++;
	w.turned = w.turned || (*w.first && n && strcmp (w.first, ids[0]) != 0);
	if (n)
		snprintf (w.first, sizeof (w.first), "%s", ids[0]);
	batch_arg (a, "printf");
	batch_arg (a, "%%s\\n");
	for (size_t i = 0; i < n; i++)
		batch_arg (a, "%s|%s|RUNNING|node1|None", ids[i], w.names[atoi (ids[i])]);
}

static void cancel (const void *conf, const char *const *ids, size_t n, struct batch_args *a)
{
	(void) conf;
	(void) ids;
	assert_true (n <= NAMED_MAX);
	batch_arg (a, "true");
}

static void on_block (const char *id, enum provider_state state, bool failed, const char *text, void *arg)
{
	(void) failed;
	(void) arg;
	w.running += state == PROVIDER_RUNNING;
	w.ended += state == PROVIDER_ENDED;
	if (state == PROVIDER_ENDED)
		print_message ("block %s ended: %s\n", id, text);
}

static void look (void *arg)
{
	(void) arg;
	if (w.listings >= 8 || w.ended || clock_now_ms () > w.until_ms)
		loop_stop (w.loop);
}

static void test_more_jobs_than_a_command_names (void **state)
{
	struct batch_system s = slurm_system;
	struct batch_conf conf = { .walltime_s = 600, .cmd_timeout_ms = 60000, .poll_ms = 100, .unknown_ms = 60000, .max_submits_per_hour = 100000 };
	char dir[] = "/tmp/weft-test-jobs-XXXXXX", id[16];
	const char *const argv[] = { "true", NULL }, *const *nodes[] = { argv };
	struct provider_env env = { .conf = &conf, .on_block = on_block, .endpoint = "x", .identity = "", .log_dir = dir };
	struct err err;

	(void) state;
	assert_non_null (mkdtemp (dir));
	s.header = nothing;
	s.submit = submit;
	s.status = s.search = status;
	s.history = NULL;
	s.cancel = cancel;
	s.launch = NULL;
	w.loop = env.loop = loop_create (&err);
	w.look = loop_timer_create (w.loop, look, NULL);
	loop_timer_start (w.look, 20, true);
	w.until_ms = clock_now_ms () + DEADLINE_MS;
	w.provider = batch_create (&s, &env, &err);
	for (int i = 1; i <= JOBS; i++) {
		snprintf (id, sizeof (id), "b%d", i);
		assert_int_equal (batch_submit (w.provider, &(struct provider_block){ .id = id, .nodes = 1, .argv = nodes, .log_dir = dir, .endpoint = "x" },
						&err), 0);
	}
	loop_run (w.loop);
	assert_int_equal (w.ended, 0);
	assert_int_equal (w.submitted, JOBS);
	assert_int_equal (w.most, NAMED_MAX);
	assert_true (w.listings >= 8);
	assert_true (w.turned);
	batch_destroy (w.provider);
	loop_timer_destroy (&w.look);
	loop_destroy (&w.loop);
	assert_int_equal (rmdir (dir), 0);
}

int main (void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test (test_more_jobs_than_a_command_names) };

	return cmocka_run_group_tests (tests, NULL, NULL);
}
