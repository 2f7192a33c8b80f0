/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "service/taskdoc.h"

static json_t *doc (enum doc_kind kind, const struct doc_task *t, bool trace)
{
	struct buf b;
	json_t *v;

	buf_init (&b, 0);
	if (trace)
		doc_trace (&b, t);
	else
		doc_add (&b, kind, t);
	v = json_loadb ((char *) b.data, b.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	if (!v)
		print_message ("%s\n", (char *) b.data);
	assert_non_null (v);
	buf_fini (&b);
	return v;
}

static const char *text (const json_t *o, const char *key)
{
	return json_string_value (json_object_get (o, key));
}

static struct layout_meta meta;
static struct msg_result result;
static struct doc_task task;

static int setup (void **state)
{
	(void) state;
	memset (&result, 0, sizeof (result));
	id_new (&task.task);
	id_new (&meta.function);
	id_new (&meta.endpoint);
	meta.group = task.task;
	meta.submitted_ns = 1700000000000000000;
	task = (struct doc_task) { .task = task.task, .state = STATE_RUNNING, .meta = &meta };
	result.task = task.task;
	result.status = STATUS_SUCCESS;
	return 0;
}

static void end (int state)
{
	task.state = state;
	task.result = &result;
	result.stamps[STAMP_RECEIVED] = 1700000000000000000;
	result.stamps[STAMP_EXECUTION_START] = 1700000001000000000;
	result.stamps[STAMP_EXECUTION_END] = 1700000001500000000;
	result.stamps[STAMP_FORWARDER_RESULT] = 1700000002123456789;
}

static void test_pending_says_nothing_more (void **state)
{
	json_t *v = doc (DOC_V2, &task, false);

	(void) state;
	assert_int_equal (json_object_size (v), 2); /* task_id, status: the SDK takes completion_t for the end */
	assert_string_equal (text (v, "status"), "running");
	json_decref (v);
}

static void test_waiting_for_its_endpoint (void **state)
{
	(void) state;
	for (int s = STATE_RECEIVED; s <= STATE_WAITING_FOR_EP; s++)
		assert_string_equal (doc_status (DOC_V2, s, false), "received");
	for (int s = STATE_RECEIVED; s <= STATE_RUNNING; s++)
		assert_string_equal (doc_status (DOC_V2, s, true), "waiting-for-ep");
	assert_string_equal (doc_status (DOC_V3, STATE_WAITING_FOR_LAUNCH, false), "waiting-for-launch");
	assert_string_equal (doc_status (DOC_V3, STATE_RUNNING, false), "running");
	assert_string_equal (doc_status (DOC_V3, STATE_SUCCESS, true), "success");
	assert_string_equal (doc_status (DOC_V3, STATE_CANCELLED, false), "cancelled");
	assert_string_equal (doc_status (DOC_V2, STATE_CANCELLED, false), "failed");
}

static void test_success (void **state)
{
	static const char value[] = "00\n\"quote\\ and \xc3\xa9";
	json_t *v;

	(void) state;
	end (STATE_SUCCESS);
	result.result = wire_str (value, sizeof (value) - 1);
	v = doc (DOC_V2, &task, false);
	assert_string_equal (text (v, "status"), "success");
	assert_string_equal (text (v, "result"), value);
	assert_string_equal (text (v, "completion_t"), "1700000002.123456");
	assert_null (json_object_get (v, "exception"));
	assert_null (json_object_get (v, "details")); /* versions unknown: stay silent */
	json_decref (v);
}

static void test_empty_result_is_there (void **state)
{
	json_t *v;

	(void) state;
	end (STATE_SUCCESS);
	v = doc (DOC_V2, &task, false);
	assert_string_equal (text (v, "result"), "");
	json_decref (v);
}

static void test_details_and_damaged_runtimes (void **state)
{
	static const struct { const char *runtime; bool shown; } cases[] = {
		{ "{\"os\":\"Linux\",\"python_version\":\"3.11.2\",\"dill_version\":\"0.3.9\"}", true },
		{ "{\"os\":\"Linux\",\"python_version\":\"3.11.2\",\"dill_version\":null}", false },
		{ "{\"os\":\"Linux\"", false },
		{ "\",\"x\":1", false },
		{ "[1]", false },
		{ "{\"python_version\":5,\"dill_version\":{}}", false },
	};

	(void) state;
	end (STATE_SUCCESS);
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		json_t *v, *d;
		result.runtime = wire_str (cases[i].runtime, strlen (cases[i].runtime));
		v = doc (DOC_V2, &task, false);
		d = json_object_get (v, "details");
		assert_int_equal (d != NULL, cases[i].shown);
		if (d) {
			assert_string_equal (text (d, "python_version"), "3.11.2");
			assert_true (json_number_value (json_object_get (json_object_get (d, "task_transitions"), "execution-end")) > 1.7e9);
		}
		json_decref (v);
		json_decref (doc (DOC_V3, &task, false));
	}
}

