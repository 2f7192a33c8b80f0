/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include <sqlite3.h>
#include "service/registry/registry.h"

static char dir[64], path[128];
static struct registry *r;
static struct reg_user alice, bob;
static struct err err;

static int setup (void **state)
{
	(void) state;
	strcpy (dir, "/tmp/weft-reg-XXXXXX");
	if (!mkdtemp (dir))
		return -1;
	snprintf (path, sizeof (path), "%s/r.db", dir);
	if (registry_open (&r, path, 2000, &err) < 0) {
		fprintf (stderr, "%s\n", err.text);
		return -1;
	}
	return registry_user_add (r, "alice", &alice, &err) < 0 || registry_user_add (r, "bob", &bob, &err) < 0;
}

static int teardown (void **state)
{
	char cmd[256];

	(void) state;
	registry_close (&r);
	for (int i = 0; i < 3; i++) {
		snprintf (cmd, sizeof (cmd), "%s%s", path, i == 0 ? "" : i == 1 ? "-wal" : "-shm");
		unlink (cmd);
	}
	rmdir (dir);
	return 0;
}

static void test_file_is_private (void **state)
{
	struct stat st;

	(void) state;
	assert_int_equal (stat (path, &st), 0);
	assert_int_equal (st.st_mode & 0777, 0600);
}

static void test_opens_again (void **state)
{
	struct registry *again;
	int version = registry_version (r);

	(void) state;
	assert_true (version >= 1);
	assert_int_equal (registry_open (&again, path, 1000, &err), 0);
	assert_int_equal (registry_version (again), version);
	assert_int_equal (registry_check (again, &err), 0);
	registry_close (&again);
}

