/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines of the runtimes, what a node permits, and when a pool wants another container. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "endpoint/manager/containers/identity.h"
#include "endpoint/manager/containers/node.h"
#include "endpoint/manager/pools.h"

static const char *const command[] = { "/weft/bin/ld.so", "--library-path", "/weft/bin/lib", "/weft/bin/weft-worker", NULL };
static const struct container_place place = {
	.name = "weft-1", .endpoint = "e", .owner = "7.9", .bundle = "/b", .run_dir = "/r", .work_dir = "/w", .network = "bridge", .uid = 1000, .gid = 1001,
	.limits = LIMIT_ALL, .command = command,
};
static const struct container_spec spec = { .image = "img:1", .cpu_millis = 1500, .pids = 64, .memory_bytes = 1 << 20 };

static char *joined (const char *runtime, const struct container_spec *s, const struct container_place *p)
{
	static char text[8192];
	struct args a = { .n = 0 };

	runtime_find (runtime)->run (&a, s, p);
	text[0] = ' ';
	text[1] = 0;
	for (size_t i = 0; i < a.n; i++)
		snprintf (text + strlen (text), sizeof (text) - strlen (text), "%s ", a.v[i]);
	args_fini (&a);
	return text;
}

static void has (const char *text, const char *words)
{
	if (!strstr (text, words))
		fail_msg ("'%s' is not in: %s", words, text);
}

static void lacks (const char *text, const char *words)
{
	if (strstr (text, words))
		fail_msg ("'%s' is in: %s", words, text);
}

static void test_every_runtime_is_sandboxed (void **state)
{
	(void) state;
	for (size_t i = 0; runtimes[i]; i++) {
		const char *t = joined (runtimes[i]->name, &spec, &place);
		has (t, "img:1 ");
		has (t, "/weft/bin/ld.so");
		lacks (t, "privileged");
		lacks (t, "network=bridge");
		if (strcmp (runtimes[i]->name, "docker") == 0 || strcmp (runtimes[i]->name, "podman") == 0) {
			has (t, " --read-only ");
			has (t, " --cap-drop=ALL ");
			has (t, " --security-opt=no-new-privileges ");
			has (t, " --network=none ");
			has (t, " --user=1000:1001 ");
			has (t, " --memory=1048576 --memory-swap=1048576 ");
			has (t, " --pids-limit=64 ");
			has (t, " --cpus=1.500 ");
			has (t, "src=/b,dst=/weft/bin,readonly");
			has (t, "src=/w,dst=/weft/work ");
		}
	}
	has (joined ("apptainer", &spec, &place), " --containall --cleanenv --no-home --no-privs --net --network none ");
	has (joined ("apptainer", &spec, &place), " --memory 1048576 --pids-limit 64 --cpus 1.500 ");
	has (joined ("charliecloud", &spec, &place), " --net ch-run ");
	has (joined ("singularity", &spec, &place), " singularity --silent exec ");
	has (joined ("shifter", &spec, &place), " --volume=/b:/weft/bin:ro ");
}

static void test_network_only_when_asked_for (void **state)
{
	struct container_spec s = spec;

	(void) state;
	s.network = true;
	has (joined ("docker", &s, &place), " --network=bridge ");
	lacks (joined ("apptainer", &s, &place), " --net ");
	lacks (joined ("charliecloud", &s, &place), " --net ");
}

static void test_rootless (void **state)
{
	static const char *const of_users[] = { "podman", "apptainer", "singularity" };
	struct container_place p = place;

	(void) state;
	has (joined ("podman", &spec, &p), " --userns=keep-id ");
	has (joined ("charliecloud", &spec, &p), " --user --map-current-user ");
	/* a controller that is not delegated would fail the start */
	p.limits = LIMIT_MEMORY | LIMIT_PIDS;
	for (size_t i = 0; i < sizeof (of_users) / sizeof (of_users[0]); i++) {
		has (joined (of_users[i], &spec, &p), "--memory");
		has (joined (of_users[i], &spec, &p), "--pids-limit");
		lacks (joined (of_users[i], &spec, &p), "--cpus");
	}
	p.limits = 0;
	for (size_t i = 0; i < sizeof (of_users) / sizeof (of_users[0]); i++) {
		lacks (joined (of_users[i], &spec, &p), "--memory");
		lacks (joined (of_users[i], &spec, &p), "--pids-limit");
	}
	p.root = true;
	lacks (joined ("podman", &spec, &p), "keep-id");
	has (joined ("apptainer", &spec, &p), " --security uid:1000 ");
}

