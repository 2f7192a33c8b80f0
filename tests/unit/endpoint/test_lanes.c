/* SPDX-License-Identifier: Apache-2.0 */
/* What functions with replicas want, where blocks are made for images. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "endpoint/dispatch_internal.h"
#include "endpoint/scale.h"
#include "proto/functions.h"

static char wishes[400];

static void note (const struct scale_wish *w, void *arg)
{
	size_t n = strlen (wishes);

	(void) arg;
	snprintf (wishes + n, sizeof (wishes) - n, "%s%s %d%s", n ? ", " : "", w->image, (int) w->nodes, w->leaving ? " leaving" : "");
}

static const char *wished (struct dispatch *d)
{
	wishes[0] = 0;
	dispatch_images_wanted (d, note, NULL);
	return wishes;
}

static void become (struct dispatch *d, uint8_t id, const char *image, uint32_t replicas)
{
	struct function f = { .fn = { .id = { { id } }, .container = wire_str (image, strlen (image)), .replicas = replicas } };

	dispatch_lane_function (d, &f);
}

static struct dispatch with_images (const struct conf_list *images)
{
	return (struct dispatch) { .servables = map_create (), .o = { .images = images } };
}

static void test_an_image_that_comes_back_at_once (void **state)
{
	struct dispatch d = with_images (NULL);

	(void) state;
	become (&d, 1, "a", 2);
	assert_string_equal (wished (&d), "a 2");
	become (&d, 1, "b", 2);
	become (&d, 1, "a", 2);
	assert_string_equal (wished (&d), "a 2");
	become (&d, 1, "", 0);
	assert_string_equal (wished (&d), "");
	dispatch_lanes_end (&d);
}

/* A function's image may be changed after the service has looked at it. */
static void test_no_nodes_of_an_image_that_calls_may_not_have (void **state)
{
	char *patterns[] = { "registry.example/*" }, huge[DISPATCH_IMAGE_MAX + 2];
	const struct conf_list images = { patterns, 1 };
	struct dispatch d = with_images (&images);
	struct id other = { { 9 } };

	(void) state;
	become (&d, 1, "registry.example/a", 2);
	assert_string_equal (wished (&d), "registry.example/a 2");
	become (&d, 1, "elsewhere.example/a", 2);
	assert_string_equal (wished (&d), "");
	become (&d, 1, "registry.example/a b", 2);
	assert_string_equal (wished (&d), "");
	d.o.images = NULL;
	memset (huge, 'a', sizeof (huge) - 1);
	huge[sizeof (huge) - 1] = 0;
	become (&d, 1, huge, 2);
	assert_string_equal (wished (&d), "");
	become (&d, 1, huge + 1, 2);
	assert_int_equal (strspn (wished (&d), "a"), sizeof (wishes) - 1);	/* as much of it as is shown here */
	d.allowed = map_create ();
	map_put (d.allowed, &other, &d);
	become (&d, 1, "a", 2);
	assert_string_equal (wished (&d), "");
	become (&d, 9, "a", 1);
	assert_string_equal (wished (&d), "a 1");
	map_destroy (&d.allowed);
	dispatch_lanes_end (&d);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_an_image_that_comes_back_at_once),
		cmocka_unit_test (test_no_nodes_of_an_image_that_calls_may_not_have),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
