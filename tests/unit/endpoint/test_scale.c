/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/clock.h"
#include "common/xmem.h"
#include "endpoint/blocks.h"

/* ---- the decision ------------------------------------------------------------------------------------------- */

static const struct {
	const char *what;
	struct scale_limits l;
	struct scale_input in;
	int64_t want;
} table[] = {
	/*                        init min max slots par idle       tasks blocks idle started */
	{ "init blocks at start", { 2, 0, 5, 4, 1.0, 0 }, { 0, 0, 0, 0, false }, 2 },
	{ "not again",            { 2, 0, 5, 4, 1.0, 0 }, { 0, 0, 0, 0, true }, 0 },
	{ "min blocks are kept",  { 0, 2, 5, 4, 1.0, 0 }, { 0, 1, 0, 0, true }, 1 },
	{ "one task, no block",   { 0, 0, 5, 4, 1.0, 0 }, { 1, 0, 0, 0, true }, 1 },
	{ "a slot a task",        { 0, 0, 5, 4, 1.0, 0 }, { 9, 1, 0, 0, true }, 2 },
	{ "half a slot a task",   { 0, 0, 5, 4, 0.5, 0 }, { 9, 1, 0, 0, true }, 1 },
	{ "parallelism 0",        { 0, 0, 5, 4, 0.0, 0 }, { 1000, 1, 0, 0, true }, 0 },
	{ "parallelism 0, none",  { 0, 0, 5, 4, 0.0, 0 }, { 1000, 0, 0, 0, true }, 1 },
	{ "max blocks",           { 0, 0, 5, 4, 1.0, 0 }, { 1000, 2, 0, 0, true }, 3 },
	{ "at the maximum",       { 0, 0, 5, 4, 1.0, 0 }, { 1000, 5, 0, 0, true }, 0 },
	{ "init over max",        { 9, 0, 5, 4, 1.0, 0 }, { 0, 0, 0, 0, false }, 5 },
	{ "idle ones go",         { 0, 0, 5, 4, 1.0, 0 }, { 0, 3, 3, 0, true }, -3 },
	{ "down to min",          { 0, 1, 5, 4, 1.0, 0 }, { 0, 3, 3, 0, true }, -2 },
	{ "only the idle ones",   { 0, 0, 5, 4, 1.0, 0 }, { 4, 3, 1, 0, true }, -1 },
	{ "needed ones stay",     { 0, 0, 5, 4, 1.0, 0 }, { 12, 3, 1, 0, true }, 0 },
	{ "nothing to do",        { 0, 0, 5, 4, 1.0, 0 }, { 0, 0, 0, 0, true }, 0 },
	{ "enough are starting",  { 0, 0, 5, 4, 1.0, 0 }, { 8, 2, 0, 0, true }, 0 },
	{ "one ends, replaced",   { 0, 0, 5, 4, 1.0, 0 }, { 4, 1, 0, 1, true }, 1 },
	{ "one ends, no room",    { 0, 0, 1, 4, 1.0, 0 }, { 4, 1, 0, 1, true }, 0 },
	{ "one ends, no tasks",   { 0, 0, 5, 4, 1.0, 0 }, { 0, 1, 0, 1, true }, 0 },
	{ "two end, room for one", { 0, 0, 3, 4, 1.0, 0 }, { 8, 2, 0, 2, true }, 1 },
};

static void test_decisions (void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof (table) / sizeof (table[0]); i++) {
		int64_t got = scale_decide (&table[i].l, &table[i].in);
		if (got != table[i].want)
			fail_msg ("%s: %d instead of %d", table[i].what, (int) got, (int) table[i].want);
	}
}

/* ---- blocks, with a provider that does as it is told, and a clock that is set ------------------------------- */

struct fake { struct provider_env env; };
static struct {
	struct fake *self;
	char ids[64][16];
	int submitted, cancelled, lost, polled;
	bool refuse, gone;	/* gone: no manager is connected */
	unsigned nodes, lacks, wanted;	/* managers of a block that are not connected; nodes that a task waits for */
	char why[300];
	int64_t tasks, idle_ms;
	struct scale_wish wish[2];	/* of images */
	char image[64][32];		/* that each block is for */
	char failed[32], failed_why[600], releasing[16];
	int64_t now_ms;
} w;

