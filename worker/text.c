/* SPDX-License-Identifier: Apache-2.0 */
/* See text.h. */
#include <inttypes.h>
#include <stdio.h>
#include "common/utf8.h"
#include "worker/text.h"

bool text_is_utf8 (const void *p, size_t n)
{
	return utf8_span (p, n) == n;
}

void text_make_utf8 (char *p, size_t n)
{
	utf8_mend (p, n);
}

char *text_duration (int64_t ms, char out[32])
{
	if (ms < 1000)
		snprintf (out, 32, "%" PRId64 " ms", ms);
	else if (ms % 1000 == 0)
		snprintf (out, 32, "%" PRId64 " s", ms / 1000);
	else
		snprintf (out, 32, "%.3g s", (double) ms / 1000);
	return out;
}

char *text_size (uint64_t bytes, char out[32])
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	double v = (double) bytes;
	int u = 0;

	while (v >= 1024 && u < 4) {
		v /= 1024;
		u++;
	}
	snprintf (out, 32, "%.*f %s", v == (double) (int64_t) v ? 0 : 1, v, units[u]);
	return out;
}