static void test_newer_tables_are_refused (void **state)
{
	struct registry *again;
	sqlite3 *db;

	(void) state;
	assert_int_equal (sqlite3_open (path, &db), SQLITE_OK);
	assert_int_equal (sqlite3_exec (db, "INSERT INTO schema_version VALUES (9999)", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close (db);
	assert_int_equal (registry_open (&again, path, 1000, &err), -1);
	assert_int_equal (err.code, ERR_VERSION);
}

/* A file of before the functions' options: it gains the column, and keeps its rows. */
static void test_older_tables_are_brought_up_to_date (void **state)
{
	struct registry *old;
	struct reg_user u;
	struct reg_function f = { .name = "f", .kind = 2, .code = (char *) "c", .code_bytes = 1 }, got;
	char other[160];
	struct reg_audit row = { .at_ms = 1, .action = "a.b", .object = "o", .requests = 1, .items = 20 };
	sqlite3 *db;
	int64_t total;
	int version;

	(void) state;
	snprintf (other, sizeof (other), "%s/old", dir);
	assert_int_equal (registry_open (&old, other, 1000, &err), 0);
	version = registry_version (old);
	assert_int_equal (registry_user_add (old, "carol", &u, &err), 0);
	f.owner = u.id;
	id_new (&f.id);
	assert_int_equal (registry_function_add (old, &f, NULL, 0, &err), 0);
	assert_int_equal (registry_audit (old, &row, 1, &err), 0);
	registry_close (&old);
	assert_int_equal (sqlite3_open (other, &db), SQLITE_OK);
	assert_int_equal (sqlite3_exec (db, "ALTER TABLE functions DROP COLUMN options; DROP TABLE containers; DROP INDEX functions_digest; "
					"ALTER TABLE functions DROP COLUMN digest; DROP TRIGGER audit_total; DROP TABLE audit_totals; "
					"DELETE FROM schema_version WHERE version > 1", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close (db);
	assert_int_equal (registry_open (&old, other, 1000, &err), 0);
	assert_int_equal (registry_version (old), version);
	assert_int_equal (registry_audit_total (old, "a.b", &total, &err), 0);
	assert_int_equal (total, 20);
	assert_int_equal (registry_function_get (old, &f.id, true, &got, &err), 0);
	assert_null (got.options);
	reg_function_fini (&got);
	id_new (&f.id);
	f.options = (char *) "{\"memoize\":true}";
	assert_int_equal (registry_function_add (old, &f, NULL, 0, &err), 0);
	assert_int_equal (registry_function_get (old, &f.id, true, &got, &err), 0);
	assert_string_equal (got.options, f.options);
	reg_function_fini (&got);
	registry_close (&old);
	unlink (other);
}

static void test_not_a_database (void **state)
{
	struct registry *again;
	char other[160];
	FILE *f;

	(void) state;
	snprintf (other, sizeof (other), "%s/junk", dir);
	f = fopen (other, "w");
	for (int i = 0; i < 1000; i++)
		fputs ("this is no database ", f);
	fclose (f);
	assert_int_equal (registry_open (&again, other, 1000, &err), -1);
	assert_true (strlen (err.text) > 5);
	unlink (other);
	assert_int_equal (registry_open (&again, "/nonexistent/x/y.db", 1000, &err), -1);
}

static void test_users (void **state)
{
	struct reg_user u, *all;
	char t[ID_TEXT];
	size_t n;

	(void) state;
	assert_int_equal (registry_user_find (r, "alice", &u, &err), 0);
	assert_true (id_eq (&u.id, &alice.id));
	assert_int_equal (registry_user_find (r, id_text (&bob.id, t), &u, &err), 0);
	assert_string_equal (u.name, "bob");
	assert_int_equal (registry_user_find (r, "carol", &u, &err), -1);
	assert_int_equal (err.code, ERR_NOT_FOUND);
	assert_int_equal (registry_user_add (r, "alice", &u, &err), -1);
	assert_int_equal (err.code, ERR_CONFLICT);
	assert_int_equal (registry_user_add (r, "no spaces", &u, &err), -1);
	assert_int_equal (registry_user_add (r, "", &u, &err), -1);
	assert_int_equal (registry_user_add (r, "01a1fd67-a929-7771-b67f-1d3cd3cce3c6", &u, &err), -1);
	assert_int_equal (registry_users (r, &all, &n, &err), 0);
	assert_int_equal (n, 2);
	free (all);
}

static void test_tokens (void **state)
{
	uint8_t h1[32] = { 1 }, h2[32] = { 2 };
	struct reg_token t, *all;
	struct id id1, id2;
	size_t n;

	(void) state;
	id_new (&id1);
	id_new (&id2);
	assert_int_equal (registry_token_add (r, &alice.id, h1, 7, "one", 0, &id1, &err), 0);
	assert_int_equal (registry_token_add (r, &alice.id, h2, 1, NULL, 1000, &id2, &err), 0); /* expired long ago */
	assert_int_equal (registry_token_find (r, h1, &t, &err), 0);
	assert_string_equal (t.user.name, "alice");
	assert_string_equal (t.label, "one");
	assert_int_equal (t.scopes, 7);
	assert_int_equal (registry_token_find (r, h2, &t, &err), -1);
	assert_int_equal (registry_tokens (r, &alice.id, &all, &n, &err), 0);
	assert_int_equal (n, 2);
	free (all);
	assert_int_equal (registry_tokens_purge (r, &err), 0);
	assert_int_equal (registry_tokens (r, NULL, &all, &n, &err), 0);
	assert_int_equal (n, 1);
	free (all);
	assert_int_equal (registry_token_revoke (r, &id1, &err), 0);
	assert_int_equal (registry_token_find (r, h1, &t, &err), -1);
	assert_int_equal (registry_token_revoke (r, &id1, &err), -1);
	assert_int_equal (err.code, ERR_NOT_FOUND);
}

static struct id add_function (const char *code, size_t n)
{
	struct reg_function f = { .owner = alice.id, .name = "f", .kind = 2, .entry = "main", .code = (char *) code, .code_bytes = n, .created_ms = 5,
				  .time_limit_ms = 1500, .memory_limit_bytes = 1ull << 40 };
	id_new (&f.id);
	assert_int_equal (registry_function_add (r, &f, &bob.id, 1, &err), 0);
	return f.id;
}

static void test_functions_once (void **state)
{
	struct reg_function f = { .owner = alice.id, .name = "f", .kind = 2, .entry = "main", .code = (char *) "x", .code_bytes = 1, .once = true };
	struct id found;

	(void) state;
	memset (f.digest, 7, sizeof (f.digest));
	assert_int_equal (registry_function_once (r, &alice.id, f.digest, &found, &err), -1);
	assert_int_equal (err.code, ERR_NOT_FOUND);
	id_new (&f.id);
	assert_int_equal (registry_function_add (r, &f, NULL, 0, &err), 0);
	assert_int_equal (registry_function_once (r, &alice.id, f.digest, &found, &err), 0);
	assert_true (id_eq (&found, &f.id));
	assert_int_equal (registry_function_once (r, &bob.id, f.digest, &found, &err), -1);
	struct reg_function again = f;
	id_new (&again.id);
	assert_int_equal (registry_function_add (r, &again, NULL, 0, &err), -1);
	assert_int_equal (err.code, ERR_CONFLICT);
	again.owner = bob.id;
	assert_int_equal (registry_function_add (r, &again, NULL, 0, &err), 0);
	assert_int_equal (registry_function_container (r, &f.id, "image", NULL, &err), 0);
	assert_int_equal (registry_function_once (r, &alice.id, f.digest, &found, &err), -1);
	assert_int_equal (registry_function_remove (r, &f.id, &err), 0);
	assert_int_equal (registry_function_remove (r, &again.id, &err), 0);
}

static void test_functions (void **state)
{
	struct id a = add_function ("x\0y", 3), b = add_function ("", 0), c = add_function ("z", 1);
	struct reg_function f, *page;
	size_t n;

	(void) state;
	assert_int_equal (registry_function_get (r, &a, true, &f, &err), 0);
	assert_int_equal (f.code_bytes, 3);
	assert_memory_equal (f.code, "x\0y", 4);
	assert_string_equal (f.entry, "main");
	assert_null (f.description);
	assert_int_equal (f.time_limit_ms, 1500);
	assert_true (f.memory_limit_bytes == 1ull << 40);
	reg_function_fini (&f);
	assert_true (registry_shared (r, &a, &bob.id));
	assert_false (registry_shared (r, &a, &alice.id));
	assert_int_equal (registry_functions (r, &alice.id, NULL, 2, &page, &n, &err), 0);
	assert_int_equal (n, 2);
	assert_true (id_eq (&page[0].id, &c) && id_eq (&page[1].id, &b));
	reg_function_fini (&page[0]);
	reg_function_fini (&page[1]);
	free (page);
	assert_int_equal (registry_functions (r, &alice.id, &b, 2, &page, &n, &err), 0);
	assert_int_equal (n, 1);
	assert_true (id_eq (&page[0].id, &a));
	reg_function_fini (&page[0]);
	free (page);
	assert_int_equal (registry_functions (r, &bob.id, NULL, 2, &page, &n, &err), 0);
	assert_int_equal (n, 0);
	assert_int_equal (registry_function_remove (r, &a, &err), 0);
	assert_false (registry_shared (r, &a, &bob.id));
	assert_int_equal (registry_function_get (r, &a, false, &f, &err), -1);
	assert_int_equal (err.code, ERR_NOT_FOUND);
	assert_int_equal (registry_function_remove (r, &a, &err), -1);
}

static void test_endpoints (void **state)
{
	struct reg_endpoint e = { .owner = alice.id, .name = "e1", .public_key = "k", .created_ms = 1 }, got, *page;
	struct id f1, f2;
	size_t n;

	(void) state;
	id_new (&e.id);
	id_new (&f1);
	id_new (&f2);
	assert_int_equal (registry_endpoint_add (r, &e, NULL, 0, &err), 0);
	assert_int_equal (registry_endpoint_add (r, &e, NULL, 0, &err), -1);
	assert_int_equal (err.code, ERR_CONFLICT);
	assert_int_equal (registry_endpoint_get (r, &e.id, &got, &err), 0);
	assert_false (got.restricted);
	reg_endpoint_fini (&got);
	assert_int_equal (registry_allowed_add (r, &e.id, (struct id[]) { f1, f2, f1 }, 3, &err), 0);
	assert_int_equal (registry_allowed_remove (r, &e.id, &f1, &err), 0);
	assert_int_equal (registry_endpoint_get (r, &e.id, &got, &err), 0);
	assert_true (got.restricted);
	assert_int_equal (got.nallowed, 1);
	assert_true (id_eq (&got.allowed[0], &f2));
	reg_endpoint_fini (&got);
	assert_int_equal (registry_allowed_remove (r, &e.id, &f2, &err), 0);
	assert_int_equal (registry_endpoint_get (r, &e.id, &got, &err), 0);
	assert_true (got.restricted && !got.nallowed); /* nothing is allowed: not the same as anything */
	reg_endpoint_fini (&got);
	assert_int_equal (registry_endpoints (r, &bob.id, REG_ANY, NULL, 10, &page, &n, &err), 0);
	assert_int_equal (n, 0);
	e.name = "e2";
	assert_int_equal (registry_endpoint_update (r, &e, &bob.id, 1, &err), 0);
	assert_int_equal (registry_endpoints (r, &bob.id, REG_ANY, NULL, 10, &page, &n, &err), 0);
	assert_int_equal (n, 1);
	assert_string_equal (page[0].name, "e2");
	reg_endpoint_fini (&page[0]);
	free (page);
	assert_int_equal (registry_endpoint_lock (r, &e.id, 77, &err), 0);
	assert_int_equal (registry_endpoint_get (r, &e.id, &got, &err), 0);
	assert_int_equal (got.locked_until_ms, 77);
	reg_endpoint_fini (&got);
	assert_int_equal (registry_endpoint_remove (r, &e.id, &err), 0);
	assert_int_equal (registry_endpoint_lock (r, &e.id, 1, &err), -1);
}

static void test_audit (void **state)
{
	struct reg_audit rows[2] = { { .at_ms = 1, .actor = alice.id, .action = "a.b", .object = "o", .requests = 1, .items = 2 },
				     { .at_ms = 2, .actor = bob.id, .action = "c.d", .object = "p", .requests = 3, .items = 4 } }, *got;
	int64_t total;
	size_t n;

	(void) state;
	assert_int_equal (registry_audit (r, rows, 2, &err), 0);
	assert_int_equal (registry_audit_read (r, 10, &got, &n, &err), 0);
	assert_int_equal (n, 2);
	assert_string_equal (got[0].action, "c.d");
	assert_int_equal (got[1].items, 2);
	rows[1].action = "a.b";
	assert_int_equal (registry_audit (r, rows, 2, &err), 0);
	assert_int_equal (registry_audit_total (r, "a.b", &total, &err), 0);
	assert_int_equal (total, 8);
	assert_int_equal (registry_audit_total (r, "never", &total, &err), 0);
	assert_int_equal (total, 0);
	free ((char *) got[0].action);
	free ((char *) got[1].action);
	free (got);
}

/* Two connections write at once: both wait for each other, nothing is lost; readers are never in the way. */
static void *writer (void *arg)
{
	struct registry *mine;
	struct err e;
	long failed = 0;

	if (registry_open (&mine, path, 10000, &e) < 0)
		return (void *) 1;
	for (int i = 0; i < 100; i++) {
		struct reg_function f = { .owner = alice.id, .name = arg, .kind = 1, .code = (char *) "c", .code_bytes = 1 };
		id_new (&f.id);
		failed += registry_function_add (mine, &f, NULL, 0, &e) < 0;
	}
	registry_close (&mine);
	return (void *) failed;
}

static void test_two_connections (void **state)
{
	pthread_t a;
	struct registry *mine;
	struct reg_function *rows;
	void *result;
	size_t n;

	(void) state;
	/* ids are made on one thread only, so the other side uses other objects: users */
	assert_int_equal (pthread_create (&a, NULL, writer, (char *) "w"), 0);
	assert_int_equal (registry_open (&mine, path, 10000, &err), 0);
	for (int i = 0; i < 100; i++) {
		uint8_t hash[32] = { 9, (uint8_t) i };
		struct reg_token t;
		assert_int_equal (registry_token_find (r, hash, &t, &err), -1);
		assert_int_equal (err.code, ERR_NOT_FOUND);
		assert_int_equal (registry_audit (mine, &(struct reg_audit){ .at_ms = i, .actor = bob.id, .action = "x" }, 1, &err), 0);
	}
	pthread_join (a, &result);
	assert_null (result);
	assert_int_equal (registry_functions (r, &alice.id, NULL, 1000, &rows, &n, &err), 0);
	assert_int_equal (n, 100);
	for (size_t i = 0; i < n; i++)
		reg_function_fini (&rows[i]);
	free (rows);
	registry_close (&mine);
}

/* A connection opened and closed beside others must not cost them their locks: another process would then remove the log that they
 * write to, and each side would go on with a database of its own. */
static void test_locks_survive_other_connections (void **state)
{
	struct registry *second;
	struct reg_user u;
	char wal[160], cmd[400];

	(void) state;
	assert_int_equal (registry_open (&second, path, 1000, &err), 0);
	snprintf (wal, sizeof (wal), "%s-wal", path);
	assert_int_equal (access (wal, F_OK), 0);
	snprintf (cmd, sizeof (cmd), "/usr/bin/python3 -c \"import sqlite3; c = sqlite3.connect ('%s'); c.execute ('UPDATE users SET name = name'); "
		  "c.commit (); c.close ()\"", path);
	assert_int_equal (system (cmd), 0);
	assert_int_equal (access (wal, F_OK), 0);
	assert_int_equal (registry_user_add (second, "erik", &u, &err), 0);
	assert_int_equal (registry_user_find (r, "erik", &u, &err), 0);
	registry_close (&second);
}

/* While another process holds the write lock a change fails as "unavailable" after its time, and readers go on. */
static void test_busy (void **state)
{
	struct registry *mine;
	struct reg_user u;
	sqlite3 *db;

	(void) state;
	assert_int_equal (registry_open (&mine, path, 50, &err), 0);
	assert_int_equal (sqlite3_open (path, &db), SQLITE_OK);
	assert_int_equal (sqlite3_exec (db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal (registry_user_add (mine, "dora", &u, &err), -1);
	assert_int_equal (err.code, ERR_UNAVAILABLE);
	assert_int_equal (registry_user_find (mine, "alice", &u, &err), 0);
	sqlite3_exec (db, "ROLLBACK", NULL, NULL, NULL);
	sqlite3_close (db);
	assert_int_equal (registry_user_add (mine, "dora", &u, &err), 0);
	registry_close (&mine);
}

#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
int main (void)
{
	const struct CMUnitTest tests[] = {
		T (test_file_is_private), T (test_opens_again), T (test_newer_tables_are_refused), T (test_older_tables_are_brought_up_to_date),
		T (test_not_a_database), T (test_users),
		T (test_tokens), T (test_functions), T (test_functions_once), T (test_endpoints), T (test_audit), T (test_two_connections), T (test_busy),
		T (test_locks_survive_other_connections),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