static void *fake_create (const struct provider_env *env, struct err *err)
{
	(void) err;
	w.self = xcalloc (1, sizeof (*w.self));
	w.self->env = *env;
	return w.self;
}

static void fake_destroy (void *self)
{
	free (self);
}

static int fake_submit (void *self, const struct provider_block *b, struct err *err)
{
	struct fake *f = self;

	if (w.refuse)
		return err_set (err, ERR_UNAVAILABLE, FAULT_SITE, "the queue is closed");
	assert_string_equal (b->argv[0][0], "run");
	snprintf (w.image[w.submitted], sizeof (w.image[0]), "%s", b->image ? b->image : "");
	snprintf (w.ids[w.submitted++], 16, "%s", b->id);
	f->env.on_block (b->id, PROVIDER_PENDING, false, "", f->env.arg);
	return 0;
}

static void fake_poll (void *self)
{
	(void) self;
	w.polled++;
}

static void fake_cancel (void *self, const char *id, int64_t grace_ms)
{
	struct fake *f = self;

	(void) grace_ms;
	w.cancelled++;
	f->env.on_block (id, PROVIDER_ENDED, false, "", f->env.arg);
}

static const struct provider fake = {
	.name = "fake", .create = fake_create, .destroy = fake_destroy, .submit = fake_submit, .poll = fake_poll, .cancel = fake_cancel,
};

static char **argv_of (const char *block, unsigned node, unsigned nodes, void *arg)
{
	char **v = xcalloc (3, sizeof (*v));

	(void) node;
	(void) nodes;
	(void) arg;
	v[0] = xstrdup ("run");
	v[1] = xstrdup (block);
	return v;
}

static int64_t tasks_of (void *arg)
{
	(void) arg;
	return w.tasks;
}

static int64_t idle_of (const char *block, void *arg)
{
	(void) block;
	(void) arg;
	return w.idle_ms;
}

static unsigned connected_of (const char *block, void *arg)
{
	(void) block;
	(void) arg;
	return w.gone ? 0 : w.nodes - w.lacks;
}

static unsigned wanted_of (void *arg)
{
	(void) arg;
	return w.wanted;
}

static void releasing (const char *block, void *arg)
{
	(void) arg;
	snprintf (w.releasing, sizeof (w.releasing), "%s", block);
}

static void images (blocks_wish_f *cb, void *cb_arg, void *arg)
{
	(void) arg;
	for (size_t i = 0; i < sizeof (w.wish) / sizeof (w.wish[0]); i++)
		if (w.wish[i].image)
			cb (&w.wish[i], cb_arg);
}

static void image_failed (const char *image, const char *why, void *arg)
{
	(void) arg;
	snprintf (w.failed, sizeof (w.failed), "%s", image);
	snprintf (w.failed_why, sizeof (w.failed_why), "%s", why);
}

static void lost (const char *block, const char *why, void *arg)
{
	(void) block;
	(void) arg;
	w.lost++;
	snprintf (w.why, sizeof (w.why), "%s", why);
}

static const struct blocks_ops ops = {
	.argv = argv_of, .tasks = tasks_of, .connected = connected_of, .nodes_wanted = wanted_of, .idle_ms = idle_of, .releasing = releasing,
	.lost = lost, .images = images, .image_failed = image_failed,
};

static void stop_loop (void *arg)
{
	loop_stop (arg);
}

static void run_for (struct loop *l, int64_t ms)
{
	struct loop_timer *t = loop_timer_create (l, stop_loop, l);

	loop_timer_start (t, ms, false);
	loop_run (l);
	loop_timer_destroy (&t);
}

static void at (int64_t ms)
{
	w.now_ms = ms;
	clock_set_for_test (ms * 1000000, 1);
}

static struct blocks *make (struct loop **l, struct blocks_opts o)
{
	struct blocks *b;
	struct err err;

	memset (&w, 0, sizeof (w));
	at (1000000);
	w.idle_ms = -1;
	*l = loop_create (&err);
	o.provider = &fake;
	o.log_dir = "/nonexistent";
	if (!o.nodes)
		o.nodes = 1;
	w.nodes = o.nodes;
	o.ops = &ops;
	if (!o.period_ms)
		o.period_ms = 3600000;	/* only pokes and our own calls */
	if (!o.max_failures_per_hour)
		o.max_failures_per_hour = 100;
	if (!o.connect_timeout_ms)
		o.connect_timeout_ms = 60000;
	b = blocks_create (*l, &o, &err);
	assert_non_null (b);
	return b;
}

