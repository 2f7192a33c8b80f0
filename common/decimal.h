/* SPDX-License-Identifier: Apache-2.0 */
/* Whole numbers as text on hot paths, where snprintf is most of the work. */
#ifndef COMMON_DECIMAL_H
#define COMMON_DECIMAL_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { DECIMAL_MAX = 21 };	/* "-9223372036854775808" with its NUL */

/* Returns the length; out is NUL-terminated. */
static inline size_t decimal_put (char out[DECIMAL_MAX], int64_t v)
{
	char digits[DECIMAL_MAX];
	size_t at = sizeof (digits), n;
	uint64_t u = v < 0 ? 0 - (uint64_t) v : (uint64_t) v;

	digits[--at] = '\0';
	do
		digits[--at] = (char) ('0' + u % 10);
	while (u /= 10);
	if (v < 0)
		digits[--at] = '-';
	n = sizeof (digits) - at;
	memcpy (out, digits + at, n);
	return n - 1;
}

#endif
