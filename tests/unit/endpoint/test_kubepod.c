/* SPDX-License-Identifier: Apache-2.0 */
/* What pods, Deployments and watches say, as a real server wrote it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "endpoint/providers/kubepod.h"
#include "endpoint/providers/kubewatch.h"

static struct kubepod pod (const char *meta, const char *status)
{
	char text[4000];
	struct kubepod p;
	json_t *j;

	snprintf (text, sizeof (text), "{\"metadata\": {\"name\": \"p\", \"uid\": \"u\", \"labels\": {\"weft/block\": \"b1\"}%s}, \"status\": {%s}}",
		  meta, status);
	if (!(j = json_loads (text, 0, NULL)))
		fail_msg ("not JSON: %s", text);
	assert_int_equal (kubepod_read (j, "weft/block", &p), 0);
	json_decref (j);
	return p;
}

#define STATUS(state) "\"phase\": \"Pending\", \"containerStatuses\": [{\"name\": \"worker\", \"restartCount\": 0, \"state\": " state "}]"

static void test_whose_image_cannot_be_had (void **state)
{
	(void) state;
	assert_true (pod ("", STATUS ("{\"waiting\": {\"reason\": \"ImagePullBackOff\"}}")).no_image);
	assert_true (pod ("", STATUS ("{\"waiting\": {\"reason\": \"InvalidImageName\"}}")).no_image);
	assert_false (pod ("", STATUS ("{\"waiting\": {\"reason\": \"CreateContainerConfigError\"}}")).no_image);
	/* an init container's is another one */
	assert_false (pod ("", "\"initContainerStatuses\": [{\"name\": \"weft\", \"state\": {\"waiting\": {\"reason\": \"ErrImagePull\"}}}], "
			   STATUS ("{\"waiting\": {\"reason\": \"PodInitializing\"}}")).no_image);
	assert_string_equal (pod ("", "\"initContainerStatuses\": [{\"name\": \"weft\", \"state\": {\"terminated\": {\"exitCode\": 2}}}]").container, "weft");
	assert_string_equal (pod ("", STATUS ("{\"running\": {}}")).container, "");
}

