/* SPDX-License-Identifier: Apache-2.0 */
/* What functions with replicas want, where blocks are made for images; where tasks wait there. */
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
#include "proto/link.h"

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

static const char *no_image (const char *block, void *arg)
{
	(void) block;
	(void) arg;
	return "";
}

static void nobody (void *arg)
{
	(void) arg;
}

static struct queue_task *a_task (struct dispatch *d, uint8_t n, const char *image)
{
	struct msg_function m = { .kind = KIND_PYTHON, .id = { { n } }, .code = WIRE_STR ("c"), .entry = WIRE_STR ("f"),
				  .container = wire_str (image, strlen (image)) };
	struct queue_task *t;
	struct buf b;
	zmq_msg_t record;

	buf_init (&b, 0);
	msg_function_encode (&b, &m);
	link_msg_from_buf (&record, &b);
	assert_non_null (functions_put (d->functions, &record, NULL));
	zmq_msg_close (&record);
	zmq_msg_init (&record);
	t = queue_add (d->queue, &m.id, &m.id, &record, 1, n);
	zmq_msg_close (&record);
	return t;
}

/* In the order in which they came back from managers; now there is none. */
static void test_none_waits_behind_those_that_wait_for_other_nodes (void **state)
{
	struct dispatch d = { .servables = map_create (), .queue = queue_create (), .functions = functions_create (10, 1 << 20),
			      .route = route_create (ROUTE_RANDOM), .o = { .block_image = no_image, .tasks_waiting = nobody } };
	struct queue_task *plain = a_task (&d, 1, ""), *in_image = a_task (&d, 2, "a"), *behind = a_task (&d, 3, "");

	(void) state;
	dispatch_route (&d);
	assert_ptr_equal (in_image->lane_list, &d.lanes->waiting);
	assert_ptr_equal (d.plain.head, plain);
	assert_ptr_equal (d.plain.tail, behind);
	assert_null (queue_front (d.queue));
	dispatch_lanes_release (&d);
	assert_int_equal (queue_waiting (d.queue)->n, 3);
	dispatch_lane_left (&d, in_image);
	dispatch_lanes_end (&d);
	queue_destroy (&d.queue);
	functions_destroy (&d.functions);
	route_destroy (&d.route);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_an_image_that_comes_back_at_once),
		cmocka_unit_test (test_no_nodes_of_an_image_that_calls_may_not_have),
		cmocka_unit_test (test_none_waits_behind_those_that_wait_for_other_nodes),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