static void unmake (struct loop **l, struct blocks **b)
{
	clock_set_for_test (-1, -1);
	blocks_destroy (b);
	loop_destroy (l);
}

static void tell (int i, enum provider_state s, bool failed, const char *text)
{
	w.self->env.on_block (w.ids[i], s, failed, text, w.self->env.arg);
}

static void test_waiting_tasks_start_a_block_at_once (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .limits = { .max_blocks = 3, .slots_per_block = 1, .parallelism = 1 } });

	(void) state;
	blocks_run (b, true);
	assert_int_equal (w.submitted, 0);
	w.tasks = 5;
	blocks_poke (b);
	run_for (l, 20);
	assert_int_equal (w.submitted, 3);
	blocks_poke (b);
	run_for (l, 20);
	assert_int_equal (w.submitted, 3);
	unmake (&l, &b);
}

static void test_idle_block_is_released (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .period_ms = 10,
		.limits = { .init_blocks = 1, .max_blocks = 3, .slots_per_block = 1, .parallelism = 1, .idle_timeout_ms = 5000 } });
	struct blocks_stats st;

	(void) state;
	blocks_run (b, true);
	tell (0, PROVIDER_RUNNING, false, "");
	blocks_manager_up (b, w.ids[0]);
	w.idle_ms = 4999;
	run_for (l, 50);
	assert_int_equal (w.cancelled, 0);
	w.idle_ms = 5000;
	run_for (l, 50);
	assert_int_equal (w.cancelled, 1);
	assert_int_equal (w.lost, 1);
	blocks_stats (b, &st);
	assert_int_equal (st.failed, 0);
	assert_int_equal (st.active, 0);
	assert_int_equal (w.submitted, 1);
	assert_true (w.polled > 1);
	unmake (&l, &b);
}

/* The back-off that ends first says when it is looked again, not that of the last one. */
static void test_each_image_is_tried_again_in_its_time (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .limits = { .max_blocks = 3, .slots_per_block = 1, .parallelism = 1 } });
	struct scale_wish often = { .image = "often", .tasks = 1 }, once = { .image = "once", .tasks = 1 };
	int n;

	(void) state;
	w.wish[0] = once;
	blocks_run (b, true);
	assert_int_equal (w.submitted, 1);
	tell (0, PROVIDER_ENDED, false, "");
	w.wish[0].tasks = 0;
	w.wish[1] = often;
	for (int i = 0; i < 8; i++) {
		at (w.now_ms + 100000);
		blocks_poke (b);
		run_for (l, 1);
		assert_int_equal (w.submitted, i + 2);
		tell (i + 1, PROVIDER_ENDED, true, "exit status 7");
	}
	w.wish[0] = once;
	blocks_poke (b);
	run_for (l, 1);
	n = w.submitted;
	tell (n - 1, PROVIDER_ENDED, true, "exit status 7");
	run_for (l, 1);
	at (w.now_ms + 3000);		/* its back-off is over, that of the other is not */
	for (int i = 0; i < 100 && w.submitted == n; i++)
		run_for (l, 100);
	assert_int_equal (w.submitted, n + 1);
	assert_string_equal (w.image[n], "once");
	unmake (&l, &b);
}

static void test_failed_block_waits_longer_each_time (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .limits = { .max_blocks = 1, .slots_per_block = 1, .parallelism = 1 } });
	struct blocks_stats st;
	int64_t waits[4];

	(void) state;
	w.tasks = 1;
	blocks_run (b, true);
	for (int i = 0; i < 4; i++) {
		int64_t from = w.now_ms;
		assert_int_equal (w.submitted, i + 1);
		tell (i, PROVIDER_RUNNING, false, "");
		tell (i, PROVIDER_ENDED, true, "exit status 7");
		while (w.submitted == i + 1) {
			at (w.now_ms + 50);
			blocks_poke (b);
			run_for (l, 1);
			assert_true (w.now_ms - from < 120000);
		}
		waits[i] = w.now_ms - from;
	}
	assert_true (waits[0] >= 200 && waits[0] <= 900);
	assert_true (waits[3] > 2 * waits[0]);
	blocks_stats (b, &st);
	assert_int_equal (st.failed, 4);
	assert_non_null (strstr (st.error, "exit status 7"));
	assert_string_equal (w.why, "exit status 7");
	unmake (&l, &b);
}

