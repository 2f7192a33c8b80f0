/* SPDX-License-Identifier: Apache-2.0 */
/* Sums comma-separated numbers: "1,2,3.5" gives "6.5". */
#include <stdio.h>
#include <stdlib.h>
#include "weft_function.h"

int weft_function (const struct weft_in *in, struct weft_out *out);
int weft_function (const struct weft_in *in, struct weft_out *out)
{
	const char *p = (const char *) in->data;	/* ends with a 0 byte */
	double sum = 0;
	char text[64];
	char *end;

	while (*p) {
		sum += strtod (p, &end);
		if (end == p)
			return weft_fail (out, "expected numbers separated by commas");
		p = end + strspn (end, " \n");
		if (*p == ',')
			p++;
		else if (*p)
			return weft_fail (out, "expected a comma between numbers");
	}
	snprintf (text, sizeof (text), "%.15g", sum);
	return weft_puts (out, text);
}
