/* SPDX-License-Identifier: Apache-2.0 */
/* See crc.h: "slicing by 8". Results may have 10 MiB and more, and the loop waits for this. */
#include "endpoint/crc.h"

#include <stdbool.h>
#include <string.h>

static uint32_t table[8][256];

static void fill (void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
		table[0][i] = c;
	}
	for (int t = 1; t < 8; t++)
		for (uint32_t i = 0; i < 256; i++)
			table[t][i] = (table[t - 1][i] >> 8) ^ table[0][table[t - 1][i] & 0xff];
}

static uint32_t le32 (const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

uint32_t crc_of (const void *data, size_t n)
{
	const uint8_t *p = data;
	uint32_t c = 0xffffffffu;

	if (!table[0][1])
		fill ();
	for (; n >= 8; n -= 8, p += 8) {
		uint32_t a = le32 (p) ^ c, b = le32 (p + 4);
		c = table[7][a & 0xff] ^ table[6][(a >> 8) & 0xff] ^ table[5][(a >> 16) & 0xff] ^ table[4][a >> 24]
		  ^ table[3][b & 0xff] ^ table[2][(b >> 8) & 0xff] ^ table[1][(b >> 16) & 0xff] ^ table[0][b >> 24];
	}
	while (n--)
		c = table[0][(c ^ *p++) & 0xff] ^ (c >> 8);
	return c ^ 0xffffffffu;
}
