/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8, strict: no overlong forms, no surrogates, nothing above U+10FFFF. And runs of what JSON strings hold as it is. */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Length of the sequence at s (1 to 4), or 0 when the bytes there are not UTF-8. n > 0 bytes are left. */
static inline size_t utf8_seq (const uint8_t *s, size_t n)
{
	size_t len;
	uint32_t c;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (len > n)
		return 0;
	c = s[0] & (0xff >> (len + 1));
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if ((len == 3 && c < 0x800) || (len == 4 && c < 0x10000) || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return len;
}

/* How many bytes from s on are UTF-8; n: all of them. Eight ASCII bytes at a time: texts may have megabytes. */
static inline size_t utf8_span (const void *text, size_t n)
{
	const uint8_t *s = text;
	size_t i = 0, len;
	uint64_t word;

	while (i < n) {
		while (i + 8 <= n) {
			memcpy (&word, s + i, 8);
			if (word & UINT64_C (0x8080808080808080))
				break;
			i += 8;
		}
		if (i >= n || !(len = utf8_seq (s + i, n - i)))
			break;
		i += len;
	}
	return i;
}

/* In place: bytes that are not UTF-8 become '?'. For what others print, and texts that were cut. */
static inline void utf8_mend (char *s, size_t n)
{
	for (size_t i = 0; (i += utf8_span (s + i, n - i)) < n; i++)
		s[i] = '?';
}

/* Bytes at s that are ASCII and stand for themselves in a JSON string: from space on, no quote, no backslash. */
static inline size_t utf8_plain (const uint8_t *s, size_t n)
{
	size_t i = 0;

#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8 ('"'), slash = _mm_set1_epi8 ('\\'), space = _mm_set1_epi8 (0x20);
	for (; n - i >= 16; i += 16) {
		__m128i v = _mm_loadu_si128 ((const __m128i *) (const void *) (s + i));
		/* as signed bytes, what is below space is a control character or not ASCII */
		__m128i bad = _mm_or_si128 (_mm_cmplt_epi8 (v, space), _mm_or_si128 (_mm_cmpeq_epi8 (v, quote), _mm_cmpeq_epi8 (v, slash)));
		int mask = _mm_movemask_epi8 (bad);
		if (mask)
			return i + (size_t) __builtin_ctz ((unsigned) mask);
	}
#else
	const uint64_t ones = UINT64_MAX / 255, high = ones << 7;
	for (; n - i >= 8; i += 8) {
		uint64_t v, q, b;
		memcpy (&v, s + i, 8);
		q = v ^ ones * '"';
		b = v ^ ones * '\\';
		/* the high bit of a byte: not ASCII, below space, zero after the xor; false alarms only beside a true one */
		if ((v | (v - ones * 0x20) | ((q - ones) & ~q) | ((b - ones) & ~b)) & high)
			break;
	}
#endif
	while (i < n && s[i] >= 0x20 && s[i] < 0x80 && s[i] != '"' && s[i] != '\\')
		i++;
	return i;
}

#endif
