/* SPDX-License-Identifier: Apache-2.0 */
/* See base64.h. */
#include "common/base64.h"

void base64_encode (struct buf *out, const void *data, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *p = data;
	size_t i;
	uint32_t v;

	if (buf_reserve (out, (n + 2) / 3 * 4 + 1) < 0)
		return;
	for (i = 0; i < n; i += 3) {
		char four[4];

		v = (uint32_t) p[i] << 16 | (i + 1 < n ? p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
		four[0] = digits[v >> 18];
		four[1] = digits[v >> 12 & 63];
		four[2] = i + 1 < n ? digits[v >> 6 & 63] : '=';
		four[3] = i + 2 < n ? digits[v & 63] : '=';
		buf_add (out, four, 4);
	}
}

static int digit (char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode (struct buf *out, const char *p, size_t n)
{
	uint32_t v = 0;
	size_t i, have = 0, pads = 0;

	if (buf_reserve (out, n / 4 * 3 + 3) < 0)
		return -1;
	for (i = 0; i < n; i++) {
		uint8_t three[3];
		int d;

		if (p[i] == '\n' || p[i] == '\r' || p[i] == ' ' || p[i] == '\t')
			continue;
		if (p[i] == '=') {
			pads++;
			continue;
		}
		if (pads || (d = digit (p[i])) < 0)
			return -1;
		v = v << 6 | (uint32_t) d;
		if (++have % 4 == 0) {
			three[0] = v >> 16 & 255;
			three[1] = v >> 8 & 255;
			three[2] = v & 255;
			buf_add (out, three, 3);
		}
	}
	have %= 4;
	if (have == 1 || (pads && (have == 0 || have + pads != 4)))
		return -1;
	if (have == 2)
		buf_char (out, (char) (v >> 4 & 255));
	if (have == 3) {
		buf_char (out, (char) (v >> 10 & 255));
		buf_char (out, (char) (v >> 2 & 255));
	}
	return buf_failed (out) ? -1 : 0;
}