static void test_images (void **state)
{
	static const char *const good[] = { "debian:12", "reg.example.org:5000/a/b@sha256:00", "/images/x.sif", "docker://a/b", "./x", "3x" };
	static const char *const bad[] = { "", "-v=/:/x", "a b", "a;b", "$(x)", "a\nb", "--privileged", "@x", "a'b", "x,y" };

	(void) state;
	for (size_t i = 0; i < sizeof (good) / sizeof (good[0]); i++)
		assert_true (runtime_image_ok (good[i], strlen (good[i])));
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++)
		assert_false (runtime_image_ok (bad[i], strlen (bad[i])));
	assert_false (runtime_image_ok ("a\0b", 3));
}

static void test_words_of_tools (void **state)
{
	static const struct { const char *said, *words; } t[] = {
		{ "docker: Error response from daemon: Minimum memory limit allowed is 6MB.\nSee 'docker run --help'.\n",
		  "Minimum memory limit allowed is 6MB." },
		{ "WARNING: x\nFATAL:   stat /nonexistent: no such file\n", "stat /nonexistent: no such file" },
		{ "Error: crun: y\n\n", "crun: y" },
		{ "ts=2031 lvl=info msg=started\n", "it said nothing" },
		{ "", "it said nothing" },
	};
	char out[100];

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++)
		assert_string_equal (runtime_words (t[i].said, strlen (t[i].said), out, sizeof (out)), t[i].words);
	assert_int_equal (strlen (runtime_words ("aaaaaaaaaaaa", 12, out, 5)), 4);
}

static void test_owners (void **state)
{
	char me[64];

	(void) state;
	runtime_owner (me);
	assert_true (runtime_alive (me));
	assert_false (runtime_alive ("1.1"));
	assert_false (runtime_alive ("999999999.5"));
	assert_false (runtime_alive ("junk"));
	assert_false (runtime_alive (""));
}

static char bundle[64];

static int make_bundle (void **state)
{
	char path[128];
	FILE *f;

	(void) state;
	strcpy (bundle, "/tmp/weft-ut-XXXXXX");
	if (!mkdtemp (bundle))
		return -1;
	snprintf (path, sizeof (path), "%s/ld.so", bundle);
	if (!(f = fopen (path, "w")))
		return -1;
	fclose (f);
	return chmod (path, 0755);
}

static int drop_bundle (void **state)
{
	char path[128];

	(void) state;
	snprintf (path, sizeof (path), "%s/ld.so", bundle);
	unlink (path);
	return rmdir (bundle);
}

static void test_node_chooses (void **state)
{
	struct node_options o = { .runtimes = "docker, apptainer", .images = "debian:*,/images/*", .bundle = bundle, .memory_bytes = 1 << 30, .pids = 100,
				  .cpu_millis = 500, .max_memory_bytes = 2ll << 30 };
	static const char *const out[] = { "/images/../", "/images/..", "/images/a/../../home/x.sif", "/images/../images/a.sif" };
	struct node_wish w = { .image = "debian:12" };
	const struct runtime *rt;
	struct container_spec s;
	struct node n;
	struct err err;

	(void) state;
	assert_int_equal (node_init (&n, &o, &err), 0);
	assert_int_equal (node_choose (&n, &w, &rt, &s, &err), 0);
	assert_string_equal (rt->name, "docker");
	assert_int_equal (s.pids, 100);
	assert_true (s.memory_bytes > 1u << 30 && !s.network);
	w.image = "/images/a.sif";
	assert_int_equal (node_choose (&n, &w, &rt, &s, &err), 0);
	assert_string_equal (rt->name, "apptainer");
	w.type = "podman";
	assert_int_equal (node_choose (&n, &w, &rt, &s, &err), -1);
	assert_int_equal (err.code, ERR_TASK_RUNNER);
	assert_non_null (strstr (err.text, "docker, apptainer"));
	w = (struct node_wish){ .image = "alpine:3" };
	assert_int_equal (node_choose (&n, &w, &rt, &s, &err), -1);
	assert_int_equal (err.code, ERR_FORBIDDEN);
	/* a pattern's "*" matches what leads elsewhere as well */
	for (size_t i = 0; i < sizeof (out) / sizeof (out[0]); i++) {
		w.image = out[i];
		assert_int_equal (node_choose (&n, &w, &rt, &s, &err), -1);
		assert_int_equal (err.code, ERR_FORBIDDEN);
	}
	w.image = "/images/..a.sif";
	assert_int_equal (node_choose (&n, &w, &rt, &s, &err), 0);
	w = (struct node_wish){ .image = "debian:12", .network = true };
	assert_int_equal (node_choose (&n, &w, &rt, &s, &err), -1);
	assert_int_equal (err.code, ERR_FORBIDDEN);
	w = (struct node_wish){ .image = "debian:12", .memory_bytes = 3ull << 30 };
	assert_int_equal (node_choose (&n, &w, &rt, &s, &err), -1);
	assert_int_equal (err.code, ERR_LIMIT);
}

