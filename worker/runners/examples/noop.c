/* SPDX-License-Identifier: Apache-2.0 */
/* Does nothing, fails, or crashes, as the payload says: what the speed of a call is measured with, and its failures. */
#include <stdio.h>
#include <stdlib.h>
#include "weft_function.h"

int weft_function (const struct weft_in *in, struct weft_out *out);
int weft_function (const struct weft_in *in, struct weft_out *out)
{
	if (in->size == 5 && memcmp (in->data, "abort", 5) == 0)
		abort ();
	if (in->size == 4 && memcmp (in->data, "fail", 4) == 0)
		return weft_fail (out, "told to fail");
	if (in->size == 4 && memcmp (in->data, "exit", 4) == 0)
		exit (3);
	if (in->size == 5 && memcmp (in->data, "print", 5) == 0)
		printf ("printed by the function\n");
	return weft_puts (out, "null");
}

/* Another entry of the same file: the payload's bytes, which need not be text. */
int echo (const struct weft_in *in, struct weft_out *out);
int echo (const struct weft_in *in, struct weft_out *out)
{
	return weft_write (out, in->data, in->size);
}
