/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "endpoint/gang.h"
#include "endpoint/managers.h"

enum { N = 6 };

/* b1: n10 n2 n1; b2: m1 m2; no block: x */
static void site (struct manager m[N])
{
	static const char *const names[N] = { "n10", "n2", "n1", "m1", "m2", "x" }, *const blocks[N] = { "b1", "b1", "b1", "b2", "b2", "" };

	memset (m, 0, N * sizeof (*m));
	for (int i = 0; i < N; i++) {
		snprintf (m[i].name, sizeof (m[i].name), "%s", names[i]);
		snprintf (m[i].block, sizeof (m[i].block), "%s", blocks[i]);
		m[i].knows_nodes = true;
		m[i].next = i + 1 < N ? &m[i + 1] : NULL;
	}
}

static void end (struct gang **g)
{
	gang_leave (*g);
	gang_free (g);
}

static void test_all_of_one_block_by_name (void **state)
{
	struct manager m[N];
	struct gang *g;

	(void) state;
	site (m);
	assert_int_equal (gang_choose (m, 3, 0, 0, &g), GANG_MADE);
	assert_true (g->m[0] == &m[2] && g->m[1] == &m[1] && g->m[2] == &m[0]);	/* n1 n2 n10 */
	assert_true (gang_idle (g));
	end (&g);
	assert_int_equal (gang_choose (m, 4, 0, 0, &g), GANG_NONE);		/* six nodes, but no block of four */
	m[0].draining = true;
	assert_int_equal (gang_choose (m, 3, 0, 0, &g), GANG_NONE);
	m[0].draining = m[0].knows_nodes = false;
	assert_int_equal (gang_choose (m, 3, 0, 0, &g), GANG_NONE);
}

static void test_where_the_least_is_busy (void **state)
{
	struct manager m[N];
	struct gang *g;

	(void) state;
	site (m);
	m[2].node.out = 5;
	m[3].node.out = 1;
	assert_int_equal (gang_choose (m, 2, 0, 0, &g), GANG_MADE);
	assert_true (g->m[0] == &m[1] && g->m[1] == &m[0]);	/* n2, n10: idle */
	end (&g);
	m[1].node.out = 7;
	assert_int_equal (gang_choose (m, 2, 0, 0, &g), GANG_MADE);
	assert_true (g->m[0] == &m[3]);				/* one task rather than five */
	assert_false (gang_idle (g));
	m[3].node.out = 0;
	assert_true (gang_idle (g));
	end (&g);
}

static void test_kept_for_one_while_another_has_them (void **state)
{
	struct manager m[N];
	struct gang *g, *later, *no;

	(void) state;
	site (m);
	assert_int_equal (gang_choose (m, 3, 0, 0, &g), GANG_MADE);
	gang_keep (g);
	assert_true (m[0].reserved && m[0].node.reserved && !m[0].gang);
	assert_int_equal (gang_choose (m, 3, 0, 0, &no), GANG_NONE);
	gang_take (g);
	assert_true (!m[0].reserved && m[0].node.reserved && m[0].gang == g);
	assert_int_equal (gang_choose (m, 3, 0, 0, &later), GANG_MADE);
	gang_keep (later);
	assert_false (gang_idle (later));
	end (&g);
	assert_true (m[0].reserved && m[0].node.reserved && !m[0].gang);
	assert_true (gang_idle (later));
	end (&later);
	assert_true (!m[0].reserved && !m[0].node.reserved);
}

static void test_one_that_is_gone (void **state)
{
	struct manager m[N];
	struct gang *g;

	(void) state;
	site (m);
	assert_int_equal (gang_choose (m, 3, 0, 0, &g), GANG_MADE);
	gang_take (g);
	gang_without (g, &m[0]);
	end (&g);
	assert_true (!m[1].gang && !m[2].gang && !m[1].node.reserved);
	assert_true (m[0].gang && m[0].node.reserved);	/* it was not looked at again: it may be freed */
}

static void test_time (void **state)
{
	struct manager m[N];
	struct gang *g;

	(void) state;
	site (m);
	for (int i = 0; i < 3; i++)
		m[i].node.ends_ms = 10000;
	assert_int_equal (gang_choose (m, 3, 4000, 5000, &g), GANG_MADE);
	end (&g);
	assert_int_equal (gang_choose (m, 3, 6000, 5000, &g), GANG_TIME_SHORT);
	assert_int_equal (gang_choose (m, 2, 6000, 5000, &g), GANG_MADE);	/* b2 has all the time */
	assert_true (g->m[0] == &m[3]);
	end (&g);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_all_of_one_block_by_name),
		cmocka_unit_test (test_where_the_least_is_busy),
		cmocka_unit_test (test_kept_for_one_while_another_has_them),
		cmocka_unit_test (test_one_that_is_gone),
		cmocka_unit_test (test_time),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