/* It serves tasks that want one node each; is replaced, when it is idle, for one that wants two. */
static void test_block_that_lacks_a_manager (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .period_ms = 10, .connect_timeout_ms = 5000, .nodes = 2, .max_failures_per_hour = 2,
		.limits = { .init_blocks = 1, .max_blocks = 1, .slots_per_block = 2, .parallelism = 1 } });
	struct blocks_stats st;
	struct buf why;

	(void) state;
	buf_init (&why, 4096);
	blocks_run (b, true);
	tell (0, PROVIDER_RUNNING, false, "");
	w.lacks = 1;
	w.tasks = 1;
	blocks_manager_up (b, w.ids[0]);
	run_for (l, 40);
	at (w.now_ms + 100000);
	run_for (l, 40);
	blocks_why_waiting (b, &why);
	assert_int_equal (strlen (w.releasing) + why.len, 0);
	w.wanted = 2;
	run_for (l, 40);
	assert_string_equal (w.releasing, "b1");	/* takes nothing new */
	assert_int_equal (w.cancelled, 0);
	blocks_why_waiting (b, &why);
	assert_non_null (strstr ((char *) why.data, "block b1 has 1 of its 2 managers, and a task wants 2 nodes of one; block b1: not all of its managers"));
	w.idle_ms = 0;
	run_for (l, 40);
	assert_int_equal (w.cancelled, 1);
	blocks_stats (b, &st);
	assert_int_equal (st.failed, 1);
	at (w.now_ms + 1000);
	run_for (l, 40);
	assert_int_equal (w.submitted, 2);
	tell (1, PROVIDER_RUNNING, false, "");
	blocks_manager_up (b, w.ids[1]);
	run_for (l, 40);
	blocks_stats (b, &st);
	assert_string_not_equal (st.error, "");
	w.lacks = 0;
	blocks_manager_up (b, w.ids[1]);
	blocks_stats (b, &st);
	assert_string_equal (st.error, "");
	buf_clear (&why);
	blocks_why_waiting (b, &why);
	assert_int_equal (why.len, 0);
	buf_fini (&why);
	unmake (&l, &b);
}

/* Where it would not be replaced it stays for what it can do. */
static void test_block_that_lacks_a_manager_and_may_not_be_replaced (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .period_ms = 10, .connect_timeout_ms = 5000, .nodes = 2, .max_failures_per_hour = 1,
		.limits = { .init_blocks = 2, .max_blocks = 2, .slots_per_block = 2, .parallelism = 1 } });
	struct buf why;

	(void) state;
	buf_init (&why, 4096);
	blocks_run (b, true);
	assert_int_equal (w.submitted, 2);
	tell (0, PROVIDER_ENDED, true, "exit status 7");
	tell (1, PROVIDER_RUNNING, false, "");
	w.lacks = 1;
	w.tasks = 1;
	w.wanted = 2;
	blocks_manager_up (b, w.ids[1]);
	run_for (l, 40);
	at (w.now_ms + 100000);
	run_for (l, 40);
	assert_int_equal (strlen (w.releasing) + (size_t) w.cancelled, 0);
	blocks_why_waiting (b, &why);
	assert_non_null (strstr ((char *) why.data, "block b2 has 1 of its 2 managers"));
	assert_non_null (strstr ((char *) why.data, "max_failures_per_hour"));
	buf_fini (&why);
	unmake (&l, &b);
}

static void test_failure_budget (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .max_failures_per_hour = 3,
		.limits = { .max_blocks = 1, .slots_per_block = 1, .parallelism = 1 } });
	struct blocks_stats st;

	(void) state;
	w.tasks = 1;
	w.refuse = true;
	blocks_run (b, true);
	for (int i = 0; i < 20; i++) {
		at (w.now_ms + 61000);
		blocks_poke (b);
		run_for (l, 1);
	}
	blocks_stats (b, &st);
	assert_int_equal (st.failed, 3);
	assert_non_null (strstr (st.error, "the queue is closed"));
	assert_non_null (strstr (st.error, "max_failures_per_hour"));
	at (w.now_ms + 3600 * 1000);
	w.refuse = false;
	blocks_poke (b);
	run_for (l, 1);
	assert_int_equal (w.submitted, 1);
	unmake (&l, &b);
}