static void test_failure (void **state)
{
	json_t *v;

	(void) state;
	end (STATE_FAILED);
	result.status = STATUS_FAILED;
	result.fault = FAULT_SITE;
	result.code = ERR_TASK_SIGNAL;
	result.detail = 9;
	result.error = WIRE_STR ("worker killed");
	result.out = WIRE_STR ("to stdout");
	result.node = WIRE_STR ("n1");
	v = doc (DOC_V2, &task, false);
	assert_string_equal (text (v, "status"), "failed");
	assert_string_equal (text (v, "exception"), "worker killed");
	assert_null (json_object_get (v, "result"));
	json_decref (v);
	v = doc (DOC_V3, &task, false);
	assert_string_equal (text (v, "fault"), "site");
	assert_string_equal (text (v, "code"), "TASK_SIGNAL");
	assert_int_equal (json_integer_value (json_object_get (v, "exit_detail")), 9);
	assert_string_equal (text (v, "stdout"), "to stdout");
	assert_string_equal (text (v, "node"), "n1");
	assert_non_null (text (v, "function_id"));
	json_decref (v);
	result.error = wire_str (NULL, 0); /* never without any text */
	v = doc (DOC_V2, &task, false);
	assert_string_equal (text (v, "exception"), "TASK_SIGNAL");
	json_decref (v);
}

static void test_cancelled (void **state)
{
	json_t *v;

	(void) state;
	end (STATE_CANCELLED);
	result.status = STATUS_CANCELLED;
	v = doc (DOC_V2, &task, false);
	assert_string_equal (text (v, "status"), "failed");
	assert_non_null (text (v, "reason"));
	assert_string_equal (text (v, "exception"), text (v, "reason"));
	assert_non_null (text (v, "completion_t"));
	json_decref (v);
	v = doc (DOC_V3, &task, false);
	assert_string_equal (text (v, "status"), "cancelled");
	json_decref (v);
}

static void test_not_text (void **state)
{
	json_t *v;

	(void) state;
	end (STATE_SUCCESS);
	result.result = wire_str ("\xff\xfe\0x", 4); /* what a broken endpoint may send: still valid JSON */
	v = doc (DOC_V3, &task, false);
	json_decref (v);
	result.flags = RESULT_BASE64;
	result.result = WIRE_STR ("//4=");
	v = doc (DOC_V2, &task, false);
	assert_string_equal (text (v, "result_encoding"), "base64");
	json_decref (v);
}

static void test_trace (void **state)
{
	json_t *v, *spans;

	(void) state;
	v = doc (DOC_V3, &task, true);
	assert_int_equal (json_array_size (json_object_get (v, "spans")), 0);
	json_decref (v);
	end (STATE_SUCCESS);
	v = doc (DOC_V3, &task, true);
	spans = json_object_get (v, "spans");
	assert_int_equal (json_array_size (spans), 3);
	assert_string_equal (text (json_array_get (spans, 1), "name"), "execution");
	assert_string_equal (text (json_array_get (spans, 1), "from"), "execution_start");
	assert_float_equal (json_number_value (json_object_get (json_array_get (spans, 1), "us")), 500000, 0.001);
	assert_float_equal (json_number_value (json_object_get (v, "total_us")), 2123456.789, 0.01);
	assert_int_equal (json_object_size (json_object_get (v, "stamps")), 4);
	json_decref (v);
	task.stamps = true;
	v = doc (DOC_V2, &task, false);
	assert_int_equal (json_object_size (json_object_get (v, "stamps")), 4);
	json_decref (v);
}

#define T(f) cmocka_unit_test_setup (f, setup)
int main (void)
{
	const struct CMUnitTest tests[] = {
		T (test_pending_says_nothing_more), T (test_waiting_for_its_endpoint), T (test_success), T (test_empty_result_is_there),
		T (test_details_and_damaged_runtimes), T (test_failure), T (test_cancelled), T (test_not_text), T (test_trace),
	};
	return cmocka_run_group_tests (tests, NULL, NULL);
}