static void test_states (void **state)
{
	static const struct { const char *status; enum kubepod_state state; bool bad, hopeless; const char *text; } rows[] = {
		{ "", KUBEPOD_WAITING, false, false, "" },
		{ "\"phase\": 3, \"conditions\": {}, \"containerStatuses\": \"x\"", KUBEPOD_WAITING, false, false, "" },
		{ "\"phase\": \"Pending\", \"conditions\": [{\"type\": \"PodScheduled\", \"status\": \"False\", \"reason\": \"Unschedulable\", "
		  "\"message\": \"0/1 nodes are available: 1 Insufficient cpu.\"}]", KUBEPOD_WAITING, true, false,
		  "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu." },
		{ STATUS ("{\"waiting\": {\"reason\": \"ContainerCreating\"}}"), KUBEPOD_WAITING, false, false, "" },
		{ STATUS ("{\"waiting\": {\"reason\": \"ErrImagePull\", \"message\": \"rpc error: no\"}}"), KUBEPOD_WAITING, true, false,
		  "ErrImagePull: rpc error: no" },
		/* Docker, CRI-O, containerd; and registries that did not answer so */
		{ STATUS ("{\"waiting\": {\"reason\": \"ErrImagePull\", \"message\": \"rpc error: code = Unknown desc = Error response from daemon: "
			  "manifest for r.example/m:2 not found: manifest unknown: manifest unknown\"}}"), KUBEPOD_WAITING, true, true,
		  "ErrImagePull: rpc error: code = Unknown desc = Error response from daemon: manifest for r.example/m:2 not found: manifest unknown: "
		  "manifest unknown" },
		{ STATUS ("{\"waiting\": {\"reason\": \"ErrImagePull\", \"message\": \"initializing source docker://r.example/m:2: reading manifest 2 in "
			  "r.example/m: manifest unknown\"}}"), KUBEPOD_WAITING, true, true,
		  "ErrImagePull: initializing source docker://r.example/m:2: reading manifest 2 in r.example/m: manifest unknown" },
		{ STATUS ("{\"waiting\": {\"reason\": \"ErrImagePull\", \"message\": \"failed to resolve reference \\\"r.example/m:2\\\": r.example/m:2: "
			  "not found\"}}"), KUBEPOD_WAITING, true, true,
		  "ErrImagePull: failed to resolve reference \"r.example/m:2\": r.example/m:2: not found" },
		{ STATUS ("{\"waiting\": {\"reason\": \"ErrImagePull\", \"message\": \"failed to resolve reference \\\"r.example/m:2\\\": failed to do "
			  "request: dial tcp: lookup r.example: no such host\"}}"), KUBEPOD_WAITING, true, false,
		  "ErrImagePull: failed to resolve reference \"r.example/m:2\": failed to do request: dial tcp: lookup r.example: no such host" },
		{ STATUS ("{\"waiting\": {\"reason\": \"ErrImagePull\", \"message\": \": not found\"}}"), KUBEPOD_WAITING, true, false,
		  "ErrImagePull: : not found" },
		{ STATUS ("{\"waiting\": {\"reason\": \"ErrImageNeverPull\", \"message\": \"m\"}}"), KUBEPOD_WAITING, true, true, "ErrImageNeverPull: m" },
		{ STATUS ("{\"waiting\": {\"reason\": \"InvalidImageName\"}}"), KUBEPOD_WAITING, true, true, "InvalidImageName" },
		{ STATUS ("{\"running\": {\"startedAt\": \"2026-11-21T07:22:58Z\"}}"), KUBEPOD_RUNNING, false, false, "" },
		{ STATUS ("{\"terminated\": {\"exitCode\": 137, \"reason\": \"OOMKilled\"}}"), KUBEPOD_DEAD, true, false,
		  "container worker ended: OOMKilled, exit code 137" },
		{ "\"phase\": \"Running\", \"containerStatuses\": [{\"name\": \"worker\", \"restartCount\": 2, "
		  "\"lastState\": {\"terminated\": {\"exitCode\": 1, \"reason\": \"Error\"}}, "
		  "\"state\": {\"waiting\": {\"reason\": \"CrashLoopBackOff\", \"message\": \"back-off\"}}}]", KUBEPOD_DEAD, true, false,
		  "CrashLoopBackOff: back-off; the last time it ended with Error, exit code 1" },
		{ "\"phase\": \"Failed\", \"reason\": \"Evicted\", \"message\": \"low on resource: memory\"", KUBEPOD_DEAD, true, false,
		  "Evicted: low on resource: memory" },
		{ "\"phase\": \"Failed\", \"containerStatuses\": [{\"name\": \"worker\", \"state\": {\"terminated\": {\"exitCode\": 127, "
		  "\"reason\": \"ContainerCannotRun\", \"message\": \"exec: no such file\"}}}]", KUBEPOD_DEAD, true, false,
		  "container worker ended: ContainerCannotRun, exit code 127: exec: no such file" },
		{ "\"initContainerStatuses\": [{\"name\": \"i\", \"state\": {\"terminated\": {\"exitCode\": 0}}}], "
		  STATUS ("{\"running\": {}}"), KUBEPOD_RUNNING, false, false, "" },
		{ "\"initContainerStatuses\": [{\"name\": \"i\", \"state\": {\"waiting\": {\"reason\": \"ImagePullBackOff\", \"message\": \"m\"}}}], "
		  STATUS ("{\"waiting\": {\"reason\": \"PodInitializing\"}}"), KUBEPOD_WAITING, true, false, "ImagePullBackOff: m" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof (rows) / sizeof (rows[0]); i++) {
		struct kubepod p = pod ("", rows[i].status);
		if (strcmp (p.text, rows[i].text) != 0 || p.state != rows[i].state || p.bad != rows[i].bad || p.hopeless != rows[i].hopeless)
			fail_msg ("row %zu: state %d, bad %d, hopeless %d, '%s'", i, (int) p.state, p.bad, p.hopeless, p.text);
		assert_string_equal (p.block, "b1");
	}
}

static void test_leaving_and_odd (void **state)
{
	struct kubepod p = pod (", \"deletionTimestamp\": \"2026-11-21T07:23:04Z\"", STATUS ("{\"running\": {}}"));
	json_t *j = json_pack ("{s:{s:s}}", "metadata", "name", "x");

	(void) state;
	assert_int_equal (p.state, KUBEPOD_LEAVING);
	assert_int_equal (kubepod_read (j, "weft/block", &p), -1);
	json_decref (j);
}

static void test_deployment (void **state)
{
	char text[400];
	json_t *j = json_loads ("{\"status\": {\"conditions\": [{\"type\": \"Progressing\", \"status\": \"True\"}, {\"type\": \"ReplicaFailure\", \"status\": "
				"\"True\", \"reason\": \"FailedCreate\", \"message\": \"exceeded quota: q\"}]}}", 0, NULL);

	(void) state;
	kubepod_deployment (j, text);
	assert_string_equal (text, "FailedCreate: exceeded quota: q");
	json_decref (j);
	kubepod_deployment (NULL, text);
	assert_string_equal (text, "");
}

static void test_watch_lines (void **state)
{
	static const struct { const char *line; enum kubewatch_event event; const char *version; int code; } rows[] = {
		{ "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"384\"}}}", KUBEWATCH_CHANGED, "384", 0 },
		{ "{\"type\":\"MODIFIED\",\"object\":{}}", KUBEWATCH_CHANGED, "", 0 },
		{ "{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"resourceVersion\":\"385\"}}}", KUBEWATCH_DELETED, "385", 0 },
		{ "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}", KUBEWATCH_BOOKMARK, "9", 0 },
		{ "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"reason\":\"Expired\",\"code\":410}}", KUBEWATCH_ERROR, "", 410 },
		{ "{\"type\":\"OTHER\",\"object\":{}}", KUBEWATCH_BAD, "", 0 },
		{ "{\"type\":\"ADDED\"}", KUBEWATCH_BAD, "", 0 },
		{ "{\"type\":\"ADDED\",\"object\":[]}", KUBEWATCH_BAD, "", 0 },
		{ "{\"type\":\"ADDED\",\"object\":{", KUBEWATCH_BAD, "", 0 },
		{ "[]", KUBEWATCH_BAD, "", 0 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof (rows) / sizeof (rows[0]); i++) {
		json_t *o;
		char version[64];
		int code;
		assert_int_equal (kubewatch_parse (rows[i].line, strlen (rows[i].line), &o, version, &code), rows[i].event);
		assert_string_equal (version, rows[i].version);
		assert_int_equal (code, rows[i].code);
		assert_int_equal (o != NULL, rows[i].event != KUBEWATCH_BAD);
		json_decref (o);
	}
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_states), cmocka_unit_test (test_whose_image_cannot_be_had),
		cmocka_unit_test (test_leaving_and_odd), cmocka_unit_test (test_deployment),
		cmocka_unit_test (test_watch_lines),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
