/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/map.h"

enum { N = 20000 };
static struct id ids[N];
static int values[N];
static int seen[N];

static int count_and_delete (const struct id *k, void *v, void *arg)
{
	struct map *m = arg;
	int i = (int) ((int *) v - values);
	seen[i]++;
	if (i % 3 != 0)
		assert_ptr_equal (map_del (m, k), v);
	return 0;
}

static int stop_at_once (const struct id *k, void *v, void *arg)
{
	(void) k;
	(void) v;
	(*(int *) arg)++;
	return 7;
}

static void fill (struct map *m)
{
	for (int i = 0; i < N; i++) {
		id_new (&ids[i]);
		assert_null (map_put (m, &ids[i], &values[i]));
	}
}

static void test_put_get_delete (void **state)
{
	struct map *m = map_create ();
	int other;
	(void) state;
	assert_null (map_get (m, &(struct id){ { 0 } }));
	assert_null (map_del (m, &(struct id){ { 0 } }));
	fill (m);
	assert_int_equal (map_size (m), N);
	assert_ptr_equal (map_put (m, &ids[5], &other), &values[5]);
	assert_ptr_equal (map_put (m, &ids[5], &values[5]), &other);
	for (int i = 0; i < N; i += 2)
		assert_ptr_equal (map_del (m, &ids[i]), &values[i]);
	for (int i = 0; i < N; i++)
		assert_ptr_equal (map_get (m, &ids[i]), i % 2 ? &values[i] : NULL);
	assert_int_equal (map_size (m), N / 2);
	map_destroy (&m);
	assert_null (m);
	map_destroy (&m);
}

/* Large enough for a table in huge pages; nothing is to be seen of it but that it works. */
static void test_a_large_one (void **state)
{
	enum { MANY = 200000 };
	struct map *m = map_create ();
	struct id id = { { 0 } };
	(void) state;
	for (uintptr_t i = 1; i <= MANY; i++) {
		memcpy (id.b, &i, sizeof (i));
		map_prefetch (m, &id);
		assert_null (map_put (m, &id, (void *) i));
	}
	assert_int_equal (map_size (m), MANY);
	for (uintptr_t i = 1; i <= MANY; i++) {
		memcpy (id.b, &i, sizeof (i));
		map_prefetch (m, &id);
		assert_ptr_equal (i % 3 ? map_get (m, &id) : map_del (m, &id), (void *) i);
	}
	assert_int_equal (map_size (m), MANY - MANY / 3);
	map_destroy (&m);
}

static void test_each_visits_once_while_deleting (void **state)
{
	(void) state;
	for (int round = 0; round < 5; round++) {
		struct map *m = map_create ();
		int calls = 0;
		fill (m);
		memset (seen, 0, sizeof (seen));
		assert_int_equal (map_each (m, count_and_delete, m), 0);
		for (int i = 0; i < N; i++) {
			assert_int_equal (seen[i], 1);
			assert_ptr_equal (map_get (m, &ids[i]), i % 3 ? NULL : &values[i]);
		}
		assert_int_equal (map_each (m, stop_at_once, &calls), 7);
		assert_int_equal (calls, 1);
		map_destroy (&m);
	}
}

static int dropped;

static void drop (void *v)
{
	seen[(int *) v - values]++;
	dropped++;
}

static void test_owned_values_are_dropped_once (void **state)
{
	struct map *m = map_create (), *none = NULL;
	(void) state;
	memset (seen, 0, sizeof (seen));
	fill (m);
	for (int i = 0; i < N; i += 2)
		map_del (m, &ids[i]);
	map_empty (&m, drop);
	assert_int_equal (dropped, N / 2);
	assert_int_equal (map_size (m), 0);
	for (int i = 0; i < N; i++) {
		assert_int_equal (seen[i], i % 2);
		assert_null (map_get (m, &ids[i]));
	}
	fill (m);
	map_empty (&m, NULL);			/* borrowed ones */
	assert_int_equal (dropped, N / 2);
	fill (m);
	map_destroy_owned (&m, drop);
	assert_null (m);
	assert_int_equal (dropped, N / 2 + N);
	map_destroy_owned (&none, drop);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_put_get_delete),
		cmocka_unit_test (test_a_large_one),
		cmocka_unit_test (test_each_visits_once_while_deleting),
		cmocka_unit_test (test_owned_values_are_dropped_once),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