static void test_node_refuses_options (void **state)
{
	static const char *const bad[] = { "docker,docker", "lxc", "shifter" };
	struct node_options o = { .bundle = bundle };
	struct node n;
	struct err err;

	(void) state;
	assert_int_equal (node_init (&n, &o, &err), 0);
	assert_int_equal (n.n, 0);
	for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++) {
		o.runtimes = bad[i];
		assert_int_equal (node_init (&n, &o, &err), -1);
	}
	o.runtimes = "shifter";
	o.network = "host";
	assert_int_equal (node_init (&n, &o, &err), 0);
	o.bundle = "/nonexistent";
	assert_int_equal (node_init (&n, &o, &err), -1);
}

static void test_pool_wants_more (void **state)
{
	static const struct { struct pool_load l; bool more; } t[] = {
		{ { .waiting = 0 }, false },
		{ { .waiting = 1, .exec_ms = -1 }, true },				/* none there */
		{ { .waiting = 1, .starting = 1, .exec_ms = 60000 }, false },		/* it is coming */
		{ { .waiting = 10, .busy = 1, .exec_ms = 1, .cold_ms = 500 }, false },	/* 10 ms of queue */
		{ { .waiting = 10, .busy = 1, .exec_ms = 100, .cold_ms = 500 }, true },	/* a second of it */
		{ { .waiting = 10, .busy = 4, .exec_ms = 100, .cold_ms = 500 }, false },
		{ { .waiting = 1, .busy = 1, .exec_ms = -1, .oldest_ms = 10 }, false },
		{ { .waiting = 1, .busy = 1, .exec_ms = -1, .oldest_ms = 1001 }, true },	/* longer than the guess of a cold start */
	};

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++)
		if (pool_wants_more (&t[i].l) != t[i].more)
			fail_msg ("row %zu", i);
}

static void identify (const char *path, char out[IDENTITY_MAX])
{
	struct err err;

	if (identity_of_path (path, out, &err) < 0)
		fail_msg ("%s", err.text);
}

static void put_file (const char *path, const char *text)
{
	FILE *f = fopen (path, "w");

	assert_non_null (f);
	fputs (text, f);
	fclose (f);
}

static void test_limits_of_a_user (void **state)
{
	static const struct { const char *text; unsigned limits; } t[] = {
		{ "cpuset cpu io memory hugetlb pids\n", LIMIT_ALL },
		{ "memory pids\n", LIMIT_MEMORY | LIMIT_PIDS },	/* systemd before version 252 */
		{ "cpuset io\n", 0 },
		{ "", 0 },
	};
	char path[] = "/tmp/weft-controllers-XXXXXX";
	struct node n = { .limits_user = LIMIT_MEMORY };
	int fd = mkstemp (path);

	(void) state;
	assert_true (fd >= 0);
	close (fd);
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		put_file (path, t[i].text);
		assert_int_equal (node_controllers (path), t[i].limits);
	}
	unlink (path);
	assert_int_equal (node_controllers (path), 0);
	assert_int_equal (node_limits (&n, runtime_find ("podman")), LIMIT_MEMORY);
	assert_int_equal (node_limits (&n, runtime_find ("apptainer")), LIMIT_MEMORY);
	assert_int_equal (node_limits (&n, runtime_find ("docker")), LIMIT_ALL);	/* its daemon's */
	assert_int_equal (node_limits (&n, runtime_find ("charliecloud")), 0);
	n.root = true;
	assert_int_equal (node_limits (&n, runtime_find ("podman")), LIMIT_ALL);
}

static void test_identity_of_paths (void **state)
{
	char dir[] = "/tmp/weft-id-XXXXXX", file[64], sub[64], a[IDENTITY_MAX], b[IDENTITY_MAX];
	struct err err;

	(void) state;
	assert_non_null (mkdtemp (dir));
	snprintf (file, sizeof (file), "%s/x.sif", dir);
	snprintf (sub, sizeof (sub), "%s/etc", dir);
	put_file (file, "one");
	identify (file, a);
	identify (file, b);
	assert_string_equal (a, b);
	has (a, "file:");
	assert_int_equal (unlink (file), 0);
	put_file (file, "two");		/* as large, and maybe with the same inode */
	identify (file, b);
	assert_string_not_equal (a, b);

	assert_int_equal (mkdir (sub, 0700), 0);
	identify (dir, a);
	has (a, "tree:");
	snprintf (file, sizeof (file), "%s/etc/conf", dir);
	put_file (file, "x");
	identify (dir, b);
	assert_string_not_equal (a, b);
	identify (dir, a);
	assert_string_equal (a, b);
	assert_int_equal (chmod (file, 0400), 0);
	identify (dir, b);
	assert_string_not_equal (a, b);
	assert_int_equal (identity_of_path ("/nonexistent/x.sif", a, &err), -1);
	unlink (file);
	rmdir (sub);
	snprintf (file, sizeof (file), "%s/x.sif", dir);
	unlink (file);
	rmdir (dir);
}