static void test_block_that_never_connects_is_given_up (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .period_ms = 10, .connect_timeout_ms = 5000,
		.limits = { .init_blocks = 1, .max_blocks = 1, .slots_per_block = 1, .parallelism = 1 } });
	struct blocks_stats st;

	(void) state;
	blocks_run (b, true);
	tell (0, PROVIDER_RUNNING, false, "");
	at (w.now_ms + 4999);
	run_for (l, 40);
	assert_int_equal (w.cancelled, 0);
	at (w.now_ms + 1);
	run_for (l, 40);
	assert_int_equal (w.cancelled, 1);
	blocks_stats (b, &st);
	assert_int_equal (st.failed, 1);
	assert_non_null (strstr (st.error, "did not connect"));
	unmake (&l, &b);
}

static void test_block_whose_managers_are_gone_is_given_up (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .period_ms = 10, .connect_timeout_ms = 5000,
		.limits = { .init_blocks = 1, .max_blocks = 1, .slots_per_block = 1, .parallelism = 1 } });
	struct blocks_stats st;

	(void) state;
	blocks_run (b, true);
	tell (0, PROVIDER_RUNNING, false, "");
	blocks_manager_up (b, w.ids[0]);
	at (w.now_ms + 100000);
	run_for (l, 40);
	assert_int_equal (w.cancelled, 0);
	w.gone = true;
	run_for (l, 40);
	at (w.now_ms + 4999);
	run_for (l, 40);
	w.gone = false;		/* back in time */
	run_for (l, 40);
	w.gone = true;
	at (w.now_ms + 1000);
	run_for (l, 40);
	assert_int_equal (w.cancelled, 0);
	at (w.now_ms + 5000);
	run_for (l, 40);
	assert_int_equal (w.cancelled, 1);
	assert_non_null (strstr (w.why, "did not come back"));
	blocks_stats (b, &st);
	assert_int_equal (st.failed, 1);
	unmake (&l, &b);
}

/* A job that ends well before any manager connected, as with "exit 0" in worker_init. */
static void test_block_that_was_of_no_use_is_a_failure (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .max_failures_per_hour = 3,
		.limits = { .max_blocks = 1, .slots_per_block = 1, .parallelism = 1 } });
	struct blocks_stats st;

	(void) state;
	w.tasks = 1;
	blocks_run (b, true);
	for (int i = 0; i < 10; i++) {
		if (w.submitted == i + 1) {
			tell (i, PROVIDER_RUNNING, false, "");
			tell (i, PROVIDER_ENDED, false, "COMPLETED");
		}
		at (w.now_ms + 61000);
		blocks_poke (b);
		run_for (l, 1);
	}
	assert_int_equal (w.submitted, 3);
	blocks_stats (b, &st);
	assert_int_equal (st.failed, 3);
	assert_non_null (strstr (st.error, "COMPLETED before a manager connected"));
	assert_non_null (strstr (st.error, "max_failures_per_hour"));
	unmake (&l, &b);
}

static void test_stop_all (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){
		.limits = { .init_blocks = 4, .max_blocks = 4, .slots_per_block = 1, .parallelism = 1 } });

	(void) state;
	w.tasks = 10;
	blocks_run (b, true);
	assert_int_equal (w.submitted, 4);
	blocks_stop_all (b, 10);
	run_for (l, 10);
	assert_int_equal (w.cancelled, 4);
	assert_int_equal (blocks_count (b), 0);
	assert_int_equal (w.submitted, 4);
	unmake (&l, &b);
}

/* ---- blocks of images ---------------------------------------------------------------------------------------- */

static int of_image (const char *image)
{
	int n = 0;

	for (int i = 0; i < w.submitted; i++)
		n += strcmp (w.image[i], image) == 0;
	return n;
}

static void all_up (struct blocks *b)
{
	for (int i = 0; i < w.submitted; i++) {
		tell (i, PROVIDER_RUNNING, false, "");
		blocks_manager_up (b, w.ids[i]);
	}
}

