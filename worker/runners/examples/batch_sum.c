/* SPDX-License-Identifier: Apache-2.0 */
/* A function with a batch entry: each input is a number as text, each result is that number and the count of inputs in the call. "odd" is no
 * number and fails alone. Register it with batches: weft function register batch_sum.so::batch_sum --batch-max 16 */
#include <stdio.h>
#include <stdlib.h>
#include "weft_function.h"

weft_function_f batch_sum;
weft_batch_f batch_sum_batch;

static void one (const struct weft_in *in, struct weft_out *out, size_t n)
{
	char text[64], *end;
	long v = strtol ((const char *) in->data, &end, 10);

	if (end == (const char *) in->data) {
		weft_fail (out, "not a number");
		return;
	}
	snprintf (text, sizeof (text), "%ld of %zu", v, n);
	weft_puts (out, text);
}

int batch_sum_batch (const struct weft_in *in, struct weft_out *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		one (&in[i], &out[i], n);
	return 0;
}

int batch_sum (const struct weft_in *in, struct weft_out *out)
{
	one (in, out, 1);
	return 0;
}