static void test_what_tools_print_of_an_image (void **state)
{
	static const char hex[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	char text[200], out[IDENTITY_MAX];
	struct id one, two, none;

	(void) state;
	snprintf (text, sizeof (text), "%s\n", hex);
	identity_read (text, strlen (text), out);
	assert_string_equal (out, "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
	one = identity_id (out);
	snprintf (text, sizeof (text), "sha256:%s\nmore", hex);
	identity_read (text, strlen (text), out);
	two = identity_id (out);
	assert_true (id_eq (&one, &two));
	identity_read ("", 0, out);
	assert_string_equal (out, "");
	none = identity_id (out);
	assert_true (id_is_zero (&none));
	memset (text, 'x', sizeof (text));
	identity_read (text, sizeof (text), out);
	assert_string_equal (out, "");	/* no name of an image is so long */
}

static void test_commands_that_identify (void **state)
{
	struct args a = { .n = 0 };

	(void) state;
	assert_true (identity_command (runtime_find ("docker"), "img:1", "/bin/weft-manager", &a));
	assert_string_equal (a.v[0], "docker");
	args_fini (&a);
	assert_true (identity_command (runtime_find ("apptainer"), "/img.sif", "/bin/weft-manager", &a));
	assert_string_equal (a.v[0], "/bin/weft-manager");
	assert_string_equal (a.v[2], "/img.sif");
	args_fini (&a);
	assert_false (identity_command (runtime_find ("apptainer"), "docker://img:1", "/bin/weft-manager", &a));
}

/* Podman's templates know no ".Label", and the whole list failed for it. */
static void test_commands_that_list (void **state)
{
	static const struct { const char *runtime, *format; } t[] = {
		{ "docker", "--format={{.Names}} {{.Label \"weft.manager\"}}" },
		{ "podman", "--format={{.Names}} {{index .Labels \"weft.manager\"}}" },
	};
	struct args a = { .n = 0 };

	(void) state;
	for (size_t i = 0; i < sizeof (t) / sizeof (t[0]); i++) {
		runtime_find (t[i].runtime)->list (&a, "e");
		assert_string_equal (a.v[0], t[i].runtime);
		assert_string_equal (a.v[a.n - 1], t[i].format);
		args_fini (&a);
	}
}

static void test_pools (void **state)
{
	struct pools *ps = pools_create ();
	struct container_spec s = spec;
	const struct runtime *docker = runtime_find ("docker");
	struct pool *p = pools_get (ps, docker, &s), *q;

	(void) state;
	assert_ptr_equal (pools_get (ps, docker, &s), p);
	s.network = true;
	q = pools_get (ps, docker, &s);
	assert_ptr_not_equal (q, p);	/* another sandbox is another pool */
	assert_ptr_not_equal (pools_get (ps, runtime_find ("podman"), &spec), p);
	pool_note_cold (p, 800);
	pool_note_cold (p, 400);
	assert_int_equal (p->cold_ms, 700);
	q->replaces = p;
	pools_drop (ps, p);
	assert_null (q->replaces);
	pools_destroy (&ps);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_every_runtime_is_sandboxed), cmocka_unit_test (test_network_only_when_asked_for),
		cmocka_unit_test (test_rootless), cmocka_unit_test (test_images), cmocka_unit_test (test_words_of_tools),
		cmocka_unit_test (test_owners), cmocka_unit_test (test_node_chooses), cmocka_unit_test (test_node_refuses_options),
		cmocka_unit_test (test_pool_wants_more), cmocka_unit_test (test_pools), cmocka_unit_test (test_identity_of_paths),
		cmocka_unit_test (test_limits_of_a_user), cmocka_unit_test (test_commands_that_list),
		cmocka_unit_test (test_what_tools_print_of_an_image), cmocka_unit_test (test_commands_that_identify),
	};

	return cmocka_run_group_tests (tests, make_bundle, drop_bundle);
}