static void test_images_share_what_there_may_be (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .limits = { .max_blocks = 5, .slots_per_block = 1, .parallelism = 1 } });

	(void) state;
	w.tasks = 100;
	w.wish[0] = (struct scale_wish){ .image = "a", .tasks = 100 };
	w.wish[1] = (struct scale_wish){ .image = "b", .tasks = 1 };
	blocks_run (b, true);
	assert_int_equal (w.submitted, 5);
	assert_int_equal (of_image (""), 2);
	assert_int_equal (of_image ("a"), 2);
	assert_int_equal (of_image ("b"), 1);
	assert_string_equal (blocks_image (b, w.ids[0]), w.image[0]);
	assert_null (blocks_image (b, "b99"));
	unmake (&l, &b);
}

static void test_an_idle_block_makes_room_for_another_image (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .period_ms = 10,
		.limits = { .max_blocks = 2, .slots_per_block = 1, .parallelism = 1, .idle_timeout_ms = 3600000 } });

	(void) state;
	w.tasks = 2;
	blocks_run (b, true);
	assert_int_equal (w.submitted, 2);
	all_up (b);
	w.wish[0] = (struct scale_wish){ .image = "a", .tasks = 5 };
	run_for (l, 40);
	assert_int_equal (w.cancelled, 0);	/* all of them work */
	w.idle_ms = 0;
	run_for (l, 40);
	assert_int_equal (w.cancelled, 1);	/* one at a time: the next when this one is up */
	assert_int_equal (w.submitted, 3);
	assert_string_equal (w.image[2], "a");
	unmake (&l, &b);
}

static void test_a_busy_block_makes_room_for_one_that_waited_long (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .period_ms = 10,
		.limits = { .min_blocks = 1, .max_blocks = 1, .slots_per_block = 1, .parallelism = 1, .idle_timeout_ms = 3600000 } });

	(void) state;
	w.tasks = 9;
	blocks_run (b, true);
	all_up (b);
	w.wish[0] = (struct scale_wish){ .image = "a", .tasks = 1 };
	run_for (l, 40);
	at (w.now_ms + 29000);
	run_for (l, 40);
	assert_string_equal (w.releasing, "");
	at (w.now_ms + 1001);
	run_for (l, 40);
	assert_string_equal (w.releasing, w.ids[0]);
	assert_int_equal (w.cancelled, 0);	/* it has a task still */
	w.idle_ms = 0;
	run_for (l, 40);
	assert_int_equal (w.cancelled, 1);
	assert_int_equal (w.submitted, 2);
	assert_string_equal (w.image[1], "a");
	unmake (&l, &b);
}

static void test_replicas_are_kept_and_replaced (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .period_ms = 10,
		.limits = { .max_blocks = 2, .slots_per_block = 1, .parallelism = 1, .idle_timeout_ms = 1000 } });

	(void) state;
	w.wish[0] = (struct scale_wish){ .image = "a", .nodes = 3 };
	blocks_run (b, true);
	assert_int_equal (of_image ("a"), 2);	/* as many as there may be */
	all_up (b);
	w.idle_ms = 1000000;
	run_for (l, 40);
	assert_int_equal (w.cancelled, 0);
	/* b takes a's place, where there is no room one by one */
	w.wish[0].leaving = true;
	w.wish[1] = (struct scale_wish){ .image = "b", .nodes = 3 };
	run_for (l, 40);
	assert_int_equal (w.cancelled, 1);
	assert_int_equal (of_image ("b"), 1);
	tell (2, PROVIDER_RUNNING, false, "");
	blocks_manager_up (b, w.ids[2]);
	w.wish[0].nodes = 2;
	run_for (l, 40);
	assert_int_equal (w.cancelled, 2);
	assert_int_equal (of_image ("b"), 2);
	assert_int_equal (of_image ("a"), 2);
	unmake (&l, &b);

	/* where there is room nothing goes before it may, and then at once */
	b = make (&l, (struct blocks_opts){ .period_ms = 10,
		.limits = { .max_blocks = 3, .slots_per_block = 1, .parallelism = 1, .idle_timeout_ms = 3600000 } });
	w.wish[0] = (struct scale_wish){ .image = "a", .nodes = 1 };
	blocks_run (b, true);
	all_up (b);
	w.idle_ms = 0;
	w.wish[0].leaving = true;
	w.wish[1] = (struct scale_wish){ .image = "b", .nodes = 1 };
	run_for (l, 40);
	assert_int_equal (of_image ("b"), 1);
	assert_int_equal (w.cancelled, 0);
	w.wish[0].nodes = 0;
	run_for (l, 40);
	assert_int_equal (w.cancelled, 1);
	unmake (&l, &b);
}

