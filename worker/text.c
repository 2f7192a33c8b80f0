/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8, amounts for people. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "worker/text.h"

/* Bytes of the valid sequence at p (RFC 3629: no surrogates, no overlong forms), 0 = none. */
static size_t sequence (const uint8_t *p, size_t n)
{
	uint8_t c = p[0], low = 0x80, high = 0xbf;
	size_t i, len;

	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (n < len)
		return 0;
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* Where the first byte stands that is not UTF-8; n = nowhere. Eight ASCII bytes at a time: results may have megabytes. */
static size_t first_bad (const uint8_t *p, size_t n)
{
	size_t i = 0, len;
	uint64_t word;

	while (i < n) {
		while (i + 8 <= n) {
			memcpy (&word, p + i, 8);
			if (word & 0x8080808080808080u)
				break;
			i += 8;
		}
		if (i >= n)
			break;
		if (!(len = sequence (p + i, n - i)))
			return i;
		i += len;
	}
	return n;
}

bool text_is_utf8 (const void *p, size_t n)
{
	return first_bad (p, n) == n;
}

void text_make_utf8 (char *p, size_t n)
{
	size_t at = 0;

	while (at < n) {
		at += first_bad ((const uint8_t *) p + at, n - at);
		if (at < n)
			p[at++] = '?';
	}
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
