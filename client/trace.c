/* SPDX-License-Identifier: Apache-2.0 */
#include "client/trace.h"
#include <stdlib.h>
#include <string.h>
#include "client/api.h"
#include "common/xmem.h"

#define BAR 48

static void time_text (double us, char out[16])
{
	if (us < 1000)
		snprintf (out, 16, "%.0f us", us);
	else if (us < 1e6)
		snprintf (out, 16, "%.2f ms", us / 1000);
	else
		snprintf (out, 16, "%.2f s", us / 1e6);
}

static void bar (double from, double us, double total, char out[BAR + 1])
{
	int a = total > 0 ? (int)(from / total * BAR) : 0, b = total > 0 ? (int)((from + us) / total * BAR + 0.5) : 0;
	if (a > BAR - 1)
		a = BAR - 1;
	if (b <= a)
		b = a + 1;
	if (b > BAR)
		b = BAR;
	memset (out, '.', BAR);
	memset (out + a, '#', (size_t)(b - a));
	out[BAR] = '\0';
}

void trace_print (const json_t *t, FILE *to)
{
	json_t *spans = json_object_get (t, "spans"), *s, *c = json_object_get (t, "container");
	double total = json_number_value (json_object_get (t, "total_us")), at = 0;
	char text[16], line[BAR + 1];
	size_t i;
	time_text (total, text);
	fprintf (to, "task %s: %s, %s%s\n", api_str (t, "task_id"), api_str (t, "status"), text,
		 json_is_true (json_object_get (t, "memoised")) ? ", the result of an earlier call" : "");
	json_array_foreach (spans, i, s) {
		double us = json_number_value (json_object_get (s, "us"));
		bar (at, us, total, line);
		time_text (us, text);
		fprintf (to, "  %-34s %10s %5.1f%%  %s\n", api_str (s, "name"), text, total > 0 ? us / total * 100 : 0, line);
		at += us;
	}
	if (c)
		fprintf (to, "  container %s (%s%s%s): cold start %lld ms, of which the image took %lld ms to come\n",
			 api_str (c, "image"), api_str (c, "type"), *api_str (c, "digest") ? ", " : "", api_str (c, "digest"),
			 (long long)json_integer_value (json_object_get (c, "cold_start_ms")),
			 (long long)json_integer_value (json_object_get (c, "pull_ms")));
}

json_t *trace_fetch (const struct api_opts *o, const char *id, struct err *err)
{
	char *path = xasprintf ("/v3/tasks/%s/trace", id);
	json_t *t = api_call (o, "GET", path, NULL, 0, err);
	free (path);
	return t;
}

int trace_show (const struct api_opts *o, const char *id)
{
	struct err err = { 0 };
	json_t *t = trace_fetch (o, id, &err);
	if (!t)
		return api_fail ("trace", &err);
	if (o->json)
		api_print_json (t);
	else
		trace_print (t, stdout);
	json_decref (t);
	return 0;
}