static void test_an_image_that_cannot_be_had_fails_alone (void **state)
{
	struct loop *l;
	struct blocks *b = make (&l, (struct blocks_opts){ .max_failures_per_hour = 2,
		.limits = { .max_blocks = 3, .slots_per_block = 1, .parallelism = 1 } });
	struct blocks_stats st;

	(void) state;
	w.wish[0] = (struct scale_wish){ .image = "a", .tasks = 1 };
	blocks_run (b, true);
	assert_string_equal (w.image[0], "a");
	tell (0, PROVIDER_NO_IMAGE, true, "ErrImagePull: no such manifest");
	assert_string_equal (w.failed, "a");
	assert_non_null (strstr (w.failed_why, "block b1 of image a: ErrImagePull: no such manifest"));
	w.wish[1] = (struct scale_wish){ .image = "b", .tasks = 1 };
	w.tasks = 1;
	blocks_poke (b);
	run_for (l, 1);
	assert_int_equal (of_image ("a"), 1);	/* it has to pause; others have not */
	assert_int_equal (of_image ("b"), 1);
	assert_int_equal (of_image (""), 1);
	at (w.now_ms + 61000);
	blocks_poke (b);
	run_for (l, 1);
	assert_int_equal (of_image ("a"), 2);	/* and then it is tried again */
	unmake (&l, &b);

	b = make (&l, (struct blocks_opts){ .max_failures_per_hour = 2, .limits = { .max_blocks = 3, .slots_per_block = 1, .parallelism = 1 } });
	w.wish[0] = (struct scale_wish){ .image = "a", .tasks = 1 };
	blocks_run (b, true);
	for (int i = 0; i < 2; i++) {
		tell (i, PROVIDER_NO_IMAGE, true, "ErrImagePull");
		at (w.now_ms + 61000);
		w.failed[0] = 0;
		blocks_poke (b);
		run_for (l, 1);
	}
	assert_int_equal (w.submitted, 2);
	assert_string_equal (w.failed, "a");	/* what comes while the budget is spent fails at once */
	assert_non_null (strstr (w.failed_why, "max_failures_per_hour"));
	blocks_stats (b, &st);
	assert_int_equal (st.failures_last_hour, 2);
	/* a failure of another kind is nobody's but the site's: its tasks wait */
	at (w.now_ms + 3600 * 1000);
	w.failed[0] = 0;
	blocks_poke (b);
	run_for (l, 1);
	assert_int_equal (w.submitted, 3);
	tell (2, PROVIDER_ENDED, true, "no node has room");
	assert_string_equal (w.failed, "");
	unmake (&l, &b);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_decisions),
		cmocka_unit_test (test_waiting_tasks_start_a_block_at_once),
		cmocka_unit_test (test_idle_block_is_released),
		cmocka_unit_test (test_each_image_is_tried_again_in_its_time),
		cmocka_unit_test (test_failed_block_waits_longer_each_time),
		cmocka_unit_test (test_failure_budget),
		cmocka_unit_test (test_block_that_never_connects_is_given_up),
		cmocka_unit_test (test_block_whose_managers_are_gone_is_given_up),
		cmocka_unit_test (test_block_that_lacks_a_manager),
		cmocka_unit_test (test_block_that_lacks_a_manager_and_may_not_be_replaced),
		cmocka_unit_test (test_block_that_was_of_no_use_is_a_failure),
		cmocka_unit_test (test_stop_all),
		cmocka_unit_test (test_images_share_what_there_may_be),
		cmocka_unit_test (test_an_idle_block_makes_room_for_another_image),
		cmocka_unit_test (test_a_busy_block_makes_room_for_one_that_waited_long),
		cmocka_unit_test (test_replicas_are_kept_and_replaced),
		cmocka_unit_test (test_an_image_that_cannot_be_had_fails_alone),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
