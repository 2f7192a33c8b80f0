/* SPDX-License-Identifier: Apache-2.0 */
/* A file of the spool or of the memo from an input (endpoint/segment.h). With the first bit of its first byte the checksums are made right: else
 * hardly any record would come as far as its decoder. */
#ifndef TESTS_FUZZ_SEGMENT_H
#define TESTS_FUZZ_SEGMENT_H
#include <endian.h>
#include "endpoint/crc.h"
#include "endpoint/segment.h"
#include "tests/fuzz/fuzz_disk.h"

/* each: called for every record that is whole. */
static inline void fuzz_segment (const char *dir, const uint8_t *data, size_t n, void (*each) (uint8_t *p, size_t n))
{
	uint8_t *file;
	bool mend = n && (*data & 1);

	if (n) {
		data++;
		n--;
	}
	file = fuzz_copy (data, n);
	for (size_t at = SEGMENT_HEAD; at + SEGMENT_RECORD_HEAD <= n;) {
		uint8_t *head = file + at;
		uint32_t bytes, crc;

		memcpy (&bytes, head, sizeof (bytes));
		bytes = le32toh (bytes);
		at += SEGMENT_RECORD_HEAD;
		if (bytes > n - at)
			break;
		if (mend) {
			crc = htole32 (crc_of (file + at, bytes));
			memcpy (head + 4, &crc, sizeof (crc));
		}
		if (each)
			each (file + at, bytes);
		at += bytes;
	}
	fuzz_file (dir, "0000000000000001.seg", file, n);
	free (file);
}

#endif
